/* core/bus/event-priv.h - the bus's insides, shared by event.c (declaring), event-block.c (copying) and
 * event-deliver.c (queues and subscribers). */
#ifndef CORE_BUS_EVENT_PRIV_H
#define CORE_BUS_EVENT_PRIV_H

#include "core/bus/event.h"

struct event_type {
	char *name, *help;
	uint32_t nfields;
	struct event_type_field { char *key, *help; uint32_t type; } *fields;
	_Atomic bool complained;             /* a wrong field was logged */
};

/*! \brief One published event; immutable once queued, freed by the last subscriber that had it. */
struct event_block {
	_Atomic uint32_t refs;
	uint32_t id;
	esp_event event;                     /* points into this block and to the type's names */
	char source[64];
	esp_field fields[];                  /* then the strings */
};

/*! \brief [any] The type of an id, or NULL. */
struct event_type *event_type_of(esp_event_id id);
uint32_t event_types(void);
/*! \brief Does "message.*" match "message.received"? */
bool event_matches(const char *pattern, const char *name);
bool event_pattern_ok(const char *pattern);

/*! \brief NULL: no memory.  *ret_wrong: fields left out. */
struct event_block *event_block_new(const struct event_type *t, uint32_t id, const char *source,
	const esp_field *fields, uint32_t n, uint32_t field_size, uint32_t *ret_wrong);
void event_block_unref(struct event_block *b);

/*! \brief [control] A new type appeared: set the bits of subscribers that want it. */
void event_subscribers_match(uint32_t id, const char *name);
/*! \brief [any] Put the block on the queue of every subscriber in `interest`; takes over the caller's reference. */
void event_queue(struct event_block *b, uint64_t interest);
/*! \brief [control] Part of event_free(). */
void event_types_free(void);

#endif
