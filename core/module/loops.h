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
/*! \brief Call the core's own function, which ends by itself: shielded, no deadline. */
int loops_run(struct generation *g, unsigned which, const char *name, loops_fn fn);

#endif
