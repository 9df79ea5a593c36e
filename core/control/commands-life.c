/* core/control/commands-life.c - commands that change what runs: reload, stop, upgrade. */
#include <stdio.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/base/status.h"
#include "core/base/str.h"
#include "core/config/config.h"
#include "core/control/command.h"
#include "core/control/server-priv.h"
#include "core/module/modules.h"

/* --- reload -------------------------------------------------------------------------------------------------- */

static void put_item(struct json *j, const struct plan_item *it)
{
	json_begin_object(j);
	json_put_text(j, "module", it->name);
	json_put_text(j, "action", plan_action_name(it->action));
	json_put_text(j, "file", it->file);
	json_put_text(j, "version", it->version);
	json_put_text(j, "next_version", it->next_version);
	json_put_bool(j, "pause", it->exclusive && it->action != PLAN_KEEP);
	json_put_seconds(j, "drain", it->drain);
	json_key(j, "changes");
	json_begin_array(j);
	for (size_t i = 0; i < it->nchanges; i++)
		json_text(j, it->changes[i]);
	json_end_array(j);
	json_end_object(j);
}

static void put_plan(struct json *j, const struct plan *p, const struct config_errors *errs)
{
	json_key(j, "modules");
	json_begin_array(j);
	for (size_t i = 0; p && i < p->nitems; i++)
		put_item(j, &p->items[i]);
	json_end_array(j);
	json_key(j, "warnings");
	json_begin_array(j);
	for (size_t i = 0; p && i < p->nwarnings; i++)
		json_text(j, p->warnings[i]);
	for (uint32_t i = 0; i < errs->count; i++)
		if (errs->items[i].is_warning)
			json_text(j, errs->items[i].text);
	json_end_array(j);
	json_put_bool(j, "server_changed", p && p->server_changed);
}

/* Every error of the configuration, one to a line. */
static void explain(struct config_errors *errs, struct buffer *reason)
{
	config_errors_sort(errs);
	for (uint32_t i = 0; errs->errors && i < errs->count; i++) {
		const struct config_error *e = &errs->items[i];

		if (e->is_warning)
			continue;
		if (buffer_printf(reason, "%s%s:", reason->len ? "\n" : "", e->file) ||
		    (e->line && buffer_printf(reason, "%u:", e->line)) || buffer_printf(reason, " %s", e->text))
			return;               /* full: what is there must do */
	}
}

static int run_reload(struct command_call *call)
{
	bool dry = command_option(call, "--dry-run", NULL);
	esp_nsec began = clock_monotonic();
	struct config_errors errs = CONFIG_ERRORS_INIT;
	struct modules_stats ms;
	struct plan *plan = NULL;
	char only[64] = "";
	esp_str name;
	int status = command_expect(call, 1, "--dry-run");

	if (status)
		return status;
	if (command_argument(call, 0, &name) && str_copy(only, sizeof(only), name))
		return err_fail(call->pub.err, ESP_ENOENT, "there is no module \"%.*s\"", ESP_FMT(name));
	if (dry)
		status = modules_plan(call->server->modules, only[0] ? only : NULL, &plan, &errs, call->pub.err);
	else
		status = server_reload(call->server, only[0] ? only : NULL, &plan, &errs, call->pub.err);
	if (status) {
		explain(&errs, &call->reason);
	} else {
		modules_stats(call->server->modules, &ms);
		json_begin_object(&call->json);
		json_put_bool(&call->json, "dry_run", dry);
		json_put_int(&call->json, "snapshot", (int64_t)ms.snapshot);
		json_put_seconds(&call->json, "seconds", clock_monotonic() - began);
		put_plan(&call->json, plan, &errs);
		json_end_object(&call->json);
	}
	plan_free(plan);
	config_errors_free(&errs);
	return status;
}

/* --- stop, upgrade ------------------------------------------------------------------------------------------- */

static int run_stop(struct command_call *call)
{
	int status = command_expect(call, 0, "");

	if (status)
		return status;
	server_ask_stop(call->server);
	json_begin_object(&call->json);
	json_put_bool(&call->json, "stopping", true);
	json_put_int(&call->json, "pid", getpid());
	json_put_int(&call->json, "supervisor", getppid());
	json_end_object(&call->json);
	return ESP_OK;
}

static int run_upgrade(struct command_call *call)
{
	int status = command_expect(call, 0, "");

	if (!status)
		status = server_upgrade(call->server, call->pub.err);
	if (status)
		return status;
	json_begin_object(&call->json);
	json_put_bool(&call->json, "upgraded", true);
	json_put_int(&call->json, "drains", getpid());
	json_end_object(&call->json);
	return ESP_OK;
}

const struct command commands_life[] = { { COMMAND_RELOAD, run_reload }, { COMMAND_STOP, run_stop },
	{ COMMAND_UPGRADE, run_upgrade }, { .run = NULL } };
