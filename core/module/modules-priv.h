/* core/module/modules-priv.h - the insides of `struct modules`, for core/module alone. */
#ifndef CORE_MODULE_MODULES_PRIV_H
#define CORE_MODULE_MODULES_PRIV_H

#include "core/base/list.h"
#include "core/base/map.h"
#include "core/config/config.h"
#include "core/loop/fiber.h"
#include "core/loop/worker.h"
#include "core/module/exclusive.h"
#include "core/module/generation.h"
#include "core/module/host.h"
#include "core/module/image.h"
#include "core/module/modules.h"
#include "core/module/snapshot.h"

#include <esp/event.h>
#include <esp/metric.h>

#define MODULES_MAGIC 0x4d4f4453u

enum { MODULES_MAX = 256, LEFT_OUT_MAX = 32 };

/*! \brief An instance that is left out after crashes (leftout.c). */
struct left_out {
	char name[64];
	bool unloaded;                       /* it crashed before it could say which hooks it has */
};

/*! \brief What every loop has of us (WORKER_SLOT_MODULE). */
struct module_here {
	struct worker *worker;
	struct snapshot *current;
	struct exclusive_here exclusive;
	struct slots slots;                  /* ESP_SLOT_WORKER */
	struct map objects;                  /* struct object, by address */
};

struct modules {
	uint32_t magic;
	struct modules_opts opts;
	char *state_dir, *hostname;
	struct image_store store;
	struct left_out left_out[LEFT_OUT_MAX];
	size_t nleft_out;
	bool told_unloaded;
	struct { esp_event_id loaded, reloaded, failed; } facts;
	struct config *started;              /* the first one: what is read only at the start is in force from it */
	struct snapshot *current;            /* published last */
	struct list snapshots, draining;     /* struct snapshot, struct generation */
	uint32_t nloops;
	struct module_here *here;            /* by worker number */
	struct exclusive exclusive;
	_Atomic(struct net *) net;
	uint64_t next_snapshot, next_generation;
	uint32_t nsnapshots, ngenerations;
	bool last_reload_ok, loading, stopping;
	/* one reload at a time; those that come meanwhile share the next */
	esp_fmutex reload;
	uint64_t reloads_asked, reload_covers; /* requests, and how many of them the last reload answered */
	int last_rc;
	esp_err last_err;
	esp_metric images_kept, reload_ok, reloads, pins, generations;
};

/*! \brief The process's; NULL before modules_new. */
extern struct modules *modules_self;

static inline struct module_here *module_here(void)
{
	struct worker *w = worker_here();

	return w ? w->slots[WORKER_SLOT_MODULE] : NULL;
}

/*! \brief [control, in a fiber] Suspends, shielded.  Run fn(arg) in a fiber (owner may be NULL) on each of the loops at
 *  once and wait for all: mail workers only, or every loop. */
void on_loops(bool mail_only, struct owner *owner, const char *name, void (*fn)(void *arg), void *arg);

/*! \brief [mail worker] It has adopted `s`: hand parked sessions over to the generations that serve their roles now. */
void modules_adopted(const struct snapshot *s);
/*! \brief [mail worker] Parked sessions of a generation whose time is over leave with ESP_CONN_DRAIN. */
void sessions_say_goodbye(const struct generation *g);
/*! \brief [control] The directories of the first configuration; once. */
ESP_CHECKED int modules_open_store(struct modules *m, const struct config *c, esp_err *err);
/*! \brief [control] leftout.c: that instance among those left out, or NULL; and it runs again. */
const struct left_out *left_out_find(const struct modules *m, const char *name);
void left_out_forgive(struct modules *m, const char *name);
/*! \brief [control] Set the gauges. */
void modules_count(struct modules *m);
/*! \brief [control] It called leave(): give the blob to its successor if that runs already. */
void generation_left(struct generation *g);
/*! \brief [control] Begin the end of a generation: drain, wait, stop, free, in a fiber of its own. */
void generation_retire(struct generation *g);

/* one reload (reload.c, plan.c, stage.c) */
struct next {
	const struct config_module *entry;
	uint32_t index;                  /* in the configuration */
	struct generation *old;          /* runs now under that name, or NULL */
	struct generation *gen;          /* what the next snapshot lists: old, or a new one */
	struct image *image;             /* a reference until gen has it */
	esp_cfg *cfg;                    /* until gen has it, or the live change is done */
	enum plan_action action;
	bool reached;                    /* init() was called: undo needs to forget and stop */
	bool live_refused;
	bool left_out;
	struct config_changes changes;
	struct hook_override *overrides; /* until gen has it */
	bool hooks_changed;
};

struct reload {
	struct modules *m;
	const char *only;
	struct config *config;
	struct config_errors *errs;
	esp_err *err;
	esp_nsec limit, deadline;
	size_t n, nremoved, nfiles;
	struct next *list;
	struct image_file *files;        /* plan-images.c, while the plan is made */
	struct generation **order;       /* of starting, all of the next snapshot */
	struct generation **removed;     /* run now, are not in the next snapshot under this name */
	struct snapshot *next;
	bool prepared, swapped;
};

/* plan.c */
ESP_CHECKED int plan_read(struct reload *r);        /* suspends: files are read on a lane */
ESP_CHECKED int plan_decide(struct reload *r);      /* suspends: images are opened on a lane */
/* plan-images.c */
ESP_CHECKED int plan_on_lane(int32_t (*fn)(void *arg), void *arg, const char *what, esp_err *err);   /* suspends */
ESP_CHECKED int plan_images_open(struct reload *r);  /* suspends; what fails of one file is said when it is taken */
ESP_CHECKED int plan_images_take(const struct reload *r, const char *file, struct image **ret, esp_err *err);
void plan_images_close(struct reload *r);            /* suspends; what was not taken is unmapped */
ESP_CHECKED int plan_describe(const struct reload *r, struct plan **ret);
void plan_release(struct reload *r);
/* facts.c */
ESP_CHECKED int facts_declare(struct modules *m);
void facts_tell(const struct reload *r);            /* after the switch to the new snapshot's subscribers */
void facts_tell_failed(const struct modules *m, const char *module, const char *reason);
const char *facts_blamed(const struct reload *r, const char *reason);   /* an instance, or "" */
/* stage.c */
ESP_CHECKED int stage_build(struct reload *r);      /* check, init, order, snapshot */
ESP_CHECKED int stage_start(struct reload *r);      /* suspends: start, worker_start */
void stage_live(struct reload *r);                  /* reconfigure(commit 0); refusals become new generations */
void stage_commit_live(struct reload *r);
void stage_undo(struct reload *r);                  /* suspends */

#endif
