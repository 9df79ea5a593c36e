/* question - one question in flight, whoever asked first and whoever waits with him.
 *
 * It lives until it is answered or given up, also when nobody waits any more: then the answer is for the cache.  Who
 * waits is in its list by a struct in his own frame, and takes that out when he leaves.  [the hub's loop] throughout.
 */
#include "dns.h"

#include <stdlib.h>

enum { STEP_SEND = 1, STEP_WAIT, STEP_PAUSE, STEP_DONE };

/* --- the end --------------------------------------------------------------------------------------------- */

static uint32_t result_of(const struct reply *r)
{
	if (!r || r->status == ESP_EUNAVAIL)
		return r && r->rcode ? 3 : 4;          /* failed; no answer */
	if (r->status == ESP_OK)
		return 0;
	if (r->status == ESP_ENOENT)
		return r->flags & ESP_DNS_NXDOMAIN ? 1 : 2;
	return 5;
}

static uint32_t index_of(uint32_t type)
{
	static const uint16_t order[TYPES] = { ESP_DNS_A, ESP_DNS_AAAA, ESP_DNS_CNAME, ESP_DNS_MX, ESP_DNS_NS, ESP_DNS_PTR,
		ESP_DNS_TLSA, ESP_DNS_TXT };
	uint32_t i = 0;

	while (i < TYPES - 1 && order[i] != type)
		i++;
	return i;
}

static void tell_cache(struct hub *h)
{
	struct dns *d = h->d;

	d->metric->add(d->entries, (int64_t)h->cache.n - h->told_entries);
	d->metric->add(d->bytes, (int64_t)h->cache.bytes - (int64_t)h->told_bytes);
	h->told_entries = h->cache.n;
	h->told_bytes = h->cache.bytes;
}

static esp_nsec lifetime(const struct dns *d, const struct reply *r)
{
	esp_nsec ttl = (esp_nsec)r->ttl * ESP_SEC, most = d->ttl_most;

	if (r->status == ESP_ENOENT)
		most = d->ttl_negative;
	else if (r->status != ESP_OK)
		return d->ttl_failure;
	return ttl < most ? ttl : most;
}

static void keep(struct question *q, esp_nsec now)
{
	struct reply *r = q->reply;

	if (q->channel && !channel_trusted(q->channel))
		r->flags &= ~(uint32_t)ESP_DNS_AUTHENTIC;
	r->until = now + lifetime(q->hub->d, r);
	cache_put(&q->hub->cache, &q->key, r, now);
	tell_cache(q->hub);
}

static void finish(struct question *q, int stopped)
{
	struct hub *h = q->hub;
	struct dns *d = h->d;
	esp_nsec now = d->core.loop->clock();
	struct question **at = &h->bucket[q->bucket];
	struct waiter *w;

	while (*at != q)
		at = &(*at)->next;
	*at = q->next;
	h->outstanding--;
	d->metric->add(d->in_flight, -1);
	if (!stopped) {
		d->metric->add(d->queries[index_of(q->key.type)][result_of(q->reply)], 1);
		d->metric->observe(d->seconds, (double)(now - q->begun) / (double)ESP_SEC);
		if (q->reply)
			keep(q, now);
	}
	while ((w = q->waiters)) {
		q->waiters = w->next;
		w->question = NULL;
		w->reply = q->reply ? reply_ref(q->reply) : NULL;
		d->core.fiber->wake(w->ticket);
	}
	reply_unref(q->reply);
	free(q);
}

/* --- which server, and again ----------------------------------------------------------------------------- */

static void send_to_next(struct question *q)
{
	struct channel *c = channel_choose(q->hub, q);

	if (!c) {
		q->step = STEP_DONE;
		return;
	}
	q->asked |= channel_bit(c);
	q->step = STEP_WAIT;
	if (q->attempts++)
		q->hub->d->metric->add(q->hub->d->retries, 1);
	q->sending = 1;
	channel_ask(c, q);
	q->sending = 0;
}

static void pause_it(struct question *q)
{
	struct hub *h = q->hub;

	q->resume_at = h->d->core.loop->clock() + h->d->timeout / 4;
	q->paused = h->paused;
	h->paused = q;
	hub_watch_time(h);
}

static void go_on(struct question *q)
{
	while (q->step == STEP_SEND)
		send_to_next(q);
	if (q->step == STEP_PAUSE)
		pause_it(q);
	else if (q->step == STEP_DONE)
		finish(q, 0);
}

/* The next server of this round; else another round, if there is one, with those that kept silent. */
static void again(struct question *q, int quick)
{
	const struct hub *h = q->hub;
	uint32_t all = (1u << h->nchannels) - 1;

	q->quick |= quick;
	if ((q->asked | q->refused) != all) {
		q->step = STEP_SEND;
	} else if (++q->rounds >= h->d->tries || q->refused == all) {
		q->step = STEP_DONE;
	} else {
		q->step = q->quick ? STEP_PAUSE : STEP_SEND;
		q->asked = 0;
		q->quick = 0;
	}
}

static void keep_best(struct question *q, struct reply *r)
{
	reply_unref(q->reply);
	q->reply = r;
}

static void took_answer(struct question *q, struct reply *r)
{
	if (r && r->status == ESP_EAGAIN) {            /* the same server, without EDNS */
		reply_unref(r);
		q->asked &= ~channel_bit(q->channel);
		q->step = STEP_SEND;
		return;
	}
	keep_best(q, r);
	q->step = STEP_DONE;
	if (r && (r->status == ESP_EUNAVAIL || r->status == ESP_EPROTO)) {
		q->refused |= channel_bit(q->channel);
		again(q, 0);
	}
}

void question_answered(struct question *q, uint32_t outcome, struct reply *r)
{
	if (outcome == OUTCOME_STOPPED) {
		keep_best(q, reply_fail(ESP_EUNAVAIL, "DNS is being restarted"));
		finish(q, 1);
		return;
	}
	if (outcome == OUTCOME_ANSWER) {
		took_answer(q, r);
	} else {
		if (!q->reply)
			q->reply = reply_fail(ESP_EUNAVAIL, "no DNS server answers");
		again(q, outcome == OUTCOME_REFUSED);
	}
	if (!q->sending)
		go_on(q);
}

void questions_resume(struct hub *h, esp_nsec now)
{
	struct question *list = h->paused, *q;

	h->paused = NULL;
	while ((q = list)) {
		list = q->paused;
		if (now < q->resume_at) {
			q->paused = h->paused;
			h->paused = q;
			continue;
		}
		q->step = STEP_SEND;
		go_on(q);
	}
}

void questions_stop(struct hub *h)
{
	struct question *q;

	while ((q = h->paused)) {
		h->paused = q->paused;
		question_answered(q, OUTCOME_STOPPED, NULL);
	}
}

/* --- who waits ------------------------------------------------------------------------------------------- */

static struct question *in_flight(struct hub *h, const struct key *k, uint32_t bucket)
{
	struct question *q = h->bucket[bucket];

	while (q && (q->key.type != k->type || q->key.len != k->len || memcmp(q->key.name, k->name, k->len)))
		q = q->next;
	return q;
}

static void join(struct waiter *w, struct question *q)
{
	w->question = q;
	w->next = q->waiters;
	w->at = &q->waiters;
	if (w->next)
		w->next->at = &w->next;
	q->waiters = w;
}

static struct question *question_new(struct hub *h, const struct key *k, uint32_t bucket)
{
	struct question *q = calloc(1, sizeof *q);

	if (!q)
		return NULL;
	q->hub = h;
	q->key = *k;
	q->bucket = bucket;
	q->begun = h->d->core.loop->clock();
	q->step = STEP_SEND;
	q->next = h->bucket[bucket];
	h->bucket[bucket] = q;
	h->outstanding++;
	h->d->metric->add(h->d->in_flight, 1);
	return q;
}

static struct reply *turn_away(struct hub *h)
{
	struct dns *d = h->d;
	uint32_t times = seldom_due(&d->full, d->core.loop->clock());

	d->metric->add(d->turned_away, 1);
	if (times)
		esp_log(d->core.log, d->self, ESP_LOG_WARNING,
			"too many DNS questions in flight: see why the DNS server is slow, or "
			"raise outstanding",
			ESP_FINT("outstanding", d->outstanding), ESP_FINT("refused", times));
	return reply_fail(ESP_EBUSY, "too many DNS questions are in flight");
}

void waiter_begin(struct hub *h, struct waiter *w)
{
	struct dns *d = h->d;
	uint32_t flushed = atomic_load_explicit(&d->flushed, memory_order_relaxed), bucket;
	struct reply *known;
	struct question *q;

	if (h->flushed != flushed) {
		h->flushed = flushed;
		cache_clear(&h->cache);
		tell_cache(h);
	}
	known = cache_get(&h->cache, &w->key, d->core.loop->clock());
	if (known) {
		d->metric->add(d->hits, 1);
		w->cached = 1;
		w->reply = reply_ref(known);
		return;
	}
	bucket = (uint32_t)(key_hash(h->secret, &w->key) % BUCKETS);
	q = in_flight(h, &w->key, bucket);
	if (q) {
		d->metric->add(d->joined, 1);
		join(w, q);
		return;
	}
	if (h->outstanding >= d->outstanding) {
		w->reply = turn_away(h);
		return;
	}
	q = question_new(h, &w->key, bucket);
	if (!q)
		return;
	join(w, q);
	go_on(q);
}

static int waiting(struct waiter *w, uint32_t n, esp_ticket ticket)
{
	int some = 0;

	for (uint32_t i = 0; i < n; i++) {
		w[i].ticket = ticket;
		some |= w[i].question != NULL;
	}
	return some;
}

esp_status waiters_wait(struct hub *h, struct waiter *w, uint32_t n)
{
	const esp_core *core = &h->d->core;
	esp_nsec before = core->fiber->deadline(), most = core->loop->clock() + h->d->wait;
	int own = !before || most < before;
	esp_status st = ESP_OK;

	(void)core->fiber->set_deadline(own ? most : before);
	while (st == ESP_OK && waiting(w, n, core->fiber->ticket()))
		st = core->fiber->suspend();
	(void)core->fiber->set_deadline(before);
	if (st != ESP_ETIMEDOUT || !own)
		return st;
	for (uint32_t i = 0; i < n; i++) {
		if (w[i].question) {
			waiter_end(&w[i]);
			w[i].reply = reply_fail(ESP_EUNAVAIL, "no DNS server answers in time");
		}
	}
	return ESP_OK;
}

void waiter_end(struct waiter *w)
{
	if (w->question) {
		*w->at = w->next;
		if (w->next)
			w->next->at = w->at;
	}
	w->question = NULL;
	reply_unref(w->reply);
	w->reply = NULL;
}
