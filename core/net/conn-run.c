/* core/net/conn-run.c - the fiber in which a connection's session() is called.
 *
 * One fiber per connection at most, taken from the pool when there is a reason and given back when there is none.  At
 * most NET_STARTING fibers per worker are spawned and not yet running, so that waking ten thousand idle sessions reuses
 * a few stacks; the others wait in `ready`, with a deadline.
 */
#include "core/net/impl.h"

#include "core/base/clock.h"
#include "core/loop/breadcrumb.h"

enum { RETRY_MSEC = 10, READY_SEC = 30 };

size_t conn_max_line(const struct conn *c)
{
	if (c->max_line)
		return c->max_line;
	return c->protocol && c->protocol->max_line ? c->protocol->max_line : INPUT_LINE_DEFAULT;
}

struct breadcrumb conn_enter(struct conn *c, const char *point)
{
	return breadcrumb_enter(c->module->name, point);
}

/* --- one call ------------------------------------------------------------------------------------------ */

static int call_session(struct conn *c)
{
	const struct conn_host *host = c->nw->net->host;
	esp_module *module = c->module;
	struct breadcrumb was;
	void *pin;
	int rc;

	c->called = c->why;
	c->why = 0;
	if (c->called & ESP_CONN_EOF)
		c->eof_told = true;
	c->consumed = 0;
	c->turn_lines = 0;
	c->turn = clock_monotonic();
	pin = host->begin(host->arg, c, module);
	was = conn_enter(c, "session");
	rc = c->protocol->session(module, &c->pub, c->called);
	breadcrumb_leave(was);
	host->end(host->arg, c, module, pin);
	if (rc == ESP_OK)
		rc = conn_flush(c);
	if (c->broken || (c->in.dead && c->in.told) || (c->called & ESP_CONN_OVERLOAD))
		return ESP_ECLOSED;
	return rc;
}

/* TLS may hold decrypted bytes that no poll will ever report. */
static void pull_pending(struct conn *c)
{
	while (c->tls && !c->eof && tls_pending(c->tls) && !input_ready(&c->in, conn_max_line(c))) {
		char *to;
		size_t room, n;

		if (input_room(&c->in, tls_pending(c->tls), &to, &room) != ESP_OK ||
		    conn_take_input(c, to, room, &n) != ESP_OK)
			return;
		input_added(&c->in, n);
	}
}

/* Is there a reason to call again at once?  A line that the session saw and left is none. */
static bool next_reason(struct conn *c)
{
	pull_pending(c);
	c->stalled = false;
	if (input_ready(&c->in, conn_max_line(c))) {
		c->stalled = !c->consumed && (c->called & ESP_CONN_INPUT);
		if (!c->stalled)
			c->why |= ESP_CONN_INPUT;
	}
	if (c->eof && !c->eof_told && !(c->why & ESP_CONN_INPUT))
		c->why |= ESP_CONN_EOF;
	return c->why != 0;
}

static void park(struct conn *c)
{
	input_trim(&c->in);
	c->state = CONN_PARKED;
	watch_set(&c->watch, c->eof || c->stalled ? 0 : ESP_READ);
	if (conn_timer(c, "idle", conn_patience(c, c->idle)) != ESP_OK)
		conn_kill(c);
}

/* The last words, then the end.  A shield would also hide the deadline: a cancelled fiber sends what the socket takes
 * at once, any other waits for the peer, but not for long. */
static void say_goodbye(struct conn *c)
{
	int rc = ESP_ECLOSED;

	fiber_set_deadline(0);
	c->idle = c->nw->net->goodbye;
	if (!c->broken)
		rc = fiber_canceled() ? conn_send_now(c) : conn_flush(c);
	if (rc == ESP_OK && c->tls)
		tls_bye(c->tls);
	conn_retire(c);
}

/* --- the fiber ---------------------------------------------------------------------------------------------- */

/* ESP_OK: session() may go on in this fiber. */
static bool between_calls(struct conn *c)
{
	const struct conn_host *host = c->nw->net->host;
	esp_module *before = c->module;

	c->boundary = true;
	if (host->on_park)
		host->on_park(host->arg, c);
	c->boundary = false;
	if (c->broken) {
		conn_retire(c);
		return false;
	}
	if (!next_reason(c)) {
		park(c);
		return false;
	}
	if (c->module != before) {
		conn_start(c);          /* a fiber counts on the generation it was spawned for */
		return false;
	}
	return true;
}

static void conn_fiber(void *arg)
{
	struct conn *c = arg;
	struct net_worker *nw = c->nw;

	MAGIC_CHECK(c, CONN_MAGIC);
	nw->starting--;
	conn_run_next(nw);
	c->state = CONN_RUNNING;
	if (c->handshaking) {
		int rc = conn_handshake(c);

		c->handshaking = false;
		conn_leave_handshakes(c);
		if (rc != ESP_OK) {
			c->broken = true;
			conn_retire(c);
			return;
		}
	}
	do {
		if (c->broken || call_session(c) != ESP_OK) {
			say_goodbye(c);
			return;
		}
		if (!between_calls(c))
			return;
	} while (fiber_yield() == ESP_OK);
	say_goodbye(c);
}

static bool spawn(struct conn *c)
{
	if (c->nw->starting >= NET_STARTING ||
	    fiber_spawn(owner_of(c->module), 0, c->listener->role->name, conn_fiber, c, NULL) != ESP_OK)
		return false;
	c->nw->starting++;
	timer_stop(&c->timer);
	return true;
}

void conn_start(struct conn *c)
{
	struct net_worker *nw = c->nw;

	c->state = CONN_READY;          /* the watcher stays: it pauses itself if the socket speaks before we park */
	if (list_empty(&nw->ready) && spawn(c))
		return;
	list_append(&nw->ready, &c->link);
	if (conn_timer(c, "ready", READY_SEC * ESP_SEC) != ESP_OK)
		conn_kill(c);
	if (nw->starting == 0 && timer_start(&nw->retry, NULL, "fibers", RETRY_MSEC * ESP_MSEC, conn_retry) != ESP_OK)
		ESP_PANIC("no memory for the timer that starts sessions");
}

void conn_run_next(struct net_worker *nw)
{
	struct list *first;

	while ((first = list_first(&nw->ready))) {
		struct conn *c = list_entry(first, struct conn, link);

		list_remove(&c->link);
		if (spawn(c))
			continue;
		list_prepend(&nw->ready, &c->link);
		if (nw->starting == 0 &&
		    timer_start(&nw->retry, NULL, "fibers", RETRY_MSEC * ESP_MSEC, conn_retry) != ESP_OK)
			ESP_PANIC("no memory for the timer that starts sessions");
		return;
	}
}

void conn_retry(struct timer *t)
{
	conn_run_next(container_of(t, struct net_worker, retry));
}

/* --- from an accepted socket to the greeting -------------------------------------------------------------- */

/* The peer is known: find who serves it, then wait for its hello or greet. */
void conn_begin(struct conn *c)
{
	const struct conn_host *host = c->nw->net->host;

	watch_set(&c->watch, 0);
	c->state = CONN_QUEUED;
	if (host->find(host->arg, c, c->listener->role_str, &c->module, &c->protocol) != ESP_OK) {
		c->module = NULL;
		conn_kill(c);
		return;
	}
	c->why |= ESP_CONN_OPENED;
	if (c->listener->tls == ESP_TLS_IMPLICIT)
		conn_expect_hello(c);
	else
		conn_start(c);
}
