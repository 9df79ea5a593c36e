/* core/loop/watchdog.c - finds a worker that does not move (see watchdog.h).
 *
 * Costs a worker nothing but a counter: each callback batch and each resumed fiber adds one to `progress`.  A timer on
 * the control loop sees a busy worker whose counter stood still since its last look; one on the observer's looks at the
 * control loop, where modules are loaded and begin: it may take CONTROL_PATIENCE times as long.  Lanes are there for
 * what takes long; a job of theirs is told of after LANE_PATIENCE times the limit.  Reported when it crosses the limit,
 * at every tenfold of it, and when it moves again.
 */
#include "core/loop/watchdog.h"

#include "core/base/assert.h"
#include "core/base/clock.h"
#include "core/base/sanitize.h"
#include "core/base/str.h"
#include "core/loop/loop.h"
#include "core/loop/pool.h"

#include <string.h>

#define CONTROL_PATIENCE 10
#define LANE_PATIENCE    200

struct watched { uint64_t progress; esp_nsec since, next; struct loop_stall stall; };

static struct {
	struct timer timer, control; /* the latter on the observer's loop */
	esp_nsec limit;
	struct watched of[WORKER_MAX + 2];
	void (*_Atomic on_stall)(const struct loop_stall *s);
	_Atomic uint64_t stalls;
} watchdog;

_Alignas(64) _Atomic esp_nsec loop_lazy_now;

void loop_on_stall(void (*cb)(const struct loop_stall *s)) { atomic_store(&watchdog.on_stall, cb); }
uint64_t loop_stalls(void) { return atomic_load(&watchdog.stalls); }

/* The fiber may end while we copy its name: the struct stays mapped, a mixed name is harmless. */
#if defined(__clang__)
__attribute__((no_sanitize("thread")))
#else
__attribute__((no_sanitize_thread))
#endif
static void copy_racy(char *dst, const char *src, size_t cap)
{
	size_t i;

	for (i = 0; i + 1 < cap && src[i]; i++)
		dst[i] = src[i];
	dst[i] = 0;
}

static void describe(const struct worker *w, struct loop_stall *s)
{
	const struct fiber *f = atomic_load_explicit(&w->running, memory_order_acquire);
	struct breadcrumb c = breadcrumb_read(f ? &f->crumb : &w->crumb);

	s->worker = w;
	str_copy_cut(s->name, sizeof(s->name), str_of(w->name));
	s->fiber[0] = 0;
	if (f)
		copy_racy(s->fiber, f->name, sizeof(s->fiber));
	str_copy_cut(s->module, sizeof(s->module), str_of(c.module));
	str_copy_cut(s->point, sizeof(s->point), str_of(c.point));
}

static void report(const struct loop_stall *s)
{
	void (*cb)(const struct loop_stall *s) = atomic_load(&watchdog.on_stall);

	if (cb)
		cb(s);
}

static void look_at(struct worker *w, struct watched *x, esp_nsec limit, esp_nsec now)
{
	uint64_t progress = atomic_load_explicit(&w->progress, memory_order_relaxed);
	int busy = atomic_load_explicit(&w->busy, memory_order_relaxed) != 0;

	if (!busy || progress != x->progress || x->since == 0) {
		if (x->next) { /* it was stuck */
			x->stall.nsec = now - x->since;
			x->stall.over = 1;
			report(&x->stall);
		}
		x->progress = progress;
		x->since = busy ? now : 0;
		x->next = 0;
		return;
	}
	if (now - x->since < (x->next ? x->next : limit))
		return;
	describe(w, &x->stall);
	x->stall.nsec = now - x->since;
	if (!x->next)
		atomic_fetch_add(&watchdog.stalls, 1);
	x->next = (x->next ? x->next : limit) * 10;
	x->stall.over = 0;
	report(&x->stall);
}

static void on_tick(struct timer *t);

static void watchdog_again(struct timer *t)
{
	esp_status st = timer_start(t, NULL, "watchdog", watchdog.limit / 2, on_tick);

	ESP_ASSERT(st == ESP_OK); /* the heap had room for it a moment ago */
}

static void on_tick(struct timer *t)
{
	esp_nsec now = clock_monotonic();
	struct worker *w;
	uint32_t i;

	atomic_store_explicit(&loop_lazy_now, now, memory_order_relaxed);
	for (i = 1; (w = loop_by_number(i)); i++) /* not ourselves: the observer does */
		look_at(w, &watchdog.of[i], watchdog.limit, now);
	pool_watch(LANE_PATIENCE * watchdog.limit, now, report);
	watchdog_again(t);
}

void watchdog_start(esp_nsec stall)
{
	memset(watchdog.of, 0, sizeof(watchdog.of));
	watchdog.limit = stall;
	watchdog_again(&watchdog.timer);
}

static void on_control_tick(struct timer *t)
{
	struct worker *w = loop_control();

	look_at(w, &watchdog.of[w->number], CONTROL_PATIENCE * watchdog.limit, clock_monotonic());
	watchdog_observe();
	(void)t;
}

void watchdog_observe(void)
{
	esp_status st = timer_start(&watchdog.control, NULL, "watchdog", watchdog.limit / 2, on_control_tick);

	ESP_ASSERT(st == ESP_OK);
}

void watchdog_leave(void)
{
	timer_stop(&watchdog.control);
}

void watchdog_stop(void)
{
	timer_stop(&watchdog.timer);
}
