/* esp/slot.h - "esp.slot/1": a module's own data on the core's objects. */
#ifndef ESP_SLOT_H
#define ESP_SLOT_H

#include <esp/abi.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { ESP_SLOT_CONN = 1, ESP_SLOT_TXN, ESP_SLOT_MESSAGE, ESP_SLOT_WORKER };
typedef struct { uint32_t scope, index; } esp_slot;

typedef struct esp_slot_api {
	uint32_t size;
	/*! [control, init] Reserve `bytes` on every object of that scope; dtor (may be NULL) runs when it ends. */
	ESP_CHECKED esp_status (*reserve)(
		esp_module *self, uint32_t scope, size_t bytes, void (*dtor)(void *data), esp_slot *ret);
	/*! [worker] NULL until make() was called for this object. */
	void *(*get)(const void *object, esp_slot s);
	/*! [worker] Zeroed at first use; keeps the generation alive until the object ends.  NULL: no memory. */
	void *(*make)(void *object, esp_slot s);
} esp_slot_api;

#ifdef __cplusplus
}
#endif
#endif
