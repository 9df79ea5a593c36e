/* tests/unit/module/test_abi.c - hostile modules (tests/abi) and what the core makes of them. */
#include "tests/support/test.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/loop/loop.h"
#include "core/module/host.h"
#include "tests/unit/module/rig.h"

static void load_one(struct rig *r, const char *file, const char *config)
{
	char text[256];

	rig_module(r, file);
	(void)snprintf(text, sizeof text, "{ name = \"h\"; file = \"%s\"; config = { %s }; }", file, config);
	rig_conf(r, text);
}

static void answers_defer(struct rig *r, const char *file, esp_nsec least, esp_nsec most)
{
	esp_nsec took;
	esp_outcome o;

	load_one(r, file, "");
	cr_assert(rig_load(r) == ESP_OK, "%s", r->err.text);
	took = clock_monotonic();
	o = rig_helo(0, NULL);
	took = clock_monotonic() - took;
	cr_expect(o.verdict == ESP_VERDICT_DEFER, "verdict %u", o.verdict);
	cr_expect(took >= least && took <= most, "took %lld ms", (long long)(took / ESP_MSEC));
	rig_conf(r, "");
	cr_assert(rig_reload(r) == ESP_OK, "%s", r->err.text);
	cr_expect(rig_settles(r, 0, 1), "it does not go");
}

static void never(struct rig *r) { answers_defer(r, "abi_never", 40 * ESP_MSEC, 5 * ESP_SEC); }
Test(abi, a_hook_that_never_answers_gets_its_failure_policy_at_its_deadline) { rig_run(never); }
static void late(struct rig *r) { answers_defer(r, "abi_late", 40 * ESP_MSEC, 5 * ESP_SEC); }
Test(abi, an_answer_after_the_deadline_counts_for_nothing) { rig_run(late); }
static void verdict(struct rig *r) { answers_defer(r, "abi_verdict", 0, 5 * ESP_SEC); }
Test(abi, a_verdict_that_its_point_forbids_becomes_the_failure_policy) { rig_run(verdict); }

/* ---- descriptors ------------------------------------------------------------------------------------------------ */

static void refused(struct rig *r, const char *file, const char *why)
{
	load_one(r, file, "");
	cr_expect(rig_load(r) < 0, "%s was loaded", file);
	cr_expect(strstr(r->err.text, "h: load: "), "the module is not named: %s", r->err.text);
	cr_expect(strstr(r->err.text, why), "%s", r->err.text);
}

static void magic(struct rig *r) { refused(r, "abi_wrong_magic", "wrong magic"); }
Test(abi, refuses_a_wrong_magic) { rig_run(magic); }
static void size(struct rig *r) { refused(r, "abi_wrong_size", "wrong size"); }
Test(abi, refuses_a_descriptor_of_the_wrong_size) { rig_run(size); }
static void major(struct rig *r)
{
	char why[64];

	snprintf(why, sizeof why, "built for ABI %u.%u", ESP_ABI_MAJOR + 1, ESP_ABI_MINOR);
	refused(r, "abi_wrong_major", why);
}
Test(abi, refuses_another_major) { rig_run(major); }
static void minor(struct rig *r)
{
	char why[64];

	snprintf(why, sizeof why, "built for ABI %u.%u", ESP_ABI_MAJOR, ESP_ABI_MINOR + 1);
	refused(r, "abi_wrong_minor", why);
}
Test(abi, refuses_a_newer_minor) { rig_run(minor); }
static void name(struct rig *r) { refused(r, "abi_wrong_name", "says that it is"); }
Test(abi, refuses_a_file_with_another_modules_name) { rig_run(name); }
static void nothing(struct rig *r) { refused(r, "abi_nothing", "no esp_module_descriptor"); }
Test(abi, refuses_a_library_that_is_no_module) { rig_run(nothing); }

static void old(struct rig *r)
{
	esp_outcome o;

	for (unsigned generation = 0; generation < 2; generation++) {
		load_one(r, "abi_old", "");
		cr_assert((generation ? rig_reload(r) : rig_load(r)) == ESP_OK, "%s", r->err.text);
		o = rig_helo(0, NULL);
		cr_expect(o.verdict == ESP_VERDICT_REJECT, "verdict %u", o.verdict);
		cr_expect(o.answer.smtp_code >= 510, "code %u", o.answer.smtp_code);
	}
	for (unsigned i = 0; i < 500 && o.answer.smtp_code == 510; i++) {
		usleep(10000);
		o = rig_helo(0, NULL);
	}
	cr_expect(o.answer.smtp_code > 510, "it heard no event");
}
Test(abi, a_module_of_1_0_runs_with_the_tables_it_was_built_with) { rig_run(old); }

/* ---- files ------------------------------------------------------------------------------------------------------ */

static void chmod_file(struct rig *r, const char *name, mode_t mode)
{
	char path[256];

	(void)snprintf(path, sizeof path, "%s/%s", r->mods, name);
	cr_assert(chmod(path, mode) == 0);
}

static void writable(struct rig *r)
{
	load_one(r, "abi_verdict", "");
	chmod_file(r, "abi_verdict.so", 0664);
	cr_expect(rig_load(r) == ESP_EACCES);
	cr_expect(strstr(r->err.text, "may be written by others"), "%s", r->err.text);
}
Test(abi, refuses_a_file_that_others_may_write) { rig_run(writable); }

static void writable_dir(struct rig *r)
{
	load_one(r, "abi_verdict", "");
	cr_assert(chmod(r->mods, 0777) == 0);
	cr_expect(rig_load(r) == ESP_EACCES);
	cr_expect(strstr(r->err.text, "may be written by others"), "%s", r->err.text);
}
Test(abi, refuses_a_directory_that_others_may_write) { rig_run(writable_dir); }

static void link_to_file(struct rig *r)
{
	char from[256], to[256];

	load_one(r, "abi_verdict", "");
	(void)snprintf(from, sizeof from, "%s/abi_verdict.so", r->mods);
	(void)snprintf(to, sizeof to, "%s/real.so", r->mods);
	cr_assert(rename(from, to) == 0 && symlink(to, from) == 0);
	cr_expect(rig_load(r) == ESP_EACCES);
	cr_expect(strstr(r->err.text, "symbolic links are not followed"), "%s", r->err.text);
}
Test(abi, follows_no_symbolic_link) { rig_run(link_to_file); }

static void stranger(struct rig *r)
{
	char path[256];

	load_one(r, "abi_verdict", "");
	(void)snprintf(path, sizeof path, "%s/abi_verdict.so", r->mods);
	cr_assert(chown(path, 65534, 65534) == 0);
	cr_expect(rig_load(r) == ESP_EACCES);
	cr_expect(strstr(r->err.text, "belongs to user 65534"), "%s", r->err.text);
}
Test(abi, refuses_a_file_of_another_user)
{
	if (geteuid() != 0)
		cr_skip("only root can give files away");
	rig_run(stranger);
}

static void text_file(struct rig *r)
{
	char path[256];
	FILE *f;

	load_one(r, "abi_verdict", "");
	(void)snprintf(path, sizeof path, "%s/abi_verdict.so", r->mods);
	f = fopen(path, "we");
	cr_assert(f && fputs("#!/bin/sh\n", f) > 0 && fclose(f) == 0);
	cr_expect(rig_load(r) == ESP_EABI);
	cr_expect(strstr(r->err.text, "no shared object"), "%s", r->err.text);
}
Test(abi, refuses_what_is_no_shared_object) { rig_run(text_file); }

static void traversal(struct rig *r)
{
	rig_conf(r, "{ name = \"h\"; file = \"../evil\"; }");
	cr_expect(rig_load(r) == ESP_ECONFIG);
}
Test(abi, refuses_a_file_name_with_a_slash) { rig_run(traversal); }

/* ---- bad manners
 * -------------------------------------------------------------------------------------------------- */

static void leak(struct rig *r)
{
	load_one(r, "abi_leak", "fiber = false;");
	cr_assert(rig_load(r) == ESP_OK, "%s", r->err.text);
	rig_conf(r, "");
	cr_assert(rig_reload(r) == ESP_OK, "%s", r->err.text);
	cr_expect(rig_settles(r, 0, 1), "what it left keeps it alive");
	cr_expect(rig_logged(r, "left behind"), "nothing was reported");
	cr_expect(rig_logged(r, "what=timer"));
	cr_expect(rig_logged(r, "what=watch"));
}
Test(abi, closes_and_reports_a_timer_and_a_watcher_left_behind) { rig_run(leak); }

static void leak_fiber(struct rig *r)
{
	load_one(r, "abi_leak", "fiber = true;");
	cr_assert(rig_load(r) == ESP_OK, "%s", r->err.text);
	rig_conf(r, "");
	cr_assert(rig_reload(r) == ESP_OK, "%s", r->err.text);
	cr_expect(rig_settles(r, 0, 1), "its fiber keeps it alive");
	cr_expect(rig_logged(r, "has not drained by its deadline"));
	cr_expect(rig_logged(r, "still runs") && rig_logged(r, "fiber=\"abi_leak forgotten\""), "it is not named");
}
Test(abi, cancels_a_forgotten_fiber_at_the_drain_deadline_and_names_it) { rig_run(leak_fiber); }

static void drain_fiber(struct rig *r)
{
	load_one(r, "abi_leak", "fiber = true; drains = true;");
	cr_assert(rig_load(r) == ESP_OK, "%s", r->err.text);
	rig_conf(r, "");
	cr_assert(rig_reload(r) == ESP_OK, "%s", r->err.text);
	cr_expect(rig_settles(r, 0, 1), "worker_drain() was not called");
	cr_expect(!rig_logged(r, "has not drained by its deadline"), "its fiber was left to the deadline");
}
Test(abi, ends_the_fibers_of_workers_in_worker_drain) { rig_run(drain_fiber); }

static int32_t find_arena(void *arg, esp_module *by, const void *item)
{
	(void)by;
	*(esp_arena **)arg = *(esp_arena *const *)item;
	return 1;
}

static void leak_arena(struct rig *r)
{
	esp_arena *arena = NULL;

	load_one(r, "abi_leak", "arena = true;");
	cr_assert(rig_load(r) == ESP_OK, "%s", r->err.text);
	(void)host_table.contributions("abi_leak.arena", find_arena, &arena);
	cr_assert(arena);
	rig_conf(r, "");
	cr_assert(rig_reload(r) == ESP_OK, "%s", r->err.text);
	for (int i = 0; i < 300 && !rig_logged(r, "what=arena"); i++)
		rig_sleep(100 * ESP_MSEC);
	cr_expect(rig_logged(r, "what=arena created_as=\"abi_leak arena\" count=1"), "it is not named");
	mem_api.arena_free(arena);
	cr_expect(rig_settles(r, 0, 1), "freed at last, it still keeps the module alive");
}
Test(abi, names_an_arena_left_behind) { rig_run(leak_arena); }

static void cxx(struct rig *r)
{
	load_one(r, "abi_throw", "");
	cr_assert(rig_load(r) == ESP_OK, "%s", r->err.text);
	rig_helo_many(0, 200);
	rig_conf(r, "");
	cr_assert(rig_reload(r) == ESP_OK, "%s", r->err.text);
	cr_expect(rig_settles(r, 0, 1));
}
Test(abi, keeps_exceptions_of_fibers_apart) { rig_run(cxx); }

static void cxx_resident(struct rig *r)
{
	struct modules_stats s;

	load_one(r, "abi_throw", "");
	cr_assert(rig_load(r) == ESP_OK, "%s", r->err.text);
	rig_conf(r, "");
	cr_assert(rig_reload(r) == ESP_OK && rig_settles(r, 0, 1));
	modules_stats(r->m, &s);
	cr_expect(s.images_kept_mapped == 1, "a C++ image must stay mapped, and be counted");
	load_one(r, "abi_throw", "");
	cr_assert(rig_reload(r) == ESP_OK, "%s", r->err.text);
	modules_stats(r->m, &s);
	cr_expect(s.images_kept_mapped == 0, "the image that is mapped anyway must serve again");
}
Test(abi, never_unmaps_a_module_in_cxx) { rig_run(cxx_resident); }
