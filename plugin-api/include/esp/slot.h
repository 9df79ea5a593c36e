/* esp/slot.h - "esp.slot/1": a module's own data on the core's objects.
 *
 * A connection, transaction or message belongs to one worker for life, so its data needs no lock.  The data is zeroed
 * memory that ends with the object: connection and message behind the last call that gets them, transaction with its
 * reply, worker behind worker_stop() of this generation.
 */
#ifndef ESP_SLOT_H
#define ESP_SLOT_H

#include <esp/abi.h>

#ifdef __cplusplus
extern "C" {
#endif

/*! \brief On what, and a reserved slot. */
enum { ESP_SLOT_CONN = 1, ESP_SLOT_TXN, ESP_SLOT_MESSAGE, ESP_SLOT_WORKER };
typedef struct { uint32_t scope, index; } esp_slot;

typedef struct esp_slot_api {
	uint32_t size;
	/*! [control, init] Reserve `bytes` (1 .. 1 MiB) on every object of that scope.  `dtor` (may be NULL) runs once
	 *  for data that make() made, when the object ends: [worker of the object], must not suspend, must not free `data`.
	 *  ESP_EINVAL: not in init(), or out of range; ESP_EBUSY: no more slots in that scope. */
	ESP_CHECKED esp_status (*reserve)(
		esp_module *self, uint32_t scope, size_t bytes, void (*dtor)(void *data), esp_slot *ret);
	/*! [worker of the object] NULL until make() was called for this object.  `object` is the esp_conn, esp_txn,
	 *  esp_message or esp_worker of the slot's scope. */
	void *(*get)(const void *object, esp_slot s);
	/*! [worker of the object] Zeroed at first use; valid until the object ends, and keeps the generation from being
	 *  stopped as long (ESP_SLOT_WORKER does not: it ends behind worker_stop()).  NULL: no memory. */
	void *(*make)(void *object, esp_slot s);
} esp_slot_api;

#ifdef __cplusplus
}
#endif
#endif
