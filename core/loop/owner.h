/* core/loop/owner.h - who still has code or data in use: the host's own count per generation.
 *
 * Every fiber, job, timer, watcher, post and object (arena, connection, subscription ...) that can still run or
 * free a generation's code holds one count of its owner.  Counts are dropped by the host, on its own stack,
 * after the module's function returned - never inside module code - so an owner at zero may be unmapped.
 * NULL stands for the core itself and counts nothing.
 *
 * core/module embeds `struct owner` behind the public head of a generation: struct module_core.
 */
#ifndef CORE_LOOP_OWNER_H
#define CORE_LOOP_OWNER_H

#include <esp/abi.h>
#include <esp/module.h>
#include <stdatomic.h>

enum owner_kind {
	OWNER_FIBER,
	OWNER_JOB,
	OWNER_TIMER,
	OWNER_WATCH,
	OWNER_POST,
	OWNER_OBJECT,
	OWNER_ARENA,
	OWNER_CONN,             /* a connection that its session serves, parked or not */
	OWNER_KINDS
};

struct owner {
	uint32_t magic;
	char name[60];                     /* "filter_rspamd#3" */
	atomic_uint count[OWNER_KINDS];
	atomic_uint total;                 /* dropped last: at zero nobody touches the owner any more */
};

/*! \brief Head that every generation starts with; core/module appends its own fields behind it. */
struct module_core {
	struct esp_module pub;
	struct owner owner;
};

void owner_init(struct owner *o, const char *name);
/*! \brief Must be at zero. */
void owner_fini(struct owner *o);
/*! \brief [any] */
void owner_take(struct owner *o, enum owner_kind kind);
/*! \brief [any] The last touch of the owner by the dropper. */
void owner_drop(struct owner *o, enum owner_kind kind);
/*! \brief [any] Total of all kinds. */
uint32_t owner_total(const struct owner *o);
uint32_t owner_count(const struct owner *o, enum owner_kind kind);
const char *owner_kind_name(enum owner_kind kind); /* "fiber", "job", ... */
/*! \brief "2 fibers, 1 timer" into buf, for reports. */
void owner_describe(const struct owner *o, char *buf, size_t cap);

static inline struct owner *owner_of(esp_module *m)
{
	return m ? &((struct module_core *)(void *)m)->owner : NULL;
}

#endif
