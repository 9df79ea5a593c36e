/* core/loop/watchdog.h - the control loop's look at the other loops, and the observer's at the control loop: does each
 * make progress?  See loop.h for the report's form; started by loop_init(), stopped by loop_run(). */
#ifndef CORE_LOOP_WATCHDOG_H
#define CORE_LOOP_WATCHDOG_H

#include <esp/abi.h>

void watchdog_start(esp_nsec stall);
void watchdog_stop(void);
/*! \brief [observer] Look at the control loop from now on; and no longer. */
void watchdog_observe(void);
void watchdog_leave(void);

#endif
