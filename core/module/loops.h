/* core/module/loops.h - one function on several loops, and wait for all of them.
 *
 * Thread: control, in a fiber.  fn runs in a fiber of each loop.
 */
#ifndef CORE_MODULE_LOOPS_H
#define CORE_MODULE_LOOPS_H

#include "core/loop/worker.h"

#include <stdbool.h>

struct generation;
struct snapshot;

enum { LOOPS_MAIL = 1, LOOPS_CONTROL = 2, LOOPS_OBSERVER = 4, LOOPS_ALL = 7 };

typedef int (*loops_fn)(struct generation *g, struct worker *w, esp_err *err);

/*! \brief Call a module's function: fibers counted on the generation, running under the snapshot that is being
 *  built, with the deadline of the calling fiber.  The first error of all loops, in order of the loops.  When a
 *  function has not returned two seconds after the deadline it is left alone: ESP_ETIMEDOUT, and g->kept is set, for
 *  its code may run for ever. */
ESP_CHECKED int loops_call(struct generation *g, unsigned which, struct snapshot *under, const char *name, loops_fn fn,
                           esp_err *err);
/*! \brief Suspends.  Sleep; returns at once when the fiber is cancelled. */
void loops_nap(esp_nsec length);
/*! \brief Suspends, shielded.  Call the core's own function, which ends by itself as soon as every loop moves.  False:
 *  not by `until` (0: for ever); it follows, so `g` must live until it did. */
bool loops_run(struct generation *g, unsigned which, const char *name, loops_fn fn, esp_nsec until);
/*! \brief Suspends, shielded.  Begin a step of the end of `g`: a module's function in fibers that are counted on the
 *  generation; g->step names it until it has returned.  False: not by `until`; that is logged, and it goes on. */
bool loops_step(struct generation *g, unsigned which, const char *name, loops_fn fn, esp_nsec until);

#endif
