/* tests/unit/net/double.h - a net with real workers, a host and a small protocol, for tests of core/net.
 *
 * run_net() makes the calling thread the control thread, starts workers, and runs `client` in a thread of its own,
 * which talks to the server through blocking sockets.  When it returns the net was drained, everything is stopped
 * and freed, and what should be balanced is checked. */
#ifndef TESTS_UNIT_NET_DOUBLE_H
#define TESTS_UNIT_NET_DOUBLE_H

#include <stdatomic.h>

#include "core/base/arena.h"
#include "core/base/assert.h"
#include "core/base/clock.h"
#include "core/loop/loop.h"
#include "core/net/net.h"
#include "tests/support/test.h"

struct double_opts {
	uint32_t workers;               /* 0: 1 */
	uint32_t tls;                   /* of the listener */
	struct net_opts net;
	bool trust;                     /* trust_loopback */
	const char *role;               /* NULL: "test" */
	const char *proxy;              /* network that must send PROXY headers; NULL: none */
	const struct tls_files *certs;
	size_t ncerts;
	uint32_t max_line;
	bool alpn;                      /* "esp-test" */
	esp_nsec idle;
};

/*! \brief What the host and the protocol saw. */
struct double_seen {
	atomic_int held, opened, closed, begun, sessions, overlapped, resumed, thaw_refused, topics, timeouts;
	atomic_int refuse_thaw, park_handover, publish_at_end;
};
extern struct double_seen seen;
extern struct net *the_net;
extern uint16_t the_port;

void run_net(const struct double_opts *o, void (*client)(void *arg), void *arg);
/*! \brief Run fn on the control loop, or on a mail worker, and wait for it.  From the client thread. */
void on_control(void (*fn)(void *arg), void *arg);
void on_worker(uint32_t index, void (*fn)(void *arg), void *arg);
/*! \brief [worker] Hand every parked connection of the worker to the other of the two generations. */
void handover_all(void *unused);
esp_id topic_of(char name);

/*! \brief Blocking client sockets with a 10 s timeout. */
int dial(void);
void say(int fd, const char *text);
void say_bytes(int fd, const void *data, size_t n);
/*! \brief Read until `n` bytes or the end; returns the length. */
size_t hear(int fd, char *buf, size_t n);
/*! \brief Read exactly one line, NUL-terminated without CRLF. */
void hear_line(int fd, char *buf, size_t cap);
/*! \brief The next line, good until this thread asks for another. */
const char *next_line(int fd);
#define expect_line(fd, want) \
	do { \
		const char *line_ = next_line(fd); \
		cr_assert_str_eq(line_, want, "got \"%s\", wanted \"%s\"", line_, want); \
	} while (0)
/*! \brief Everything up to the peer's end, NUL-terminated; returns the length. */
size_t hear_all(int fd, char *buf, size_t cap);
void expect_end(int fd);
/*! \brief Wait until *value is `want`, at most 20 s. */
void wait_for(atomic_int *value, int want);
void wait_count(uint32_t want);

#endif
