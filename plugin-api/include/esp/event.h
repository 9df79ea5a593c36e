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

typedef struct { uint32_t v; } esp_event_id;

/*! \brief One field an event may carry. */
typedef struct { const char *key; uint32_t type, reserved; const char *help; } esp_event_field;

typedef struct esp_event {
	uint32_t size;
	uint32_t nfields, field_size;
	const char *name;              /* "message.received" */
	const char *source;            /* instance that published it */
	esp_time wall; int64_t wall_nsec;
	const esp_field *fields;
} esp_event;

enum { ESP_DROP_NEWEST = 1, ESP_DROP_OLDEST = 2 };
typedef struct esp_subscription {
	uint32_t size;
	uint32_t depth;                /* events that may wait for this subscriber; 0: 65,536 */
	uint32_t overflow;             /* ESP_DROP_... */
	const char *pattern;           /* "message.received", "message.*", "*" */
	/*! [observer] ESP_SUSPENDS allowed.  A batch in order of publishing per thread. */
	void (*on_events)(esp_module *self, const esp_event *const *events, uint32_t n);
} esp_subscription;

typedef struct esp_event_api {
	uint32_t size;
	/*! [control, init] Same name declared twice: the same id; a different schema is refused. */
	ESP_CHECKED esp_status (*declare)(esp_module *self, const char *name, const char *help,
		const esp_event_field *fields, uint32_t n, uint32_t field_size, esp_event_id *ret);
	ESP_CHECKED esp_status (*subscribe)(esp_module *self, const esp_subscription *s);   /* [control, init] */
	int32_t (*wanted)(esp_event_id id);   /* [any] does anybody listen? */
	/*! [any] Copies; never blocks, never fails (drops are counted). */
	void (*publish)(esp_module *self, esp_event_id id, const esp_field *fields, uint32_t n, uint32_t field_size);
} esp_event_api;

#ifdef __cplusplus
}
#endif
#endif
