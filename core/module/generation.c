/* core/module/generation.c - the life of one generation, step by step; see generation.h.
 *
 * Thread: control, in a fiber.  Module functions are called with the breadcrumb set and, where they may suspend or run
 * on workers, in fibers that are counted on the generation (loops_call).
 */
#include "core/module/generation.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/arena.h"
#include "core/base/assert.h"
#include "core/base/clock.h"
#include "core/base/status.h"
#include "core/bus/chain.h"
#include "core/bus/event.h"
#include "core/bus/log.h"
#include "core/loop/breadcrumb.h"
#include "core/loop/loop.h"
#include "core/loop/pool.h"
#include "core/module/host.h"
#include "core/module/loops.h"
#include "core/module/modules-priv.h"

#define NAP_MAX      (50 * ESP_MSEC)
#define CANCEL_GRACE (1 * ESP_SEC)

const char *generation_state_name(enum gen_state s)
{
	static const char *const names[] = { "new", "checked", "inited", "warm", "active", "draining", "stopping",
		"stopped" };

	return (size_t)s < ARRAY_LEN(names) ? names[s] : "?";
}

esp_nsec generation_drain_time(const char *file, const struct config *c)
{
	const esp_cfg *server = cfg_group(config_root(c), "server");
	const esp_cfg *drain = cfg_group(server, "drain");

	if (!strncmp(file, "protocol_", 9))
		return cfg_integer(drain, "protocol");
	if (!strncmp(file, "filter_", 7))
		return cfg_integer(drain, "filter");
	return cfg_integer(drain, "storage");
}

int generation_new(struct modules *m, const char *name, struct image *image, esp_cfg *cfg, struct generation **ret,
                   esp_err *err)
{
	struct generation *g = calloc(1, sizeof *g);
	char label[60];

	if (!g || !(g->arena = arena_new(&mem_api, "generation", 0))) {
		free(g);
		return err_fail(err, ESP_ENOMEM, "%s: no memory", name);
	}
	MAGIC_SET(g, GENERATION_MAGIC);
	(void)snprintf(g->name, sizeof g->name, "%s", name);
	(void)snprintf(g->file, sizeof g->file, "%s", image->file);
	g->modules = m;
	g->number = ++m->next_generation;
	(void)snprintf(label, sizeof label, "%.40s#%llu", name, (unsigned long long)g->number);
	owner_init(&g->core.owner, label);
	g->core.pub.host = &host_table;
	g->core.pub.name = g->name;
	g->image = image_ref(image);
	g->cfg = cfg;
	m->ngenerations++;
	*ret = g;
	return ESP_OK;
}

void generation_free(struct generation *g)
{
	struct modules *m = g->modules;

	MAGIC_CHECK(g, GENERATION_MAGIC);
	ESP_ASSERT(g->snapshots == 0 && !g->kept);
	hooks_forget(&g->core.pub);
	slots_forget(g);
	registry_forget(g);
	arena_free(g->arena);
	cfg_free(g->cfg);
	for (uint32_t i = 0; i < g->nold_cfgs; i++)
		cfg_free(g->old_cfgs[i]);
	free(g->old_cfgs);
	free(g->overrides);
	free(g->left);
	free(g->inherited);
	owner_fini(&g->core.owner);
	image_unref(&m->store, g->image);
	m->ngenerations--;
	MAGIC_CLEAR(g);
	free(g);
}

/* ---- steps ---------------------------------------------------------------------------------------------- */

/* "name: step: what the module said"; the module's text may be missing or not terminated. */
static int failed(const struct generation *g, const char *step, int rc, const esp_err *said, esp_err *err)
{
	char text[sizeof said->text];

	memcpy(text, said->text, sizeof text);
	text[sizeof text - 1] = '\0';
	rc = err_fail(err, rc < 0 ? rc : ESP_EINVAL, "%s: %s: %.300s", g->name, step, *text ? text : status_text(rc));
	if (err && said->file[0])
		esp_err_at(err, said->file, said->line);
	return rc;
}

int generation_check(struct generation *g, esp_err *err)
{
	const esp_module_ops *ops = &g->image->desc.ops;
	esp_err said = ESP_ERR_INIT;
	struct breadcrumb was = breadcrumb_enter(g->name, "check");
	int rc;

	ESP_ASSERT(g->state == GEN_NEW);
	rc = ops->check ? ops->check(&g->core.pub, g->cfg, &said) : ESP_OK;
	for (uint32_t i = 0; ops->check && rc == ESP_OK && i < cfg_domain_trees(g->cfg); i++)
		rc = ops->check(&g->core.pub, cfg_domain_tree(g->cfg, i), &said);
	breadcrumb_leave(was);
	if (rc != ESP_OK)
		return failed(g, "check", rc, &said, err);
	g->state = GEN_CHECKED;
	return ESP_OK;
}

/* A snapshot does not pin exclusive generations, so nothing of theirs may be called through one. */
static int refuse_exclusive(const struct generation *g, esp_err *err)
{
	if (g->image->desc.flags & ESP_MODULE_EXCLUSIVE && (hooks_count(&g->core.pub) || g->registered.nroles))
		return err_fail(err, ESP_EABI, "%s: init: an EXCLUSIVE module may offer services, but neither hooks nor roles",
		                g->name);
	return ESP_OK;
}

int generation_init(struct generation *g, esp_err *err)
{
	const esp_module_ops *ops = &g->image->desc.ops;
	esp_err said = ESP_ERR_INIT;
	struct breadcrumb was = breadcrumb_enter(g->name, "init");
	int rc;

	ESP_ASSERT(g->state == GEN_CHECKED);
	err_refusal(NULL);
	rc = ops->init ? ops->init(&g->core.pub, g->cfg, &said) : ESP_OK;
	breadcrumb_leave(was);
	if (rc != ESP_OK && !said.text[0])
		err_refusal(&said);
	if (rc == ESP_OK)
		rc = registry_complete(g, &said);
	if (rc != ESP_OK)
		return failed(g, "init", rc, &said, err);
	g->inited = true;
	g->state = GEN_INITED;
	return refuse_exclusive(g, err);
}

static int on_start(struct generation *g, struct worker *w, esp_err *said)
{
	(void)w;
	return g->image->desc.ops.start(&g->core.pub, said);
}

int generation_start(struct generation *g, struct snapshot *under, esp_err *err)
{
	esp_err said = ESP_ERR_INIT;
	int rc = ESP_OK;

	ESP_ASSERT(g->state == GEN_INITED);
	if (g->image->desc.ops.start)
		rc = loops_call(g, LOOPS_CONTROL, under, "start", on_start, &said);
	if (rc != ESP_OK)
		return failed(g, "start", rc, &said, err);
	g->state = GEN_WARM;
	return ESP_OK;
}

static int on_worker_start(struct generation *g, struct worker *w, esp_err *said)
{
	int rc = g->image->desc.ops.worker_start(&g->core.pub, worker_pub(w));

	if (rc == ESP_OK)
		atomic_fetch_or(&g->started, (uint64_t)1 << w->index);
	else
		esp_err_set(said, "%s: %s", w->name, status_text(rc));
	return rc;
}

int generation_worker_start(struct generation *g, struct snapshot *under, esp_err *err)
{
	esp_err said = ESP_ERR_INIT;
	int rc = ESP_OK;

	ESP_ASSERT(g->state == GEN_WARM);
	if (g->image->desc.ops.worker_start)
		rc = loops_call(g, LOOPS_MAIL, under, "worker_start", on_worker_start, &said);
	return rc == ESP_OK ? rc : failed(g, "worker_start", rc, &said, err);
}

int generation_reconfigure(struct generation *g, const esp_cfg *next, bool commit, esp_err *err)
{
	const esp_module_ops *ops = &g->image->desc.ops;
	esp_err said = ESP_ERR_INIT;
	struct breadcrumb was = breadcrumb_enter(g->name, "reconfigure");
	int rc = ops->reconfigure ? ops->reconfigure(&g->core.pub, next, commit, &said) : ESP_EUNAVAIL;

	breadcrumb_leave(was);
	return rc == ESP_OK ? rc : failed(g, "reconfigure", rc, &said, err);
}

/* ---- end ------------------------------------------------------------------------------------------------ */

enum { DID_DRAIN = 1, DID_WORKER_DRAIN = 2, DID_WORKER_STOP = 4, DID_STOP = 8 };

static bool returned(const struct generation *g)
{
	return !g->step;
}

/* Once.  True: it has returned; before that, nothing later of its end is called. */
static bool step(struct generation *g, unsigned did, unsigned which, const char *name, loops_fn fn, esp_nsec until)
{
	if (g->begun & did)
		return generation_wait(returned, g, &until);
	g->begun |= did;
	if (loops_step(g, which, name, fn, until))
		return true;
	if (returned(g))
		g->begun &= ~did;       /* no memory to call it: when it is asked again */
	return false;
}

static int on_worker_drain(struct generation *g, struct worker *w, esp_err *said)
{
	(void)said;
	if (atomic_load(&g->started) & (uint64_t)1 << w->index)
		g->image->desc.ops.worker_drain(&g->core.pub, worker_pub(w));
	return ESP_OK;
}

static bool drain_workers(struct generation *g, esp_nsec until)
{
	return !g->image->desc.ops.worker_drain || !atomic_load(&g->started) ||
	       step(g, DID_WORKER_DRAIN, LOOPS_MAIL, "worker_drain", on_worker_drain, until);
}

static int on_drain(struct generation *g, struct worker *w, esp_err *said)
{
	(void)w;
	(void)said;
	g->image->desc.ops.drain(&g->core.pub, g->drain_until);
	return ESP_OK;
}

bool generation_drain(struct generation *g, esp_nsec deadline, esp_nsec until)
{
	g->drain_until = deadline;
	if (g->state == GEN_ACTIVE && g->image->desc.ops.drain &&
	    !step(g, DID_DRAIN, LOOPS_CONTROL, "drain", on_drain, until))
		return false;
	if (g->state == GEN_ACTIVE)
		g->state = GEN_DRAINING;
	return drain_workers(g, until);
}

void generation_undrain(struct generation *g)
{
	g->state = GEN_ACTIVE;
	if (returned(g))
		g->begun = 0;
}

/* The total is one atomic that a hand-over (a fiber posts, a post spawns) never lets touch zero; timers and watchers
 * are read around it, so that one which ends meanwhile is not taken for work that ended. */
/* What stop() ends, or the audit behind it: it keeps the image, but not the stop, waiting. */
static uint32_t standing(const struct owner *o)
{
	return owner_count(o, OWNER_TIMER) + owner_count(o, OWNER_WATCH) + owner_count(o, OWNER_ARENA);
}

bool generation_idle(const struct generation *g)
{
	const struct owner *o = &g->core.owner;
	uint32_t before = standing(o);

	return owner_total(o) == before && standing(o) == before;
}

/* ---- what is left, by name ------------------------------------------------------------------------------ */

struct leftovers { const struct generation *g; const struct worker *w; };

static void name_fiber(const struct owned_item *i, void *arg)
{
	const struct leftovers *l = arg;

	if (i->kind == OWNER_FIBER)
		log_line(ESP_LOG_WARNING, l->g->name, "still runs", ESP_FINT("generation", (int64_t)l->g->number),
			log_cstr("fiber", i->label), log_cstr("loop", l->w->name));
}

static int on_name(struct generation *g, struct worker *w, esp_err *said)
{
	struct leftovers l = { g, w };

	(void)said;
	worker_each_owned(w, &g->core.owner, name_fiber, &l);
	return ESP_OK;
}

void generation_name_left(struct generation *g)
{
	(void)loops_run(g, LOOPS_ALL, "name", on_name, 0);   /* fiber-ok: without memory nobody is named */
	for (size_t i = 0; i < ARRAY_LEN(g->arenas); i++) {
		uint32_t n = atomic_load(&g->arenas[i].n);

		if (n)
			log_line(ESP_LOG_ERROR, g->name, "left behind: a defect of this module", log_cstr("what", "arena"),
				log_cstr("created_as", atomic_load(&g->arenas[i].label)), ESP_FINT("count", n));
	}
}

static void report(const struct owned_item *i, void *arg)
{
	const struct leftovers *l = arg;

	log_line(ESP_LOG_ERROR, l->g->name, "left behind, closed by the core: a defect of this module",
		log_cstr("what", owner_kind_name(i->kind)), log_cstr("created_as", i->label), log_cstr("loop", l->w->name));
}

static int on_close(struct generation *g, struct worker *w, esp_err *said)
{
	struct leftovers l = { g, w };

	(void)said;
	worker_each_owned(w, &g->core.owner, report, &l);
	(void)worker_close_owned(w, &g->core.owner, NULL);
	slots_end_of(&module_here()->slots, ESP_SLOT_WORKER, g);
	return ESP_OK;
}

/* fn of worker_each_owned must not touch what it is shown: fibers are collected, then cancelled. */
struct found { struct fiber *fibers[64]; uint32_t n; };

static void find_fiber(const struct owned_item *i, void *arg)
{
	struct found *f = arg;

	if (i->kind == OWNER_FIBER && !((struct fiber *)i->item)->canceled && f->n < ARRAY_LEN(f->fibers))
		f->fibers[f->n++] = i->item;
}

static int on_cancel(struct generation *g, struct worker *w, esp_err *said)
{
	struct found f;

	(void)said;
	do {
		f.n = 0;
		worker_each_owned(w, &g->core.owner, find_fiber, &f);
		for (uint32_t i = 0; i < f.n; i++)
			fiber_cancel(f.fibers[i]);
	} while (f.n == ARRAY_LEN(f.fibers));
	return ESP_OK;
}

void generation_cancel(struct generation *g, esp_nsec until)
{
	(void)loops_run(g, LOOPS_ALL, "cancel", on_cancel, until);   /* fiber-ok: who cancels looks whether it helped */
}

/* Behind the last of its work nothing is cancelled any more. */
static void shield(int on)
{
	if (fiber_self())
		fiber_shield(on);
}

static int on_worker_stop(struct generation *g, struct worker *w, esp_err *said)
{
	(void)said;
	shield(1);
	if (atomic_load(&g->started) & (uint64_t)1 << w->index)
		g->image->desc.ops.worker_stop(&g->core.pub, worker_pub(w));
	shield(0);
	return ESP_OK;
}

bool generation_wait(bool (*so)(const struct generation *g), const struct generation *g, const esp_nsec *deadline)
{
	esp_nsec nap = ESP_MSEC;

	while (!so(g)) {
		if (deadline && clock_monotonic() >= *deadline)
			return false;
		loops_nap(nap);
		nap = nap * 2 < NAP_MAX ? nap * 2 : NAP_MAX;
	}
	return true;
}

static bool wait_until(bool (*so)(const struct generation *g), const struct generation *g, esp_nsec deadline)
{
	return generation_wait(so, g, &deadline);
}

static bool unused(const struct generation *g)
{
	return owner_total(&g->core.owner) == 0;
}

/* Until a step of its end has returned and nothing works any more; at the deadline it is cancelled. */
static bool settle(bool (*so)(const struct generation *g), struct generation *g, const struct ending *e)
{
	if (wait_until(so, g, e->work))
		return true;
	generation_cancel(g, e->last);
	return wait_until(so, g, e->last);
}

static esp_nsec step_end(const struct ending *e)
{
	esp_nsec until = clock_monotonic() + e->step;

	return e->step && until < e->last ? until : e->last;
}

/* The workers' part: nothing of the generation is left there afterwards, on whatever it insisted. */
static bool leave_workers(struct generation *g, const struct ending *e)
{
	if (g->state < GEN_STOPPING) {
		if (!settle(returned, g, e))
			return false;
		if (g->state < GEN_DRAINING && !drain_workers(g, step_end(e)))   /* its start is undone, or drain() hung */
			return false;
		if (!settle(generation_idle, g, e))
			return false;
		g->state = GEN_STOPPING;
	}
	if (g->image->desc.ops.worker_stop && atomic_load(&g->started) &&
	    !step(g, DID_WORKER_STOP, LOOPS_MAIL, "worker_stop", on_worker_stop, step_end(e)))
		return false;
	atomic_store(&g->started, 0);
	return loops_run(g, LOOPS_MAIL, "audit", on_close, e->last) && wait_until(generation_idle, g, e->last);
}

static int on_stop(struct generation *g, struct worker *w, esp_err *said)
{
	(void)w;
	(void)said;
	shield(1);
	g->image->desc.ops.stop(&g->core.pub);
	shield(0);
	return ESP_OK;
}

bool generation_stop(struct generation *g, const struct ending *e)
{
	if (g->state < GEN_STOPPED) {
		if (g->state >= GEN_ACTIVE)
			event_forget(&g->core.pub, e->work);
		if (!(g->begun & DID_STOP) && !leave_workers(g, e))
			return false;
		if (g->image->desc.ops.stop && g->inited && !step(g, DID_STOP, LOOPS_CONTROL, "stop", on_stop, step_end(e)))
			return false;
		g->state = GEN_STOPPED;
	}
	if (!loops_run(g, LOOPS_ALL, "audit", on_close, e->last))
		return false;
	lane_close_owned(&g->core.owner);
	return wait_until(unused, g, e->last);
}
