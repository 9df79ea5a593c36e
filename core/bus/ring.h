/* core/bus/ring.h - a bounded queue of pointers between threads: many put, one takes, nobody waits.
 *
 * A lock-free ring after D. Vyukov's bounded queue; the turn counters start at zero, so a large ring costs no
 * memory until it is used.  Order is kept per putting thread.  The ring owns no item: who takes one frees it.
 * ring_new and ring_free on one thread, with nobody else using the ring any more.
 */
#ifndef CORE_BUS_RING_H
#define CORE_BUS_RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ring;

/*! \brief A ring for at least `depth` items (rounded up to a power of two; 2 .. 2^24), or NULL: no memory. */
struct ring *ring_new(uint32_t depth);
void ring_free(struct ring *r);
uint32_t ring_depth(const struct ring *r);

/*! \brief [any] False: full. */
bool ring_put(struct ring *r, void *item);
/*! \brief [any] The oldest item, or NULL: empty (or its putter has not finished yet: it will wake you). */
void *ring_take(struct ring *r);
/*! \brief [any] Was anything put that is not taken?  A hint unless nobody puts. */
bool ring_empty(const struct ring *r);

#endif
