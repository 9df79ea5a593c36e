/* server - c-ares on the loop: for each server of a hub a channel, its sockets, one clock for all.
 *
 * c-ares knows one server and tries once; which one is next is decided in question.c, so that one that is dead is not
 * asked first every time.  It keeps a UDP socket, and with it a port, as long as anything is in flight on it: so a
 * channel has a new carrier (an ares_channel) after PORT_USES questions, and the old one ends with its last answer.
 * Its sockets are told by on_socket(), its time-outs are taken when on_tick() calls it; ares_timeout() walks over
 * everything in flight and is not asked.  [the hub's loop] throughout.
 */
#include "dns.h"

#include <ares.h>
#include <stdlib.h>

#define TICK         (50 * ESP_MSEC)
#define SILENT_AFTER 5u                  /* failures in a row: one slow name alone must not count for a dead server */
#define REST_FIRST   ESP_SEC
#define REST_MOST    (60 * ESP_SEC)
#define SOCKETS      4u                  /* c-ares 1.18 has one UDP and one TCP socket for a server */
#define PORT_USES    128u                /* who learns a port has little time to guess ids (RFC 5452, 9.2) */
#define CARRIERS     64u                 /* 100 KB each; beyond it the newest is used on */

struct socket { struct carrier *carrier; esp_watch *watch; int fd; };

struct carrier {
	struct channel *channel;
	struct carrier *older;
	ares_channel ares;
	uint32_t sent, waiting;              /* questions since it was idle, and now */
	struct socket socket[SOCKETS];
};

struct channel {
	struct hub *hub;
	struct server *server;
	struct carrier *carrier;             /* the newest; never NULL while the hub is open */
	uint32_t index, failures, ncarriers;
	int plain, probing;                  /* it does not know EDNS; one question finds out whether it is well again */
	esp_nsec rest, rest_until;           /* 0: it is well */
};

uint32_t channel_bit(const struct channel *c) { return 1u << c->index; }
int channel_trusted(const struct channel *c) { return c->hub->d->trust_ad && c->server->at.loopback; }

struct hub *hub_here(struct dns *d)
{
	const esp_loop_api *loop = d->core.loop;
	esp_worker *here = loop->here();
	uint32_t i = here ? loop->index(here) : UINT32_MAX;
	struct hub *h = NULL;

	if (here && here == d->control)
		h = &d->hub[d->nworkers];
	else if (i < d->nworkers)
		h = &d->hub[i];
	return h && h->open ? h : NULL;
}

/* --- is a server well? ----------------------------------------------------------------------------------- */

static void well(struct channel *c)
{
	struct dns *d = c->hub->d;

	c->failures = 0;
	c->rest = c->rest_until = 0;
	c->probing = 0;
	if (atomic_load_explicit(&c->server->silent, memory_order_relaxed) &&
		atomic_exchange(&c->server->silent, 0) == SILENT_SAID)
		esp_log(d->core.log, d->self, ESP_LOG_NOTICE, "DNS server answers again",
			ESP_FSTR("server", ((esp_str){ c->server->at.text, strlen(c->server->at.text) })));
}

static void tell_silent(struct channel *c, int refused, esp_nsec now)
{
	struct dns *d = c->hub->d;
	int due = seldom_due(&c->server->said, now) != 0;

	if (due || !atomic_load(&c->server->silent))
		atomic_store(&c->server->silent, due ? SILENT_SAID : SILENT);
	if (due)
		esp_log(d->core.log, d->self, ESP_LOG_WARNING,
			"DNS server does not answer: is it running, and does it listen there?",
			ESP_FSTR("server", ((esp_str){ c->server->at.text, strlen(c->server->at.text) })),
			ESP_FSTR("reason", refused ? ESP_STR("connection refused or unreachable") : ESP_STR("no answer in time")));
}

static void unwell(struct channel *c, int refused)
{
	esp_nsec now = c->hub->d->core.loop->clock();

	c->failures++;
	if (!refused && c->failures < SILENT_AFTER)
		return;
	if (!c->rest_until || c->probing || now >= c->rest_until) {   /* not what was on its way when it got its rest */
		c->rest = c->rest ? c->rest * 2 : REST_FIRST;
		c->rest = c->rest < REST_MOST ? c->rest : REST_MOST;
		c->rest_until = now + c->rest;
		c->probing = 0;
	}
	tell_silent(c, refused, now);
}

struct channel *channel_choose(struct hub *h, const struct question *q)
{
	esp_nsec now = h->d->core.loop->clock();
	struct channel *resting = NULL;

	for (uint32_t i = 0; i < h->nchannels; i++) {
		struct channel *c = h->channel[i];

		if ((q->asked | q->refused) & channel_bit(c))
			continue;
		if (c->rest_until <= now) {
			if (c->rest_until) {         /* this one question finds out; the others go on to the next server */
				c->rest_until = now + h->d->timeout + ESP_SEC;
				c->probing = 1;
			}
			return c;
		}
		if (!resting || c->rest_until < resting->rest_until)
			resting = c;
	}
	return resting;
}

/* --- sockets and time ------------------------------------------------------------------------------------ */

static void on_ready(void *arg, uint32_t events)
{
	struct socket *s = arg;
	int fd = s->fd;

	ares_process_fd(
		s->carrier->ares, events & ESP_READ ? fd : ARES_SOCKET_BAD, events & ESP_WRITE ? fd : ARES_SOCKET_BAD);
}

static void on_socket(void *arg, ares_socket_t fd, int readable, int writable)
{
	struct carrier *k = arg;
	const struct dns *d = k->channel->hub->d;
	uint32_t events = (readable ? ESP_READ : 0) | (writable ? ESP_WRITE : 0);
	struct socket *s = NULL;

	for (uint32_t i = 0; i < SOCKETS; i++) {
		if (k->socket[i].watch && k->socket[i].fd == fd) {
			s = &k->socket[i];
			break;
		}
		if (!k->socket[i].watch && !s)
			s = &k->socket[i];
	}
	if (s && s->watch && events) {
		d->core.loop->rewatch(s->watch, events);
	} else if (s && s->watch) {
		d->core.loop->unwatch(s->watch);
		s->watch = NULL;
	} else if (s && events) {            /* without memory for it the question runs into its time-out */
		*s = (struct socket){ .carrier = k, .fd = fd };
		s->watch = d->core.loop->watch(d->self, fd, events, on_ready, s);
	}
}

static void carrier_end(struct carrier *k)
{
	ares_destroy(k->ares);
	free(k);
}

static void end_idle(struct channel *c)
{
	struct carrier **at = &c->carrier->older, *k;

	while ((k = *at)) {
		if (k->waiting) {
			at = &k->older;
			continue;
		}
		*at = k->older;
		c->ncarriers--;
		carrier_end(k);
	}
}

void hub_give_up(struct hub *h)
{
	for (uint32_t i = 0; i < h->nchannels; i++)
		for (struct carrier *k = h->channel[i]->carrier; k; k = k->older)
			ares_cancel(k->ares);
	questions_stop(h);
}

static void on_tick(void *arg)
{
	struct hub *h = arg;
	esp_nsec ends = atomic_load(&h->d->ends);

	h->tick = NULL;
	if (ends && h->d->core.loop->clock() >= ends)
		hub_give_up(h);
	for (uint32_t i = 0; i < h->nchannels; i++) {
		for (struct carrier *k = h->channel[i]->carrier; k; k = k->older)
			ares_process_fd(k->ares, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
		end_idle(h->channel[i]);
	}
	questions_resume(h, h->d->core.loop->clock());
	if (h->outstanding)
		hub_watch_time(h);
}

void hub_watch_time(struct hub *h)
{
	if (!h->tick)
		h->tick = h->d->core.loop->after(h->d->self, TICK, on_tick, h);
}

/* --- asking ---------------------------------------------------------------------------------------------- */

/* What an administrator can do something about, once a minute. */
static void tell_odd(struct channel *c, const struct question *q, const struct reply *r)
{
	struct dns *d = c->hub->d;
	esp_str server = { c->server->at.text, strlen(c->server->at.text) }, name;
	char text[NAME_TEXT];

	if (r->rcode != 5 && r->status != ESP_EPROTO)
		return;
	name = (esp_str){ text, name_text(q->key.name, text) };
	if (r->status == ESP_EPROTO) {
		if (seldom_due(&c->server->malformed, d->core.loop->clock()))
			esp_log(d->core.log, d->self, ESP_LOG_NOTICE,
				"DNS answer was malformed: a broken zone, or something on the way to the server changes answers",
				ESP_FSTR("server", server), ESP_FSTR("name", name),
				ESP_FSTR("reason", ((esp_str){ r->why, strlen(r->why) })));
	} else if (seldom_due(&c->server->refused, d->core.loop->clock())) {
		esp_log(d->core.log, d->self, ESP_LOG_WARNING,
			"DNS server refuses to answer: let it do recursion for this machine", ESP_FSTR("server", server),
			ESP_FSTR("name", name));
	}
}

static void on_answer(void *arg, int status, int timeouts, unsigned char *msg, int len)
{
	struct question *q = arg;
	struct channel *c = q->channel;
	struct reply *r;

	(void)timeouts;
	q->carrier->waiting--;
	if (status == ARES_EDESTRUCTION || status == ARES_ECANCELLED) {
		question_answered(q, OUTCOME_STOPPED, NULL);
	} else if (status == ARES_SUCCESS && len > 0) {
		well(c);
		r = reply_read(msg, (size_t)len, &q->key);
		if (r)
			tell_odd(c, q, r);
		if (r && r->rcode == 1 && !c->plain) {
			c->plain = 1;
			reply_unref(r);
			question_answered(q, OUTCOME_ANSWER, reply_fail(ESP_EAGAIN, "asked again without EDNS"));
		} else {
			question_answered(q, OUTCOME_ANSWER, r);
		}
	} else {
		unwell(c, status != ARES_ETIMEOUT);
		question_answered(q, status == ARES_ETIMEOUT ? OUTCOME_SILENCE : OUTCOME_REFUSED, NULL);
	}
}

static esp_status carrier_new(struct channel *c)
{
	struct carrier *k = calloc(1, sizeof *k);
	struct ares_options o = { .tries = 1, .ndots = 1, .ednspsz = QUERY_UDP, .sock_state_cb = on_socket,
		.sock_state_cb_data = k, .lookups = (char *)(uintptr_t)"b", .resolvconf_path = (char *)(uintptr_t)"/dev/null" };
	int given = ARES_OPT_FLAGS | ARES_OPT_TRIES | ARES_OPT_NDOTS | ARES_OPT_EDNSPSZ | ARES_OPT_SOCK_STATE_CB |
		ARES_OPT_LOOKUPS | ARES_OPT_RESOLVCONF | ARES_OPT_TIMEOUTMS | ARES_OPT_DOMAINS | ARES_OPT_NOROTATE;

	if (!k)
		return ESP_ENOMEM;
	k->channel = c;
	o.flags = ARES_FLAG_NOSEARCH | ARES_FLAG_NOALIASES | ARES_FLAG_NOCHECKRESP | ARES_FLAG_EDNS;
	o.timeout = (int)(c->hub->d->timeout / ESP_MSEC);
	if (ares_init_options(&k->ares, &o, given) != ARES_SUCCESS) {
		free(k);
		return ESP_ENOMEM;
	}
	if (ares_set_servers_ports_csv(k->ares, c->server->at.text) != ARES_SUCCESS) {
		carrier_end(k);
		return ESP_ENOMEM;
	}
	k->older = c->carrier;
	c->carrier = k;
	c->ncarriers++;
	return ESP_OK;
}

/* c-ares takes the id from the message: it must be one that nobody can guess. */
void channel_ask(struct channel *c, struct question *q)
{
	uint8_t message[QUERY_MAX];
	uint16_t id;

	if (!c->carrier->waiting)            /* its socket is closed */
		c->carrier->sent = 0;
	if (c->carrier->sent >= PORT_USES && c->ncarriers < CARRIERS)
		(void)!carrier_new(c);           /* without memory the old one goes on */
	c->hub->d->crypto->random(&id, sizeof id);
	q->channel = c;
	q->carrier = c->carrier;
	q->carrier->sent++;
	q->carrier->waiting++;
	hub_watch_time(c->hub);
	ares_send(q->carrier->ares, message, (int)query_write(&q->key, id, c->plain, message), on_answer, q);
}

/* --- life ------------------------------------------------------------------------------------------------ */

static esp_status channel_open(struct hub *h, uint32_t index)
{
	struct channel *c = calloc(1, sizeof *c);

	if (!c)
		return ESP_ENOMEM;
	c->hub = h;
	c->server = &h->d->server[index];
	c->index = index;
	if (carrier_new(c) != ESP_OK) {
		free(c);
		return ESP_ENOMEM;
	}
	h->channel[h->nchannels++] = c;
	return ESP_OK;
}

/* Whoever still waits is told; c-ares closes its sockets, and on_socket() their watchers. */
static void channel_close(struct channel *c)
{
	struct carrier *k;

	while ((k = c->carrier)) {
		c->carrier = k->older;
		carrier_end(k);
	}
	free(c);
}

esp_status hub_open(struct hub *h)
{
	struct dns *d = h->d;
	esp_status st;

	d->crypto->random(h->secret, sizeof h->secret);
	st = cache_init(&h->cache, d->cache_entries, d->cache_bytes, h->secret);
	h->open = 1;
	h->flushed = atomic_load(&d->flushed);
	for (uint32_t i = 0; st == ESP_OK && i < d->nservers; i++)
		st = channel_open(h, i);
	if (st != ESP_OK)
		hub_close(h);
	return st;
}

void hub_close(struct hub *h)
{
	struct dns *d = h->d;

	if (!h->open)
		return;
	h->open = 0;
	d->core.loop->untimer(h->tick);
	h->tick = NULL;
	for (uint32_t i = 0; i < h->nchannels; i++)
		channel_close(h->channel[i]);
	h->nchannels = 0;
	questions_stop(h);
	d->core.loop->untimer(h->tick);
	h->tick = NULL;
	cache_end(&h->cache);
	d->metric->add(d->entries, -(int64_t)h->told_entries);
	d->metric->add(d->bytes, -(int64_t)h->told_bytes);
}
