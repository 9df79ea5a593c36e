/* tests/unit/module/rig.c - see rig.h. */
#include "tests/unit/module/rig.h"

#define TEST_HELPER
#include "tests/support/test.h"
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/arena.h"
#include "core/base/clock.h"
#include "core/bus/bus.h"
#include "core/loop/fiber.h"
#include "core/loop/loop.h"
#include "core/module/host.h"
#include "core/net/net.h"

static void on_body(void *arg)
{
	struct rig *r = arg;
	esp_nsec until;

	r->body(r);
	until = clock_monotonic() + 3 * ESP_SEC;
	cr_assert(modules_drain(r->m, until, until + ESP_SEC) == ESP_OK, "modules do not stop");
	event_stop(clock_monotonic() + ESP_SEC);
	r->done = true;
	loop_quit();
}

void rig_run(void (*body)(struct rig *r))
{
	static struct rig r;
	char command[128];
	esp_err err = ESP_ERR_INIT;

	memset(&r, 0, sizeof r);
	r.err = (esp_err)ESP_ERR_INIT;
	r.body = body;
	(void)snprintf(r.dir, sizeof r.dir, "/tmp/esp-module-XXXXXX");
	cr_assert(mkdtemp(r.dir));
	(void)snprintf(r.conf, sizeof r.conf, "%s/esp.conf", r.dir);
	(void)snprintf(r.mods, sizeof r.mods, "%s/modules", r.dir);
	cr_assert(mkdir(r.mods, 0755) == 0);
	(void)snprintf(command, sizeof command, "%s/log", r.dir);
	cr_assert(log_open(&(struct log_config){ .target = LOG_TO_FILE, .path = command }, &err) == ESP_OK, "%s", err.text);
	cr_assert(loop_init(&(struct loop_config){ .workers = 2, .stall = 10 * ESP_SEC }, &err) == ESP_OK, "%s", err.text);
	r.opts.config_path = r.conf;
	(void)!host_offer("esp.crypto/1", 0, &crypto_api);   /* files are hashed */
	cr_assert(modules_new(&r.opts, &r.m) == ESP_OK);
	cr_assert(event_start(loop_observer()) == ESP_OK);
	cr_assert(loop_start(&err) == ESP_OK, "%s", err.text);
	cr_assert(worker_post_fiber(loop_control(), NULL, "test", on_body, &r) == ESP_OK);
	loop_run();
	cr_assert(r.done, "the body did not end");
	modules_free(r.m);
	event_free();
	loop_free();
	(void)snprintf(command, sizeof command, "rm -rf %s", r.dir);
	cr_assert(system(command) == 0);
}

static void copy(const char *from, const char *to)
{
	char buf[2048], tmp[300];
	FILE *in = fopen(from, "re"), *out;
	size_t n;

	(void)snprintf(tmp, sizeof tmp, "%s.new", to);
	out = fopen(tmp, "we");
	cr_assert(in && out, "cannot copy %s", from);
	while ((n = fread(buf, 1, sizeof buf, in)) > 0)
		cr_assert(fwrite(buf, 1, n, out) == n);
	(void)fclose(in);
	cr_assert(fclose(out) == 0);
	cr_assert(chmod(tmp, 0644) == 0 && rename(tmp, to) == 0);
}

void rig_variant(struct rig *r, const char *name, const char *variant)
{
	char from[512], to[256];

	(void)snprintf(from, sizeof from, "%s/%s%s.libs/%s.so", ABI_DIR, variant, *variant ? "/" : "", name);
	(void)snprintf(to, sizeof to, "%s/%s.so", r->mods, name);
	copy(from, to);
}

void rig_module(struct rig *r, const char *name)
{
	rig_variant(r, name, "");
}

void rig_conf(struct rig *r, const char *modules)
{
	FILE *f = fopen(r->conf, "we");

	cr_assert(f);
	(void)fprintf(f,
		"server = { hostname = \"mx.example.test\"; path = \"%s\"; module_dir = \"%s\"; control = \"%s/sock\";\n"
		"  drain = { filter = \"300ms\"; storage = \"300ms\"; protocol = \"300ms\"; }; %s };\nmodules = ( %s );\n",
		r->dir, r->mods, r->dir, r->server ? r->server : "", modules);
	cr_assert(fclose(f) == 0);
}

int rig_load(struct rig *r)
{
	struct config_errors errs = CONFIG_ERRORS_INIT;
	struct config *c = NULL;
	int rc = config_load(r->conf, NULL, &c, &errs);

	if (rc == ESP_OK)
		rc = modules_load(r->m, c, &errs, &r->err);
	else {
		config_errors_first(&errs, &r->err);
		config_unref(c);
	}
	config_errors_free(&errs);
	return rc;
}

int rig_reload(struct rig *r)
{
	r->err = (esp_err)ESP_ERR_INIT;
	return modules_reload(r->m, NULL, NULL, NULL, &r->err);
}

struct away { void (*fn)(void *arg); void *arg; esp_ticket back; bool done; };

static void on_away(void *arg)
{
	struct away *a = arg;

	a->fn(a->arg);
	__atomic_store_n(&a->done, true, __ATOMIC_RELEASE);
	fiber_wake(a->back);
}

void rig_on(unsigned worker, void (*fn)(void *arg), void *arg)
{
	struct away a = { fn, arg, fiber_ticket(), false };

	cr_assert(worker_post_fiber(loop_worker(worker), NULL, "test", on_away, &a) == ESP_OK);
	while (!__atomic_load_n(&a.done, __ATOMIC_ACQUIRE)) {
		cr_assert(fiber_suspend() == ESP_OK);
		a.back = fiber_ticket();
	}
}

struct helo { esp_outcome out; char text[64]; };

static void do_helo(void *arg)
{
	struct helo *h = arg;
	esp_arena *arena = arena_new(&mem_api, "test", 0);
	esp_helo_args args = { .size = sizeof args, .name = ESP_STR("client.example") };
	const esp_hook_api *hooks = bus_api("esp.hook/1");

	h->out = (esp_outcome){ .size = sizeof h->out };
	hooks->run(ESP_AT_HELO, &args, arena, &h->out);
	(void)snprintf(h->text, sizeof h->text, "%.*s", ESP_FMT(h->out.answer.text));
	arena_free(arena);
}

esp_outcome rig_helo(unsigned worker, char ret_text[64])
{
	struct helo h;

	rig_on(worker, do_helo, &h);
	if (ret_text)
		memcpy(ret_text, h.text, sizeof h.text);
	return h.out;
}

void rig_helo_here(uint32_t *ret_code)
{
	struct helo h;

	do_helo(&h);
	*ret_code = h.out.answer.smtp_code;
}

/* ---- many at once ------------------------------------------------------------------------------------------ */

struct many { _Atomic unsigned left, next, wrong; };

static void on_one(void *arg)
{
	static const char names[] = "................................................................";
	struct many *m = arg;
	unsigned i = atomic_fetch_add(&m->next, 1);
	esp_arena *arena = arena_new(&mem_api, "test", 0);
	esp_helo_args args = { .size = sizeof args, .name = { names, i % (sizeof names - 1) } };
	const esp_hook_api *hooks = bus_api("esp.hook/1");
	esp_outcome out = { .size = sizeof out };

	hooks->run(ESP_AT_HELO, &args, arena, &out);
	if (out.verdict != ESP_VERDICT_CONTINUE)
		atomic_fetch_add(&m->wrong, 1);
	arena_free(arena);
	atomic_fetch_sub(&m->left, 1);
}

void rig_helo_many(unsigned worker, unsigned n)
{
	struct many m = { .left = n };

	for (unsigned i = 0; i < n; i++)
		cr_assert(worker_post_fiber(loop_worker(worker), NULL, "one", on_one, &m) == ESP_OK);
	while (atomic_load(&m.left) > 0)
		rig_sleep(5 * ESP_MSEC);
	cr_expect(m.wrong == 0, "%u wrong answers", m.wrong);
}

struct later { esp_nsec delay; unsigned worker; void (*fn)(void *arg); void *arg; };

static void on_later(void *arg)
{
	struct later l = *(struct later *)arg;

	free(arg);
	rig_sleep(l.delay);
	cr_assert(worker_post_fiber(loop_worker(l.worker), NULL, "later", l.fn, l.arg) == ESP_OK);
}

void rig_later(esp_nsec delay, unsigned worker, void (*fn)(void *arg), void *arg)
{
	struct later *l = malloc(sizeof *l);

	cr_assert(l);
	*l = (struct later){ delay, worker, fn, arg };
	cr_assert(fiber_spawn(NULL, 0, "later", on_later, l, NULL) == ESP_OK);
}

bool rig_logged(const struct rig *r, const char *text)
{
	char path[96], line[1024];
	bool found = false;
	FILE *f;

	(void)snprintf(path, sizeof path, "%s/log", r->dir);
	f = fopen(path, "re");
	while (f && !found && fgets(line, sizeof line, f))
		found = strstr(line, text) != NULL;
	if (f)
		(void)fclose(f);
	return found;
}

void rig_sleep(esp_nsec length)
{
	cr_assert(fiber_sleep_until(clock_monotonic() + length) == ESP_OK);
}

bool rig_settles(const struct rig *r, uint64_t generations, uint64_t snapshots)
{
	struct modules_stats s;

	for (unsigned i = 0; i < 500; i++) {
		modules_stats(r->m, &s);
		if (s.generations_alive == generations && s.snapshots_alive == snapshots)
			return true;
		rig_sleep(10 * ESP_MSEC);
	}
	(void)fprintf(stderr, "%llu generations, %llu snapshots\n", (unsigned long long)s.generations_alive,
	              (unsigned long long)s.snapshots_alive);
	return false;
}

struct ask { const char *name, *state; };

static void on_each(void *arg, const struct module_info *i)
{
	struct ask *a = arg;

	if (!*a->state && !strcmp(i->name, a->name))
		a->state = i->state;
}

const char *rig_state(const struct rig *r, const char *name)
{
	struct ask a = { name, "" };

	modules_each(r->m, on_each, &a);
	return a.state;
}
