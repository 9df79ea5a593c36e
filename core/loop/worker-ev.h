/* core/loop/worker-ev.h - a worker's libev watchers: the one header that shows libev, for core/loop's files only. */
#ifndef CORE_LOOP_WORKER_EV_H
#define CORE_LOOP_WORKER_EV_H

#include "core/loop/worker.h"

#include <ev.h>

struct worker_ev {
	struct ev_loop *loop;
	ev_prepare prepare;
	ev_check check;
	ev_idle idle;
	ev_async async;
	ev_timer timer;     /* the only one: armed for the earliest of both heaps */
	esp_nsec armed;     /* what it is armed for; 0: stopped */
	esp_nsec polled;    /* our clock when libev last read its own */
	struct timer give_up;
	struct timer retry; /* of pending spawns: the place may become free on another worker */
	void *altstack;
};

static inline int events_to_ev(uint32_t events)
{
	return (events & ESP_READ ? EV_READ : 0) | (events & ESP_WRITE ? EV_WRITE : 0);
}
static inline uint32_t events_from_ev(int revents)
{
	return (revents & EV_READ ? (uint32_t)ESP_READ : 0u) | (revents & EV_WRITE ? (uint32_t)ESP_WRITE : 0u);
}

#endif
