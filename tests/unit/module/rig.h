/* tests/unit/module/rig.h - loops, a directory with modules and an esp.conf, and a body that runs on control.
 *
 *	static void body(struct rig *r) { rig_module(r, "abi_filter"); ... }
 *	Test(reload, does_something) { rig_run(body); }
 */
#ifndef TESTS_RIG_H
#define TESTS_RIG_H

#include "core/config/config.h"
#include "core/module/modules.h"

#include <esp/hook.h>

struct rig {
	char dir[64], conf[96], mods[96];
	struct modules *m;
	struct modules_opts opts;
	esp_err err;
	void (*body)(struct rig *r);
	const char *server;      /* more settings of that group; NULL: none */
	bool done;
};

/*! \brief Run body(r) in a fiber of control with two mail workers; everything is stopped and checked afterwards. */
void rig_run(void (*body)(struct rig *r));
/*! \brief Put a module of tests/abi into the module directory; a `variant` ("a", "b") replaces the file by renaming. */
void rig_module(struct rig *r, const char *name);
void rig_variant(struct rig *r, const char *name, const char *variant);
/*! \brief Write esp.conf with this module list: "{ name = \"x\"; file = \"abi_filter\"; }, ...". */
void rig_conf(struct rig *r, const char *modules);
/*! \brief modules_load of the configuration; the reason is in r->err. */
int rig_load(struct rig *r);
int rig_reload(struct rig *r);
/*! \brief Ask the HELO chain on a worker; the text is copied into ret_text (may be NULL). */
esp_outcome rig_helo(unsigned worker, char ret_text[64]);
/*! \brief The same on the running fiber's worker: only the code. */
void rig_helo_here(uint32_t *ret_code);
/*! \brief Ask `n` times side by side, each with a name of another length; every answer must be CONTINUE. */
void rig_helo_many(unsigned worker, unsigned n);
/*! \brief Run fn(arg) on a worker after a while; does not wait. */
void rig_later(esp_nsec delay, unsigned worker, void (*fn)(void *arg), void *arg);
/*! \brief Is that text in what was logged so far? */
bool rig_logged(const struct rig *r, const char *text);
/*! \brief Run fn(arg) in a fiber on a worker and wait. */
void rig_on(unsigned worker, void (*fn)(void *arg), void *arg);
/*! \brief Wait until so many generations and snapshots are alive; false after five seconds. */
bool rig_settles(const struct rig *r, uint64_t generations, uint64_t snapshots);
void rig_sleep(esp_nsec length);
/*! \brief State of a module's current generation as modules_each says, "" when there is none. */
const char *rig_state(const struct rig *r, const char *name);

#endif
