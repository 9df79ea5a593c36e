/* core/module/plan.c - what a reload has to do: compares the configuration in the file with what runs.
 *
 * An instance whose file (by hash) and settings are the same is kept.  If only LIVE items changed it is asked to take
 * them over; else it gets a new generation, on the same image when the file is the same.
 * Thread: control, in a fiber; the configuration is read on the `misc` lane, as the images are (plan-images.c).
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/assert.h"
#include "core/base/status.h"
#include "core/base/str.h"
#include "core/bus/chain.h"
#include "core/bus/log.h"
#include "core/module/modules-priv.h"

/* ---- the configuration ------------------------------------------------------------------------------------- */

struct read_job { const char *path; struct config *config; struct config_errors *errs; };

static int32_t do_read(void *arg)
{
	struct read_job *j = arg;

	return config_load(j->path, (const char *const *)environ, &j->config, j->errs);
}

int plan_read(struct reload *r)
{
	struct read_job j = { r->m->opts.config_path, NULL, r->errs };
	int rc = plan_on_lane(do_read, &j, "configuration", r->err);

	r->config = j.config;
	if (rc == ESP_ECONFIG)
		config_errors_first(r->errs, r->err);
	return rc;
}

/* ---- one instance ------------------------------------------------------------------------------------------ */

/* NULL also when an administrator names it: tried again. */
static const struct left_out *left_out(const struct reload *r, const struct config_module *e)
{
	bool named = r->only && !strcmp(r->only, e->name);

	return e->optional && !named ? left_out_find(r->m, e->name) : NULL;
}

static int take_image(const struct reload *r, struct next *n)
{
	esp_err why = ESP_ERR_INIT;
	int rc = plan_images_take(r, n->entry->file, &n->image, &why);

	if (rc < 0)
		return err_fail(r->err, rc, "%s: load: %.300s", n->entry->name, why.text);
	n->action = n->old && n->old->image == n->image ? PLAN_KEEP : n->old ? PLAN_IMAGE : PLAN_ADD;
	if (n->image->cxa_globals)
		fiber_cxx_refresh(n->image->handle);
	rc = config_schema_check(n->image->desc.config, sizeof(esp_cfg_item), &why);
	return rc < 0 ? err_fail(r->err, ESP_EABI, "%s: load: %.300s", n->entry->name, why.text) : ESP_OK;
}

static void read_override(const esp_cfg *c, struct hook_override *o)
{
	static const char *const verdicts[] = { "continue", "accept", "quarantine", "discard", "defer", "reject" };
	int32_t on_fail = cfg_choice(c, "on_fail");

	if (cfg_is_set(c, "priority"))
		o->set |= OVERRIDE_PRIORITY;
	if (cfg_is_set(c, "group"))
		o->set |= OVERRIDE_GROUP;
	if (cfg_is_set(c, "timeout"))
		o->set |= OVERRIDE_TIMEOUT;
	if (cfg_is_set(c, "on_fail"))
		o->set |= OVERRIDE_ON_FAIL;
	if (cfg_is_set(c, "must_run"))
		o->set |= OVERRIDE_MUST_RUN;
	if (cfg_is_set(c, "shadow"))
		o->set |= OVERRIDE_SHADOW;
	o->priority = (int32_t)cfg_integer(c, "priority");
	o->group = (uint32_t)cfg_integer(c, "group");
	o->timeout = cfg_integer(c, "timeout");
	o->must_run = cfg_boolean(c, "must_run");
	o->shadow = cfg_boolean(c, "shadow");
	o->on_fail = on_fail >= 0 && (size_t)on_fail < ARRAY_LEN(verdicts)
	             ? (esp_verdict)verdict_by_name(str_of(verdicts[on_fail])) : ESP_VERDICT_DEFER;
}

static int read_overrides(struct next *n)
{
	size_t bytes = ESP_AT_COUNT * sizeof *n->overrides;
	bool had = n->old && n->old->overrides;

	if (cfg_count(n->entry->entry, "hooks") > 0) {
		n->overrides = calloc(1, bytes);
		if (!n->overrides)
			return ESP_ENOMEM;
	}
	for (uint32_t i = 0; i < cfg_count(n->entry->entry, "hooks"); i++) {
		esp_str name;
		const esp_cfg *c = cfg_at(n->entry->entry, "hooks", i, &name);
		esp_point p = point_by_name(name);

		if (p)
			read_override(c, &n->overrides[p]);
	}
	n->hooks_changed = had != (n->overrides != NULL) || (had && memcmp(n->old->overrides, n->overrides, bytes) != 0);
	return ESP_OK;
}

static int compare(struct reload *r, struct next *n)
{
	int rc;

	if (n->action != PLAN_KEEP)
		return ESP_OK;
	rc = config_diff(n->old->cfg, n->cfg, &n->changes);
	if (rc < 0)
		return rc;
	if (n->changes.count > 0)
		n->action = n->changes.all_live && n->image->desc.ops.reconfigure ? PLAN_LIVE : PLAN_CONFIG;
	else if (n->hooks_changed)
		n->action = PLAN_LIVE;
	if (n->left_out != n->old->left_out || n->old->down || (r->only && !strcmp(r->only, n->entry->name)))
		n->action = PLAN_CONFIG;
	return ESP_OK;
}

static int decide(struct reload *r, struct next *n)
{
	int rc = take_image(r, n);

	if (rc < 0)
		return rc;
	n->left_out = left_out(r, n->entry) && !(n->image->desc.flags & ESP_MODULE_MANDATORY);
	rc = read_overrides(n);
	if (rc == ESP_OK)
		rc = config_check_module(r->config, n->index, n->image->desc.config, sizeof(esp_cfg_item), &n->cfg, r->errs);
	if (rc == ESP_ECONFIG)
		return ESP_OK;   /* counted in errs; the other modules' errors are wanted too */
	return rc < 0 ? err_fail(r->err, rc, "%s: %s", n->entry->name, status_text(rc)) : compare(r, n);
}

/* ---- the list ---------------------------------------------------------------------------------------------- */

static struct generation *running(const struct reload *r, const char *name)
{
	return snapshot_find(r->m->current, name);
}

static bool skipped(const struct reload *r, const struct config_module *e)
{
	const struct left_out *l = left_out(r, e);

	if (!l || !l->unloaded || running(r, e->name))
		return false;
	log_line(ESP_LOG_ERROR, e->name, "not loaded: it crashed the server before it could start; "
		"\"esp-cli reload NAME\" tries it again");
	return true;
}

static int list_all(struct reload *r)
{
	uint32_t count = config_module_count(r->config);

	if (count > MODULES_MAX)
		return err_fail(r->err, ESP_ECONFIG, "more than %d modules", MODULES_MAX);
	r->list = calloc(count + 1, sizeof *r->list);
	if (!r->list)
		return err_fail(r->err, ESP_ENOMEM, "no memory");
	for (uint32_t i = 0; i < count; i++) {
		const struct config_module *e = config_module_at(r->config, i);

		if (!skipped(r, e))
			r->list[r->n++] = (struct next){ .entry = e, .index = i, .old = running(r, e->name) };
	}
	return ESP_OK;
}

static void add_one(struct reload *r, int32_t at)
{
	r->list[r->n++] = (struct next){ .entry = config_module_at(r->config, (uint32_t)at), .index = (uint32_t)at,
	                                 .old = running(r, r->only) };
}

/* `reload NAME`: everybody else stays as it runs.  One that was not loaded after crashes takes its place in the
 * list. */
static int list_one(struct reload *r)
{
	struct snapshot *s = r->m->current;
	int32_t at = config_module_find(r->config, r->only);
	bool added = false;

	if (at < 0 || (!running(r, r->only) && !left_out_find(r->m, r->only)))
		return err_fail(r->err, ESP_ENOENT, "no module \"%s\" runs and is in %s", r->only, config_path(r->config));
	r->list = calloc(s->ngens + 2, sizeof *r->list);
	if (!r->list)
		return err_fail(r->err, ESP_ENOMEM, "no memory");
	for (size_t i = 0; i < s->ngens; i++) {
		bool same = !strcmp(s->gens[i]->name, r->only);

		if (!added && (same || (!running(r, r->only) && config_module_find(r->config, s->gens[i]->name) > at))) {
			add_one(r, at);
			added = true;
		}
		if (!same)
			r->list[r->n++] = (struct next){ .old = s->gens[i], .action = PLAN_KEEP };
	}
	if (!added)
		add_one(r, at);
	return ESP_OK;
}

/* The errors of all are wanted; the first is what the reload failed of. */
static int decide_listed(struct reload *r)
{
	esp_err *err = r->err;
	int rc = ESP_OK;

	for (size_t i = 0; i < r->n; i++) {
		const struct config_module *e = r->list[i].entry;
		esp_err why = ESP_ERR_INIT;
		int one;

		if (!e)
			continue;
		r->err = &why;
		one = decide(r, &r->list[i]);
		r->err = err;
		if (one < 0 && rc == ESP_OK && err)
			*err = why;
		if (one < 0 && !r->only)
			config_errors_add(r->errs, e->where, e->line, "%s", why.text);
		rc = rc < 0 ? rc : one;
	}
	return rc;
}

static bool listed(const struct reload *r, const struct generation *g)
{
	for (size_t i = 0; i < r->n; i++)
		if (r->list[i].old == g)
			return true;
	return false;
}

static int find_removed(struct reload *r)
{
	const struct snapshot *s = r->m->current;

	r->removed = calloc((s ? s->ngens : 0) + 1, sizeof *r->removed);
	if (!r->removed)
		return err_fail(r->err, ESP_ENOMEM, "no memory");
	for (size_t i = 0; s && i < s->ngens; i++)
		if (!listed(r, s->gens[i]))
			r->removed[r->nremoved++] = s->gens[i];
	return ESP_OK;
}

int plan_decide(struct reload *r)
{
	int rc = r->only ? list_one(r) : list_all(r);

	if (rc == ESP_OK)
		rc = plan_images_open(r);
	if (rc == ESP_OK)
		rc = decide_listed(r);
	plan_images_close(r);
	if (rc == ESP_OK && !r->only)
		config_check_env(r->config, r->errs);
	if (r->errs->errors > 0 && rc == ESP_OK) {
		config_errors_sort(r->errs);
		config_errors_first(r->errs, r->err);
		return ESP_ECONFIG;
	}
	return rc < 0 ? rc : find_removed(r);
}

void plan_release(struct reload *r)
{
	for (size_t i = 0; i < r->n; i++) {
		struct next *n = &r->list[i];

		if (n->image)
			image_unref(&r->m->store, n->image);
		cfg_free(n->cfg);
		free(n->overrides);
		config_changes_free(&n->changes);
	}
	free(r->list);
	free(r->order);
	free(r->removed);
	config_unref(r->config);
}

/* ---- describing -------------------------------------------------------------------------------------------- */

const char *plan_action_name(enum plan_action a)
{
	static const char *const names[] = { "?", "keep", "live change", "new generation", "new image", "add", "remove" };

	return (size_t)a < ARRAY_LEN(names) ? names[a] : names[0];
}

static char *dup_or_null(const char *s)
{
	return s ? strdup(s) : NULL;
}

static int describe_changes(const struct next *n, struct plan_item *i)
{
	i->changes = calloc(n->changes.count + 1, sizeof *i->changes);
	if (!i->changes)
		return ESP_ENOMEM;
	for (uint32_t k = 0; k < n->changes.count; k++)
		if (!(i->changes[i->nchanges++] = strdup(n->changes.lines[k])))
			return ESP_ENOMEM;
	if (n->hooks_changed && !(i->changes[i->nchanges++] = strdup("hooks changed")))
		return ESP_ENOMEM;
	return ESP_OK;
}

static int describe(const struct reload *r, const struct next *n, struct plan_item *i)
{
	const struct image *image = n->image ? n->image : n->old->image;
	bool replaced = n->old && n->action != PLAN_KEEP && n->action != PLAN_LIVE;

	i->name = strdup(n->old ? n->old->name : n->entry->name);
	i->file = strdup(image->file);
	i->action = n->action;
	i->exclusive = image->desc.flags & ESP_MODULE_EXCLUSIVE;
	i->version = dup_or_null(n->old ? n->old->image->desc.version : NULL);
	i->next_version = dup_or_null(n->action == PLAN_IMAGE || n->action == PLAN_ADD ? image->desc.version : NULL);
	i->drain = replaced ? generation_drain_time(n->old->file, r->config) : 0;
	return i->name && i->file ? describe_changes(n, i) : ESP_ENOMEM;
}

static int describe_removed(const struct reload *r, const struct generation *g, struct plan_item *i)
{
	i->name = strdup(g->name);
	i->file = strdup(g->file);
	i->action = PLAN_REMOVE;
	i->exclusive = g->image->desc.flags & ESP_MODULE_EXCLUSIVE;
	i->version = strdup(g->image->desc.version);
	i->drain = generation_drain_time(g->file, r->config);
	return i->name && i->file && i->version ? ESP_OK : ESP_ENOMEM;
}

static int describe_warnings(const struct reload *r, struct plan *p)
{
	p->warnings = calloc(r->n + r->nremoved + 1, sizeof *p->warnings);
	if (!p->warnings)
		return ESP_ENOMEM;
	for (size_t i = 0; i < p->nitems; i++) {
		char *text = NULL;

		if (p->items[i].exclusive && p->items[i].drain &&
		    asprintf(&text, "%s is exclusive: its calls pause while it is replaced", p->items[i].name) < 0)
			return ESP_ENOMEM;
		if (text)
			p->warnings[p->nwarnings++] = text;
	}
	for (size_t i = 0; i < r->nremoved; i++) {
		char *text = NULL;

		if (hooks_count(&r->removed[i]->core.pub) > 0 &&
		    asprintf(&text, "%s is removed with its %u hooks", r->removed[i]->name,
		             hooks_count(&r->removed[i]->core.pub)) < 0)
			return ESP_ENOMEM;
		if (text)
			p->warnings[p->nwarnings++] = text;
	}
	return ESP_OK;
}

static bool server_changed(const struct reload *r)
{
	uint8_t a[16], b[16];

	return r->m->current && config_hash(config_root(r->m->current->config), a) == ESP_OK &&
	       config_hash(config_root(r->config), b) == ESP_OK && memcmp(a, b, sizeof a) != 0;
}

int plan_describe(const struct reload *r, struct plan **ret)
{
	struct plan *p = calloc(1, sizeof *p);
	int rc = ESP_OK;

	if (!p || !(p->items = calloc(r->n + r->nremoved + 1, sizeof *p->items))) {
		free(p);
		return ESP_ENOMEM;
	}
	for (size_t i = 0; i < r->n && rc == ESP_OK; i++)
		rc = describe(r, &r->list[i], &p->items[p->nitems++]);
	for (size_t i = 0; i < r->nremoved && rc == ESP_OK; i++)
		rc = describe_removed(r, r->removed[i], &p->items[p->nitems++]);
	p->server_changed = server_changed(r);
	if (rc == ESP_OK)
		rc = describe_warnings(r, p);
	if (rc < 0) {
		plan_free(p);
		return rc;
	}
	*ret = p;
	return ESP_OK;
}

void plan_free(struct plan *p)
{
	if (!p)
		return;
	for (size_t i = 0; i < p->nitems; i++) {
		struct plan_item *it = &p->items[i];

		for (size_t k = 0; k < it->nchanges; k++)
			free(it->changes[k]);
		free(it->changes);
		free((char *)it->name);
		free((char *)it->file);
		free((char *)it->version);
		free((char *)it->next_version);
	}
	for (size_t i = 0; i < p->nwarnings; i++)
		free(p->warnings[i]);
	free(p->warnings);
	free(p->items);
	free(p);
}
