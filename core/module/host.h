/* core/module/host.h - what a module is given: `esp_host`, the core interfaces by id, esp.mem/1. */
#ifndef CORE_MODULE_HOST_H
#define CORE_MODULE_HOST_H

#include <esp/host.h>

extern const esp_host host_table;
/*! \brief esp.mem/1; also for arenas that the core makes and lends to modules. */
extern const esp_mem_api mem_api;

/*! \brief [start of the process] Offer a core interface to modules ("esp.mail/1").  The id and table live for ever.
 *  The interfaces of core/loop, config, bus and module are offered without it.  ESP_EBUSY: more than 32. */
ESP_CHECKED esp_status host_offer(const char *id, uint32_t minor, const void *table);
/*! \brief [any] Does the core have that interface?  *ret_minor may be NULL. */
const void *host_core(const char *id, uint32_t *ret_minor);

#endif
