/* modules/filter/llm/text.c: what of a message is shown to the model. */
#include "llmtest.h"

static char *shown(esp_str raw, size_t cap)
{
	esp_buf out;
	char *text;

	esp_buf_init(&out, cap + 64);
	cr_assert_eq(text_prepare(raw, cap, &out), ESP_OK);
	text = malloc(out.len + 1);
	memcpy(text, out.data, out.len);
	text[out.len] = '\0';
	cr_assert_eq(strlen(text), out.len, "no NUL");
	esp_buf_free(&out);
	return text;
}

static void shows(const char *raw, const char *want)
{
	char *text = shown(esp_str_z(raw), 4096);

	cr_assert_str_eq(text, want);
	free(text);
}

Test(text, sender_subject_and_text_in_utf8_each_on_a_line)
{
	shows("Received: x\r\nFrom: =?iso-8859-1?q?J=FCrgen?= <j@a.test>\r\nSubject: =?utf-8?b?R3LDvMOfZQ==?=\r\n"
		" und mehr\r\n\r\nHallo,\r\n\r\n wie   geht's?\r\n", "From: J\xc3\xbcrgen <j@a.test>\n"
		"Subject: Gr\xc3\xbc\xc3\x9f" "e und mehr\n\nHallo, wie geht's?");
	shows("Subject: x\r\n\r\n", "From: \nSubject: x\n\n");
	shows("", "From: \nSubject: \n\n");
	shows("Subject: =?iso-2022-jp?b?GyRCRnxLXDhsGyhC?=\r\n\r\nx",
		"From: \nSubject: \xe6\x97\xa5\xe6\x9c\xac\xe8\xaa\x9e\n\nx");
}

Test(text, the_plain_alternative_before_html_and_no_attachment)
{
	shows("Subject: s\r\nContent-Type: multipart/mixed; boundary=o\r\n\r\n--o\r\n"
		  "Content-Type: text/plain; name=notes.txt\r\nContent-Disposition: attachment; "
		  "filename=notes.txt\r\n\r\nsecret\r\n--o\r\n"
		  "Content-Type: multipart/alternative; boundary=i\r\n\r\n--i\r\nContent-Type: "
		  "text/html\r\n\r\n<b>html</b>\r\n--i\r\n"
		  "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: "
		  "base64\r\n\r\nUGxhaW4gdGV4dCDigqw=\r\n--i--\r\n--o--\r\n",
		"From: \nSubject: s\n\nPlain text \xe2\x82\xac");
}

Test(text, html_without_tags_styles_and_scripts_where_there_is_nothing_else_to_read)
{
	shows("Subject: s\r\nContent-Type: multipart/alternative; boundary=i\r\n\r\n--i\r\nContent-Type: "
		  "text/plain\r\n\r\n \r\n\t\r\n--i\r\n"
		  "Content-Type: text/html; charset=iso-8859-1\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
		  "<html><head><title>t</title><style>p { color: red }</style></head><body><!-- hidden --><p>Caf=E9 &amp; "
		  "=\r\nmore</p>"
		  "<script>alert(1)</script><p>end</p></body></html>\r\n--i--\r\n",
		"From: \nSubject: s\n\nCaf\xc3\xa9 & more end");
}

/* Whatever a message is: valid UTF-8, within the cap, and no line but ours. */
static void keeps_the_form(const char *raw, size_t len, size_t cap)
{
	char *copy = malloc(len ? len : 1), *text;
	size_t lines = 0;

	memcpy(copy, raw, len);                /* exactly: a sanitizer sees a read behind it */
	text = shown((esp_str){ copy, len }, cap);
	cr_assert(strlen(text) <= cap + 32 && esp_utf8_valid(esp_str_z(text)), "%zu of %zu: %s", strlen(text), cap, text);
	for (const char *p = text; *p; p++) {
		lines += *p == '\n';
		cr_assert((unsigned char)*p >= ' ' || *p == '\n', "control %d", *p);
	}
	cr_assert_eq(lines, 3);
	free(text);
	free(copy);
}

static const char LETTER[] =
	"From: \"\xe2\x82\xac\" <a@b.test>\r\nSubject: =?utf-8?q?=E2=82=AC=0A=0Dx=00?= \x01\x7f\r\n"
	"Content-Type: multipart/mixed; boundary=\"o o\"\r\n\r\n--o o\r\nContent-Type: text/plain; charset=utf-8\r\n"
	"Content-Transfer-Encoding: quoted-printable\r\n\r\n=E2=82=AC=00=0A=1B[31m \xff\xfe =E2=82\r\n--o "
	"o\r\nContent-Type: text/html\r\n\r\n"
	"<p>&#8364;&#0;<!--\r\n--o o--\r\n";

Test(text, cut_at_every_byte_and_at_every_cap_it_keeps_its_form)
{
	for (size_t i = 0; i <= sizeof LETTER - 1; i++)
		keeps_the_form(LETTER, i, 4096);
	for (size_t cap = TEXT_MIN; cap < TEXT_MIN + 40; cap++)
		keeps_the_form(LETTER, sizeof LETTER - 1, cap);
}

Test(text, what_is_huge_is_cut_and_long_fields_leave_room_for_the_text)
{
	size_t len = 400u << 10;
	char *big = malloc(len + 1), *text;

	memset(big, 'x', len);
	memcpy(big, "Subject: ", 9);
	memcpy(big + 2000, "\r\n\r\nthe text", 12);
	big[len] = '\0';
	text = shown((esp_str){ big, len }, 1000);
	cr_assert(strstr(text, "\n\nthe textxxx"), "%s", text);
	cr_assert(strlen(text) >= 1000 && strlen(text) < 1032, "%zu", strlen(text));
	free(text);
	keeps_the_form(big, len, TEXT_MAX);
	for (size_t i = 0; i + 3 <= len; i += 3)           /* a character of three bytes at every place */
		memcpy(big + i, "\xe2\x82\xac", 3);
	memcpy(big, "A: \r\nContent-Type: text/plain; charset=utf-8\r\n\r\n", 48);
	for (size_t cap = 1000; cap < 1006; cap++)
		keeps_the_form(big, len, cap);
	free(big);
}
