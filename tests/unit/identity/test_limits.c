/* Limits and cache of identity/auth: who may try now, who waits, what is remembered. */
#include "modules/identity/auth/auth.h"
#include "tests/support/test.h"

#include <stdio.h>

#define PEER  ESP_STR("192.0.2.1")
#define OTHER ESP_STR("192.0.2.2")
#define ALICE ESP_STR("alice@example.test")

enum { START = 100 };              /* seconds on the clock when a test begins */
static esp_nsec at(int seconds) { return (START + seconds) * (esp_nsec)ESP_SEC; }

Test(limits, a_pair_waits_longer_with_every_failure)
{
	static const int wait[] = { 0, 0, 2, 4, 8, 15, 15, 15 };
	struct limits *l = limits_new();

	for (size_t i = 0; i < sizeof wait / sizeof wait[0]; i++) {
		cr_assert_eq(limits_ask(l, PEER, ALICE, at(0)), wait[i] * (esp_nsec)ESP_SEC, "after %zu failures", i);
		limits_failed(l, PEER, ALICE, at(0));
	}
	cr_assert_eq(limits_ask(l, PEER, ALICE, at(10)), 5 * (esp_nsec)ESP_SEC, "the time that passed counts");
	cr_assert_eq(limits_ask(l, PEER, ALICE, at(15)), 0);
	limits_free(l);
}

Test(limits, an_account_is_never_locked_from_outside)
{
	struct limits *l = limits_new();

	for (int i = 0; i < 9; i++)
		limits_failed(l, PEER, ALICE, at(0));
	cr_assert_gt(limits_ask(l, PEER, ALICE, at(0)), 0);
	cr_assert_eq(limits_ask(l, OTHER, ALICE, at(0)), 0, "another address does not wait");
	cr_assert_eq(limits_ask(l, PEER, ESP_STR("bob@example.test"), at(0)), 0, "nor another account");
	limits_free(l);
}

Test(limits, an_address_may_fail_ten_times_a_minute_over_all_accounts)
{
	struct limits *l = limits_new();

	for (int i = 0; i < 10; i++) {
		char name[16];
		snprintf(name, sizeof name, "user%d", i);
		cr_assert_eq(limits_ask(l, PEER, (esp_str){ name, strlen(name) }, at(i)), 0);
		limits_failed(l, PEER, (esp_str){ name, strlen(name) }, at(i));
	}
	cr_assert_eq(limits_ask(l, PEER, ALICE, at(10)), -1);
	cr_assert_eq(limits_ask(l, OTHER, ALICE, at(10)), 0);
	cr_assert_eq(limits_ask(l, PEER, ALICE, at(59)), -1);
	cr_assert_eq(limits_ask(l, PEER, ALICE, at(60)), 0, "a minute after the first");
	limits_free(l);
}

Test(limits, success_forgives_the_pair_and_not_the_address)
{
	struct limits *l = limits_new();

	for (int i = 0; i < 10; i++)
		limits_failed(l, PEER, ALICE, at(0));
	limits_worked(l, PEER, ALICE);
	cr_assert_eq(limits_ask(l, PEER, ALICE, at(1)), -1, "the address failed ten times in this minute");
	cr_assert_eq(limits_ask(l, PEER, ALICE, at(60)), 0, "the pair is forgiven");
	limits_free(l);
}

Test(limits, failures_are_forgotten_after_ten_minutes)
{
	struct limits *l = limits_new();

	for (int i = 0; i < 6; i++)
		limits_failed(l, PEER, ALICE, at(0));
	cr_assert_eq(limits_ask(l, PEER, ALICE, at(601)), 0);
	limits_failed(l, PEER, ALICE, at(601));
	cr_assert_eq(limits_ask(l, PEER, ALICE, at(601)), 0, "it begins with the first failure again");
	limits_free(l);
}

Test(limits, a_flood_of_names_takes_no_more_memory_and_names_do_not_run_together)
{
	struct limits *l = limits_new();

	for (int i = 0; i < 100000; i++) {
		char name[24];
		snprintf(name, sizeof name, "n%d", i);
		limits_failed(l, ESP_STR("198.51.100.1"), (esp_str){ name, strlen(name) }, at(i / 1000));
	}
	limits_failed(l, ESP_STR("ab"), ESP_STR("c"), at(200));
	limits_failed(l, ESP_STR("ab"), ESP_STR("c"), at(200));
	cr_assert_gt(limits_ask(l, ESP_STR("ab"), ESP_STR("c"), at(200)), 0);
	cr_assert_eq(limits_ask(l, ESP_STR("a"), ESP_STR("bc"), at(200)), 0);
	limits_free(l);
}

/* --- cache ------------------------------------------------------------------------------------------------------ */

/* Good enough to tell inputs apart: the cache only needs a digest. */
static int32_t sum(uint32_t hash, esp_str key, const void *p, size_t n, uint8_t *out)
{
	uint64_t h = 14695981039346656037u + key.len;

	(void)hash;
	for (int k = 0; k < 4; k++) {
		for (size_t i = 0; i < n; i++)
			h = (h ^ ((const uint8_t *)p)[i]) * 1099511628211u;
		memcpy(out + 8 * k, &h, 8);
	}
	return ESP_OK;
}

static void wipe(void *p, size_t n) { memset(p, 0, n); }

static const esp_crypto_api crypto = { .size = sizeof crypto, .hmac = sum, .wipe = wipe };

Test(cache, remembers_until_its_time_and_no_longer)
{
	struct auth a = { .crypto = &crypto };
	struct cache *c = cache_new();
	esp_id id = { { 1 } };
	uint8_t digest[32];

	cache_digest(&a, id, 1, ESP_STR("secret"), digest);
	cr_assert_not(cache_has(c, digest, at(0)));
	cache_put(c, digest, at(60));
	cr_assert(cache_has(c, digest, at(0)));
	cr_assert(cache_has(c, digest, at(59)));
	cr_assert_not(cache_has(c, digest, at(60)));
	cache_free(c);
}

Test(cache, another_account_version_or_password_is_another_login)
{
	struct auth a = { .crypto = &crypto };
	struct cache *c = cache_new();
	esp_id id = { { 1 } }, other = { { 2 } };
	uint8_t digest[32];

	cache_digest(&a, id, 1, ESP_STR("secret"), digest);
	cache_put(c, digest, at(60));
	cache_digest(&a, other, 1, ESP_STR("secret"), digest);
	cr_assert_not(cache_has(c, digest, at(0)));
	cache_digest(&a, id, 2, ESP_STR("secret"), digest);
	cr_assert_not(cache_has(c, digest, at(0)), "a changed password raises the version");
	cache_digest(&a, id, 1, ESP_STR("secret2"), digest);
	cr_assert_not(cache_has(c, digest, at(0)));
	cache_digest(&a, id, 1, (esp_str){ NULL, 0 }, digest);
	cr_assert_not(cache_has(c, digest, at(0)));
	cache_free(c);
}
