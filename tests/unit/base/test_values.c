/* tests/unit/base/test_values.c - str, hash, clock, id, status. */
#include "core/base/clock.h"
#include "core/base/hash.h"
#include "core/base/id.h"
#include "core/base/status.h"
#include "core/base/str.h"
#include "tests/support/test.h"

#include <errno.h>
#include <string.h>

Test(str, compares_searches_and_splits)
{
	esp_str rest = ESP_STR("a,,b"), part;
	char parts[16] = "";

	cr_assert(str_eq_nocase(ESP_STR("MaIl"), ESP_STR("mAiL")));
	cr_assert_not(str_eq_nocase(ESP_STR("mail"), ESP_STR("mails")));
	cr_assert_not(str_eq_nocase(ESP_STR("["), ESP_STR("{")), "only letters have cases");
	cr_assert(str_starts(ESP_STR("abc"), ESP_STR("ab")));
	cr_assert(str_ends(ESP_STR("abc"), ESP_STR("bc")));
	cr_assert_not(str_ends(ESP_STR("c"), ESP_STR("bc")));
	cr_assert_eq(str_find(ESP_STR("hello"), ESP_STR("llo")), 2);
	cr_assert_eq(str_find(ESP_STR("hello"), ESP_STR("x")), STR_NONE);
	cr_assert(str_eqz(str_trim(ESP_STR(" \t x y\r\n")), "x y"));
	cr_assert(str_cmp(ESP_STR("a"), ESP_STR("ab")) < 0);
	while (str_split(&rest, ',', &part)) {
		strncat(parts, part.ptr, part.len);
		strcat(parts, ";");
	}
	cr_assert_str_eq(parts, "a;;b;");
}

Test(str, converts_numbers_and_sees_every_overflow)
{
	uint64_t u;
	int64_t i;

	cr_assert_eq(str_u64(ESP_STR("18446744073709551615"), &u), ESP_OK);
	cr_assert_eq(u, UINT64_MAX);
	cr_assert_eq(str_u64(ESP_STR("18446744073709551616"), &u), ESP_E2BIG);
	cr_assert_eq(str_u64(ESP_STR(""), &u), ESP_EINVAL);
	cr_assert_eq(str_u64(ESP_STR("+1"), &u), ESP_EINVAL);
	cr_assert_eq(str_u64(ESP_STR("1 "), &u), ESP_EINVAL);
	cr_assert_eq(str_i64(ESP_STR("-9223372036854775808"), &i), ESP_OK);
	cr_assert_eq(i, INT64_MIN);
	cr_assert_eq(str_i64(ESP_STR("9223372036854775808"), &i), ESP_E2BIG);
	cr_assert_eq(str_i64(ESP_STR("-"), &i), ESP_EINVAL);
}

Test(str, copies_into_fixed_room_or_not_at_all)
{
	char b[4];

	cr_assert_eq(str_copy(b, sizeof(b), ESP_STR("abc")), ESP_OK);
	cr_assert_str_eq(b, "abc");
	cr_assert_eq(str_copy(b, sizeof(b), ESP_STR("abcd")), ESP_E2BIG);
	cr_assert_str_eq(b, "");
	str_copy_cut(b, sizeof(b), ESP_STR("abcd"));
	cr_assert_str_eq(b, "abc");
}

Test(hash, matches_the_published_vectors)
{
	const struct siphash_key k = { 0x0706050403020100u, 0x0f0e0d0c0b0a0908u };
	unsigned char in[15];
	size_t i;

	for (i = 0; i < sizeof(in); i++)
		in[i] = (unsigned char)i;
	cr_assert_eq(siphash(&k, in, 15), 0xa129ca6149be45e5u); /* SipHash paper, appendix A */
	cr_assert_eq(siphash(&k, in, 0), 0x726fdb47dd0e0e31u);
	cr_assert_eq(crc32c(0, "123456789", 9), 0xe3069283u);
	cr_assert_eq(crc32c(crc32c(0, "1234", 4), "56789", 5), 0xe3069283u);
}

Test(hash, hex_goes_both_ways_and_refuses_the_rest)
{
	char text[9];
	unsigned char out[4];

	hex_encode(text, "\x00\xff\x7f\x1a", 4);
	cr_assert_str_eq(text, "00ff7f1a");
	cr_assert_eq(hex_decode(out, 4, ESP_STR("00FF7f1A")), ESP_OK);
	cr_assert_eq(memcmp(out, "\x00\xff\x7f\x1a", 4), 0);
	cr_assert_eq(hex_decode(out, 4, ESP_STR("00FF7f1")), ESP_EINVAL);
	cr_assert_eq(hex_decode(out, 4, ESP_STR("00FF7f1g")), ESP_EINVAL);
}

Test(hash, random_below_stays_below_and_reaches_all)
{
	unsigned seen[7] = { 0 };
	int i;

	for (i = 0; i < 1000; i++) {
		uint64_t v = random_below(7);

		cr_assert_lt(v, 7);
		seen[v]++;
	}
	for (i = 0; i < 7; i++)
		cr_assert_gt(seen[i], 0);
}

Test(clock, writes_and_reads_rfc_3339)
{
	static const struct { const char *text; esp_time sec; int64_t nsec; } good[] = {
		{ "1970-01-01T00:00:00.000Z", 0, 0 },
		{ "2026-11-22T08:06:22.123Z", 1795334782, 123000000 },
		{ "2000-02-29T23:59:59.999Z", 951868799, 999000000 },
		{ "1969-12-31T23:59:59.000Z", -1, 0 },
	};
	static const char *const bad[] = { "", "2026-11-22", "2026-13-01T00:00:00Z", "2025-02-29T00:00:00Z",
		"2026-01-01T24:00:00Z", "2026-01-01T00:00:00", "2026-01-01T00:00:00.Z", "2026-01-01T00:00:00Zx",
		"2026-01-01T00:00:00+1:00", "2026-01-01T00:00:00.1234567890Z" };
	char buf[CLOCK_TEXT_MAX];
	esp_time sec;
	int64_t nsec;
	size_t i;

	for (i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		cr_assert_eq(clock_text(buf, good[i].sec, good[i].nsec), strlen(good[i].text));
		cr_assert_str_eq(buf, good[i].text);
		cr_assert_eq(clock_parse(str_of(good[i].text), &sec, &nsec), ESP_OK);
		cr_assert_eq(sec, good[i].sec);
		cr_assert_eq(nsec, good[i].nsec);
	}
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		cr_assert_eq(clock_parse(str_of(bad[i]), &sec, &nsec), ESP_EINVAL, "%s", bad[i]);
	cr_assert_eq(clock_parse(ESP_STR("2026-11-22t09:06:22+01:00"), &sec, NULL), ESP_OK);
	cr_assert_eq(sec, 1795334782);
	cr_assert_lt(clock_text(buf, INT64_MAX / 2, 0), CLOCK_TEXT_MAX);
	cr_assert_eq(clock_earlier(0, 5), 5);
	cr_assert_eq(clock_earlier(4, 5), 4);
}

Test(id, grows_strictly_and_carries_its_time)
{
	esp_id last = id_new();
	char text[ID_TEXT_MAX];
	esp_id back;
	int64_t nsec, msec = clock_wall(&nsec) * 1000;
	int i;

	for (i = 0; i < 100000; i++) {
		esp_id next = id_new();

		cr_assert_lt(id_cmp(last, next), 0);
		last = next;
	}
	cr_assert_eq(last.b[6] >> 4, 7);
	cr_assert_eq(last.b[8] >> 6, 2);
	cr_assert_geq(id_msec(last), msec);
	cr_assert_lt(id_msec(last), msec + 60000);
	id_text(text, last);
	cr_assert_eq(strlen(text), 36);
	cr_assert_eq(id_parse(str_of(text), &back), ESP_OK);
	cr_assert(id_eq(last, back));
	text[8] = 'x';
	cr_assert_eq(id_parse(str_of(text), &back), ESP_EINVAL);
	cr_assert_eq(id_parse(ESP_STR("0"), &back), ESP_EINVAL);
}

Test(status, every_status_has_a_name_and_a_text)
{
	esp_status st;

	for (st = ESP_OK; st >= ESP_EUSAGE; st--) {
		cr_assert_not_null(status_name(st));
		cr_assert_gt(strlen(status_text(st)), 0);
	}
	cr_assert_str_eq(status_name(ESP_EUSAGE), "ESP_EUSAGE");
	cr_assert_str_eq(status_name(ESP_EUSAGE - 1), "ESP_E?");
	cr_assert_str_eq(status_name(5), "ESP_E?");
	cr_assert_eq(status_from_errno(ENOSPC), ESP_ENOSPC);
	cr_assert_eq(status_from_errno(0), ESP_OK);
	cr_assert_eq(status_from_errno(99999), ESP_EIO);
}

Test(status, fills_the_reason_within_the_callers_size)
{
	esp_err e = ESP_ERR_INIT;
	struct { esp_err e; char after[8]; } old = { .e = { .size = offsetof(esp_err, text) + 10 } };

	errno = ENOENT;
	cr_assert_eq(err_fail_errno(&e, "open %s", "/x"), ESP_ENOENT);
	cr_assert_str_eq(e.text, "open /x: No such file or directory");
	cr_assert_eq(errno, ENOENT);
	esp_err_set(&old.e, "a text that is longer than an older header had room for");
	cr_assert_eq(strlen(old.e.text), 9);
	esp_err_set(NULL, "nobody listens");
	esp_err_at(&e, "esp.conf", 12);
	cr_assert_str_eq(e.file, "esp.conf");
	cr_assert_eq(e.line, 12);
}
