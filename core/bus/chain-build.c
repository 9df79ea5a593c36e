/* core/bus/chain-build.c - from the hooks of the generations to the order of one point (see chain.h).
 *
 * Thread: control.  A chain copies what it needs; instances' names are the snapshot's.
 */
#include "core/base/assert.h"
#include "core/base/status.h"
#include "core/bus/chain-priv.h"
#include "core/bus/line.h"
#include "core/loop/owner.h"

#include <stdlib.h>
#include <string.h>

struct added {
	const esp_module *module;
	esp_hook hook;
	struct added *next;
};

static struct added *hooks;   /* of every generation alive, in order of adding */

/* The failure policy of a hook: 0 means the default, and CONTINUE is the administrator's alone to choose. */
static bool policy_ok(esp_point p, esp_verdict v)
{
	return v != ESP_VERDICT_FAIL && verdict_allowed(p, v);
}

static esp_status refuse(esp_module *self, const struct point *at)
{
	log_line(ESP_LOG_WARNING, owner_of(self)->name, "no hook is asked at this point yet", log_cstr("point", at->name),
	         log_cstr("comes_with", at->with));
	return err_refuse(ESP_EUNAVAIL, "no hook is asked at %s yet: that comes with %s", at->name, at->with);
}

esp_status hooks_add(esp_module *self, const esp_hook *h)
{
	struct added *a, **at = &hooks;

	if (!self || !h || h->size < offsetof(esp_hook, run) + sizeof h->run || !point_of(h->point) || !h->run.any ||
	    h->timeout < 0 || !policy_ok(h->point, h->on_fail))
		return err_refuse(ESP_EINVAL,
			"the hook at point %u is not valid: it needs size, a point, a function, a timeout that is "
			"not negative, and an on_fail that its point allows",
			h ? h->point : 0);
	if (point_of(h->point)->with)
		return refuse(self, point_of(h->point));
	a = calloc(1, sizeof *a);
	if (!a)
		return ESP_ENOMEM;
	a->module = self;
	memcpy(&a->hook, h, h->size < sizeof a->hook ? h->size : sizeof a->hook);
	if (a->hook.on_fail == 0)
		a->hook.on_fail = ESP_VERDICT_DEFER;
	if (a->hook.timeout == 0)
		a->hook.timeout = HOOK_TIMEOUT_DEFAULT_S * ESP_SEC;
	while (*at)
		at = &(*at)->next;
	*at = a;
	return ESP_OK;
}

void hooks_forget(const esp_module *self)
{
	for (struct added **at = &hooks; *at; ) {
		struct added *a = *at;

		if (a->module == self) {
			*at = a->next;
			free(a);
		} else {
			at = &a->next;
		}
	}
}

uint32_t hooks_count(const esp_module *self)
{
	uint32_t n = 0;

	for (const struct added *a = hooks; a; a = a->next)
		n += a->module == self;
	return n;
}

/* --- building ---------------------------------------------------------------------------------------- */

static void override_apply(struct hook_entry *e, const struct hook_override *o)
{
	if (!o)
		return;
	if (o->set & OVERRIDE_PRIORITY)
		e->hook.priority = o->priority;
	if (o->set & OVERRIDE_GROUP)
		e->hook.group = o->group;
	if ((o->set & OVERRIDE_TIMEOUT) && o->timeout > 0)
		e->hook.timeout = o->timeout;
	if (o->set & OVERRIDE_ON_FAIL)
		e->hook.on_fail = o->on_fail;
	if (o->set & OVERRIDE_MUST_RUN)
		e->hook.flags = (e->hook.flags & ~(uint32_t)ESP_HOOK_MUST_RUN) | (o->must_run ? ESP_HOOK_MUST_RUN : 0);
	if (o->set & OVERRIDE_SHADOW)
		e->shadow = o->shadow;
}

static const double time_bounds[] = { 1e-6, 1e-5, 1e-4, 1e-3, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30 };

static void put_labels(char *buf, size_t cap, const struct hook_entry *e, const char *verdict)
{
	struct line l = line_on(buf, cap - 1);

	line_puts(&l, "module=\"");
	line_key(&l, e->instance);
	line_puts(&l, "\",point=\"");
	line_puts(&l, point_of(e->hook.point)->name);
	if (verdict) {
		line_puts(&l, "\",verdict=\"");
		line_puts(&l, verdict);
	}
	line_puts(&l, "\"");
	buf[l.len] = '\0';
}

/* A full registry leaves handles zero: the hook runs uncounted rather than not at all. */
static void metrics_declare(struct hook_entry *e)
{
	char labels[192];
	esp_status st = ESP_OK;

	for (uint32_t i = 0; i < 7; i++) {
		esp_verdict v = i == 6 ? ESP_VERDICT_FAIL : i * 10;

		if (v != ESP_VERDICT_FAIL && !verdict_allowed(e->hook.point, v))
			continue;
		put_labels(labels, sizeof labels, e, verdict_name(v));
		st |= e->shadow ? metric_declare(ESP_COUNTER, "esp_hook_shadow_calls_total", labels,
		                                 "Calls of shadow hooks by what they would have said.", NULL, 0, &e->calls[i])
		                : metric_declare(ESP_COUNTER, "esp_hook_calls_total", labels,
		                                 "Hook calls by what they answered.", NULL, 0, &e->calls[i]);
	}
	put_labels(labels, sizeof labels, e, NULL);
	st |= metric_declare(ESP_COUNTER, "esp_hook_late_total", labels,
		"Hook calls that ended after their deadline; their failure policy answered.", NULL, 0, &e->late);
	st |= metric_declare(ESP_COUNTER, "esp_hook_failed_total", labels,
	                     "Hook calls that the failure policy answered, for whatever reason.", NULL, 0, &e->failed);
	st |= metric_declare(ESP_HISTOGRAM, "esp_hook_seconds", labels,
	                     "Time in a hook, suspensions included; one call in 64 is measured.", time_bounds,
	                     ARRAY_LEN(time_bounds), &e->seconds);
	if (st != ESP_OK)
		log_line(ESP_LOG_WARNING, "core/bus", "hook is not counted: too many metrics", log_cstr("hook", e->instance));
}

static bool precedes(const struct hook_entry *a, const struct hook_entry *b)
{
	return a->hook.priority != b->hook.priority ? a->hook.priority < b->hook.priority : a->position < b->position;
}

/* Insertion keeps the order of adding among equals. */
static void insert_sorted(struct chain *c, const struct hook_entry *e)
{
	uint32_t i = c->n++;

	for (; i > 0 && precedes(e, &c->entries[i - 1]); i--)
		c->entries[i] = c->entries[i - 1];
	c->entries[i] = *e;
}

static esp_status take_hook(
	struct chain *c, const struct chain_member *m, uint32_t position, const esp_hook *h, esp_err *err)
{
	struct hook_entry e = {
		.module = m->disabled ? NULL : m->module, .instance = m->instance, .position = position, .hook = *h
	};

	if (c->n == CHAIN_HOOKS_MAX)
		return err_fail(err, ESP_ECONFIG, "more than %d hooks at %s", CHAIN_HOOKS_MAX, c->at->name);
	override_apply(&e, m->overrides ? &m->overrides[c->point] : NULL);
	if (!policy_ok(c->point, e.hook.on_fail))
		return err_fail(err, ESP_ECONFIG, "%s: on_fail = \"%s\" is not possible at %s", m->instance,
		                verdict_name(e.hook.on_fail), c->at->name);
	metrics_declare(&e);
	insert_sorted(c, &e);
	return ESP_OK;
}

/* An instance that is not even loaded has only what the administrator wrote: each point named there is answered. */
static esp_status take_absent(struct chain *c, const struct chain_member *m, uint32_t position, esp_err *err)
{
	const esp_hook h = { .size = sizeof h, .point = c->point, .priority = ESP_PRIO_NORMAL, .on_fail = ESP_VERDICT_DEFER,
	                     .timeout = HOOK_TIMEOUT_DEFAULT_S * ESP_SEC };

	return m->overrides && m->overrides[c->point].set ? take_hook(c, m, position, &h, err) : ESP_OK;
}

static esp_status take_member(struct chain *c, const struct chain_member *m, uint32_t position, esp_err *err)
{
	esp_status st = ESP_OK;

	if (!m->module)
		return take_absent(c, m, position, err);
	for (const struct added *a = hooks; a && st == ESP_OK; a = a->next)
		if (a->module == m->module && a->hook.point == c->point)
			st = take_hook(c, m, position, &a->hook, err);
	return st;
}

/* Move the members of each group to the place of its first, and note the steps. */
static esp_status make_steps(struct chain *c, esp_err *err)
{
	for (uint32_t i = 0; i < c->n; ) {
		struct step *s = &c->steps[c->nsteps++];
		uint32_t group = c->entries[i].hook.group;

		*s = (struct step){ .first = i, .n = 1 };
		for (uint32_t j = i + 1; group && j < c->n; j++) {
			struct hook_entry e = c->entries[j];

			if (e.hook.group != group)
				continue;
			memmove(&c->entries[i + s->n + 1], &c->entries[i + s->n], (j - i - s->n) * sizeof e);
			c->entries[i + s->n++] = e;
		}
		if (s->n > CHAIN_GROUP_MAX)
			return err_fail(
				err, ESP_ECONFIG, "more than %d hooks in group %u at %s", CHAIN_GROUP_MAX, group, c->at->name);
		i += s->n;
	}
	return ESP_OK;
}

esp_status chain_build(esp_point p, const struct chain_member *members, uint32_t n, struct chain **ret, esp_err *err)
{
	struct chain *c = calloc(1, sizeof *c);
	struct hook_entry *entries;
	struct step *steps;
	esp_status st = ESP_OK;

	if (!point_of(p)) {
		free(c);
		return err_fail(err, ESP_EINVAL, "there is no hook point %u", p);
	}
	if (c) {
		c->magic = CHAIN_MAGIC;
		c->point = p;
		c->at = point_of(p);
		c->allowed = c->at->allowed | verdict_bit(ESP_VERDICT_CONTINUE);
		c->entries = calloc(CHAIN_HOOKS_MAX, sizeof *c->entries);
		c->steps = calloc(CHAIN_HOOKS_MAX, sizeof *c->steps);
	}
	if (!c || !c->entries || !c->steps)
		st = err_fail(err, ESP_ENOMEM, "no memory for the hook chain");
	for (uint32_t i = 0; i < n && st == ESP_OK; i++)
		st = take_member(c, &members[i], i, err);
	if (st == ESP_OK)
		st = make_steps(c, err);
	if (st != ESP_OK) {
		chain_free(c);
		return st;
	}
	entries =
		realloc(c->entries, (c->n ? c->n : 1) * sizeof *entries); /* give back what the largest chain would need */
	steps = realloc(c->steps, (c->nsteps ? c->nsteps : 1) * sizeof *steps);
	c->entries = entries ? entries : c->entries;
	c->steps = steps ? steps : c->steps;
	*ret = c;
	return ESP_OK;
}

void chain_free(struct chain *c)
{
	if (!c)
		return;
	MAGIC_CHECK(c, CHAIN_MAGIC);
	c->magic = 0;
	free(c->entries);
	free(c->steps);
	free(c);
}

uint32_t chain_length(const struct chain *c)
{
	MAGIC_CHECK(c, CHAIN_MAGIC);
	return c->n;
}

const struct hook_entry *chain_entry(const struct chain *c, uint32_t i, uint32_t *ret_step)
{
	MAGIC_CHECK(c, CHAIN_MAGIC);
	ESP_ASSERT(i < c->n);
	for (uint32_t s = 0; ret_step && s < c->nsteps; s++)
		if (i >= c->steps[s].first && i < c->steps[s].first + c->steps[s].n)
			*ret_step = s;
	return &c->entries[i];
}

/* --- docs/hooks.md ----------------------------------------------------------------------------------- */

void hook_document(void (*sink)(void *arg, esp_str piece), void *arg)
{
	char buf[1024];
	struct line l = line_on(buf, sizeof buf);

	line_puts(&l,
		"# Hook points\n\nGenerated from the table the server checks verdicts against.  Every point also allows "
		"`continue` and `fail`\n(fail = apply the failure policy).  A verdict that is not listed counts as fail.\n\n"
		"At some points nobody asks yet; \"comes with\" says what will.  There `add()` answers `ESP_EUNAVAIL` and the\n"
		"log names the module and the point.\n\n"
		"| point | when | arguments | verdicts |\n|---|---|---|---|\n");
	sink(arg, line_str(&l));
	for (esp_point p = 1; p < ESP_AT_COUNT; p++) {
		const struct point *at = point_of(p);
		const char *sep = "";

		l.len = 0;
		line_puts(&l, "| `");
		line_puts(&l, at->name);
		line_puts(&l, "` | ");
		line_puts(&l, at->when);
		if (at->with) {
			line_puts(&l, "; comes with ");
			line_puts(&l, at->with);
		}
		line_puts(&l, " | `");
		line_puts(&l, at->args);
		line_puts(&l, "` | ");
		for (esp_verdict v = ESP_VERDICT_ACCEPT; v <= ESP_VERDICT_REJECT; v += 10) {
			if (!verdict_allowed(p, v))
				continue;
			line_puts(&l, sep);
			line_puts(&l, verdict_name(v));
			sep = ", ";
		}
		line_puts(&l, " |\n");
		sink(arg, line_str(&l));
	}
}
