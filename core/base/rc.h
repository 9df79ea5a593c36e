/* core/base/rc.h - shared immutable memory with an atomic count (esp/mem.h rc_*).
 *
 * Written once by its maker, then only read, by any thread.  It may own references to other such memory; they
 * are given back when it dies, without recursion, so a chain of a million links is fine.  No code of the
 * maker is needed to free it: it may outlive the module that made it.
 */
#ifndef CORE_BASE_RC_H
#define CORE_BASE_RC_H

#include <stddef.h>
#include <stdint.h>

#define RC_CHILDREN_MAX 4096u

/*! \brief Zeroed, 16-aligned, one reference.  NULL: no memory, or more than RC_CHILDREN_MAX children. */
void *rc_new(size_t bytes, uint32_t nchildren);
/*! \brief The core's own: fn(rc) runs just before the memory is freed (never for memory made by modules). */
void *rc_new_with(size_t bytes, uint32_t nchildren, void (*fn)(void *rc));
void rc_set_child(void *rc, uint32_t index, void *child); /* takes over the reference; gives back the old */
void *rc_child(const void *rc, uint32_t index);
void *rc_ref(void *rc);
void rc_unref(void *rc); /* NULL is fine */
/*! \brief Size given to rc_new(). */
size_t rc_size(const void *rc);
/*! \brief Snapshot of the count, for tests and gauges. */
uint32_t rc_count(const void *rc);

#endif
