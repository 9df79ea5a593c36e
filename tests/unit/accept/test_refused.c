/* What is kept of refused messages: once a transaction, behind its end, many in one commit, and not without bound. */
#include "modules/delivery/accept/record.h"
#include "tests/support/test.h"

#include "core/base/arena.h"

#include <stdlib.h>

static struct accept accept;
static esp_arena *arena;
static void *slot;                 /* of the one transaction there is; 64 zero bytes at the first make() */
static void (*slot_end)(void *data);
static void (*writer)(void *arg);  /* the fiber that was spawned */
static uint32_t spawned, sleeps, transacts, rows, metric, posts_fail;
static int database_away, no_fiber;
static esp_str outcome;

/* --- doubles ----------------------------------------------------------------------------------------------- */

static esp_status slot_reserve(esp_module *self, uint32_t scope, size_t bytes, void (*dtor)(void *data), esp_slot *ret)
{
	(void)self;
	cr_assert(scope == ESP_SLOT_TXN && bytes <= 64);
	slot_end = dtor;
	*ret = (esp_slot){ scope, 0 };
	return ESP_OK;
}
static void *slot_get(const void *object, esp_slot s)
{
	(void)object; (void)s;
	return slot;
}
static void *slot_make(void *object, esp_slot s)
{
	(void)object; (void)s;
	slot = slot ? slot : calloc(1, 64);
	return slot;
}
static const esp_slot_api slots = { .size = sizeof slots, .reserve = slot_reserve, .get = slot_get, .make = slot_make };

static esp_status spawn(
	esp_module *self, uint32_t flags, const char *name, void (*fn)(void *), void *arg, esp_fiber **ret)
{
	(void)self; (void)flags; (void)name; (void)ret;
	cr_assert_eq(arg, (void *)&accept);
	if (no_fiber)
		return ESP_EBUSY;
	writer = fn;
	spawned++;
	return ESP_OK;
}
static esp_status sleep_until(esp_nsec when)
{
	(void)when;
	sleeps++;
	return ESP_OK;
}
static const esp_fiber_api fiber = { .size = sizeof fiber, .spawn = spawn, .sleep_until = sleep_until };

static esp_nsec now(void) { return ESP_SEC; }
static esp_worker *worker(uint32_t i)
{
	cr_assert_eq(i, 0);
	return NULL;
}
static esp_status post(esp_module *self, esp_worker *w, void (*fn)(void *arg), void *arg)
{
	(void)self; (void)w;
	if (posts_fail)
		return ESP_EBUSY;
	fn(arg);
	return ESP_OK;
}
static const esp_loop_api loop = { .size = sizeof loop, .now = now, .clock = now, .worker = worker, .post = post };

static esp_status tx_exec(esp_tx *tx, const char *stmt, const esp_sql_value *args, uint32_t n, esp_sql_rows *ret)
{
	static char text[16];

	(void)tx; (void)ret;
	cr_assert(strstr(stmt, "INTO trace") && n == 6);
	memcpy(text, args[1].s.ptr, args[1].s.len);
	outcome = (esp_str){ text, args[1].s.len };
	rows++;
	return ESP_OK;
}
static esp_status transact(
	const esp_sql *s, const esp_sql_key *k, uint32_t n, esp_status (*fn)(esp_tx *tx, void *arg), void *arg)
{
	esp_tx tx = { .exec = tx_exec, .arena = arena };

	(void)s; (void)k; (void)n;
	transacts++;
	return database_away ? ESP_EUNAVAIL : fn(&tx, arg);
}
static const esp_sql sql = { .transact = transact };
static const esp_service *service(esp_module *self, esp_binding b)
{
	(void)self;
	return b.v == 1 ? &sql.service : NULL;
}
static void quiesce(void) {}
static const esp_host host = { .size = sizeof host, .service = service, .quiesce = quiesce };

static esp_status declare(esp_module *self, uint32_t type, const char *name, const char *labels, const char *help,
	const double *bounds, uint32_t n, esp_metric *ret)
{
	(void)self; (void)type; (void)name; (void)labels; (void)help; (void)bounds; (void)n; (void)ret;
	return ESP_OK;
}
static void add(esp_metric m, int64_t n)
{
	(void)m;
	metric += (uint32_t)n;
}
static const esp_metric_api metrics = { .size = sizeof metrics, .declare = declare, .add = add };
static int32_t log_off(const esp_module *self, int32_t level)
{
	(void)self; (void)level;
	return 0;
}
static const esp_log_api quiet = { .size = sizeof quiet, .enabled = log_off };
static const char *name_of(uint32_t n) { return n ? "message" : "continue"; }
static const esp_hook_api hook = { .size = sizeof hook, .point_name = name_of, .verdict_name = name_of };
static const esp_mem_api mem = { .size = sizeof mem, .alloc = arena_alloc };

/* --- a transaction ------------------------------------------------------------------------------------------ */

static const esp_trace_call call = { .size = sizeof call, .point = ESP_AT_MESSAGE, .module = "spam",
	.verdict = ESP_VERDICT_REJECT };
static esp_trace trace;
static esp_message letter = { .size = sizeof letter };
static esp_txn txn;

static void set_up(void)
{
	arena = arena_new(&mem, "test", 0);
	accept = (struct accept){ .core = { .host = &host, .fiber = &fiber, .loop = &loop, .log = &quiet }, .slots = &slots,
		.metric = &metrics, .hook = &hook, .sql = { 1 }, .eventlog = { 2 }, .trace_keep = ESP_SEC };
	cr_assert_eq(record_declare(&accept), ESP_OK);
	trace = (esp_trace){ .size = sizeof trace, .call_size = sizeof call, .ncalls = 1, .calls = &call,
		.refused = ESP_VERDICT_REJECT };
	txn = (esp_txn){ .size = sizeof txn, .arena = arena, .message = &letter, .from = ESP_STR("x@y"), .trace = &trace };
}
static void tear_down(void)
{
	if (writer)
		writer(&accept);
	cr_assert_eq(atomic_load(&accept.waiting), 0, "every record was stored or dropped");
	arena_free(arena);
}

static void end(void)
{
	if (slot)
		slot_end(slot);
	free(slot);
	slot = NULL;
}

static void refuse(uint32_t times)
{
	for (uint32_t i = 0; i < times; i++) {
		refused(&accept.table, &txn);
		end();
	}
}

#define REFUSED(name) Test(refused, name, .init = set_up, .fini = tear_down)

REFUSED(is_kept_once_however_often_it_was_said)
{
	refused(&accept.table, &txn);
	refused(&accept.table, &txn);
	cr_assert_eq(spawned, 0, "the transaction goes on");
	end();
	cr_assert_eq(rows, 0, "nobody waits for it");
	writer(&accept);
	cr_assert_eq(rows, 1);
	cr_assert(esp_str_eq(outcome, ESP_STR("rejected")));
}

REFUSED(what_was_delivered_after_all_has_the_record_of_its_delivery)
{
	refused(&accept.table, &txn);
	record_delivered(&accept, &txn);
	end();
	cr_assert_eq(spawned, 0);
}

REFUSED(nothing_is_kept_when_nobody_was_asked_or_nothing_is_to_be_kept)
{
	trace.ncalls = 0;
	refuse(1);
	trace.ncalls = 1;
	accept.trace_keep = 0;
	refuse(1);
	cr_assert(spawned == 0 && metric == 0);
}

REFUSED(a_flood_is_a_few_commits_and_what_is_too_much_is_counted)
{
	refuse(1300);
	cr_assert_eq(spawned, 1);
	cr_assert_eq(metric, 300);
	writer(&accept);
	cr_assert_eq(rows, 1000);
	cr_assert_eq(transacts, 10);
	cr_assert_eq(sleeps, 10, "each batch waits for its time");
	refuse(1);
	cr_assert_eq(spawned, 2, "the next one has a writer again");
	writer(&accept);
	cr_assert_eq(rows, 1001);
}

REFUSED(a_database_that_is_away_costs_the_records_and_nothing_else)
{
	database_away = 1;
	refuse(150);
	writer(&accept);
	cr_assert_eq(metric, 150);
	cr_assert_eq(rows, 0);
}

REFUSED(without_a_fiber_or_a_free_mailbox_it_is_dropped_and_counted)
{
	no_fiber = 1;
	refuse(1);
	no_fiber = 0;
	posts_fail = 1;
	refuse(1);
	cr_assert_eq(metric, 2);
	cr_assert_eq(spawned, 0);
}
