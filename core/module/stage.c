/* core/module/stage.c - makes the generations of the next snapshot and brings them up, or undoes all of it.
 *
 * Thread: control, in the reload's fiber, whose deadline is the reload's.  Order: providers before those that need
 * them; undone in reverse.  Exclusive modules are the exception to "beside what runs": the old generation is stopped
 * first, behind a closed gate, and started again when the new one fails.
 */
#include <stdlib.h>
#include <string.h>

#include "core/base/assert.h"
#include "core/base/clock.h"
#include "core/base/status.h"
#include "core/bus/chain.h"
#include "core/bus/log.h"
#include "core/module/modules-priv.h"

#define UNDO_TIME  (5 * ESP_SEC)
#define STOP_GRACE (2 * ESP_SEC)        /* for what was cancelled */

static bool is_new(const struct next *n)
{
	return n->action == PLAN_CONFIG || n->action == PLAN_IMAGE || n->action == PLAN_ADD;
}

static struct next *next_of(const struct reload *r, const struct generation *g)
{
	for (size_t i = 0; i < r->n; i++)
		if (r->list[i].gen == g)
			return &r->list[i];
	return NULL;
}

/* ---- build ------------------------------------------------------------------------------------------------- */

static int make(struct reload *r, struct next *n)
{
	int rc;

	n->gen = n->old;
	if (!is_new(n))
		return ESP_OK;
	rc = generation_new(r->m, n->entry->name, n->image, n->cfg, &n->gen, r->err);
	if (rc < 0) {
		n->gen = NULL;
		return rc;
	}
	n->cfg = NULL;
	n->gen->left_out = n->left_out;
	n->gen->drain_time = generation_drain_time(n->gen->file, r->config);
	n->gen->overrides = n->overrides;
	n->overrides = NULL;
	return ESP_OK;
}

static int build_snapshot(struct reload *r, struct generation **list)
{
	struct snapshot_part *parts = calloc(r->n + 1, sizeof *parts);
	int rc;

	if (!parts)
		return err_fail(r->err, ESP_ENOMEM, "no memory");
	for (size_t i = 0; i < r->n; i++) {
		const struct next *n = &r->list[i];

		parts[i].overrides = n->hooks_changed && n->gen == n->old ? n->overrides : n->gen->overrides;
		parts[i].cfg = n->cfg ? n->cfg : n->gen->cfg;     /* of a live change: in force when the snapshot is */
	}
	rc = snapshot_build(r->m, r->config, list, r->n, r->order, parts, &r->next, r->err);
	free(parts);
	return rc;
}

/* The steps that open nothing: check() of all, then init() of all, then the tables.  `esp-server check` goes as far, so
 * that a rehearsal meets what an init() refuses or crashes of. */
static int prepare(struct reload *r, struct generation **list)
{
	int rc = registry_order(list, r->n, r->order, r->err);

	for (size_t i = 0; i < r->n && rc == ESP_OK; i++)
		if (r->order[i]->state == GEN_NEW)
			rc = generation_check(r->order[i], r->err);
	for (size_t i = 0; i < r->n && rc == ESP_OK; i++)
		if (r->order[i]->state == GEN_CHECKED)
			rc = generation_init(r->order[i], r->err);
	return rc == ESP_OK ? build_snapshot(r, list) : rc;
}

int stage_build(struct reload *r)
{
	struct generation **list = calloc(r->n + 1, sizeof *list);
	int rc = ESP_OK;

	r->order = calloc(r->n + 1, sizeof *r->order);
	if (!r->order || !list)
		rc = err_fail(r->err, ESP_ENOMEM, "no memory");
	for (size_t i = 0; i < r->n && rc == ESP_OK; i++) {
		rc = make(r, &r->list[i]);
		list[i] = r->list[i].gen;
	}
	if (rc == ESP_OK)
		rc = prepare(r, list);
	free(list);
	return rc;
}

/* ---- exclusive modules ------------------------------------------------------------------------------------- */

static bool stays(const struct reload *r, const struct generation *g)
{
	return next_of(r, g) != NULL;
}

/* The exclusive generation of the running snapshot that this reload replaces or removes. */
static bool is_swapped(const struct reload *r, const struct generation *g)
{
	return generation_is_exclusive(g) && !g->left_out && !stays(r, g);
}

static bool any_swapped(const struct reload *r, bool *ret_others_stay)
{
	const struct snapshot *s = r->m->current;
	bool any = false;

	*ret_others_stay = false;
	for (size_t i = 0; s && i < s->ngens; i++) {
		any = any || is_swapped(r, s->gens[i]);
		*ret_others_stay = *ret_others_stay || (generation_is_exclusive(s->gens[i]) && stays(r, s->gens[i]));
	}
	return any;
}

static void pass_on(struct generation *from, struct generation *to)
{
	if (!from->left || to->inherited)
		return;
	to->inherited = from->left;
	to->inherited_len = from->left_len;
	to->inherited_version = from->left_version;
	from->left = NULL;
}

/* It failed: what its predecessor left is needed again. */
static void give_back(struct generation *from, struct generation *to)
{
	if (!from->inherited || to->left)
		return;
	to->left = from->inherited;
	to->left_len = from->inherited_len;
	to->left_version = from->inherited_version;
	from->inherited = NULL;
}

/* It did not end in time: its work goes on, or, when worker_stop() was called already, nothing may call it any more. */
static int stays_on(struct reload *r, struct generation *g)
{
	const char *step = g->step ? g->step : "nothing";

	if (g->state <= GEN_DRAINING) {
		generation_undrain(g);
		return err_fail(r->err, ESP_ETIMEDOUT, "%s: swap: the running generation does not stop (%s has not returned): "
		                "its work goes on", g->name, step);
	}
	exclusive_set(&r->m->exclusive, g, false);
	g->down = true;
	return err_fail(r->err, ESP_ETIMEDOUT, "%s: swap: the running generation hangs while it stops (%s has not "
	                "returned): its service is down", g->name, step);
}

/* A generation that drains may pass the gate: those of its fibers that wait there look again. */
static int stop_old(struct reload *r, enum gate gate)
{
	const struct snapshot *s = r->m->current;
	struct ending e = { .work = r->deadline, .last = r->deadline + STOP_GRACE };

	for (size_t i = s->ngens; i > 0; i--) {
		struct generation *g = s->order[i - 1];

		if (!is_swapped(r, g))
			continue;
		if (!generation_drain(g, r->deadline, r->deadline) || exclusive_gate(r->m, gate, r->deadline) != ESP_OK ||
		    !generation_stop(g, &e))
			return stays_on(r, g);
		exclusive_set(&r->m->exclusive, g, false);
	}
	return ESP_OK;
}

static int swap_out(struct reload *r)
{
	bool others_stay;
	int rc;

	if (!any_swapped(r, &others_stay))
		return ESP_OK;
	r->swapped = true;
	rc = exclusive_gate(r->m, GATE_OWN, r->deadline);
	if (rc == ESP_OK && others_stay)
		rc = exclusive_gate(r->m, GATE_SHUT, r->deadline);
	if (rc < 0)
		return err_fail(r->err, rc, "swap of an exclusive module: calls in flight have not ended by the deadline");
	return stop_old(r, others_stay ? GATE_SHUT : GATE_OWN);
}

/* A second life for what was stopped: the old image with the old settings. */
static int revive(struct reload *r, struct generation *old, struct generation **ret)
{
	struct snapshot *s = r->m->current;
	int32_t at = config_module_find(s->config, old->name);
	struct config_errors errs = CONFIG_ERRORS_INIT;
	esp_cfg *cfg = NULL;
	esp_err err = ESP_ERR_INIT;
	int rc = at < 0 ? ESP_ENOENT : config_check_module(s->config, (uint32_t)at, old->image->desc.config,
	                                                  sizeof(esp_cfg_item), &cfg, &errs);

	config_errors_free(&errs);
	if (rc == ESP_OK)
		rc = generation_new(r->m, old->name, old->image, cfg, ret, &err);
	if (rc == ESP_OK) {
		(*ret)->drain_time = old->drain_time;
		pass_on(old, *ret);
		if ((rc = generation_check(*ret, &err)) == ESP_OK)
			rc = generation_init(*ret, &err);
	}
	if (rc < 0) {
		old->down = true;
		log_line(ESP_LOG_ERROR, old->name, "cannot be started again", log_cstr("reason", err.text));
	}
	return rc;
}

static int restart(struct reload *r, struct generation *g, struct snapshot *under)
{
	esp_err err = ESP_ERR_INIT;
	int rc;

	exclusive_set(&r->m->exclusive, g, true);
	(void)fiber_set_deadline(clock_monotonic() + r->limit);
	rc = generation_start(g, under, &err);
	if (rc == ESP_OK)
		rc = generation_worker_start(g, under, &err);
	(void)fiber_set_deadline(0);
	if (rc == ESP_OK) {
		g->state = GEN_ACTIVE;
		log_line(ESP_LOG_WARNING, g->name, "the generation that ran before was started again");
	} else {
		g->down = true;
		exclusive_set(&r->m->exclusive, g, false);
		log_line(ESP_LOG_ERROR, g->name, "cannot be started again: its service is down", log_cstr("reason", err.text));
	}
	return rc;
}

/* The snapshot in force with the stopped generations exchanged for their second lives. */
static int revive_all(struct reload *r, struct generation **gens, struct generation **order)
{
	const struct snapshot *s = r->m->current;

	for (size_t i = 0; i < s->ngens; i++) {
		gens[i] = s->gens[i];
		if (gens[i]->state == GEN_STOPPED && generation_is_exclusive(gens[i]))
			(void)revive(r, s->gens[i], &gens[i]);
	}
	for (size_t i = 0; i < s->ngens; i++) {
		order[i] = s->order[i];
		for (size_t k = 0; k < s->ngens; k++)
			if (s->gens[k] == s->order[i])
				order[i] = gens[k];
	}
	return ESP_OK;
}

static bool any_stopped(const struct snapshot *s)
{
	for (size_t i = 0; i < s->ngens; i++)
		if (s->gens[i]->state == GEN_STOPPED)
			return true;
	return false;
}

static void swap_back(struct reload *r)
{
	struct snapshot *s = r->m->current, *again = NULL;
	struct generation **gens = calloc(s->ngens + 1, sizeof *gens), **order = calloc(s->ngens + 1, sizeof *order);
	esp_err err = ESP_ERR_INIT;
	int rc = gens && order ? revive_all(r, gens, order) : ESP_ENOMEM;

	if (rc == ESP_OK)
		rc = snapshot_build(r->m, s->config, gens, s->ngens, order, NULL, &again, &err);
	for (size_t i = 0; rc == ESP_OK && i < s->ngens; i++)
		if (order[i]->state == GEN_INITED && !order[i]->left_out)
			(void)restart(r, order[i], again);
	if (rc == ESP_OK) {
		for (size_t i = 0; i < s->ngens; i++)
			if (gens[i] != s->gens[i])
				generation_retire(s->gens[i]);
		snapshot_publish(again);
	} else {
		log_line(ESP_LOG_ERROR, "core/module", "exclusive modules are down", log_cstr("reason", err.text));
	}
	free(gens);
	free(order);
}

size_t modules_down(const struct modules *m, void (*each)(void *arg, const char *name), void *arg)
{
	size_t n = 0;

	for (size_t i = 0; m && m->current && i < m->current->ngens; i++)
		if (m->current->gens[i]->down) {
			n++;
			if (each)
				each(arg, m->current->gens[i]->name);
		}
	return n;
}

/* ---- start ------------------------------------------------------------------------------------------------- */

static int start_one(struct reload *r, struct generation *g)
{
	const struct next *n = next_of(r, g);
	int rc;

	if (n->old)
		pass_on(n->old, g);
	if (generation_is_exclusive(g))
		exclusive_set(&r->m->exclusive, g, true);
	rc = generation_start(g, r->next, r->err);
	return rc == ESP_OK ? generation_worker_start(g, r->next, r->err) : rc;
}

int stage_start(struct reload *r)
{
	int rc = swap_out(r);

	for (size_t i = 0; i < r->n && rc == ESP_OK; i++) {
		struct generation *g = r->order[i];

		if (g->state == GEN_INITED && !g->left_out)
			rc = start_one(r, g);
	}
	return rc;
}

/* ---- live changes ------------------------------------------------------------------------------------------ */

void stage_live(struct reload *r)
{
	for (size_t i = 0; i < r->n; i++) {
		struct next *n = &r->list[i];
		esp_err why = ESP_ERR_INIT;

		if (n->action != PLAN_LIVE || n->changes.count == 0)
			continue;
		if (generation_reconfigure(n->old, n->cfg, false, &why) == ESP_OK)
			continue;
		log_line(ESP_LOG_NOTICE, n->old->name, "refuses the live change and gets a new generation",
		         log_cstr("reason", why.text));
		n->action = PLAN_CONFIG;
	}
}

static void keep_cfg(struct generation *g, esp_cfg *next)
{
	esp_cfg **list = realloc(g->old_cfgs, (g->nold_cfgs + 1) * sizeof *list);

	if (list) {
		g->old_cfgs = list;
		list[g->nold_cfgs++] = g->cfg;   /* else it leaks, which is safe */
	}
	g->cfg = next;
}

void stage_commit_live(struct reload *r)
{
	for (size_t i = 0; i < r->n; i++) {
		struct next *n = &r->list[i];

		if (n->action != PLAN_LIVE)
			continue;
		if (n->changes.count > 0) {
			esp_err why = ESP_ERR_INIT;

			if (generation_reconfigure(n->old, n->cfg, true, &why) < 0)
				log_line(ESP_LOG_ERROR, n->old->name,
					"failed to apply a change that it had accepted: a defect of the module",
					log_cstr("reason", why.text));
			keep_cfg(n->old, n->cfg);
			n->cfg = NULL;
		}
		if (n->hooks_changed) {
			free(n->old->overrides);
			n->old->overrides = n->overrides;
			n->overrides = NULL;
		}
	}
}

/* ---- undo -------------------------------------------------------------------------------------------------- */

static void undo_one(struct generation *g)
{
	esp_nsec now = clock_monotonic();
	struct ending e = { .work = now + UNDO_TIME, .last = now + UNDO_TIME + STOP_GRACE };

	if (generation_is_exclusive(g) && g->state >= GEN_INITED)
		exclusive_set(&g->modules->exclusive, g, false);
	if (g->state > GEN_NEW)
		(void)generation_stop(g, &e);   /* fiber-ok: what is left, generation_retire() ends */
	generation_retire(g);
}

void stage_undo(struct reload *r)
{
	(void)fiber_set_deadline(0);
	fiber_shield(1);
	for (size_t i = r->n; i > 0 && r->order; i--) {
		struct next *n = r->order[i - 1] ? next_of(r, r->order[i - 1]) : NULL;

		if (n && n->gen != n->old) {
			undo_one(n->gen);
			if (n->old)
				give_back(n->gen, n->old);
			n->gen = NULL;
		}
	}
	for (size_t i = 0; i < r->n; i++) {   /* those that never got a place in the order */
		struct next *n = &r->list[i];

		if (n->gen && n->gen != n->old)
			undo_one(n->gen);
		n->gen = NULL;
	}
	if (r->next)
		snapshot_abandon(r->next);
	r->next = NULL;
	if (r->swapped) {
		if (r->m->current && any_stopped(r->m->current))
			swap_back(r);
		exclusive_open(r->m);
	}
	fiber_shield(0);
}
