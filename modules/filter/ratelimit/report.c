/* report - what others see of it: metrics, `esp-cli ratelimit list` and `reset`. */
#include "ratelimit.h"

#include "modules/common/json.h"
#include "modules/common/words.h"

#include <stdio.h>
#include <string.h>

#define LIST_MOST 1000
#define STEP      4096u       /* rows, then the others of the thread have a turn */

static esp_status declare_deferred(struct ratelimit *r, uint32_t by, uint32_t of)
{
	char labels[64];

	(void)snprintf(labels, sizeof labels, "by=\"%s\",of=\"%s\"", by_name(by), of_name(of));
	return r->metric->declare(r->self, ESP_COUNTER, "esp_ratelimit_deferred_total", labels,
		"What was put off because a limit was reached", NULL, 0, &r->deferred[by][of]);
}

/* --- commands ---------------------------------------------------------------------------------------------------- */

/* What is owed, in the units of the limit, rounded up. */
static int64_t used(const struct entry *e, uint32_t w, int64_t now)
{
	return e->period[w] && e->until[w] > now ? (e->until[w] - now + e->period[w] - 1) / e->period[w] : 0;
}

static int read_limit(const esp_command_call *call, int64_t *ret)
{
	esp_str n = words_option(call, "--limit=");

	*ret = call->argc ? 0 : 100;
	if (call->argc > 1 || (call->argc == 1 && !n.ptr))
		return 0;
	for (size_t i = 0; i < n.len && *ret <= LIST_MOST; i++) {
		if (n.ptr[i] < '0' || n.ptr[i] > '9')
			return 0;
		*ret = *ret * 10 + (n.ptr[i] - '0');
	}
	return *ret >= 1 && *ret <= LIST_MOST;
}

/* Into its place among those that wait longest; the last one goes when there are `most`. */
static void put(struct entry *list, uint32_t *n, uint32_t most, const struct entry *e)
{
	uint32_t at = *n < most ? (*n)++ : most - 1;

	while (at > 0 && entry_until(&list[at - 1]) < entry_until(e)) {
		list[at] = list[at - 1];
		at--;
	}
	list[at] = *e;
}

static esp_status find_most(const struct ratelimit *r, struct entry *list, uint32_t *n, uint32_t most, esp_nsec now)
{
	struct entry e;
	esp_status st = ESP_OK;
	uint32_t at = 0;

	for (uint32_t seen = 1; st == ESP_OK && table_next(r->table, &at, now, &e); seen++) {
		if (*n < most || entry_until(&e) > entry_until(&list[most - 1]))
			put(list, n, most, &e);
		if (seen % STEP == 0)
			st = r->core.fiber->yield();
	}
	return st;
}

static esp_status on_list(esp_module *self, esp_command_call *call)
{
	const struct ratelimit *r = self->state;
	esp_nsec now = r->core.loop->clock();
	struct entry *list;
	struct json j;
	int64_t most;
	uint32_t n = 0;
	esp_status st;

	if (!read_limit(call, &most))
		return words_usage(call, "ratelimit list [--limit=N], N from 1 to 1000");
	list = esp_alloc_array(call->arena, (size_t)most, sizeof *list);
	if (!list)
		return ESP_ENOMEM;
	st = find_most(r, list, &n, (uint32_t)most, now);
	if (st != ESP_OK)
		return st;
	json_begin(&j, call);
	json_open(&j, NULL, '[');
	for (uint32_t i = 0; i < n; i++) {
		json_open(&j, NULL, '{');
		json_cstr(&j, "key", list[i].text);
		json_int(&j, "minute", used(&list[i], MINUTE, now));
		json_int(&j, "hour", used(&list[i], HOUR, now));
		json_close(&j, '}');
	}
	json_close(&j, ']');
	return json_end(&j);
}

static esp_status on_reset(esp_module *self, esp_command_call *call)
{
	struct ratelimit *r = self->state;
	struct json j;
	int was, there = 0;
	esp_status st = ESP_OK;

	if (call->argc != 1 || !call->argv[0].len || call->argv[0].ptr[0] == '-')
		return words_usage(call, "ratelimit reset KEY, as in \"ip:connections:192.0.2.1\"");
	was = table_forget(r->table, key_hash(r, call->argv[0]));
	if (r->redis)
		st = redis_forget(r->redis[r->core.loop->workers()], call->argv[0], &there, call->err);
	if (st != ESP_OK)
		return st;
	if (!was && !there) {
		(void)snprintf(call->err->text, sizeof call->err->text,
			"nothing is counted under that key: see `esp-cli ratelimit list`");
		return ESP_ENOENT;
	}
	json_begin(&j, call);
	json_open(&j, NULL, '{');
	json_str(&j, "reset", call->argv[0]);
	json_close(&j, '}');
	return json_end(&j);
}

/* --- registering ------------------------------------------------------------------------------------------------- */

void report_take(struct ratelimit *r)
{
	uint64_t now = r->table->forgotten, before = atomic_exchange(&r->told_forgotten, now);

	if (now > before)
		r->metric->add(r->forgotten, (int64_t)(now - before));
}

esp_status report_declare(struct ratelimit *r)
{
	static const esp_command list = { .size = sizeof list,
		.words = "ratelimit list",
		.usage = "[--limit=N]",
		.help = "Who has used how much of a limit, as this server counted it; who waits longest comes first",
		.run = on_list };
	static const esp_command reset = { .size = sizeof reset, .words = "ratelimit reset", .usage = "KEY",
		.help = "Forget what is counted under a key, here and in Redis", .run = on_reset };
	static const double bounds[] = { 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1 };
	const esp_metric_api *m = r->metric;
	esp_status st = ESP_OK;

	for (uint32_t i = 0; st == ESP_OK && i < BYS * OFS; i++)
		if (rule_makes_sense(i / OFS, i % OFS))
			st = declare_deferred(r, i / OFS, i % OFS);
	if (st == ESP_OK)
		st = m->declare(r->self, ESP_COUNTER, "esp_ratelimit_forgotten_total", "",
			"Counts that were forgotten early, because the table was full: raise `keys`", NULL, 0, &r->forgotten);
	if (st == ESP_OK)
		st = m->declare(r->self, ESP_COUNTER, "esp_ratelimit_redis_failures_total", "",
			"Questions that Redis did not answer; `on_failure` did", NULL, 0, &r->redis_failures);
	if (st == ESP_OK)
		st = m->declare(r->self, ESP_HISTOGRAM, "esp_ratelimit_redis_seconds", "", "Time of the questions it answered",
			bounds, sizeof bounds / sizeof bounds[0], &r->redis_seconds);
	if (st == ESP_OK)
		st = r->core.host->contribute(r->self, "esp.command/1", &list);
	return st == ESP_OK ? r->core.host->contribute(r->self, "esp.command/1", &reset) : st;
}
