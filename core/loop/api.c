/* core/loop/api.c - esp.fiber/1, esp.loop/1 and esp.pool/1: the tables modules get, over the core's functions. */
#include "core/base/assert.h"
#include "core/base/clock.h"
#include "core/base/str.h"
#include "core/loop/loop.h"
#include "core/loop/pool.h"

#include <stdlib.h>

/* --- esp.fiber/1 -------------------------------------------------------------------------------------------- */

static esp_status api_spawn(
	esp_module *self, uint32_t flags, const char *name, void (*fn)(void *), void *arg, esp_fiber **ret)
{
	struct fiber *f;
	esp_status st;

	if (flags & ~(uint32_t)(ESP_FIBER_JOINABLE | ESP_FIBER_BIG) || !fn || !worker_here() ||
		(!ret && (flags & ESP_FIBER_JOINABLE)))
		return ESP_EINVAL;
	st = fiber_spawn(owner_of(self), flags, name ? name : "", fn, arg, &f);
	if (ret)
		*ret = fiber_pub(f);
	return st;
}

static esp_fiber *api_current(void) { return fiber_pub(fiber_self()); }
static void api_join(esp_fiber *f) { fiber_join(fiber_of(f)); }
static void api_cancel(esp_fiber *f) { fiber_cancel(fiber_of(f)); }
static int32_t api_canceled(void) { return fiber_canceled(); }
static void api_shield(int32_t on) { fiber_shield(on); }
static void api_nosuspend(int32_t on) { fiber_nosuspend(on); }

const esp_fiber_api loop_fiber_api = {
	.size = sizeof(esp_fiber_api),
	.spawn = api_spawn,
	.current = api_current,
	.join = api_join,
	.cancel = api_cancel,
	.canceled = api_canceled,
	.set_deadline = fiber_set_deadline,
	.deadline = fiber_deadline,
	.shield = api_shield,
	.nosuspend = api_nosuspend,
	.sleep_until = fiber_sleep_until,
	.yield = fiber_yield,
	.wait_fd = fiber_wait_fd,
	.ticket = fiber_ticket,
	.suspend = fiber_suspend,
	.wake = fiber_wake,
	.lock = fiber_lock,
	.unlock = fiber_unlock,
	.wait = fiber_wait,
	.signal = fiber_signal,
	.broadcast = fiber_broadcast,
};

/* --- esp.loop/1 --------------------------------------------------------------------------------------------- */

struct esp_watch {
	struct watch w;
	void (*cb)(void *arg, uint32_t events);
	void *arg;
	char label[FIBER_NAME_MAX]; /* the fiber that made it: names the leak */
};

struct esp_timer {
	struct timer t;
	void (*cb)(void *arg);
	void *arg;
	int firing; /* freed after cb */
	char label[FIBER_NAME_MAX];
};

static esp_worker *api_here(void) { return worker_pub(worker_here()); }
static esp_worker *api_worker(uint32_t index) { return worker_pub(loop_worker(index)); }
static uint32_t api_index(const esp_worker *w)
{
	return worker_of(w)->kind == WORKER_MAIL ? worker_of(w)->index : UINT32_MAX;
}
static esp_nsec api_now(void) { return worker_here() ? worker_now() : clock_monotonic(); }

static void set_label(char *label)
{
	const struct fiber *f = fiber_self();

	str_copy_cut(label, FIBER_NAME_MAX, f ? str_of(f->name) : ESP_STR("callback"));
}

static void on_watch(struct watch *w, uint32_t events)
{
	struct esp_watch *x = container_of(w, struct esp_watch, w);

	x->cb(x->arg, events); /* x may be gone */
}

static void free_watch(struct watch *w)
{
	free(container_of(w, struct esp_watch, w));
}

static esp_watch *api_watch(esp_module *self, int fd, uint32_t events, void (*cb)(void *, uint32_t), void *arg)
{
	struct esp_watch *x = worker_here() && fd >= 0 && cb ? calloc(1, sizeof(*x)) : NULL;

	if (!x)
		return NULL;
	x->cb = cb;
	x->arg = arg;
	x->w.discard = free_watch;
	set_label(x->label);
	watch_start(&x->w, owner_of(self), x->label, fd, events & (ESP_READ | ESP_WRITE), on_watch);
	return x;
}

static void api_rewatch(esp_watch *x, uint32_t events)
{
	watch_set(&x->w, events & (ESP_READ | ESP_WRITE));
}

static void api_unwatch(esp_watch *x)
{
	if (x)
		watch_discard(&x->w);
}

static void on_timer(struct timer *t)
{
	struct esp_timer *x = container_of(t, struct esp_timer, t);

	x->firing = 1;
	x->cb(x->arg);
	free(x);
}

static void free_timer(struct timer *t)
{
	free(container_of(t, struct esp_timer, t));
}

static esp_timer *api_after(esp_module *self, esp_nsec delay, void (*cb)(void *), void *arg)
{
	struct esp_timer *x = worker_here() && cb ? calloc(1, sizeof(*x)) : NULL;

	if (!x)
		return NULL;
	x->cb = cb;
	x->arg = arg;
	x->t.discard = free_timer;
	set_label(x->label);
	if (timer_start(&x->t, owner_of(self), x->label, delay > 0 ? delay : 0, on_timer) != ESP_OK) {
		free(x);
		return NULL;
	}
	return x;
}

static void api_untimer(esp_timer *x)
{
	if (x && !x->firing)
		timer_discard(&x->t);
}

static esp_status api_post(esp_module *self, esp_worker *w, void (*fn)(void *), void *arg)
{
	return w && fn ? worker_post(worker_of(w), owner_of(self), fn, arg) : ESP_EINVAL;
}

static esp_status api_post_fiber(esp_module *self, esp_worker *w, const char *name, void (*fn)(void *), void *arg)
{
	return w && fn ? worker_post_fiber(worker_of(w), owner_of(self), name ? name : "", fn, arg) : ESP_EINVAL;
}

const esp_loop_api loop_loop_api = {
	.size = sizeof(esp_loop_api),
	.here = api_here,
	.workers = loop_workers,
	.worker = api_worker,
	.index = api_index,
	.now = api_now,
	.clock = clock_monotonic,
	.wall = clock_wall,
	.watch = api_watch,
	.rewatch = api_rewatch,
	.unwatch = api_unwatch,
	.after = api_after,
	.untimer = api_untimer,
	.post = api_post,
	.post_fiber = api_post_fiber,
};

/* --- esp.pool/1 --------------------------------------------------------------------------------------------- */

static esp_lane *api_lane(const char *name) { return lane_pub(name ? pool_shared(name) : NULL); }

static esp_lane *api_open(esp_module *self, const char *name, uint32_t width, uint32_t queue)
{
	return lane_pub(lane_open(owner_of(self), name ? name : "", width, queue));
}

static esp_status api_run(esp_module *self, esp_lane *l, int32_t (*fn)(void *), void *arg, int32_t *ret)
{
	return l && fn ? lane_run(lane_of(l), owner_of(self), fn, arg, ret) : ESP_EINVAL;
}

static esp_status api_submit(esp_module *self, esp_lane *l, void (*fn)(void *), void *arg)
{
	return l && fn ? lane_submit(lane_of(l), owner_of(self), fn, arg) : ESP_EINVAL;
}

const esp_pool_api loop_pool_api = {
	.size = sizeof(esp_pool_api),
	.lane = api_lane,
	.open = api_open,
	.run = api_run,
	.submit = api_submit,
};
