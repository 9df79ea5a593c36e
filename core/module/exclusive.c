/* core/module/exclusive.c - the gate in front of exclusive providers; see exclusive.h. */
#include "core/module/exclusive.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/assert.h"
#include "core/loop/loop.h"
#include "core/module/loops.h"
#include "core/module/modules-priv.h"

struct gate_wait { struct list link; esp_ticket ticket; };

void exclusive_init(struct exclusive *x, struct modules *m)
{
	memset(x, 0, sizeof *x);
	for (uint32_t i = 0; i < m->nloops; i++)
		list_init(&m->here[i].exclusive.waiting);
}

void exclusive_set(struct exclusive *x, const struct generation *g, bool in_force)
{
	for (uint32_t i = 0; i < g->registered.nservices; i++) {
		const struct offered *o = &g->registered.services[i];
		const esp_service *mine = o->table;

		if (in_force)
			atomic_store(&x->table[o->service], mine);
		else   /* unless another generation took its place */
			(void)atomic_compare_exchange_strong(&x->table[o->service], &mine, NULL);
	}
}

/* ---- any loop ------------------------------------------------------------------------------------------- */

static uintptr_t holds_of(const struct fiber *f)
{
	return (uintptr_t)f->snapshot & HOLD_MASK;
}

/* The exclusive generation a fiber belongs to, or NULL. */
static const struct generation *own_of(const struct fiber *f)
{
	const struct generation *g =
		f->owner ? generation_of(&container_of(f->owner, struct module_core, owner)->pub) : NULL;

	return g && g->image && g->image->desc.flags & ESP_MODULE_EXCLUSIVE ? g : NULL;
}

/* What is being stopped finishes through those it needs, which are stopped after it or stay. */
static bool is_leaving(const struct generation *g)
{
	return g && atomic_load_explicit(&g->state, memory_order_acquire) >= GEN_DRAINING;
}

static bool starts_modules(void)
{
	const struct snapshot *s = snapshot_now();

	return s && atomic_load_explicit(&s->building, memory_order_relaxed);
}

static void on_answer(struct mail_node *n);

static void answer(struct exclusive_here *h)
{
	struct gate_order *o = h->asked;

	h->asked = NULL;
	o->node.fn = on_answer;
	worker_send(loop_control(), &o->node);
}

static uint64_t inside(const struct exclusive_here *h)
{
	return h->gate == GATE_OPEN ? 0 : h->gate == GATE_OWN ? h->ordinary : h->ordinary + h->own;
}

static void answer_when_empty(struct exclusive_here *h)
{
	if (h->asked && inside(h) == 0)
		answer(h);
}

uintptr_t exclusive_inherit(uintptr_t holds)
{
	struct exclusive_here *h = &module_here()->exclusive;

	if (holds & HOLD_ORDINARY)
		h->ordinary++;
	if (holds & HOLD_OWN)
		h->own++;
	return holds & HOLD_MASK;
}

void exclusive_drop(uintptr_t holds)
{
	struct exclusive_here *h = &module_here()->exclusive;

	if (holds & HOLD_ORDINARY) {
		ESP_ASSERT(h->ordinary > 0);
		h->ordinary--;
	}
	if (holds & HOLD_OWN) {
		ESP_ASSERT(h->own > 0);
		h->own--;
	}
	answer_when_empty(h);
}

void exclusive_leave(struct fiber *f)
{
	uintptr_t holds = holds_of(f);

	if (!holds)
		return;
	f->snapshot = (void *)((uintptr_t)f->snapshot & ~(uintptr_t)HOLD_MASK);
	exclusive_drop(holds);
}

static bool may_enter(const struct exclusive_here *h, const struct generation *own)
{
	return h->gate == GATE_OPEN || (h->gate == GATE_OWN && own) || is_leaving(own) || starts_modules();
}

/* The list keeps the order of arrival; all are woken when the gate moves and look again. */
static int wait_at_gate(struct exclusive_here *h)
{
	struct gate_wait w = { .ticket = fiber_ticket() };
	esp_status rc;

	list_append(&h->waiting, &w.link);
	rc = fiber_suspend();
	list_remove(&w.link);
	return rc;
}

const esp_service *exclusive_service(struct exclusive *x, uint32_t number)
{
	struct exclusive_here *h = &module_here()->exclusive;
	struct fiber *f = fiber_self();
	const struct generation *own = own_of(f);

	while (!holds_of(f) && !may_enter(h, own))
		if (wait_at_gate(h) != ESP_OK)
			return NULL;
	if (!holds_of(f))
		f->snapshot = (void *)((uintptr_t)f->snapshot | exclusive_inherit(own ? HOLD_OWN : HOLD_ORDINARY));
	return atomic_load_explicit(&x->table[number], memory_order_acquire);
}

static void on_order(struct mail_node *n)
{
	struct gate_order *o = container_of(n, struct gate_order, node);
	struct exclusive_here *h = o->to;

	if (h->asked)
		answer(h);
	h->gate = o->gate;
	h->asked = o;
	list_for(w, &h->waiting)
		fiber_wake(list_entry(w, struct gate_wait, link)->ticket);
	answer_when_empty(h);
}

/* ---- control -------------------------------------------------------------------------------------------- */

static void on_answer(struct mail_node *n)
{
	struct gate_order *o = container_of(n, struct gate_order, node);
	struct exclusive *x = o->x;

	if (o->round == x->round && --x->unanswered == 0)
		fiber_wake(x->waiter);
	free(o);
}

static int give_orders(struct modules *m, enum gate gate)
{
	struct gate_order *orders[LOOPS_MAX];

	for (uint32_t i = 0; i < m->nloops; i++) {
		orders[i] = calloc(1, sizeof **orders);
		if (!orders[i]) {
			while (i > 0)
				free(orders[--i]);
			return ESP_ENOMEM;
		}
	}
	m->exclusive.round++;
	m->exclusive.unanswered = m->nloops;
	for (uint32_t i = 0; i < m->nloops; i++) {
		*orders[i] = (struct gate_order){ .node.fn = on_order, .x = &m->exclusive, .to = &m->here[i].exclusive,
		                                  .gate = gate, .round = m->exclusive.round };
		worker_send(m->here[i].worker, &orders[i]->node);
	}
	return ESP_OK;
}

static int wait_for_answers(struct exclusive *x)
{
	int rc = ESP_OK;

	while (rc == ESP_OK && x->unanswered > 0) {
		x->waiter = fiber_ticket();
		rc = fiber_suspend();
	}
	return rc;
}

int exclusive_gate(struct modules *m, enum gate gate, esp_nsec deadline)
{
	esp_nsec before = fiber_set_deadline(deadline);
	int rc = give_orders(m, gate);

	if (rc == ESP_OK)
		rc = wait_for_answers(&m->exclusive);
	(void)fiber_set_deadline(before);
	return rc;
}

/* Without memory for the order the gate would stay shut for ever: try until there is some. */
void exclusive_open(struct modules *m)
{
	fiber_shield(1);
	while (give_orders(m, GATE_OPEN) != ESP_OK)
		loops_nap(10 * ESP_MSEC);
	if (wait_for_answers(&m->exclusive) != ESP_OK)
		ESP_PANIC("a shielded wait was cut short");
	fiber_shield(0);
}
