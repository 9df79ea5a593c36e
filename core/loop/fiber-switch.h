/* core/loop/fiber-switch.h - the only place that changes stacks. */
#ifndef CORE_LOOP_FIBER_SWITCH_H
#define CORE_LOOP_FIBER_SWITCH_H

#include "core/loop/fiber.h"

/*! \brief Leave `from`, continue `to`; returns when somebody switches back.  dying: `from` keeps no live frame with
 *  sanitizer state (the end of a life). */
void fiber_switch(struct fiber_ctx *from, struct fiber_ctx *to, int dying);
/*! \brief Make the first context of f on its stack; afterwards fiber_switch() to it starts a life. */
void fiber_switch_boot(struct fiber *f);
/*! \brief Fill ctx for the calling thread's own stack. */
void fiber_switch_thread(struct fiber_ctx *ctx);
/*! \brief Annotations for a new and a dead stack (sanitizers, valgrind); returns valgrind's id. */
unsigned fiber_switch_stack_new(struct fiber_ctx *ctx);
void fiber_switch_stack_free(struct fiber_ctx *ctx, unsigned valgrind_id);
/*! \brief fiber.c: run one life; called by the entry loop on the fiber's stack. */
void fiber_life(struct fiber *f);

#endif
