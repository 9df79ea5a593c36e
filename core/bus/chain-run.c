/* core/bus/chain-run.c - asking the hooks of a chain (see chain.h).
 *
 * Thread: a worker, in the fiber of the session or transaction.  No clock is read: time is the later one of the loop's
 * (fresh after a suspension) and the watchdog's (moves while this thread does not); one call in HOOK_SAMPLE is
 * measured. A hook that is still running at its deadline without suspending cannot be stopped, but its answer is not
 * taken, it is counted and named. Errors: none; what goes wrong with a hook becomes its failure policy, what goes wrong
 * with memory becomes DEFER.
 */
#include "core/base/assert.h"
#include "core/base/clock.h"
#include "core/bus/chain-priv.h"
#include "core/loop/fiber.h"
#include "core/loop/loop.h"
#include "core/loop/owner.h"

#include <string.h>

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

/* One call: what was answered, and why the policy had to. */
struct call {
	const struct hook_entry *e;
	esp_verdict verdict;      /* never FAIL after judge() */
	const char *why;          /* NULL: the hook's own answer */
	bool late;
	esp_nsec took;
	esp_answer answer;
};

/* Who asks. */
struct asking {
	const struct chain *c;
	const void *args;
	struct fiber *f;
	esp_nsec limit;           /* the deadline of who asks: 0 or what no hook may outlast */
	const char *was_module, *was_point;
};

struct group {
	const struct chain *c;
	const void *args;
	esp_arena *arena;
	esp_nsec deadline;        /* of the asking fiber; 0: none */
	uint32_t running;
	esp_ticket waiter;
	uint32_t n;
	struct member {
		struct call call;
		struct group *group;
		struct fiber *fiber;  /* NULL: ran in the asking fiber */
		bool done, canceled;
	} m[];
};

static const struct call fresh_call = { .answer = { .size = sizeof(esp_answer) } };
static const esp_outcome nothing_said = { .size = sizeof nothing_said, .answer = { .size = sizeof(esp_answer) } };

static inline esp_nsec time_of(const struct fiber *f)
{
	esp_nsec lazy = atomic_load_explicit(&loop_lazy_now, memory_order_relaxed);

	return f->worker->now > lazy ? f->worker->now : lazy;
}

/* The fiber's own breadcrumb and deadline are kept in two words each, set once per hook and put back at the end. */
static inline void asking_begin(struct asking *q, const struct chain *c, const void *args)
{
	q->c = c;
	q->args = args;
	q->f = fiber_self();
	ESP_ASSERT(q->f != NULL);
	q->limit = q->f->deadline;
	q->was_module = q->f->crumb.module;
	q->was_point = q->f->crumb.point;
	__atomic_store_n(&q->f->crumb.point, c->at->name, __ATOMIC_RELEASE);
}

static inline void asking_end(const struct asking *q)
{
	q->f->deadline = q->limit;
	__atomic_store_n(&q->f->crumb.module, q->was_module, __ATOMIC_RELEASE);
	__atomic_store_n(&q->f->crumb.point, q->was_point, __ATOMIC_RELEASE);
}

static void hook_failed(const struct chain *c, struct call *call)
{
	const struct hook_entry *e = call->e;

	metric_add(e->failed, 1);
	log_line(ESP_LOG_WARNING, e->instance, "hook could not answer", log_cstr("point", c->at->name),
	         log_cstr("why", call->why), log_cstr("policy", e->shadow ? "none: a shadow decides nothing"
	                                                                : verdict_name(e->hook.on_fail)));
	answer_for_failure(&call->answer, e->hook.on_fail, call->why);
	call->verdict = e->hook.on_fail;
}

/* Take the verdict as it is, or apply the failure policy. */
static void judge(const struct chain *c, struct call *call, bool late)
{
	const struct hook_entry *e = call->e;
	int i = verdict_index(call->verdict);

	call->late = late;
	if (late)
		call->why = "it took longer than its timeout";
	else if (call->verdict == ESP_VERDICT_FAIL)
		call->why = "it failed";
	else if (!(c->allowed & verdict_bit(call->verdict)))
		call->why = "its verdict is not allowed at this point";
	else
		call->why = answer_fault(&call->answer);
	metric_count_if(e->calls[call->why ? 6 : i]);
	if (late)
		metric_add(e->late, 1);
	if (call->why)
		hook_failed(c, call);
}

/* What is not the plain CONTINUE of nearly every call. */
static __attribute__((noinline)) void ask_slowly(const struct asking *q, struct call *call, esp_nsec deadline)
{
	/* the loop's time may lag behind the timer that cut a suspension short: look closely when the hook gave up */
	esp_nsec now = call->verdict == ESP_VERDICT_FAIL ? clock_monotonic() : time_of(q->f);

	q->f->deadline = q->limit;
	judge(q->c, call, now >= deadline);
}

static __attribute__((noinline)) void left_out(const struct asking *q, struct call *call)
{
	call->why = "the module was left out after crashes";
	hook_failed(q->c, call);
}

/* Ask one hook; its answer is in *call and still points into the hook's memory.  The fiber's deadline stays the hook's
 * until asking_end(). */
static inline void ask(const struct asking *q, struct call *call)
{
	const struct hook_entry *e = call->e;
	_Atomic uint64_t *cell = metric_cell(e->calls[0].v & METRIC_INDEX_MASK);
	uint64_t count = likely(cell != NULL) ? atomic_load_explicit(cell, memory_order_relaxed) : 0;
	esp_nsec began = time_of(q->f), deadline = clock_earlier(q->limit, began + e->hook.timeout), start = 0;

	if (unlikely(!e->module)) {
		left_out(q, call);
		return;
	}
	q->f->deadline = deadline;
	__atomic_store_n(&q->f->crumb.module, e->instance, __ATOMIC_RELEASE);
	if (unlikely(count % HOOK_SAMPLE == 0))
		start = clock_monotonic();
	call->verdict = e->hook.run.any(e->module, q->args, &call->answer);
	if (unlikely(start))
		metric_observe(e->seconds, (double)(clock_monotonic() - start) / 1e9);
	call->took = time_of(q->f) - began;
	if (likely(call->verdict == ESP_VERDICT_CONTINUE && began + call->took < deadline && answer_empty(&call->answer))) {
		call->why = NULL;
		if (likely(cell && e->calls[0].v))   /* read again: the hook may have suspended and others been counted */
			atomic_store_explicit(cell, atomic_load_explicit(cell, memory_order_relaxed) + 1, memory_order_relaxed);
		return;
	}
	ask_slowly(q, call, deadline);
}

/* What the trace says of the call; nearly always a plain CONTINUE. */
static void note(struct trace *t, const struct chain *c, const struct call *call, bool stopped)
{
	const struct hook_entry *e = call->e;
	struct trace_how how = { .point = c->point, .module = e->instance, .took = call->took,
		.flags = (e->shadow ? ESP_TRACE_SHADOW : 0) | (stopped ? ESP_TRACE_STOPPED : 0) };

	if (call->why && !stopped)
		how.flags |= ESP_TRACE_FAILED | (call->late ? ESP_TRACE_LATE : 0);
	if (stopped || (call->verdict == ESP_VERDICT_CONTINUE && !call->why && answer_empty(&call->answer)))
		trace_note(t, &how, ESP_VERDICT_CONTINUE, NULL);
	else
		trace_note(t, &how, call->verdict, &call->answer);
}

/* --- groups ------------------------------------------------------------------------------------------ */

/* Members keep their answers until all are there: copy what may go away with the hook's own memory. */
static esp_status keep_answer(esp_answer *a, esp_arena *arena)
{
	esp_outcome o = { .size = sizeof o };
	esp_str folder = a->folder;

	/* REJECT is stricter than nothing: all of the answer is taken over */
	if (outcome_merge(&o, ESP_VERDICT_REJECT, a, NULL, arena) != ESP_OK)
		return ESP_ENOMEM;
	o.answer.smtp_code = a->smtp_code;
	memcpy(o.answer.enhanced, a->enhanced, sizeof a->enhanced);
	if (folder.len && (o.answer.folder = esp_strdup_in(arena, folder)).ptr == NULL)
		return ESP_ENOMEM;
	*a = o.answer;
	a->size = sizeof *a;
	return ESP_OK;
}

/* A REJECT decides the group: who need not run is told to stop. */
static void stop_others(struct group *g, const struct member *by)
{
	for (uint32_t i = 0; i < g->n; i++) {
		struct member *m = &g->m[i];

		if (m == by || m->done || !m->fiber || (m->call.e->hook.flags & ESP_HOOK_MUST_RUN))
			continue;
		m->canceled = true;
		fiber_cancel(m->fiber);
	}
}

/* It answered, so its policy has no say: the verdict stands, and nothing passes because memory ran out. */
static void lose_answer(struct call *call)
{
	call->why = "no memory for its answer";
	if (call->verdict < ESP_VERDICT_DEFER)
		call->verdict = ESP_VERDICT_DEFER;
	answer_for_failure(&call->answer, call->verdict, call->why);
}

static void member_run(struct member *m)
{
	struct group *g = m->group;
	struct asking q;

	asking_begin(&q, g->c, g->args);
	ask(&q, &m->call);
	asking_end(&q);
	if (!m->call.why && keep_answer(&m->call.answer, g->arena) != ESP_OK)
		lose_answer(&m->call);
	m->done = true;
	if (m->call.verdict == ESP_VERDICT_REJECT && !m->call.e->shadow)
		stop_others(g, m);
}

static void on_member(void *arg)
{
	struct member *m = arg;
	struct group *g = m->group;

	fiber_set_deadline(g->deadline);
	member_run(m);
	if (--g->running == 0)
		fiber_wake(g->waiter);
}

/* Wait for the children; a cancel of the asking fiber is passed on, then everybody is joined all the same. */
static void group_wait(struct group *g)
{
	while (g->running) {
		g->waiter = fiber_ticket();
		if (fiber_suspend() == ESP_OK)
			continue;
		for (uint32_t i = 0; i < g->n; i++)
			if (g->m[i].fiber && !g->m[i].done && fiber_canceled())
				fiber_cancel(g->m[i].fiber);       /* its failure policy answers: nobody said REJECT */
		break;
	}
	for (uint32_t i = 0; i < g->n; i++)
		if (g->m[i].fiber)
			fiber_join(g->m[i].fiber);
}

static struct group *group_start(
	const struct chain *c, const struct step *s, bool ended, const void *args, esp_arena *arena)
{
	struct group *g = esp_alloc(arena, sizeof *g + s->n * sizeof g->m[0]);

	if (!g)
		return NULL;
	g->c = c;
	g->args = args;
	g->arena = arena;
	g->deadline = fiber_deadline();
	for (uint32_t i = s->first; i < s->first + s->n; i++) {
		struct member *m = &g->m[g->n];

		if (ended && !(c->entries[i].hook.flags & ESP_HOOK_MUST_RUN))
			continue;
		m->group = g;
		m->call.e = &c->entries[i];
		m->call.answer.size = sizeof m->call.answer;
		g->n++;
	}
	return g;
}

/* Returns the strictest verdict of the group. */
static esp_status run_group(const struct chain *c, const struct step *s, bool ended, const void *args, esp_arena *arena,
                            struct trace *t, esp_outcome *o, esp_verdict *ret)
{
	struct group *g = group_start(c, s, ended, args, arena);
	esp_status st = ESP_OK;

	*ret = ESP_VERDICT_CONTINUE;
	if (!g)
		return ESP_ENOMEM;
	for (uint32_t i = 0; i < g->n && g->n > 1; i++)
		if (fiber_spawn(owner_of(g->m[i].call.e->module), ESP_FIBER_JOINABLE | FIBER_RESERVED, g->m[i].call.e->instance,
		                on_member, &g->m[i], &g->m[i].fiber) == ESP_OK)
			g->running++;
	for (uint32_t i = 0; i < g->n; i++)
		if (!g->m[i].fiber && !g->m[i].canceled)   /* alone, or the cap of fibers left none for it */
			member_run(&g->m[i]);
	group_wait(g);
	for (uint32_t i = 0; i < g->n && st == ESP_OK; i++) {
		const struct member *m = &g->m[i];
		bool stopped = m->canceled && m->call.why;

		if (t)
			note(t, c, &m->call, stopped);
		if (m->call.e->shadow || stopped)
			continue;
		if (m->call.verdict > *ret)
			*ret = m->call.verdict;
		st = outcome_merge(o, m->call.verdict, &m->call.answer, m->call.e->instance, arena);
	}
	return st;
}

/* --- the chain --------------------------------------------------------------------------------------- */

/* Nothing may pass because memory ran out: try later. */
static void no_memory(esp_outcome *o)
{
	esp_answer failed;

	if (o->verdict >= ESP_VERDICT_DEFER)
		return;
	o->verdict = ESP_VERDICT_DEFER;
	o->by = "core";
	answer_for_failure(&failed, ESP_VERDICT_DEFER, "no memory for what the hooks said");
	o->answer.smtp_code = 0;
	memcpy(o->answer.enhanced, failed.enhanced, sizeof o->answer.enhanced);
	o->answer.text = failed.text;
	o->answer.folder = (esp_str){ NULL, 0 };
	o->answer.reason = failed.reason;
}

void chain_run(const struct chain *c, const void *args, esp_arena *arena, struct trace *trace, esp_outcome *ret)
{
	struct call call __attribute__((uninitialized));   /* set below: zeroing it twice would cost as much as a hook */
	struct asking q __attribute__((uninitialized));
	bool ended = false;

	MAGIC_CHECK(c, CHAIN_MAGIC);
	memcpy(ret, &nothing_said, sizeof *ret);
	if (c->n == 0)
		return;
	memcpy(&call, &fresh_call, sizeof call);
	asking_begin(&q, c, args);
	for (const struct step *s = c->steps; s < c->steps + c->nsteps; s++) {
		esp_verdict v = ESP_VERDICT_CONTINUE;
		esp_status st = ESP_OK;

		if (s->n > 1) {
			q.f->deadline = q.limit;
			st = run_group(c, s, ended, args, arena, trace, ret, &v);
		} else if (!ended || (c->entries[s->first].hook.flags & ESP_HOOK_MUST_RUN)) {
			call.e = &c->entries[s->first];
			ask(&q, &call);
			if (trace)
				note(trace, c, &call, false);
			if (likely(call.verdict == ESP_VERDICT_CONTINUE && answer_empty(&call.answer)))
				continue;
			if (!call.e->shadow) {
				v = call.verdict;
				st = outcome_merge(ret, v, &call.answer, call.e->instance, arena);
			}
			memcpy(&call, &fresh_call, sizeof call);
		}
		if (unlikely(st != ESP_OK))
			no_memory(ret);
		ended |= verdict_ends(v) || st != ESP_OK;
	}
	asking_end(&q);
}

/* --- esp.hook/1 -------------------------------------------------------------------------------------- */

static const struct chain *(*chain_now)(esp_point p);

void hook_set_source(const struct chain *(*source)(esp_point p))
{
	chain_now = source;
}

void hook_run(esp_point point, const void *args, esp_arena *arena, struct trace *trace, esp_outcome *ret)
{
	const struct chain *c = chain_now ? chain_now(point) : NULL;

	if (c) {
		chain_run(c, args, arena, trace, ret);
		return;
	}
	*ret = nothing_said;
}

static void api_run(esp_point point, const void *args, esp_arena *arena, esp_outcome *ret)
{
	hook_run(point, args, arena, NULL, ret);
}

static const char *api_point_name(esp_point point)
{
	return point_of(point) ? point_of(point)->name : "unknown";
}

const esp_hook_api hook_api = {
	.size = sizeof(esp_hook_api),
	.add = hooks_add,
	.run = api_run,
	.point_name = api_point_name,
	.verdict_name = verdict_name,
};
