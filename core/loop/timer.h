/* core/loop/timer.h - timers and fd watchers that live inside the core's own structs: no allocation.
 *
 * Both belong to the worker that started them; all calls are made there.  Callbacks run on the loop (no fiber),
 * must be short and never suspend.  A zeroed struct is stopped and valid.
 */
#ifndef CORE_LOOP_TIMER_H
#define CORE_LOOP_TIMER_H

#include "core/base/heap.h"
#include "core/base/list.h"

#include <esp/abi.h>
#include <esp/fiber.h>

struct worker;
struct owner;

struct timer {
	struct heap_node node;
	struct worker *worker;      /* NULL: stopped */
	struct owner *owner;        /* NULL: the core's */
	void (*cb)(struct timer *t);
	void (*discard)(struct timer *t); /* set by who allocated around it; may be NULL */
	const char *label;          /* for reports; borrowed */
};

/*! \brief [worker] Call cb once at `when` (monotonic).  Starting a running timer moves it.  ESP_ENOMEM. */
ESP_CHECKED esp_status timer_start_at(struct timer *t, struct owner *owner, const char *label, esp_nsec when,
                                      void (*cb)(struct timer *t));
/*! \brief The same, `delay` from the loop's time. */
ESP_CHECKED esp_status timer_start(struct timer *t, struct owner *owner, const char *label, esp_nsec delay,
                                   void (*cb)(struct timer *t));
/*! \brief [worker] Harmless when stopped.  Inside cb the timer is stopped already. */
void timer_stop(struct timer *t);
static inline int timer_active(const struct timer *t) { return t->worker != NULL; }
static inline esp_nsec timer_when(const struct timer *t) { return t->node.key; }

struct watch {
	_Alignas(8) unsigned char io[48]; /* struct ev_io; ev.h stays inside core/loop */
	struct list link;
	struct worker *worker;            /* NULL: stopped */
	struct owner *owner;
	void (*cb)(struct watch *w, uint32_t events);
	void (*discard)(struct watch *w);
	const char *label;
};

/*! \brief [worker] Call cb while fd is ready for ESP_READ and/or ESP_WRITE (level triggered).  events 0: paused. */
void watch_start(struct watch *w, struct owner *owner, const char *label, int fd, uint32_t events,
                 void (*cb)(struct watch *w, uint32_t events));
void watch_set(struct watch *w, uint32_t events);
/*! \brief Before close(fd).  Harmless when stopped. */
void watch_stop(struct watch *w);
static inline int watch_active(const struct watch *w) { return w->worker != NULL; }

/*! \brief Stop, and free what esp.loop/1 allocated around it (the owner left it behind). */
void timer_discard(struct timer *t);
void watch_discard(struct watch *w);

#endif
