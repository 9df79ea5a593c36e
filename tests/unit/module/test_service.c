/* tests/unit/module/test_service.c - services between modules: found, ordered, replaced beside each other or in
 * turn. */
#include "tests/support/test.h"

#include <stdio.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/loop/fiber.h"
#include "core/loop/loop.h"
#include "core/module/snapshot.h"
#include "tests/unit/module/rig.h"

#define CONSUMER "{ name = \"c\"; file = \"abi_consumer\"; }"
#define NAPPING "{ name = \"c\"; file = \"abi_consumer\"; config = { nap = \"1s\"; }; }"

static void conf(struct rig *r, const char *consumer, const char *file, const char *config)
{
	char text[512];

	(void)snprintf(text, sizeof text, "%s, { name = \"p\"; file = \"%s\"; config = { %s }; }", consumer, file, config);
	rig_conf(r, text);
}

static void load(struct rig *r, const char *consumer, const char *file, const char *config)
{
	rig_module(r, "abi_consumer");
	rig_module(r, file);
	conf(r, consumer, file, config);
	cr_assert(rig_load(r) == ESP_OK, "%s", r->err.text);
}

static uint32_t ask(unsigned worker)
{
	return rig_helo(worker, NULL).answer.smtp_code;
}

static void order(struct rig *r)
{
	load(r, CONSUMER, "abi_provider", "value = 501;");
	cr_expect(ask(0) == 501);
	cr_expect(ask(1) == 501);
}
Test(service, starts_providers_before_those_that_need_them) { rig_run(order); }

static void side_by_side(struct rig *r)
{
	load(r, CONSUMER, "abi_provider", "value = 501;");
	conf(r, CONSUMER, "abi_provider", "value = 502;");
	cr_assert(rig_reload(r) == ESP_OK, "%s", r->err.text);
	cr_expect(ask(0) == 502, "the consumer still has the old table");
	cr_expect(rig_settles(r, 2, 1));
}
Test(service, gives_the_new_table_to_a_consumer_that_was_not_reloaded) { rig_run(side_by_side); }

static void missing(struct rig *r)
{
	rig_module(r, "abi_consumer");
	rig_conf(r, CONSUMER);
	cr_expect(rig_load(r) == ESP_ECONFIG);
	cr_expect(strstr(r->err.text, "c: needs the service test.counter/1"), "%s", r->err.text);
}
Test(service, refuses_a_module_whose_service_nobody_provides) { rig_run(missing); }

static void removed(struct rig *r)
{
	load(r, CONSUMER, "abi_provider", "value = 501;");
	rig_conf(r, CONSUMER);
	cr_expect(rig_reload(r) == ESP_ECONFIG);
	cr_expect(ask(0) == 501);
}
Test(service, refuses_to_remove_a_provider_that_is_needed) { rig_run(removed); }

static void twice(struct rig *r)
{
	rig_module(r, "abi_provider");
	rig_conf(r, "{ name = \"one\"; file = \"abi_provider\"; }, { name = \"two\"; file = \"abi_provider\"; }");
	cr_expect(rig_load(r) == ESP_ECONFIG);
	cr_expect(strstr(r->err.text, "one and two both provide test.counter/1"), "%s", r->err.text);
}
Test(service, refuses_two_providers_of_one_service) { rig_run(twice); }

static void circle(struct rig *r)
{
	rig_module(r, "abi_chicken");
	rig_module(r, "abi_egg");
	rig_conf(r, "{ name = \"chicken\"; file = \"abi_chicken\"; }, { name = \"egg\"; file = \"abi_egg\"; }");
	cr_expect(rig_load(r) == ESP_ECONFIG);
	cr_expect(strstr(r->err.text, "chicken needs egg needs chicken"), "%s", r->err.text);
}
Test(service, refuses_a_circle_and_names_it) { rig_run(circle); }

/* ---- exclusive ------------------------------------------------------------------------------------------------ */

static void lock_conf(struct rig *r, char *out, size_t cap, int value, const char *more)
{
	(void)snprintf(out, cap, "value = %d; lock = \"%s/lock\"; %s", value, r->dir, more);
}

static void swap(struct rig *r)
{
	char text[256];

	lock_conf(r, text, sizeof text, 501, "");
	load(r, CONSUMER, "abi_exclusive", text);
	cr_expect(ask(0) == 501);
	lock_conf(r, text, sizeof text, 502, "");
	conf(r, CONSUMER, "abi_exclusive", text);
	cr_assert(rig_reload(r) == ESP_OK, "%s", r->err.text);
	cr_expect(ask(0) == 512, "the blob of the old generation (10) must reach the new one: %u", ask(0));
	cr_expect(ask(1) == 512);
	cr_expect(rig_settles(r, 2, 1));
}
Test(exclusive, stops_the_old_generation_before_the_new_one_starts_and_hands_its_blob_over) { rig_run(swap); }

struct caller { uint32_t code; esp_ticket back; _Atomic int done; esp_nsec when; };

static void on_call(void *arg)
{
	struct caller *c = arg;
	esp_outcome o;

	(void)o;
	rig_helo_here(&c->code);
	c->when = clock_monotonic();
	atomic_store(&c->done, 1);
}

static void in_flight(struct rig *r)
{
	struct caller before = { .code = 0 }, during = { .code = 0 };
	char text[256];
	esp_nsec began;

	lock_conf(r, text, sizeof text, 501, "");
	load(r, NAPPING, "abi_exclusive", text);
	cr_assert(worker_post_fiber(loop_worker(0), NULL, "before", on_call, &before) == ESP_OK);
	rig_sleep(50 * ESP_MSEC);
	lock_conf(r, text, sizeof text, 502, "");
	conf(r, NAPPING, "abi_exclusive", text);
	began = clock_monotonic();
	rig_later(500 * ESP_MSEC, 1, on_call, &during);
	cr_assert(rig_reload(r) == ESP_OK, "%s", r->err.text);
	cr_expect(clock_monotonic() - began > 400 * ESP_MSEC, "the swap did not wait for the call in flight");
	cr_expect(before.code == 501, "the call in flight got %u", before.code);
	while (!atomic_load(&during.done))
		rig_sleep(5 * ESP_MSEC);
	cr_expect(during.code == 512, "the call that came meanwhile got %u", during.code);
}
Test(exclusive, waits_for_calls_in_flight_and_holds_later_ones) { rig_run(in_flight); }

static void swap_fails(struct rig *r)
{
	char text[256];

	lock_conf(r, text, sizeof text, 501, "");
	load(r, CONSUMER, "abi_exclusive", text);
	lock_conf(r, text, sizeof text, 502, "fail_start = true;");
	conf(r, CONSUMER, "abi_exclusive", text);
	cr_expect(rig_reload(r) < 0);
	cr_expect(strstr(r->err.text, "p: start: start does not want to"), "%s", r->err.text);
	cr_expect(ask(0) == 511, "the old generation must run again, with what it left: %u", ask(0));
	cr_expect(ask(1) == 511);
	cr_expect(rig_settles(r, 2, 1));
	lock_conf(r, text, sizeof text, 503, "");
	conf(r, CONSUMER, "abi_exclusive", text);
	cr_expect(rig_reload(r) == ESP_OK, "%s", r->err.text);
	cr_expect(ask(0) == 513);
}
Test(exclusive, starts_the_old_generation_again_when_the_new_one_fails) { rig_run(swap_fails); }

static void too_long(struct rig *r)
{
	struct caller before = { .code = 0 };
	char text[256];

	modules_set_deadline(r->m, 300 * ESP_MSEC);
	lock_conf(r, text, sizeof text, 501, "");
	load(r, "{ name = \"c\"; file = \"abi_consumer\"; config = { nap = \"1s\"; }; }", "abi_exclusive", text);
	cr_assert(worker_post_fiber(loop_worker(0), NULL, "before", on_call, &before) == ESP_OK);
	rig_sleep(50 * ESP_MSEC);
	lock_conf(r, text, sizeof text, 502, "");
	conf(r, CONSUMER, "abi_exclusive", text);
	cr_expect(rig_reload(r) < 0);
	cr_expect(strstr(r->err.text, "calls in flight"), "%s", r->err.text);
	while (!atomic_load(&before.done))
		rig_sleep(5 * ESP_MSEC);
	cr_expect(before.code == 501);
	cr_expect(ask(1) == 501, "the gate stayed shut, or something was stopped: %u", ask(1));
}
Test(exclusive, gives_up_at_the_deadline_and_leaves_everything) { rig_run(too_long); }

static void too_long_for_the_administrator(struct rig *r)
{
	struct caller before = { .code = 0 };
	char text[256];
	esp_nsec began;

	r->server = "reload_timeout = \"1s\";";
	lock_conf(r, text, sizeof text, 501, "");
	load(r, "{ name = \"c\"; file = \"abi_consumer\"; config = { nap = \"3s\"; }; }", "abi_exclusive", text);
	cr_assert(worker_post_fiber(loop_worker(0), NULL, "before", on_call, &before) == ESP_OK);
	rig_sleep(50 * ESP_MSEC);
	lock_conf(r, text, sizeof text, 502, "");
	conf(r, CONSUMER, "abi_exclusive", text);
	began = clock_monotonic();
	cr_expect(rig_reload(r) < 0);
	cr_expect(clock_monotonic() - began < 2500 * ESP_MSEC, "it waited for the call");
	while (!atomic_load(&before.done))
		rig_sleep(5 * ESP_MSEC);
}
Test(exclusive, gives_up_after_the_reload_timeout_of_the_configuration) { rig_run(too_long_for_the_administrator); }

static void held(struct rig *r)
{
	char text[256];

	lock_conf(r, text, sizeof text, 501, "");
	load(r, CONSUMER, "abi_exclusive", text);
	for (int i = 0; i < 20; i++) {
		cr_assert(modules_reload(r->m, "c", NULL, NULL, &r->err) == ESP_OK, "%s", r->err.text);
		cr_expect(ask((unsigned)i % 2) == 501, "round %d", i);
	}
	cr_expect(rig_settles(r, 2, 1));
}
Test(exclusive, is_left_alone_when_its_consumer_is_reloaded) { rig_run(held); }

static int32_t add_value(void *arg, esp_module *by, const void *item)
{
	(void)by;
	*(int64_t *)arg += *(const int64_t *)item;
	return 0;
}

static void contributions(struct rig *r)
{
	struct snapshot *before;
	char text[256];
	int64_t sum = 0;

	lock_conf(r, text, sizeof text, 501, "");
	load(r, CONSUMER, "abi_exclusive", text);
	before = snapshot_pin(snapshot_here());
	lock_conf(r, text, sizeof text, 502, "");
	conf(r, CONSUMER, "abi_exclusive", text);
	cr_assert(rig_reload(r) == ESP_OK, "%s", r->err.text);
	(void)snapshot_contributions(before, "test.values/1", add_value, &sum);
	cr_expect(sum == 512, "who still has the snapshot before the swap found %lld", (long long)sum);
	snapshot_unpin(before);
}
Test(exclusive, shows_what_the_generation_in_force_contributes_to_who_has_an_older_snapshot) { rig_run(contributions); }

static void kept_when_removed(struct rig *r)
{
	char text[256];

	lock_conf(r, text, sizeof text, 501, "");
	load(r, CONSUMER, "abi_exclusive", text);
	rig_conf(r, "");
	cr_assert(rig_reload(r) == ESP_OK, "%s", r->err.text);
	cr_expect(rig_settles(r, 0, 1));
	conf(r, CONSUMER, "abi_exclusive", text);
	cr_assert(rig_reload(r) == ESP_OK, "%s", r->err.text);
	cr_expect(ask(0) == 501);
}
Test(exclusive, can_be_removed_and_added_again) { rig_run(kept_when_removed); }
