/* Escaping and bounds of text that other programs read. */
#include "bustest.h"

static esp_str str(const char *s)
{
	return (esp_str){ s, strlen(s) };
}

#define expect_line(l, want) cr_expect(esp_str_eq(line_str(&(l)), str(want)), "got %.*s", ESP_FMT(line_str(&(l))))

Test(line, appends_all_or_nothing)
{
	char buf[8];
	struct line l = line_on(buf, sizeof buf);

	line_puts(&l, "abcdef");
	line_puts(&l, "xyz");
	cr_expect(l.cut);
	line_puts(&l, "g");   /* once cut, nothing is added: the end of the text is where it was cut */
	expect_line(l, "abcdef");
}

Test(line, writes_every_byte_value_as_valid_json)
{
	char buf[64];

	for (int c = 0; c < 256; c++) {
		char s[3] = { 'a', (char)c, 'b' }, object[64];
		struct line l = line_on(buf, sizeof buf);
		int n;

		line_json(&l, (esp_str){ s, 3 });
		n = snprintf(object, sizeof object, "{\"k\":%.*s}", (int)l.len, buf);
		cr_expect(json_object_ok(object, (size_t)n), "byte %d gives %s", c, object);
	}
}

Test(line, replaces_what_is_not_utf8)
{
	static const char *const bad[] = { "\xff", "\xc0\xaf", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xe2\x82", "\x80" };

	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		char buf[128];
		struct line l = line_on(buf, sizeof buf);

		line_json(&l, str(bad[i]));
		cr_expect(memmem(buf, l.len, "\xef\xbf\xbd", 3) != NULL, "case %zu", i);
		cr_expect(memmem(buf, l.len, bad[i], strlen(bad[i])) == NULL, "case %zu", i);
	}
}

Test(line, keeps_characters_of_every_length)
{
	char buf[128];
	struct line l = line_on(buf, sizeof buf);

	line_json(&l, str("z\xc3\xbc\xe2\x82\xac\xf0\x9f\x98\x80"));
	expect_line(l, "\"z\xc3\xbc\xe2\x82\xac\xf0\x9f\x98\x80\"");
}

Test(line, cuts_long_values_at_a_character)
{
	static char big[3000], buf[8192];
	struct line l = line_on(buf, sizeof buf);

	memset(big, 'a', sizeof big);
	for (size_t i = LINE_VALUE_MAX - 1; i + 1 < sizeof big; i += 2)
		memcpy(big + i, "\xc3\xbc", 2);
	line_json(&l, (esp_str){ big, sizeof big });
	cr_expect_eq(l.len, (size_t)LINE_VALUE_MAX - 1 + 3 + 2);
	cr_expect(memmem(buf, l.len, "\xef\xbf\xbd", 3) == NULL, "half a character was shown");
}

Test(line, quotes_logfmt_values_that_could_be_misread)
{
	static const struct { const char *in, *out; } cases[] = {
		{ "plain", "plain" }, { "", "\"\"" }, { "two words", "\"two words\"" }, { "a=b", "\"a=b\"" },
		{ "q\"q", "\"q\\\"q\"" }, { "new\nline", "\"new\\nline\"" }, { "\x01", "\"\\x01\"" }, { "a\\b", "\"a\\\\b\"" },
	};

	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		char buf[64];
		struct line l = line_on(buf, sizeof buf);

		line_logfmt(&l, str(cases[i].in));
		expect_line(l, cases[i].out);
	}
}

Test(line, writes_numbers_times_and_ids)
{
	char buf[256];
	struct line l = line_on(buf, sizeof buf);
	esp_id id = { { 0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef, 0xfe, 0xdc, 0xba, 0x98, 0x76, 0x54, 0x32, 0x10 } };

	line_int(&l, INT64_MIN);
	line_puts(&l, " ");
	line_nsec(&l, 1250000);
	line_puts(&l, " ");
	line_nsec(&l, -ESP_SEC);
	line_puts(&l, " ");
	line_id(&l, &id);
	line_puts(&l, " ");
	line_time(&l, 1763800526, 123456789);
	line_puts(&l, " ");
	line_double(&l, 0.1);
	expect_line(l, "-9223372036854775808 0.001250 -1.000000 01234567-89ab-cdef-fedc-ba9876543210 "
	               "2025-11-22T08:35:26.123Z 0.1");
}
