/* core/control/link.h - what the supervisor and a server process say to each other.
 *
 * One SOCK_SEQPACKET pair for each server process: a message is a datagram with a fixed head, a bounded text and, for
 * LINK_SOCKETS, file descriptors (SCM_RIGHTS).  The server process is the weaker side: nothing it sends carries more
 * than its type and serial, so the supervisor has nothing of it to parse.
 *
 * Used by the supervisor (its only thread) and by the control thread of the server process; owns nothing.
 */
#ifndef CORE_CONTROL_LINK_H
#define CORE_CONTROL_LINK_H

#include <esp/abi.h>

enum { LINK_MAX_FDS = 128, LINK_MAX_TEXT = 32768 };

enum link_type {
	/* supervisor -> server process */
	LINK_SOCKETS = 1,   /* text: one address after the other, each ended by NUL; fds in the same order */
	LINK_REFUSED,       /* text: why OPEN failed */
	LINK_RELOAD,        /* SIGHUP */
	LINK_STOP,          /* orderly stop; text empty */
	LINK_UPGRADED,      /* the upgrade that was asked for is ready: stop */
	LINK_UPGRADE_FAILED,/* text: why */
	/* server process -> supervisor: type and serial alone */
	LINK_READY = 32,
	LINK_OPEN,          /* read the configuration, open what it adds, answer SOCKETS or REFUSED of this serial */
	LINK_COMMIT,        /* the configuration of OPEN is in force: close what it no longer names */
	LINK_ABORT,         /* it is not: close what OPEN opened */
	LINK_RELOADED,      /* a reload ended; serial 0: all of it is in force, 1: it was refused */
	LINK_ASK_STOP, LINK_ASK_UPGRADE
};

struct link_msg {
	uint32_t type, serial;
	uint32_t nfds, len;
	int fds[LINK_MAX_FDS];         /* received ones are close-on-exec and the receiver's to close */
	char text[LINK_MAX_TEXT + 1];  /* NUL-terminated behind len */
};

/*! \brief Both ends, close-on-exec and non-blocking.  0 or ESP_EIO. */
ESP_CHECKED int link_pair(int ret[2]);
/*! \brief Send type, serial, text and descriptors.  ESP_EAGAIN: the other side does not read; ESP_ECLOSED;
 *  ESP_E2BIG. */
ESP_CHECKED int link_send(int fd, uint32_t type, uint32_t serial, const char *text, size_t len,
                          const int *fds, uint32_t nfds);
/*! \brief Receive one message.  ESP_EAGAIN: none; ESP_ECLOSED: the other side is gone; ESP_EPROTO: not a message
 *  of ours (its descriptors were closed). */
ESP_CHECKED int link_recv(int fd, struct link_msg *ret);

#endif
