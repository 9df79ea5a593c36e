/* core/module/object.h - what core/module remembers of connections, transactions and messages of one loop.
 *
 * Found by address.  Made at the first need; a connection's entry ends with the connection's arena, the others' when
 * their owner says so (mail_host.slots_end).  Thread: the object's worker.
 */
#ifndef CORE_MODULE_OBJECT_H
#define CORE_MODULE_OBJECT_H

#include "core/module/registry.h"

struct snapshot;

struct object {
	const void *key;
	uint32_t scope;
	struct slots slots;
	struct snapshot *pin;      /* connections: what a transaction pinned */
};

/*! \brief The entry, or NULL; with a scope it is made (then NULL means no memory). */
struct object *object_of(const void *key, uint32_t scope);
/*! \brief The object ends: slots are destroyed. */
void object_end(const void *key);

#endif
