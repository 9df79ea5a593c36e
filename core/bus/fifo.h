/* core/bus/fifo.h - a bounded queue of pointers between threads: many put, nobody waits.
 *
 * Lock-free; the order is kept for each putting thread.  Its memory is that of the most items that ever waited at once,
 * whatever the depth: places are used again from the last one freed, so that a queue which is emptied at once
 * stays in one page.  The queue owns no item: who takes one frees it.
 * fifo_new and fifo_free on one thread, with nobody else using the queue any more.
 */
#ifndef CORE_BUS_FIFO_H
#define CORE_BUS_FIFO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct fifo;

/*! \brief A queue for `depth` items (at most 2^24), or NULL: no memory. */
struct fifo *fifo_new(uint32_t depth);
void fifo_free(struct fifo *q);
uint32_t fifo_depth(const struct fifo *q);

/*! \brief [any] False: full. */
bool fifo_put(struct fifo *q, void *item);
/*! \brief [any] The oldest item, or NULL: empty. */
void *fifo_take(struct fifo *q);
/*! \brief [any] Was anything put that is not taken?  A hint unless nobody puts. */
bool fifo_empty(const struct fifo *q);

#endif
