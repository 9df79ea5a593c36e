#include "mailtest.h"
#include <esp/mail/imap_write.h>
#include <esp/mail/mime.h>
#include <esp/mail/text.h>

static void structure_is(esp_str message, bool extended, const char *want)
{
	esp_str s = tight(message);
	esp_mime m;
	esp_buf b;

	esp_buf_init(&b, 1000000);
	cr_assert_eq(esp_mime_parse(s, &m), ESP_OK);
	cr_assert_eq(esp_imap_add_structure(&b, &m, 0, extended), ESP_OK);
	cr_expect(esp_str_eq(esp_buf_str(&b), esp_str_z(want)), "got\n%.*s\nwant\n%s", (int)b.len, b.data, want);
	esp_mime_free(&m);
	esp_buf_free(&b);
	free((void *)(uintptr_t)s.ptr);
}

#define PLAIN "(\"text\" \"plain\" (\"charset\" \"us-ascii\") NIL NIL \"7bit\" "

Test(mime, describes_a_plain_message)
{
	structure_is(ESP_STR("Subject: x\r\n\r\nHello\r\n"), false, PLAIN "7 1)");
	structure_is(ESP_STR(""), false, PLAIN "0 0)");
	structure_is(ESP_STR("\r\n"), false, PLAIN "0 0)");
	structure_is(ESP_STR("Subject: x"), false, PLAIN "0 0)");
	structure_is(ESP_STR("\nHello\nyou"), true, PLAIN "9 2 NIL NIL NIL NIL)");
	structure_is(ESP_STR("Content-Type: TEXT/html; charset=\"utf-8\"\r\nContent-Transfer-Encoding: BASE64 "
						 "(x)\r\nContent-ID: <a@b>\r\n"
						 "Content-Description: some\r\n text\r\nContent-MD5: Q2hlY2s=\r\nContent-Disposition: inline; "
						 "filename=\"a \\\"b\"\r\n"
						 "Content-Language: en, de\r\nContent-Location: http://x/\r\n\r\nabc"),
		true,
		"(\"TEXT\" \"html\" (\"charset\" \"utf-8\") \"<a@b>\" \"some text\" \"BASE64\" 3 1 \"Q2hlY2s=\" (\"inline\" "
		"(\"filename\" \"a \\\"b\")) "
		"(\"en\" \"de\") \"http://x/\")");
	structure_is(ESP_STR("Content-Type: image/png\r\nContent-Language: en\r\n\r\nabc\r\n"), true,
		     "(\"image\" \"png\" NIL NIL NIL \"7bit\" 5 NIL NIL \"en\" NIL)");
}

Test(mime, describes_multiparts_with_preamble_and_epilogue)
{
	structure_is(
		ESP_STR("Content-Type: multipart/mixed; boundary=\"b 1\"\r\n\r\npreamble\r\n--b 1\r\n\r\none\r\n--b 1  \r\n"
				"Content-Type: image/png\r\n\r\n\r\n--b 1--\r\nepilogue\r\n--b 1\r\nnot a part\r\n"),
		true,
		"(" PLAIN "3 1 NIL NIL NIL NIL)(\"image\" \"png\" NIL NIL NIL \"7bit\" 0 NIL NIL NIL NIL) \"mixed\" "
				  "(\"boundary\" \"b 1\") NIL NIL NIL)");
	structure_is(ESP_STR("Content-Type: multipart/mixed; boundary=a\r\n\r\n--a\r\nContent-Type: multipart/alternative; "
						 "boundary=ab\r\n\r\n"
						 "--ab\r\n\r\nx\r\n--ab\r\nContent-Type: text/html\r\n\r\ny\r\n--a\r\n\r\nz\r\n--a--"),
		false,
		"((" PLAIN "1 1)(\"text\" \"html\" NIL NIL NIL \"7bit\" 1 1) \"alternative\")("
		"\"text\" \"plain\" (\"charset\" \"us-ascii\") NIL NIL \"7bit\" 1 1) \"mixed\")");
	structure_is(
		ESP_STR("Content-Type: multipart/mixed; boundary=a\n\n--a\n\nx\n--a--\n"), false, "(" PLAIN "1 1) \"mixed\")");
	structure_is(
		ESP_STR("Content-Type: multipart/mixed; boundary=a\r\n\r\nnothing"), false, "(" PLAIN "0 0) \"mixed\")");
	structure_is(ESP_STR("Content-Type: multipart/mixed\r\n\r\nnothing"), false,
		"(\"text\" \"plain\" NIL NIL NIL \"7bit\" 7 1)");
	structure_is(
		ESP_STR("Content-Type: multipart/mixed; boundary=a\r\n\r\n--a\r\nContent-Type: text/html\r\n--a\r\n--a--\r\n"),
		false,
		"((\"text\" \"html\" NIL NIL NIL \"7bit\" 0 0)(\"text\" \"plain\" (\"charset\" \"us-ascii\") NIL NIL \"7bit\" "
		"0 0) \"mixed\")");
}

Test(mime, describes_a_message_inside_a_message)
{
	structure_is(ESP_STR("Content-Type: multipart/digest; boundary=a\r\n\r\n--a\r\n\r\nFrom: a@b\r\nSubject: "
						 "s\r\n\r\nbody\r\n--a\r\n"
						 "Content-Type: message/rfc822\r\n\r\nContent-Type: multipart/mixed; "
						 "boundary=c\r\n\r\n--c\r\n\r\nx\r\n--a--\r\n"),
		false,
		"((\"message\" \"rfc822\" NIL NIL NIL \"7bit\" 29 (NIL \"s\" ((NIL NIL \"a\" \"b\")) ((NIL NIL \"a\" \"b\")) "
		"((NIL NIL \"a\" \"b\")) NIL NIL "
		"NIL NIL NIL) " PLAIN
		"4 1) 4)(\"message\" \"rfc822\" NIL NIL NIL \"7bit\" 53 (NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL) (" PLAIN
		"1 1) \"mixed\") 5) \"digest\")");
}

Test(mime, makes_what_is_too_deep_opaque_and_stops_at_two_thousand_parts)
{
	esp_buf b;
	esp_mime m;
	uint32_t deepest = 0;

	esp_buf_init(&b, 10000000);
	for (int i = 0; i < 100000; i++)
		esp_buf_addf(&b, "Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n", i, i);
	cr_assert_eq(esp_mime_parse(esp_buf_str(&b), &m), ESP_OK);
	for (uint32_t i = 0; i < m.n; i++) {
		deepest = m.part[i].depth > deepest ? m.part[i].depth : deepest;
		cr_assert(i == 0 || m.part[i].parent < i);
	}
	cr_assert_eq(deepest, 50);
	cr_assert(m.part[m.n - 1].flags & ESP_MIME_OPAQUE);
	esp_mime_free(&m);
	esp_buf_reset(&b);
	for (int i = 0; i < 100000; i++)
		esp_buf_add_z(&b, "Content-Type: message/rfc822\r\n\r\n");
	cr_assert_eq(esp_mime_parse(esp_buf_str(&b), &m), ESP_OK);
	cr_assert_eq(m.n, 51);
	esp_mime_free(&m);
	esp_buf_reset(&b);
	esp_buf_add_z(&b, "Content-Type: multipart/mixed; boundary=a\r\n\r\n");
	for (int i = 0; i < 100000; i++)
		esp_buf_add_z(&b, "--a\r\n\r\nx\r\n");
	cr_assert_eq(esp_mime_parse(esp_buf_str(&b), &m), ESP_OK);
	cr_assert_eq(m.n, 2000);
	esp_mime_free(&m);
	esp_buf_free(&b);
}

static const char nested[] =
	"From: x@y\r\nContent-Type: multipart/mixed; boundary=a\r\n\r\n--a\r\nContent-Type: message/rfc822\r\n\r\nTo: z\r\n"
	"Content-Type: multipart/x; boundary=\"a b\"\r\n\r\n--a b\r\n\r\nq\r\n--a b--\r\n--a\r\nContent-Type: text/html; "
	"charset=iso-8859-1\r\n"
	"Content-Transfer-Encoding: quoted-printable\r\n\r\n<p>gr=FC&szlig;\r\n--a--\r\n";

Test(mime, survives_a_message_cut_at_every_byte)
{
	for (size_t n = 0; n < sizeof(nested); n++) {
		esp_str s = tight(esp_str_of(nested, n));
		esp_mime m;
		esp_buf b;

		esp_buf_init(&b, 100000);
		cr_assert_eq(esp_mime_parse(s, &m), ESP_OK);
		for (uint32_t i = 0; i < m.n; i++) {
			const esp_mime_part *p = &m.part[i];

			cr_assert(p->header.ptr >= s.ptr && p->header.ptr + p->header.len <= s.ptr + n);
			cr_assert(p->body.ptr >= s.ptr && p->body.ptr + p->body.len <= s.ptr + n);
			cr_assert(!i || (p->header.ptr >= m.part[p->parent].body.ptr &&
					 p->body.ptr + p->body.len <= m.part[p->parent].body.ptr + m.part[p->parent].body.len));
		}
		cr_assert_eq(esp_imap_add_structure(&b, &m, 0, true), ESP_OK);
		esp_buf_reset(&b);
		cr_assert_eq(esp_mime_preview(&m, 200, &b), ESP_OK);
		cr_assert_geq(esp_text_contains(&m, ESP_STR("ZZZZ"), false), 0);
		esp_mime_free(&m);
		esp_buf_free(&b);
		free((void *)(uintptr_t)s.ptr);
	}
}

Test(mime, previews_readable_text)
{
	static const struct { const char *message, *want;
	} previews[] = {
		{ "\r\n  Hello\r\n\r\n you  there\r\n", "Hello you there" },
		{ "Content-Type: text/html\r\n\r\n<html><head><title>t</title></head><style>x{}</style><!-- no > "
		  "--><body>Hi&nbsp;<b>you</b> &amp; me&bogus; a < b",
			"Hi you & me&bogus; a" },
		{ "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\nZ3LDvMOfZQ==\r\n",
			"gr\xc3\xbc\xc3\x9f"
			"e" },
		{ "Content-Type: image/png\r\n\r\nabc", "" },
		{ "Content-Type: multipart/alternative; boundary=a\r\n\r\n--a\r\nContent-Type: "
		  "text/html\r\n\r\n<p>html\r\n--a\r\n\r\nplain\r\n--a--",
			"plain" },
	};
	esp_mime m;
	esp_buf b;

	esp_buf_init(&b, 10000);
	for (size_t i = 0; i < sizeof(previews) / sizeof(*previews); i++) {
		esp_buf_reset(&b);
		cr_assert_eq(esp_mime_parse(esp_str_z(previews[i].message), &m), ESP_OK);
		cr_assert_eq(esp_mime_preview(&m, 200, &b), ESP_OK);
		assert_buf(&b, previews[i].want);
		esp_mime_free(&m);
	}
	esp_buf_reset(&b);
	cr_assert_eq(esp_mime_parse(ESP_STR("\r\n\xc3\xbc\xc3\xbc\xc3\xbc"), &m), ESP_OK);
	cr_assert_eq(esp_mime_preview(&m, 2, &b), ESP_OK);
	assert_buf(&b, "\xc3\xbc\xc3\xbc");
	esp_mime_free(&m);
	esp_buf_free(&b);
}

static int buf_has(const esp_buf *b, const char *text)
{
	return memmem(b->data, b->len, text, strlen(text)) != NULL;
}

Test(text, finds_folded_keys_in_headers_and_bodies_however_they_are_encoded)
{
	static const char message[] =
		"Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\nContent-Type: multipart/mixed; boundary=a\r\n\r\n--a\r\n"
		"Content-Type: text/plain; charset=iso-8859-1\r\nContent-Transfer-Encoding: "
		"quoted-printable\r\n\r\nM=FCn=\r\nchen\r\n--a\r\n"
		"Content-Type: application/x; name=\"Secret\"\r\n\r\nunseen\r\n--a--\r\n";
	static const struct {
		const char *key;
		int text, body;
	} keys[] = { { "GR\xc3\x9c\xc3\x9f", 1, 0 }, { "m\xc3\xbcnchen", 1, 1 }, { "secret", 1, 1 }, { "unseen", 0, 0 },
		{ "subject: gr", 1, 0 }, { "", 1, 1 } };
	esp_mime m;
	esp_buf b;

	esp_buf_init(&b, 1000);
	cr_assert_eq(esp_mime_parse(esp_str_z(message), &m), ESP_OK);
	for (size_t i = 0; i < sizeof(keys) / sizeof(*keys); i++) {
		esp_buf_reset(&b);
		esp_text_fold_key(esp_str_z(keys[i].key), &b);
		cr_expect_eq(esp_text_contains(&m, esp_buf_str(&b), false), keys[i].text, "%s", keys[i].key);
		cr_expect_eq(esp_text_contains(&m, esp_buf_str(&b), true), keys[i].body, "%s", keys[i].key);
	}
	esp_buf_reset(&b);
	cr_expect_eq(esp_text_collect(&m, ESP_TEXT_OWN_HEADER, '|', &b), ESP_OK);
	cr_expect(buf_has(&b, "SUBJECT: GRU\xcc\x88\xc3\x9f" "E|CONTENT-TYPE: MULTIPART/MIXED; BOUNDARY=A|"), "%.*s",
		(int)b.len, b.data);
	esp_buf_reset(&b);
	cr_expect_eq(esp_text_collect(&m, ESP_TEXT_BODY, '|', &b), ESP_OK);
	cr_expect(buf_has(&b, "MU\xcc\x88NCHEN|CONTENT-TYPE: APPLICATION/X; NAME=\"SECRET\"|"), "%.*s", (int)b.len, b.data);
	cr_expect_not(buf_has(&b, "SUBJECT"));
	cr_expect_not(buf_has(&b, "UNSEEN"));
	esp_mime_free(&m);
	esp_buf_free(&b);
	esp_buf_init(&b, 20);
	cr_assert_eq(esp_mime_parse(esp_str_z(message), &m), ESP_OK);
	cr_expect_eq(esp_text_collect(&m, ESP_TEXT_OWN_HEADER, '|', &b), ESP_E2BIG);
	cr_expect_eq(memcmp(b.data, "SUBJECT: ", 9), 0);
	esp_mime_free(&m);
	esp_buf_free(&b);
}

Test(text, gives_the_same_for_every_split)
{
	static const char html[] = "<p a='x'>A&uuml;&#x41;&amp &;<!-- c --><script>no</script> =C3=BC  =\r\n\t<br/>z&am";
	esp_str s = esp_str_z(html);
	esp_buf whole, parts;

	esp_buf_init(&whole, 1000);
	esp_buf_init(&parts, 1000);
	for (size_t a = 0; a <= s.len; a++) {
		esp_buf *out = a ? &parts : &whole;
		esp_text t;

		esp_buf_reset(out);
		cr_assert_eq(
			esp_text_open(&t, ESP_MIME_QP, ESP_STR("utf-8"), ESP_TEXT_HTML | ESP_TEXT_SPACE | ESP_TEXT_FOLD), ESP_OK);
		for (size_t i = 0; i < s.len && a == s.len; i++)
			esp_text_feed(&t, esp_str_of(s.ptr + i, 1), out);
		if (a < s.len) {
			esp_text_feed(&t, esp_str_of(s.ptr, a), out);
			esp_text_feed(&t, esp_str_of(s.ptr + a, s.len - a), out);
		}
		esp_text_end(&t, out);
		esp_text_close(&t);
		if (a)
			assert_str(esp_buf_str(&parts), esp_buf_str(&whole));
	}
	assert_buf(&whole, "AU\xcc\x88" "A&AMP &; U\xcc\x88 Z&AM");
	esp_buf_free(&whole);
	esp_buf_free(&parts);
}

Test(uuid, reads_what_it_writes_and_refuses_the_rest)
{
	uint8_t random[10] = { 255, 255, 255, 255, 255, 255, 255, 255, 255, 255 };
	esp_id id = esp_uuid_v7(0x0190163d8694, random), back;
	char mem[40];
	esp_buf b;

	esp_buf_init_fixed(&b, mem, sizeof(mem));
	esp_uuid_write(id, &b);
	assert_buf(&b, "0190163d-8694-7fff-bfff-ffffffffffff");
	cr_assert_eq(esp_uuid_parse(esp_buf_str(&b), &back), ESP_OK);
	cr_assert_eq(memcmp(&id, &back, 16), 0);
	cr_assert_eq(esp_uuid_parse(ESP_STR("0190163D86947fffbfffffffffffffff"), &back), ESP_OK);
	cr_assert_eq(back.b[5], 0x94);
	cr_assert_eq(esp_uuid_parse(ESP_STR("0190163d-8694-7fffbfffffffffffff"), &back), ESP_EPROTO);
	cr_assert_eq(esp_uuid_parse(ESP_STR("0190163d-8694-7fff-bfff-fffffffffff"), &back), ESP_EPROTO);
	cr_assert_eq(esp_uuid_parse(ESP_STR("0190163d-8694-7fff-bfff0ffffffffffff"), &back), ESP_EPROTO);
	cr_assert_eq(esp_uuid_parse(ESP_STR("0190163d-8694-7fff-bfff-ffffffffff\0f"), &back), ESP_EPROTO);
}

static void envelope_is(const char *header, const char *want)
{
	esp_str s = tight(esp_str_z(header));
	esp_buf b;

	esp_buf_init(&b, 100000);
	cr_assert_eq(esp_imap_add_envelope(&b, s), ESP_OK);
	cr_expect(esp_str_eq(esp_buf_str(&b), esp_str_z(want)), "got\n%.*s\nwant\n%s", (int)b.len, b.data, want);
	esp_buf_free(&b);
	free((void *)(uintptr_t)s.ptr);
}

Test(envelope, is_what_rfc_3501_says)
{
	envelope_is("", "(NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL)");
	envelope_is("Date: Wed, 17 Jul 1996 02:23:25 -0700 (PDT)\r\nSubject: IMAP4rev1 WG\r\n mtg\r\nFrom: Terry Gray "
				"<gray@cac.washington.edu>\r\n"
				"To: imap@cac.washington.edu\r\nCc: minutes@CNRI.Reston.VA.US, \"John \\\"K\\\" Klensin\" "
				"<KLENSIN@MIT.EDU>\r\nMessage-Id: <B27397-0100000@cac.washington.edu>\r\n\r\n",
		"(\"Wed, 17 Jul 1996 02:23:25 -0700 (PDT)\" \"IMAP4rev1 WG mtg\" ((\"Terry Gray\" NIL \"gray\" "
		"\"cac.washington.edu\")) "
		"((\"Terry Gray\" NIL \"gray\" \"cac.washington.edu\")) ((\"Terry Gray\" NIL \"gray\" \"cac.washington.edu\")) "
		"((NIL NIL \"imap\" \"cac.washington.edu\")) ((NIL NIL \"minutes\" \"CNRI.Reston.VA.US\")"
		"(\"John \\\"K\\\" Klensin\" NIL \"KLENSIN\" \"MIT.EDU\")) NIL NIL \"<B27397-0100000@cac.washington.edu>\")");
	envelope_is("To: g: a@b;, nobody\r\nSubject: \xc3\xbc\r\nReply-To:\r\nFrom: x@y\r\nSender: s@t\r\n",
		    "(NIL {2}\r\n\xc3\xbc ((NIL NIL \"x\" \"y\")) ((NIL NIL \"s\" \"t\")) ((NIL NIL \"x\" \"y\")) "
		    "((NIL NIL \"g\" NIL)(NIL NIL \"a\" \"b\")(NIL NIL NIL NIL)(NIL NIL \"nobody\" \"\")) NIL NIL NIL NIL)");
	envelope_is("Subject:\r\nFrom: a@b\"\r\n c\r\n",
		"(NIL \"\" ((NIL NIL \"a\" \"b c\")) ((NIL NIL \"a\" \"b c\")) ((NIL NIL \"a\" \"b c\")) NIL NIL NIL NIL NIL)");
}

Test(imap_write, chooses_the_form_that_keeps_bytes_in_their_place)
{
	char mem[2500];
	esp_buf b;
	static const struct { esp_str in; const char *string, *astring; } forms[] = {
		{ { "abc", 3 }, "\"abc\"", "abc" }, { { "", 0 }, "\"\"", "\"\"" }, { { "a b", 3 }, "\"a b\"", "\"a b\"" },
		{ { "a\"\\", 3 }, "\"a\\\"\\\\\"", "\"a\\\"\\\\\"" }, { { "a\r\nb", 4 }, "{4}\r\na\r\nb", "{4}\r\na\r\nb" },
		{ { "nil", 3 }, "\"nil\"", "\"nil\"" }, { { "a\0b", 3 }, "{3}\r\na b", "{3}\r\na b" },
		{ { "\xff", 1 }, "{1}\r\n\xff", "{1}\r\n\xff" },
		{ { "a]b", 3 }, "\"a]b\"", "a]b" }, { { "a*", 2 }, "\"a*\"", "\"a*\"" },
		{ { "\\Seen", 5 }, "\"\\\\Seen\"", "\"\\\\Seen\"" },
	};

	esp_buf_init_fixed(&b, mem, sizeof(mem));
	for (size_t i = 0; i < sizeof(forms) / sizeof(*forms); i++) {
		esp_buf_reset(&b);
		esp_imap_add_string(&b, forms[i].in);
		assert_buf(&b, forms[i].string);
		esp_buf_reset(&b);
		esp_imap_add_astring(&b, forms[i].in);
		assert_buf(&b, forms[i].astring);
	}
	esp_buf_reset(&b);
	esp_imap_add_nstring(&b, esp_str_of(NULL, 0));
	esp_imap_add_mailbox(&b, ESP_STR("/a\xc3\xa4"), false);
	esp_imap_add_mailbox(&b, ESP_STR("a\xc3\xa4\""), true);
	assert_buf(&b, "NIL/a&AOQ-\"a\xc3\xa4\\\"\"");
	esp_buf_reset(&b);
	esp_imap_add_text(&b, ESP_STR("no\r\n* BYE\0"));
	assert_buf(&b, "no  * BYE ");
	esp_str flags[] = { ESP_STR("\\Seen"), ESP_STR("a b"), ESP_STR("$Fwd"), ESP_STR("x)"), ESP_STR("") };
	esp_buf_reset(&b);
	esp_imap_add_flags(&b, flags, 5);
	assert_buf(&b, "(\\Seen $Fwd)");
	uint32_t set[] = { 1, 2, 3, 5, 7, 8, 4294967295u };
	esp_buf_reset(&b);
	esp_imap_add_set(&b, set, 7);
	assert_buf(&b, "1:3,5,7:8,4294967295");
}
