/* core/net/conn.c - the life of a connection: open, wake, hand over, retire.  See conn.h, impl.h.
 *
 * Thread: the connection's worker, in loop callbacks and in the connection's own fibers.  A connection with a fiber
 * (READY with one spawned, RUNNING) is never freed under it: conn_kill() shuts the socket down and the fiber finds out.
 * conn_retire() takes the session apart; the struct and the socket go in a loop callback later, because a fiber's
 * watcher may still know the descriptor.
 */
#include "core/net/impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/base/arena.h"
#include "core/base/clock.h"
#include "core/base/str.h"

enum { PLACES_MAX = 1 << 20, PLACES_FIRST = 64 };

struct conn *conn_of(esp_conn *pub)
{
	struct conn *c = (struct conn *)(void *)pub;

	MAGIC_CHECK(c, CONN_MAGIC);
	return c;
}

esp_conn *conn_pub(struct conn *c) { return &c->pub; }
esp_str conn_role(const struct conn *c) { return c->listener->role_str; }
esp_module *conn_module(const struct conn *c) { return c->module; }

/* --- places: from an id to a connection ------------------------------------------------------------- */

static int places_grow(struct net_worker *nw)
{
	uint32_t n = nw->nplaces ? nw->nplaces * 2 : PLACES_FIRST;
	struct conn_place *grown;

	if (n > PLACES_MAX)
		return ESP_EBUSY;
	grown = reallocarray(nw->places, n, sizeof(*grown));
	if (!grown)
		return ESP_ENOMEM;
	for (uint32_t i = n; i > nw->nplaces; i--) {
		grown[i - 1] = (struct conn_place){ NULL, nw->free_place };
		nw->free_place = i;
	}
	nw->places = grown;
	nw->nplaces = n;
	return ESP_OK;
}

static int place_take(struct net_worker *nw, struct conn *c)
{
	int rc = nw->free_place ? ESP_OK : places_grow(nw);

	if (rc != ESP_OK)
		return rc;
	c->place = nw->free_place - 1;
	nw->free_place = nw->places[c->place].next_free;
	nw->places[c->place].conn = c;
	c->pub.id = ++nw->serial << 28 | (uint64_t)c->place << 8 | nw->index;
	return ESP_OK;
}

static void place_give(struct conn *c)
{
	struct net_worker *nw = c->nw;

	nw->places[c->place] = (struct conn_place){ NULL, nw->free_place };
	nw->free_place = c->place + 1;
}

struct conn *conn_by_id(struct net_worker *nw, uint64_t id)
{
	uint32_t place = (uint32_t)(id >> 8) & (PLACES_MAX - 1);
	struct conn *c = place < nw->nplaces ? nw->places[place].conn : NULL;

	return c && c->pub.id == id && c->state != CONN_LINGER ? c : NULL;
}

/* --- who has not logged in, by age -------------------------------------------------------------------- */

static struct list *strangers(struct net_worker *nw, enum stranger which)
{
	return which == STRANGER_SILENT ? &nw->silent : &nw->unauthenticated;
}

static void publish_oldest(struct net_worker *nw, enum stranger which)
{
	struct list *first = list_first(strangers(nw, which));

	atomic_store_explicit(&nw->oldest[which], first ? list_entry(first, struct conn, age)->since : INT64_MAX,
	                      memory_order_relaxed);
}

static void leave_strangers(struct conn *c)
{
	enum stranger which = c->spoke ? STRANGER_TALKING : STRANGER_SILENT;
	bool first = strangers(c->nw, which)->next == &c->age;

	if (!list_linked(&c->age))
		return;
	list_remove(&c->age);
	if (!c->spoke)
		atomic_fetch_sub(&c->nw->net->silent, 1);
	if (first)
		publish_oldest(c->nw, which);
}

static void join_strangers(struct conn *c, esp_nsec now)
{
	enum stranger which = c->spoke ? STRANGER_TALKING : STRANGER_SILENT;

	c->since = now;
	list_append(strangers(c->nw, which), &c->age);
	if (!c->spoke)
		atomic_fetch_add(&c->nw->net->silent, 1);
	if (strangers(c->nw, which)->next == &c->age)
		publish_oldest(c->nw, which);
}

void conn_mark_spoke(struct conn *c)
{
	bool stranger = list_linked(&c->age);

	leave_strangers(c);
	c->spoke = true;
	if (stranger)
		join_strangers(c, worker_now());
}

static bool is_user(const struct conn *c)
{
	return c->info.user.len > 0;
}

/* A session that goes on in another generation logs in with the name that is here: that must take no memory. */
int conn_set_user(struct conn *c, esp_str login)
{
	bool was = is_user(c);
	char *name;

	if (!login.len) {
		c->info.user = ESP_STR("");
	} else if (!str_eq(login, c->info.user)) {
		name = arena_dup(c->pub.arena, login.ptr, login.len);
		if (!name)
			return ESP_ENOMEM;
		c->info.user = (esp_str){ name, login.len };
	}
	if (is_user(c) && !was) {
		atomic_fetch_add(&c->listener->role->authenticated, 1);
		leave_strangers(c);
	} else if (was && !is_user(c)) {
		atomic_fetch_sub(&c->listener->role->authenticated, 1);
		if (!c->leaving)
			join_strangers(c, worker_now());
	}
	return ESP_OK;
}

/* A session that waits for its peer hears that nothing more will come; one that the peer does not listen to is cut. */
static void end_waiting(struct conn *c)
{
	if (c->waits & ESP_WRITE)
		conn_kill(c);
	else if (c->waits)
		shutdown(c->fd, SHUT_RD);
}

void conn_overload(struct net_worker *nw, enum stranger which)
{
	struct list *first = list_first(strangers(nw, which));
	struct conn *c;

	if (!first) {           /* it spoke, logged in or went meanwhile */
		atomic_fetch_sub(&nw->net->leaving, 1);
		return;
	}
	c = list_entry(first, struct conn, age);
	c->leaving = true;
	leave_strangers(c);
	NET_COUNT(nw, overloaded, 1);
	c->idle = c->nw->net->goodbye;
	if (c->state == CONN_PROXY || c->state == CONN_HELLO || c->state == CONN_QUEUED || c->handshaking ||
	    c->awaits_place) {
		conn_kill(c);
		return;
	}
	conn_wake(c, ESP_CONN_OVERLOAD);
	if (c->state == CONN_RUNNING)
		end_waiting(c);
}

esp_nsec conn_patience(const struct conn *c, esp_nsec usual)
{
	const struct net *n = c->nw->net;
	bool hurry = !is_user(c) && atomic_load_explicit(&n->stressed, memory_order_relaxed);

	return hurry && usual > n->hurry ? n->hurry : usual;
}

esp_nsec conn_tls_patience(const struct conn *c)
{
	const struct net *n = c->nw->net;
	bool hurry = atomic_load_explicit(&n->stressed, memory_order_relaxed);

	return hurry && n->handshake > n->hurry / 3 ? n->hurry / 3 : n->handshake;
}

static void hurry(struct conn *c)
{
	esp_nsec most = c->state == CONN_HELLO || c->state == CONN_PROXY ? conn_tls_patience(c)
	              : c->state == CONN_PARKED ? conn_patience(c, c->idle) : INT64_MAX;

	if (timer_active(&c->timer) && most != INT64_MAX && timer_when(&c->timer) - worker_now() > most &&
	    conn_timer(c, "hurry", most) != ESP_OK)
		conn_kill(c);
}

void conn_hurry_all(struct net_worker *nw)
{
	list_for_safe(node, &nw->silent)
		hurry(list_entry(node, struct conn, age));
	list_for_safe(node, &nw->unauthenticated)
		hurry(list_entry(node, struct conn, age));
}

/* --- opening ------------------------------------------------------------------------------------------ */

/* Texts live in the arena: most addresses are far shorter than the longest. */
static esp_str ip_text(struct conn *c, const struct ip *ip)
{
	char text[IP_TEXT];
	size_t n = ip_format(ip, text);

	return (esp_str){ arena_dup(c->pub.arena, text, n), n };
}

int conn_set_peer(struct conn *c, const struct ip_port *peer, const struct ip_port *local)
{
	c->peer = peer->ip;
	c->info.peer = ip_text(c, &peer->ip);
	c->info.peer_port = peer->port;
	c->info.local = ip_text(c, &local->ip);
	c->info.local_port = local->port;
	c->info.trusted = c->listener->trust_loopback && ip_is_loopback(&peer->ip);
	return c->info.peer.ptr && c->info.local.ptr ? ESP_OK : ESP_ENOMEM;
}

static int socket_addresses(struct conn *c, const struct ip_port *peer)
{
	struct ip_port local = { { { [10] = 0xff, 0xff, 127, 0, 0, 1 } }, 0 };
	struct sockaddr_storage sa;
	socklen_t len = sizeof(sa);

	/* a socket pair (tests) has no address: it counts as loopback */
	if (getsockname(c->fd, (struct sockaddr *)&sa, &len) == 0 &&
	    ip_from_sockaddr((struct sockaddr *)&sa, len, &local) != ESP_OK)
		local.port = 0;
	return conn_set_peer(c, peer, &local);
}

static void on_watch(struct watch *w, uint32_t events);
static void on_timer(struct timer *t);

static struct conn *conn_new(struct net_worker *nw, struct listener *l, int fd)
{
	struct conn *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->pub.api = &conn_api;
	c->pub.arena = arena_new_small(nw->net->mem, "conn", CONN_ARENA_FIRST, CONN_ARENA_CAP);
	if (!c->pub.arena || place_take(nw, c) != ESP_OK) {
		arena_free(c->pub.arena);
		free(c);
		return NULL;
	}
	MAGIC_SET(c, CONN_MAGIC);
	c->nw = nw;
	c->listener = l;
	c->fd = fd;
	c->idle = l->idle;
	c->info = (esp_conn_info){ .size = sizeof(c->info), .tls = l->tls, .role = l->role_str,
		.listener = l->name_str, .opened = clock_monotonic(), .tls_version = ESP_STR(""),
		.tls_cipher = ESP_STR(""), .tls_sni = ESP_STR(""),
		.user = ESP_STR("") };
	return c;
}

void conn_open(struct net_worker *nw, struct listener *l, int fd, const struct ip_port *peer, struct limit_net *host)
{
	struct conn *c = nw->draining ? NULL : conn_new(nw, l, fd);

	if (!c) {
		close(fd);
		listener_unref(l);
		limit_release(host);
		atomic_fetch_sub(&nw->conns, 1);
		atomic_fetch_sub(&nw->net->count, 1);
		return;
	}
	c->host = host;
	atomic_fetch_add(&l->role->now, 1);
	atomic_fetch_add(&l->role->opened, 1);
	join_strangers(c, c->info.opened);
	watch_start(&c->watch, NULL, "conn", fd, 0, on_watch);
	c->state = CONN_PROXY;
	if (socket_addresses(c, peer) != ESP_OK) {
		conn_kill(c);
		return;
	}
	if (ip_nets_have(&l->proxy, &peer->ip)) {
		watch_set(&c->watch, ESP_READ);
		if (timer_start(&c->timer, NULL, "proxy header", conn_tls_patience(c), on_timer) != ESP_OK)
			conn_kill(c);
		return;
	}
	conn_begin(c);
}

void conn_admitted(struct conn *c, int status, struct limit_net *host)
{
	ESP_ASSERT(c->state == CONN_PROXY && !c->host);
	c->host = host;
	timer_stop(&c->timer);
	if (status == ESP_OK)
		conn_begin(c);
	else
		conn_kill(c);
}

/* --- loop callbacks -------------------------------------------------------------------------------------- */

/* The socket of a parked connection is readable: take what is there, wake the session for a whole line. */
static void on_input(struct conn *c)
{
	struct net_worker *nw = c->nw;
	size_t n = 0;
	int rc = ESP_OK;

	for (int reads = 0; reads < 8 && rc == ESP_OK; reads++) {
		rc = conn_take_input(c, nw->scratch, NET_SCRATCH, &n);
		if (rc == ESP_OK && input_append(&c->in, nw->scratch, n) != ESP_OK)
			rc = ESP_ENOMEM;
		if (rc == ESP_OK && input_ready(&c->in, conn_max_line(c)))
			break;
		if (!c->tls)
			break;          /* level triggered; only TLS may hold back what it already read */
	}
	if (rc != ESP_OK && rc != ESP_EAGAIN && rc != ESP_ECLOSED) {
		c->broken = true;
		conn_retire(c);
	} else if (input_ready(&c->in, conn_max_line(c))) {
		conn_wake(c, ESP_CONN_INPUT);
	} else if (c->eof) {
		conn_wake(c, ESP_CONN_EOF);
	} else {
		input_trim(&c->in);
	}
}

/* Swallow what still comes, so that the kernel does not answer it with a reset before our last words arrived. */
static void on_linger(struct conn *c)
{
	ssize_t n = timer_active(&c->timer) ? recv(c->fd, c->nw->scratch, NET_SCRATCH, MSG_DONTWAIT) : 0;

	if (n > 0) {
		c->lingered += (uint32_t)n;
		if (c->lingered < CONN_LINGER_BYTES)
			return;
	} else if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
		return;
	}
	conn_destroy(c);
}

static void on_watch(struct watch *w, uint32_t events)
{
	struct conn *c = container_of(w, struct conn, watch);

	(void)events;
	MAGIC_CHECK(c, CONN_MAGIC);
	switch (c->state) {
	case CONN_PARKED: on_input(c); break;
	case CONN_PROXY: proxied_input(c); break;
	case CONN_HELLO: conn_hello_input(c); break;
	case CONN_LINGER: on_linger(c); break;
	default: watch_set(w, 0); break;
	}
}

static void on_timer(struct timer *t)
{
	struct conn *c = container_of(t, struct conn, timer);

	MAGIC_CHECK(c, CONN_MAGIC);
	switch (c->state) {
	case CONN_PARKED:
		NET_COUNT(c->nw, timeouts, 1);
		conn_wake(c, ESP_CONN_TIMEOUT);
		break;
	case CONN_LINGER:
		conn_destroy(c);
		break;
	case CONN_HELLO:
		NET_COUNT(c->nw, handshakes_failed, 1);
		limit_blame(c->host);
		NET_COUNT(c->nw, timeouts, 1);
		conn_kill(c);
		break;
	case CONN_PROXY:
		proxied_late(c);
		/* fall through */
	default:        /* no PROXY header, no hello, no place for a handshake, no fiber in time */
		NET_COUNT(c->nw, timeouts, 1);
		conn_kill(c);
		break;
	}
}

int conn_timer(struct conn *c, const char *label, esp_nsec delay)
{
	return timer_start(&c->timer, NULL, label, delay, on_timer);
}

void conn_wake(struct conn *c, unsigned why)
{
	if (c->state == CONN_LINGER)
		return;
	c->why |= (uint16_t)why;
	if (c->state == CONN_PARKED)
		conn_start(c);
}

/* --- the end -------------------------------------------------------------------------------------------------- */

static void session_end(struct conn *c)
{
	esp_module *module = c->module;
	struct breadcrumb was;

	if (!module)
		return;
	if (c->protocol->closed) {
		was = conn_enter(c, "closed");
		c->protocol->closed(module, &c->pub);
		breadcrumb_leave(was);
	}
	c->module = NULL;
	c->protocol = NULL;
	topic_forget(c);
	arena_free(c->pub.arena);       /* deferred functions are the module's: before it is dropped */
	c->pub.arena = NULL;
	c->nw->net->host->drop(c->nw->net->host->arg, c, module);
}

void conn_retire(struct conn *c)
{
	struct listener *l = c->listener;
	/* a TLS alert wants to arrive, too */
	esp_nsec linger = c->killed || c->eof || c->leaving ? 0 : CONN_LINGER_TIME;

	ESP_ASSERT(c->state != CONN_LINGER);
	list_remove(&c->link);
	c->state = CONN_LINGER;         /* closed() may publish a topic that it waits for itself */
	session_end(c);
	leave_strangers(c);
	arena_free(c->pub.arena);
	c->pub.arena = NULL;
	input_free(&c->in);
	output_free(&c->out);
	tls_free(c->tls);
	c->tls = NULL;
	c->handshaking = false;
	conn_leave_handshakes(c);
	atomic_fetch_sub(&l->role->now, 1);
	if (is_user(c))
		atomic_fetch_sub(&l->role->authenticated, 1);
	limit_release(c->host);
	c->host = NULL;
	if (linger && shutdown(c->fd, SHUT_WR) != 0)
		linger = 0;
	watch_set(&c->watch, linger ? ESP_READ : 0);
	if (conn_timer(c, "linger", linger) != ESP_OK) {      /* no memory: an end that makes an event at once */
		(void)shutdown(c->fd, SHUT_RDWR);
		watch_set(&c->watch, ESP_READ);
	}
}

void conn_destroy(struct conn *c)
{
	ESP_ASSERT(c->state == CONN_LINGER);
	watch_stop(&c->watch);
	timer_stop(&c->timer);
	close(c->fd);
	place_give(c);
	listener_unref(c->listener);
	atomic_fetch_sub(&c->nw->conns, 1);
	atomic_fetch_sub(&c->nw->net->count, 1);
	if (c->leaving)
		atomic_fetch_sub(&c->nw->net->leaving, 1);
	MAGIC_CLEAR(c);
	free(c);
}

void conn_kill(struct conn *c)
{
	if (c->state == CONN_LINGER)
		return;
	c->broken = c->killed = true;
	if (c->awaits_place)
		fiber_wake(c->handshake->waiter);
	if (c->state == CONN_RUNNING || (c->state == CONN_READY && !list_linked(&c->link)))
		shutdown(c->fd, SHUT_RDWR);     /* whoever waits for the socket wakes and finds it broken */
	else
		conn_retire(c);
}

/* --- all of a worker -------------------------------------------------------------------------------------------- */

void conn_each_parked(struct net *n, void (*fn)(void *arg, struct conn *c), void *arg)
{
	struct net_worker *nw = net_here(n);

	for (uint32_t i = 0; nw && i < nw->nplaces; i++)
		if (nw->places[i].conn && nw->places[i].conn->state == CONN_PARKED)
			fn(arg, nw->places[i].conn);
}

void conn_drain_all(struct net_worker *nw)
{
	for (uint32_t i = 0; i < nw->nplaces; i++) {
		struct conn *c = nw->places[i].conn;

		if (c && (c->state == CONN_PROXY || c->state == CONN_HELLO || c->state == CONN_QUEUED))
			conn_kill(c);
		else if (c)
			conn_wake(c, ESP_CONN_DRAIN);
	}
}

void conn_kill_all(struct net_worker *nw)
{
	for (uint32_t i = 0; i < nw->nplaces; i++) {
		struct conn *c = nw->places[i].conn;

		if (c && c->state == CONN_LINGER)
			conn_destroy(c);
		else if (c)
			conn_kill(c);
	}
}

void conn_free_all(struct net_worker *nw)
{
	for (uint32_t i = 0; i < nw->nplaces; i++) {
		struct conn *c = nw->places[i].conn;

		if (!c)
			continue;
		if (c->handshake)       /* nobody takes the place any more */
			handshake_end(&nw->handshakes, &c->handshake->place);
		if (c->state != CONN_LINGER) {
			c->broken = c->killed = true;
			conn_retire(c);
		}
		conn_destroy(c);
	}
}
