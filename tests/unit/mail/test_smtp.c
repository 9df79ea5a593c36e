#include "mailtest.h"
#include <esp/mail/smtp.h>

static esp_status path(const char *z, uint32_t which, uint32_t how, esp_smtp_path *p)
{
	const char *why;
	esp_status st = esp_smtp_path_parse(esp_str_z(z), which, how, p, &why);

	cr_assert_not_null(why);
	return st;
}

Test(smtp, knows_a_verb_in_any_case_and_keeps_its_arguments)
{
	esp_smtp_command c;

	cr_assert_eq(esp_smtp_command_parse(ESP_STR("mAiL FROM:<a@b>  "), &c), ESP_OK);
	cr_assert_eq(c.verb, ESP_SMTP_MAIL);
	assert_str(c.args, ESP_STR("FROM:<a@b>"));
	cr_assert_eq(esp_smtp_command_parse(ESP_STR("XYZZY"), &c), ESP_OK);
	cr_assert_eq(c.verb, ESP_SMTP_UNKNOWN);
	cr_assert_eq(esp_smtp_command_parse(ESP_STR(""), &c), ESP_EPROTO);
	cr_assert_eq(esp_smtp_command_parse(ESP_STR(" DATA"), &c), ESP_EPROTO);
	cr_assert_eq(esp_smtp_command_parse(ESP_STR("NOOP\0x"), &c), ESP_EPROTO);
	cr_assert_eq(esp_smtp_command_parse(ESP_STR("NOOP \rx"), &c), ESP_EPROTO);
	cr_assert_eq(esp_smtp_command_parse(ESP_STR("DATA1"), &c), ESP_EPROTO);
}

Test(smtp, reads_a_path_with_parameters)
{
	esp_smtp_path p;

	cr_assert_eq(path("from:<a.b@Example.Test> SIZE=1000 body=8BITMIME  SMTPUTF8", ESP_SMTP_FROM, 0, &p), ESP_OK);
	assert_str(p.text, ESP_STR("a.b@Example.Test"));
	assert_str(p.address.local, ESP_STR("a.b"));
	cr_assert_eq(p.nparams, 3);
	assert_str(esp_smtp_param_find(&p, "size")->value, ESP_STR("1000"));
	assert_str(esp_smtp_param_find(&p, "BODY")->value, ESP_STR("8BITMIME"));
	cr_assert_eq(esp_smtp_param_find(&p, "SMTPUTF8")->has_value, 0);
	cr_assert_null(esp_smtp_param_find(&p, "AUTH"));
	cr_assert_eq(path("FROM:<>", ESP_SMTP_FROM, 0, &p), ESP_OK);
	cr_assert(p.flags & ESP_SMTP_PATH_NULL);
	cr_assert_eq(path("TO:<PostMaster>", ESP_SMTP_TO, 0, &p), ESP_OK);
	cr_assert(p.flags & ESP_SMTP_PATH_POSTMASTER);
	cr_assert_eq(path("TO: <@a.b,@c.d:x@y.z>", ESP_SMTP_TO, 0, &p), ESP_OK);
	cr_assert(p.flags & ESP_SMTP_PATH_ROUTED);
	assert_str(p.text, ESP_STR("x@y.z"));
	cr_assert_eq(path("FROM:a@b.c SIZE=1", ESP_SMTP_FROM, ESP_SMTP_NO_BRACKETS, &p), ESP_OK);
	cr_assert_eq(path("FROM:<\"a> b\"@c.d> AUTH=<>", ESP_SMTP_FROM, 0, &p), ESP_OK);
	cr_assert_eq(path("FROM:<\xc3\xbc@c.d> SMTPUTF8", ESP_SMTP_FROM, ESP_ADDRESS_SMTPUTF8, &p), ESP_OK);
}

Test(smtp, says_what_is_wrong_with_a_path)
{
	static const struct { const char *args; uint32_t which; esp_status want; } bad[] = {
		{ "", ESP_SMTP_FROM, ESP_EPROTO }, { "FROM", ESP_SMTP_FROM, ESP_EPROTO },
		{ "TO:<a@b>", ESP_SMTP_FROM, ESP_EPROTO },
		{ "FROM <a@b>", ESP_SMTP_FROM, ESP_EPROTO }, { "FROM:", ESP_SMTP_FROM, ESP_EINVAL },
		{ "FROM:a@b", ESP_SMTP_FROM, ESP_EINVAL }, { "FROM:<a@b", ESP_SMTP_FROM, ESP_EINVAL },
		{ "FROM:<a>", ESP_SMTP_FROM, ESP_EINVAL }, { "TO:<>", ESP_SMTP_TO, ESP_EINVAL },
		{ "TO:<joe>", ESP_SMTP_TO, ESP_EINVAL },
		{ "FROM:<a@b>SIZE=1", ESP_SMTP_FROM, ESP_EPROTO }, { "FROM:<a@b> SIZE=", ESP_SMTP_FROM, ESP_EPROTO },
		{ "FROM:<a@b> =1", ESP_SMTP_FROM, ESP_EPROTO }, { "FROM:<a@b> SIZE=1 size=2", ESP_SMTP_FROM, ESP_EPROTO },
		{ "FROM:<a@b> -X", ESP_SMTP_FROM, ESP_EPROTO }, { "TO:<@a:b@c", ESP_SMTP_TO, ESP_EINVAL },
		{ "TO:<@a b@c>", ESP_SMTP_TO, ESP_EINVAL }, { "TO:<a@b> c d=\x01", ESP_SMTP_TO, ESP_EPROTO },
		{ "TO:<\xc3\xbc@b>", ESP_SMTP_TO, ESP_EINVAL },
		{ "TO:<a@b> a b c d e f g h i j k l m n o p q", ESP_SMTP_TO, ESP_E2BIG },
	};
	esp_smtp_path p;

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		cr_expect_eq(path(bad[i].args, bad[i].which, 0, &p), bad[i].want, "%s", bad[i].args);
}

Test(smtp, survives_a_path_cut_at_every_byte)
{
	static const char line[] = "FROM:<@a.b:\"x\\ y\"@[IPv6:2001:db8::1]> SIZE=10 ENVID=a+2Bb RET=HDRS";
	esp_smtp_path p;
	const char *why;

	for (size_t n = 0; n < sizeof(line); n++) {
		esp_str s = tight(esp_str_of(line, n));

		(void)!esp_smtp_path_parse(s, ESP_SMTP_FROM, 0, &p, &why);
		free((void *)(uintptr_t)s.ptr);
	}
}

Test(smtp, never_lets_a_line_ending_through_a_reply)
{
	char mem[1100];
	esp_buf b;

	esp_buf_init_fixed(&b, mem, sizeof(mem));
	cr_assert_eq(esp_smtp_reply(&b, 250, "2.1.0", ESP_STR("one\r\ntwo\rthree\0four\xc3\xbc")), ESP_OK);
	assert_buf(&b, "250-2.1.0 one\r\n250 2.1.0 two three four?\r\n");
	esp_buf_reset(&b);
	cr_assert_eq(esp_smtp_reply_utf8(&b, 550, NULL, ESP_STR("\xc3\xbc\xc3")), ESP_OK);
	assert_buf(&b, "550 \xc3\xbc?\r\n");
	cr_assert_eq(esp_smtp_reply(&b, 99, NULL, ESP_STR("x")), ESP_EINVAL);
	esp_buf_reset(&b);
	char longline[600];
	memset(longline, 'x', sizeof(longline));
	cr_assert_eq(esp_smtp_reply(&b, 250, "2.0.0", esp_str_of(longline, sizeof(longline))), ESP_OK);
	cr_assert_eq(b.len, 512);
}

Test(smtp, reads_replies_as_a_client)
{
	esp_smtp_reply_line r;

	cr_assert_eq(esp_smtp_reply_parse(ESP_STR("250-2.1.5 ok then"), &r), ESP_OK);
	cr_assert(r.code == 250 && r.more == 1);
	assert_str(r.enhanced, ESP_STR("2.1.5"));
	assert_str(r.text, ESP_STR("ok then"));
	cr_assert_eq(esp_smtp_reply_parse(ESP_STR("250 1.2.3.4 is"), &r), ESP_OK);
	cr_assert_eq(r.enhanced.len, 0);
	assert_str(r.text, ESP_STR("1.2.3.4 is"));
	cr_assert_eq(esp_smtp_reply_parse(ESP_STR("354"), &r), ESP_OK);
	cr_assert_eq(esp_smtp_reply_parse(ESP_STR("25"), &r), ESP_EPROTO);
	cr_assert_eq(esp_smtp_reply_parse(ESP_STR("250x"), &r), ESP_EPROTO);
	cr_assert_eq(esp_smtp_reply_parse(ESP_STR("999 x"), &r), ESP_EPROTO);
}

Test(smtp, turns_xtext_both_ways)
{
	char mem[100];
	esp_buf b;

	esp_buf_init_fixed(&b, mem, sizeof(mem));
	esp_xtext_encode(ESP_STR("a+b=c d\xff"), &b);
	assert_buf(&b, "a+2Bb+3Dc+20d+FF");
	esp_str coded = esp_buf_str(&b);
	char back_mem[100];
	esp_buf back;
	esp_buf_init_fixed(&back, back_mem, sizeof(back_mem));
	cr_assert_eq(esp_xtext_decode(coded, &back), ESP_OK);
	assert_buf(&back, "a+b=c d\xff");
	cr_assert_eq(esp_xtext_decode(ESP_STR("+2"), &back), ESP_EPROTO);
	cr_assert_eq(esp_xtext_decode(ESP_STR("+2b"), &back), ESP_EPROTO);
	cr_assert_eq(esp_xtext_decode(ESP_STR("a=b"), &back), ESP_EPROTO);
}

/* All of DATA fed at once or in pieces: what came out, what was seen, where it ended. */
struct outcome { char out[64]; size_t len, used; uint32_t seen; esp_status st; };

static struct outcome feed(esp_str in, size_t cut1, size_t cut2, uint32_t normalise)
{
	struct outcome o = { .st = ESP_EAGAIN };
	esp_smtp_undot d = { .normalise = normalise };
	size_t cuts[4] = { 0, cut1, cut2, in.len };
	esp_buf b;

	esp_buf_init_fixed(&b, o.out, sizeof(o.out));
	for (int i = 0; i < 3 && o.st == ESP_EAGAIN; i++) {
		esp_str piece = tight(esp_str_of(in.ptr + cuts[i], cuts[i + 1] - cuts[i]));
		size_t used;

		o.st = esp_smtp_undot_feed(&d, piece, &used, &b);
		o.used += used;
		free((void *)(uintptr_t)piece.ptr);
	}
	o.len = b.len;
	o.seen = d.seen;
	cr_assert_eq(d.bytes, b.len);
	return o;
}

Test(smtp_dot, ends_data_only_at_crlf_dot_crlf_in_every_split)
{
	static const char *pieces[] = { "\r", "\n", ".", "\r\n", "" , "x" };
	char text[64];

	/* all sequences of five of them between two letters, before an honest end */
	for (int n = 0; n < 6 * 6 * 6 * 6 * 6; n++) {
		int k = n;

		strcpy(text, "a");
		for (int i = 0; i < 5; i++, k /= 6)
			strcat(text, pieces[k % 6]);
		strcat(text, "b\r\n.\r\nQUIT");
		esp_str in = esp_str_z(text);
		const char *end = strstr(text, "\r\n.\r\n");
		struct outcome whole = feed(in, in.len, in.len, 0);

		cr_assert_eq(whole.st, ESP_OK);
		cr_assert_eq(whole.used, (size_t)(end - text) + 5);
		for (size_t cut = 0; cut <= in.len; cut++) {
			struct outcome o = feed(in, cut, cut + (in.len - cut) / 2, 0);

			cr_assert(o.st == whole.st && o.used == whole.used && o.len == whole.len && o.seen == whole.seen &&
				  memcmp(o.out, whole.out, o.len) == 0);
		}
	}
}

Test(smtp_dot, reports_bare_line_endings_and_can_normalise_them)
{
	struct outcome o = feed(ESP_STR("a\n.\nb\rc\r\n.\r\n"), 3, 5, 0);

	cr_assert_eq(o.seen, (uint32_t)(ESP_DOT_BARE_CR | ESP_DOT_BARE_LF));
	assert_str(esp_str_of(o.out, o.len), ESP_STR("a\n.\nb\rc\r\n"));
	o = feed(ESP_STR("a\n.\nb\rc\r\n.\r\n"), 3, 5, 1);
	assert_str(esp_str_of(o.out, o.len), ESP_STR("a\r\n.\r\nb c\r\n"));
	o = feed(ESP_STR("..a\r\n.b\r\n\0\xff\r\n.\r\n"), 1, 2, 0);
	assert_str(esp_str_of(o.out, o.len), ESP_STR(".a\r\nb\r\n\0\xff\r\n"));
	cr_assert_eq(o.seen, (uint32_t)(ESP_DOT_NUL | ESP_DOT_8BIT));
	o = feed(ESP_STR(".\r\n"), 0, 1, 0);
	cr_assert(o.st == ESP_OK && o.len == 0);
}

Test(smtp_dot, writes_what_the_reader_reads_back_as_one_message)
{
	static const char alphabet[] = "\r\n.a";
	uint32_t seed = 1;

	for (int n = 0; n < 20000; n++) {
		char in[24], mem[80];
		size_t len = (seed >> 8) % sizeof(in), used;
		esp_smtp_stuff stuff = { 0 };
		esp_smtp_undot undot = { 0 };
		esp_buf wire, back;
		char back_mem[80];

		for (size_t i = 0; i < len; i++) {
			seed = seed * 1103515245u + 12345u;
			in[i] = alphabet[seed >> 16 & 3];
		}
		seed = seed * 1103515245u + 12345u;
		esp_buf_init_fixed(&wire, mem, sizeof(mem));
		esp_buf_init_fixed(&back, back_mem, sizeof(back_mem));
		size_t cut = len / 3;
		cr_assert_eq(esp_smtp_stuff_feed(&stuff, esp_str_of(in, cut), &wire), ESP_OK);
		cr_assert_eq(esp_smtp_stuff_feed(&stuff, esp_str_of(in + cut, len - cut), &wire), ESP_OK);
		cr_assert_eq(esp_smtp_stuff_end(&stuff, &wire), ESP_OK);
		cr_assert_eq(esp_smtp_undot_feed(&undot, esp_buf_str(&wire), &used, &back), ESP_OK);
		cr_assert_eq(used, wire.len);
		cr_assert_eq(undot.seen, 0);
	}
}
