/* What client_dns keeps and what it reads of the machine: the cache, resolv.conf and hosts. */
#include "tests/support/test.h"

#include "modules/client/dns/cache.h"
#include "modules/client/dns/files.h"

#include <stdio.h>
#include <stdlib.h>

static esp_str cstr(const char *s) { return (esp_str){ s, strlen(s) }; }

/* --- the cache ------------------------------------------------------------------------------------------- */

static const uint64_t secret[2] = { 1, 2 };

static struct key key_of(unsigned n)
{
	struct key k;
	char name[32];

	snprintf(name, sizeof name, "n%u.test", n);
	cr_assert_eq(key_make(&k, ESP_DNS_A, cstr(name)), ESP_OK);
	return k;
}

static void keep(struct cache *c, unsigned n, esp_nsec until, esp_nsec now)
{
	struct key k = key_of(n);
	struct reply *r = reply_fail(ESP_ENOENT, "x");

	r->rcode = n;
	r->until = until;
	cache_put(c, &k, r, now);
	reply_unref(r);
}

static struct reply *get(struct cache *c, unsigned n, esp_nsec now)
{
	struct key k = key_of(n);

	return cache_get(c, &k, now);
}

Test(dns_cache, keeps_an_answer_until_its_end)
{
	struct cache c;

	cr_assert_eq(cache_init(&c, 100, 1 << 20, secret), ESP_OK);
	keep(&c, 1, 50, 10);
	keep(&c, 2, 10, 10);
	cr_assert_null(get(&c, 2, 10));
	cr_assert_eq(get(&c, 1, 49)->rcode, 1u);
	cr_assert_null(get(&c, 1, 50));
	cr_assert_eq(c.n, 0u);
	cr_assert_eq(c.bytes, 0u);
	cache_end(&c);
}

Test(dns_cache, drops_what_was_unused_for_longest)
{
	struct cache c;

	cr_assert_eq(cache_init(&c, 3, 1 << 20, secret), ESP_OK);
	for (unsigned i = 0; i < 3; i++)
		keep(&c, i, 100, 1);
	cr_assert_not_null(get(&c, 0, 1));
	keep(&c, 3, 100, 1);
	cr_assert_null(get(&c, 1, 1));
	cr_assert(get(&c, 0, 1) && get(&c, 2, 1) && get(&c, 3, 1));
	cache_end(&c);
}

Test(dns_cache, stays_below_its_bytes_and_counts_them_right)
{
	struct cache c;

	cr_assert_eq(cache_init(&c, 100000, 20000, secret), ESP_OK);
	for (unsigned i = 0; i < 5000; i++) {
		keep(&c, i % 700, 100, 1);
		cr_assert(c.bytes <= 20000);
	}
	cr_assert(c.n > 20);
	cache_clear(&c);
	cr_assert(c.n == 0 && c.bytes == 0 && !c.newest && !c.oldest);
	keep(&c, 1, 100, 1);
	cr_assert_not_null(get(&c, 1, 1));
	cache_end(&c);
}

Test(dns_cache, replaces_and_lets_go)
{
	struct cache c;
	struct reply *held;

	cr_assert_eq(cache_init(&c, 10, 1 << 20, secret), ESP_OK);
	keep(&c, 1, 100, 1);
	held = reply_ref(get(&c, 1, 1));
	keep(&c, 1, 200, 1);
	cr_assert_eq(c.n, 1u);
	cr_assert_eq(held->refs, 1u);
	cr_assert_eq(get(&c, 1, 150)->until, 200);
	reply_unref(held);
	cache_end(&c);
}

Test(dns_cache, of_no_size_keeps_nothing)
{
	struct cache c;

	cr_assert_eq(cache_init(&c, 0, 1 << 20, secret), ESP_OK);
	keep(&c, 1, 100, 1);
	cr_assert_null(get(&c, 1, 1));
	cache_end(&c);
	cr_assert_eq(cache_init(&c, 10, 0, secret), ESP_OK);
	keep(&c, 1, 100, 1);
	cr_assert_null(get(&c, 1, 1));
	cache_end(&c);
}

Test(dns_cache, tells_types_and_secrets_apart)
{
	struct key a = key_of(1), b = a;

	b.type = ESP_DNS_MX;
	cr_assert_neq(key_hash(secret, &a), key_hash(secret, &b));
	cr_assert_neq(key_hash(secret, &a), key_hash((const uint64_t[]){ 1, 3 }, &a));
}

Test(dns_cache, hash_depends_on_every_byte)
{
	struct key a = key_of(1);
	uint64_t was = key_hash(secret, &a);

	for (size_t i = 0; i < a.len; i++) {
		struct key b = a;

		b.name[i] ^= 1;
		cr_assert_neq(key_hash(secret, &b), was);
	}
}

/* --- files ----------------------------------------------------------------------------------------------- */

Test(dns_files, servers_are_addresses)
{
	static const struct { const char *text, *read; int loopback; } good[] = {
		{ "127.0.0.1", "127.0.0.1:53", 1 }, { "127.9.9.9:5353", "127.9.9.9:5353", 1 },
		{ "192.0.2.1:1", "192.0.2.1:1", 0 },
		{ "::1", "[::1]:53", 1 }, { "[::1]", "[::1]:53", 1 }, { "[2001:db8::1]:65535", "[2001:db8::1]:65535", 0 },
		{ "::ffff:127.0.0.1", "[::ffff:127.0.0.1]:53", 1 } };
	static const char *const bad[] = { "", "localhost", "1.2.3", "1.2.3.4:", "1.2.3.4:0", "1.2.3.4:65536", "1.2.3.4:5x",
		"[1.2.3.4]", "[::1", "::1]", "[::1]53", "fe80::1%eth0", ":53", "[]:53" };
	struct address a;

	for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
		cr_assert(address_read(cstr(good[i].text), &a), "%s", good[i].text);
		cr_assert_str_eq(a.text, good[i].read);
		cr_assert_eq(a.loopback, good[i].loopback, "%s", good[i].text);
	}
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		cr_assert_not(address_read(cstr(bad[i]), &a), "%s", bad[i]);
}

Test(dns_files, resolv_conf_is_read_as_the_manual_says)
{
	struct resolv r;

	resolv_read(cstr("# x\nnameserver 192.0.2.1 \n\tnameserver ::1\r\ndomain old.test\nsearch a.test  b.test.\n"
	                 "options timeout:1 ndots:12 rotate\nnameserver\nnameserver fe80::1%eth0\nnonsense"), &r);
	cr_assert_eq(r.n, 2u);
	cr_assert_str_eq(r.server[1].text, "[::1]:53");
	cr_assert_eq(r.skipped, 2u);
	cr_assert_eq(r.nsearch, 2u);
	cr_assert_str_eq(r.search[0], "a.test");
	cr_assert_str_eq(r.search[1], "b.test");
	cr_assert_eq(r.ndots, 12u);
	resolv_read(cstr(""), &r);
	cr_assert_eq(r.n, 1u);
	cr_assert_str_eq(r.server[0].text, "127.0.0.1:53");
	cr_assert_eq(r.ndots, 1u);
}

Test(dns_files, resolv_conf_has_bounds)
{
	static char text[20000] = "search";
	struct resolv r;
	size_t n = 6;

	for (int i = 0; i < 40; i++)
		n += (size_t)snprintf(text + n, sizeof text - n, " d%d.test", i);
	for (int i = 0; i < 40; i++)
		n += (size_t)snprintf(text + n, sizeof text - n, "\nnameserver 192.0.2.%d", i);
	resolv_read((esp_str){ text, n }, &r);
	cr_assert_eq(r.n, (unsigned)SERVERS_MAX);
	cr_assert_eq(r.nsearch, (unsigned)SEARCH_MAX);
}

Test(dns_files, hosts_are_found_by_any_of_their_names)
{
	static const char text[] =
		"127.0.0.1 localhost\n192.0.2.1\tMail mail.test # mail2\n::2 mail\n1.2.3 bad\n192.0.2.3 mail";
	struct hosts h;
	const struct host *one;
	uint32_t at = 0;

	cr_assert_eq(hosts_read(strdup(text), &h), ESP_OK);
	one = hosts_find(&h, ESP_STR("mail"), 4, &at);
	cr_assert(one && memcmp(one->address, "\xc0\0\2\1", 4) == 0);
	one = hosts_find(&h, ESP_STR("MAIL"), 4, &at);
	cr_assert(one && memcmp(one->address, "\xc0\0\2\3", 4) == 0);
	cr_assert_null(hosts_find(&h, ESP_STR("mail"), 4, &at));
	at = 0;
	cr_assert_not_null(hosts_find(&h, ESP_STR("mail"), 16, &at));
	at = 0;
	cr_assert_null(hosts_find(&h, ESP_STR("mail2"), 4, &at));
	cr_assert_null(hosts_find(&h, ESP_STR("bad"), 4, &at));
	hosts_end(&h);
	cr_assert_eq(hosts_read(strdup(""), &h), ESP_OK);
	cr_assert_eq(h.n, 0u);
	hosts_end(&h);
}
