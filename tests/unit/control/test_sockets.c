/* tests/unit/control/test_sockets.c - listening sockets over a change of configuration: keep, open, undo. */
#include "core/control/sockets.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static struct sockets s;
static char reasons[2048], dir[64], path[96], port[4][32];

/* Ports that are free now; another test may take one, so opening is tried with several. */
static void pick_ports(void)
{
	for (int i = 0; i < 4; i++) {
		struct sockaddr_in sa = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
		socklen_t len = sizeof(sa);
		int fd = socket(AF_INET, SOCK_STREAM, 0);

		cr_assert_eq(bind(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
		cr_assert_eq(getsockname(fd, (struct sockaddr *)&sa, &len), 0);
		snprintf(port[i], sizeof(port[i]), "127.0.0.1:%u", ntohs(sa.sin_port));
		close(fd);
	}
}

static void setup(void)
{
	strcpy(dir, "/tmp/esp-sockets-XXXXXX");
	cr_assert_not_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/control.sock", dir);
	pick_ports();
}

static void teardown(void)
{
	sockets_close(&s);
	unlink(path);
	rmdir(dir);
}

static int fd_of(const char *address)
{
	for (size_t i = 0; i < s.n; i++)
		if (strcmp(s.item[i].address, address) == 0)
			return s.item[i].fd;
	return -1;
}

#define OPEN(...) sockets_open(&s, (const char *const[]){ __VA_ARGS__ }, \
	sizeof((const char *[]){ __VA_ARGS__ }) / sizeof(char *), reasons, sizeof(reasons))

Test(sockets, an_address_keeps_its_socket_while_a_configuration_names_it, .init = setup, .fini = teardown)
{
	int fd;

	cr_assert_eq(OPEN(port[0], port[1]), ESP_OK, "%s", reasons);
	sockets_commit(&s);
	fd = fd_of(port[0]);
	cr_assert_eq(OPEN(port[0], port[2]), ESP_OK, "%s", reasons);
	cr_assert_geq(fd_of(port[1]), 0, "nothing is closed before the commit");
	sockets_commit(&s);
	cr_assert_eq(fd_of(port[0]), fd);
	cr_assert_eq(fd_of(port[1]), -1);
	cr_assert_geq(fd_of(port[2]), 0);
}

Test(sockets, an_undone_change_leaves_what_was_there, .init = setup, .fini = teardown)
{
	cr_assert_eq(OPEN(port[0], port[1]), ESP_OK, "%s", reasons);
	sockets_commit(&s);
	cr_assert_eq(OPEN(port[2]), ESP_OK, "%s", reasons);
	sockets_abort(&s);
	cr_assert_eq(s.n, 2);
	sockets_commit(&s);
	cr_assert_eq(s.n, 2, "after an undo, everything is wanted again");
	cr_assert_eq(fd_of(port[2]), -1);
}

Test(sockets, every_address_that_cannot_be_opened_is_named_and_nothing_stays_open, .init = setup, .fini = teardown)
{
	static struct sockets other;

	cr_assert_eq(OPEN(port[0], port[1]), ESP_OK, "%s", reasons);
	other = s;
	s.n = 0;
	cr_assert_eq(OPEN(port[2], port[0], port[1]), ESP_EIO);
	cr_assert_not_null(strstr(reasons, port[0]));
	cr_assert_not_null(strstr(reasons, port[1]));
	cr_assert_not_null(strstr(reasons, "another program listens there"));
	cr_assert_eq(s.n, 0);
	sockets_close(&other);
}

Test(sockets, the_control_socket_is_for_its_owner_alone_and_goes_with_the_server, .init = setup, .fini = teardown)
{
	struct stat st;

	cr_assert_eq(OPEN(path), ESP_OK, "%s", reasons);
	cr_assert_eq(stat(path, &st), 0);
	cr_assert_eq(st.st_mode & 0777, 0600);
	sockets_close(&s);
	cr_assert_neq(stat(path, &st), 0);
}

Test(sockets, a_stale_control_socket_is_replaced_but_a_served_one_is_not, .init = setup, .fini = teardown)
{
	static struct sockets other;

	cr_assert_eq(OPEN(path), ESP_OK, "%s", reasons);
	other = s;
	s.n = 0;
	cr_assert_eq(OPEN(path), ESP_EIO, "somebody listens there");
	close(other.item[0].fd);          /* as after kill -9: the file stays */
	cr_assert_eq(OPEN(path), ESP_OK, "%s", reasons);
}

/* In a child: descriptor 3 of this process belongs to the test runner. */
static int inherit_in_child(void)
{
	char pid[16];

	if (dup2(s.item[0].fd, 3) != 3)
		return 1;
	s.n = 0;
	snprintf(pid, sizeof(pid), "%d", (int)getpid());
	setenv("LISTEN_PID", pid, 1);
	setenv("LISTEN_FDS", "1", 1);
	if (sockets_inherit(&s) != 1 || getenv("LISTEN_FDS"))
		return 2;
	if (OPEN(port[0]) != ESP_OK || fd_of(port[0]) != 3)
		return 3;
	return fcntl(3, F_GETFD) & FD_CLOEXEC ? 0 : 4;
}

Test(sockets, takes_inherited_sockets_by_their_address, .init = setup, .fini = teardown)
{
	int status;
	pid_t pid;

	cr_assert_eq(OPEN(port[0]), ESP_OK, "%s", reasons);
	pid = fork();
	if (pid == 0)
		_exit(inherit_in_child());
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_assert(WIFEXITED(status));
	cr_assert_eq(WEXITSTATUS(status), 0, "step %d", WEXITSTATUS(status));
}

Test(sockets, packs_wanted_addresses_in_the_order_of_their_descriptors, .init = setup, .fini = teardown)
{
	char text[256];
	int fds[SOCKETS_MAX];
	size_t n, len;

	cr_assert_eq(OPEN(port[0], port[1]), ESP_OK, "%s", reasons);
	len = sockets_pack(&s, text, sizeof(text), fds, &n);
	cr_assert_eq(n, 2);
	cr_assert_eq(len, strlen(port[0]) + strlen(port[1]) + 2);
	cr_assert_str_eq(text, port[0]);
	cr_assert_str_eq(text + strlen(text) + 1, port[1]);
	cr_assert_eq(fds[1], fd_of(port[1]));
}

Test(sockets, a_file_that_is_no_socket_keeps_its_place, .init = setup, .fini = teardown)
{
	int fd = open(path, O_WRONLY | O_CREAT, 0600);
	struct stat st;

	cr_assert_eq(write(fd, "mail", 4), 4);
	close(fd);
	cr_assert_eq(OPEN(path), ESP_EIO);
	cr_assert_not_null(strstr(reasons, "no socket"), "%s", reasons);
	cr_assert_eq(stat(path, &st), 0);
	cr_assert_eq(st.st_size, 4);
}

/* A server too busy to accept: who asked whether it lives used to wait for it. */
Test(sockets, a_control_socket_whose_queue_is_full_is_served, .init = setup, .fini = teardown, .timeout = 20)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	int busy = socket(AF_UNIX, SOCK_STREAM, 0), caller[4];

	strcpy(un.sun_path, path);
	cr_assert_eq(bind(busy, (struct sockaddr *)&un, sizeof(un)), 0);
	cr_assert_eq(listen(busy, 0), 0);
	for (int i = 0; i < 4; i++) {
		caller[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
		(void)!connect(caller[i], (struct sockaddr *)&un, sizeof(un));
	}
	cr_assert_eq(OPEN(path), ESP_EIO);
	cr_assert_not_null(strstr(reasons, "another program listens there"), "%s", reasons);
	for (int i = 0; i < 4; i++)
		close(caller[i]);
	close(busy);
}
