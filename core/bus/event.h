/* core/bus/event.h - the event bus ("esp.event/1"): facts, copied once, queued, never waited for.
 *
 * An event is declared by name with a schema and keeps its id for the life of the process.  A subscription's pattern
 * is matched when it, or an event, is declared: one word per event has a bit for each subscriber, so publishing what
 * nobody wants is a load and a branch.  A published event is one immutable, counted block that is put on the bounded
 * queue of each subscriber; each subscriber has a fiber of its own on the observer, so a slow one delays nobody.
 *
 * Threads: declare, subscribe and what concerns generations on control; wanted and publish anywhere, lock-free;
 * delivery on the observer.  Nothing here is ever visible to a publisher: drops are counted and logged once a minute.
 */
#ifndef CORE_BUS_EVENT_H
#define CORE_BUS_EVENT_H

#include <esp/event.h>
#include <esp/module.h>
#include <stdatomic.h>
#include <stdbool.h>

struct worker;

enum {
	EVENT_MAX = 1024,               /* declared events */
	EVENT_FIELDS_MAX = 64,
	EVENT_BYTES_MAX = 65536,        /* one published event; longer strings are cut */
	EVENT_STRING_MAX = 4096,        /* one string of it */
	EVENT_SUBSCRIBERS_MAX = 64,
	EVENT_DEPTH_DEFAULT = 65536,
	EVENT_BATCH_MAX = 256
};

extern _Atomic uint64_t event_interest[EVENT_MAX];   /* by id - 1: a bit per subscriber */

/*! \brief [any] Does anybody listen? */
static inline bool event_wanted(esp_event_id id)
{
	return id.v - 1u < EVENT_MAX && atomic_load_explicit(&event_interest[id.v - 1], memory_order_relaxed) != 0;
}

/*! \brief [control] ESP_EINVAL: the name is not dotted lower case, or a field is wrong or repeated.  ESP_ECONFLICT:
 *  declared before with another schema.  ESP_EBUSY: EVENT_MAX. */
ESP_CHECKED esp_status event_declare(const char *name, const char *help, const esp_event_field *fields, uint32_t n,
                                     uint32_t field_size, esp_event_id *ret);
/*! \brief [control] Remember a subscription; it gets nothing before event_activate().  self may be NULL for the core's
 *  own.  ESP_EINVAL: a pattern is a name, "prefix.*" or "*".  ESP_EBUSY: EVENT_SUBSCRIBERS_MAX. */
ESP_CHECKED esp_status event_subscribe(esp_module *self, const esp_subscription *s);
/*! \brief [any] Copies and queues; fields that were not declared, or with another type, are left out and counted.
 *  `source` is copied (63 bytes); NULL: "core". */
void event_publish(const char *source, esp_event_id id, const esp_field *fields, uint32_t n, uint32_t field_size);

/*! \brief [control] The snapshot changes: `in` starts to receive, `out` stops, in one step per event, so a fact reaches
 *  either the old generation of a module or the new one.  What is queued for `out` will still be delivered. */
void event_switch(esp_module *const *out, uint32_t nout, esp_module *const *in, uint32_t nin);
/*! \brief [control, in a fiber] ESP_SUSPENDS.  The generation stops: wait until what is queued for it was delivered, or
 *  until the deadline; drop the rest; then wait for a running batch and forget its subscriptions. */
void event_forget(esp_module *self, esp_nsec deadline);

/*! \brief [control] Deliver on this loop from now on; until then events wait in their rings. */
ESP_CHECKED esp_status event_start(struct worker *observer);
/*! \brief [control, in a fiber] ESP_SUSPENDS.  No new events; wait until all queued ones were delivered, or until the
 *  deadline; then drop the rest. The observer must still run. */
void event_stop(esp_nsec deadline);
/*! \brief [control] After the loops ended: free everything.  Ids are forgotten too. */
void event_free(void);
/*! \brief [observer] Once a minute: say how many were dropped, and for whom. */
void event_tick(void);

/*! \brief [control] Write events that match `pattern` as log lines.  ESP_EINVAL, ESP_EBUSY as event_subscribe(). */
ESP_CHECKED esp_status event_log(const char *pattern);

/*! \brief docs/events.md: every declared event with its fields, sorted by name. */
void event_document(void (*sink)(void *arg, esp_str piece), void *arg);

extern const esp_event_api event_api;

#endif
