/* core/loop/fiber-wait.c - what fibers wait for: fds, tickets, locks, conditions (see fiber.h). */
#include "core/base/assert.h"
#include "core/loop/loop.h"
#include "core/loop/stack.h"
#include "core/loop/worker-ev.h"

struct fmutex { struct fiber *owner; struct fiber_queue waiters; };

_Static_assert(sizeof(struct fmutex) == sizeof(esp_fmutex), "the ABI's lock has room for ours");
_Static_assert(sizeof(struct fiber_queue) == sizeof(esp_fcond), "and its condition");

static struct fiber *running(const char *call)
{
	struct fiber *f = fiber_self();

	if (!f)
		ESP_PANIC("%s() was called outside a fiber", call);
	return f;
}

/* --- file descriptors: the watcher is stopped after each wait, so a closed and reused number is never missed --- */

static void on_fd(struct ev_loop *loop, ev_io *io, int revents)
{
	struct fiber *f = io->data;

	ev_io_stop(loop, io);
	if (!f->waits_io)
		return;
	f->io_events = revents & EV_ERROR ? (uint32_t)(ESP_READ | ESP_WRITE) : events_from_ev(revents);
	fiber_ready(f, ESP_OK);
}

esp_status fiber_wait_fd(int fd, uint32_t events, uint32_t *ret_events)
{
	struct fiber *f = running("wait_fd");
	ev_io *io = (ev_io *)(void *)f->io.io;
	esp_status st;

	if (fd < 0 || !(events & (ESP_READ | ESP_WRITE)))
		return ESP_EINVAL;
	f->io_events = 0;
	f->waits_io = 1;
	ev_io_init(io, on_fd, fd, events_to_ev(events));
	io->data = f;
	ev_io_start(f->worker->ev->loop, io);
	st = fiber_park("wait_fd", 0);
	f->waits_io = 0;
	ev_io_stop(f->worker->ev->loop, io);
	if (ret_events)
		*ret_events = f->io_events;
	return st;
}

/* --- tickets ---------------------------------------------------------------------------------------------- */

esp_ticket fiber_ticket(void)
{
	struct fiber *f = running("ticket");

	/* A caller may have seen its answer without a suspension: the wake that belongs to it is still under way and must
	 * not end somebody else's. */
	f->serial++;
	f->woken = 0;
	return (esp_ticket){ f->id, f->serial };
}

esp_status fiber_suspend_until(esp_nsec when)
{
	struct fiber *f = running("suspend");
	esp_status st = ESP_OK;

	if (!f->woken) {
		f->waits_ticket = 1;
		st = fiber_park("suspend", when);
		f->waits_ticket = 0;
	}
	f->woken = 0;
	f->serial++;
	return st;
}

esp_status fiber_suspend(void)
{
	return fiber_suspend_until(0);
}

static void wake_here(struct fiber *f, uint64_t serial)
{
	if (f->serial != serial || f->state == FIBER_FREE || f->state == FIBER_DONE)
		return;
	if (f->state == FIBER_PARKED && f->waits_ticket)
		fiber_ready(f, ESP_OK);
	else
		f->woken = 1;
}

static void on_remote_wake(struct mail_node *n)
{
	struct fiber *f = container_of(n, struct fiber, remote);

	wake_here(f, atomic_exchange_explicit(&f->remote_serial, 0, memory_order_acq_rel));
}

void fiber_wake(esp_ticket t)
{
	struct worker *w = loop_by_number((uint32_t)(t.fiber >> 32));
	struct fiber *f = w ? stack_fiber(w->stacks, (uint32_t)t.fiber) : NULL;
	uint64_t pending = 0;

	if (!f || t.serial == 0)
		return;
	if (w == worker_here()) {
		wake_here(f, t.serial);
		return;
	}
	/* the newest number wins: an older one is late by definition */
	while (!atomic_compare_exchange_weak_explicit(&f->remote_serial, &pending, t.serial, memory_order_acq_rel,
	                                              memory_order_relaxed))
		if (pending >= t.serial)
			return;
	if (pending == 0) {
		f->remote.fn = on_remote_wake;
		worker_send(w, &f->remote);
	}
}

/* --- locks and conditions: FIFO, ownership is handed over -------------------------------------------------- */

static esp_status enqueue(struct fiber *f, struct fiber_queue *q, const char *call)
{
	esp_status st;

	f->queue = q;
	f->queue_next = NULL;
	f->queue_prev = q->last;
	*(q->last ? &q->last->queue_next : &q->first) = f;
	q->last = f;
	st = fiber_park(call, 0);
	fiber_unqueue(f); /* cut short before it parked: still queued */
	return st;
}

esp_status fiber_lock(esp_fmutex *pub)
{
	struct fmutex *m = (struct fmutex *)(void *)pub;
	struct fiber *f = running("lock");
	esp_status st;

	if (m->owner == f)
		ESP_PANIC("fiber '%s' locks a mutex it holds", f->name);
	if (!m->owner) {
		m->owner = f;
		f->nlocks++;
		return ESP_OK;
	}
	if (m->owner->worker != f->worker)
		ESP_PANIC("fiber '%s' locks a mutex of worker %s", f->name, m->owner->worker->name);
	st = enqueue(f, &m->waiters, "lock");
	ESP_ASSERT(st != ESP_OK || m->owner == f);
	return st;
}

void fiber_unlock(esp_fmutex *pub)
{
	struct fmutex *m = (struct fmutex *)(void *)pub;
	struct fiber *f = running("unlock"), *next;

	if (m->owner != f)
		ESP_PANIC("fiber '%s' unlocks a mutex it does not hold", f->name);
	f->nlocks--;
	next = m->waiters.first;
	m->owner = next;
	if (next) {
		next->nlocks++;
		fiber_ready(next, ESP_OK);
	}
}

esp_status fiber_wait(esp_fcond *c)
{
	return enqueue(running("wait"), (struct fiber_queue *)(void *)c, "wait");
}

void fiber_signal(esp_fcond *c)
{
	struct fiber_queue *q = (struct fiber_queue *)(void *)c;

	if (q->first)
		fiber_ready(q->first, ESP_OK);
}

void fiber_broadcast(esp_fcond *c)
{
	struct fiber_queue *q = (struct fiber_queue *)(void *)c;

	while (q->first)
		fiber_ready(q->first, ESP_OK);
}
