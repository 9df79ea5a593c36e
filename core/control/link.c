/* core/control/link.c - messages between the supervisor and a server process; see link.h. */
#include "core/control/link.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define LINK_MAGIC 0x4b4e4c45u /* "ELNK" */

struct link_head { uint32_t magic, type, serial, len; };

int link_pair(int ret[2])
{
	return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ret) ? ESP_EIO : ESP_OK;
}

static int link_status(int error)
{
	if (error == EAGAIN || error == EWOULDBLOCK || error == EINTR || error == ENOBUFS)
		return ESP_EAGAIN;
	return error == EPIPE || error == ECONNRESET ? ESP_ECLOSED : ESP_EIO;
}

int link_send(int fd, uint32_t type, uint32_t serial, const char *text, size_t len, const int *fds, uint32_t nfds)
{
	struct link_head head = { LINK_MAGIC, type, serial, (uint32_t)len };
	struct iovec iov[2] = { { &head, sizeof(head) }, { (void *)(uintptr_t)text, len } };
	union { struct cmsghdr align; char bytes[CMSG_SPACE(sizeof(int) * LINK_MAX_FDS)]; } control;
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = len ? 2 : 1 };

	if (len > LINK_MAX_TEXT || nfds > LINK_MAX_FDS)
		return ESP_E2BIG;
	if (nfds) {
		struct cmsghdr *c;

		memset(&control, 0, sizeof(control));
		msg.msg_control = control.bytes;
		msg.msg_controllen = CMSG_SPACE(sizeof(int) * nfds);
		c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int) * nfds);
		memcpy(CMSG_DATA(c), fds, sizeof(int) * nfds);
	}
	for (;;) {
		if (sendmsg(fd, &msg, MSG_NOSIGNAL) >= 0)
			return ESP_OK;
		if (errno != EINTR)
			return link_status(errno);
	}
}

static void link_take_fds(struct msghdr *msg, struct link_msg *ret)
{
	ret->nfds = 0;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
		size_t n;

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < n; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
			if (ret->nfds < LINK_MAX_FDS)
				ret->fds[ret->nfds++] = fd;
			else
				close(fd);
		}
	}
}

int link_recv(int fd, struct link_msg *ret)
{
	struct link_head head;
	struct iovec iov[2] = { { &head, sizeof(head) }, { ret->text, LINK_MAX_TEXT } };
	union { struct cmsghdr align; char bytes[CMSG_SPACE(sizeof(int) * LINK_MAX_FDS)]; } control;
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = 2, .msg_control = control.bytes,
	                      .msg_controllen = sizeof(control.bytes) };
	ssize_t n;

	/* ECONNRESET, once: the other side closed without having read all; what it sent before is still to be had */
	do
		n = recvmsg(fd, &msg, MSG_CMSG_CLOEXEC);
	while (n < 0 && (errno == EINTR || errno == ECONNRESET));
	if (n < 0)
		return link_status(errno);
	if (n == 0)
		return ESP_ECLOSED;
	link_take_fds(&msg, ret);
	if ((size_t)n < sizeof(head) || head.magic != LINK_MAGIC || (size_t)n != sizeof(head) + head.len ||
	    (msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC))) {
		for (uint32_t i = 0; i < ret->nfds; i++)
			close(ret->fds[i]);
		ret->nfds = 0;
		return ESP_EPROTO;
	}
	ret->type = head.type;
	ret->serial = head.serial;
	ret->len = head.len;
	ret->text[ret->len] = '\0';
	return ESP_OK;
}
