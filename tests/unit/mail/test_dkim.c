#include "mailtest.h"
#include <esp/mail/dkim.h>

/* The canonical form for every split into two, and through a buffer that is nearly always full. */
static void body_is(uint32_t form, const char *in, const char *want)
{
	esp_str s = esp_str_z(in);

	for (size_t cut = 0; cut <= s.len; cut++)
		for (size_t room = 8; room <= 200; room += 192) {
			esp_str parts[2] = { { s.ptr, cut }, { s.ptr + cut, s.len - cut } };
			esp_dkim_body d = { .form = form };
			char mem[200];
			esp_buf out, all;

			esp_buf_init_fixed(&out, mem, room);
			esp_buf_init(&all, 1000);
			for (int i = 0; i < 2; i++) {
				esp_status st;

				do {
					size_t used;

					st = esp_dkim_body_feed(&d, parts[i], &used, &out);
					parts[i].ptr += used;
					parts[i].len -= used;
					esp_buf_add_str(&all, esp_buf_str(&out));
					esp_buf_reset(&out);
				} while (st == ESP_E2BIG);
				cr_assert_eq(st, ESP_OK);
			}
			cr_assert_eq(esp_dkim_body_end(&d, &out), ESP_OK);
			esp_buf_add_str(&all, esp_buf_str(&out));
			assert_buf(&all, want);
			esp_buf_free(&all);
		}
}

Test(dkim, canonicalises_bodies_as_rfc_6376_says)
{
	body_is(ESP_DKIM_RELAXED, " C \r\nD \t E\r\n\r\n\r\n", " C\r\nD E\r\n");
	body_is(ESP_DKIM_SIMPLE, " C \r\nD \t E\r\n\r\n\r\n", " C \r\nD \t E\r\n");
	body_is(ESP_DKIM_RELAXED, "", "");
	body_is(ESP_DKIM_SIMPLE, "", "\r\n");
	body_is(ESP_DKIM_RELAXED, "\r\n\r\n", "");
	body_is(ESP_DKIM_SIMPLE, "\r\n\r\n", "\r\n");
	body_is(ESP_DKIM_RELAXED, " \t\r\n \r\n", "");
	body_is(ESP_DKIM_SIMPLE, " \r\n", " \r\n");
	body_is(ESP_DKIM_RELAXED, "\r\n\r\na", "\r\n\r\na\r\n");
	body_is(ESP_DKIM_SIMPLE, "a\r\n\r\n\r\n\r\n\r\nb", "a\r\n\r\n\r\n\r\n\r\nb\r\n");
	body_is(ESP_DKIM_SIMPLE, "a\rb\n\r\n", "a\rb\n\r\n");
	body_is(ESP_DKIM_SIMPLE, "a\r", "a\r\r\n");
}

static void header_is(uint32_t form, const char *in, const char *want)
{
	char mem[300];
	esp_buf b;

	esp_buf_init_fixed(&b, mem, sizeof(mem));
	cr_assert_eq(esp_dkim_header(form, esp_str_z(in), &b), ESP_OK);
	assert_buf(&b, want);
}

Test(dkim, canonicalises_headers_as_rfc_6376_says)
{
	header_is(ESP_DKIM_RELAXED, "A: X\r\n", "a:X\r\n");
	header_is(ESP_DKIM_RELAXED, "B : Y\t\r\n\tZ  \r\n", "b:Y Z\r\n");
	header_is(ESP_DKIM_RELAXED, "B:\r\n", "b:\r\n");
	header_is(ESP_DKIM_SIMPLE, "B : Y\t\r\n\tZ  \r\n", "B : Y\t\r\n\tZ  \r\n");
}

Test(dkim, empties_the_signature_and_nothing_else)
{
	static const char *const fields[][2] = {
		{ "DKIM-Signature: v=1; bh=abc=; b=xyz\r\n =; d=x\r\n", "DKIM-Signature: v=1; bh=abc=; b=; d=x\r\n" },
		{ "DKIM-Signature: b = xyz\r\n", "DKIM-Signature: b =\r\n" },
		{ "DKIM-Signature: bb=xyz\r\n", "DKIM-Signature: bb=xyz\r\n" },
		{ "none", "none" },
	};
	for (size_t i = 0; i < sizeof(fields) / sizeof(*fields); i++) {
		char mem[300];
		esp_buf b;

		esp_buf_init_fixed(&b, mem, sizeof(mem));
		esp_dkim_without_b(esp_str_z(fields[i][0]), &b);
		assert_buf(&b, fields[i][1]);
	}
}
