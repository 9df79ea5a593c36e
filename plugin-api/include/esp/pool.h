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
	/*! [control] A shared lane by name ("sync", "hash", "misc"), or NULL. */
	esp_lane *(*lane)(const char *name);
	/*! [control] A private lane; closed by the core when the generation is gone. queue: most waiting jobs. */
	esp_lane *(*open)(esp_module *self, const char *name, uint32_t width, uint32_t queue);
	/*! [worker] ESP_SUSPENDS, shielded once the job runs.  Run fn(arg) on the lane and return what it returned
	 *  in *ret (may be NULL).  arg may live on the fiber's stack.  ESP_EBUSY: queue full; ESP_ETIMEDOUT,
	 *  ESP_ECANCELED: it never ran. */
	ESP_CHECKED esp_status (*run)(esp_module *self, esp_lane *l, int32_t (*fn)(void *arg), void *arg, int32_t *ret);
	/*! [any] Run fn(arg) on the lane; nobody waits.  arg must own itself. */
	ESP_CHECKED esp_status (*submit)(esp_module *self, esp_lane *l, void (*fn)(void *arg), void *arg);
} esp_pool_api;

#ifdef __cplusplus
}
#endif
#endif
