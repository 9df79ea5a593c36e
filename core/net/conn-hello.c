/* core/net/conn-hello.c - from a connected socket to a place among the handshakes of its worker.
 *
 * A client that says nothing costs nothing but its struct: the handshake, its fiber and the state of GnuTLS begin when
 * the whole first TLS record (the ClientHello) is in the socket.  The kernel counts its bytes (SO_RCVLOWAT), so a
 * client that sends one at a time does not even wake us.  Then the connection queues for a place (handshakes.h): on
 * implicit TLS without a fiber, in STARTTLS with the one it has.
 */
#include "core/net/impl.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "core/base/clock.h"

enum { RECORD_HEAD = 5, RECORD_MAX = 16384, RECORD_HANDSHAKE = 22, LOOK_MSEC = 50 };

static struct conn *conn_of_handshake(struct handshake *h)
{
	return container_of(h, struct conn_handshake, place)->conn;
}

/* --- the hello ---------------------------------------------------------------------------------------------- */

static void want_bytes(struct conn *c, uint32_t n)
{
	int low = (int)n;

	c->hello_wanted = n;
	setsockopt(c->fd, SOL_SOCKET, SO_RCVLOWAT, &low, sizeof(low));
}

/* How long is what is being said?  0: it is no TLS, or the peer's end; GnuTLS finds out. */
static uint32_t hello_length(const uint8_t *head, ssize_t n)
{
	uint32_t body;

	if (n <= 0 || head[0] != RECORD_HANDSHAKE)
		return 0;
	if (n < RECORD_HEAD)
		return RECORD_HEAD;
	body = (uint32_t)head[3] << 8 | head[4];
	return body <= RECORD_MAX ? RECORD_HEAD + body : 0;
}

/* Is the first record there, or clearly not to come?  If not, the socket stays quiet until it may be. */
static bool hello_is_there(struct conn *c)
{
	uint8_t head[RECORD_HEAD];
	ssize_t n = recv(c->fd, head, sizeof(head), MSG_PEEK | MSG_DONTWAIT);
	uint32_t length;
	int have = 0;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	length = hello_length(head, n);
	/* woken for these bytes before, and they are not there: the peer has ended */
	if (length && length != c->hello_wanted && ioctl(c->fd, FIONREAD, &have) == 0 && (uint32_t)have < length) {
		want_bytes(c, length);
		return false;
	}
	if (c->hello_wanted)
		want_bytes(c, 1);
	return true;
}

/* --- a place ------------------------------------------------------------------------------------------------ */

static void on_crowded(struct timer *t);

static void begin(struct conn *c)
{
	if (c->state == CONN_QUEUED) {
		c->handshaking = true;
		conn_start(c);
	} else {
		fiber_wake(c->handshake->waiter);
	}
}

static void evict(struct conn *c)
{
	NET_COUNT(c->nw, handshakes_evicted, 1);
	handshake_end(&c->nw->handshakes, &c->handshake->place);
	conn_kill(c);
}

/* Places for who waits, made by sending silent ones away if need be. */
static void serve(struct net_worker *nw)
{
	struct handshakes *all = &nw->handshakes;
	esp_nsec now = worker_now();
	struct handshake *h;

	for (;;) {
		h = handshakes_next(all, now);
		if (h) {
			begin(conn_of_handshake(h));
			continue;
		}
		h = handshakes_victim(all, now, nw->net->grace);
		if (!h)
			break;
		evict(conn_of_handshake(h));
	}
	atomic_store_explicit(&nw->counters.handshakes_now, all->in_flight, memory_order_relaxed);
	atomic_store_explicit(&nw->counters.handshakes_waiting, all->waiting, memory_order_relaxed);
	if (all->waiting && !timer_active(&nw->crowded) &&
	    timer_start(&nw->crowded, NULL, "handshakes", LOOK_MSEC * ESP_MSEC, on_crowded) != ESP_OK)
		ESP_PANIC("no memory for the timer that makes room for handshakes");
}

static void on_crowded(struct timer *t)
{
	serve(container_of(t, struct net_worker, crowded));
}

static int queue(struct conn *c, esp_ticket waiter)
{
	struct net_worker *nw = c->nw;
	struct handshake *crowded;

	c->handshake = malloc(sizeof(*c->handshake));
	if (!c->handshake)
		return ESP_ENOMEM;
	*c->handshake = (struct conn_handshake){ .conn = c, .waiter = waiter };
	crowded = handshake_queue(&nw->handshakes, &c->handshake->place, &c->peer, worker_now());
	if (crowded)
		evict(conn_of_handshake(crowded));
	serve(nw);
	return ESP_OK;
}

void conn_leave_handshakes(struct conn *c)
{
	struct handshake *h = c->handshake ? &c->handshake->place : NULL;
	bool counted = h && h->state != HANDSHAKE_NONE;

	if (counted)
		handshake_end(&c->nw->handshakes, h);
	free(c->handshake);
	c->handshake = NULL;
	if (counted)
		serve(c->nw);
}

/* --- implicit TLS: no fiber yet ---------------------------------------------------------------------------------- */

void conn_hello_input(struct conn *c)
{
	if (!hello_is_there(c))
		return;
	watch_set(&c->watch, 0);
	c->state = CONN_QUEUED;
	if (conn_timer(c, "handshake queue", 3 * c->nw->net->handshake) != ESP_OK ||
	    queue(c, (esp_ticket){ 0 }) != ESP_OK)
		conn_kill(c);
}

void conn_expect_hello(struct conn *c)
{
	c->state = CONN_HELLO;
	watch_set(&c->watch, ESP_READ);
	if (conn_timer(c, "hello", conn_tls_patience(c)) != ESP_OK)
		conn_kill(c);
}

/* --- STARTTLS: in the session's fiber ---------------------------------------------------------------------------- */

static int await_hello(struct conn *c)
{
	esp_nsec until = worker_now() + conn_tls_patience(c);
	int rc = ESP_OK;

	while (rc == ESP_OK && !c->broken && !hello_is_there(c))
		rc = conn_wait(c, ESP_READ, until);
	if (rc == ESP_ETIMEDOUT)
		limit_blame(c->host);
	return rc == ESP_OK && (c->broken || c->leaving) ? ESP_ECLOSED : rc;
}

int conn_take_place(struct conn *c)
{
	esp_nsec was = fiber_deadline();
	int rc = await_hello(c);

	if (rc != ESP_OK)
		return rc;
	fiber_set_deadline(clock_earlier(was, worker_now() + 3 * c->nw->net->handshake));
	c->awaits_place = true;
	rc = queue(c, fiber_ticket());
	if (rc == ESP_OK)
		rc = fiber_suspend();   /* comes back at once when there was a place */
	c->awaits_place = false;
	fiber_set_deadline(was);
	if (rc == ESP_OK && c->handshake->place.state != HANDSHAKE_IN_FLIGHT)
		rc = ESP_EBUSY;
	return rc;
}
