/* core/bus/event-deliver.c - subscribers, their queues and their fibers on the observer (see event.h).
 *
 * A subscriber is a slot with a bounded queue; who puts the first event on it posts to the observer, where a fiber of
 * the subscriber's generation takes batches until the queue is empty and ends: waiting holds no fiber.  A slot's queue
 * is never freed while anybody may publish, so a publisher that was interrupted between reading `interest` and
 * putting does no harm: what arrives after a subscriber went is thrown away.
 *
 * `subs.lock` orders control and the observer; publishers never take it.
 */
#include "core/base/assert.h"
#include "core/base/clock.h"
#include "core/base/status.h"
#include "core/bus/event-priv.h"
#include "core/bus/line.h"
#include "core/bus/log.h"
#include "core/bus/metric.h"
#include "core/bus/fifo.h"
#include "core/loop/fiber.h"
#include "core/loop/owner.h"
#include "core/loop/worker.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define LINGER (2 * ESP_MSEC)   /* how long an idle subscriber's fiber waits for more */

enum slot_state {
	SLOT_FREE,        /* what its queue holds is thrown away */
	SLOT_WAITING,     /* subscribed, its generation is not active yet */
	SLOT_ACTIVE,
	SLOT_ENDING,      /* no new events; what is queued is delivered */
	SLOT_CLOSING      /* what is queued is thrown away; a running batch ends */
};

struct slot {
	enum slot_state state;                      /* lock */
	esp_module *self;                           /* lock */
	void (*on_events)(esp_module *self, const esp_event *const *events, uint32_t n);
	char pattern[72], name[64];
	_Atomic uint32_t overflow;
	_Atomic uint64_t wants[EVENT_MAX / 64];     /* by id - 1; written under lock */
	_Atomic(struct fifo *) queue;
	_Atomic bool woken;                         /* a fiber takes from the queue, or will */
	struct mail_node node;                      /* the observer's mailbox while woken */
	struct fiber *fiber;                        /* the observer's own; NULL when it does not run */
	_Atomic uint64_t dropped;
	uint64_t told;
	_Atomic uint32_t metric;
};

static struct {
	pthread_mutex_t lock;
	_Atomic(struct worker *) observer;
	struct slot slots[EVENT_SUBSCRIBERS_MAX];
} subs = { .lock = PTHREAD_MUTEX_INITIALIZER };

/* --- interest ---------------------------------------------------------------------------------------- */

static uint64_t bit_of(const struct slot *s)
{
	return (uint64_t)1 << (s - subs.slots);
}

static bool wants(const struct slot *s, uint32_t id)
{
	return atomic_load_explicit(&s->wants[(id - 1) / 64], memory_order_relaxed) >> ((id - 1) % 64) & 1;
}

static void match(struct slot *s, uint32_t id, const char *name)
{
	if (event_matches(s->pattern, name))
		atomic_fetch_or_explicit(&s->wants[(id - 1) / 64], (uint64_t)1 << ((id - 1) % 64), memory_order_relaxed);
}

void event_subscribers_match(uint32_t id, const char *name)
{
	uint64_t interest = 0;

	pthread_mutex_lock(&subs.lock);
	for (struct slot *s = subs.slots; s < subs.slots + EVENT_SUBSCRIBERS_MAX; s++) {
		if (s->state == SLOT_FREE)
			continue;
		match(s, id, name);
		if (s->state == SLOT_ACTIVE && wants(s, id))
			interest |= bit_of(s);
	}
	atomic_store_explicit(&event_interest[id - 1], interest, memory_order_release);
	pthread_mutex_unlock(&subs.lock);
}

/* One store per event, so that a publisher sees either the subscribers before or those after. */
static void interest_rebuild(void)
{
	uint32_t n = event_types();

	for (uint32_t id = 1; id <= n; id++) {
		uint64_t interest = 0;

		for (const struct slot *s = subs.slots; s < subs.slots + EVENT_SUBSCRIBERS_MAX; s++)
			if (s->state == SLOT_ACTIVE && wants(s, id))
				interest |= bit_of(s);
		atomic_store_explicit(&event_interest[id - 1], interest, memory_order_release);
	}
}

/* --- subscribing ------------------------------------------------------------------------------------- */

/* A free place: best one whose queue has the depth already, then one without a queue, then any whose queue is deep
 * enough. */
static struct slot *slot_find(uint32_t depth)
{
	struct slot *bare = NULL, *deeper = NULL;

	for (struct slot *s = subs.slots; s < subs.slots + EVENT_SUBSCRIBERS_MAX; s++) {
		struct fifo *q = atomic_load(&s->queue);

		if (s->state != SLOT_FREE || atomic_load(&s->woken))
			continue;
		if (!q)
			bare = bare ? bare : s;
		else if (fifo_depth(q) >= depth && fifo_depth(q) < 2 * (uint64_t)depth)
			return s;
		else if (fifo_depth(q) >= depth)
			deeper = s;
	}
	if (bare)
		atomic_store(&bare->queue, fifo_new(depth));
	return bare && atomic_load(&bare->queue) ? bare : deeper;
}

static void slot_count(struct slot *s)
{
	char labels[128];
	struct line l = line_on(labels, sizeof labels - 1);
	esp_metric m = { 0 };

	line_puts(&l, "subscriber=\"");
	line_key(&l, s->name);
	line_puts(&l, "\"");
	labels[l.len] = '\0';
	if (metric_declare(ESP_COUNTER, "esp_event_dropped_total", labels, "Events a subscriber was too slow to take.",
			NULL, 0, &m) == ESP_OK)
		atomic_store(&s->metric, m.v);
}

esp_status event_subscribe(esp_module *self, const esp_subscription *sub)
{
	struct slot *s;
	uint32_t n;

	if (!sub || !ESP_HAS(sub, on_events) || !sub->on_events || !event_pattern_ok(sub->pattern) ||
		sub->overflow > ESP_DROP_OLDEST)
		return err_refuse(ESP_EINVAL, "the subscription of %s is not valid: it needs size, a pattern and on_events",
			sub && sub->pattern ? sub->pattern : "nothing");
	pthread_mutex_lock(&subs.lock);
	s = slot_find(sub->depth ? sub->depth : EVENT_DEPTH_DEFAULT);
	if (!s) {
		pthread_mutex_unlock(&subs.lock);
		return ESP_EBUSY;
	}
	s->state = SLOT_WAITING;
	s->self = self;
	s->on_events = sub->on_events;
	atomic_store(&s->overflow, sub->overflow ? sub->overflow : ESP_DROP_NEWEST);
	for (size_t i = 0; i < ARRAY_LEN(s->wants); i++)
		atomic_store_explicit(&s->wants[i], 0, memory_order_relaxed);
	memcpy(s->pattern, sub->pattern, strlen(sub->pattern) + 1);
	strncpy(s->name, self ? self->name : "core", sizeof s->name - 1);
	s->told = atomic_load(&s->dropped);
	slot_count(s);
	n = event_types();
	for (uint32_t id = 1; id <= n; id++)
		match(s, id, event_type_of((esp_event_id){ id })->name);
	pthread_mutex_unlock(&subs.lock);
	return ESP_OK;
}

static void set_state(const esp_module *self, enum slot_state from, enum slot_state to)
{
	for (struct slot *s = subs.slots; s < subs.slots + EVENT_SUBSCRIBERS_MAX; s++)
		if (s->state == from && s->self == self)
			s->state = to;
}

void event_switch(esp_module *const *out, uint32_t nout, esp_module *const *in, uint32_t nin)
{
	pthread_mutex_lock(&subs.lock);
	for (uint32_t i = 0; i < nout; i++)
		set_state(out[i], SLOT_ACTIVE, SLOT_ENDING);
	for (uint32_t i = 0; i < nin; i++)
		set_state(in[i], SLOT_WAITING, SLOT_ACTIVE);
	interest_rebuild();
	pthread_mutex_unlock(&subs.lock);
}

/* --- queueing and delivering ------------------------------------------------------------------------- */

static void on_wake(struct mail_node *n);

static void wake(struct slot *s)
{
	struct worker *observer = atomic_load_explicit(&subs.observer, memory_order_acquire);

	if (!observer || atomic_exchange_explicit(&s->woken, true, memory_order_acq_rel))
		return;
	s->node.fn = on_wake;
	worker_send(observer, &s->node);
}

static void drop(struct slot *s)
{
	esp_metric m = { atomic_load_explicit(&s->metric, memory_order_relaxed) };

	atomic_fetch_add_explicit(&s->dropped, 1, memory_order_relaxed);
	metric_add(m, 1);
}

static void queue_on(struct slot *s, struct event_block *b)
{
	struct fifo *q = atomic_load_explicit(&s->queue, memory_order_acquire);
	bool put = fifo_put(q, b);

	for (int i = 0; !put && i < 4 && atomic_load_explicit(&s->overflow, memory_order_relaxed) == ESP_DROP_OLDEST; i++) {
		struct event_block *oldest = fifo_take(q);

		if (oldest) {
			event_block_unref(oldest);
			drop(s);
		}
		put = fifo_put(q, b);
	}
	if (!put) {
		event_block_unref(b);
		drop(s);
	}
	wake(s);
}

void event_queue(struct event_block *b, uint64_t interest)
{
	/* all references first: a subscriber may be done with it before the next one has it */
	atomic_fetch_add_explicit(&b->refs, (uint32_t)__builtin_popcountll(interest), memory_order_relaxed);
	for (; interest; interest &= interest - 1)
		queue_on(&subs.slots[__builtin_ctzll(interest)], b);
	event_block_unref(b);
}

static enum slot_state state_of(struct slot *s)
{
	enum slot_state state;

	pthread_mutex_lock(&subs.lock);
	state = s->state;
	pthread_mutex_unlock(&subs.lock);
	return state;
}

/* Up to EVENT_BATCH_MAX blocks; those that a slot's former subscriber left are thrown away. */
static uint32_t take_batch(struct slot *s, const esp_event **events, bool keep)
{
	struct fifo *q = atomic_load(&s->queue);
	struct event_block *b;
	uint32_t n = 0;

	while (n < EVENT_BATCH_MAX && (b = fifo_take(q)) != NULL) {
		if (keep && wants(s, b->id))
			events[n++] = &b->event;
		else
			event_block_unref(b);
	}
	return n;
}

static void deliver_batch(struct slot *s, const esp_event **events, uint32_t n)
{
	s->on_events(s->self, events, n);
	for (uint32_t i = 0; i < n; i++)
		event_block_unref(
			(struct event_block *)(uintptr_t)((const char *)events[i] - offsetof(struct event_block, event)));
}

/* [observer] The subscriber's fiber. */
static void on_deliver(void *arg)
{
	const esp_event *events[EVENT_BATCH_MAX];
	struct slot *s = arg;
	bool lingered = false;

	for (;;) {
		enum slot_state state = state_of(s);
		uint32_t n = take_batch(s, events, state == SLOT_ACTIVE || state == SLOT_ENDING);

		if (n) {
			deliver_batch(s, events, n);
			(void)!fiber_yield();   /* cancelled or not, the state says what becomes of the rest */
			lingered = false;
			continue;
		}
		s->fiber = NULL;
		/* Who publishes often finds us awake: a wake costs more than an event. */
		if (!lingered) {
			lingered = true;
			(void)!fiber_sleep_until(clock_monotonic() + LINGER);
			continue;
		}
		/* Who puts after this exchange wakes us anew; who put before it is seen by the look that follows. */
		atomic_exchange_explicit(&s->woken, false, memory_order_acq_rel);
		if (fifo_empty(atomic_load(&s->queue)) || atomic_exchange_explicit(&s->woken, true, memory_order_acq_rel))
			return;
		s->fiber = fiber_self();
	}
}

/* [observer] Something was put on an idle subscriber's queue. */
static void on_wake(struct mail_node *n)
{
	struct slot *s = container_of(n, struct slot, node);
	const esp_event *none[EVENT_BATCH_MAX];
	enum slot_state state;
	esp_module *self;

	pthread_mutex_lock(&subs.lock);
	state = s->state;
	self = s->self;
	pthread_mutex_unlock(&subs.lock);
	if (state == SLOT_FREE) {   /* nobody's any more: no code of a module may run for it */
		while (take_batch(s, none, false))
			;
		atomic_store(&s->woken, false);
	} else if (fiber_spawn(owner_of(self), FIBER_RESERVED, s->name, on_deliver, s, &s->fiber) != ESP_OK) {
		s->fiber = NULL;
		atomic_store(&s->woken, false);   /* event_tick() or the next event tries again */
	}
}

/* --- ends -------------------------------------------------------------------------------------------- */

static bool idle(struct slot *s)
{
	struct fifo *q = atomic_load(&s->queue);

	return !atomic_load(&s->woken) && (!q || fifo_empty(q));
}

/* [observer] The deadline passed: the batch that runs is told to end. */
static void on_close(void *arg)
{
	struct slot *s = arg;

	if (s->fiber)
		fiber_cancel(s->fiber);
}

static bool all_idle(const esp_module *self, bool every)
{
	for (struct slot *s = subs.slots; s < subs.slots + EVENT_SUBSCRIBERS_MAX; s++) {
		bool busy;

		pthread_mutex_lock(&subs.lock);
		busy = (s->state == SLOT_ENDING || s->state == SLOT_CLOSING) && (every || s->self == self);
		pthread_mutex_unlock(&subs.lock);
		if (busy && !idle(s)) {
			wake(s);
			return false;
		}
	}
	return true;
}

/* Stop cannot be cut short by a cancel of the asking fiber: a running batch is code of the module. */
static bool wait_idle(const esp_module *self, bool every, esp_nsec deadline)
{
	bool done;

	if (!atomic_load(&subs.observer))
		return true;   /* nobody delivers: nothing runs */
	fiber_shield(1);
	while (!(done = all_idle(self, every)) && (deadline == 0 || clock_monotonic() < deadline))
		if (fiber_sleep_until(clock_monotonic() + ESP_MSEC) != ESP_OK)
			break;
	fiber_shield(0);
	return done;
}

static void close_slots(const esp_module *self, bool every)
{
	struct worker *observer = atomic_load(&subs.observer);

	pthread_mutex_lock(&subs.lock);
	for (struct slot *s = subs.slots; s < subs.slots + EVENT_SUBSCRIBERS_MAX; s++) {
		if (s->state != SLOT_ENDING || (!every && s->self != self))
			continue;
		s->state = SLOT_CLOSING;
		if (observer && atomic_load(&s->woken) && worker_post(observer, NULL, on_close, s) != ESP_OK)
			log_line(ESP_LOG_WARNING, "core/bus", "cannot cancel a subscriber", log_cstr("subscriber", s->name));
	}
	pthread_mutex_unlock(&subs.lock);
}

static void end_slots(const esp_module *self, bool every)
{
	pthread_mutex_lock(&subs.lock);
	for (struct slot *s = subs.slots; s < subs.slots + EVENT_SUBSCRIBERS_MAX; s++)
		if (s->state != SLOT_FREE && (every || s->self == self))
			s->state = SLOT_ENDING;
	interest_rebuild();
	pthread_mutex_unlock(&subs.lock);
}

static void free_slots(const esp_module *self, bool every)
{
	pthread_mutex_lock(&subs.lock);
	for (struct slot *s = subs.slots; s < subs.slots + EVENT_SUBSCRIBERS_MAX; s++)
		if (s->state != SLOT_FREE && (every || s->self == self)) {
			s->state = SLOT_FREE;
			s->self = NULL;
		}
	pthread_mutex_unlock(&subs.lock);
}

static void drain(const esp_module *self, bool every, esp_nsec deadline)
{
	end_slots(self, every);
	if (!wait_idle(self, every, deadline)) {
		close_slots(self, every);
		/* only the batch that runs is left; it was cancelled, and no code of the module may be unmapped under it */
		if (!wait_idle(self, every, 0))
			ESP_PANIC("the wait for subscribers was cut short");
	}
	free_slots(self, every);
}

void event_forget(esp_module *self, esp_nsec deadline)
{
	bool any = false;

	pthread_mutex_lock(&subs.lock);
	for (const struct slot *s = subs.slots; s < subs.slots + EVENT_SUBSCRIBERS_MAX; s++)
		any |= s->state != SLOT_FREE && s->self == self;
	pthread_mutex_unlock(&subs.lock);
	if (any)
		drain(self, false, deadline ? deadline : 1);
}

esp_status event_start(struct worker *observer)
{
	atomic_store_explicit(&subs.observer, observer, memory_order_release);
	event_tick();   /* what waited is delivered now */
	return ESP_OK;
}

void event_stop(esp_nsec deadline)
{
	drain(NULL, true, deadline ? deadline : 1);
	atomic_store(&subs.observer, NULL);
}

void event_free(void)
{
	const esp_event *none[EVENT_BATCH_MAX];

	free_slots(NULL, true);
	event_types_free();
	for (struct slot *s = subs.slots; s < subs.slots + EVENT_SUBSCRIBERS_MAX; s++) {
		struct fifo *q = atomic_load(&s->queue);

		while (q && take_batch(s, none, false))
			;
		while (q && !fifo_empty(q))
			event_block_unref(fifo_take(q));
		fifo_free(q);
		memset(s, 0, sizeof *s);
	}
	atomic_store(&subs.observer, NULL);
}

void event_tick(void)
{
	for (struct slot *s = subs.slots; s < subs.slots + EVENT_SUBSCRIBERS_MAX; s++) {
		uint64_t dropped = atomic_load(&s->dropped), news;
		struct fifo *q = atomic_load(&s->queue);
		char name[sizeof s->name];

		pthread_mutex_lock(&subs.lock);
		news = dropped - s->told;
		s->told = dropped;
		memcpy(name, s->name, sizeof name);
		pthread_mutex_unlock(&subs.lock);
		if (news)
			log_line(ESP_LOG_WARNING, "core/bus", "events were dropped: their subscriber is too slow",
			         log_cstr("subscriber", name), ESP_FINT("count", (int64_t)news));
		if (q && !fifo_empty(q))
			wake(s);
	}
}

/* --- events as log lines ----------------------------------------------------------------------------- */

enum { LOG_DEPTH = 16384 };

static void on_log(esp_module *self, const esp_event *const *events, uint32_t n)
{
	(void)self;
	for (uint32_t i = 0; i < n; i++)
		log_write_sized(ESP_LOG_INFO, events[i]->source, events[i]->name, events[i]->fields, events[i]->nfields,
		                events[i]->field_size);
}

esp_status event_log(const char *pattern)
{
	const esp_subscription s = { .size = sizeof s, .depth = LOG_DEPTH, .pattern = pattern, .on_events = on_log };
	esp_module *core = NULL;
	esp_status st = event_subscribe(NULL, &s);

	if (st == ESP_OK)
		event_switch(NULL, 0, &core, 1);
	return st;
}
