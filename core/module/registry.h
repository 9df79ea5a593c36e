/* core/module/registry.h - what generations offer each other: services by number, contributions, roles, slots.
 *
 * Everything is recorded on the generation that registered it, on the control thread during init(); a snapshot copies
 * what its generations recorded, so workers read nothing that changes.  A service id has one number for the life of
 * the process (esp_binding.v), which indexes the table of every snapshot.
 */
#ifndef CORE_MODULE_REGISTRY_H
#define CORE_MODULE_REGISTRY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <esp/conn.h>
#include <esp/host.h>
#include <esp/slot.h>

struct generation;
struct snapshot;

enum { SERVICES_MAX = 256, CONTRIBUTIONS_MAX = 4096, ROLES_MAX = 64, SLOTS_MAX = 4096 };

/*! \brief What a generation recorded; part of struct generation. */
struct offered { uint32_t service; const esp_service *table; };
struct contributed { char *point; const void *item; };
struct served { char *role; esp_protocol protocol; char *alpn; };
struct registered {
	struct offered *services;
	struct contributed *contributions;
	struct served *roles;
	uint32_t nservices, ncontributions, nroles;
};

/*! \brief [control] Number of a service id, given at its first use; 0: too many. */
uint32_t service_number(const char *id);
/*! \brief [control] Its id. */
const char *service_id(uint32_t number);
uint32_t service_count(void);   /* numbers are 1 .. service_count() */

/*! \brief [control, init] esp_host.bind, provide, contribute and esp.listen/1 serve. */
ESP_CHECKED esp_status registry_bind(struct generation *g, const char *id, esp_binding *ret);
ESP_CHECKED esp_status registry_provide(struct generation *g, const char *id, const esp_service *table);
ESP_CHECKED esp_status registry_contribute(struct generation *g, const char *point, const void *item);
ESP_CHECKED esp_status registry_serve(struct generation *g, const char *role, const esp_protocol *p);
/*! \brief [control] After init(): did it provide all that its descriptor says?  ESP_EABI with the reason. */
ESP_CHECKED int registry_complete(const struct generation *g, esp_err *err);
/*! \brief [control] The generation is gone. */
void registry_forget(struct generation *g);

/*! \brief [control] Put `n` generations into the order in which they start: providers first, else as they stand in the
 *  list.  ESP_ECONFIG: a need that nobody meets, two providers of one id, a circle (with the names). */
ESP_CHECKED int registry_order(struct generation **list, size_t n, struct generation **ret_order, esp_err *err);

/*! \brief [control] Does `g` need a service that `by` provides? */
bool registry_needs(const struct generation *g, const struct generation *by);

/* --- slots (slot.c) ------------------------------------------------------------------------------------- */

/*! \brief One object's data, by slot number; zeroed at first. */
struct slots { void **items; uint32_t n; };
/*! \brief [worker of the object] The object ends: destructors, holds given back, memory freed. */
void slots_end(struct slots *s, uint32_t scope);
/*! \brief [worker] The same for what one generation has there (slots of the worker, before it stops). */
void slots_end_of(struct slots *s, uint32_t scope, const struct generation *g);
/*! \brief [control] The generation is gone: its numbers may be used again. */
void slots_forget(const struct generation *g);
/*! \brief [control] Slots the generation reserved. */
uint32_t slots_count(const struct generation *g);
extern const esp_slot_api slot_api;

#endif
