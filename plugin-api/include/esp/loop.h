/* esp/loop.h - "esp.loop/1": workers, watchers, timers, messages between threads.
 *
 * For libraries that bring their own I/O (curl, c-ares, libpq, hiredis) and for talking to other workers;
 * everything else uses fibers.  Callbacks run on their worker's loop, must be short and never suspend.
 * Watchers, timers and posts are counted on the generation; what is left at stop() is closed and reported.
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
	/*! [any] The calling thread's loop (worker, control or observer), or NULL on a lane. */
	esp_worker *(*here)(void);
	/*! [any] Mail workers are numbered 0 .. workers()-1 and live as long as the process. */
	uint32_t (*workers)(void);
	esp_worker *(*worker)(uint32_t index);
	uint32_t (*index)(const esp_worker *w);
	/*! [worker] The loop's time, taken once per turn. */
	esp_nsec (*now)(void);
	/*! [any] Exact monotonic time. */
	esp_nsec (*clock)(void);
	/*! [any] Wall clock, seconds, and with *ret_nsec (may be NULL) the nanoseconds within. */
	esp_time (*wall)(int64_t *ret_nsec);

	/*! [worker] Call cb while fd is ready (level triggered).  NULL: no memory. */
	esp_watch *(*watch)(esp_module *self, int fd, uint32_t events, void (*cb)(void *arg, uint32_t events), void *arg);
	void (*rewatch)(esp_watch *w, uint32_t events);
	void (*unwatch)(esp_watch *w);
	/*! [worker] Call cb once, `delay` from now.  untimer() before or in cb; after cb it frees itself. */
	esp_timer *(*after)(esp_module *self, esp_nsec delay, void (*cb)(void *arg), void *arg);
	void (*untimer)(esp_timer *t);
	/*! [any] Run fn(arg) on that worker's loop, in order of posting per sender.  ESP_EBUSY: its queue is full. */
	ESP_CHECKED esp_status (*post)(esp_module *self, esp_worker *w, void (*fn)(void *arg), void *arg);
	/*! [any] The same, in a new fiber. */
	ESP_CHECKED esp_status (*post_fiber)(
		esp_module *self, esp_worker *w, const char *name, void (*fn)(void *arg), void *arg);
} esp_loop_api;

#ifdef __cplusplus
}
#endif
#endif
