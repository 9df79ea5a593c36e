/* Names and answers, within their bounds. */
#include "tests/support/test.h"

#include "modules/client/dns/reply.h"

#include <stdlib.h>

static esp_str cstr(const char *s) { return (esp_str){ s, strlen(s) }; }

/* --- an answer, piece by piece --------------------------------------------------------------------------- */

struct message { uint8_t b[65536]; size_t n; };
static struct message m;
static struct key key;

static void put(const void *data, size_t n)
{
	memcpy(m.b + m.n, data, n);
	m.n += n;
}
#define PUT(literal) put(literal, sizeof(literal) - 1)
static void put16(uint32_t v) { put((uint8_t[]){ (uint8_t)(v >> 8), (uint8_t)v }, 2); }
static void put32(uint32_t v)
{
	put16(v >> 16);
	put16(v & 0xffff);
}

static void question(
	uint32_t type, const char *name, uint32_t flags, uint32_t answers, uint32_t authority, uint32_t more)
{
	m.n = 0;
	cr_assert_eq(key_make(&key, type, cstr(name)), ESP_OK);
	put16(77);
	put16(flags);
	put16(1);
	put16(answers);
	put16(authority);
	put16(more);
	put(key.name, key.len);
	put16(type);
	put16(1);
}

/* A record of the name that was asked, and of another. */
static void rr_head(uint32_t type, uint32_t ttl, size_t len)
{
	put16(0xc00c);
	put16(type);
	put16(1);
	put32(ttl);
	put16((uint32_t)len);
}
static void rr(uint32_t type, uint32_t ttl, const void *data, size_t len)
{
	rr_head(type, ttl, len);
	put(data, len);
}
#define RR(type, ttl, literal) rr(type, ttl, literal, sizeof(literal) - 1)

static struct reply *read_it(void)
{
	struct reply *r = NULL;
	uint8_t *exact = malloc(m.n ? m.n : 1);

	memcpy(exact, m.b, m.n);       /* a sanitizer sees a read behind it */
	r = reply_read(exact, m.n, &key);
	free(exact);
	cr_assert_not_null(r);
	return r;
}

static esp_status status_of(void)
{
	struct reply *r = read_it();
	esp_status st = r->status;

	cr_assert(st == ESP_OK || st == ESP_ENOENT || r->why);
	reply_unref(r);
	return st;
}

/* --- names ----------------------------------------------------------------------------------------------- */

Test(dns_name, is_read_as_people_write_it)
{
	struct key k;
	char text[NAME_TEXT];

	cr_assert_eq(key_make(&k, ESP_DNS_MX, cstr("Mail.Example.ORG.")), ESP_OK);
	cr_assert_eq(k.len, 18);
	cr_assert_eq(memcmp(k.name, "\4mail\7example\3org", 18), 0);
	cr_assert_eq(name_text(k.name, text), 16u);
	cr_assert_str_eq(text, "mail.example.org");
}

Test(dns_name, that_is_none_is_refused)
{
	static const char *const wrong[] = { "", ".", "..", "a..b", ".a", "a..", "a b", "a\tb", "a\\.b", "\xc3\xa4.de",
		"a\x7f" };
	char longest[300];
	struct key k;

	for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
		cr_assert_eq(key_make(&k, ESP_DNS_A, cstr(wrong[i])), ESP_EINVAL, "%s", wrong[i]);
	cr_assert_eq(key_make(&k, ESP_DNS_A, (esp_str){ "a\0b", 3 }), ESP_EINVAL);
	cr_assert_eq(key_make(&k, 255, cstr("a")), ESP_EINVAL);
	memset(longest, 'x', sizeof longest);
	cr_assert_eq(key_make(&k, ESP_DNS_A, (esp_str){ longest, 63 }), ESP_OK);
	cr_assert_eq(key_make(&k, ESP_DNS_A, (esp_str){ longest, 64 }), ESP_EINVAL);
	for (size_t i = 63; i < sizeof longest; i += 64)
		longest[i] = '.';
	cr_assert_eq(key_make(&k, ESP_DNS_A, (esp_str){ longest, 253 }), ESP_OK);
	cr_assert_eq(k.len, 255);
	cr_assert_eq(key_make(&k, ESP_DNS_A, (esp_str){ longest, 254 }), ESP_EINVAL);
}

Test(dns_name, with_odd_bytes_is_escaped)
{
	char text[NAME_TEXT];

	name_text((const uint8_t *)"\7a.\\\"\n z\1\0", text);
	cr_assert_str_eq(text, "a\\.\\\\\\\"\\010\\032z.\\000");
}

Test(dns_name, at_its_longest_fits_its_room)
{
	uint8_t wire[NAME_WIRE];
	char text[NAME_TEXT];
	size_t at = 0;

	memset(wire, 0, sizeof wire);   /* labels of zero bytes: four characters each */
	wire[0] = wire[64] = wire[128] = 63;
	wire[192] = 61;
	cr_assert_eq(name_read(wire, sizeof wire, &at, (uint8_t[NAME_WIRE]){ 0 }), 255u);
	cr_assert_eq(name_text(wire, text), 250u * 4 + 3);
	cr_assert(sizeof text > 250u * 4 + 3);
}

Test(dns_name, types_are_known_by_name_and_number)
{
	cr_assert_eq(type_number(cstr("tlsa")), ESP_DNS_TLSA);
	cr_assert_eq(type_number(cstr("TXTX")), 0u);
	cr_assert_eq(type_number(cstr("T")), 0u);
	cr_assert_str_eq(type_name(ESP_DNS_AAAA), "AAAA");
	cr_assert_null(type_name(6));
}

Test(dns_name, of_an_address_is_under_arpa)
{
	static const uint8_t six[16] = { 0x20, 0x01, 0x0d, 0xb8, [15] = 0x5a },
						 mapped[16] = { [10] = 255, [11] = 255, 192, 0, 2, 7 };
	char room[ESP_DNS_REVERSE_ROOM];

	cr_assert(esp_str_eq(esp_dns_reverse("\xc0\x00\x02\x63", 4, room), ESP_STR("99.2.0.192.in-addr.arpa")));
	cr_assert(esp_str_eq(esp_dns_reverse(mapped, 16, room), ESP_STR("7.2.0.192.in-addr.arpa")));
	cr_assert(esp_str_eq(esp_dns_reverse(six, 16, room),
		ESP_STR("a.5.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa")));
	cr_assert_eq(esp_dns_reverse(six, 5, room).len, 0u);
}

Test(dns_query, says_what_is_wanted)
{
	uint8_t out[QUERY_MAX];
	size_t n;

	cr_assert_eq(key_make(&key, ESP_DNS_TLSA, cstr("a.b")), ESP_OK);
	n = query_write(&key, 0x1234, 0, out);
	cr_assert_eq(n, 12u + 5 + 4 + 11);
	cr_assert_eq(memcmp(out, "\x12\x34\x01\x20\0\1\0\0\0\0\0\1\1a\1b\0\0\x34\0\1\0\0\x29\x04\xd0\0\0\0\0\0\0", n), 0);
	cr_assert_eq(query_write(&key, 0x1234, 1, out), n - 11);
	cr_assert_eq(out[11], 0);
}

/* --- answers --------------------------------------------------------------------------------------------- */

Test(dns_reply, records_come_whole)
{
	struct reply *r;

	question(ESP_DNS_MX, "example.org", 0x81a0, 3, 0, 0);
	RR(ESP_DNS_MX, 300, "\0\x14\2mx\xc0\x0c");
	RR(ESP_DNS_MX, 200, "\0\x0a\1A\1b\0");
	RR(ESP_DNS_MX, 400, "\0\0\0");
	r = read_it();
	cr_assert_eq(r->status, ESP_OK);
	cr_assert_eq(r->flags, ESP_DNS_AUTHENTIC);
	cr_assert_eq(r->n, 3u);
	cr_assert_eq(r->ttl, 200u);
	cr_assert(esp_str_eq(r->name, ESP_STR("example.org")));
	cr_assert_eq(r->record[0].data.len, 0u);
	cr_assert(esp_str_eq(r->record[1].data, ESP_STR("A.b")));
	cr_assert(esp_str_eq(r->record[2].data, ESP_STR("mx.example.org")));
	cr_assert_eq(r->record[2].preference, 20);
	reply_unref(r);
}

Test(dns_reply, strings_are_joined_and_may_hold_anything)
{
	struct reply *r;

	question(ESP_DNS_TXT, "t.test", 0x8180, 1, 0, 0);
	RR(ESP_DNS_TXT, 5, "\3a\0b\0\2cd");
	r = read_it();
	cr_assert_eq(r->record[0].data.len, 5u);
	cr_assert_eq(memcmp(r->record[0].data.ptr, "a\0bcd", 6), 0);
	reply_unref(r);
}

Test(dns_reply, tlsa_has_its_numbers_and_at_least_a_byte)
{
	struct reply *r;

	question(ESP_DNS_TLSA, "_25._tcp.t.test", 0x8180, 1, 0, 0);
	RR(ESP_DNS_TLSA, 5, "\3\1\2\xff");
	r = read_it();
	cr_assert(r->record[0].usage == 3 && r->record[0].selector == 1 && r->record[0].matching == 2);
	cr_assert(esp_str_eq(r->record[0].data, ESP_STR("\xff")));
	reply_unref(r);
	question(ESP_DNS_TLSA, "_25._tcp.t.test", 0x8180, 1, 0, 0);
	RR(ESP_DNS_TLSA, 5, "\3\1\2");
	cr_assert_eq(status_of(), ESP_EPROTO);
}

Test(dns_reply, none_is_told_with_the_time_of_the_soa)
{
	static const char soa[] = "\2ns\0\4root\0\0\0\0\1\0\0\0\2\0\0\0\3\0\0\0\4\0\0\0\x3c";
	static const struct { uint32_t flags, ttl, kept; } cases[] = {
		{ 0x8183, 600, 60 }, { 0x8183, 30, 30 }, { 0x8180, 600, 60 }, { 0x8180, 0x80000001u, 0 } };

	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct reply *r;

		question(ESP_DNS_A, "none.test", cases[i].flags, 0, 1, 0);
		rr(6, cases[i].ttl, soa, sizeof soa - 1);
		r = read_it();
		cr_assert_eq(r->status, ESP_ENOENT);
		cr_assert_eq(r->flags & ESP_DNS_NXDOMAIN, (cases[i].flags & 3) == 3 ? (unsigned)ESP_DNS_NXDOMAIN : 0u);
		cr_assert_eq(r->ttl, cases[i].kept, "%zu: %u", i, r->ttl);
		reply_unref(r);
	}
	question(ESP_DNS_A, "none.test", 0x8183, 0, 0, 0);
	cr_assert_eq(status_of(), ESP_ENOENT);
}

Test(dns_reply, errors_of_the_server_are_no_answer)
{
	static const uint32_t rcodes[] = { 1, 2, 4, 5, 6, 9, 15 };

	for (size_t i = 0; i < sizeof rcodes / sizeof rcodes[0]; i++) {
		question(ESP_DNS_A, "x.test", 0x8180 | rcodes[i], 1, 0, 0);
		RR(ESP_DNS_A, 5, "\1\2\3\4");
		cr_assert_eq(status_of(), ESP_EUNAVAIL);
	}
	question(ESP_DNS_A, "x.test", 0x8180, 0, 0, 1);    /* BADVERS: its upper bits are in the OPT record */
	PUT("\0\0\x29\4\xd0\1\0\0\0\0\0");
	cr_assert_eq(status_of(), ESP_EUNAVAIL);
}

Test(dns_reply, only_records_of_the_name_the_class_and_the_type_count)
{
	struct reply *r;

	question(ESP_DNS_A, "x.test", 0x8180, 4, 0, 0);
	PUT("\4evil\4test\0\0\1\0\1\0\0\0\1\0\4\6\6\6\6");
	PUT("\xc0\x0c\0\1\0\3\0\0\0\1\0\4\6\6\6\6");          /* CHAOS */
	RR(ESP_DNS_TXT, 1, "\1x");
	RR(ESP_DNS_A, 9, "\1\2\3\4");
	r = read_it();
	cr_assert_eq(r->n, 1u);
	cr_assert_eq(r->ttl, 9u);
	cr_assert_eq(memcmp(r->record[0].data.ptr, "\1\2\3\4", 4), 0);
	reply_unref(r);
}

Test(dns_reply, no_name_goes_in_a_circle)
{
	uint32_t end;

	question(ESP_DNS_A, "x.test", 0x8180, 1, 0, 0);
	end = (uint32_t)m.n;
	put16(0xc000 | end);                                 /* itself */
	PUT("\0\1\0\1\0\0\0\1\0\4\1\2\3\4");
	cr_assert_eq(status_of(), ESP_EPROTO);
	m.n = end;
	PUT("\1a");
	put16(0xc000 | end);                                 /* the label before */
	PUT("\0\1\0\1\0\0\0\1\0\4\1\2\3\4");
	cr_assert_eq(status_of(), ESP_EPROTO);
	m.n = end;
	put16(0xc000 | (end + 12));                          /* forward */
	PUT("\0\1\0\1\0\0\0\1\0\4\0\0\0\0");
	cr_assert_eq(status_of(), ESP_EPROTO);
}

Test(dns_reply, no_name_is_longer_than_a_name)
{
	for (uint32_t last = 58; last <= 59; last++) {       /* behind it: a.test and the root, 8 bytes */
		char label[64];

		memset(label, 'x', sizeof label);
		question(ESP_DNS_A, "a.test", 0x8180, 1, 0, 0);
		for (uint32_t i = 0; i < 4; i++) {
			uint8_t n = (uint8_t)(i < 3 ? 62 : last - 1);

			put(&n, 1);
			put(label, n);
		}
		put16(0xc00c);
		PUT("\0\1\0\1\0\0\0\1\0\4\1\2\3\4");
		cr_assert_eq(status_of(), last == 58 ? ESP_ENOENT : ESP_EPROTO, "%u", last);
	}
}

Test(dns_reply, pointers_to_pointers_have_an_end)
{
	size_t first;

	question(ESP_DNS_TXT, "x.test", 0x8180, 2, 0, 0);
	first = m.n + 12 + 1;
	rr_head(99, 1, 1 + 2 * 200);
	PUT("\0");
	put16(0xc00c);
	for (size_t i = 1; i < 200; i++)
		put16((uint32_t)(0xc000 | (first + 2 * (i - 1))));
	put16((uint32_t)(0xc000 | (first + 2 * 100)));       /* a hundred jumps are fine */
	PUT("\0\x10\0\1\0\0\0\1\0\2\1y");
	cr_assert_eq(status_of(), ESP_OK);
	m.n -= 14;
	put16((uint32_t)(0xc000 | (first + 2 * 199)));
	PUT("\0\x10\0\1\0\0\0\1\0\2\1y");
	cr_assert_eq(status_of(), ESP_EPROTO);
}

Test(dns_reply, more_records_than_the_bound_are_too_many)
{
	for (uint32_t n = ESP_DNS_RECORDS; n <= ESP_DNS_RECORDS + 1; n++) {
		question(ESP_DNS_A, "x.test", 0x8180, n, 0, 0);
		for (uint32_t i = 0; i < n; i++)
			RR(ESP_DNS_A, 1, "\1\2\3\4");
		cr_assert_eq(status_of(), n > ESP_DNS_RECORDS ? ESP_E2BIG : ESP_OK);
	}
	question(ESP_DNS_A, "x.test", 0x8180, 65535, 0, 0);  /* says so, and has one */
	RR(ESP_DNS_A, 1, "\1\2\3\4");
	cr_assert_eq(status_of(), ESP_EPROTO);
}

/* Cut at every byte it is refused, or says less; never more, and never reads behind its end. */
Test(dns_reply, cut_anywhere_is_malformed)
{
	size_t whole;

	question(ESP_DNS_MX, "example.org", 0x8180, 2, 0, 1);
	RR(ESP_DNS_CNAME, 300, "\3www\xc0\x0c");
	PUT("\3www\xc0\x0c\0\x0f\0\1\0\0\0\5\0\6\0\1\1m\xc0\x0c");
	PUT("\0\0\x29\4\xd0\0\0\0\0\0\0");
	whole = m.n;
	cr_assert_eq(status_of(), ESP_OK);
	for (m.n = 0; m.n < whole; m.n++) {
		esp_status st;

		st = status_of();
		cr_assert_eq(st, ESP_EPROTO, "cut at %zu: %d", m.n, st);
	}
}
