/* core/base/rc.c - shared immutable memory with an atomic count (see rc.h). */
#include "core/base/rc.h"

#include "core/base/assert.h"

#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>

#define RC_MAGIC 0x52433031u

/* [head][bytes given to the user, 16-aligned][children] */
struct rc {
	uint32_t magic;
	uint32_t nchildren;
	size_t size;
	void (*on_free)(void *rc);
	union { struct rc *next_dead; } u;
	atomic_uint count;
} __attribute__((aligned(16)));
_Static_assert(_Alignof(max_align_t) >= 16, "calloc does not align as rc_new() promises");

static struct rc *rc_head(const void *p)
{
	struct rc *r = (struct rc *)(uintptr_t)p - 1;

	MAGIC_CHECK(r, RC_MAGIC);
	return r;
}

static size_t padded(size_t n)
{
	return (n + 15) & ~(size_t)15;
}

static void **children_of(const struct rc *r)
{
	return (void **)(void *)((char *)(uintptr_t)(r + 1) + padded(r->size));
}

void *rc_new_with(size_t bytes, uint32_t nchildren, void (*fn)(void *))
{
	size_t total;
	struct rc *r;

	if (nchildren > RC_CHILDREN_MAX || bytes > SIZE_MAX / 2)
		return NULL;
	total = sizeof(*r) + padded(bytes) + nchildren * sizeof(void *);
	r = calloc(1, total);      /* untouched pages of a large one cost nothing */
	if (!r)
		return NULL;
	r->magic = RC_MAGIC;
	r->nchildren = nchildren;
	r->size = bytes;
	r->on_free = fn;
	atomic_init(&r->count, 1);
	return r + 1;
}

void *rc_new(size_t bytes, uint32_t nchildren)
{
	return rc_new_with(bytes, nchildren, NULL);
}

void rc_set_child(void *rc, uint32_t index, void *child)
{
	struct rc *r = rc_head(rc);
	void *old;

	ESP_ASSERT(index < r->nchildren);
	old = children_of(r)[index];
	children_of(r)[index] = child;
	rc_unref(old);
}

void *rc_child(const void *rc, uint32_t index)
{
	const struct rc *r = rc_head(rc);

	ESP_ASSERT(index < r->nchildren);
	return children_of(r)[index];
}

void *rc_ref(void *rc)
{
	uint32_t before = atomic_fetch_add_explicit(&rc_head(rc)->count, 1, memory_order_relaxed);

	ESP_ASSERT(before > 0 && before < UINT32_MAX / 2);
	return rc;
}

/* Last reference?  The release/acquire pair orders every reader's last read before the free. */
static int drop(struct rc *r)
{
	uint32_t before = atomic_fetch_sub_explicit(&r->count, 1, memory_order_acq_rel);

	ESP_ASSERT(before > 0);
	return before == 1;
}

void rc_unref(void *rc)
{
	struct rc *dead, *r;
	uint32_t i;

	if (!rc || !drop(rc_head(rc)))
		return;
	dead = rc_head(rc);
	dead->u.next_dead = NULL;
	while ((r = dead)) { /* a work list instead of recursion: depth is unbounded */
		dead = r->u.next_dead;
		for (i = 0; i < r->nchildren; i++) {
			void *child = children_of(r)[i];

			if (child && drop(rc_head(child))) {
				rc_head(child)->u.next_dead = dead;
				dead = rc_head(child);
			}
		}
		if (r->on_free)
			r->on_free(r + 1);
		MAGIC_CLEAR(r);
		free(r);
	}
}

size_t rc_size(const void *rc) { return rc_head(rc)->size; }
uint32_t rc_count(const void *rc) { return atomic_load(&rc_head(rc)->count); }
