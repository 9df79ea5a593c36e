/* core/module/modules.h - the modules of this process: what runs, how it is replaced, what control may ask.
 *
 * `struct modules` exists once per process and belongs to the control thread: every function here is called there,
 * those marked "suspends" in a fiber of it.  Workers see modules only through the snapshot they adopted
 * (core/module/snapshot.h).
 *
 *   modules_new -> modules_load (the first snapshot) -> modules_reload ... -> modules_drain -> modules_free
 *
 * Errors: a negative ESP_E... and the reason in esp_err, which starts with the module's name and the step:
 * "rspamd: start: cannot resolve ...".  A failed load or reload leaves what ran before untouched.
 */
#ifndef CORE_MODULE_MODULES_H
#define CORE_MODULE_MODULES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <esp/host.h>

#include "core/module/trial.h"

struct config;
struct config_errors;
struct snapshot;
struct modules;

/*! \brief What the owner of the process tells us.  Copied; the strings must outlive `struct modules`. */
struct modules_opts {
	const char *config_path;      /* esp.conf; read anew by every reload */
	const char *module_dir;       /* NULL: server.module_dir, else the compiled-in directory */
	const char *state_dir;        /* for copies of modules and their data; NULL: server.path */
	const char *const
		*left_out; /* instances not to run after crashes (see crash_left_out); mandatory ones run anyway */
	size_t nleft_out;
	struct trial trial; /* where modules are loaded first; begun already, or not; no .binary: they are not */
	bool check_only;              /* esp-server check: modules_load stops after init() and undoes it */
	esp_nsec deadline;            /* for check .. worker_start of one reload; 0: server.reload_timeout */
	void *arg;                    /* of the callbacks below; each may be NULL */
	/*! Run `esp-server check --config F` on the new configuration (posix_spawn).  Suspends.  Negative: refused. */
	int (*rehearse)(void *arg, const char *config_path, esp_err *err);
	/*! Open what the new configuration adds (listening sockets): the last step that may fail, and then it has undone
	 *  itself.  Suspends.  Negative: the reload is undone. */
	int (*on_prepare)(void *arg, const struct config *next, esp_err *err);
	/*! The snapshot is published: begin to accept on new listeners, close those that went.  Cannot fail. */
	void (*on_publish)(void *arg, const struct config *next);
};

/*! \brief What a reload does with one instance. */
enum plan_action {
	PLAN_KEEP = 1, /* nothing changed */
	PLAN_LIVE,     /* only LIVE items changed: reconfigure() */
	PLAN_CONFIG,   /* new generation on the same image */
	PLAN_IMAGE,    /* the file changed: new image and generation */
	PLAN_ADD,
	PLAN_REMOVE
};
const char *plan_action_name(
	enum plan_action a); /* "keep", "live change", "new generation", "new image", "add", "remove" */

struct plan_item {
	const char *name, *file;         /* instance and image name */
	enum plan_action action;
	bool exclusive;                  /* swapped with a brief pause of its calls */
	const char *version;             /* of the image that runs now; NULL for add */
	const char *next_version;        /* of the image that will run; NULL unless action is IMAGE or ADD */
	esp_nsec drain;                  /* how long the old generation may take; 0: nothing is drained */
	size_t nchanges;                 /* LIVE and CONFIG: one line for each changed key, secrets masked */
	char **changes;                  /* "reject_score: 15 -> 12" */
};

/*! \brief Made by modules_plan and modules_reload; plan_free. */
struct plan {
	size_t nitems, nwarnings;
	struct plan_item *items;         /* in the order of the new module list, removed ones last */
	char **warnings;                 /* "group 1 at message shrinks to 1 hook" */
	bool server_changed;             /* keys outside `modules` that need nothing of modules changed */
};
void plan_free(struct plan *p);      /* NULL is fine */

/*! \brief [control] ESP_OK and the object, or ESP_ENOMEM. */
ESP_CHECKED int modules_new(const struct modules_opts *opts, struct modules **ret);
/*! \brief [control] Other instances to leave out, from the next load or reload on; copied. */
void modules_set_left_out(struct modules *m, const char *const *names, size_t n);
/*! \brief [control] Instances that are left out: each(arg, name). */
void modules_left_out(const struct modules *m, void (*each)(void *arg, const char *name), void *arg);

/*! \brief [control] Instances of the snapshot in force that do not run: a reload failed after they had been stopped,
 *  and they could not be started again.  Each reload tries.  Returns how many; `each` may be NULL. */
size_t modules_down(const struct modules *m, void (*each)(void *arg, const char *name), void *arg);

/*! \brief [control] Generations that were called to drain or stop and have not returned in time: each(arg, name, step,
 *  for how long). */
void modules_hanging(const struct modules *m, void (*each)(void *arg, const char *name, const char *step, esp_nsec),
                     void *arg);

/*! \brief [control] Another deadline for the loads and reloads to come; 0: server.reload_timeout. */
void modules_set_deadline(struct modules *m, esp_nsec deadline);

/*! \brief [control] Suspends.  Build, start and publish the first snapshot from the configuration (taken over,
 *  also on failure).  All loops must run.  With opts.check_only: image, schema, check() and init() of every module,
 *  nothing stays.  Every wrong key of every module is added to *errs (may be NULL) besides *err. */
ESP_CHECKED int modules_load(struct modules *m, struct config *c, struct config_errors *errs, esp_err *err);

/*! \brief [control] Suspends.  Read the configuration and say what a reload would do (may be narrowed to one
 *  instance; NULL: all). */
ESP_CHECKED int modules_plan(struct modules *m, const char *only, struct plan **ret, struct config_errors *errs,
                             esp_err *err);

/*! \brief [control] Suspends until the new snapshot is published (not until the old one is gone).  `only` (may be
 *  NULL) makes a new generation of that instance even when nothing changed and leaves the other modules alone; one
 *  that is left out after crashes is tried again and, when it starts, left out no longer.
 *  A call while another one runs waits for it, then all that waited share one reload.  ret_plan may be NULL. */
ESP_CHECKED int modules_reload(struct modules *m, const char *only, struct plan **ret_plan,
                               struct config_errors *errs, esp_err *err);

/*! \brief [control] Suspends.  Orderly stop: drain() of every generation, fibers are cancelled at the deadline,
 *  stop() in reverse order.  One that hangs is passed over: the others get their stop, but for those it needs.  What
 *  has not ended at `last` is reported; returns ESP_ETIMEDOUT then. */
int modules_drain(struct modules *m, esp_nsec deadline, esp_nsec last);

/*! \brief [control] After modules_drain. */
void modules_free(struct modules *m);

/*! \brief [control] The configuration in force; valid until the next reload. */
const struct config *modules_config(const struct modules *m);
/*! \brief [control] The snapshot in force. */
struct snapshot *modules_snapshot(const struct modules *m);

/*! \brief One generation, for `esp-cli modules`.  Borrowed for the call. */
struct module_info {
	const char *name, *file, *version, *summary;
	const char *note;                /* what an administrator should know or do; NULL: nothing */
	const char *state;               /* "active", "draining" ... */
	uint64_t generation;             /* counts up in this process */
	uint64_t fibers, timers, watches, posts, jobs, holds, conns; /* what can still run its code */
	bool exclusive, resident;
	esp_nsec age;                    /* since ACTIVE */
};
/*! \brief [control] In module-list order, then those that were not even loaded after crashes, then what drains. */
void modules_each(const struct modules *m, void (*each)(void *arg, const struct module_info *info), void *arg);

/*! \brief [control] Figures of the metrics of the same names. */
struct modules_stats {
	uint64_t snapshot, snapshots_alive, generations_alive, images_kept_mapped;
	bool last_reload_ok;
};
void modules_stats(const struct modules *m, struct modules_stats *ret);
/*! \brief [control] server.hostname as it was at the start: what modules are told. */
const char *modules_hostname(const struct modules *m);

#endif
