/* core/loop/fiber.c - lives of fibers: spawn, park, resume, end; cancel and deadlines (see fiber.h). */
#include "core/loop/fiber.h"

#include "core/base/assert.h"
#include "core/base/clock.h"
#include "core/base/str.h"
#include "core/loop/fiber-depth.h"
#include "core/loop/fiber-switch.h"
#include "core/loop/stack.h"
#include "core/loop/worker-ev.h"

#include <dlfcn.h>
#include <errno.h>
#include <string.h>

#define FIBER_CAP_DEFAULT 24000u
#define FIBER_RESERVE 10u /* a tenth of the cap is for children and the control and observer threads */

static struct fiber_hooks fiber_hooks;
static atomic_uint cap_now = FIBER_CAP_DEFAULT, live_now;

/* C++ runtimes whose exception state is saved per fiber: found at init and after module loads, never forgotten. */
typedef void *(*cxx_globals_fn)(void);
static _Atomic(cxx_globals_fn) cxx_fns[FIBER_CXX_MAX];
static atomic_uint cxx_count;

void fiber_set_hooks(const struct fiber_hooks *hooks)
{
	fiber_hooks = *hooks;
}

void fiber_set_cap(uint32_t cap) { atomic_store(&cap_now, cap); }
uint32_t fiber_cap(void) { return atomic_load(&cap_now); }
uint32_t fiber_live(void) { return atomic_load(&live_now); }
size_t fiber_stack_size(void) { return stack_size(0); }

struct fiber *fiber_self(void)
{
	struct worker *w = worker_here();

	return w ? w->current : NULL;
}

void fiber_cxx_refresh(void *dl_handle)
{
	void *sym = dlsym(dl_handle ? dl_handle : RTLD_DEFAULT, "__cxa_get_globals");
	uint32_t i, n = atomic_load(&cxx_count);
	cxx_globals_fn fn;

	if (!sym || n == FIBER_CXX_MAX)
		return;
	memcpy(&fn, &sym, sizeof(fn)); /* ISO C has no cast from object to function pointer */
	for (i = 0; i < n; i++)
		if (atomic_load(&cxx_fns[i]) == fn)
			return;
	atomic_store(&cxx_fns[n], fn);
	atomic_store_explicit(&cxx_count, n + 1, memory_order_release);
}

/* Exchange the thread's C++ exception state (caught exceptions, uncaught count) with the fiber's. */
static void cxx_swap(struct worker *w, struct fiber *f)
{
	uint32_t i, n = atomic_load_explicit(&cxx_count, memory_order_acquire);

	for (; w->cxx_seen < n; w->cxx_seen++)
		w->cxx_globals[w->cxx_seen] = atomic_load(&cxx_fns[w->cxx_seen])();
	for (i = 0; i < n; i++) {
		void *here[2];

		memcpy(here, w->cxx_globals[i], sizeof(here));
		memcpy(w->cxx_globals[i], f->cxx[i], sizeof(here));
		memcpy(f->cxx[i], here, sizeof(here));
	}
}

/* Sessions may fill nine tenths; the rest lets what already runs finish. */
static esp_status take_place(struct worker *w, uint32_t flags)
{
	uint32_t cap = fiber_cap(), n;

	if (w->kind == WORKER_MAIL && !w->current && !(flags & FIBER_RESERVED))
		cap -= cap / FIBER_RESERVE;
	n = atomic_fetch_add_explicit(&live_now, 1, memory_order_relaxed);
	if (n < cap)
		return ESP_OK;
	atomic_fetch_sub_explicit(&live_now, 1, memory_order_relaxed);
	return ESP_EBUSY;
}

static void set_name(struct fiber *f, const char *name)
{
	size_t n = strnlen(name, FIBER_NAME_MAX - 1);

	memcpy(f->name, name, n);
	f->name[n] = 0;
}

static void begin_life(struct worker *w, struct fiber *f)
{
	f->deadline = 0;
	f->shield = f->nosuspend = f->nlocks = f->nholds = 0;
	f->canceled = f->woken = f->waits_ticket = f->waits_io = 0;
	f->result = ESP_OK;
	f->waiting = NULL;
	f->joiner = NULL;
	breadcrumb_write(&f->crumb, (struct breadcrumb){ NULL, NULL });
	f->life++;
	memset(f->slots, 0, sizeof(f->slots));
	memset(f->cxx, 0, sizeof(f->cxx));
	f->snapshot =
		fiber_hooks.snapshot_pin ? fiber_hooks.snapshot_pin(w, w->current ? w->current->snapshot : NULL) : NULL;
	owner_take(f->owner, OWNER_FIBER);
	list_append(&w->fibers, &f->all);
	w->nfibers++;
	worker_count(&w->spawned);
	if (w->stopping && !w->current)
		f->canceled = 1; /* nobody is left to cancel it later */
	f->state = FIBER_READY;
	fiber_depth_begin(f);
	list_append(&w->run_queue, &f->link);
}

esp_status fiber_spawn(struct owner *owner, uint32_t flags, const char *name, void (*fn)(void *), void *arg,
                       struct fiber **ret)
{
	struct worker *w = worker_here();
	struct fiber *f;

	ESP_ASSERT(w != NULL && fn != NULL);
	if (ret)
		*ret = NULL;
	if (take_place(w, flags) != ESP_OK)
		return ESP_EBUSY;
	if (w->current && !list_linked(&w->current->all))
		ESP_PANIC("fiber '%s' spawns after its end", w->current->name);
	f = stack_take(w->stacks, (flags & ESP_FIBER_BIG) != 0);
	if (!f) {
		atomic_fetch_sub_explicit(&live_now, 1, memory_order_relaxed);
		return ESP_EBUSY;
	}
	f->owner = owner;
	f->flags = flags;
	f->fn = fn;
	f->arg = arg;
	set_name(f, name);
	begin_life(w, f);
	if (ret)
		*ret = f;
	return ESP_OK;
}

void fiber_life(struct fiber *f)
{
	f->fn(f->arg);
	f->state = FIBER_DONE;
}

static void recycle(struct worker *w, struct fiber *f)
{
	f->state = FIBER_FREE;
	stack_give(w->stacks, f);
}

/* On the scheduler's stack: nothing of the module runs any more. */
static void end_life(struct worker *w, struct fiber *f)
{
	struct owner *owner = f->owner;

	if (f->painted)
		fiber_depth_end(f);
	if (f->nlocks)
		ESP_PANIC("fiber '%s' ended while it holds %u lock(s)", f->name, f->nlocks);
	heap_remove(&w->deadlines, &f->timer);
	f->serial++; /* late wakes find another number */
	while (f->nholds) {
		struct fiber_hold h = f->holds[--f->nholds];

		h.release(h.arg);
	}
	if (f->snapshot && fiber_hooks.snapshot_release)
		fiber_hooks.snapshot_release(w, f->snapshot);
	f->snapshot = NULL;
	f->owner = NULL;
	list_remove(&f->all);
	w->nfibers--;
	atomic_fetch_sub_explicit(&live_now, 1, memory_order_relaxed);
	if (!(f->flags & ESP_FIBER_JOINABLE)) {
		recycle(w, f);
	} else {
		list_append(&w->zombies, &f->link);
		if (f->joiner)
			fiber_ready(f->joiner, ESP_OK);
	}
	owner_drop(owner, OWNER_FIBER);
}

void fiber_resume(struct worker *w, struct fiber *f)
{
	MAGIC_CHECK(f, FIBER_MAGIC);
	ESP_ASSERT(f->state == FIBER_READY && w->current == NULL);
	f->state = FIBER_RUNNING;
	w->current = f;
	breadcrumb_here = &f->crumb;
	atomic_store_explicit(&w->running, f, memory_order_release);
	worker_count(&w->progress);
	if (atomic_load_explicit(&cxx_count, memory_order_relaxed))
		cxx_swap(w, f);
	fiber_switch(&w->sched, &f->ctx, 0);
	if (w->cxx_seen)
		cxx_swap(w, f);
	atomic_store_explicit(&w->running, NULL, memory_order_relaxed);
	breadcrumb_here = &w->crumb;
	w->current = NULL;
	if (f->state == FIBER_DONE)
		end_life(w, f);
}

/* Set the wake-up of the suspension that begins.  The heap node stays when it fires early enough anyway. */
static void arm(struct worker *w, struct fiber *f, esp_nsec when)
{
	f->wake_at = when;
	if (!when)
		return;
	if (!heap_linked(&f->timer)) {
		esp_status st = heap_insert(&w->deadlines, &f->timer, when);

		ESP_ASSERT(st == ESP_OK); /* room was reserved with the slab */
	} else if (f->timer.key > when) {
		heap_update(&w->deadlines, &f->timer, when);
	}
}

void fiber_expire(struct worker *w, struct fiber *f)
{
	heap_remove(&w->deadlines, &f->timer);
	if (f->state != FIBER_PARKED || !f->wake_at)
		return;
	if (f->wake_at > w->now)
		arm(w, f, f->wake_at);
	else
		fiber_ready(f, f->wake_status);
}

static void switch_out(struct worker *w, struct fiber *f)
{
	int saved = errno;

	fiber_switch(&f->ctx, &w->sched, 0);
	errno = saved;
}

static struct fiber *may_suspend(const char *call)
{
	struct fiber *f = fiber_self();

	if (!f)
		ESP_PANIC("%s() suspends, but it was called outside a fiber", call);
	if (f->nosuspend)
		ESP_PANIC("%s() suspends fiber '%s' between nosuspend(1) and nosuspend(0); module %s", call, f->name,
		          f->crumb.module ? f->crumb.module : "core");
	return f;
}

/* Does a cancel or a deadline end the suspension before it begins? */
static esp_status cut_short(const struct fiber *f)
{
	if (f->shield)
		return ESP_OK;
	if (f->canceled)
		return ESP_ECANCELED;
	return f->deadline && f->deadline <= f->worker->now ? ESP_ETIMEDOUT : ESP_OK;
}

esp_status fiber_park(const char *call, esp_nsec when)
{
	struct fiber *f = may_suspend(call);
	esp_status st = cut_short(f);
	esp_nsec deadline = f->shield ? 0 : f->deadline;

	if (st != ESP_OK)
		return st;
	f->wake_status = when && (!deadline || when <= deadline) ? ESP_OK : ESP_ETIMEDOUT;
	arm(f->worker, f, clock_earlier(when, deadline));
	f->waiting = call;
	f->state = FIBER_PARKED;
	switch_out(f->worker, f);
	f->waiting = NULL;
	return f->result;
}

void fiber_unqueue(struct fiber *f)
{
	struct fiber_queue *q = f->queue;

	if (!q)
		return;
	*(f->queue_prev ? &f->queue_prev->queue_next : &q->first) = f->queue_next;
	*(f->queue_next ? &f->queue_next->queue_prev : &q->last) = f->queue_prev;
	f->queue = NULL;
	f->queue_next = f->queue_prev = NULL;
}

void fiber_ready(struct fiber *f, esp_status result)
{
	if (f->state != FIBER_PARKED)
		return;
	fiber_unqueue(f);
	f->wake_at = 0;
	f->result = result;
	f->state = FIBER_READY;
	list_append(&f->worker->run_queue, &f->link);
}

esp_status fiber_yield(void)
{
	struct fiber *f = may_suspend("yield");
	esp_status st = cut_short(f);

	if (st != ESP_OK)
		return st;
	f->state = FIBER_READY;
	list_append(&f->worker->run_queue, &f->link);
	switch_out(f->worker, f);
	return ESP_OK;
}

esp_status fiber_sleep_until(esp_nsec when)
{
	struct fiber *f = may_suspend("sleep_until");

	if (when <= f->worker->now)
		return fiber_yield();
	return fiber_park("sleep_until", when);
}

void fiber_join(struct fiber *f)
{
	struct fiber *self = may_suspend("join");
	esp_status st;

	MAGIC_CHECK(f, FIBER_MAGIC);
	ESP_ASSERT(f->worker == self->worker && (f->flags & ESP_FIBER_JOINABLE) && f != self && f->state != FIBER_FREE);
	ESP_ASSERT(f->joiner == NULL);
	if (f->state != FIBER_DONE) {
		f->joiner = self;
		self->shield++;
		st = fiber_park("join", 0);
		self->shield--;
		ESP_ASSERT(st == ESP_OK && f->state == FIBER_DONE);
	}
	list_remove(&f->link);
	recycle(f->worker, f);
}

void fiber_cancel(struct fiber *f)
{
	MAGIC_CHECK(f, FIBER_MAGIC);
	ESP_ASSERT(f->worker == worker_here());
	if (f->state == FIBER_FREE || f->state == FIBER_DONE)
		return;
	f->canceled = 1;
	if (f->state == FIBER_PARKED && !f->shield)
		fiber_ready(f, ESP_ECANCELED);
}

static struct fiber *self_checked(void)
{
	struct fiber *f = fiber_self();

	ESP_ASSERT(f != NULL);
	return f;
}

int fiber_canceled(void)
{
	struct fiber *f = fiber_self();

	return f && f->canceled;
}

esp_nsec fiber_set_deadline(esp_nsec deadline)
{
	struct fiber *f = self_checked();
	esp_nsec was = f->deadline;

	f->deadline = deadline;
	return was;
}

esp_nsec fiber_deadline(void)
{
	struct fiber *f = fiber_self();

	return f ? f->deadline : 0;
}

void fiber_shield(int on)
{
	struct fiber *f = self_checked();

	ESP_ASSERT(on || f->shield > 0);
	f->shield += on ? 1u : (uint32_t)-1;
}

void fiber_nosuspend(int on)
{
	struct fiber *f = fiber_self();

	if (!f)
		return; /* a loop callback cannot suspend anyway */
	ESP_ASSERT(on || f->nosuspend > 0);
	f->nosuspend += on ? 1u : (uint32_t)-1;
}

void fiber_set_snapshot(struct fiber *f, void *snapshot)
{
	void *was = f->snapshot;

	f->snapshot = snapshot;
	if (was && fiber_hooks.snapshot_release)
		fiber_hooks.snapshot_release(f->worker, was);
}

esp_status fiber_hold(struct fiber *f, void (*release)(void *), void *arg)
{
	if (f->nholds == FIBER_HOLDS)
		return ESP_EBUSY;
	f->holds[f->nholds++] = (struct fiber_hold){ release, arg };
	return ESP_OK;
}

void fiber_unhold(struct fiber *f, void (*release)(void *), void *arg)
{
	uint32_t i;

	for (i = f->nholds; i-- > 0;) {
		if (f->holds[i].release != release || f->holds[i].arg != arg)
			continue;
		memmove(&f->holds[i], &f->holds[i + 1], (--f->nholds - i) * sizeof(f->holds[0]));
		release(arg);
		return;
	}
}
