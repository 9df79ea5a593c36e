/* core/loop/worker.c - one libev loop, its thread and its turn (see worker.h). */
#include "core/base/assert.h"
#include "core/base/clock.h"
#include "core/loop/fiber-switch.h"
#include "core/loop/loop.h"
#include "core/loop/stack.h"
#include "core/loop/worker-ev.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define ALTSTACK ((size_t)64 << 10)
#define MAIL_BUDGET 1024 /* posts per wake-up */
#define SPAWN_RETRY (5 * ESP_MSEC)

_Thread_local struct worker *worker_self;
_Thread_local struct breadcrumb *breadcrumb_here;

/* A post_fiber that found the cap reached waits here. */
struct pending_spawn { struct list link; struct mail_post post; };

static void spawn_posted(struct worker *w, const struct mail_post *p)
{
	struct pending_spawn *s;

	if (fiber_spawn(p->owner, FIBER_RESERVED, p->fiber_name, p->fn, p->arg, NULL) == ESP_OK) {
		owner_drop(p->owner, OWNER_POST);
		free((void *)(uintptr_t)p->fiber_name);
		return;
	}
	s = malloc(sizeof(*s));
	if (!s)
		ESP_PANIC("no memory to keep a posted fiber '%s'", p->fiber_name);
	s->post = *p;
	s->link = (struct list){ NULL, NULL };
	list_append(&w->pending_spawns, &s->link);
}

static void on_retry(struct timer *t)
{
	(void)t; /* the turn it makes is what counts */
}

static void retry_spawns(struct worker *w)
{
	struct list again;

	if (list_empty(&w->pending_spawns))
		return;
	list_init(&again);
	list_splice(&again, &w->pending_spawns);
	for (struct list *node; (node = list_pop(&again));) {
		struct pending_spawn *s = list_entry(node, struct pending_spawn, link);
		struct mail_post post = s->post;

		free(s);
		spawn_posted(w, &post);
		if (!list_empty(&w->pending_spawns)) /* still full: keep the order */
			list_splice(&w->pending_spawns, &again);
	}
	if (!list_empty(&w->pending_spawns) && !timer_active(&w->ev->retry) &&
	    timer_start(&w->ev->retry, NULL, "retry spawn", SPAWN_RETRY, on_retry) != ESP_OK)
		worker_kick(w);
}

static void run_post(struct worker *w, const struct mail_post *p)
{
	struct breadcrumb was;

	if (p->fiber_name) {
		spawn_posted(w, p);
		return;
	}
	was = breadcrumb_enter(p->owner ? p->owner->name : NULL, "post");
	p->fn(p->arg);
	breadcrumb_leave(was);
	owner_drop(p->owner, OWNER_POST);
}

static void drain_mail(struct worker *w)
{
	struct mail_node *n, *next;
	struct mail_post post;
	int budget = MAIL_BUDGET;

	for (n = mailbox_take(&w->mailbox); n; n = next) {
		next = n->next; /* n may be gone or on its way again after fn */
		n->fn(n);
	}
	while (mailbox_pop(&w->mailbox, &post)) {
		run_post(w, &post);
		worker_count(&w->progress);
		if (--budget == 0) {
			worker_kick(w);
			break;
		}
	}
}

static void on_async(struct ev_loop *loop, ev_async *a, int revents)
{
	(void)loop;
	(void)revents;
	drain_mail(a->data);
}

static void on_idle(struct ev_loop *loop, ev_idle *i, int revents)
{
	(void)loop;
	(void)i;
	(void)revents; /* only there so that poll does not wait while fibers are ready */
}

static void expire_timers(struct worker *w)
{
	struct heap_node *n;

	while ((n = heap_min(&w->timers)) && n->key <= w->now) {
		struct timer *t = container_of(n, struct timer, node);
		struct owner *owner = t->owner;
		struct breadcrumb was;

		heap_remove(&w->timers, n);
		t->worker = NULL; /* stopped; the owner's count is kept until cb returned, t may be gone by then */
		if (!owner) {
			t->cb(t);
			continue;
		}
		was = breadcrumb_enter(owner->name, "timer");
		t->cb(t);
		breadcrumb_leave(was);
		owner_drop(owner, OWNER_TIMER);
	}
	while ((n = heap_min(&w->deadlines)) && n->key <= w->now)
		fiber_expire(w, container_of(n, struct fiber, timer));
}

static void on_timer(struct ev_loop *loop, ev_timer *t, int revents)
{
	struct worker *w = t->data;

	(void)revents;
	ev_timer_stop(loop, t);
	w->ev->armed = 0;
	expire_timers(w);
}

/* One timer for both heaps, touched only when the earliest time changed. */
static void arm_timer(struct worker *w)
{
	const struct heap_node *a = heap_min(&w->timers), *b = heap_min(&w->deadlines);
	esp_nsec next = a && b ? (a->key < b->key ? a->key : b->key) : a ? a->key : b ? b->key : 0;
	struct worker_ev *e = w->ev;

	if (next == e->armed)
		return;
	ev_timer_stop(e->loop, &e->timer);
	e->armed = next;
	if (next) {
		double after = (double)(next - e->polled) / 1e9;

		ev_timer_set(&e->timer, after > 0 ? after : 0., 0.);
		ev_timer_start(e->loop, &e->timer);
	}
}

/* A fiber that gives way after each slice of long work is at once the next one again: the budget alone would let it
 * have 256 slices before any socket is looked at.  So the turn also ends when the lazy clock (25 ms; free to read) has
 * moved. */
static void run_fibers(struct worker *w)
{
	esp_nsec began = atomic_load_explicit(&loop_lazy_now, memory_order_relaxed);
	int budget = WORKER_RUN_BUDGET;
	struct list *node;

	while (budget-- > 0 && (node = list_pop(&w->run_queue))) {
		fiber_resume(w, list_entry(node, struct fiber, link));
		if (atomic_load_explicit(&loop_lazy_now, memory_order_relaxed) != began)
			return;
	}
}

static int finished(const struct worker *w)
{
	return w->stopping && ((w->nfibers == 0 && list_empty(&w->pending_spawns)) || w->stopping > 1);
}

static void on_prepare(struct ev_loop *loop, ev_prepare *p, int revents)
{
	struct worker *w = p->data;

	(void)revents;
	w->now = clock_monotonic();
	run_fibers(w);
	retry_spawns(w);
	arm_timer(w);
	if (!list_empty(&w->run_queue) || finished(w))
		ev_idle_start(loop, &w->ev->idle);
	else
		ev_idle_stop(loop, &w->ev->idle);
	atomic_store_explicit(&w->busy, 0, memory_order_relaxed);
}

static void on_check(struct ev_loop *loop, ev_check *c, int revents)
{
	struct worker *w = c->data;

	(void)loop;
	(void)revents;
	w->now = w->ev->polled = clock_monotonic();
	worker_count(&w->progress);
	worker_count(&w->turns);
	atomic_store_explicit(&w->busy, 1, memory_order_relaxed);
}

static int start_watchers(struct worker *w)
{
	struct worker_ev *e = w->ev;

	e->loop = ev_loop_new(EVFLAG_NOENV | EVFLAG_NOSIGMASK | EVBACKEND_EPOLL);
	if (!e->loop)
		return 0;
	ev_prepare_init(&e->prepare, on_prepare);
	ev_check_init(&e->check, on_check);
	ev_set_priority(&e->check, EV_MAXPRI); /* the time is read before any callback looks at it */
	ev_idle_init(&e->idle, on_idle);
	ev_async_init(&e->async, on_async);
	ev_timer_init(&e->timer, on_timer, 0., 0.);
	e->prepare.data = e->check.data = e->async.data = e->timer.data = w;
	ev_prepare_start(e->loop, &e->prepare);
	ev_check_start(e->loop, &e->check);
	ev_async_start(e->loop, &e->async);
	w->now = e->polled = clock_monotonic();
	return 1;
}

static void set_worker_name(struct worker *w)
{
	if (w->kind == WORKER_MAIL)
		snprintf(w->name, sizeof(w->name), "worker-%u", w->index % 1000u);
	else
		snprintf(w->name, sizeof(w->name), "%s", w->kind == WORKER_CONTROL ? "control" : "observer");
}

struct worker *worker_new(enum worker_kind kind, uint32_t index, uint32_t number, size_t mailbox)
{
	struct worker *w = aligned_alloc(64, (sizeof(*w) + 63) & ~(size_t)63);

	if (!w)
		return NULL;
	memset(w, 0, sizeof(*w));
	w->magic = WORKER_MAGIC;
	w->kind = kind;
	w->index = index;
	w->number = number;
	set_worker_name(w);
	list_init(&w->watches);
	list_init(&w->run_queue);
	list_init(&w->fibers);
	list_init(&w->zombies);
	list_init(&w->pending_spawns);
	w->ev = calloc(1, sizeof(*w->ev));
	w->stacks = stack_pool_new(w);
	if (!w->ev || !w->stacks || mailbox_init(&w->mailbox, mailbox) != ESP_OK || !start_watchers(w)) {
		mailbox_fini(&w->mailbox);
		free(w->stacks);
		free(w->ev);
		free(w);
		return NULL;
	}
	return w;
}

/* What was posted to a worker that has ended is not run, only un-counted. */
static void drop_posts(struct worker *w)
{
	struct mail_post post;
	struct list *node;

	while (mailbox_pop(&w->mailbox, &post)) {
		owner_drop(post.owner, OWNER_POST);
		free((void *)(uintptr_t)post.fiber_name);
	}
	while ((node = list_pop(&w->pending_spawns))) {
		struct pending_spawn *s = list_entry(node, struct pending_spawn, link);

		owner_drop(s->post.owner, OWNER_POST);
		free((void *)(uintptr_t)s->post.fiber_name);
		free(s);
	}
}

void worker_free(struct worker *w)
{
	struct worker *was = worker_self;

	MAGIC_CHECK(w, WORKER_MAGIC);
	worker_self = w; /* its thread has ended: we are the owner now */
	drop_posts(w);
	stack_pool_free(w->stacks);
	ev_loop_destroy(w->ev->loop);
	heap_free(&w->timers);
	heap_free(&w->deadlines);
	mailbox_fini(&w->mailbox);
	free(w->ev);
	MAGIC_CLEAR(w);
	free(w);
	worker_self = was == w ? NULL : was;
}

void worker_attach(struct worker *w)
{
	stack_t ss = { .ss_size = ALTSTACK };

	ESP_ASSERT(worker_self == NULL);
	worker_self = w;
	breadcrumb_here = &w->crumb;
	fiber_switch_thread(&w->sched);
	/* an overflowed fiber stack has no room for a signal handler */
	ss.ss_sp = mmap(NULL, ALTSTACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (ss.ss_sp != MAP_FAILED) {
		w->ev->altstack = ss.ss_sp;
		sigaltstack(&ss, NULL);
	}
}

void worker_detach(struct worker *w)
{
	stack_t off = { .ss_flags = SS_DISABLE };

	ESP_ASSERT(worker_self == w);
	if (w->ev->altstack) {
		sigaltstack(&off, NULL);
		munmap(w->ev->altstack, ALTSTACK);
		w->ev->altstack = NULL;
	}
	breadcrumb_here = NULL;
	worker_self = NULL;
}

void worker_turn(struct worker *w, int wait)
{
	ESP_ASSERT(worker_self == w);
	atomic_store_explicit(&w->busy, 1, memory_order_relaxed);
	ev_run(w->ev->loop, wait ? EVRUN_ONCE : EVRUN_NOWAIT);
	atomic_store_explicit(&w->busy, 0, memory_order_relaxed);
}

void worker_run(struct worker *w)
{
	while (!finished(w))
		worker_turn(w, 1);
}

static void on_give_up(struct timer *t)
{
	t->cb = NULL;
	worker_here()->stopping = 2;
}

void worker_stop(struct worker *w, esp_nsec give_up)
{
	struct list *node, *next;

	ESP_ASSERT(worker_self == w);
	if (w->stopping)
		return;
	w->stopping = 1;
	if (timer_start_at(&w->ev->give_up, NULL, "give up", give_up, on_give_up) != ESP_OK)
		w->stopping = 2;
	for (node = w->fibers.next; node != &w->fibers; node = next) {
		next = node->next;
		fiber_cancel(list_entry(node, struct fiber, all));
	}
}

void worker_kick(struct worker *w)
{
	ev_async_send(w->ev->loop, &w->ev->async);
}

static esp_status push(struct worker *w, const struct mail_post *p)
{
	esp_status st;

	MAGIC_CHECK(w, WORKER_MAGIC);
	owner_take(p->owner, OWNER_POST);
	st = atomic_load(&w->exited) ? ESP_EBUSY : mailbox_push(&w->mailbox, p);
	if (st != ESP_OK) {
		atomic_fetch_add(&w->posts_refused, 1);
		owner_drop(p->owner, OWNER_POST);
		return st;
	}
	worker_kick(w);
	return ESP_OK;
}

esp_status worker_post(struct worker *w, struct owner *owner, void (*fn)(void *), void *arg)
{
	return push(w, &(struct mail_post){ .fn = fn, .arg = arg, .owner = owner });
}

esp_status worker_post_fiber(struct worker *w, struct owner *owner, const char *name, void (*fn)(void *), void *arg)
{
	char *copy = strndup(name, FIBER_NAME_MAX - 1); /* the sender's module may be gone when it starts */
	esp_status st;

	if (!copy)
		return ESP_ENOMEM;
	st = push(w, &(struct mail_post){ .fn = fn, .arg = arg, .owner = owner, .fiber_name = copy });
	if (st != ESP_OK)
		free(copy);
	return st;
}

void worker_send(struct worker *w, struct mail_node *n)
{
	MAGIC_CHECK(w, WORKER_MAGIC);
	mailbox_send(&w->mailbox, n);
	worker_kick(w);
}

void worker_each_owned(
	struct worker *w, const struct owner *o, void (*fn)(const struct owned_item *, void *), void *arg)
{
	size_t i;

	ESP_ASSERT(worker_self == w);
	list_for(node, &w->fibers) {
		struct fiber *f = list_entry(node, struct fiber, all);

		if (f->owner == o)
			fn(&(struct owned_item){ OWNER_FIBER, f->name, f }, arg);
	}
	list_for(node, &w->watches) {
		struct watch *x = list_entry(node, struct watch, link);

		if (x->owner == o)
			fn(&(struct owned_item){ OWNER_WATCH, x->label, x }, arg);
	}
	for (i = 0; i < w->timers.count; i++) {
		struct timer *t = container_of(w->timers.nodes[i], struct timer, node);

		if (t->owner == o)
			fn(&(struct owned_item){ OWNER_TIMER, t->label, t }, arg);
	}
}

uint32_t worker_close_owned(struct worker *w, const struct owner *o, uint32_t *ret_fibers)
{
	uint32_t closed = 0, fibers = 0;
	size_t i;

	ESP_ASSERT(worker_self == w && o != NULL);
	list_for_safe(node, &w->fibers) {
		struct fiber *f = list_entry(node, struct fiber, all);

		if (f->owner != o)
			continue;
		fiber_cancel(f);
		fibers++;
	}
	list_for_safe(node, &w->watches) {
		struct watch *x = list_entry(node, struct watch, link);

		if (x->owner != o)
			continue;
		watch_discard(x);
		closed++;
	}
	for (i = 0; i < w->timers.count;) {
		struct timer *t = container_of(w->timers.nodes[i], struct timer, node);

		if (t->owner != o) {
			i++;
			continue;
		}
		timer_discard(t);
		closed++;
		i = 0; /* the heap has moved */
	}
	if (ret_fibers)
		*ret_fibers = fibers;
	return closed;
}
