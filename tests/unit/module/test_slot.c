/* tests/unit/module/test_slot.c - a module's data on connections and workers: found again, ended with the object. */
#include "tests/support/test.h"

#include "core/base/arena.h"
#include "core/bus/bus.h"
#include "core/module/host.h"
#include "tests/unit/module/rig.h"

struct visit { esp_conn *conn; uint32_t code; };

static void do_open(void *arg)
{
	struct visit *v = arg;
	esp_arena *a = arena_new(&mem_api, "connection", 0);

	v->conn = arena_alloc(a, sizeof *v->conn);
	v->conn->arena = a;
}

static void do_helo(void *arg)
{
	struct visit *v = arg;
	esp_arena *arena = arena_new(&mem_api, "test", 0);
	esp_helo_args args = { .size = sizeof args, .conn = v->conn, .name = ESP_STR("x") };
	const esp_hook_api *hooks = bus_api("esp.hook/1");
	esp_outcome out = { .size = sizeof out };

	hooks->run(ESP_AT_HELO, &args, arena, &out);
	v->code = out.answer.smtp_code;
	arena_free(arena);
}

static void do_close(void *arg)
{
	arena_free(((struct visit *)arg)->conn->arena);
}

static void load(struct rig *r)
{
	rig_module(r, "abi_slots");
	rig_conf(r, "{ name = \"s\"; file = \"abi_slots\"; }");
	cr_assert(rig_load(r) == ESP_OK, "%s", r->err.text);
}

static void keeps(struct rig *r)
{
	struct visit a = { .code = 0 }, b = { .code = 0 };

	load(r);
	rig_on(0, do_open, &a);
	rig_on(0, do_open, &b);
	for (uint32_t i = 0; i < 3; i++) {
		rig_on(0, do_helo, &a);
		cr_expect(a.code == 520 + i, "%u", a.code);
	}
	rig_on(0, do_helo, &b);
	cr_expect(b.code == 520, "connections share their data: %u", b.code);
	rig_on(0, do_close, &a);
	rig_on(0, do_close, &b);
}
Test(slot, keeps_data_apart_by_connection) { rig_run(keeps); }

static void by_worker(struct rig *r)
{
	struct visit a = { .code = 0 };

	load(r);
	rig_on(1, do_open, &a);
	rig_on(1, do_helo, &a);
	cr_expect(a.code == 540, "the second worker has its own: %u", a.code);
	rig_on(1, do_close, &a);
}
Test(slot, keeps_data_apart_by_worker) { rig_run(by_worker); }

static void holds(struct rig *r)
{
	struct visit a = { .code = 0 };

	load(r);
	rig_on(0, do_open, &a);
	rig_on(0, do_helo, &a);
	rig_conf(r, "");
	cr_assert(rig_reload(r) == ESP_OK, "%s", r->err.text);
	rig_sleep(100 * ESP_MSEC);
	cr_expect_str_eq(rig_state(r, "s"), "draining", "data on a live connection must keep the generation");
	rig_on(0, do_close, &a);
	cr_expect(rig_settles(r, 0, 1), "and nothing once the connection has ended");
	cr_expect(rig_logged(r, "slots ended destroyed=1"));
}
Test(slot, keeps_the_generation_until_the_object_ends) { rig_run(holds); }

static void reuses(struct rig *r)
{
	struct visit a = { .code = 0 };

	load(r);
	rig_on(0, do_open, &a);
	for (unsigned i = 0; i < 50; i++) {
		cr_assert(modules_reload(r->m, "s", NULL, NULL, &r->err) == ESP_OK, "round %u: %s", i, r->err.text);
		rig_on(0, do_helo, &a);
		cr_expect(a.code == 520, "data of another generation: %u", a.code);
		if (i % 10 == 9) {
			rig_on(0, do_close, &a);
			cr_expect(rig_settles(r, 1, 1));
			rig_on(0, do_open, &a);
		}
	}
	rig_on(0, do_close, &a);
}
Test(slot, never_shows_one_generation_the_data_of_another) { rig_run(reuses); }
