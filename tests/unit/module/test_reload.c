/* tests/unit/module/test_reload.c - loading and replacing modules: what a plan decides, what is undone, who is
 * asked. */
#include "tests/support/test.h"
#include <string.h>

#include "tests/unit/module/rig.h"

#define FILTER "{ name = \"f\"; file = \"abi_filter\"; config = { code = 551; }; }"
#define FILTER_LIVE "{ name = \"f\"; file = \"abi_filter\"; config = { code = 552; }; }"
#define FILTER_REFUSED "{ name = \"f\"; file = \"abi_filter\"; config = { code = 555; }; }"
#define FILTER_NOTE "{ name = \"f\"; file = \"abi_filter\"; config = { code = 553; note = \"x\"; }; }"

static void expect_code(uint32_t code)
{
	for (unsigned w = 0; w < 2; w++) {
		esp_outcome o = rig_helo(w, NULL);

		cr_expect(o.verdict == (code ? ESP_VERDICT_REJECT : ESP_VERDICT_CONTINUE), "verdict %u", o.verdict);
		cr_expect(o.answer.smtp_code == code, "code %u, not %u", o.answer.smtp_code, code);
	}
}

static void load_filter(struct rig *r)
{
	rig_variant(r, "abi_filter", "a");
	rig_conf(r, FILTER);
	cr_assert(rig_load(r) == ESP_OK, "%s", r->err.text);
	expect_code(551);
}

static void loads(struct rig *r)
{
	char text[64];

	load_filter(r);
	(void)rig_helo(0, text);
	cr_expect_str_eq(text, "variant-a");
	cr_expect_str_eq(rig_state(r, "f"), "active");
	cr_expect(rig_settles(r, 1, 1));
}
Test(reload, loads_a_module_and_asks_its_hook_on_every_worker) { rig_run(loads); }

static void keeps(struct rig *r)
{
	struct plan *p = NULL;

	load_filter(r);
	cr_assert(modules_plan(r->m, NULL, &p, NULL, &r->err) == ESP_OK, "%s", r->err.text);
	cr_assert(p->nitems == 1);
	cr_expect(p->items[0].action == PLAN_KEEP);
	plan_free(p);
	cr_assert(rig_reload(r) == ESP_OK, "%s", r->err.text);
	cr_expect(rig_settles(r, 1, 1), "a generation was made, or the old snapshot stays");
	expect_code(551);
}
Test(reload, keeps_what_has_not_changed) { rig_run(keeps); }

static void live(struct rig *r)
{
	struct plan *p = NULL;

	load_filter(r);
	rig_conf(r, FILTER_LIVE);
	cr_assert(modules_reload(r->m, NULL, &p, NULL, &r->err) == ESP_OK, "%s", r->err.text);
	cr_expect(p->items[0].action == PLAN_LIVE);
	cr_assert(p->items[0].nchanges == 1);
	cr_expect(strstr(p->items[0].changes[0], "551 -> 552"), "%s", p->items[0].changes[0]);
	plan_free(p);
	expect_code(552);
	cr_expect(rig_settles(r, 1, 1));
}
Test(reload, applies_live_changes_to_the_running_generation) { rig_run(live); }

static void live_refused(struct rig *r)
{
	load_filter(r);
	rig_conf(r, FILTER_REFUSED);
	cr_assert(rig_reload(r) == ESP_OK, "%s", r->err.text);
	expect_code(555);
	cr_expect(rig_settles(r, 1, 1));
}
Test(reload, makes_a_new_generation_when_a_live_change_is_refused) { rig_run(live_refused); }

static void new_generation(struct rig *r)
{
	struct plan *p = NULL;

	load_filter(r);
	rig_conf(r, FILTER_NOTE);
	cr_assert(modules_reload(r->m, NULL, &p, NULL, &r->err) == ESP_OK, "%s", r->err.text);
	cr_expect(p->items[0].action == PLAN_CONFIG);
	plan_free(p);
	expect_code(553);
	cr_expect(rig_settles(r, 1, 1), "the old generation does not go");
}
Test(reload, makes_a_new_generation_on_the_same_image_for_other_settings) { rig_run(new_generation); }

static void new_image(struct rig *r)
{
	struct plan *p = NULL;
	char text[64];

	load_filter(r);
	rig_variant(r, "abi_filter", "b");
	cr_assert(modules_reload(r->m, NULL, &p, NULL, &r->err) == ESP_OK, "%s", r->err.text);
	cr_expect(p->items[0].action == PLAN_IMAGE);
	cr_expect_str_eq(p->items[0].version, "variant-a");
	cr_expect_str_eq(p->items[0].next_version, "variant-b");
	plan_free(p);
	(void)rig_helo(1, text);
	cr_expect_str_eq(text, "variant-b");
	cr_expect(rig_settles(r, 1, 1));
}
Test(reload, maps_a_new_image_when_the_file_has_changed) { rig_run(new_image); }

static void add_and_remove(struct rig *r)
{
	struct plan *p = NULL;

	load_filter(r);
	rig_conf(r, "{ name = \"g\"; file = \"abi_filter\"; config = { code = 556; }; }");
	cr_assert(modules_reload(r->m, NULL, &p, NULL, &r->err) == ESP_OK, "%s", r->err.text);
	cr_assert(p->nitems == 2);
	cr_expect(p->items[0].action == PLAN_ADD);
	cr_expect(p->items[1].action == PLAN_REMOVE);
	plan_free(p);
	expect_code(556);
	rig_conf(r, "");
	cr_assert(rig_reload(r) == ESP_OK, "%s", r->err.text);
	expect_code(0);
	cr_expect(rig_settles(r, 0, 1));
}
Test(reload, adds_and_removes_instances) { rig_run(add_and_remove); }

static void dry(struct rig *r)
{
	struct plan *p = NULL;

	load_filter(r);
	rig_conf(r, FILTER_NOTE);
	cr_assert(modules_plan(r->m, NULL, &p, NULL, &r->err) == ESP_OK, "%s", r->err.text);
	cr_expect(p->items[0].action == PLAN_CONFIG);
	plan_free(p);
	expect_code(551);
	cr_expect(rig_settles(r, 1, 1));
}
Test(reload, changes_nothing_in_a_dry_run) { rig_run(dry); }

static void by_name(struct rig *r)
{
	rig_variant(r, "abi_filter", "a");
	rig_conf(r, FILTER ", { name = \"g\"; file = \"abi_filter\"; }");
	cr_assert(rig_load(r) == ESP_OK, "%s", r->err.text);
	cr_assert(modules_reload(r->m, "g", NULL, NULL, &r->err) == ESP_OK, "%s", r->err.text);
	cr_expect(rig_settles(r, 2, 1));
	cr_expect(modules_reload(r->m, "nobody", NULL, NULL, &r->err) == ESP_ENOENT);
	cr_expect(strstr(r->err.text, "nobody"), "%s", r->err.text);
	expect_code(551);
}
Test(reload, replaces_one_instance_by_name) { rig_run(by_name); }

/* ---- failures leave what runs ------------------------------------------------------------------------------- */

static void fails_at(struct rig *r, const char *step, const char *text)
{
	char conf[256];

	rig_module(r, "abi_fail");
	load_filter(r);
	(void)snprintf(conf, sizeof conf,
		"{ name = \"f\"; file = \"abi_filter\"; config = { code = 559; note = \"n\"; }; },"
		"{ name = \"bad\"; file = \"abi_fail\"; config = { step = \"%s\"; }; }",
		step);
	rig_conf(r, conf);
	cr_expect(rig_reload(r) < 0);
	cr_expect(strstr(r->err.text, text), "%s", r->err.text);
	expect_code(551);
	cr_expect(rig_settles(r, 1, 1), "something of the failed reload stays");
	rig_conf(r, FILTER_NOTE);
	cr_expect(rig_reload(r) == ESP_OK, "%s", r->err.text);
	expect_code(553);
}

static void fails_check(struct rig *r) { fails_at(r, "check", "bad: check: check does not want to"); }
Test(reload, leaves_what_runs_when_check_fails) { rig_run(fails_check); }
static void fails_init(struct rig *r) { fails_at(r, "init", "bad: init: init does not want to"); }
Test(reload, leaves_what_runs_when_init_fails) { rig_run(fails_init); }
static void fails_start(struct rig *r) { fails_at(r, "start", "bad: start: start does not want to"); }
Test(reload, leaves_what_runs_when_start_fails) { rig_run(fails_start); }
static void fails_worker_start(struct rig *r) { fails_at(r, "worker_start", "bad: worker_start: worker-1"); }
Test(reload, leaves_what_runs_when_one_worker_cannot_start) { rig_run(fails_worker_start); }

static void step_of_live(struct rig *r, const char *step)
{
	char conf[256];

	(void)snprintf(conf, sizeof conf,
		FILTER ", { name = \"bad\"; file = \"abi_fail\"; config = { step = \"%s\"; }; }", step);
	rig_conf(r, conf);
}

static void fails_reconfigure(struct rig *r)
{
	struct modules_stats before, after;

	rig_module(r, "abi_fail");
	rig_variant(r, "abi_filter", "a");
	step_of_live(r, "none");
	cr_assert(rig_load(r) == ESP_OK, "%s", r->err.text);
	modules_stats(r->m, &before);
	step_of_live(r, "start");
	cr_expect(rig_reload(r) < 0);
	cr_expect(strstr(r->err.text, "bad: start: start does not want to"), "%s", r->err.text);
	cr_expect(rig_logged(r, "bad: refuses the live change and gets a new generation "
	                        "reason=\"bad: reconfigure: reconfigure does not want to\""));
	expect_code(551);
	cr_expect(rig_settles(r, 2, 1), "something of the failed reload stays");
	modules_stats(r->m, &after);
	cr_expect(after.snapshot == before.snapshot);
	cr_expect_str_eq(rig_state(r, "bad"), "active");
	step_of_live(r, "reconfigure");
	cr_expect(rig_reload(r) == ESP_OK, "%s", r->err.text);
	cr_expect(rig_settles(r, 2, 1), "the generation that refused does not go");
}
Test(reload, leaves_what_runs_when_a_live_change_is_refused_and_the_new_generation_fails)
{
	rig_run(fails_reconfigure);
}

static void fails_commit(struct rig *r)
{
	struct plan *p = NULL;

	rig_module(r, "abi_fail");
	rig_variant(r, "abi_filter", "a");
	step_of_live(r, "none");
	cr_assert(rig_load(r) == ESP_OK, "%s", r->err.text);
	step_of_live(r, "commit");
	cr_assert(modules_reload(r->m, NULL, &p, NULL, &r->err) == ESP_OK, "%s", r->err.text);
	cr_expect(p->nitems == 2 && p->items[1].action == PLAN_LIVE);
	plan_free(p);
	cr_expect(rig_logged(r, "bad: failed to apply a change that it had accepted: a defect of the module"));
	expect_code(551);
	cr_expect(rig_settles(r, 2, 1));
}
Test(reload, names_a_module_that_fails_to_apply_what_it_had_accepted) { rig_run(fails_commit); }

static void bad_conf(struct rig *r)
{
	load_filter(r);
	rig_conf(r, "{ name = \"f\"; file = \"abi_filter\"; config = { cod = 551; }; }");
	cr_expect(rig_reload(r) == ESP_ECONFIG);
	cr_expect(strstr(r->err.text, "cod"), "%s", r->err.text);
	expect_code(551);
	cr_expect(rig_settles(r, 1, 1));
}
Test(reload, leaves_what_runs_when_a_key_is_misspelled) { rig_run(bad_conf); }
