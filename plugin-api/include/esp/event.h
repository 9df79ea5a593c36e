/* esp/event.h - "esp.event/1": facts.  Named in the past tense, copied, queued, never waited for.
 *
 * Declared once with a schema (docs/events.md is generated from the declarations).  Publishing never waits:
 * queues are bounded and drops are counted.  Subscribers run on the observer thread, in batches.
 * Facts that others rely on are appended durably by observe/eventlog in the transaction of the change.
 */
#ifndef ESP_EVENT_H
#define ESP_EVENT_H

#include <esp/abi.h>
#include <esp/log.h>

#ifdef __cplusplus
extern "C" {
#endif

/*! \brief A declared event; the same number in every generation of this process. */
typedef struct { uint32_t v; } esp_event_id;

/*! \brief One field an event may carry; type is ESP_F_... of esp/log.h. */
typedef struct { const char *key; uint32_t type, reserved; const char *help; } esp_event_field;

/*! \brief One that was published, as subscribers get it; borrowed. */
typedef struct esp_event {
	uint32_t size;
	uint32_t nfields, field_size;
	const char *name;              /* "message.received" */
	const char *source;            /* instance that published it */
	esp_time wall; int64_t wall_nsec;
	const esp_field *fields;
} esp_event;

/*! \brief Which events, and what is dropped when the subscriber is too slow. */
enum { ESP_DROP_NEWEST = 1, ESP_DROP_OLDEST = 2 };
typedef struct esp_subscription {
	uint32_t size;
	uint32_t depth;                /* events that may wait for this subscriber; 0: 65,536 */
	uint32_t overflow;             /* ESP_DROP_... */
	const char *pattern;           /* "message.received", "message.*", "*" */
	/*! [observer] ESP_SUSPENDS.  A batch in order of publishing per thread, all borrowed until it returns; while it
	 *  waits, its own queue fills.  Begins with ACTIVE; the last call has returned before stop(). */
	void (*on_events)(esp_module *self, const esp_event *const *events, uint32_t n);
} esp_subscription;

typedef struct esp_event_api {
	uint32_t size;
	/*! [control, init] Words of [a-z0-9_-] with dots between, at most 64 bytes, as "message.received".  The same name
	 *  declared twice, by anybody: the same id.  ESP_ECONFLICT: with other fields; ESP_EINVAL; ESP_EBUSY: too many. */
	ESP_CHECKED esp_status (*declare)(esp_module *self, const char *name, const char *help,
		const esp_event_field *fields, uint32_t n, uint32_t field_size, esp_event_id *ret);
	/*! [control, init] Copied.  Needs no declaration: who publishes it may come later.  ESP_EINVAL: bad pattern, no
	 *  on_events; ESP_EBUSY: too many subscribers. */
	ESP_CHECKED esp_status (*subscribe)(esp_module *self, const esp_subscription *s);
	int32_t (*wanted)(esp_event_id id);   /* [any] does anybody listen? */
	/*! [any] Copies; never blocks, never fails (drops are counted).  Any of the declared fields, in any order; others
	 *  are left out and counted.  `field_size` = sizeof(esp_field). */
	void (*publish)(esp_module *self, esp_event_id id, const esp_field *fields, uint32_t n, uint32_t field_size);
} esp_event_api;

#ifdef __cplusplus
}
#endif
#endif
