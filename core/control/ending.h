/* core/control/ending.h - what follows server.shutdown_timeout: the server process ends before its supervisor kills it.
 *
 *   0 ............. shutdown_timeout | MODULES | LOOPS | . KILL
 *   work that has begun               cancelled: modules end | fibers that are left end | the process is gone
 */
#ifndef CORE_CONTROL_ENDING_H
#define CORE_CONTROL_ENDING_H

enum {
	ENDING_MODULES_MS = 1000,        /* what does not end then is named and left */
	ENDING_LOOPS_MS = 500,           /* how long a fiber that does not end holds a loop */
	ENDING_KILL_MS = 2000            /* all of it, and time to write the log */
};

_Static_assert(ENDING_MODULES_MS + ENDING_LOOPS_MS < ENDING_KILL_MS, "who ends by itself is not killed");

#endif
