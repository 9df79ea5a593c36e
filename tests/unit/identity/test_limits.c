/* Limits and cache of identity/auth: who may try now, who waits, what is remembered. */
#include "modules/identity/auth/auth.h"
#include "tests/support/test.h"

#include <stdarg.h>
#include <stdio.h>

#define PEER  ESP_STR("192.0.2.1")
#define OTHER ESP_STR("192.0.2.2")
#define ALICE ESP_STR("alice@example.test")

enum { START = 100 };              /* seconds on the clock when a test begins */
static esp_nsec at(int seconds) { return (START + seconds) * (esp_nsec)ESP_SEC; }

static struct limits *l;

static void before(void)
{
	l = calloc(1, sizeof *l);
	limits_init(l, 0x5ec4e7);
}

static void after(void)
{
	limits_end_all(l);
	free(l);
}

static const esp_nsec look_again = 20 * ESP_MSEC;

/* What begin() says; an attempt that may begin ends at once, and nobody knows how. */
static esp_nsec ask(esp_str peer, esp_str user, esp_nsec now)
{
	struct attempt t;
	esp_nsec wait = limits_begin(l, peer, user, now, &t);

	if (wait == 0)
		limits_end(l, &t, ATTEMPT_UNKNOWN, 0, now);
	return wait;
}

static uint64_t another;           /* wrong password */

/* An attempt that fails, after the wait it is told. */
static void fail(esp_str peer, esp_str user, esp_nsec now)
{
	struct attempt t;
	esp_nsec wait = limits_begin(l, peer, user, now, &t);

	if (wait > 0)
		wait = limits_begin(l, peer, user, now + wait, &t);
	cr_assert_eq(wait, 0);
	limits_end(l, &t, ATTEMPT_FAILED, ++another, now);
}

static void work(esp_str peer, esp_str user, esp_nsec now)
{
	struct attempt t;

	cr_assert_eq(limits_begin(l, peer, user, now, &t), 0);
	limits_end(l, &t, ATTEMPT_WORKED, 0, now);
}

__attribute__((format(printf, 1, 2))) static esp_str name_of(const char *format, ...)
{
	static _Thread_local char name[8][40];
	static _Thread_local int turn;
	va_list args;

	turn = (turn + 1) % 8;
	va_start(args, format);
	vsnprintf(name[turn], sizeof name[turn], format, args);
	va_end(args);
	return (esp_str){ name[turn], strlen(name[turn]) };
}

Test(limits, a_pair_waits_longer_with_every_failure, .init = before, .fini = after)
{
	static const int wait[] = { 0, 0, 2, 4, 8, 15, 15, 15 };

	for (size_t i = 0; i < sizeof wait / sizeof wait[0]; i++) {
		cr_assert_eq(ask(PEER, ALICE, at(0)), wait[i] * (esp_nsec)ESP_SEC, "after %zu failures", i);
		fail(PEER, ALICE, at(0));
	}
	cr_assert_eq(ask(PEER, ALICE, at(10)), 5 * (esp_nsec)ESP_SEC, "the time that passed counts");
	cr_assert_eq(ask(PEER, ALICE, at(15)), 0);
}

Test(limits, the_case_of_a_name_makes_no_other_account, .init = before, .fini = after)
{
	fail(PEER, ALICE, at(0));
	fail(PEER, ESP_STR("ALICE@Example.Test"), at(0));
	cr_assert_eq(ask(PEER, ESP_STR("aLiCe@example.test"), at(0)), 2 * (esp_nsec)ESP_SEC);
}

Test(limits, an_address_may_fail_ten_times_a_minute_over_all_accounts, .init = before, .fini = after)
{
	for (int i = 0; i < 10; i++) {
		cr_assert_eq(ask(PEER, name_of("user%d", i), at(i)), 0);
		fail(PEER, name_of("user%d", i), at(i));
	}
	cr_assert_eq(ask(PEER, ALICE, at(10)), -1);
	cr_assert_eq(ask(OTHER, ALICE, at(10)), 0);
	cr_assert_eq(ask(PEER, ALICE, at(59)), -1);
	cr_assert_eq(ask(PEER, ALICE, at(60)), 0, "a minute after the first");
}

Test(limits, an_address_may_fail_fifty_times_a_day, .init = before, .fini = after)
{
	for (int i = 0; i < 50; i++)
		fail(PEER, name_of("user%d", i), at(600 * i));
	cr_assert_eq(ask(PEER, ALICE, at(600 * 50)), -1);
	cr_assert_eq(ask(PEER, ALICE, at(86399)), -1);
	cr_assert_eq(ask(PEER, ALICE, at(86400)), 0);
}

Test(limits, networks_have_three_and_nine_times_as_many, .init = before, .fini = after)
{
	int n = 0;

	for (; n < 30; n++)
		fail(name_of("192.0.2.%d", 1 + n / 8), name_of("user%d", n), at(0));
	cr_assert_eq(ask(ESP_STR("192.0.2.200"), ALICE, at(1)), -1, "30 of the /24");
	cr_assert_eq(ask(ESP_STR("192.0.3.200"), ALICE, at(1)), 0);
	for (; n < 90; n++)
		fail(name_of("192.0.%d.1", 3 + n / 8), name_of("user%d", n), at(0));
	cr_assert_eq(ask(ESP_STR("192.0.250.1"), ALICE, at(1)), -1, "90 of the /16");
	cr_assert_eq(ask(ESP_STR("192.1.0.1"), ALICE, at(1)), 0);
}

Test(limits, ipv6_counts_by_64_56_and_48_bits, .init = before, .fini = after)
{
	for (int i = 0; i < 10; i++)
		fail(name_of("2001:db8:1:100::%d", 1 + i), name_of("user%d", i), at(0));
	cr_assert_eq(ask(ESP_STR("2001:db8:1:100:ffff::1"), ALICE, at(1)), -1);
	cr_assert_eq(ask(ESP_STR("2001:db8:1:101::1"), ALICE, at(1)), 0);
	for (int i = 0; i < 20; i++)
		fail(name_of("2001:db8:1:1%d::1", 10 + i / 8), name_of("more%d", i), at(0));
	cr_assert_eq(ask(ESP_STR("2001:db8:1:1ff::1"), ALICE, at(1)), -1, "30 of the /56");
	cr_assert_eq(ask(ESP_STR("2001:db8:1:200::1"), ALICE, at(1)), 0);
}

Test(limits, attempts_in_flight_count_like_failures_until_their_outcome_is_known, .init = before, .fini = after)
{
	struct attempt t[10], more;

	for (int i = 0; i < 10; i++)
		cr_assert_eq(limits_begin(l, PEER, name_of("user%d", i), at(0), &t[i]), 0);
	cr_assert_eq(limits_begin(l, PEER, ALICE, at(0), &more), look_again);
	for (int i = 0; i < 9; i++)
		limits_end(l, &t[i], ATTEMPT_FAILED, ++another, at(0));
	cr_assert_eq(limits_begin(l, PEER, ALICE, at(0), &more), look_again, "nine, and one that may fail as well");
	limits_end(l, &t[9], ATTEMPT_WORKED, 0, at(0));
	cr_assert_eq(limits_begin(l, PEER, ALICE, at(0), &more), 0);
	cr_assert_eq(ask(PEER, ESP_STR("bob"), at(0)), look_again);
	limits_end(l, &more, ATTEMPT_FAILED, ++another, at(0));
	cr_assert_eq(ask(PEER, ESP_STR("bob"), at(0)), -1);
}

Test(limits, a_pair_tries_two_at_once_and_no_more, .init = before, .fini = after)
{
	struct attempt t[2], more;

	cr_assert_eq(limits_begin(l, PEER, ALICE, at(0), &t[0]), 0);
	cr_assert_eq(limits_begin(l, PEER, ALICE, at(0), &t[1]), 0);
	cr_assert_eq(limits_begin(l, PEER, ALICE, at(0), &more), look_again);
	limits_end(l, &t[0], ATTEMPT_FAILED, 1, at(0));
	cr_assert_eq(limits_begin(l, PEER, ALICE, at(0), &more), look_again);
	limits_end(l, &t[1], ATTEMPT_FAILED, 2, at(0));
	cr_assert_eq(limits_begin(l, PEER, ALICE, at(0), &more), 2 * (esp_nsec)ESP_SEC);
	cr_assert_eq(limits_begin(l, PEER, ALICE, at(2), &t[0]), 0);
	cr_assert_eq(limits_begin(l, PEER, ALICE, at(2), &more), look_again, "who waited for the same moment: one by one");
	limits_end(l, &t[0], ATTEMPT_UNKNOWN, 0, at(2));
}

Test(limits, a_crowd_of_addresses_slows_an_account_down_and_not_its_owner, .init = before, .fini = after)
{
	esp_str home = ESP_STR("203.0.113.7");

	work(home, ALICE, at(0));
	for (int i = 0; i < 20; i++)
		fail(name_of("10.%d.0.1", i), ALICE, at(1));
	cr_assert_eq(ask(ESP_STR("10.99.0.1"), ALICE, at(1)), 5 * (esp_nsec)ESP_SEC);
	cr_assert_eq(ask(ESP_STR("10.99.0.1"), ALICE, at(6)), 0, "slowly");
	cr_assert_eq(ask(ESP_STR("10.99.0.1"), ESP_STR("bob@example.test"), at(1)), 0);
	cr_assert_eq(ask(home, ALICE, at(1)), 0);
	cr_assert_eq(ask(ESP_STR("10.99.0.1"), ALICE, at(901)), 0, "a quarter of an hour later");
}

Test(limits, a_pair_that_logged_in_before_is_not_refused_for_its_neighbours, .init = before, .fini = after)
{
	work(PEER, ALICE, at(0));
	for (int i = 0; i < 10; i++)
		fail(PEER, name_of("user%d", i), at(1));
	cr_assert_eq(ask(PEER, ESP_STR("bob@example.test"), at(2)), -1);
	cr_assert_eq(ask(PEER, ALICE, at(2)), 0);
	for (int i = 0; i < 20; i++)
		fail(PEER, ALICE, at(2));
	cr_assert_eq(ask(PEER, ALICE, at(30)), -1, "twenty failures in a row: it is not so well known");
}

Test(limits, success_forgives_the_pair_and_not_the_address, .init = before, .fini = after)
{
	for (int i = 0; i < 9; i++)
		fail(PEER, ALICE, at(0));
	work(PEER, ALICE, at(20));
	cr_assert_eq(ask(PEER, ALICE, at(21)), 0, "the pair is forgiven");
	fail(PEER, ESP_STR("bob@example.test"), at(22));
	cr_assert_eq(ask(PEER, ESP_STR("carol@example.test"), at(23)), -1, "the address failed ten times in this minute");
}

Test(limits, the_same_wrong_password_again_costs_its_pair_alone, .init = before, .fini = after)
{
	struct attempt t;

	for (int i = 0; i < 100; i++) {
		cr_assert_eq(limits_begin(l, PEER, ALICE, at(20 * i), &t), 0);
		limits_end(l, &t, ATTEMPT_FAILED, 4711, at(20 * i));
	}
	cr_assert_eq(ask(PEER, ALICE, at(20 * 99)), 15 * (esp_nsec)ESP_SEC);
	cr_assert_eq(ask(PEER, ESP_STR("bob@example.test"), at(20 * 99)), 0);
}

Test(limits, failures_are_forgotten_after_ten_minutes, .init = before, .fini = after)
{
	for (int i = 0; i < 6; i++)
		fail(PEER, ALICE, at(0));
	cr_assert_eq(ask(PEER, ALICE, at(601)), 0);
	fail(PEER, ALICE, at(601));
	cr_assert_eq(ask(PEER, ALICE, at(601)), 0, "it begins with the first failure again");
}

Test(limits, refused_attempts_push_no_entry_out, .init = before, .fini = after)
{
	struct attempt t;

	work(OTHER, ALICE, at(0));
	for (int i = 0; i < 10; i++)
		fail(PEER, name_of("user%d", i), at(1));
	for (int i = 0; i < 200000; i++)
		cr_assert_eq(limits_begin(l, PEER, name_of("n%d", i), at(2), &t), -1);
	for (int i = 0; i < 10; i++)
		fail(OTHER, name_of("user%d", i), at(2));
	cr_assert_eq(ask(OTHER, ALICE, at(3)), 0, "it is still known");
}

Test(limits, names_do_not_run_together_and_an_attempt_in_flight_is_never_forgotten, .init = before, .fini = after)
{
	struct attempt t;

	cr_assert_eq(limits_begin(l, ESP_STR("192.0.2.99"), ALICE, at(0), &t), 0);
	for (int i = 0; i < 60000; i++)
		fail(name_of("10.%d.1.1", i % 250), name_of("n%d", i), at(61 * i));
	limits_end(l, &t, ATTEMPT_FAILED, 1, at(61 * 60000));   /* aborts if it were */
	fail(ESP_STR("ab"), ESP_STR("c"), at(0));
	fail(ESP_STR("ab"), ESP_STR("c"), at(0));
	cr_assert_gt(ask(ESP_STR("ab"), ESP_STR("c"), at(0)), 0);
	cr_assert_eq(ask(ESP_STR("a"), ESP_STR("bc"), at(0)), 0);
}

/* --- by several threads ------------------------------------------------------------------------------------------ */

static atomic_int begun;

static void *guess(void *arg)
{
	int me = *(int *)arg;

	for (int i = 0; i < 2000; i++) {
		struct attempt t;

		if (limits_begin(l, PEER, name_of("user%d", me * 10000 + i), at(0), &t) != 0)
			continue;
		atomic_fetch_add(&begun, 1);
		limits_end(l, &t, ATTEMPT_FAILED, (uint64_t)(me * 10000 + i + 1), at(0));
	}
	return NULL;
}

Test(limits, hold_for_all_threads_together, .init = before, .fini = after)
{
	pthread_t thread[4];
	int number[4];

	for (int i = 0; i < 4; i++) {
		number[i] = i;
		cr_assert_eq(pthread_create(&thread[i], NULL, guess, &number[i]), 0);
	}
	for (int i = 0; i < 4; i++)
		pthread_join(thread[i], NULL);
	cr_assert_eq(begun, 10);
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

static const uint8_t key[32] = { 1, 2, 3 };
static const esp_crypto_api crypto = { .size = sizeof crypto, .hmac = sum, .wipe = wipe };

Test(limits, what_is_forgiven_is_forgotten_and_nothing_else, .init = before, .fini = after)
{
	const esp_str office = ESP_STR("192.0.2.7"), neighbour = ESP_STR("192.0.2.8"), far = ESP_STR("198.51.100.1");
	char name[32];

	for (int i = 0; i < 10; i++) {
		(void)snprintf(name, sizeof name, "user%d@example.test", i);
		fail(office, (esp_str){ name, strlen(name) }, at(0));
		fail(far, (esp_str){ name, strlen(name) }, at(0));
	}
	cr_assert_eq(ask(office, ALICE, at(1)), -1);
	cr_expect_eq(limits_forgive(l, neighbour, ESP_STR(""), at(1)), 10, "its network");
	cr_assert_eq(ask(office, ALICE, at(1)), -1);
	cr_expect_eq(limits_forgive(l, office, ESP_STR(""), at(1)), 10);
	cr_assert_eq(ask(office, ALICE, at(1)), 0);
	cr_assert_eq(ask(far, ALICE, at(1)), -1);
	cr_expect_eq(limits_forgive(l, office, ESP_STR(""), at(1)), 0);
}

Test(cache, remembers_until_its_time_and_no_longer)
{
	struct cache *c = calloc(1, sizeof *c);
	esp_id id = { { 1 } };
	uint8_t digest[32];

	cache_init(c);
	cache_digest(&crypto, key, id, 1, ESP_STR("secret"), digest);
	cr_assert_not(cache_has(c, digest, at(0)));
	cache_put(c, digest, at(60));
	cr_assert(cache_has(c, digest, at(0)));
	cr_assert(cache_has(c, digest, at(59)));
	cr_assert_not(cache_has(c, digest, at(60)));
	cache_end(c);
	free(c);
}

Test(cache, another_account_version_or_password_is_another_login)
{
	struct cache *c = calloc(1, sizeof *c);
	esp_id id = { { 1 } }, other = { { 2 } };
	uint8_t digest[32];

	cache_init(c);
	cache_digest(&crypto, key, id, 1, ESP_STR("secret"), digest);
	cache_put(c, digest, at(60));
	cache_digest(&crypto, key, other, 1, ESP_STR("secret"), digest);
	cr_assert_not(cache_has(c, digest, at(0)));
	cache_digest(&crypto, key, id, 2, ESP_STR("secret"), digest);
	cr_assert_not(cache_has(c, digest, at(0)), "a changed password raises the version");
	cache_digest(&crypto, key, id, 1, ESP_STR("secret2"), digest);
	cr_assert_not(cache_has(c, digest, at(0)));
	cache_digest(&crypto, key, id, 1, (esp_str){ NULL, 0 }, digest);
	cr_assert_not(cache_has(c, digest, at(0)));
	cache_end(c);
	free(c);
}
