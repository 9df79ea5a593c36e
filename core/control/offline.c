/* core/control/offline.c - what esp-server does without serving: check, migrate, docs.
 *
 * Each runs in a throw-away process with one worker and no listeners; a module that crashes in its check() takes only
 * this process with it.  Work runs in one fiber of the control thread.
 */
#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/base/status.h"
#include "core/base/str.h"
#include "core/bus/bus.h"
#include "core/config/config.h"
#include "core/control/command.h"
#include "core/control/ending.h"
#include "core/control/privilege.h"
#include "core/control/server-priv.h"
#include "core/control/server.h"
#include "core/control/settings.h"
#include "core/control/spawn.h"
#include "core/loop/loop.h"
#include "core/module/crash.h"
#include "core/module/generation.h"
#include "core/module/image.h"
#include "core/module/modules.h"
#include "core/module/snapshot.h"
#include "core/net/tls.h"

enum { STOP_S = 30 };

extern char **environ;

struct offline {
	struct server server;           /* config, modules */
	struct config_errors errs;
	bool check_only;
	int (*run)(struct offline *o, esp_err *err);   /* in the fiber, modules are loaded; may suspend */
	bool rehearse;                  /* migrate */
	const char *down;
	const char *what, *dir;         /* docs */
	char state[64];                 /* a directory of our own, removed at the end; "": server.path */
	int code;
};

/* --- the frame: loops, modules, one fiber -------------------------------------------------------------------- */

static int load_modules(struct offline *o, esp_err *err)
{
	struct modules_opts opts = { .config_path = o->server.config_path,
		.trial = { .binary = spawn_own_binary() },
		.check_only = o->check_only,
		.state_dir = o->state[0] ? o->state : NULL };
	int status = modules_new(&opts, &o->server.modules);

	if (!status)
		status = server_net_start(&o->server, err);
	if (!status)
		status = modules_load(o->server.modules, config_ref(o->server.config), &o->errs, err);
	return status;
}

static void offline_fiber(void *arg)
{
	struct offline *o = arg;
	esp_err err = ESP_ERR_INIT;
	int status = load_modules(o, &err);
	esp_nsec until;

	if (!status && o->run)
		status = o->run(o, &err);
	if (status) {
		o->code = 1;
		if (!o->errs.errors && o->check_only)
			config_errors_add(&o->errs, err.file[0] ? err.file : o->server.config_path, err.line, "%s",
			                  err.text[0] ? err.text : status_text(status));
		else if (!o->errs.errors)
			fprintf(stderr, "esp-server: %s\n", err.text[0] ? err.text : status_text(status));
	}
	fiber_shield(1);
	until = clock_monotonic() + STOP_S * ESP_SEC;
	if (o->server.modules && modules_drain(o->server.modules, until, until + ENDING_MODULES_MS * ESP_MSEC) != ESP_OK)
		fprintf(stderr, "esp-server: a module did not stop within %d seconds\n", STOP_S);
	server_traffic_stop(&o->server);
	bus_stop(clock_monotonic() + ESP_SEC);
	fiber_shield(0);
	loop_quit();
}

static int offline_loops(struct offline *o)
{
	struct loop_config lc = { .workers = 1 };
	esp_err err = ESP_ERR_INIT;
	int status = crash_install(NULL, &err);      /* who checks is told which module crashed */

	if (!status)
		status = loop_init(&lc, &err);

	if (!status)
		status = loop_start(&err);
	if (!status)
		status = bus_start(loop_observer());
	if (!status)
		status = worker_post_fiber(loop_control(), NULL, "offline", offline_fiber, o);
	if (status) {
		fprintf(stderr, "esp-server: %s\n", err.text[0] ? err.text : status_text(status));
		return 1;
	}
	loop_run();
	modules_free(o->server.modules);
	net_free(o->server.net);
	bus_free();
	loop_free();
	return o->code;
}

static struct offline *offline_new(const char *config_path)
{
	struct offline *o = calloc(1, sizeof(*o));

	if (!o)
		abort();
	o->server.magic = SERVER_MAGIC;
	o->server.config_path = config_path;
	o->server.link = o->server.lock = -1;
	return o;
}

/* A check and the documents need a place for copies of modules, but must not touch, or depend on, server.path. */
static void own_state(struct offline *o)
{
	const char *tmp = getenv("TMPDIR");
	esp_str path = cfg_string(cfg_group(config_root(o->server.config), "server"), "path");
	struct stat st;

	if (path.len && path.ptr[0] == '/' && stat(path.ptr, &st) == 0 && st.st_uid == geteuid() &&
	    access(path.ptr, W_OK | X_OK) == 0)
		return;                  /* what the server itself uses: surely not mounted noexec */
	snprintf(o->state, sizeof(o->state), "%.40s/esp-check-XXXXXX", tmp && tmp[0] == '/' ? tmp : "/tmp");
	if (!mkdtemp(o->state))
		o->state[0] = '\0';
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *where)
{
	(void)st;
	(void)type;
	(void)where;
	return remove(path);
}

static int offline_end(struct offline *o, int code)
{
	if (o->state[0] && nftw(o->state, remove_entry, 16, FTW_DEPTH | FTW_PHYS))
		fprintf(stderr, "esp-server: cannot remove %s\n", o->state);
	config_unref(o->server.config);
	config_errors_free(&o->errs);
	free(o);
	return code;
}

/* --- check --------------------------------------------------------------------------------------------------- */

static void check_certificates(struct offline *o)
{
	const esp_cfg *tls = cfg_group(config_root(o->server.config), "tls");

	for (uint32_t i = 0; i < cfg_count(tls, "certificates"); i++) {
		const esp_cfg *one = cfg_at(tls, "certificates", i, NULL);
		struct tls_files files = { cfg_string(one, "cert").ptr, cfg_string(one, "key").ptr };
		struct tls_store *store = NULL;
		struct tls_certificate loaded;
		esp_err err = ESP_ERR_INIT;
		uint32_t line;
		const char *file = cfg_where(one, "cert", &line);

		if (!files.cert || !files.key)
			continue;
		if (tls_store_load(&files, 1, &store, &err) != ESP_OK)
			config_errors_add(&o->errs, file, line, "tls.certificates: %s", err.text);
		else if (tls_store_certificate(store, 0, &loaded) && loaded.expires <= clock_wall(NULL))
			config_errors_warn(&o->errs, file, line, "tls.certificates: %s has expired: replace it", files.cert);
		tls_store_unref(store);
	}
}

/* Become the server's user, who has to be able to read what is looked at from here on. */
static int check_user(struct offline *o)
{
	struct settings *st = calloc(1, sizeof(*st));
	struct privilege p;
	esp_err err = ESP_ERR_INIT;
	const char *step = "";
	int status = ESP_OK;

	if (st && settings_take(o->server.config, st, &o->errs) == ESP_OK) {
		if (privilege_resolve(st->user, st->group, &p, &err) != ESP_OK)
			config_errors_warn(&o->errs, o->server.config_path, 0, "%s", err.text);
		else if ((status = privilege_drop(&p, &step)) != ESP_OK)
			config_errors_add(&o->errs, o->server.config_path, 0, "cannot check as %s: %s: %s", st->user, step,
				strerror(errno));
	}
	free(st);
	return status;
}

static void put_finding(struct json *j, const char *file, uint32_t line, const char *message, bool is_warning)
{
	json_begin_object(j);
	json_put_text(j, "file", file);
	if (line)
		json_put_int(j, "line", line);
	else
		json_put_text(j, "line", NULL);
	json_put_text(j, "message", message);
	json_put_text(j, "level", is_warning ? "warning" : "error");
	json_end_object(j);
}

/* What config_errors_print() says, for programs. */
static void print_findings(struct config_errors *errs, FILE *out)
{
	struct buffer text;
	struct json j;
	uint32_t kept = 0;

	buffer_init(&text, COMMAND_ANSWER_MAX);
	j = json_on(&text);
	config_errors_sort(errs);
	json_begin_array(&j);
	for (uint32_t i = 0; i < errs->count; i++) {
		const struct config_error *e = &errs->items[i];

		kept += !e->is_warning;
		put_finding(&j, e->file, e->line, e->text, e->is_warning);
	}
	if (errs->errors > kept)
		put_finding(&j, NULL, 0, "and more errors, which there was no room for", false);
	json_end_array(&j);
	fprintf(out, "%.*s\n", ESP_FMT(buffer_str(&text)));
	buffer_free(&text);
}

int offline_check(const char *config_path, bool json)
{
	struct offline *o = offline_new(config_path);
	struct log_config quiet = { .level = ESP_LOG_ERROR };
	esp_err err = ESP_ERR_INIT;
	int status = config_load(config_path, (const char *const *)environ, &o->server.config, &o->errs), code = 1;

	if (log_open(&quiet, &err) != ESP_OK)
		fprintf(stderr, "esp-server: %s\n", err.text);
	if (o->server.config) {
		bool looks = status != ESP_OK || check_user(o) == ESP_OK;

		if (looks) {
			check_certificates(o);
			o->check_only = true;
			own_state(o);
			code = offline_loops(o);
		}
	}
	if (json)
		print_findings(&o->errs, stdout);
	else
		config_errors_print(&o->errs, stderr);
	if (status || o->errs.errors)
		code = 1;
	return offline_end(o, code);
}

/* --- migrate ------------------------------------------------------------------------------------------------- */

static int run_migrate(struct offline *o, esp_err *err)
{
	char down[160];
	esp_str words[3] = { ESP_STR("migrate"), ESP_STR("--check"), ESP_STR("--yes") };

	if (o->down) {
		snprintf(down, sizeof(down), "--down=%s", o->down);
		words[1] = str_of(down);
	}
	return command_run_offline(&o->server, words, o->down ? 3 : o->rehearse ? 2 : 1, stdout, err);
}

/* Load the configuration, become the server's user and take the lock; everything that is wrong is printed. */
static int offline_prepare(struct offline *o, int *ret_lock)
{
	struct settings *st = calloc(1, sizeof(*st));
	struct privilege p;
	esp_err err = ESP_ERR_INIT;
	const char *step = "";
	int status = config_load(o->server.config_path, (const char *const *)environ, &o->server.config, &o->errs);

	if (!st)
		abort();
	if (!status)
		status = settings_take(o->server.config, st, &o->errs);
	if (!status)
		status = privilege_resolve(st->user, st->group, &p, &err);
	if (!status)
		status = settings_make_dir(st->path, &p, &err);
	if (!status) {
		*ret_lock = settings_lock(st->path, &p, &err);
		status = *ret_lock < 0 ? *ret_lock : ESP_OK;
	}
	/* files that modules make belong to the server's user */
	if (!status && privilege_drop(&p, &step) != ESP_OK)
		status = err_fail(&err, ESP_EACCES, "cannot give up root: %s: %s", step, strerror(errno));
	if (status && !o->errs.errors)
		fprintf(stderr, "esp-server: %s\n", err.text[0] ? err.text : status_text(status));
	free(st);
	return status;
}

int offline_migrate(const char *config_path, bool rehearse, const char *down)
{
	struct offline *o = offline_new(config_path);
	int lock = -1, code = 1;

	o->rehearse = rehearse;
	o->down = down;
	o->run = run_migrate;
	/* what the provider of the database does at its start: all, whatever the configuration says; or nothing */
	(void)setenv("ESP_MIGRATE", rehearse || down ? "check" : "apply", 1);
	if (offline_prepare(o, &lock) == ESP_OK)
		code = offline_loops(o);
	config_errors_print(&o->errs, stderr);
	if (lock >= 0)
		close(lock);
	return offline_end(o, code);
}

/* --- docs ---------------------------------------------------------------------------------------------------- */

static void on_piece(void *arg, esp_str piece)
{
	FILE *f = arg;

	/* checked by ferror() at the end */
	(void)!fwrite(piece.ptr, 1, piece.len, f);
}

static void put_schemas(const struct snapshot *s, FILE *f)
{
	for (size_t i = 0; s && i < s->ngens; i++) {
		const struct image_desc *d = s->gens[i]->image ? &s->gens[i]->image->desc : NULL;

		if (d && d->config)
			config_schema_markdown(d->config, sizeof(esp_cfg_item), d->name, 2, f);
	}
}

static int run_docs(struct offline *o, esp_err *err)
{
	char path[2048];
	FILE *f;
	int failed;

	snprintf(path, sizeof(path), "%s/%s.md", o->dir, strcmp(o->what, "config") == 0 ? "configuration" : o->what);
	f = fopen(path, "we");
	if (!f)
		return err_fail_errno(err, "cannot write %s", path);
	if (strcmp(o->what, "config") == 0) {
		fputs("# Configuration\n\nGenerated by `esp-server docs config`.\n\n", f);
		config_schema_markdown(config_core_schema(), sizeof(esp_cfg_item), "esp.conf", 2, f);
		put_schemas(modules_snapshot(o->server.modules), f);
	} else if (strcmp(o->what, "events") == 0) {
		event_document(on_piece, f);
	} else if (strcmp(o->what, "metrics") == 0) {
		metric_document(on_piece, f);
	} else if (strcmp(o->what, "hooks") == 0) {
		hook_document(on_piece, f);
	} else {
		command_document(on_piece, f);
	}
	failed = ferror(f);
	if (fclose(f) || failed)
		return err_fail_errno(err, "cannot write %s", path);
	return ESP_OK;
}

static const char core_only[] = "server = { hostname = \"docs.example.test\"; };";

int offline_docs(const char *what, const char *dir, const char *config_path)
{
	struct offline *o = offline_new(config_path);
	struct log_config quiet = { .level = ESP_LOG_ERROR };
	esp_err err = ESP_ERR_INIT;
	int lock = -1, code = 1, status;

	o->what = what;
	o->dir = dir;
	o->run = run_docs;
	if (log_open(&quiet, &err) != ESP_OK)
		fprintf(stderr, "esp-server: %s\n", err.text);
	if (config_path)
		status = offline_prepare(o, &lock);
	else
		status =
			config_load_text("docs", (esp_str){ core_only, sizeof(core_only) - 1 }, NULL, &o->server.config, &o->errs);
	if (!status && !config_path)
		own_state(o);
	if (!status)
		code = offline_loops(o);
	config_errors_print(&o->errs, stderr);
	if (lock >= 0)
		close(lock);
	return offline_end(o, code);
}
