/* What filter_ratelimit counts: the table against a model, and whose key is which. */
#include "tests/support/test.h"

#include "modules/filter/ratelimit/ratelimit.h"

#include <stdio.h>

#define MINUTE_NS (60 * ESP_SEC)

static void *rc_new(size_t bytes, uint32_t children) { (void)children; return calloc(1, bytes); }
static const esp_mem_api mem = { .size = sizeof mem, .rc_new = rc_new };

static struct table *table_of(uint32_t entries)
{
	static const uint64_t secret[2] = { 1, 2 };
	struct table *t = table_new(&mem, entries, secret);

	cr_assert_not_null(t);
	return t;
}

static esp_str cstr(const char *s) { return (esp_str){ s, strlen(s) }; }

/* per_minute = n, at most `burst` at once. */
static struct rule per_minute(int64_t n, int64_t burst)
{
	struct rule r = { .by = BY_IP, .of = OF_MESSAGES, .most = burst };

	r.rate[MINUTE] = (struct rate){ MINUTE_NS / n, MINUTE_NS / n * burst };
	return r;
}

static int64_t take(struct table *t, const struct rule *rule, uint64_t hash, int64_t amount, int64_t now)
{
	const struct ask ask = { rule, cstr("key"), hash, amount };
	int64_t wait;

	cr_assert_eq(table_take(t, &ask, 1, now, &wait) < 0, wait == 0);
	return wait;
}

Test(table, gives_a_burst_at_once_and_then_as_much_as_is_earned)
{
	struct table *t = table_of(64);
	struct rule rule = per_minute(60, 20);
	int64_t now = 1000 * ESP_SEC;

	for (int i = 0; i < 20; i++)
		cr_assert_eq(take(t, &rule, 7, 1, now), 0, "%d", i);
	cr_assert_eq(take(t, &rule, 7, 1, now), ESP_SEC, "one a second is earned");
	cr_assert_eq(take(t, &rule, 7, 1, now + ESP_SEC - 1), 1);
	cr_assert_eq(take(t, &rule, 7, 1, now + ESP_SEC), 0);
	cr_assert_eq(take(t, &rule, 7, 1, now + ESP_SEC), ESP_SEC);
	cr_assert_eq(take(t, &rule, 8, 1, now), 0, "of another key");
	cr_assert_eq(take(t, &rule, 7, 20, now + 21 * ESP_SEC), 0, "all is earned again");
	free(t);
}

/* Whatever the client does: in no minute more than per_minute + burst; and who is within it all the time is not put
 * off. */
Test(table, lets_nobody_have_more_in_any_minute_than_the_limit_and_a_burst)
{
	enum { N = 60, BURST = 15, TIMES = 20000 };
	static int64_t taken[TIMES];
	struct table *t = table_of(64);
	struct rule rule = per_minute(N, BURST);
	int64_t now = ESP_SEC;
	unsigned seed = 1;
	size_t n = 0, first = 0, most = 0;

	for (int i = 0; i < TIMES; i++) {
		seed = seed * 1103515245 + 12345;
		now += i % 500 == 0 ? 30 * ESP_SEC : (int64_t)(seed >> 8) * 53;
		if (take(t, &rule, 7, 1, now) == 0)
			taken[n++] = now;
		while (first < n && taken[first] <= now - MINUTE_NS)
			first++;
		most = n - first > most ? n - first : most;
	}
	cr_assert_leq(most, N + BURST);
	cr_assert_gt(most, N, "the bound is reached nearly");
	for (int i = 0; i < 1000; i++)
		cr_assert_eq(take(t, &rule, 9, 1, now + i * ESP_SEC), 0);
	free(t);
}

Test(table, counts_minute_and_hour_and_refuses_by_the_longer_wait)
{
	struct table *t = table_of(64);
	struct rule rule = per_minute(60, 60);
	int64_t now = ESP_SEC, wait;

	rule.rate[HOUR] = (struct rate){ 36 * ESP_SEC, 3600 * ESP_SEC };       /* 100 an hour */
	for (int i = 0; i < 60; i++)
		cr_assert_eq(take(t, &rule, 7, 1, now), 0);
	cr_assert_eq(take(t, &rule, 7, 1, now), ESP_SEC);
	for (int i = 0; i < 41; i++)
		cr_assert_eq(take(t, &rule, 7, 1, now + MINUTE_NS), 0);            /* 1.67 of the hour's are earned */
	wait = take(t, &rule, 7, 1, now + MINUTE_NS);
	cr_assert(wait > 10 * ESP_SEC && wait <= 36 * ESP_SEC, "%lld", (long long)wait);
	free(t);
}

Test(table, takes_from_all_limits_or_from_none)
{
	struct table *t = table_of(64);
	struct rule wide = per_minute(100, 100), narrow = per_minute(2, 2);
	const struct ask both[] = { { &wide, cstr("a"), 1, 1 }, { &narrow, cstr("b"), 2, 1 } };
	int64_t now = ESP_SEC, wait;

	for (int i = 0; i < 2; i++)
		cr_assert_eq(table_take(t, both, 2, now, &wait), -1);
	for (int i = 0; i < 200; i++) {
		cr_assert_eq(table_take(t, both, 2, now, &wait), 1, "the narrow one");
		cr_assert_eq(wait, 30 * ESP_SEC);
	}
	for (int i = 0; i < 98; i++)
		cr_assert_eq(take(t, &wide, 1, 1, now), 0, "what was refused was not counted");
	cr_assert_neq(take(t, &wide, 1, 1, now), 0);
	free(t);
}

Test(table, is_bounded_and_a_flood_of_keys_does_not_free_who_is_at_his_limit)
{
	struct table *t = table_of(64);
	struct rule rule = per_minute(60, 20);
	int64_t now = ESP_SEC;

	for (int i = 0; i < 20; i++)
		(void)take(t, &rule, 4242, 1, now);
	for (uint64_t i = 1; i < 100000; i++)
		if (i != 4242)
			cr_assert_eq(take(t, &rule, i, 1, now), 0);
	cr_assert_neq(take(t, &rule, 4242, 1, now), 0);
	cr_assert_gt(t->forgotten, 90000u);
	free(t);
}

Test(table, shows_and_forgets_what_is_owed)
{
	struct table *t = table_of(64), *other = table_of(128);
	struct rule rule = per_minute(60, 20);
	int64_t now = ESP_SEC;
	struct entry e;
	uint32_t at = 0;

	cr_assert_eq(table_next(t, &at, now, &e), 0);
	for (int i = 0; i < 20; i++)
		(void)take(t, &rule, 7, 1, now);
	at = 0;
	cr_assert_eq(table_next(t, &at, now, &e), 1);
	cr_assert_str_eq(e.text, "key");
	cr_assert_eq(table_next(t, &at, now, &e), 0);
	table_copy(other, t, now);
	cr_assert_neq(take(other, &rule, 7, 1, now), 0, "a table of another size goes on where this one was");
	at = 0;
	cr_assert_eq(table_next(t, &at, now + 20 * ESP_SEC, &e), 0, "all is earned again");
	cr_assert_eq(table_forget(t, 7), 1);
	cr_assert_eq(table_forget(t, 7), 0);
	cr_assert_eq(take(t, &rule, 7, 20, now), 0);
	free(t);
	free(other);
}

/* --- keys -------------------------------------------------------------------------------------------------------- */

static void *room(esp_arena *a, size_t n)
{
	static char all[1 << 16];
	static size_t used;
	(void)a;
	used += n;
	return all + used - n;
}
static const esp_mem_api rooms = { .size = sizeof rooms, .alloc = room };
static esp_arena arena = { &rooms };
static struct rules rules = { .bits4 = 24, .bits6 = 64 };

static void has_key(uint32_t by, const struct subject *s, const char *key)
{
	const struct rule rule = { .by = by, .of = OF_MESSAGES };
	esp_status st;
	esp_str text = rule_key(&rules, &rule, s, &arena, &st);

	cr_assert_eq(st, ESP_OK);
	cr_assert(esp_str_eq(text, cstr(key)), "%.*s", ESP_FMT(text));
}

static esp_conn_info info = { .role = ESP_STR_INIT("mx"), .peer = ESP_STR_INIT("192.0.2.77") };
static esp_txn txn = { .login = ESP_STR_INIT("Alice@example.test"), .from = ESP_STR_INIT("Bob@Sub.Example.ORG") };

Test(key, says_whose_it_is)
{
	struct subject s = { &info, &txn, cstr("carol@example.test") };

	has_key(BY_IP, &s, "ip:messages:192.0.2.77");
	has_key(BY_NETWORK, &s, "network:messages:192.0.2.0/24");
	has_key(BY_SENDER, &s, "sender:messages:bob@sub.example.org");
	has_key(BY_SENDER_DOMAIN, &s, "sender_domain:messages:sub.example.org");
	has_key(BY_RECIPIENT, &s, "recipient:messages:carol@example.test");
	has_key(BY_ACCOUNT, &s, "account:messages:alice@example.test");
	info.peer = cstr("2001:db8:1:2:3:4:5:6");
	has_key(BY_IP, &s, "ip:messages:2001:db8:1:2:3:4:5:6");
	has_key(BY_NETWORK, &s, "network:messages:2001:db8:1:2::/64");
	rules.bits6 = 52;
	info.peer = cstr("2001:db8:1:ffff::1");
	has_key(BY_NETWORK, &s, "network:messages:2001:db8:1:f000::/52");
}

Test(key, is_none_for_whom_a_limit_does_not_concern)
{
	struct subject s = { &info, &txn, { NULL, 0 } };

	txn.login = txn.from = (esp_str){ NULL, 0 };
	has_key(BY_SENDER, &s, "");
	has_key(BY_SENDER_DOMAIN, &s, "");
	has_key(BY_ACCOUNT, &s, "");
	info.trusted = 1;
	has_key(BY_IP, &s, "");
	has_key(BY_NETWORK, &s, "");
}

Test(allow, spares_networks_senders_and_accounts)
{
	static esp_str roles[] = { ESP_STR_INIT("mx") };
	static esp_str senders[] = { ESP_STR_INIT("@sub.example.org"), ESP_STR_INIT("list@lists.test") };
	static esp_str accounts[] = { ESP_STR_INIT("alice@example.test") };
	struct network net;
	struct subject s = { &info, &txn, { NULL, 0 } };

	rules.roles = roles;
	rules.nroles = 1;
	cr_assert_eq(rules_allow(&rules, &s), 0);
	rules.allow_senders = senders;
	rules.nallow_senders = 2;
	cr_assert_eq(rules_allow(&rules, &s), 1);
	txn.from = cstr("bob@else.sub.example.org");
	cr_assert_eq(rules_allow(&rules, &s), 0);
	txn.from = cstr("LIST@lists.test");
	cr_assert_eq(rules_allow(&rules, &s), 1);
	txn.from = (esp_str){ NULL, 0 };
	cr_assert_eq(rules_allow(&rules, &s), 0);
	rules.allow_accounts = accounts;
	rules.nallow_accounts = 1;
	cr_assert_eq(rules_allow(&rules, &s), 1);
	s.txn = NULL;
	cr_assert_eq(rules_allow(&rules, &s), 0);
	cr_assert_eq(network_parse(&net, cstr("192.0.2.0/25")), 1);
	rules.allow_networks = &net;
	rules.nallow_networks = 1;
	cr_assert_eq(rules_allow(&rules, &s), 1);
	info.peer = cstr("192.0.2.200");
	cr_assert_eq(rules_allow(&rules, &s), 0);
	info.role = cstr("imap");
	cr_assert_eq(rules_allow(&rules, &s), 1, "not a listener that is limited");
}
