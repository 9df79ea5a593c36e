/* core/loop/stack.h - a worker's fibers and their stacks, in slabs, pooled for the worker's life.
 *
 * Slab: 64 x (guard + stack) in one mapping (8 for the scarce large ones).  LIFO keeps hot stacks hot; once a
 * second what lay unused gives its pages back, except the top 8 KiB that hold the entry loop.
 */
#ifndef CORE_LOOP_STACK_H
#define CORE_LOOP_STACK_H

#include "core/loop/fiber.h"

#define STACK_SLAB 64u
#define STACK_SLAB_BIG 8u
#define STACK_SLABS 1024u
#define STACK_BIG_SLABS 8u
#define STACK_GUARD ((size_t)64 << 10)

struct stack_slab {
	char *base;
	size_t bytes;
	uint32_t count;
	unsigned valgrind[STACK_SLAB];
	struct fiber fibers[];
};

struct stack_pool {
	struct worker *worker;
	_Atomic(struct stack_slab *) slabs[STACK_SLABS]; /* read by wake() from other threads */
	uint32_t nslabs, nbig;
	struct list hot[2], cold[2];                    /* free fibers: touched lately / trimmed; [1]: big */
	struct timer trim;
};

struct stack_pool *stack_pool_new(struct worker *w);
void stack_pool_free(struct stack_pool *p);
/*! \brief A free fiber with a booted stack, out of every list.  NULL: no memory, or too many stacks. */
struct fiber *stack_take(struct stack_pool *p, int big);
void stack_give(struct stack_pool *p, struct fiber *f);
/*! \brief [any] By slot number; NULL when there is no such slot. */
struct fiber *stack_fiber(struct stack_pool *p, uint32_t slot);
/*! \brief Give pages of stacks unused since `before` back; returns how many stacks. */
uint32_t stack_trim(struct stack_pool *p, esp_nsec before);
size_t stack_size(int big);
/*! \brief Do guards cost a mapping each (mprotect), or none (MADV_GUARD_INSTALL)? */
int stack_guard_is_mprotect(void);

#endif
