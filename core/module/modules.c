/* core/module/modules.c - the process's modules as a whole: making, listing, stopping; see modules.h. */
#include "config.h"
#include "core/module/modules.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/assert.h"
#include "core/base/clock.h"
#include "core/base/status.h"
#include "core/base/str.h"
#include "core/bus/chain.h"
#include "core/bus/event.h"
#include "core/bus/log.h"
#include "core/bus/metric.h"
#include "core/loop/loop.h"
#include "core/module/loops.h"
#include "core/module/modules-priv.h"

#define STEP_MOST (5 * ESP_SEC)         /* a step of the end that takes longer is passed over for the others */

struct modules *modules_self;

/* ---- making ------------------------------------------------------------------------------------------------ */

static const struct chain *chain_now(esp_point p)
{
	return snapshot_chain(snapshot_now(), p);
}

static int make_loops(struct modules *m)
{
	while (loop_by_number(m->nloops))
		m->nloops++;
	ESP_ASSERT(m->nloops <= LOOPS_MAX);
	m->here = calloc(m->nloops, sizeof *m->here);
	if (!m->here)
		return ESP_ENOMEM;
	for (uint32_t i = 0; i < m->nloops; i++) {
		struct worker *w = loop_by_number(i);

		ESP_ASSERT(w->number == i && !w->slots[WORKER_SLOT_MODULE]);
		m->here[i].worker = w;
		map_init(&m->here[i].objects, 0);
		w->slots[WORKER_SLOT_MODULE] = &m->here[i];
	}
	exclusive_init(&m->exclusive, m);
	return ESP_OK;
}

static void declare_metrics(struct modules *m)
{
	m->images_kept = metric_must(ESP_GAUGE, "esp_images_kept_mapped", "",
	                             "Images of modules that are no longer used but stay mapped.");
	m->reload_ok = metric_must(ESP_GAUGE, "esp_config_last_reload_ok", "", "1: the last load or reload succeeded.");
	m->reloads = metric_must(ESP_COUNTER, "esp_config_reloads_total", "", "Reloads that were tried.");
	m->pins = metric_must(ESP_GAUGE, "esp_snapshot_pins", "", "Snapshots that are alive: 1 when nothing drains.");
	m->generations =
		metric_must(ESP_GAUGE, "esp_generations_alive", "", "Generations of modules, those that drain included.");
}

int modules_new(const struct modules_opts *opts, struct modules **ret)
{
	struct modules *m = calloc(1, sizeof *m);

	if (!m || facts_declare(m) < 0 || make_loops(m) < 0) {
		free(m);
		return ESP_ENOMEM;
	}
	ESP_ASSERT(!modules_self);
	MAGIC_SET(m, MODULES_MAGIC);
	m->opts = *opts;
	modules_set_left_out(m, opts->left_out, opts->nleft_out);
	list_init(&m->snapshots);
	list_init(&m->draining);
	declare_metrics(m);
	snapshot_attach();
	hook_set_source(chain_now);
	modules_self = m;
	*ret = m;
	return ESP_OK;
}

void modules_set_deadline(struct modules *m, esp_nsec deadline)
{
	MAGIC_CHECK(m, MODULES_MAGIC);
	m->opts.deadline = deadline;
}

/* The directories are those of the first configuration: a reload does not move them. */
int modules_open_store(struct modules *m, const struct config *c, esp_err *err)
{
	const esp_cfg *server = cfg_group(config_root(c), "server");
	esp_str dir = cfg_string(server, "module_dir");
	int rc;

	if (m->state_dir)
		return ESP_OK;
	m->state_dir = strdup(m->opts.state_dir ? m->opts.state_dir : cfg_string(server, "path").ptr);
	/* unset in a configuration that is only checked, and wrong */
	m->hostname = strdup(cfg_string(server, "hostname").len ? cfg_string(server, "hostname").ptr : "");
	if (!m->state_dir || !m->hostname)
		return err_fail(err, ESP_ENOMEM, "no memory");
	rc = image_store_open(&m->store, m->opts.module_dir ? m->opts.module_dir : dir.len ? dir.ptr : ESP_MODULEDIR,
	                      m->state_dir, err);
	m->store.trial = m->opts.trial;
	return rc;
}

/* ---- asking ------------------------------------------------------------------------------------------------ */

const struct config *modules_config(const struct modules *m)
{
	MAGIC_CHECK(m, MODULES_MAGIC);
	return m->current ? m->current->config : NULL;
}

struct snapshot *modules_snapshot(const struct modules *m)
{
	MAGIC_CHECK(m, MODULES_MAGIC);
	return m->current;
}

static const char *left_out_note(const char *name, char *buf, size_t cap)
{
	(void)snprintf(buf, cap, "crashed; try again: esp-cli reload %s", name);
	return buf;
}

static const char *note_of(const struct generation *g, char *buf, size_t cap)
{
	if (g->left_out)
		return left_out_note(g->name, buf, cap);
	if (!g->hangs)
		return NULL;
	(void)snprintf(buf, cap, "has not returned from %s for %lld s: stays mapped", g->step,
	               (long long)((clock_monotonic() - g->step_since) / ESP_SEC));
	return buf;
}

static void tell(const struct generation *g, void (*each)(void *arg, const struct module_info *info), void *arg)
{
	const struct image_desc *d = &g->image->desc;
	const struct owner *o = &g->core.owner;
	char note[128];
	struct module_info i = {
		.name = g->name, .file = g->file, .version = d->version, .summary = d->summary ? d->summary : "",
		.note = note_of(g, note, sizeof note),
		.state = g->left_out ? "left out" : generation_state_name(g->state), .generation = g->number,
		.fibers = owner_count(o, OWNER_FIBER), .timers = owner_count(o, OWNER_TIMER),
		.watches = owner_count(o, OWNER_WATCH), .posts = owner_count(o, OWNER_POST), .jobs = owner_count(o, OWNER_JOB),
		.holds = owner_count(o, OWNER_OBJECT), .conns = owner_count(o, OWNER_CONN),
		.exclusive = d->flags & ESP_MODULE_EXCLUSIVE,
		.resident = g->image->resident, .age = g->active_since ? clock_monotonic() - g->active_since : 0
	};

	each(arg, &i);
}

/* Left out before it was loaded: nothing of it runs, but it is in esp.conf and an administrator looks for it. */
static void tell_unloaded(const struct modules *m, void (*each)(void *arg, const struct module_info *info), void *arg)
{
	for (uint32_t i = 0; i < config_module_count(m->current->config); i++) {
		const struct config_module *e = config_module_at(m->current->config, i);
		char note[128];

		if (left_out_find(m, e->name) && !snapshot_find(m->current, e->name))
			each(arg, &(struct module_info){ .name = e->name, .file = e->file, .version = "", .summary = "",
			                                 .state = "not loaded",
			                                 .note = left_out_note(e->name, note, sizeof note) });
	}
}

void modules_each(const struct modules *m, void (*each)(void *arg, const struct module_info *info), void *arg)
{
	MAGIC_CHECK(m, MODULES_MAGIC);
	for (size_t i = 0; m->current && i < m->current->ngens; i++)
		tell(m->current->gens[i], each, arg);
	if (m->current)
		tell_unloaded(m, each, arg);
	list_for(n, &m->draining)
		tell(list_entry(n, struct generation, link), each, arg);
}

static void tell_hang(const struct generation *g, void (*each)(void *arg, const char *name, const char *step, esp_nsec),
                      void *arg)
{
	if (g->hangs)
		each(arg, g->name, g->step, clock_monotonic() - g->step_since);
}

void modules_hanging(const struct modules *m, void (*each)(void *arg, const char *name, const char *step, esp_nsec),
                     void *arg)
{
	MAGIC_CHECK(m, MODULES_MAGIC);
	for (size_t i = 0; m->current && i < m->current->ngens; i++)
		tell_hang(m->current->gens[i], each, arg);
	list_for(n, &m->draining)
		tell_hang(list_entry(n, struct generation, link), each, arg);
}

const char *modules_hostname(const struct modules *m)
{
	MAGIC_CHECK(m, MODULES_MAGIC);
	return m->hostname;
}

void modules_stats(const struct modules *m, struct modules_stats *ret)
{
	MAGIC_CHECK(m, MODULES_MAGIC);
	*ret = (struct modules_stats){ .snapshot = m->current ? m->current->number : 0, .snapshots_alive = m->nsnapshots,
	                               .generations_alive = m->ngenerations, .images_kept_mapped = m->store.kept_mapped,
	                               .last_reload_ok = m->last_reload_ok };
}

static void count_state(const struct generation *g, int64_t value)
{
	char labels[128];
	esp_metric metric;

	(void)snprintf(labels, sizeof labels, "module=\"%s\"", g->name);
	if (metric_declare(ESP_GAUGE, "esp_generation_state", labels, "4: active; 0: not running.", NULL, 0, &metric) ==
		ESP_OK)
		metric_set(metric, value);
}

void modules_count(struct modules *m)
{
	metric_set(m->images_kept, (int64_t)m->store.kept_mapped);
	metric_set(m->reload_ok, m->last_reload_ok);
	metric_set(m->pins, m->nsnapshots);
	metric_set(m->generations, m->ngenerations);
	list_for(n, &m->draining) {
		const struct generation *g = list_entry(n, struct generation, link);

		if (!snapshot_find(m->current, g->name))
			count_state(g, 0);
	}
	for (size_t i = 0; m->current && i < m->current->ngens; i++)
		count_state(m->current->gens[i], (int64_t)m->current->gens[i]->state);
}

/* ---- stopping ---------------------------------------------------------------------------------------------- */

/* However many hang, there is time left for the others. */
static esp_nsec step_time(esp_nsec last)
{
	esp_nsec left = last - clock_monotonic();

	return left > 8 * STEP_MOST ? STEP_MOST : left > 0 ? left / 8 + 1 : 1;
}

/* drain() of all first: what they still do for each other needs all of them. */
static void drain_all(const struct snapshot *s, esp_nsec deadline)
{
	for (size_t i = s->ngens; i > 0; i--)
		if (s->order[i - 1]->state == GEN_ACTIVE)      /* fiber-ok: what hangs, stop_all() asks again */
			(void)generation_drain(s->order[i - 1], deadline, clock_monotonic() + step_time(deadline));
}

static bool has_ended(const struct generation *g)
{
	return g->state == GEN_STOPPED && owner_total(&g->core.owner) == 0;
}

/* Who may still call order[i]; NULL: nobody. */
static const struct generation *held_by(const struct snapshot *s, size_t i)
{
	for (size_t k = i + 1; k < s->ngens; k++) {
		const struct generation *g = s->order[k];

		if ((g->state != GEN_STOPPED || !generation_idle(g)) && registry_needs(g, s->order[i]))
			return g;
	}
	return NULL;
}

static void say_unended(const struct generation *g, const struct generation *holder)
{
	char left[128];

	owner_describe(&g->core.owner, left, sizeof left);
	log_line(ESP_LOG_ERROR, g->name, holder ? "is not stopped: who needs it does not end" : "does not stop in time",
	         ESP_FINT("generation", (int64_t)g->number), log_cstr("state", generation_state_name(g->state)),
	         log_cstr("step", g->step ? g->step : "none"),
	         ESP_FNSEC("since", g->step ? clock_monotonic() - g->step_since : 0), log_cstr("left", left),
	         log_cstr("needed_by", holder ? holder->name : "nobody"));
}

/* One that does not end gets half of the time that is left beyond the deadline, and so does the next. */
static bool stop_each(const struct snapshot *s, esp_nsec deadline, esp_nsec last, bool hanging)
{
	bool all = true;

	for (size_t i = s->ngens; i > 0; i--) {
		struct generation *g = s->order[i - 1];
		esp_nsec now = clock_monotonic(), from = now > deadline ? now : deadline;
		struct ending e = { deadline, step_time(last), hanging || from > last ? last : from + (last - from) / 2 };

		if (has_ended(g))
			continue;
		if (g->kept || (g->hangs && !hanging) || held_by(s, i - 1) || !generation_stop(g, &e))
			all = false;
	}
	return all;
}

/* In reverse order; those that hang come last, and behind them those that they need. */
static bool stop_all(const struct snapshot *s, esp_nsec deadline, esp_nsec last)
{
	bool all = stop_each(s, deadline, last, false);

	while (!all && clock_monotonic() < last) {
		loops_nap(2 * ESP_MSEC);
		all = stop_each(s, deadline, last, true);
	}
	for (size_t i = s->ngens; i > 0; i--)
		if (!has_ended(s->order[i - 1]))
			say_unended(s->order[i - 1], held_by(s, i - 1));
	return all;
}

static bool wait_for_draining(const struct modules *m, esp_nsec last)
{
	while (!list_empty(&m->draining) && clock_monotonic() < last)
		loops_nap(2 * ESP_MSEC);
	list_for(n, &m->draining)
		say_unended(list_entry(n, struct generation, link), NULL);
	return list_empty(&m->draining);
}

static void hurry(struct generation *g, esp_nsec deadline)
{
	if (g->drain_until > deadline)
		g->drain_until = deadline;
}

/* What still drains from earlier reloads has until the common deadline now. */
int modules_drain(struct modules *m, esp_nsec deadline, esp_nsec last)
{
	bool all;

	MAGIC_CHECK(m, MODULES_MAGIC);
	snapshot_unpin(snapshot_enter(NULL));
	fiber_shield(1);
	m->stopping = true;
	if (fiber_lock(&m->reload) == ESP_OK)
		fiber_unlock(&m->reload);
	list_for(n, &m->draining)
		hurry(list_entry(n, struct generation, link), deadline);
	if (m->current)
		drain_all(m->current, deadline);
	all = !m->current || stop_all(m->current, deadline, last);
	all = wait_for_draining(m, last) && all;
	fiber_shield(0);
	return all ? ESP_OK : ESP_ETIMEDOUT;
}

/* What did not stop is not freed: its code may still be somewhere. */
static void free_or_leave(struct generation *g)
{
	if (g->snapshots == 0 && !g->kept && (g->state <= GEN_INITED || g->state == GEN_STOPPED) &&
	    owner_total(&g->core.owner) == 0)
		generation_free(g);
}

static void free_generations(struct modules *m)
{
	struct snapshot *s = m->current;
	size_t n = s ? s->ngens : 0;
	struct generation **gens = calloc(n + 1, sizeof *gens);

	for (size_t i = 0; gens && i < n; i++)
		gens[i] = s->gens[i];
	while (!list_empty(&m->snapshots))
		snapshot_destroy(list_entry(list_first(&m->snapshots), struct snapshot, link));
	m->current = NULL;
	for (size_t i = 0; gens && i < n; i++)
		free_or_leave(gens[i]);
	free(gens);
	while (!list_empty(&m->draining)) {
		struct list *l = list_pop(&m->draining);

		free_or_leave(list_entry(l, struct generation, link));
	}
}

/* The loops have ended: nothing pins and nothing is sent any more. */
void modules_free(struct modules *m)
{
	if (!m)
		return;
	MAGIC_CHECK(m, MODULES_MAGIC);
	hook_set_source(NULL);
	free_generations(m);
	for (uint32_t i = 0; i < m->nloops; i++) {
		map_free(&m->here[i].objects);
		slots_end(&m->here[i].slots, ESP_SLOT_WORKER);
	}
	modules_self = NULL;
	image_store_close(&m->store);
	free(m->here);
	free(m->state_dir);
	free(m->hostname);
	config_unref(m->started);
	MAGIC_CLEAR(m);
	free(m);
}
