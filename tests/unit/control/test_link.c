/* tests/unit/control/test_link.c - messages with descriptors; garbage is refused and leaks none. */
#include "core/control/link.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int ends[2];
static struct link_msg msg;

static void setup(void) { cr_assert_eq(link_pair(ends), ESP_OK); }
static void teardown(void)
{
	close(ends[0]);
	close(ends[1]);
}

static int open_descriptors(void)
{
	int n = 0;

	for (int fd = 0; fd < 256; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

Test(link, carries_text_and_descriptors, .init = setup, .fini = teardown)
{
	int pipe_fds[2];
	char byte = 0;

	cr_assert_eq(pipe(pipe_fds), 0);
	cr_assert_eq(link_send(ends[0], LINK_SOCKETS, 7, "a\0b", 4, pipe_fds, 2), ESP_OK);
	cr_assert_eq(link_recv(ends[1], &msg), ESP_OK);
	cr_assert_eq(msg.type, LINK_SOCKETS);
	cr_assert_eq(msg.serial, 7);
	cr_assert_eq(msg.len, 4);
	cr_assert_eq(memcmp(msg.text, "a\0b", 4), 0);
	cr_assert_eq(msg.nfds, 2);
	cr_assert(fcntl(msg.fds[0], F_GETFD) & FD_CLOEXEC);
	cr_assert_eq(write(pipe_fds[1], "x", 1), 1);
	cr_assert_eq(read(msg.fds[0], &byte, 1), 1);
	cr_assert_eq(byte, 'x');
	for (int i = 0; i < 2; i++) {
		close(msg.fds[i]);
		close(pipe_fds[i]);
	}
}

Test(link, says_when_there_is_nothing_and_when_nobody_is_there, .init = setup)
{
	cr_assert_eq(link_recv(ends[1], &msg), ESP_EAGAIN);
	close(ends[0]);
	cr_assert_eq(link_recv(ends[1], &msg), ESP_ECLOSED);
	cr_assert_eq(link_send(ends[1], LINK_READY, 0, NULL, 0, NULL, 0), ESP_ECLOSED);
	close(ends[1]);
}

Test(link, delivers_what_was_sent_by_somebody_who_left_without_reading, .init = setup)
{
	cr_assert_eq(link_send(ends[1], LINK_RELOAD, 0, "", 0, NULL, 0), ESP_OK);
	cr_assert_eq(link_send(ends[0], LINK_READY, 1, "", 0, NULL, 0), ESP_OK);
	cr_assert_eq(link_send(ends[0], LINK_COMMIT, 2, "", 0, NULL, 0), ESP_OK);
	close(ends[0]);
	cr_assert_eq(link_recv(ends[1], &msg), ESP_OK);
	cr_assert_eq(msg.type, LINK_READY);
	cr_assert_eq(link_recv(ends[1], &msg), ESP_OK);
	cr_assert_eq(msg.type, LINK_COMMIT);
	cr_assert_eq(link_recv(ends[1], &msg), ESP_ECLOSED);
	close(ends[1]);
}

Test(link, refuses_garbage_and_closes_its_descriptors, .init = setup, .fini = teardown)
{
	int before = open_descriptors(), fd = dup(0);
	union { struct cmsghdr align; char bytes[CMSG_SPACE(sizeof(int))]; } control = { .bytes = { 0 } };
	struct iovec iov = { (void *)(uintptr_t)"garbage that is longer than a head", 34 };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.bytes,
	                    .msg_controllen = sizeof(control.bytes) };
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &fd, sizeof(int));
	cr_assert_gt(sendmsg(ends[0], &m, 0), 0);
	close(fd);
	cr_assert_eq(link_recv(ends[1], &msg), ESP_EPROTO);
	cr_assert_eq(open_descriptors(), before);
	cr_assert_eq(send(ends[0], "x", 1, 0), 1);
	cr_assert_eq(link_recv(ends[1], &msg), ESP_EPROTO, "shorter than a head");
}

Test(link, refuses_to_send_more_than_the_other_side_takes, .init = setup, .fini = teardown)
{
	static char big[LINK_MAX_TEXT + 1];

	cr_assert_eq(link_send(ends[0], LINK_REFUSED, 0, big, sizeof(big), NULL, 0), ESP_E2BIG);
	cr_assert_eq(link_send(ends[0], LINK_REFUSED, 0, big, LINK_MAX_TEXT, NULL, 0), ESP_OK);
	cr_assert_eq(link_recv(ends[1], &msg), ESP_OK);
	cr_assert_eq(msg.len, LINK_MAX_TEXT);
}
