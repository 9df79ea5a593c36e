/* core/loop/fiber-depth.h - how deep the stacks of fibers become: for tests, and `esp-cli stacks`.
 *
 * Off, it costs a look at a flag for each life.  On, each life also fills its stack (10 us, and its pages stay with the
 * process until the pool trims them, a second later) and reads it again at its end.
 */
#ifndef CORE_LOOP_FIBER_DEPTH_H
#define CORE_LOOP_FIBER_DEPTH_H

#include "core/loop/fiber.h"

#include <stdbool.h>

#define FIBER_DEPTHS 128u

/*! \brief What the lives of one name and size of stack came to. */
struct fiber_depth {
	char name[FIBER_NAME_MAX];
	uint64_t lives;
	size_t deepest, size;     /* bytes */
};

/*! \brief [any] Measure lives that begin from now on; to switch it on forgets what was measured before. */
void fiber_depth_measure(bool on);
/*! \brief [any] What was measured of lives that have ended, in no order; returns how many.  Names beyond FIBER_DEPTHS
 *  are left out. */
uint32_t fiber_depths(struct fiber_depth ret[FIBER_DEPTHS]);

/*! \brief [worker] Fill the stack of a fiber that was spawned and has not run. */
void fiber_stack_paint(struct fiber *f);
/*! \brief [worker] Deepest use in bytes since fiber_stack_paint(), at least 4 KiB. */
size_t fiber_stack_depth(const struct fiber *f);

/*! \brief For fiber.c: a life begins; one that was painted has ended. */
void fiber_depth_begin(struct fiber *f);
void fiber_depth_end(struct fiber *f);

#endif
