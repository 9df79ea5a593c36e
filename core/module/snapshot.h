/* core/module/snapshot.h - what new work sees: an immutable set of generations with their chains and tables.
 *
 * Built on the control thread, published by message: every loop (mail workers, control, observer) switches its own
 * pointer between two turns and pins the new one then.  Fibers pin what they run under; a fiber inherits its spawner's
 * snapshot, a fiber started from a callback takes its loop's.  Connections and transactions pin with snapshot_pin.
 * The counts are per loop and not atomic.  When a loop's count of a retired snapshot reaches zero, it says so to
 * control; when every loop has, the snapshot is freed.
 */
#ifndef CORE_MODULE_SNAPSHOT_H
#define CORE_MODULE_SNAPSHOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/loop/mailbox.h"
#include "core/loop/worker.h"
#include "core/module/domains.h"
#include "core/module/registry.h"

#include <esp/hook.h>
#include <stdatomic.h>

#define SNAPSHOT_MAGIC 0x534e4150u

struct chain;
struct config;
struct generation;
struct hook_override;
struct modules;

enum { LOOPS_MAX = WORKER_MAX + 2 };

/*! \brief One service of a snapshot; indexed by its number.  An EXCLUSIVE one has no table here: see exclusive.h. */
struct service_entry { const esp_service *table; struct generation *by; bool exclusive; };
struct role_entry { const char *role; struct generation *by; const esp_protocol *protocol; };

/*! \brief What one loop knows of a snapshot. */
struct snapshot_cell {
	_Alignas(64) uint64_t pins;
	bool retired;                 /* zero pins from now on means released */
	struct mail_node adopt, released;
	struct snapshot *snapshot;
};

struct snapshot {
	uint32_t magic;
	uint64_t number;
	_Atomic bool building;        /* its generations are being started: their fibers pass the gate of exclusive.h */
	struct modules *modules;
	struct config *config;
	size_t ngens;
	struct generation **gens;     /* in module-list order */
	struct generation **order;    /* in order of starting */
	struct chain *chains[ESP_AT_COUNT];
	uint32_t nservices;
	struct service_entry *services;
	uint32_t nroles;
	struct role_entry *roles;
	struct domain_table domains;
	uint32_t nloops, unreleased;  /* control: loops that have not said RELEASED */
	struct snapshot_cell *cells;  /* by worker number */
	struct list link;             /* modules.snapshots */
};

/*! \brief What a generation has in a snapshot, where it is not what it has now. */
struct snapshot_part { const struct hook_override *overrides; const esp_cfg *cfg; };

/*! \brief [control] Build from generations that are at least INITED.  Takes a reference of the configuration; counts
 *  itself on each generation.  `parts`: one for each generation; NULL: what they have now.  ESP_ECONFIG with the
 * reason (chains, two modules for one role). */
ESP_CHECKED int snapshot_build(struct modules *m, struct config *c, struct generation **gens, size_t n,
                               struct generation **order, const struct snapshot_part *parts, struct snapshot **ret,
                               esp_err *err);
/*! \brief [control] Every loop makes it its current one, and retires the one before. */
void snapshot_publish(struct snapshot *s);
/*! \brief [control] It never was published: free it once nothing pins it. */
void snapshot_abandon(struct snapshot *s);

/*! \brief [control] Free it; it was released everywhere, or the loops have ended. */
void snapshot_destroy(struct snapshot *s);

/*! \brief [any loop] The calling loop's current snapshot; NULL before the first. */
struct snapshot *snapshot_here(void);
/*! \brief [any loop] Count one more use on the calling loop; returns s.  NULL stays NULL. */
struct snapshot *snapshot_pin(struct snapshot *s);
void snapshot_unpin(struct snapshot *s);
/*! \brief [in a fiber] What the running fiber pinned; in a callback the loop's current one. */
struct snapshot *snapshot_now(void);
/*! \brief [in a fiber] Run under `s` from here on; returns the one before, both pins move with it: pass what was
 *  returned to the second call to go back. */
struct snapshot *snapshot_enter(struct snapshot *s);

/*! \brief [any loop] Look up in a pinned snapshot; NULL when there is none. */
const struct chain *snapshot_chain(const struct snapshot *s, esp_point p);
const struct role_entry *snapshot_role(const struct snapshot *s, esp_str role);
/*! \brief [any loop] Every contribution of that point in module-list order; see esp_host.contributions.  Those of an
 *  EXCLUSIVE generation that was replaced since are its successor's. */
int32_t snapshot_contributions(const struct snapshot *s, const char *point,
                               int32_t (*each)(void *arg, esp_module *by, const void *item), void *arg);
/*! \brief [any loop] The generation of an instance, or NULL. */
struct generation *snapshot_find(const struct snapshot *s, const char *name);

/*! \brief Process start, before the loops: pin and release for fibers. */
void snapshot_attach(void);

#endif
