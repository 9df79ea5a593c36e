/* tests/unit/net/test_conn.c - connections: parked, woken, read, written, closed. */
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/base/sanitize.h"
#include "double.h"

static const char script[] =
	"hello\r\nTAKE "
	"5\r\nabcde\r\nsecond\nbare\r\nnul\rcr\r\nlonglonglonglonglonglonglonglonglonglong\r\nCOUNT\r\nQUIT\r\n";
static const char answers[] =
	"220 hi\r\necho hello\r\ntook 5 495\r\necho \r\n501 bad 6\r\necho bare\r\n501 bad 6\r\n500 too long\r\n"
	"count 5 generation 0\r\n221 bye\r\n";

static void greet_and_echo(void *arg)
{
	int fd = dial();

	(void)arg;
	expect_line(fd, "220 hi");
	say(fd, "hello\r\n");
	expect_line(fd, "echo hello");
	say(fd, "WHO\r\n");
	char line[100];
	hear_line(fd, line, sizeof(line));
	cr_assert_eq(strncmp(line, "who 127.0.0.1 ", 14), 0, "%s", line);
	say(fd, "QUIT\r\n");
	expect_line(fd, "221 bye");
	expect_end(fd);
	close(fd);
	wait_count(0);
	cr_assert_eq(seen.closed, 1);
}

Test(conn, greets_echoes_and_says_goodbye, .timeout = 60)
{
	run_net(&(struct double_opts){ 0 }, greet_and_echo, NULL);
}

static void every_split(void *arg)
{
	size_t n = sizeof(script) - 1;
	char got[1000];

	(void)arg;
	for (size_t cut = 0; cut <= n; cut++) {
		int fd = dial();

		say_bytes(fd, script, cut);
		if (cut % 3 == 0)
			usleep(2000);
		say_bytes(fd, script + cut, n - cut);
		hear_all(fd, got, sizeof(got));
		cr_assert_str_eq(got, answers, "cut at %zu: %s", cut, got);
		close(fd);
	}
	int fd = dial();
	for (size_t i = 0; i < n; i++) {
		say_bytes(fd, script + i, 1);
		usleep(500);
	}
	hear_all(fd, got, sizeof(got));
	cr_assert_str_eq(got, answers, "byte by byte: %s", got);
	close(fd);
}

Test(conn, answers_the_same_in_every_packet_split, .timeout = 120)
{
	run_net(&(struct double_opts){ .max_line = 32, .trust = true }, every_split, NULL);
}

static void cut_at_every_byte(void *arg)
{
	size_t n = sizeof(script) - 1;

	(void)arg;
	for (size_t cut = 0; cut < n; cut++) {
		int fd = dial();

		say_bytes(fd, script, cut);
		if (cut % 2)
			shutdown(fd, SHUT_WR);
		else
			close(fd);
		if (cut % 2) {
			char got[1000];

			hear_all(fd, got, sizeof(got));
			close(fd);
		}
	}
	wait_for(&seen.opened, (int)n);
	wait_count(0);
	cr_assert_eq(seen.closed, seen.opened);
}

Test(conn, leaks_nothing_when_cut_at_every_byte, .timeout = 120)
{
	run_net(&(struct double_opts){ .max_line = 32, .trust = true }, cut_at_every_byte, NULL);
}

static void many_lines(void *arg)
{
	char *all = malloc(3000 * 8), line[32];
	int fd = dial(), other;
	size_t n = 0;

	(void)arg;
	for (int i = 0; i < 3000; i++)
		n += (size_t)snprintf(all + n, 8, "%04d\r\n", i);
	say_bytes(fd, all, n);
	other = dial();
	expect_line(other, "220 hi");
	expect_line(fd, "220 hi");
	for (int i = 0; i < 3000; i++) {
		snprintf(line, sizeof(line), "echo %04d", i);
		expect_line(fd, line);
	}
	free(all);
	close(fd);
	close(other);
	/* 64 lines a turn: the session was called again and again, not once */
	cr_assert_geq(seen.sessions, 3000 / 64);
}

Test(conn, gives_way_after_64_lines, .timeout = 60)
{
	run_net(&(struct double_opts){ .trust = true }, many_lines, NULL);
}

/* Ten at most sleep at once, so the last of forty has waited for three others. */
static void more_than_fibers(void *arg)
{
	esp_nsec began;
	int fd[40];

	(void)arg;
	for (unsigned i = 0; i < 40; i++) {
		fd[i] = dial();
		expect_line(fd[i], "220 hi");
	}
	fiber_set_cap(10);
	began = clock_monotonic();
	for (unsigned i = 0; i < 40; i++)
		say(fd[i], "SLEEP 100\r\n");
	for (unsigned i = 0; i < 40; i++)
		expect_line(fd[i], "slept");
	cr_expect_geq(clock_monotonic() - began, 400 * ESP_MSEC);
	fiber_set_cap(24000);
	for (unsigned i = 0; i < 40; i++)
		close(fd[i]);
	wait_count(0);
}

Test(conn, sessions_queue_while_no_fiber_is_left, .timeout = 60)
{
	run_net(&(struct double_opts){ .trust = true }, more_than_fibers, NULL);
}

static void overlong(void *arg)
{
	char *junk = malloc(1000000);
	int fd = dial();

	(void)arg;
	memset(junk, 'a', 1000000);
	expect_line(fd, "220 hi");
	say_bytes(fd, junk, 150);
	say(fd, "\r\nnext\r\n");
	expect_line(fd, "500 too long");
	expect_line(fd, "echo next");
	/* no end in sight: one answer, then the connection is closed */
	say_bytes(fd, junk, 100000);
	expect_line(fd, "500 too long");
	expect_end(fd);
	close(fd);
	free(junk);
	wait_count(0);
}

Test(conn, closes_after_a_line_without_end, .timeout = 60)
{
	run_net(&(struct double_opts){ .max_line = 100, .trust = true }, overlong, NULL);
}

static void slow_reader(void *arg)
{
	int fd = dial(), other;
	char buf[2048];

	(void)arg;
	expect_line(fd, "220 hi");
	say(fd, "IDLE 300\r\nBIG 30000000\r\n");
	expect_line(fd, "idle");
	/* the other session is served while this one's output waits */
	other = dial();
	expect_line(other, "220 hi");
	say(other, "x\r\n");
	expect_line(other, "echo x");
	/* nobody reads: closed after the deadline, long before all was written */
	wait_count(1);
	size_t n = 0;
	ssize_t got;
	while ((got = recv(fd, buf, sizeof(buf), 0)) > 0)
		n += (size_t)got;
	cr_assert_lt(n, 30000000);
	close(fd);
	close(other);
}

Test(conn, closes_a_peer_that_does_not_read, .timeout = 60)
{
	run_net(&(struct double_opts){ .trust = true }, slow_reader, NULL);
}

static int deaf(long bytes)
{
	int fd = dial(), small = 4096;
	char line[64];

	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
	snprintf(line, sizeof(line), "BIG %ld\r\nQUIT\r\n", bytes);
	say(fd, line);
	return fd;
}

/* Peers that never read, each with 30 KB more in its pipe than the one before: some get stuck just at the goodbye. */
static void deaf_at_goodbye(void *arg)
{
	enum { N = 40, STEP = 30000 };
	struct net_stats st;
	int fd[N], first = deaf(50000000);
	long room;

	(void)arg;
	wait_for(&seen.opened, 1);
	wait_count(0);
	net_stats(the_net, &st);
	room = (long)st.bytes_out;
	for (int i = 0; i < N; i++)
		fd[i] = deaf(room + (i - N / 2) * STEP);
	wait_for(&seen.opened, N + 1);
	wait_count(0);
	for (int i = 0; i < N; i++)
		close(fd[i]);
	close(first);
}

Test(conn, waits_for_a_deaf_peer_only_so_long_at_its_end, .timeout = 60)
{
	run_net(&(struct double_opts){ .trust = true, .idle = 600 * ESP_MSEC, .net.goodbye = 200 * ESP_MSEC },
		deaf_at_goodbye, NULL);
}

static void big_output(void *arg)
{
	char *buf = malloc(5000000);
	int fd = dial();

	(void)arg;
	expect_line(fd, "220 hi");
	say(fd, "BIG 5000000\r\n");
	cr_assert_eq(hear(fd, buf, 5000000), 5000000);
	for (size_t i = 0; i < 5000000; i++)
		cr_assert_eq(buf[i], 'x');
	say(fd, "after\r\n");
	expect_line(fd, "echo after");
	free(buf);
	close(fd);
}

Test(conn, holds_the_writer_back_and_loses_nothing, .timeout = 60)
{
	run_net(&(struct double_opts){ .trust = true }, big_output, NULL);
}

static void send_file(void *arg)
{
	enum { SIZE = 700001 };
	char path[] = "/tmp/esp-net-file-XXXXXX", command[100], *data = malloc(SIZE), *got = malloc(SIZE);
	int file = mkstemp(path), fd = dial();

	(void)arg;
	for (int i = 0; i < SIZE; i++)
		data[i] = (char)(i * 7 + i / 256);
	cr_assert_eq(write(file, data, SIZE), SIZE);
	unlink(path);
	expect_line(fd, "220 hi");
	snprintf(command, sizeof(command), "FILE %d %d\r\nafter\r\n", file, SIZE);
	say(fd, command);
	cr_assert_eq(hear(fd, got, SIZE), SIZE);
	cr_assert_eq(memcmp(data, got, SIZE), 0);
	expect_line(fd, "echo after");
	/* shorter than promised: the peer must not take what follows for the file's bytes */
	snprintf(command, sizeof(command), "FILE %d %d\r\nafter\r\n", file, SIZE + 1);
	say(fd, command);
	cr_assert_eq(hear(fd, got, SIZE), SIZE);
	expect_end(fd);
	close(fd);
	close(file);
	free(data);
	free(got);
}

Test(conn, sends_files_whole_or_closes, .timeout = 60)
{
	run_net(&(struct double_opts){ .trust = true }, send_file, NULL);
}

static void idle(void *arg)
{
	int fd = dial(), busy = dial();

	(void)arg;
	expect_line(fd, "220 hi");
	expect_line(busy, "220 hi");
	say(fd, "IDLE 50\r\n");
	expect_line(fd, "idle");
	expect_line(fd, "421 idle");
	expect_end(fd);
	cr_assert_eq(seen.timeouts, 1);
	/* a read inside session() gives up as well */
	say(busy, "IDLE 50\r\nTAKE 10\r\nabc");
	expect_line(busy, "idle");
	expect_end(busy);
	close(fd);
	close(busy);
}

Test(conn, ends_silence, .timeout = 60)
{
	run_net(&(struct double_opts){ .trust = true }, idle, NULL);
}

static void trickle(void *arg)
{
	int fd = dial();

	(void)arg;
	expect_line(fd, "220 hi");
	for (int i = 0; i < 100; i++) {         /* a byte now and then is silence all the same: no line came */
		if (send(fd, "x", 1, MSG_NOSIGNAL) < 0)
			break;
		usleep(10000);
	}
	expect_line(fd, "421 idle");
	close(fd);
}

Test(conn, takes_a_trickle_for_silence, .timeout = 60)
{
	run_net(&(struct double_opts){ .trust = true, .idle = 300 * ESP_MSEC }, trickle, NULL);
}

static void serialised(void *arg)
{
	int fd = dial();

	(void)arg;
	expect_line(fd, "220 hi");
	say(fd, "SUB a\r\n");
	expect_line(fd, "sub 0");
	say(fd, "SLEEP 100\r\n");
	usleep(30000);
	for (int i = 0; i < 50; i++) {
		topic_api.publish(topic_of('a'));
		say(fd, "x\r\n");
	}
	expect_line(fd, "slept");
	/* the publications became one reason of the next call, beside the lines */
	expect_line(fd, "* topic");
	for (int i = 0; i < 50; i++)
		expect_line(fd, "echo x");
	cr_assert_eq(seen.topics, 1);
	/* which one it was is told once */
	say(fd, "SUB b\r\nFIRED a\r\nFIRED a\r\nFIRED b\r\nFIRED c\r\n");
	expect_line(fd, "sub 0");
	expect_line(fd, "fired 1");
	for (int i = 0; i < 3; i++)
		expect_line(fd, "fired 0");
	close(fd);
}

Test(conn, calls_session_never_twice_at_once, .timeout = 60)
{
	run_net(&(struct double_opts){ .trust = true }, serialised, NULL);
}

static void half_closed(void *arg)
{
	char got[300];
	int fd = dial();

	(void)arg;
	say(fd, "one\r\ntwo\r\nthr");
	shutdown(fd, SHUT_WR);
	hear_all(fd, got, sizeof(got));
	cr_assert_str_eq(got, "220 hi\r\necho one\r\necho two\r\n");
	close(fd);
}

Test(conn, answers_what_came_before_the_end_and_drops_half_a_line, .timeout = 60)
{
	run_net(&(struct double_opts){ .trust = true }, half_closed, NULL);
}

static void nobody(void *arg)
{
	int fd = dial();

	(void)arg;
	expect_end(fd);
	close(fd);
	wait_count(0);
	cr_assert_eq(seen.opened, 0);
	cr_assert_eq(seen.closed, 0);
}

Test(conn, closes_when_nobody_serves_the_role, .timeout = 60)
{
	run_net(&(struct double_opts){ .role = "nobody" }, nobody, NULL);
}

static void drained(void *arg)
{
	int a = dial(), b = dial();

	(void)arg;
	expect_line(a, "220 hi");
	expect_line(b, "220 hi");
	close(b);
	*(int *)arg = a;
}

Test(conn, is_told_when_the_server_stops, .timeout = 60)
{
	char got[100];
	int fd = -1;

	run_net(&(struct double_opts){ .trust = true }, drained, &fd);
	hear_all(fd, got, sizeof(got));
	cr_assert_str_eq(got, "421 drain\r\n");
	close(fd);
}

static void by_id(void *arg)
{
	unsigned long long id;
	char line[100];
	int fd = dial();

	(void)arg;
	expect_line(fd, "220 hi");
	say(fd, "ID\r\n");
	hear_line(fd, line, sizeof(line));
	cr_assert_eq(sscanf(line, "id %llu", &id), 1);
	conn_api.wake(id);
	expect_line(fd, "* topic");
	conn_api.wake(id + ((uint64_t)1 << 28));        /* another life of the same place */
	conn_api.wake(UINT64_MAX);
	conn_api.wake(0);
	say(fd, "QUIT\r\n");
	expect_line(fd, "221 bye");
	expect_end(fd);
	conn_api.wake(id);
	close(fd);
	wait_count(0);
	cr_assert_eq(seen.topics, 1);
}

Test(conn, is_woken_by_its_id_alone, .timeout = 60)
{
	run_net(&(struct double_opts){ .trust = true }, by_id, NULL);
}

/* --- many at once ------------------------------------------------------------------------------------------ */

static void *one_client(void *arg)
{
	char line[64];
	int fd = dial();

	expect_line(fd, "220 hi");
	say(fd, "SUB a\r\n");
	expect_line(fd, "sub 0");
	for (int i = 0; i < 20; i++) {
		say(fd, i % 5 ? "SLEEP 1\r\n" : "hello\r\n");
		do {
			hear_line(fd, line, sizeof(line));
		} while (strcmp(line, "* topic") == 0);
		cr_assert_str_eq(line, i % 5 ? "slept" : "echo hello");
		if ((intptr_t)arg % 10 == 0)
			topic_api.publish(topic_of('a'));
	}
	if ((intptr_t)arg % 2)
		say(fd, "QUIT\r\n");
	close(fd);
	return NULL;
}

static void crowd(void *arg)
{
	pthread_t t[200];

	(void)arg;
	for (intptr_t i = 0; i < 200; i++)
		cr_assert_eq(pthread_create(&t[i], NULL, one_client, (void *)i), 0);
	for (int i = 0; i < 200; i++)
		pthread_join(t[i], NULL);
	wait_count(0);
	cr_assert_eq(seen.opened, 200);
	cr_assert_eq(seen.closed, 200);
}

Test(conn, serves_200_on_two_workers, .timeout = 240)
{
	run_net(&(struct double_opts){ .workers = 2, .trust = true }, crowd, NULL);
}

#if !SANITIZE_ADDRESS && !SANITIZE_THREAD       /* their heaps are larger */
/* --- what waiting costs -------------------------------------------------------------------------------------- */

static int greeted(void)
{
	int fd = dial();

	expect_line(fd, "220 hi");
	return fd;
}

static size_t heap_each(const struct mallinfo2 *before, int n)
{
	struct mallinfo2 after = mallinfo2();

	return after.uordblks > before->uordblks ? (after.uordblks - before->uordblks) / (size_t)n : 0;
}

static void costs(void *arg)
{
	enum { N = 2000, BIG = 20000 };
	int *fd = malloc(N * sizeof(*fd));
	char *big = malloc(BIG);
	struct mallinfo2 before;
	size_t each;

	(void)arg;
	fd[0] = greeted();
	before = mallinfo2();
	for (int i = 1; i < N; i++)
		fd[i] = greeted();
	each = heap_each(&before, N);
	printf("an idle plaintext connection costs %zu bytes\n", each);
	cr_assert_lt(each, 1024, "an idle connection costs %zu bytes", each);
	cr_assert_gt(each, 300, "%zu bytes a connection cannot be right", each);
	/* work leaves nothing behind but two bytes of a line */
	before = mallinfo2();
	for (int i = 0; i < N; i++) {
		say(fd[i], "BIG 20000\r\nab");
		cr_assert_eq(hear(fd[i], big, BIG), BIG);
	}
	each = heap_each(&before, N);
	cr_assert_lt(each, 200, "after work and with two bytes of a line it costs %zu bytes more", each);
	for (int i = 0; i < N; i++)
		close(fd[i]);
	free(fd);
	free(big);
}

Test(conn, costs_less_than_a_kibibyte_while_parked, .timeout = 120)
{
	struct rlimit many = { 6000, 6000 };    /* two for each, and those that connections may not take */

	setrlimit(RLIMIT_NOFILE, &many);
	run_net(&(struct double_opts){ .trust = true }, costs, NULL);
}
#endif
