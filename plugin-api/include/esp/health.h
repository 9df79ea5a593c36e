/* esp/health.h - "esp.health/1": is this server alive, and does it serve?  For probes of load balancers and the like.
 *
 * Since ABI 1.1.
 */
#ifndef ESP_HEALTH_H
#define ESP_HEALTH_H

#include <esp/abi.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct esp_health_api {
	uint32_t size;
	/*! [any] 1: every thread moved within the last 10 s.  0: restart it. */
	int32_t (*live)(void);
	/*! [any] 1: alive, started, not stopping, and no module is down: send clients here. */
	int32_t (*ready)(void);
} esp_health_api;

#ifdef __cplusplus
}
#endif
#endif
