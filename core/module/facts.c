/* core/module/facts.c - the events module.loaded, module.reloaded and module.failed.
 *
 * Thread: control.  They are published when the snapshot is in force and its subscribers receive, so that a module
 * which is new tells of itself.  A module that is removed is told by the log alone.
 */
#include <stdio.h>
#include <string.h>

#include "core/base/assert.h"
#include "core/base/str.h"
#include "core/bus/event.h"
#include "core/bus/log.h"
#include "core/module/modules-priv.h"

static int declare_one(const char *name, const char *help, const esp_event_field *fields, uint32_t n, esp_event_id *ret)
{
	return event_declare(name, help, fields, n, sizeof *fields, ret);
}

int facts_declare(struct modules *m)
{
	static const esp_event_field running[] = {
		{ .key = "module", .type = ESP_F_STR, .help = "its name in esp.conf" },
		{ .key = "file", .type = ESP_F_STR, .help = "its file, without .so" },
		{ .key = "version", .type = ESP_F_STR, .help = "the version it says of itself" },
		{ .key = "generation", .type = ESP_F_INT, .help = "number of its generation in this server process" },
		{ .key = "change", .type = ESP_F_STR, .help = "reloaded: live change, new generation or new image" },
	};
	static const esp_event_field failed[] = {
		{ .key = "module", .type = ESP_F_STR, .help = "its name in esp.conf; empty: the reason names no module" },
		{ .key = "reason", .type = ESP_F_STR, .help = "module, step and what went wrong" },
	};
	int rc = declare_one("module.loaded", "A module runs that did not run before", running, 4, &m->facts.loaded);

	if (rc == ESP_OK)
		rc = declare_one("module.reloaded", "A module runs with other settings or from another file", running, 5,
		                 &m->facts.reloaded);
	if (rc == ESP_OK)
		rc = declare_one("module.failed",
			"A module does not run or did not change: a load or reload was refused, or it "
			"was left out after crashes",
			failed, 2, &m->facts.failed);
	return rc;
}

static void tell_running(const struct modules *m, const struct next *n)
{
	const struct generation *g = n->gen;
	esp_field fields[] = {
		ESP_FSTR("module", str_of(g->name)), ESP_FSTR("file", str_of(g->file)),
		ESP_FSTR("version", str_of(g->image->desc.version)), ESP_FINT("generation", (int64_t)g->number),
		ESP_FSTR("change", str_of(plan_action_name(n->action))),
	};
	bool again = n->old && !n->old->left_out;

	event_publish("core/module", again ? m->facts.reloaded : m->facts.loaded, fields, again ? 5 : 4, sizeof fields[0]);
}

void facts_tell_failed(const struct modules *m, const char *module, const char *reason)
{
	esp_field fields[] = { ESP_FSTR("module", str_of(module)), ESP_FSTR("reason", str_of(reason)) };

	event_publish("core/module", m->facts.failed, fields, ARRAY_LEN(fields), sizeof fields[0]);
}

void facts_tell(const struct reload *r)
{
	for (size_t i = 0; i < r->n; i++) {
		const struct next *n = &r->list[i];

		if (n->gen == n->old && n->action != PLAN_LIVE)
			continue;
		if (n->gen->left_out)
			facts_tell_failed(r->m, n->gen->name, "left out after crashes");
		else
			tell_running(r->m, n);
	}
	for (size_t i = 0; !r->m->told_unloaded && i < r->m->nleft_out; i++)
		if (r->m->left_out[i].unloaded && config_module_find(r->config, r->m->left_out[i].name) >= 0)
			facts_tell_failed(r->m, r->m->left_out[i].name, "not loaded: it crashed the server before it could start");
	r->m->told_unloaded = true;
}

/* Whose "NAME: step: ..." is in the reason?  A rehearsal's comes from another process, as text. */
const char *facts_blamed(const struct reload *r, const char *reason)
{
	for (uint32_t i = 0; r->config && i < config_module_count(r->config); i++) {
		const struct config_module *e = config_module_at(r->config, i);
		size_t n = strlen(e->name);      /* 0: it is what was refused */

		for (const char *at = n ? strstr(reason, e->name) : NULL; at; at = strstr(at + n, e->name))
			if ((at == reason || (at > reason + 1 && !strncmp(at - 2, ": ", 2))) && at[n] == ':')
				return e->name;
	}
	return "";
}
