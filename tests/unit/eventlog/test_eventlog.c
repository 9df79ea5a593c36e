/* test_eventlog.c - observe_eventlog over a real SQLite file: positions without gaps, exactly what was committed. */
#include "core/base/id.h"
#include "core/loop/fiber.h"
#include "tests/support/sqlhost.h"
#include "tests/support/test.h"

#include <esp/eventlog.h>
#include <string.h>

enum { MANY = 60 };

static const esp_eventlog *the_log(void) { return (const esp_eventlog *)sqlhost->provided; }

static esp_str z(const char *s) { return (esp_str){ s, strlen(s) }; }

static void say(const char *name, int64_t n)
{
	static const esp_id none;
	const esp_field f[] = { ESP_FINT("n", n) };

	must_ok(the_log()->append_now(the_log(), name, none, f, 1, sizeof f[0]));
}

static int64_t count(const char *where)
{
	char stmt[200];

	snprintf(stmt, sizeof stmt, "SELECT COUNT(*) FROM event WHERE %s", where);
	return sqlhost_int(stmt, NULL, 0);
}

/* The sequencer has numbered all that is committed. */
static void numbered(int64_t n)
{
	while (count("position IS NOT NULL") < n)
		must_ok(fiber_sleep_until(loop_loop_api.clock() + ESP_MSEC));
	must(count("position IS NULL") == 0 && count("1 = 1") == n);
}

static uint32_t read_from(esp_arena *a, uint64_t after, uint32_t max, esp_eventlog_entry *e)
{
	uint32_t n = 0;

	must_ok(the_log()->read(the_log(), a, after, max, e, &n));
	return n;
}

/* ---- positions ------------------------------------------------------------------------------------------------ */

static void say_many(void *arg)
{
	for (int i = 0; i < MANY / 2; i++)
		say("test.counted", *(const int *)arg * 1000 + i);
}

static void dense(void *arg)
{
	static esp_eventlog_entry e[MANY];
	esp_arena *a = sqlhost_arena();
	int64_t last[2] = { -1, -1 };

	(void)arg;
	sqlhost_on(1, say_many, &(int){ 1 });
	say_many(&(int){ 0 });
	numbered(MANY);
	must(read_from(a, 0, MANY, e) == MANY);
	for (uint32_t i = 0; i < MANY; i++) {
		int64_t n;

		must(e[i].position == i + 1);
		must(sscanf(e[i].body.ptr, "{\"n\":%ld}", &n) == 1);
		must(n % 1000 > last[n / 1000]);           /* each worker's own events in its order */
		last[n / 1000] = n % 1000;
	}
	sqlhost_arena_free(a);
}
Test(eventlog, numbers_what_was_committed_densely_and_in_order) { sqlhost_run(2, dense, NULL); }

static void pages(void *arg)
{
	esp_eventlog_entry e[8];
	esp_arena *a = sqlhost_arena();

	(void)arg;
	for (int i = 0; i < 10; i++)
		say("test.counted", i);
	numbered(10);
	must(read_from(a, 0, 8, e) == 8 && e[0].position == 1 && e[7].position == 8);
	must(read_from(a, e[7].position, 8, e) == 2 && e[0].position == 9 && e[1].position == 10);
	must(read_from(a, 10, 8, e) == 0);
	sqlhost_arena_free(a);
}
Test(eventlog, is_read_from_a_position_on) { sqlhost_run(1, pages, NULL); }

static uint64_t end_of_log(void)
{
	uint64_t end = 77;

	must_ok(the_log()->end(the_log(), &end));
	return end;
}

static esp_status forget_tx(esp_tx *tx, void *arg)
{
	(void)arg;
	return tx->exec(tx, "DELETE FROM event", NULL, 0, NULL);
}

static void ends(void *arg)
{
	(void)arg;
	must(end_of_log() == 0);
	for (int i = 0; i < 3; i++)
		say("test.counted", i);
	numbered(3);
	must(end_of_log() == 3);
	must_ok(sqlhost->sql.transact(&sqlhost->sql, NULL, 0, forget_tx, NULL));
	must(count("1 = 1") == 0);
	must(end_of_log() == 3);
}
Test(eventlog, says_where_it_ends_also_when_nothing_is_left) { sqlhost_run(1, ends, NULL); }

/* ---- with the change ------------------------------------------------------------------------------------------ */

struct change { esp_id account; int fails; };

static esp_status change_tx(esp_tx *tx, void *arg)
{
	const struct change *c = arg;
	const esp_field f[] = { ESP_FSTR("text", ESP_STR("a \"quote\"\n")), ESP_FBOOL("yes", 1),
		ESP_FID("id", c->account) };
	esp_status st = the_log()->append(the_log(), tx, "test.changed", c->account, f, 3, sizeof f[0]);

	return st == ESP_OK && c->fails ? ESP_EQUOTA : st;
}

static void change(struct change *c, esp_status expected)
{
	const esp_sql_key key = { .kind = ESP_SQL_KEY_ACCOUNT, .id = c->account };

	must(sqlhost->sql.transact(&sqlhost->sql, &key, 1, change_tx, c) == expected);
	the_log()->committed(the_log());
}

static void undone(void *arg)
{
	struct change good = { .account = id_new() }, bad = { .account = id_new(), .fails = 1 };

	(void)arg;
	change(&good, ESP_OK);
	change(&bad, ESP_EQUOTA);
	change(&good, ESP_OK);
	numbered(2);
	must(sqlhost_int("SELECT MAX(position) FROM event", NULL, 0) == 2);
}
Test(eventlog, forgets_the_event_of_a_change_that_was_undone) { sqlhost_run(1, undone, NULL); }

static void again(void *arg)
{
	struct change c = { .account = id_new() };

	(void)arg;
	atomic_store(&sqlhost->rerun, 1);
	change(&c, ESP_OK);
	say("test.counted", 1);
	numbered(2);
}
Test(eventlog, writes_once_what_a_provider_runs_again) { sqlhost_run(1, again, NULL); }

static void content(void *arg)
{
	static const char begins[] = "{\"text\":\"a \\\"quote\\\"\\u000a\",\"yes\":true,\"id\":\"";
	struct change c = { .account = id_new() };
	esp_arena *a = sqlhost_arena();
	esp_eventlog_entry e;

	(void)arg;
	change(&c, ESP_OK);
	numbered(1);
	must(read_from(a, 0, 1, &e) == 1);
	must(esp_str_eq(e.name, z("test.changed")) && id_cmp(e.account, c.account) == 0);
	must(e.body.len > strlen(begins) && !strncmp(e.body.ptr, begins, strlen(begins)));
	must(e.at > 1600000000 && id_cmp(e.id, (esp_id){ .b = { 0 } }) != 0);
	sqlhost_arena_free(a);
}
Test(eventlog, keeps_name_account_time_and_fields) { sqlhost_run(1, content, NULL); }

static void bounds(void *arg)
{
	static const esp_id none;
	char *text = malloc(20000);
	esp_field f = ESP_FSTR("text", ((esp_str){ text, 16000 }));

	(void)arg;
	must(text);
	memset(text, 'x', 20000);
	must_ok(the_log()->append_now(the_log(), "test.long", none, &f, 1, sizeof f));
	f.s.len = 20000;
	must(the_log()->append_now(the_log(), "test.long", none, &f, 1, sizeof f) == ESP_E2BIG);
	free(text);
	numbered(1);
	must(sqlhost_int("SELECT LENGTH(body) FROM event", NULL, 0) == 16000 + 11);
}
Test(eventlog, refuses_a_body_beyond_16_kib_and_writes_nothing) { sqlhost_run(1, bounds, NULL); }

/* ---- facts of the core ---------------------------------------------------------------------------------------- */

static void deliver_fact(void *arg)
{
	const esp_field f[] = { ESP_FSTR("module", ESP_STR("words")), ESP_FINT("generation", 7) };
	const esp_event loaded = { .size = sizeof loaded, .nfields = 2, .field_size = sizeof f[0], .name = "module.loaded",
		.source = "core/module", .fields = f }, stopped = { .size = sizeof stopped, .field_size = sizeof f[0],
		.name = "server.stopped", .source = "core", .fields = f };
	const esp_event *batch[] = { &loaded, &stopped };

	(void)arg;
	for (uint32_t i = 0; i < sqlhost->nsubscriptions; i++)
		if (!strcmp(sqlhost->subscription[i].pattern, "module.*"))
			sqlhost->subscription[i].on_events(sqlhost->self, batch, 2);
}

static void facts(void *arg)
{
	esp_eventlog_entry e[2];
	esp_arena *a = sqlhost_arena();
	int first;

	(void)arg;
	must(sqlhost->nsubscriptions == 3);
	sqlhost_on(1, deliver_fact, NULL);             /* another loop, as the observer is */
	numbered(2);
	must(read_from(a, 0, 2, e) == 2);
	first = !esp_str_eq(e[0].name, z("module.loaded"));    /* each has a transaction of its own */
	must(esp_str_eq(e[first].name, z("module.loaded")) && esp_str_eq(e[!first].name, z("server.stopped")));
	must(
		esp_str_eq(e[first].body, z("{\"module\":\"words\",\"generation\":7}")) && esp_str_eq(e[!first].body, z("{}")));
	sqlhost_arena_free(a);
}
Test(eventlog, keeps_the_facts_of_the_core) { sqlhost_run(2, facts, NULL); }
