/* esp/loop.h - "esp.loop/1": workers, watchers, timers, messages between threads.
 *
 * For libraries that bring their own I/O (curl, c-ares, libpq, hiredis) and for talking to other workers;
 * everything else uses fibers.  Callbacks run on their worker's loop, must be short and never suspend.
 * Watchers, timers and posts are counted on the generation; what is left behind worker_stop() is closed and reported,
 * by the name of the fiber that made it.
 */
#ifndef ESP_LOOP_H
#define ESP_LOOP_H

#include <esp/abi.h>
#include <esp/fiber.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct esp_watch esp_watch;
typedef struct esp_timer esp_timer;

typedef struct esp_loop_api {
	uint32_t size;
	/*! [any] The calling thread's loop (worker, control or observer), or NULL on a lane.  Loops live as long as the
	 *  process: here() in init() is the control thread, kept for a post_fiber() of what only [control] may do. */
	esp_worker *(*here)(void);
	/*! [any] Mail workers are numbered 0 .. workers()-1 and live as long as the process. */
	uint32_t (*workers)(void);
	esp_worker *(*worker)(uint32_t index);          /* NULL: no such worker */
	uint32_t (*index)(const esp_worker *w);         /* UINT32_MAX: control or observer */
	/*! [any] The loop's time, taken once per turn; on a lane as clock(). */
	esp_nsec (*now)(void);
	/*! [any] Exact monotonic time. */
	esp_nsec (*clock)(void);
	/*! [any] Wall clock, seconds, and with *ret_nsec (may be NULL) the nanoseconds within. */
	esp_time (*wall)(int64_t *ret_nsec);

	/*! [loop] Call cb while fd is ready (level triggered) for one of `events` (ESP_READ | ESP_WRITE), on this loop.
	 *  The fd stays the caller's: unwatch() before close().  NULL: no memory, bad arguments, not on a loop. */
	esp_watch *(*watch)(esp_module *self, int fd, uint32_t events, void (*cb)(void *arg, uint32_t events), void *arg);
	/*! [loop of watch()] Other events from now on; 0: none, the watcher stays. */
	void (*rewatch)(esp_watch *w, uint32_t events);
	/*! [loop of watch()] Its end, also in cb; cb is not called any more.  NULL is fine. */
	void (*unwatch)(esp_watch *w);
	/*! [loop] Call cb once, `delay` from now, on this loop (earlier than 0 is 0).  After cb it is gone: forget the
	 *  pointer there, or overwrite it with the next after().  NULL: no memory, not on a loop. */
	esp_timer *(*after)(esp_module *self, esp_nsec delay, void (*cb)(void *arg), void *arg);
	/*! [loop of after()] Before cb, or in it (then nothing happens).  NULL is fine. */
	void (*untimer)(esp_timer *t);
	/*! [any] Run fn(arg) on that loop as a callback, in order of posting per sender.  Once taken it runs: stop() comes
	 *  after it.  ESP_EBUSY: its queue is full; ESP_EINVAL. */
	ESP_CHECKED esp_status (*post)(esp_module *self, esp_worker *w, void (*fn)(void *arg), void *arg);
	/*! [any] The same, in a new fiber of that name, under the snapshot that is in force there then.  ESP_OK and no
	 *  fiber is free there: it waits for one. */
	ESP_CHECKED esp_status (*post_fiber)(
		esp_module *self, esp_worker *w, const char *name, void (*fn)(void *arg), void *arg);
} esp_loop_api;

#ifdef __cplusplus
}
#endif
#endif
