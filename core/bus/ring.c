/* core/bus/ring.c - bounded queue between threads (see ring.h).
 *
 * Cell `pos & mask` is free for lap k when turn == 2k, and holds lap k's item when turn == 2k + 1.  A putter claims
 * `pos` by moving `tail`, then stores the item and publishes it with the turn (release); a taker mirrors that.
 */
#include "core/bus/ring.h"

#include <stdatomic.h>
#include <stdlib.h>

struct cell {
	_Atomic uint64_t turn;
	void *item;
};

struct ring {
	uint32_t mask, shift;
	struct cell *cells;
	_Alignas(64) _Atomic uint64_t tail;   /* next to put */
	_Alignas(64) _Atomic uint64_t head;   /* next to take */
};

enum { RING_MAX_SHIFT = 24 };

struct ring *ring_new(uint32_t depth)
{
	struct ring *r = aligned_alloc(64, sizeof *r);
	uint32_t shift = 1;

	while (shift < RING_MAX_SHIFT && (1u << shift) < depth)
		shift++;
	if (!r)
		return NULL;
	*r = (struct ring){ .mask = (1u << shift) - 1, .shift = shift };
	r->cells = calloc((size_t)1 << shift, sizeof *r->cells);
	if (!r->cells) {
		free(r);
		return NULL;
	}
	return r;
}

void ring_free(struct ring *r)
{
	if (!r)
		return;
	free(r->cells);
	free(r);
}

uint32_t ring_depth(const struct ring *r)
{
	return r->mask + 1;
}

bool ring_put(struct ring *r, void *item)
{
	uint64_t pos = atomic_load_explicit(&r->tail, memory_order_relaxed);

	for (;;) {
		struct cell *c = &r->cells[pos & r->mask];
		uint64_t lap = pos >> r->shift;
		int64_t behind = (int64_t)(atomic_load_explicit(&c->turn, memory_order_acquire) - 2 * lap);

		if (behind < 0)
			return false;
		if (behind > 0) {   /* somebody else took this place */
			pos = atomic_load_explicit(&r->tail, memory_order_relaxed);
			continue;
		}
		if (atomic_compare_exchange_weak_explicit(&r->tail, &pos, pos + 1, memory_order_relaxed,
		                                          memory_order_relaxed)) {
			c->item = item;
			atomic_store_explicit(&c->turn, 2 * lap + 1, memory_order_release);
			return true;
		}
	}
}

void *ring_take(struct ring *r)
{
	uint64_t pos = atomic_load_explicit(&r->head, memory_order_relaxed);

	for (;;) {
		struct cell *c = &r->cells[pos & r->mask];
		uint64_t lap = pos >> r->shift;
		int64_t behind = (int64_t)(atomic_load_explicit(&c->turn, memory_order_acquire) - (2 * lap + 1));
		void *item;

		if (behind < 0)
			return NULL;
		if (behind > 0) {
			pos = atomic_load_explicit(&r->head, memory_order_relaxed);
			continue;
		}
		if (atomic_compare_exchange_weak_explicit(&r->head, &pos, pos + 1, memory_order_relaxed,
		                                          memory_order_relaxed)) {
			item = c->item;
			atomic_store_explicit(&c->turn, 2 * lap + 2, memory_order_release);
			return item;
		}
	}
}

bool ring_empty(const struct ring *r)
{
	return atomic_load_explicit(&r->head, memory_order_acquire) == atomic_load_explicit(&r->tail, memory_order_acquire);
}
