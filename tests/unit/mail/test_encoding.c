#include "mailtest.h"
#include <esp/mail/date.h>
#include <esp/mail/encoding.h>
#include <esp/mail/utf8.h>

typedef void (*decoder)(const esp_str *parts, esp_buf *out);

static void b64(const esp_str *parts, esp_buf *out)
{
	esp_base64 d = { 0 };

	for (int i = 0; i < 3; i++)
		esp_base64_feed(&d, parts[i], out);
}

static void qp(const esp_str *parts, esp_buf *out)
{
	esp_qp d = { 0 };

	for (int i = 0; i < 3; i++)
		esp_qp_feed(&d, parts[i], out);
	esp_qp_end(&d, out);
}

/* The whole decodes to `want`, and so does every split into three. */
static void decodes(decoder decode, const char *in, esp_str want)
{
	esp_str s = esp_str_z(in);
	esp_buf b;

	esp_buf_init(&b, 10000);
	for (size_t a = 0; a <= s.len; a++)
		for (size_t z = a; z <= s.len; z++) {
			esp_str parts[3] = { { s.ptr, a }, { s.ptr + a, z - a }, { s.ptr + z, s.len - z } };

			esp_buf_reset(&b);
			decode(parts, &b);
			cr_assert(esp_str_eq(esp_buf_str(&b), want), "<%s> at %zu,%zu: <%.*s>", in, a, z, (int)b.len, b.data);
		}
	esp_buf_free(&b);
}

Test(base64, reads_leniently_in_every_split)
{
	decodes(b64, "", ESP_STR(""));
	decodes(b64, "Zm9vYmFy", ESP_STR("foobar"));
	decodes(b64, "Zm9v\r\nYmE=", ESP_STR("fooba"));
	decodes(b64, "Zm9vYg==Zm9v", ESP_STR("foobfoo"));
	decodes(b64, "Zm9*vYg", ESP_STR("foob"));
	decodes(b64, "/+8=", ESP_STR("\xff\xef"));
}

Test(base64, reads_strictly_when_it_matters)
{
	static const char *const bad[] = { "A", "AA", "AAA", "A===", "====", "AA=A", "AB==", "AAB=", "AA==AA==", "AA\r\n",
		"A-_A", " AAA" };
	esp_buf b;

	esp_buf_init(&b, 100);
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		cr_expect_eq(esp_base64_decode(esp_str_z(bad[i]), &b), ESP_EPROTO, "%s", bad[i]);
	esp_buf_reset(&b);
	cr_assert_eq(esp_base64_decode(ESP_STR("AGEAYg=="), &b), ESP_OK);
	assert_str(esp_buf_str(&b), ESP_STR("\0a\0b"));
	esp_buf_free(&b);
}

Test(base64, writes_what_it_reads)
{
	char bytes[100];
	esp_buf wire, back;

	esp_buf_init(&wire, 1000);
	esp_buf_init(&back, 1000);
	for (size_t n = 0; n <= sizeof(bytes); n++) {
		esp_base64 d = { 0 };

		if (n)
			bytes[n - 1] = (char)(n * 37);
		esp_buf_reset(&wire);
		esp_buf_reset(&back);
		esp_base64_encode(esp_str_of(bytes, n), 0, &wire);
		cr_assert_eq(esp_base64_decode(esp_buf_str(&wire), &back), ESP_OK);
		assert_str(esp_buf_str(&back), esp_str_of(bytes, n));
		esp_buf_reset(&wire);
		esp_buf_reset(&back);
		esp_base64_encode(esp_str_of(bytes, n), 76, &wire);
		esp_base64_feed(&d, esp_buf_str(&wire), &back);
		assert_str(esp_buf_str(&back), esp_str_of(bytes, n));
	}
	esp_buf_free(&wire);
	esp_buf_free(&back);
}

Test(quoted_printable, reads_in_every_split)
{
	decodes(qp, "a=3Db", ESP_STR("a=b"));
	decodes(qp, "soft=\r\nbreak", ESP_STR("softbreak"));
	decodes(qp, "soft= \t\r\nbreak", ESP_STR("softbreak"));
	decodes(qp, "soft=\nbreak", ESP_STR("softbreak"));
	decodes(qp, "trail \t \r\nx", ESP_STR("trail\r\nx"));
	decodes(qp, "trail \nx", ESP_STR("trail\nx"));
	decodes(qp, "keep  it", ESP_STR("keep  it"));
	decodes(qp, "bad=XYz=4", ESP_STR("bad=XYz=4"));
	decodes(qp, "end=", ESP_STR("end"));
	decodes(qp, "end  ", ESP_STR("end"));
	decodes(qp, "a= b", ESP_STR("a= b"));
	decodes(qp, "a=\rb =41", ESP_STR("a=\rb A"));
	decodes(qp, "=c3=bc", ESP_STR("\xc3\xbc"));
	decodes(qp, "==41", ESP_STR("=A"));
	decodes(qp, "a \rb", ESP_STR("a \rb"));
}

Test(quoted_printable, writes_short_lines_that_read_back)
{
	static const char text[] = "Dear all,\r\n.dot\r\nFrom here \r\n\xc3\xbc=\t\r\n"
		"a line that is longer than seventy-six characters because it simply goes on and on and on and on";
	esp_buf wire, back;
	esp_qp d = { 0 };
	size_t col = 0;

	esp_buf_init(&wire, 1000);
	esp_buf_init(&back, 1000);
	esp_qp_encode(ESP_STR("") , &wire);
	esp_qp_encode(esp_str_z(text), &wire);
	for (size_t i = 0; i < wire.len; i++) {
		col = wire.data[i] == '\n' ? 0 : col + 1;
		cr_assert_leq(col, 77);
		cr_assert((unsigned char)wire.data[i] < 127);
	}
	esp_qp_feed(&d, esp_buf_str(&wire), &back);
	esp_qp_end(&d, &back);
	assert_buf(&back, text);
	esp_buf_free(&wire);
	esp_buf_free(&back);
}

Test(utf7, turns_mailbox_names_both_ways)
{
	static const struct { const char *utf7, *utf8;
	} names[] = {
		{ "INBOX", "INBOX" },
		{ "a&-b", "a&b" },
		{ "&AOQ-", "\xc3\xa4" },
		{ "~peter/mail/&U,BTFw-/&ZeVnLIqe-",
			"~peter/mail/\xe5\x8f\xb0\xe5\x8c\x97/\xe6\x97\xa5\xe6\x9c\xac\xe8\xaa\x9e" },
		{ "&2D3eAA-", "\xf0\x9f\x98\x80" },
		{ "&AOQA9g-x", "\xc3\xa4\xc3\xb6x" },
		{ "&AOQ-&-", "\xc3\xa4&" },
		{ "&AAk-", "\t" },
	};
	esp_buf b;

	esp_buf_init(&b, 1000);
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		esp_buf_reset(&b);
		cr_expect_eq(esp_utf7_to_utf8(esp_str_z(names[i].utf7), &b), ESP_OK, "%s", names[i].utf7);
		assert_buf(&b, names[i].utf8);
		esp_buf_reset(&b);
		cr_expect_eq(esp_utf8_to_utf7(esp_str_z(names[i].utf8), &b), ESP_OK);
		assert_buf(&b, names[i].utf7);
	}
	esp_buf_free(&b);
}

Test(utf7, refuses_every_second_spelling)
{
	static const char *const bad[] = { "&", "&AOQ", "&AG-", "&AGE-", "&AOQ-&APY-", "&2D0-", "&3gA-", "&AOR-", "&AOQA-",
		"\xc3\xa4", "a\tb", "&*-", "&AAAA-", "&AOQ=-", "&ACYA5A-" };
	esp_buf b;

	esp_buf_init(&b, 1000);
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		cr_expect_eq(esp_utf7_to_utf8(esp_str_z(bad[i]), &b), ESP_EPROTO, "%s", bad[i]);
	cr_expect_eq(esp_utf8_to_utf7(ESP_STR("\xff"), &b), ESP_EPROTO);
	esp_buf_free(&b);
}

Test(utf8, knows_valid_from_invalid)
{
	static const char *const bad[] = { "\x80", "\xc0\x80", "\xc1\xbf", "\xe0\x80\x80", "\xed\xa0\x80",
		"\xf0\x80\x80\x80", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xff", "\xc3", "\xe2\x82", "a\xc3(" };

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		cr_expect(!esp_utf8_valid(esp_str_z(bad[i])), "%zu", i);
	cr_assert(esp_utf8_valid(ESP_STR("a\xc3\xbc\xe2\x82\xac\xf0\x9f\x98\x80\xf4\x8f\xbf\xbf\xed\x9f\xbf")));
}

Test(utf8, runs_end_where_the_characters_do)
{
	char text[40], room[16];
	esp_buf out;

	for (size_t len = 0; len <= sizeof text; len++) {
		for (size_t at = 0; at < len; at++) {
			memset(text, 'a', sizeof text);
			text[at] = '\xc3';
			cr_assert_eq(esp_ascii_run(esp_str_of(text, len)), at);
			cr_assert_eq(esp_utf8_run(esp_str_of(text, len)), at);
			if (at + 1 == len)
				continue;
			text[at + 1] = '\xbc';
			cr_assert_eq(esp_ascii_run(esp_str_of(text, len)), at);
			cr_assert_eq(esp_utf8_run(esp_str_of(text, len)), len);
		}
		memset(text, 'a', sizeof text);
		cr_assert_eq(esp_ascii_run(esp_str_of(text, len)), len);
	}
	esp_buf_init_fixed(&out, room, 2);
	cr_assert_eq(esp_fold_unicode(ESP_STR("abc"), &out), ESP_E2BIG);
	cr_assert(esp_str_eq(esp_buf_str(&out), ESP_STR("AB")), "as much as there is room for");
}

Test(fold, makes_equal_what_rfc_5051_calls_equal)
{
	static const char *const equal[][2] = { { "aBc", "AbC" }, { "\xc3\xbc", "u\xcc\x88" }, { "\xc3\x9c", "\xc3\xbc" },
		{ "\xe2\x84\xab", "\xc3\xa5" }, { "\xce\xa3", "\xcf\x83" }, { "\xea\xb0\x80", "\xe1\x84\x80\xe1\x85\xa1" },
		{ "\xef\xbd\x81", "A" } };

	for (size_t i = 0; i < sizeof(equal) / sizeof(*equal); i++) {
		char m1[100], m2[100];
		esp_buf a, b;

		esp_buf_init_fixed(&a, m1, sizeof(m1));
		esp_buf_init_fixed(&b, m2, sizeof(m2));
		esp_fold_unicode(esp_str_z(equal[i][0]), &a);
		esp_fold_unicode(esp_str_z(equal[i][1]), &b);
		cr_expect(esp_str_eq(esp_buf_str(&a), esp_buf_str(&b)), "%s %s -> %.*s %.*s", equal[i][0], equal[i][1],
			(int)a.len, m1, (int)b.len, m2);
	}
}

Test(date, reads_what_headers_contain)
{
	static const struct { const char *text; esp_time want; int32_t zone; } dates[] = {
		{ "Mon, 02 Jan 2006 15:04:05 -0700", 1136239445, -420 },
		{ "2 Jan 2006 15:04:05 -0700 (MST)", 1136239445, -420 },
		{ "Mon, 2 Jan 06 22:04:05 GMT", 1136239445, 0 }, { "Mon, 02 Jan 2006 15:04:05 MST", 1136239445, -420 },
		{ "Mon,  2 Jan 106 22:04:05 UT", 1136239445, 0 }, { "Mon Jan  2 22:04:05 2006", 1136239445, 0 },
		{ "Mon Jan  2 15:04:05 MST 2006", 1136239445, -420 }, { "2006-01-02T15:04:05-07:00", 1136239445, -420 },
		{ "2006-01-02T22:04:05.123Z", 1136239445, 0 }, { "2006-01-02 22:04:05", 1136239445, 0 },
		{ "Mon, 02 Jan 2006 15:04 -0700", 1136239440, -420 },
		{ "Mon, (c) 02 Jan\r\n 2006 (d(e)) 22 (x) :04:05 +0000", -1, 0 },
		{ "Mon, 02 January 2006 10:04:05 PM +0000", 1136239445, 0 }, { "02-Jan-2006 22:04:05 +0000", 1136239445, 0 },
		{ "Mon, 02 Jan 2006 22.04.05 +0000", 1136239445, 0 }, { "Thu, 29 Feb 2024 23:59:60 +0000", 1709251200, 0 },
		{ "Mon, 02 Jan 2006 22:04:05 GMT+0000", 1136239445, 0 }, { "1 Jan 1970 00:00:00 +0100", -3600, 60 },
		{ "Mon, 02 Jan 2006 22:04:05 X", 1136239445, 0 }, { "31 Dec 9999 23:59:59 +0000", 253402300799, 0 },
	};

	for (size_t i = 0; i < sizeof(dates) / sizeof(*dates); i++) {
		esp_str s = tight(esp_str_z(dates[i].text));
		esp_time t = 0;
		int32_t zone = 0;

		if (dates[i].want != -1) {
			cr_expect_eq(esp_date_parse(s, &t, &zone), ESP_OK, "%s", dates[i].text);
			cr_expect(t == dates[i].want && zone == dates[i].zone, "%s: %lld %d", dates[i].text, (long long)t, zone);
		} else {
			(void)!esp_date_parse(s, &t, &zone);
		}
		free((void *)(uintptr_t)s.ptr);
	}
}

Test(date, refuses_what_is_none)
{
	static const char *const bad[] = { "", "Mon", "2 Jan", "Jan 2006", "32 Jan 2006 00:00:00", "30 Feb 2006 00:00:00",
		"29 Feb 2023", "2 Jan 2006 24:00:00", "2 Jan 2006 10:60:00", "99999999999 Jan 2006",
		"2 Jan 2006 10:", "2 Foo 2006", "2006-13-01", "0 Jan 2006" };
	esp_time t;

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		cr_expect_neq(esp_date_parse(esp_str_z(bad[i]), &t, NULL), ESP_OK, "%s", bad[i]);
}

Test(date, writes_and_reads_back_every_day_of_four_centuries)
{
	char mem[100];
	esp_buf b;

	for (esp_time t = -2208988800; t < 13569465600; t += 86400 * 3 + 3607) {
		esp_time back = 0;
		int32_t zone = 0, want = (int32_t)(t % 1440);

		esp_buf_init_fixed(&b, mem, sizeof(mem));
		if (t < -2208988800 + 86400)
			want = 0;
		cr_assert_eq(esp_date_write(t, want, &b), ESP_OK);
		cr_assert_eq(esp_date_parse(esp_buf_str(&b), &back, &zone), ESP_OK, "%.*s", (int)b.len, mem);
		cr_assert(back == t && zone == want, "%.*s", (int)b.len, mem);
		esp_buf_reset(&b);
		cr_assert_eq(esp_imap_datetime_write(t, want, &b), ESP_OK);
		cr_assert_eq(esp_imap_datetime_parse(esp_str_of(mem + 1, b.len - 2), &back, &zone), ESP_OK);
		cr_assert(back == t && zone == want);
	}
}

Test(date, reads_imap_dates_strictly)
{
	esp_time t;

	cr_assert_eq(esp_imap_date_parse(ESP_STR("2-Jan-2006"), &t), ESP_OK);
	cr_assert_eq(t, 1136160000);
	cr_assert_eq(esp_imap_date_parse(ESP_STR("02-jan-2006"), &t), ESP_OK);
	static const char *const bad[] = { "", "2-Jan-06", "2-Jan-2006x", "32-Jan-2006", "2-Foo-2006", "002-Jan-2006",
		"30-Feb-2006", "-Jan-2006" };
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		cr_expect_eq(esp_imap_date_parse(esp_str_z(bad[i]), &t), ESP_EPROTO, "%s", bad[i]);
	static const char *const badtimes[] = { "2-Jan-2006 15:04:05 +0000", "02-Jan-2006 15:04:05",
		"02-Jan-2006 25:04:05 +0000", "02-Jan-2006 15:04:05 0000", "02-Jan-2006 15:04:05 +00000",
		"02-Jan-2006 15:04:05 +2400" };
	for (size_t i = 0; i < sizeof(badtimes) / sizeof(*badtimes); i++)
		cr_expect_eq(esp_imap_datetime_parse(esp_str_z(badtimes[i]), &t, NULL), ESP_EPROTO, "%s", badtimes[i]);
}
