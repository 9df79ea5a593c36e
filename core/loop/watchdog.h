/* core/loop/watchdog.h - the control loop's look at the other loops: does each make progress?  See loop.h for the
 * report's form; started by loop_init(), stopped by loop_run(). */
#ifndef CORE_LOOP_WATCHDOG_H
#define CORE_LOOP_WATCHDOG_H

#include <esp/abi.h>

void watchdog_start(esp_nsec stall);
void watchdog_stop(void);

#endif
