/* core/control/commands-info.c - commands that only look: status, modules, hooks, metrics, config show, log level,
 * stacks.
 *
 * All run in the peer's fiber on the control thread; nothing here suspends but the sending of long texts.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <esp/attention.h>

#include "config.h"
#include "core/base/clock.h"
#include "core/base/memory.h"
#include "core/base/status.h"
#include "core/base/str.h"
#include "core/bus/chain.h"
#include "core/bus/log.h"
#include "core/bus/metric.h"
#include "core/bus/verdict.h"
#include "core/config/config.h"
#include "core/control/command.h"
#include "core/control/frame.h"
#include "core/control/server-priv.h"
#include "core/loop/fiber-depth.h"
#include "core/module/modules.h"
#include "core/module/snapshot.h"

enum { RESTART_RECENT_S = 86400 };

/* --- status -------------------------------------------------------------------------------------------------- */

static void put_time(struct json *j, const char *key, esp_time when)
{
	char text[CLOCK_TEXT_MAX];

	if (!when) {
		json_put_text(j, key, NULL);
		return;
	}
	clock_text(text, when, 0);
	json_put_text(j, key, text);
}

static void status_network(struct json *j, const struct net *n)
{
	struct tls_certificate first = { .expires = 0 };
	struct net_stats st;

	net_stats(n, &st);
	certificates_first(net_certificates(n), &first);
	json_put_int(j, "connections", net_count(n));
	json_put_int(j, "accepted", (int64_t)st.accepted);
	json_put_int(j, "refused", (int64_t)(st.refused_limit + st.refused_full + st.refused_error));
	json_put_int(j, "closed_for_room", (int64_t)(st.overloaded + st.handshakes_evicted));
	json_put_bool(j, "stressed", st.stressed != 0);
	json_put_int(j, "handshakes", (int64_t)st.handshakes_now);
	json_put_int(j, "handshakes_waiting", (int64_t)st.handshakes_waiting);
	json_put_int(j, "handovers", (int64_t)st.handed_over);
	put_time(j, "certificate_expires", first.expires);
}

static void put_name(void *arg, const char *name)
{
	json_text(arg, name);
}

static void put_left_out(void *arg, const char *name)
{
	char text[128];

	snprintf(text, sizeof(text), "the module %.40s is left out after crashes (crash.log)", name);
	json_text(arg, text);
}

static void put_down(void *arg, const char *name)
{
	char text[160];

	snprintf(text, sizeof(text), "the module %.40s is down, a reload could not start it again: the log says why; then "
	         "\"esp-cli reload\"", name);
	json_text(arg, text);
}

static void put_hanging(void *arg, const char *name, const char *step, esp_nsec since)
{
	char text[200];

	snprintf(text, sizeof(text), "the module %.40s has not returned from %.20s for %lld s: a defect of it; it stays "
	         "mapped until the next restart", name, step, (long long)(since / ESP_SEC));
	json_text(arg, text);
}

static int32_t put_module(void *arg, esp_module *by, const void *item)
{
	const esp_attention *a = item;
	char text[ESP_ATTENTION_ROOM];

	if (a->size >= sizeof(*a) && a->tell(by, text))
		json_text(arg, text);
	return 0;
}

/* What an operator should look at, in one place; nothing: an empty list. */
static void status_attention(struct json *j, const struct server *s, const struct health *h)
{
	char text[sizeof(s->last_reload_error) + 64];

	json_key(j, "attention");
	json_begin_array(j);
	if (h->stalled)
		json_text(j, "a worker does not move; the log names the module and the hook");
	if (s->restarts && clock_wall(NULL) - s->restarted < RESTART_RECENT_S) {
		char when[CLOCK_TEXT_MAX];

		clock_text(when, s->restarted, 0);
		snprintf(text, sizeof(text), "the server process was restarted %u time%s, last %s: it %s (crash.log)",
			s->restarts, s->restarts == 1 ? "" : "s", when, s->restart_reason);
		json_text(j, text);
	}
	if (server_certificates_advice(s, text, sizeof(text)))
		json_text(j, text);
	if (s->last_reload_error[0]) {
		snprintf(text, sizeof(text), "the last reload was refused: %s", s->last_reload_error);
		json_text(j, text);
	}
	modules_left_out(s->modules, put_left_out, j);
	(void)modules_down(s->modules, put_down, j);
	modules_hanging(s->modules, put_hanging, j);
	if (snapshot_now())
		(void)snapshot_contributions(snapshot_now(), "esp.attention/1", put_module, j);
	json_end_array(j);
}

static int run_status(struct command_call *call)
{
	const struct server *s = call->server;
	struct json *j = &call->json;
	struct modules_stats ms;
	struct health h;
	uint64_t used, held;
	int status = command_expect(call, 0, "");

	if (status)
		return status;
	health_get(s, &h);
	modules_stats(s->modules, &ms);
	json_begin_object(j);
	json_put_text(j, "state", health_state_name(h.state));
	json_put_bool(j, "live", h.live);
	json_put_bool(j, "ready", h.ready);
	status_attention(j, s, &h);
	json_put_text(j, "version", PACKAGE_VERSION);
	json_put_text(j, "hostname", modules_hostname(s->modules));
	json_put_int(j, "pid", getpid());
	json_put_int(j, "supervisor", getppid());
	put_time(j, "started", s->started_wall);
	json_put_seconds(j, "uptime", clock_monotonic() - s->started);
	json_put_int(j, "restarts", s->restarts);
	put_time(j, "last_restart", s->restarted);
	json_put_text(j, "last_restart_reason", s->restart_reason);
	json_put_int(j, "workers", h.workers);
	json_put_int(j, "stalled", h.stalled);
	json_put_int(j, "stalls", (int64_t)h.stalls);
	json_put_int(j, "fibers", fiber_live());
	status_network(j, s->net);
	json_put_int(j, "snapshot", (int64_t)ms.snapshot);
	json_put_int(j, "snapshots", (int64_t)ms.snapshots_alive);
	json_put_int(j, "generations", (int64_t)ms.generations_alive);
	json_put_int(j, "images_kept_mapped", (int64_t)ms.images_kept_mapped);
	json_put_int(j, "reloads", (int64_t)s->reloads);
	json_put_int(j, "reloads_failed", (int64_t)s->reloads_failed);
	put_time(j, "last_reload", s->last_reload);
	json_put_text(j, "last_reload_error", s->last_reload_error[0] ? s->last_reload_error : NULL);
	json_key(j, "left_out");
	json_begin_array(j);
	modules_left_out(s->modules, put_name, j);
	json_end_array(j);
	json_put_int(j, "resident_bytes", (int64_t)memory_resident());
	memory_heap(&used, &held);
	json_put_int(j, "heap_used_bytes", (int64_t)used);
	json_put_int(j, "heap_held_bytes", (int64_t)held);
	json_put_text(j, "config", s->config_path);
	json_end_object(j);
	return ESP_OK;
}

/* --- modules ------------------------------------------------------------------------------------------------- */

static void on_module(void *arg, const struct module_info *m)
{
	struct json *j = arg;

	json_begin_object(j);
	json_put_text(j, "name", m->name);
	json_put_int(j, "generation", (int64_t)m->generation);
	json_put_text(j, "file", m->file);
	json_put_text(j, "version", m->version);
	json_put_text(j, "state", m->state);
	json_put_int(j, "connections", (int64_t)m->conns);
	json_put_int(j, "fibers", (int64_t)m->fibers);
	json_put_int(j, "jobs", (int64_t)m->jobs);
	json_put_int(j, "timers", (int64_t)(m->timers + m->watches));
	json_put_int(j, "holds", (int64_t)m->holds);
	json_put_bool(j, "exclusive", m->exclusive);
	json_put_bool(j, "resident", m->resident);
	json_put_seconds(j, "age", m->age);
	json_put_text(j, "note", m->note);
	json_put_text(j, "summary", m->summary);
	json_end_object(j);
}

static int run_modules(struct command_call *call)
{
	int status = command_expect(call, 0, "");

	if (status)
		return status;
	json_begin_array(&call->json);
	modules_each(call->server->modules, on_module, &call->json);
	json_end_array(&call->json);
	return ESP_OK;
}

/* --- hooks --------------------------------------------------------------------------------------------------- */

static void put_hook(struct json *j, esp_point p, const struct hook_entry *e, uint32_t step)
{
	json_begin_object(j);
	json_put_text(j, "point", point_of(p)->name);
	json_put_int(j, "step", step);
	json_put_text(j, "module", e->instance);
	json_put_int(j, "priority", e->hook.priority);
	json_put_int(j, "group", e->hook.group);
	json_put_seconds(j, "timeout", e->hook.timeout);
	json_put_text(j, "on_fail", verdict_name(e->hook.on_fail));
	json_put_bool(j, "must_run", e->hook.flags & ESP_HOOK_MUST_RUN);
	json_put_bool(j, "shadow", e->shadow);
	json_put_bool(j, "left_out", e->module == NULL);
	json_put_int(j, "failed", metric_value(e->failed));
	json_put_int(j, "late", metric_value(e->late));
	json_end_object(j);
}

static int run_hooks(struct command_call *call)
{
	const struct snapshot *s = snapshot_now();
	esp_str only = { NULL, 0 };
	bool narrowed = command_argument(call, 0, &only), known = !narrowed;
	int status = command_expect(call, 1, "");

	if (status)
		return status;
	json_begin_array(&call->json);
	for (esp_point p = 1; p < ESP_AT_COUNT; p++) {
		const struct chain *c = snapshot_chain(s, p);
		uint32_t step;

		if (narrowed && !str_eqz(only, point_of(p)->name))
			continue;
		known = true;
		for (uint32_t i = 0; c && i < chain_length(c); i++) {
			const struct hook_entry *e = chain_entry(c, i, &step);

			put_hook(&call->json, p, e, step);
		}
	}
	json_end_array(&call->json);
	if (!known)
		return err_fail(call->pub.err, ESP_EUSAGE, "there is no hook point \"%.*s\"", ESP_FMT(only));
	return ESP_OK;
}

/* --- metrics, config show: plain text ------------------------------------------------------------------------ */

struct gather { struct buffer out; bool failed; };

static void on_piece(void *arg, esp_str piece)
{
	struct gather *g = arg;

	if (buffer_append_str(&g->out, piece) != ESP_OK)
		g->failed = true;
}

static int send_text(struct command_call *call, esp_str text)
{
	call->streamed = true;
	return peer_send_all(call->peer, FRAME_TEXT, text) ? ESP_ECLOSED : ESP_OK;
}

static int run_metrics(struct command_call *call)
{
	struct gather g = { .failed = false };
	int status = command_expect(call, 0, "");

	if (status)
		return status;
	buffer_init(&g.out, COMMAND_ANSWER_MAX);
	metric_render(on_piece, &g);
	status = g.failed ? err_fail(call->pub.err, ESP_E2BIG, "too many metrics") : send_text(call, buffer_str(&g.out));
	buffer_free(&g.out);
	return status;
}

static int run_config_show(struct command_call *call)
{
	unsigned flags = command_option(call, "--origin", NULL) ? CONFIG_DUMP_ORIGIN : 0;
	int status = command_expect(call, 0, "--origin");
	char *text;

	if (status)
		return status;
	text = config_dump(config_root(server_config(call->server)), flags);
	if (!text)
		return ESP_ENOMEM;
	status = send_text(call, (esp_str){ text, strlen(text) });
	free(text);
	return status;
}

/* --- log level ----------------------------------------------------------------------------------------------- */

static int run_log_level(struct command_call *call)
{
	esp_str name = { NULL, 0 };
	char text[16];
	int32_t level = 0;
	int status = command_expect(call, 1, "");

	if (status)
		return status;
	if (command_argument(call, 0, &name)) {
		if (str_copy(text, sizeof(text), name) == ESP_OK)
			level = log_level_of(text);
		if (!level)
			return err_fail(call->pub.err, ESP_EUSAGE,
				"\"%.*s\" is no level; error, warning, notice, info and debug are", ESP_FMT(name));
		status = server_log_open(server_config(call->server), level, call->pub.err);
		if (status)
			return status;
	}
	json_begin_object(&call->json);
	json_put_text(&call->json, "level", log_level_name(log_level_max));
	json_end_object(&call->json);
	return ESP_OK;
}

/* --- stacks -------------------------------------------------------------------------------------------------- */

static int by_depth(const void *a, const void *b)
{
	const struct fiber_depth *x = a, *y = b;

	return x->deepest != y->deepest ? x->deepest < y->deepest ? 1 : -1 : strcmp(x->name, y->name);
}

static void put_depths(struct json *j)
{
	struct fiber_depth *d = calloc(FIBER_DEPTHS, sizeof(*d));
	uint32_t n = d ? fiber_depths(d) : 0;

	if (n)
		qsort(d, n, sizeof(*d), by_depth);
	json_begin_array(j);
	for (uint32_t i = 0; i < n; i++) {
		json_begin_object(j);
		json_put_text(j, "fiber", d[i].name);
		json_put_int(j, "deepest", (int64_t)d[i].deepest);
		json_put_int(j, "stack", (int64_t)d[i].size);
		json_put_int(j, "lives", (int64_t)d[i].lives);
		json_end_object(j);
	}
	json_end_array(j);
	free(d);
}

static int run_stacks(struct command_call *call)
{
	esp_str word = { NULL, 0 };
	int status = command_expect(call, 1, "");

	if (status)
		return status;
	if (command_argument(call, 0, &word)) {
		bool on = str_eqz(word, "on");

		if (!on && !str_eqz(word, "off"))
			return err_fail(call->pub.err, ESP_EINVAL, "\"%.*s\" is neither on nor off", ESP_FMT(word));
		fiber_depth_measure(on);
	}
	put_depths(&call->json);
	return ESP_OK;
}

const struct command commands_info[] = { { COMMAND_STATUS, run_status }, { COMMAND_MODULES, run_modules },
	{ COMMAND_MODULES_LIST, run_modules }, { COMMAND_HOOKS, run_hooks }, { COMMAND_METRICS, run_metrics },
	{ COMMAND_CONFIG_SHOW, run_config_show }, { COMMAND_LOG_LEVEL, run_log_level },
	{ COMMAND_STACKS, run_stacks }, { .run = NULL } };
