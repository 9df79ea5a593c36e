/* core/loop/timer.c - timers and fd watchers (see timer.h). */
#include "core/loop/timer.h"

#include "core/loop/owner.h"
#include "core/loop/worker-ev.h"

_Static_assert(sizeof(struct ev_io) <= sizeof(((struct watch *)0)->io), "room for libev's watcher");

esp_status timer_start_at(
	struct timer *t, struct owner *owner, const char *label, esp_nsec when, void (*cb)(struct timer *))
{
	struct worker *w = worker_here();

	ESP_ASSERT(w != NULL);
	if (timer_active(t)) {
		ESP_ASSERT(t->worker == w && t->owner == owner);
		t->cb = cb;
		t->label = label;
		heap_update(&w->timers, &t->node, when);
		return ESP_OK;
	}
	t->node.index = 0;
	if (heap_insert(&w->timers, &t->node, when) != ESP_OK)
		return ESP_ENOMEM;
	t->worker = w;
	t->owner = owner;
	t->cb = cb;
	t->label = label;
	owner_take(owner, OWNER_TIMER);
	return ESP_OK;
}

esp_status timer_start(
	struct timer *t, struct owner *owner, const char *label, esp_nsec delay, void (*cb)(struct timer *))
{
	struct worker *w = worker_here();

	ESP_ASSERT(w != NULL);
	return timer_start_at(t, owner, label, delay > INT64_MAX - w->now ? INT64_MAX : w->now + delay, cb);
}

void timer_stop(struct timer *t)
{
	if (!timer_active(t))
		return;
	ESP_ASSERT(t->worker == worker_here());
	heap_remove(&t->worker->timers, &t->node);
	t->worker = NULL;
	owner_drop(t->owner, OWNER_TIMER);
}

static ev_io *io_of(struct watch *w)
{
	return (ev_io *)(void *)w->io;
}

/* The watcher may be stopped and freed by its callback; its owner is kept until the callback has returned. */
static void on_io(struct ev_loop *loop, ev_io *io, int revents)
{
	struct watch *w = io->data;
	struct owner *owner = w->owner;
	struct breadcrumb was;

	(void)loop;
	if (revents & EV_ERROR)
		revents |= io->events; /* a dead fd: reading or writing it tells */
	if (!owner) {
		w->cb(w, events_from_ev(revents));
		return;
	}
	owner_take(owner, OWNER_WATCH);
	was = breadcrumb_enter(owner->name, "watch");
	w->cb(w, events_from_ev(revents));
	breadcrumb_leave(was);
	owner_drop(owner, OWNER_WATCH);
}

void watch_start(struct watch *w, struct owner *owner, const char *label, int fd, uint32_t events,
                 void (*cb)(struct watch *w, uint32_t events))
{
	struct worker *here = worker_here();

	ESP_ASSERT(here != NULL && !watch_active(w) && fd >= 0);
	w->worker = here;
	w->owner = owner;
	w->label = label;
	w->cb = cb;
	w->link = (struct list){ NULL, NULL };
	list_append(&here->watches, &w->link);
	owner_take(owner, OWNER_WATCH);
	ev_io_init(io_of(w), on_io, fd, events_to_ev(events));
	io_of(w)->data = w;
	if (events)
		ev_io_start(here->ev->loop, io_of(w));
}

void watch_set(struct watch *w, uint32_t events)
{
	ESP_ASSERT(watch_active(w) && w->worker == worker_here());
	if (events == events_from_ev(io_of(w)->events))
		return;
	ev_io_stop(w->worker->ev->loop, io_of(w));
	ev_io_set(io_of(w), io_of(w)->fd, events_to_ev(events));
	if (events)
		ev_io_start(w->worker->ev->loop, io_of(w));
}

void watch_stop(struct watch *w)
{
	if (!watch_active(w))
		return;
	ESP_ASSERT(w->worker == worker_here());
	ev_io_stop(w->worker->ev->loop, io_of(w));
	list_remove(&w->link);
	w->worker = NULL;
	owner_drop(w->owner, OWNER_WATCH);
}

void timer_discard(struct timer *t)
{
	void (*discard)(struct timer *) = t->discard;

	timer_stop(t);
	if (discard)
		discard(t);
}

void watch_discard(struct watch *w)
{
	void (*discard)(struct watch *) = w->discard;

	watch_stop(w);
	if (discard)
		discard(w);
}
