/* core/module/loops.c - see loops.h.
 *
 * The calls belong to a struct that outlives whoever waits: parts answer by message, and the last answer frees it when
 * the waiter gave up.
 */
#include "core/module/loops.h"

#include <stdlib.h>

#include "core/base/assert.h"
#include "core/base/clock.h"
#include "core/base/status.h"
#include "core/base/str.h"
#include "core/bus/log.h"
#include "core/loop/fiber.h"
#include "core/loop/loop.h"
#include "core/module/generation.h"
#include "core/module/modules-priv.h"
#include "core/module/snapshot.h"

enum { GRACE_S = 2 };
#define REMIND (30 * ESP_SEC)

struct part {
	struct mail_node node;
	struct call *call;
	struct worker *worker;
	int rc;
	esp_err err;
};

struct call {
	struct generation *g;
	struct owner *owner;
	struct snapshot *under;
	const char *name;
	loops_fn fn;
	esp_nsec deadline;
	esp_ticket waiter;
	bool abandoned, step;
	uint32_t nparts, pending;
	struct part parts[];
};

static void step_returned(struct generation *g)
{
	if (g->hangs)
		log_line(ESP_LOG_NOTICE, g->name, "has returned after all", log_cstr("step", g->step),
		         ESP_FNSEC("since", clock_monotonic() - g->step_since));
	g->step = NULL;
	g->hangs = false;
}

static void on_answer(struct mail_node *n)
{
	struct call *c = container_of(n, struct part, node)->call;

	if (--c->pending > 0)
		return;
	if (c->step)
		step_returned(c->g);
	if (c->abandoned)
		free(c);
	else
		fiber_wake(c->waiter);
}

static void run(struct part *p)
{
	struct call *c = p->call;
	struct breadcrumb was = breadcrumb_enter(c->owner ? c->g->name : NULL, c->name);

	p->rc = c->fn(c->g, p->worker, &p->err);
	breadcrumb_leave(was);
}

static void on_fiber(void *arg)
{
	struct part *p = arg;
	struct call *c = p->call;
	struct snapshot *was = NULL;

	(void)fiber_set_deadline(c->deadline);
	if (c->step && p->worker->kind == WORKER_CONTROL)
		snapshot_unpin(snapshot_enter(NULL));   /* what hangs must not keep the others' generations */
	if (c->under)
		was = snapshot_enter(snapshot_pin(c->under));
	run(p);
	exclusive_leave(fiber_self());
	if (c->under)
		snapshot_unpin(snapshot_enter(was));
	p->node.fn = on_answer;
	worker_send(loop_control(), &p->node);
}

static void on_loop(struct mail_node *n)
{
	struct part *p = container_of(n, struct part, node);
	struct call *c = p->call;

	if (fiber_spawn(c->owner, FIBER_RESERVED, c->name, on_fiber, p, NULL) == ESP_OK)
		return;
	if (c->owner && !c->step)
		p->rc = err_fail(&p->err, ESP_EBUSY, "no fiber is free");
	else
		run(p);   /* the core's own functions do not suspend, and an end must go on */
	p->node.fn = on_answer;
	worker_send(loop_control(), &p->node);
}

static bool chosen(const struct worker *w, unsigned which)
{
	return which & (w->kind == WORKER_MAIL ? LOOPS_MAIL : w->kind == WORKER_CONTROL ? LOOPS_CONTROL : LOOPS_OBSERVER);
}

static struct call *call_new(struct modules *m, unsigned which)
{
	struct call *c = calloc(1, sizeof *c + m->nloops * sizeof c->parts[0]);

	for (uint32_t i = 0; c && i < m->nloops; i++) {
		struct part *p = &c->parts[c->nparts];

		if (!chosen(m->here[i].worker, which))
			continue;
		*p = (struct part){ .node.fn = on_loop, .call = c, .worker = m->here[i].worker, .err = ESP_ERR_INIT };
		c->nparts++;
	}
	return c;
}

static void call_start(struct call *c)
{
	c->pending = c->nparts;
	for (uint32_t i = 0; i < c->nparts; i++)
		worker_send(c->parts[i].worker, &c->parts[i].node);
}

/* Waits for every answer, or until `deadline` (0: for ever).  Who looks at the log hears what is waited for. */
static void call_wait(struct call *c, esp_nsec deadline)
{
	esp_nsec before = fiber_set_deadline(0), begun = clock_monotonic(), told = begun;

	while (c->pending > 0) {
		esp_nsec now;
		int rc;

		c->waiter = fiber_ticket();
		rc = fiber_suspend_until(clock_earlier(deadline, told + REMIND));
		now = clock_monotonic();
		if (c->pending == 0 || rc == ESP_ECANCELED || (deadline && now >= deadline))
			break;
		if (now - told < REMIND)
			continue;
		told = now;
		log_line(ESP_LOG_WARNING, c->g ? c->g->name : "core/module", "takes long, and is waited for",
		         log_cstr("step", c->name), ESP_FNSEC("since", now - begun),
		         ESP_FNSEC("most", deadline ? deadline - begun : 0));
	}
	(void)fiber_set_deadline(before);
}

int loops_call(
	struct generation *g, unsigned which, struct snapshot *under, const char *name, loops_fn fn, esp_err *err)
{
	struct call *c = call_new(modules_self, which);
	int rc = ESP_OK;

	if (!c)
		return ESP_ENOMEM;
	c->g = g;
	c->owner = &g->core.owner;
	c->under = under;
	c->name = name;
	c->fn = fn;
	c->deadline = fiber_deadline();
	call_start(c);
	if (!c->deadline)
		fiber_shield(1);
	call_wait(c, c->deadline ? c->deadline + GRACE_S * ESP_SEC : 0);
	if (!c->deadline)
		fiber_shield(0);
	if (c->pending > 0) {
		c->abandoned = true;
		g->kept = true;
		return err_fail(err, ESP_ETIMEDOUT, "has not returned by the deadline; its image stays mapped");
	}
	for (uint32_t i = 0; i < c->nparts && rc == ESP_OK; i++) {
		rc = c->parts[i].rc;
		if (rc != ESP_OK && err)
			*err = c->parts[i].err;
	}
	free(c);
	return rc;
}

/* True: all answered.  Else the last answer frees it. */
static bool call_end(struct call *c, esp_nsec until)
{
	bool answered;

	fiber_shield(1);
	call_wait(c, until);
	fiber_shield(0);
	answered = c->pending == 0;
	if (answered)
		free(c);
	else
		c->abandoned = true;
	return answered;
}

bool loops_run(struct generation *g, unsigned which, const char *name, loops_fn fn, esp_nsec until)
{
	struct call *c = call_new(modules_self, which);

	if (!c)
		return false;
	c->g = g;
	c->name = name;
	c->fn = fn;
	call_start(c);
	return call_end(c, until);
}

bool loops_step(struct generation *g, unsigned which, const char *name, loops_fn fn, esp_nsec until)
{
	struct call *c = call_new(modules_self, which);

	if (!c)
		return false;
	c->g = g;
	c->owner = &g->core.owner;
	c->name = name;
	c->fn = fn;
	c->step = true;
	g->step = name;
	g->step_since = clock_monotonic();
	call_start(c);
	if (call_end(c, until))
		return true;
	g->hangs = true;
	log_line(ESP_LOG_WARNING, g->name, "does not return: stays mapped", ESP_FINT("generation", (int64_t)g->number),
	         log_cstr("step", name), ESP_FNSEC("since", clock_monotonic() - g->step_since));
	return false;
}

void loops_nap(esp_nsec length)
{
	if (fiber_sleep_until(clock_monotonic() + length) != ESP_OK)
		return;
}
