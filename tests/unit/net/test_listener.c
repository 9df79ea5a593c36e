/* tests/unit/net/test_listener.c - the table of listeners, limits at the door, overload, PROXY headers. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "double.h"
#include "tests/support/ports.h"

/* --- the table ---------------------------------------------------------------------------------------------- */

static int dial_greeted(void)
{
	int fd = dial();

	expect_line(fd, "220 hi");
	return fd;
}

static char address[3][32];

static void change_table(void *arg)
{
	struct listen_spec a[2] = { { .name = "one", .role = "test", .address = address[0], .fd = -1 },
		{ .name = "two", .role = "test", .address = address[1], .fd = -1 } };
	struct listen_spec b[2] = {
		{ .name = "uno", .role = "test", .address = address[0], .fd = -1, .trust_loopback = true },
		{ .name = "three", .role = "test", .address = address[2], .fd = -1 }
	};
	esp_err err = ESP_ERR_INIT;
	int one, uno, two, given;
	uint16_t port;

	(void)arg;
	cr_assert_eq(net_listen(the_net, a, 2, &err), ESP_OK, "%s", err.text);
	cr_assert_eq(net_listener_fd(the_net, "one", &one, &port), ESP_OK);
	cr_assert_eq(net_listener_fd(the_net, "two", &two, &port), ESP_OK);
	cr_assert_eq(net_listen(the_net, b, 2, &err), ESP_OK, "%s", err.text);
	cr_assert_eq(net_listener_fd(the_net, "uno", &uno, &port), ESP_OK);
	cr_assert_eq(uno, one, "the address is the same, the descriptor is not");
	cr_assert_eq(net_listener_fd(the_net, "two", &two, &port), ESP_ENOENT);
	/* a descriptor given for an address that is open already is not needed */
	given = fcntl(one, F_DUPFD_CLOEXEC, 0);
	b[0].fd = given;
	cr_assert_eq(net_listen(the_net, b, 2, &err), ESP_OK, "%s", err.text);
	cr_assert_eq(net_listener_fd(the_net, "uno", &uno, &port), ESP_OK);
	cr_assert_eq(uno, one);
	cr_assert_eq(fcntl(given, F_GETFD), -1);
	/* for a new one it is taken as it is */
	cr_assert_eq(net_listen(the_net, b, 1, &err), ESP_OK);
	given = socket(AF_INET, SOCK_STREAM, 0);
	cr_assert_eq(listen(given, 5), 0);
	b[1].fd = given;
	cr_assert_eq(net_listen(the_net, b, 2, &err), ESP_OK);
	cr_assert_eq(net_listener_fd(the_net, "three", &two, &port), ESP_OK);
	cr_assert_eq(two, given);
}

static void table(void *arg)
{
	(void)arg;
	for (int i = 0; i < 3; i++)
		snprintf(address[i], sizeof(address[i]), "127.0.0.1:%u", free_port());
	on_control(change_table, NULL);
	the_port = (uint16_t)atoi(strchr(address[0], ':') + 1);
	int fd = dial();
	expect_line(fd, "220 hi");
	say(fd, "WHO\r\n");
	char line[64];
	hear_line(fd, line, sizeof(line));
	cr_assert_str_eq(strrchr(line, ' '), " 1", "the new settings are in force: %s", line);
	close(fd);
}

Test(listener, keeps_its_fd_when_the_address_is_unchanged, .timeout = 60)
{
	run_net(&(struct double_opts){ 0 }, table, NULL);
}

static void refuse_tables(void *arg)
{
	struct listen_spec twice[2] = { { .name = "one", .role = "test", .address = address[0], .fd = -1 },
		{ .name = "two", .role = "test", .address = address[0], .fd = -1 } };
	struct listen_spec bad = { .name = "bad", .role = "test", .address = "127.0.0.1", .fd = -1 };
	struct listen_spec used = { .name = "used", .role = "test", .address = address[1], .fd = -1 };
	struct listen_plan *plan;
	esp_err err = ESP_ERR_INIT;
	uint16_t port;
	int fd;

	(void)arg;
	cr_assert_eq(net_listen(the_net, twice, 2, &err), ESP_EEXIST);
	cr_assert_not_null(strstr(err.text, "the same address"));
	cr_assert_eq(net_listen(the_net, &bad, 1, &err), ESP_ECONFIG);
	cr_assert_not_null(strstr(err.text, "ADDRESS:PORT"));
	cr_assert_eq(net_listen(the_net, &used, 1, &err), ESP_EEXIST);
	cr_assert_not_null(strstr(err.text, "in use"), "%s", err.text);
	/* prepared and given up: nothing changed, the address is free again */
	cr_assert_eq(net_listen_prepare(the_net, twice, 1, &plan, &err), ESP_OK);
	net_listen_abort(the_net, plan);
	cr_assert_eq(net_listen_prepare(the_net, twice, 1, &plan, &err), ESP_OK, "%s", err.text);
	net_listen_abort(the_net, plan);
	cr_assert_eq(net_listener_fd(the_net, "test", &fd, &port), ESP_OK);
}

static void refused(void *arg)
{
	(void)arg;
	snprintf(address[0], sizeof(address[0]), "127.0.0.1:%u", free_port());
	snprintf(address[1], sizeof(address[1]), "127.0.0.1:%u", the_port);
	/* the port of another process: the table in force has it under port 0 */
	on_control(refuse_tables, NULL);
	int fd = dial();
	expect_line(fd, "220 hi");
	close(fd);
}

Test(listener, leaves_the_table_alone_when_a_new_one_is_wrong, .timeout = 60)
{
	run_net(&(struct double_opts){ 0 }, refused, NULL);
}

static void remove_all(void *arg)
{
	esp_err err = ESP_ERR_INIT;

	(void)arg;
	cr_assert_eq(net_listen(the_net, NULL, 0, &err), ESP_OK);
}

static void removed(void *arg)
{
	struct sockaddr_in sa = { .sin_family = AF_INET, .sin_port = htons(the_port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = dial(), again;

	(void)arg;
	expect_line(fd, "220 hi");
	on_control(remove_all, NULL);
	say(fd, "still\r\n");
	expect_line(fd, "echo still");
	again = socket(AF_INET, SOCK_STREAM, 0);
	cr_assert_eq(connect(again, (struct sockaddr *)&sa, sizeof(sa)), -1);
	cr_assert_eq(errno, ECONNREFUSED);
	close(again);
	close(fd);
}

Test(listener, keeps_connections_of_a_removed_listener, .timeout = 60)
{
	run_net(&(struct double_opts){ 0 }, removed, NULL);
}

/* --- the door --------------------------------------------------------------------------------------------------- */

static void at_the_limit(void *arg)
{
	struct net_stats st;
	int fd[4];

	(void)arg;
	for (int i = 0; i < 3; i++)
		fd[i] = dial_greeted();
	fd[3] = dial();
	expect_end(fd[3]);
	close(fd[3]);
	net_stats(the_net, &st);
	cr_assert(st.refused_limit == 1 && st.accepted == 3);
	say(fd[0], "QUIT\r\n");
	expect_line(fd[0], "221 bye");
	expect_end(fd[0]);
	close(fd[0]);
	wait_count(2);
	fd[0] = dial_greeted();
	for (int i = 0; i < 3; i++)
		close(fd[i]);
}

Test(listener, limits_connections_of_one_host, .timeout = 60)
{
	run_net(&(struct double_opts){ .workers = 2, .net.limits.per_host = 3 }, at_the_limit, NULL);
}

static void logged_out(void *arg)
{
	struct net_stats st;
	int fd[3];

	(void)arg;
	for (int i = 0; i < 2; i++) {
		fd[i] = dial_greeted();
		say(fd[i], "USER\r\n");
		expect_line(fd[i], "user");
	}
	net_stats(the_net, &st);
	cr_assert_eq(st.role[0].authenticated, 2);
	say(fd[1], "NOBODY\r\nNOBODY\r\n");
	expect_line(fd[1], "user");
	expect_line(fd[1], "user");
	net_stats(the_net, &st);
	cr_assert_eq(st.role[0].authenticated, 1);
	fd[2] = dial();         /* a stranger again, so it is the one to go */
	expect_line(fd[1], "421 busy");
	expect_line(fd[2], "220 hi");
	for (int i = 0; i < 3; i++)
		close(fd[i]);
}

Test(listener, counts_who_logs_out_as_a_stranger_again, .timeout = 60)
{
	run_net(&(struct double_opts){ .workers = 1, .trust = true, .net.limits.sessions = 2 }, logged_out, NULL);
}

static void full(void *arg)
{
	struct net_stats st;
	int fd[5];

	(void)arg;
	for (int i = 0; i < 3; i++)
		fd[i] = dial_greeted();
	say(fd[0], "USER\r\n");
	expect_line(fd[0], "user");
	/* the oldest that has not logged in goes; who has stays */
	fd[3] = dial();
	expect_line(fd[1], "421 busy");
	expect_end(fd[1]);
	expect_line(fd[3], "220 hi");
	close(fd[1]);
	wait_count(3);
	fd[4] = dial();
	expect_line(fd[2], "421 busy");
	expect_line(fd[4], "220 hi");
	close(fd[2]);
	say(fd[0], "x\r\n");
	expect_line(fd[0], "echo x");
	net_stats(the_net, &st);
	cr_assert_eq(st.overloaded, 2);
	cr_assert_eq(st.role[0].authenticated, 1);
	close(fd[0]);
	close(fd[3]);
	close(fd[4]);
}

Test(listener, closes_the_oldest_unauthenticated_session_when_full, .timeout = 60)
{
	run_net(&(struct double_opts){ .workers = 2, .trust = true, .net.limits.sessions = 3 }, full, NULL);
}

/* Somebody comes, as often as it takes until there is room. */
static int dial_until_greeted(void)
{
	char line[64];

	for (int tries = 0; tries < 500; tries++) {
		int fd = dial();

		hear_line(fd, line, sizeof(line));
		if (strcmp(line, "220 hi") == 0)
			return fd;
		close(fd);
		usleep(10000);
	}
	cr_assert_fail("nobody makes room");
	return -1;
}

/* Sessions in the middle of something: their fibers wait for bytes, or for a peer that does not read. */
static void busy_waiting(void *arg)
{
	const char *command = arg;
	int fd[60];

	for (int i = 0; i < 60; i++) {
		fd[i] = dial_until_greeted();
		say(fd[i], command);
	}
	for (int i = 0; i < 60; i++)
		close(fd[i]);
}

Test(listener, makes_room_also_by_sessions_that_wait_for_their_peer, .timeout = 60)
{
	struct double_opts o = { .workers = 2, .trust = true, .net.limits.sessions = 3 };

	run_net(&o, busy_waiting, (char[]){ "TAKE 500\r\n" });
	run_net(&o, busy_waiting, (char[]){ "BIG 50000000\r\n" });
}

static void talking_and_silent(void *arg)
{
	int talking[3], crowd[20];

	(void)arg;
	for (int i = 0; i < 3; i++) {
		talking[i] = dial_greeted();
		say(talking[i], "a\r\n");
		expect_line(talking[i], "echo a");
	}
	for (int i = 0; i < 20; i++)
		crowd[i] = dial_until_greeted();
	for (int i = 0; i < 3; i++) {
		say(talking[i], "b\r\n");
		expect_line(talking[i], "echo b");
		close(talking[i]);
	}
	for (int i = 0; i < 20; i++)
		close(crowd[i]);
}

Test(listener, sends_away_whoever_said_nothing_before_those_who_talk, .timeout = 60)
{
	run_net(&(struct double_opts){ .workers = 2, .trust = true, .net.limits.sessions = 8 }, talking_and_silent, NULL);
}

static void one_behind_a_crowd(void *arg)
{
	int crowd[40], last;

	(void)arg;
	for (int round = 0; round < 10; round++) {
		for (int i = 0; i < 40; i++)
			crowd[i] = dial();
		last = dial_greeted();
		close(last);
		for (int i = 0; i < 40; i++)
			close(crowd[i]);
	}
}

Test(listener, lets_a_newcomer_wait_until_those_asked_out_are_gone, .timeout = 60)
{
	run_net(&(struct double_opts){ .workers = 2, .trust = true, .net.limits.sessions = 3 }, one_behind_a_crowd, NULL);
}

static void nearly_full(void *arg)
{
	struct net_stats st;
	int user = dial(), fd[7];

	(void)arg;
	expect_line(user, "220 hi");
	say(user, "USER\r\n");
	expect_line(user, "user");
	for (int i = 0; i < 6; i++)
		fd[i] = dial_greeted();
	net_stats(the_net, &st);
	cr_assert_eq(st.stressed, 0, "seven of ten");
	say(fd[0], "a\r\n");
	expect_line(fd[0], "echo a");
	say(fd[1], "TAKE 500\r\n");
	fd[6] = dial_greeted();
	for (int i = 0; i < 7; i++) {
		if (i != 1)             /* a session that waits inside a command notices when it next waits */
			expect_line(fd[i], "421 idle");
		close(fd[i]);
	}
	wait_count(1);
	for (int tries = 0; tries < 500 && (net_stats(the_net, &st), st.stressed); tries++)
		usleep(10000);
	cr_assert_eq(st.stressed, 0);
	say(user, "b\r\n");
	expect_line(user, "echo b");
	close(user);
}

Test(listener, gives_strangers_less_time_while_it_is_nearly_full, .timeout = 60)
{
	struct double_opts o = { .workers = 2, .trust = true, .net.limits.sessions = 10, .net.hurry = 300 * ESP_MSEC };

	run_net(&o, nearly_full, NULL);
}

static void all_users(void *arg)
{
	int fd[3];

	(void)arg;
	for (int i = 0; i < 2; i++) {
		fd[i] = dial_greeted();
		say(fd[i], "USER\r\n");
		expect_line(fd[i], "user");
	}
	fd[2] = dial();
	expect_end(fd[2]);
	for (int i = 0; i < 3; i++)
		close(fd[i]);
}

Test(listener, refuses_the_newest_when_everybody_is_logged_in, .timeout = 60)
{
	run_net(&(struct double_opts){ .trust = true, .net.limits.sessions = 2 }, all_users, NULL);
}

static struct rlimit few;

static void no_descriptors(void *arg)
{
	struct net_stats st;
	int fd = dial(), more[200], n = 0;
	char got[64];

	(void)arg;
	expect_line(fd, "220 hi");
	/* clients need descriptors as well: open them first, then let the server run out */
	for (n = 0; n < 5; n++)
		more[n] = socket(AF_INET, SOCK_STREAM, 0);
	struct rlimit none = { .rlim_cur = (rlim_t)more[4] + 1, .rlim_max = few.rlim_max };
	cr_assert_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
	struct sockaddr_in sa = { .sin_family = AF_INET, .sin_port = htons(the_port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	for (int i = 0; i < 5; i++)
		cr_assert_eq(connect(more[i], (struct sockaddr *)&sa, sizeof(sa)), 0);
	/* each is taken off the queue and hung up on; nobody is left waiting and the loop does not spin */
	for (int i = 0; i < 5; i++)
		cr_assert_leq(recv(more[i], got, 1, 0), 0);
	say(fd, "alive\r\n");
	expect_line(fd, "echo alive");
	cr_assert_eq(setrlimit(RLIMIT_NOFILE, &few), 0);
	net_stats(the_net, &st);
	cr_assert_geq(st.refused_error, 5);
	for (int i = 0; i < 5; i++)
		close(more[i]);
	int late = dial();
	expect_line(late, "220 hi");
	close(late);
	close(fd);
}

Test(listener, hangs_up_when_descriptors_run_out_and_recovers, .timeout = 60)
{
	getrlimit(RLIMIT_NOFILE, &few);
	run_net(&(struct double_opts){ .trust = true }, no_descriptors, NULL);
}

/* --- PROXY ------------------------------------------------------------------------------------------------------ */

static void proxied(void *arg)
{
	static const char header[] = "PROXY TCP4 192.0.2.7 198.51.100.1 4711 25\r\n";
	static const char *const bad[] = { "EHLO x\r\n", "PROXY TCP4 x\r\n", "\r\n\r\n" };
	int fd = dial();

	(void)arg;
	say(fd, "PROXY TCP4 192.0.2.7 198.51.100.1 4711 25\r\nWHO\r\n");
	expect_line(fd, "220 hi");
	expect_line(fd, "who 192.0.2.7 4711 0");
	close(fd);
	fd = dial();
	for (size_t i = 0; i < sizeof(header) - 1; i++) {
		say_bytes(fd, header + i, 1);
		usleep(300);
	}
	expect_line(fd, "220 hi");
	/* the limit is the real peer's: two at once are allowed */
	int second = dial(), third = dial();
	say(second, header);
	expect_line(second, "220 hi");
	say(third, header);
	expect_end(third);
	close(third);
	close(second);
	close(fd);
	for (int i = 0; i < 3; i++) {
		char got[64];

		fd = dial();
		say(fd, bad[i]);
		if (i == 2)
			shutdown(fd, SHUT_WR);
		cr_assert_leq(recv(fd, got, sizeof(got), 0), 0);
		close(fd);
	}
	fd = dial();                            /* says nothing: the deadline */
	expect_end(fd);
	close(fd);
	wait_count(0);
	cr_assert_eq(seen.opened, 3);
}

/* A byte now and then: the deadline counts from the start, not from the last byte. */
static void proxied_slowly(void *arg)
{
	int fd = dial(), i = 0;
	char got[8];

	(void)arg;
	say(fd, "PROXY UNKNOWN ");
	while (recv(fd, got, sizeof(got), MSG_DONTWAIT) < 0 && errno == EAGAIN && i++ < 80) {
		(void)!send(fd, "x", 1, MSG_NOSIGNAL);
		usleep(100000);
	}
	cr_assert_lt(i, 80, "a header of 107 bytes may take all day");
	close(fd);
	wait_count(0);
	cr_assert_eq(seen.opened, 0);
}

/* The listener trusts its own host, and that is where the balancer is. */
static void proxied_for_nobody(void *arg)
{
	static const char *const nobody[] = { "PROXY UNKNOWN\r\nWHO\r\n",
		"PROXY TCP4 127.0.0.1 127.0.0.1 7 25\r\nWHO\r\n" };

	(void)arg;
	for (int i = 0; i < 2; i++) {
		int fd = dial();
		char line[64];

		say(fd, nobody[i]);
		expect_line(fd, "220 hi");
		hear_line(fd, line, sizeof(line));
		cr_assert_eq(strncmp(line, "who 127.0.0.1 ", 14), 0, "%s", line);
		cr_assert_eq(line[strlen(line) - 1], '0', "trusted: %s", line);
		close(fd);
	}
	wait_count(0);
}

Test(listener, takes_the_peer_from_a_proxy_header, .timeout = 60)
{
	run_net(&(struct double_opts){ .proxy = "127.0.0.0/8", .net.limits.per_host = 2, .net.handshake = 500 * ESP_MSEC },
	        proxied, NULL);
}

Test(listener, a_slow_proxy_header_meets_the_deadline, .timeout = 60)
{
	run_net(&(struct double_opts){ .proxy = "127.0.0.0/8", .net.handshake = 500 * ESP_MSEC }, proxied_slowly, NULL);
}

Test(listener, trusts_nobody_because_of_a_proxy_header, .timeout = 60)
{
	run_net(&(struct double_opts){ .proxy = "127.0.0.0/8", .trust = true }, proxied_for_nobody, NULL);
}
