/* core/bus/bus.h - the bus as a whole: what core/main starts and stops, what core/module gives to modules.
 *
 *   log_open()                        as soon as the configuration is read; lines are written directly
 *   bus_start(observer)               the loops run: lines and events go through the observer
 *   event_switch(out, in)             a snapshot was published (core/module)
 *   bus_forget(module, deadline)      a generation stops (core/module)
 *   bus_stop(deadline)                no module publishes any more; the observer still runs
 *   bus_free()                        all loops have ended
 */
#ifndef CORE_BUS_BUS_H
#define CORE_BUS_BUS_H

#include "core/bus/chain.h"
#include "core/bus/event.h"
#include "core/bus/log.h"
#include "core/bus/metric.h"

struct loop_stall;

/*! \brief The table of "esp.hook/1", "esp.event/1", "esp.metric/1" or "esp.log/1", or NULL. */
const void *bus_api(const char *id);

/*! \brief [control] Deliver events and write the log on this loop, and report drops once a minute. */
ESP_CHECKED esp_status bus_start(struct worker *observer);
/*! \brief [control, in a fiber] ESP_SUSPENDS.  Deliver what is queued (until the deadline), write what is queued, go
 *  back to direct logging. */
void bus_stop(esp_nsec deadline);
/*! \brief [control] For loop_on_stall(): one log line for each report, counted by module and point
 *  (esp_loop_stalls_total).  This is how a hook that blocks its worker is named while it still runs. */
void bus_on_stall(const struct loop_stall *s);
/*! rief [control] Free everything; the log goes on to stderr. */
void bus_free(void);
/*! \brief [control, in a fiber] ESP_SUSPENDS.  Remove the hooks and subscriptions of a generation that no snapshot
 *  uses any more, or that failed to start. */
void bus_forget(esp_module *self, esp_nsec deadline);

#endif
