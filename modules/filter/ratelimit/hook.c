/* hook - what is counted at which point, and what a client is told.
 *
 * CONNECT counts connections, MAIL messages, RCPT recipients (and messages by recipient), MESSAGE bytes.  All limits
 * that concern a point are asked together: what one of them refuses, none has counted.
 */
#include "ratelimit.h"

#include <stdio.h>
#include <string.h>

#define KEYS_ROOM (32u << 10)        /* RULES_MOST keys fit well */
#define TEXT_ROOM 120u

static int is_due(const struct rule *rule, esp_point point)
{
	switch (point) {
	case ESP_AT_CONNECT: return rule->of == OF_CONNECTIONS;
	case ESP_AT_MAIL: return rule->of == OF_MESSAGES && rule->by != BY_RECIPIENT;
	case ESP_AT_RCPT: return rule->of == OF_RECIPIENTS || (rule->of == OF_MESSAGES && rule->by == BY_RECIPIENT);
	default: return rule->of == OF_BYTES;
	}
}

static esp_status collect(const struct ratelimit *r, esp_point point, const struct subject *s, int64_t amount,
	esp_arena *arena, struct ask *ask, uint32_t *ret_n)
{
	esp_status st = ESP_OK;
	uint32_t n = 0;

	for (uint32_t i = 0; st == ESP_OK && i < r->rules.n; i++) {
		const struct rule *rule = &r->rules.rule[i];
		esp_str key = { NULL, 0 };
		if (is_due(rule, point))
			key = rule_key(&r->rules, rule, s, arena, &st);
		if (key.len)
			ask[n++] = (struct ask){ rule, key, key_hash(r, key), amount < rule->most ? amount : rule->most };
	}
	*ret_n = n;
	return st;
}

static int32_t ask_table(struct ratelimit *r, const struct ask *ask, uint32_t n, int64_t *ret_wait)
{
	int32_t worst = table_take(r->table, ask, n, r->core.loop->clock(), ret_wait);

	report_take(r);
	return worst;
}

/* Index of the limit that is reached, or -1.  Another status than ESP_OK: nobody could say. */
static esp_status decide(struct ratelimit *r, const struct ask *ask, uint32_t n, int32_t *ret_worst, int64_t *ret_wait)
{
	uint32_t worker = r->core.loop->index(r->core.loop->here());
	esp_nsec began = r->core.loop->clock();
	esp_err err = ESP_ERR_INIT;
	esp_status st;

	*ret_worst = -1;
	if (!r->redis) {
		*ret_worst = ask_table(r, ask, n, ret_wait);
		return ESP_OK;
	}
	st = redis_take(r->redis[worker], ask, n, ret_worst, ret_wait, &err);    /* may suspend */
	if (st == ESP_OK) {
		r->metric->observe(r->redis_seconds, (double)(r->core.loop->clock() - began) / (double)ESP_SEC);
		return ESP_OK;
	}
	r->metric->add(r->redis_failures, 1);
	*ret_worst = -1;
	if (r->on_failure == POLICY_LOCAL)
		*ret_worst = ask_table(r, ask, n, ret_wait);
	return r->on_failure == POLICY_DEFER ? st : ESP_OK;
}

static esp_verdict defer(const struct ratelimit *r, esp_point point, const struct rule *rule, int64_t wait,
	esp_arena *arena, esp_answer *answer)
{
	int64_t seconds = (wait + ESP_SEC - 1) / ESP_SEC;
	char *text = esp_alloc(arena, TEXT_ROOM);
	int n;

	r->metric->add(r->deferred[rule->by][rule->of], 1);
	memcpy(answer->enhanced, (const uint8_t[4]){ 4, 7, 1, 0 }, sizeof answer->enhanced);
	answer->smtp_code = point == ESP_AT_CONNECT ? 421 : 450;
	answer->reason = ESP_STR("rate limit");
	answer->text = ESP_STR("too much at once, try again later");
	if (!text)
		return ESP_VERDICT_DEFER;
	n = snprintf(text, TEXT_ROOM, "too many %s %s, try again in %lld %s", rule_what(rule), rule_whose(rule),
		(long long)(seconds > 120 ? (seconds + 59) / 60 : seconds),
		seconds > 120 ? "minutes" : seconds == 1 ? "second" : "seconds");
	answer->text = (esp_str){ text, (size_t)n };
	return ESP_VERDICT_DEFER;
}

static esp_verdict count(struct ratelimit *r, esp_point point, const struct subject *s, int64_t amount, esp_arena *keep,
	esp_answer *answer)
{
	struct ask ask[RULES_MOST];
	esp_arena *arena;
	esp_status st;
	int64_t wait = 0;
	int32_t worst = -1;
	uint32_t n = 0;

	if (rules_allow(&r->rules, s))
		return ESP_VERDICT_CONTINUE;
	arena = r->core.mem->arena_new(r->self, "keys of limits", KEYS_ROOM);
	if (!arena)
		return ESP_VERDICT_FAIL;
	st = collect(r, point, s, amount, arena, ask, &n);
	if (st == ESP_OK && n)
		st = decide(r, ask, n, &worst, &wait);
	r->core.mem->arena_free(arena);
	if (st != ESP_OK)
		return ESP_VERDICT_FAIL;
	return worst < 0 ? ESP_VERDICT_CONTINUE : defer(r, point, ask[worst].rule, wait, keep, answer);
}

static esp_verdict on_connect(esp_module *self, const esp_connect_args *args, esp_answer *answer)
{
	const struct subject s = { .info = args->conn->api->info(args->conn) };

	return count(self->state, ESP_AT_CONNECT, &s, 1, args->conn->arena, answer);
}

static esp_verdict on_mail(esp_module *self, const esp_mail_args *args, esp_answer *answer)
{
	const struct subject s = { .info = args->conn->api->info(args->conn), .txn = args->txn };

	return count(self->state, ESP_AT_MAIL, &s, 1, args->txn->arena, answer);
}

/* Asked once for each account behind an address: that is one recipient, and one answer, which the first of them counts.
 * By the account: "user+detail" and aliases are as many names as somebody cares to write. */
static esp_verdict on_rcpt(esp_module *self, const esp_rcpt_args *args, esp_answer *answer)
{
	struct ratelimit *r = self->state;
	const struct subject s = {
		.info = args->conn->api->info(args->conn), .txn = args->txn, .recipient = args->recipient
	};
	struct said *said = r->slot->make(args->txn, r->said);
	uint64_t hash = key_hash(r, args->to);
	esp_verdict verdict;

	if (!said)
		return ESP_VERDICT_FAIL;
	if (said->recipient == hash)
		return ESP_VERDICT_CONTINUE;
	verdict = count(r, ESP_AT_RCPT, &s, 1, args->txn->arena, answer);
	said->recipient = verdict == ESP_VERDICT_CONTINUE ? hash : 0;
	return verdict;
}

/* Once a message, however many groups of recipients ask: one that was refused is refused for all. */
static esp_verdict on_message(esp_module *self, const esp_message_args *args, esp_answer *answer)
{
	struct ratelimit *r = self->state;
	const struct subject s = { .info = args->conn->api->info(args->conn), .txn = args->txn };
	struct said *said = r->slot->make(args->txn, r->said);
	esp_verdict verdict;

	if (!said)
		return ESP_VERDICT_FAIL;
	if (said->bytes)
		return ESP_VERDICT_CONTINUE;
	verdict = count(r, ESP_AT_MESSAGE, &s, (int64_t)args->message->content.len, args->txn->arena, answer);
	said->bytes = verdict == ESP_VERDICT_CONTINUE;
	return verdict;
}

static int is_any_due(const struct ratelimit *r, esp_point point)
{
	for (uint32_t i = 0; i < r->rules.n; i++)
		if (is_due(&r->rules.rule[i], point))
			return 1;
	return 0;
}

/* Before the filters that cost more. */
esp_status hooks_add(struct ratelimit *r)
{
	static const esp_hook all[] = {
		{ .size = sizeof all[0],
			.point = ESP_AT_CONNECT,
			.priority = ESP_PRIO_FIRST,
			.run = { .connect = on_connect } },
		{ .size = sizeof all[0], .point = ESP_AT_MAIL, .priority = ESP_PRIO_FIRST, .run = { .mail = on_mail } },
		{ .size = sizeof all[0], .point = ESP_AT_RCPT, .priority = ESP_PRIO_FIRST, .run = { .rcpt = on_rcpt } },
		{ .size = sizeof all[0],
			.point = ESP_AT_MESSAGE,
			.priority = ESP_PRIO_FIRST,
			.run = { .message = on_message } },
	};
	const esp_hook_api *hooks = r->core.host->core("esp.hook/1", 0);
	esp_status st = ESP_OK;

	for (size_t i = 0; st == ESP_OK && i < sizeof all / sizeof all[0]; i++)
		if (is_any_due(r, all[i].point))
			st = hooks->add(r->self, &all[i]);
	return st;
}
