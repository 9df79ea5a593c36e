/* core/module/generation.h - one configured, running instance of an image.
 *
 *   NEW -> CHECKED -> INITED -> WARM -> ACTIVE -> DRAINING -> STOPPING -> STOPPED -> freed
 *
 * Made and ended on the control thread; workers hold pointers to it only through a snapshot they pin or through a
 * count of its owner.  It ends when no snapshot lists it and its owner counts nothing but timers, watchers, arenas:
 * then worker_stop() runs on every worker, what is left there is closed and reported, stop() runs, and a barrier goes
 * through every loop before the image may be unmapped.
 */
#ifndef CORE_MODULE_GENERATION_H
#define CORE_MODULE_GENERATION_H

#include "core/base/list.h"
#include "core/config/config.h"
#include "core/loop/owner.h"
#include "core/module/image.h"
#include "core/module/registry.h"

#include <esp/host.h>
#include <stdatomic.h>

#define GENERATION_MAGIC 0x47454e31u

struct hook_override;
struct snapshot;
struct modules;

/* Arenas that a module made and has not freed, by their label (a literal, so its address tells them apart). */
enum { ARENA_LABELS = 32 };
struct arena_count { _Atomic(const char *) label; atomic_uint n; };

enum gen_state { GEN_NEW, GEN_CHECKED, GEN_INITED, GEN_WARM, GEN_ACTIVE, GEN_DRAINING, GEN_STOPPING, GEN_STOPPED };

struct generation {
	struct module_core core;            /* first: an esp_module * is a generation * */
	uint32_t magic;
	_Atomic(enum gen_state) state;      /* written by control */
	struct modules *modules;
	struct image *image;
	uint64_t number;
	char name[64], file[64];            /* instance, image; core.pub.name points here */
	bool down;     /* stopped for a successor that failed, and could not be started again; written by control */
	bool left_out; /* after crashes: its hooks answer by their failure policy, nothing is started */
	bool kept;                          /* its drain was given up: it stays mapped and uncounted work may still run */
	esp_arena *arena;
	struct arena_count arenas[ARENA_LABELS]; /* the last one counts all labels there is no place for */
	esp_cfg *cfg;                       /* in force */
	esp_cfg **old_cfgs;                 /* after live changes: the module may still point into them */
	uint32_t nold_cfgs;
	struct registered registered;
	struct hook_override *overrides;    /* ESP_AT_COUNT, or NULL */
	bool inited;                        /* init() succeeded: stop() will be called */
	unsigned begun;                     /* steps of its end that were called (generation.c) */
	const char *step;                   /* the one that has not returned; NULL */
	esp_nsec step_since;
	bool hangs;                         /* that one was waited for in vain */
	_Atomic uint64_t started;           /* mail workers on which worker_start() succeeded, a bit each */
	uint32_t snapshots;                 /* alive ones that list it */
	esp_nsec active_since, drain_time;
	esp_nsec drain_until;               /* while it drains; a shutdown makes it earlier */
	void *left;                         /* leave() */
	size_t left_len;
	uint32_t left_version;
	void *inherited;                    /* what its predecessor left; take() */
	size_t inherited_len;
	uint32_t inherited_version;
	struct list link;                   /* modules.draining */
};

static inline struct generation *generation_of(const esp_module *m)
{
	return (struct generation *)(void *)(uintptr_t)m;
}

/*! \brief [control] A generation of `image` (takes one reference) with its configuration (takes it over). */
ESP_CHECKED int generation_new(struct modules *m, const char *name, struct image *image, esp_cfg *cfg,
                               struct generation **ret, esp_err *err);
/*! \brief [control] Forget what it registered, give the image back, free.  Nothing may count it. */
void generation_free(struct generation *g);

/*! \brief [control] The steps of life; each calls the module's function if it has one, with the breadcrumb set and the
 *  deadline of the running fiber.  The reason starts with "name: step: ". */
ESP_CHECKED int generation_check(struct generation *g, esp_err *err);
ESP_CHECKED int generation_init(struct generation *g, esp_err *err);
ESP_CHECKED int generation_start(struct generation *g, struct snapshot *under, esp_err *err);        /* suspends */
ESP_CHECKED int generation_worker_start(struct generation *g, struct snapshot *under, esp_err *err); /* suspends */
ESP_CHECKED int generation_reconfigure(struct generation *g, const esp_cfg *next, bool commit, esp_err *err);
/*! \brief [control] Suspends.  Tell it to drain by `deadline`, it and then its workers; the state becomes DRAINING.
 *  False: drain() or worker_drain() has not returned by `until`; generation_stop() goes on from there. */
bool generation_drain(struct generation *g, esp_nsec deadline, esp_nsec until);
/*! \brief [control] Its work goes on: the next drain begins anew. */
void generation_undrain(struct generation *g);
/*! \brief [control] Does nothing but a timer, a watcher or an arena of its own use it? */
bool generation_idle(const struct generation *g);

/*! \brief [control] Suspends.  True when it is so; false when the time in *deadline (which may move) came first.
 *  NULL: no deadline. */
bool generation_wait(bool (*so)(const struct generation *g), const struct generation *g, const esp_nsec *deadline);

static inline bool generation_is_exclusive(const struct generation *g)
{
	return g->image->desc.flags & ESP_MODULE_EXCLUSIVE;
}
/*! \brief [control] Suspends.  Log by name which fibers run and which arenas were not freed. */
void generation_name_left(struct generation *g);
/*! \brief [control] Suspends, at most until `until` (0: until every loop has moved).  Cancel its fibers everywhere. */
void generation_cancel(struct generation *g, esp_nsec until);

/*! \brief How long an end may take: its work (then it is cancelled), one step of it (0: until `last`), all of it. */
struct ending { esp_nsec work, step, last; };
/*! \brief [control] Suspends.  Wait for its work, cancel what is left, worker_stop() where worker_start() ran, close
 *  and report what is left there, stop(), and the same once more.  False: a step has not returned or something still
 *  counts it; it must not be freed, and may be asked again: no step is called twice. */
bool generation_stop(struct generation *g, const struct ending *e);

const char *generation_state_name(enum gen_state s);
/*! \brief Seconds it may take to drain: by kind (file name) and server.drain. */
esp_nsec generation_drain_time(const char *file, const struct config *c);

#endif
