/* esp/pool.h - "esp.pool/1": threads for work that blocks.
 *
 * Lanes keep slow work apart: `sync` (fsync, file writes; width 8), `hash` (passwords; width cores/2, at
 * least 1), `misc` (name service, scans; width 4).  A module may open a private lane, of width 1 where order
 * matters.  Every lane's queue is bounded.  A job touches no core object.
 */
#ifndef ESP_POOL_H
#define ESP_POOL_H

#include <esp/abi.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct esp_lane esp_lane;

typedef struct esp_pool_api {
	uint32_t size;
	/*! [any] A shared lane by name ("sync", "hash", "misc"), or NULL.  It lives as long as the process. */
	esp_lane *(*lane)(const char *name);
	/*! [control] A private lane of `width` threads (1 .. 64), started when there is work; `queue`: most jobs that wait
	 *  (1 .. 1,000,000).  Closed by the core when the generation is gone.  NULL: out of range, no memory. */
	esp_lane *(*open)(esp_module *self, const char *name, uint32_t width, uint32_t queue);
	/*! [loop] ESP_SUSPENDS, shielded once the job runs.  Run fn(arg) [lane] and hand its result over in *ret (may be
	 *  NULL).  arg may live on the fiber's stack.  ESP_OK: it ran, whatever *ret says.  ESP_EBUSY: queue full;
	 *  ESP_ETIMEDOUT, ESP_ECANCELED: it never ran.  Jobs of one lane of width 1 run in the order they came. */
	ESP_CHECKED esp_status (*run)(esp_module *self, esp_lane *l, int32_t (*fn)(void *arg), void *arg, int32_t *ret);
	/*! [any] Run fn(arg) [lane]; nobody waits, and once taken nothing cuts it short: stop() comes after it.  `arg` must
	 *  live until fn is done with it; fn frees it.  ESP_EBUSY: queue full, or the lane is closed. */
	ESP_CHECKED esp_status (*submit)(esp_module *self, esp_lane *l, void (*fn)(void *arg), void *arg);
} esp_pool_api;

#ifdef __cplusplus
}
#endif
#endif
