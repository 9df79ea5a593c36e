/* core/module/reload.c - one load or reload from reading to publishing; see modules.h and plan.c, stage.c, retire.c.
 *
 *   read -> plan -> rehearse -> check, init -> live (commit 0) -> start, worker_start -> prepare listeners
 *        -> live (commit 1) -> publish -> retire
 *
 * Everything before "live (commit 1)" can fail and is undone; nothing from there on can.
 */
#include <stdlib.h>
#include <string.h>

#include "core/base/assert.h"
#include "core/base/clock.h"
#include "core/base/status.h"
#include "core/base/str.h"
#include "core/bus/event.h"
#include "core/bus/log.h"
#include "core/bus/metric.h"
#include "core/module/loops.h"
#include "core/module/modules-priv.h"

#define START_LIMIT (280 * ESP_SEC)     /* the supervisor waits 300 s: recovery and migrations are part of a start */

static int nothing(struct generation *g, struct worker *w, esp_err *said)
{
	(void)g;
	(void)w;
	(void)said;
	return ESP_OK;
}

/* Facts reach either the old generation of a module or the new one. */
static void switch_events(const struct reload *r)
{
	size_t nold = r->m->current ? r->m->current->ngens : 0, nout = 0, nin = 0;
	esp_module **out = calloc(nold + r->n + 2, sizeof *out), **in = out + nold + 1;

	if (!out) {
		log_line(ESP_LOG_ERROR, "core/module", "no memory: subscribers of events stay as they were");
		return;
	}
	for (size_t i = 0; i < r->n; i++)
		if (r->list[i].gen != r->list[i].old) {
			if (!r->list[i].gen->left_out)
				in[nin++] = &r->list[i].gen->core.pub;
			if (r->list[i].old)
				out[nout++] = &r->list[i].old->core.pub;
		}
	for (size_t i = 0; i < r->nremoved; i++)
		out[nout++] = &r->removed[i]->core.pub;
	event_switch(out, (uint32_t)nout, in, (uint32_t)nin);
	free(out);
}

static void activate(const struct reload *r)
{
	for (size_t i = 0; i < r->n; i++) {
		struct generation *g = r->list[i].gen;

		if (g == r->list[i].old)
			continue;
		g->active_since = clock_monotonic();
		if (g->left_out)
			log_line(ESP_LOG_ERROR, g->name, "left out after crashes: its hooks answer by their failure policy; "
				"\"esp-cli reload NAME\" tries it again");
		else
			g->state = GEN_ACTIVE;
	}
}

static void retire_old(const struct reload *r)
{
	for (size_t i = 0; i < r->n; i++)
		if (r->list[i].old && r->list[i].gen != r->list[i].old)
			generation_retire(r->list[i].old);
	for (size_t i = 0; i < r->nremoved; i++)
		generation_retire(r->removed[i]);
}

/* Cannot fail.  Returns when every loop has adopted the snapshot. */
static void publish(struct reload *r)
{
	struct modules *m = r->m;

	fiber_shield(1);
	stage_commit_live(r);
	switch_events(r);
	activate(r);
	snapshot_publish(r->next);
	r->next = NULL;
	facts_tell(r);
	if (m->opts.on_publish && !r->only)
		m->opts.on_publish(m->opts.arg, r->config);
	if (r->swapped)
		exclusive_open(m);
	retire_old(r);
	if (r->only)
		left_out_forgive(m, r->only);
	/* fiber-ok: without memory they adopt it a little later */
	(void)loops_run(r->n ? r->list[0].gen : NULL, LOOPS_ALL, "adopt", nothing, 0);
	fiber_shield(0);
}

static int rehearse(struct reload *r)
{
	const struct modules_opts *o = &r->m->opts;
	esp_err why = ESP_ERR_INIT;
	int rc;

	if (!o->rehearse || !r->m->current)
		return ESP_OK;
	rc = o->rehearse(o->arg, o->config_path, &why);
	return rc < 0 ? err_fail(r->err, rc, "rehearsal: %.360s", why.text) : ESP_OK;
}

/* Whoever asked hears of it, and the log: SIGHUP has nobody to tell. */
static void warn_restart(const struct reload *r, bool dry)
{
	struct config_changes waiting = { .count = 0 };

	if (r->m->started && config_needs_restart(r->m->started, r->config, &waiting) != ESP_OK)
		log_line(ESP_LOG_WARNING, "core/module", "no memory to say which settings need a restart");
	for (uint32_t i = 0; i < waiting.count; i++) {
		config_errors_warn(r->errs, config_path(r->config), 0, "needs a restart: %s", waiting.lines[i]);
		if (!dry)
			log_line(ESP_LOG_WARNING, "core/module", "needs a restart", log_cstr("setting", waiting.lines[i]));
	}
	config_changes_free(&waiting);
}

static bool is_served(const struct reload *r, esp_str role)
{
	for (size_t i = 0; i < r->n; i++) {
		const struct generation *g = r->list[i].gen;

		for (uint32_t k = 0; g && k < g->registered.nroles; k++)
			if (str_eqz(role, g->registered.roles[k].role))
				return true;
	}
	return false;
}

/* A slip in a listener's name or role must not be found out by the clients: they would be accepted and dropped. */
static void warn_unserved(const struct reload *r)
{
	const esp_cfg *root = config_root(r->config);

	for (uint32_t i = 0; i < cfg_count(root, "listeners"); i++) {
		esp_str name, role;
		const esp_cfg *l = cfg_at(root, "listeners", i, &name);
		const char *file;
		uint32_t line;

		role = cfg_string(l, "role").len ? cfg_string(l, "role") : name;
		if (is_served(r, role))
			continue;
		file = cfg_where(l, cfg_string(l, "role").len ? "role" : "address", &line);
		config_errors_warn(r->errs, file, line, "listeners.%.*s: no module serves \"%.*s\": its clients are dropped",
			ESP_FMT(name), ESP_FMT(role));
		log_line(ESP_LOG_WARNING, "core/module", "no module serves this listener: its clients are dropped",
			ESP_FSTR("listener", name), ESP_FSTR("role", role));
	}
}

static int bring_up(struct reload *r)
{
	const struct modules_opts *o = &r->m->opts;
	int rc;

	stage_live(r);
	rc = stage_build(r);
	if (rc < 0)
		return rc;
	warn_unserved(r);
	if (o->check_only)
		return rc;
	rc = stage_start(r);
	if (rc == ESP_OK && o->on_prepare && !r->only)
		rc = o->on_prepare(o->arg, r->config, r->err);
	return rc;
}

static int run(struct reload *r, bool dry, struct plan **ret_plan)
{
	int rc = r->config ? ESP_OK : plan_read(r);

	if (rc == ESP_OK)
		rc = modules_open_store(r->m, r->config, r->err);
	if (rc == ESP_OK)
		rc = rehearse(r);
	if (rc == ESP_OK)
		rc = plan_decide(r);
	if (rc == ESP_OK && ret_plan)
		rc = plan_describe(r, ret_plan);
	if (rc == ESP_OK && dry)
		warn_restart(r, dry);
	if (rc < 0 || dry)
		return rc;
	rc = bring_up(r);
	if (rc == ESP_OK && !r->m->opts.check_only) {
		warn_restart(r, dry);
		publish(r);
	} else {
		stage_undo(r);
	}
	return rc;
}

/* A start may take longer than a reload: it replays and recovers. */
static esp_nsec time_limit(const struct modules *m)
{
	if (m->opts.deadline)
		return m->opts.deadline;
	return m->current ?
		cfg_integer(cfg_group(config_root(m->current->config), "server"), "reload_timeout") : START_LIMIT;
}

/* The errors of r->errs are the caller's when it gave some. */
static int reload_run(struct modules *m, struct config *c, const char *only, bool dry, struct plan **ret_plan,
                      struct config_errors *errs, esp_err *err)
{
	struct config_errors own = CONFIG_ERRORS_INIT;
	esp_err why = ESP_ERR_INIT;
	struct reload r = { .m = m, .only = only, .config = c, .errs = errs ? errs : &own, .err = &why };
	esp_nsec before = fiber_deadline();
	struct plan *plan = NULL;
	int rc;

	snapshot_unpin(snapshot_enter(NULL));   /* the caller need not keep the old one alive */
	r.limit = time_limit(m);
	r.deadline = clock_monotonic() + r.limit;
	(void)fiber_set_deadline(r.deadline);
	rc = run(&r, dry, ret_plan ? &plan : NULL);
	(void)fiber_set_deadline(before);
	(void)snapshot_enter(snapshot_pin(snapshot_here()));
	if (rc < 0 && !dry && !m->opts.check_only)
		facts_tell_failed(m, facts_blamed(&r, why.text), why.text);
	plan_release(&r);
	config_errors_free(&own);
	if (rc < 0) {
		plan_free(plan);
		if (err && err->size >= sizeof why)
			*err = why;
	} else if (ret_plan) {
		*ret_plan = plan;
	}
	return rc;
}

static void account(struct modules *m, int rc, const esp_err *err, const char *what)
{
	m->last_reload_ok = rc == ESP_OK;
	modules_count(m);
	if (rc < 0)
		log_line(ESP_LOG_ERROR, "core/module", what, log_cstr("reason", err ? err->text : status_text(rc)));
	else
		log_line(
			ESP_LOG_NOTICE, "core/module", "configuration in force", ESP_FINT("snapshot", (int64_t)m->current->number));
}

int modules_load(struct modules *m, struct config *c, struct config_errors *errs, esp_err *err)
{
	int rc;

	MAGIC_CHECK(m, MODULES_MAGIC);
	ESP_ASSERT(!m->current && fiber_self());
	rc = fiber_lock(&m->reload);
	if (rc < 0) {
		config_unref(c);
		return rc;
	}
	rc = reload_run(m, c, NULL, false, NULL, errs, err);
	if (rc == ESP_OK && m->current)
		m->started = config_ref(m->current->config);
	if (!m->opts.check_only)
		account(m, rc, err, "cannot start");
	fiber_unlock(&m->reload);
	return rc;
}

int modules_plan(struct modules *m, const char *only, struct plan **ret, struct config_errors *errs, esp_err *err)
{
	int rc;

	MAGIC_CHECK(m, MODULES_MAGIC);
	rc = fiber_lock(&m->reload);
	if (rc < 0)
		return err_fail(err, rc, "another reload runs");
	rc = reload_run(m, NULL, only, true, ret, errs, err);
	fiber_unlock(&m->reload);
	return rc;
}

/* Requests for everything that came while one reload ran share the next: the first of them runs it, the others take
 * its result, unless they want the plan or name a module of their own. */
int modules_reload(
	struct modules *m, const char *only, struct plan **ret_plan, struct config_errors *errs, esp_err *err)
{
	uint64_t asked = ++m->reloads_asked;
	int rc;

	MAGIC_CHECK(m, MODULES_MAGIC);
	rc = fiber_lock(&m->reload);
	if (rc < 0)
		return err_fail(err, rc, "another reload runs");
	if (!m->current || m->stopping) {
		rc = err_fail(err, ESP_EUNAVAIL, "the server is %s", m->stopping ? "stopping" : "not started");
	} else if (!only && !ret_plan && m->reload_covers >= asked) {
		rc = m->last_rc;
		if (rc < 0 && err && err->size >= sizeof m->last_err)
			*err = m->last_err;
	} else {
		esp_err why = ESP_ERR_INIT;
		uint64_t covers = m->reloads_asked;

		rc = reload_run(m, NULL, only, false, ret_plan, errs, &why);
		account(m, rc, &why, modules_down(m, NULL, NULL) ? "reload failed, and a module is down" :
			"reload failed, nothing has changed");
		metric_add(m->reloads, 1);
		if (!only) {
			m->reload_covers = covers;
			m->last_rc = rc;
			m->last_err = why;
		}
		if (rc < 0 && err && err->size >= sizeof why)
			*err = why;
	}
	fiber_unlock(&m->reload);
	return rc;
}
