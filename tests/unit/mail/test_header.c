#include "mailtest.h"
#include <esp/mail/address_list.h>
#include <esp/mail/charset.h>
#include <esp/mail/header.h>

Test(header, iterates_fields_with_folds_and_stops_at_the_empty_line)
{
	static const char *const ends[] = { "\r\n", "\n" };

	for (int i = 0; i < 2; i++) {
		char text[200];
		esp_header_field f;

		snprintf(text, sizeof(text), "From: a@b%sSubject:  one%s\ttwo%sjunk line%sX : y%s%sBody: no%s", ends[i],
			ends[i], ends[i], ends[i], ends[i], ends[i], ends[i]);
		esp_str s = tight(esp_str_z(text));
		esp_header h = esp_header_of(s);

		cr_assert_eq(esp_header_next(&h, &f), ESP_OK);
		assert_str(f.name, ESP_STR("From"));
		assert_str(f.value, ESP_STR("a@b"));
		cr_assert_eq(esp_header_next(&h, &f), ESP_OK);
		char mem[50];
		esp_buf b;
		esp_buf_init_fixed(&b, mem, sizeof(mem));
		esp_header_unfold(f.value, &b);
		assert_buf(&b, "one\ttwo");
		cr_assert_eq(esp_header_next(&h, &f), ESP_OK);
		cr_assert(f.flags & ESP_FIELD_NO_COLON);
		cr_assert_eq(esp_header_next(&h, &f), ESP_OK);
		assert_str(f.name, ESP_STR("X"));
		cr_assert_eq(esp_header_next(&h, &f), ESP_ENOENT);
		cr_assert_eq(esp_header_next(&h, &f), ESP_ENOENT);
		cr_assert_eq(h.offset, esp_header_length(s));
		assert_str(esp_str_of(s.ptr + h.offset, 8), ESP_STR("Body: no"));
		cr_assert_eq(esp_header_find(s, "SUBJECT", 0, &f), ESP_OK);
		cr_assert_eq(esp_header_find(s, "subject", 1, &f), ESP_ENOENT);
		cr_assert_eq(esp_header_find(s, "body", 0, &f), ESP_ENOENT);
		free((void *)(uintptr_t)s.ptr);
	}
}

Test(header, survives_a_block_cut_at_every_byte)
{
	static const char text[] = "A: b\r\n c\r\nContent-Type: text/plain; x*0*=utf-8''%41; x*1=\"b\\\"\" (c(d\\))\r\n : "
							   "x\r\nFrom: =?utf-8?Q?=41_b?= "
							   "<@r:\"a\\\"\"@[1]>, g:x (y),;\r\n\r\n";

	for (size_t n = 0; n < sizeof(text); n++) {
		esp_str s = tight(esp_str_of(text, n)), type, sub;
		esp_header h = esp_header_of(s);
		esp_header_field f;
		esp_buf b;

		esp_buf_init(&b, 10000);
		while (esp_header_next(&h, &f) == ESP_OK) {
			esp_address_list l = esp_address_list_of(f.value);
			esp_list_address a;
			esp_params p;

			cr_assert(f.raw.ptr >= s.ptr && f.raw.ptr + f.raw.len <= s.ptr + s.len);
			esp_header_decode(f.value, &b);
			while (esp_address_list_next(&l, &b, &a) == ESP_OK)
				;
			(void)!esp_media_type_parse(f.value, &type, &sub, &p);
			(void)!esp_params_get(p, "x", &b);
		}
		esp_buf_free(&b);
		free((void *)(uintptr_t)s.ptr);
	}
}

Test(header, refuses_a_block_beyond_its_limits)
{
	esp_buf b;

	esp_buf_init(&b, 4000000);
	for (int i = 0; i < 2000; i++)
		esp_buf_add_z(&b, "A: b\r\n");
	cr_assert_eq(esp_header_check(esp_buf_str(&b)), ESP_OK);
	esp_buf_add_z(&b, "A: b\r\n");
	cr_assert_eq(esp_header_check(esp_buf_str(&b)), ESP_E2BIG);
	cr_assert_eq(esp_header_check(ESP_STR("A: b\0c\r\n\r\n")), ESP_EPROTO);
	cr_assert_eq(esp_header_check(ESP_STR("A: b\r\n\r\n\0")), ESP_OK);
	esp_buf_free(&b);
}

static void decodes(const char *in, const char *want)
{
	esp_str s = tight(esp_str_z(in));
	esp_buf b;

	esp_buf_init(&b, 10000);
	cr_expect_eq(esp_header_decode(s, &b), ESP_OK);
	cr_expect(esp_str_eq(esp_buf_str(&b), esp_str_z(want)), "%s: got <%.*s>, want <%s>", in, (int)b.len,
		b.data ? b.data : "", want);
	esp_buf_free(&b);
	free((void *)(uintptr_t)s.ptr);
}

Test(encoded_word, decodes_what_mail_contains)
{
	decodes("plain  text", "plain  text");
	decodes("=?utf-8?Q?gr=C3=BC=C3=9Fe?=", "gr\xc3\xbc\xc3\x9f" "e");
	decodes("=?UTF-8?b?Z3LDvMOfZQ==?= you", "gr\xc3\xbc\xc3\x9f" "e you");
	decodes("a =?iso-8859-1?q?=FC?= b", "a \xc3\xbc b");
	decodes("=?iso-8859-1?q?a?=\r\n =?iso-8859-1?q?b?=", "ab");
	decodes("=?utf-8?q?=C3?= =?utf-8?q?=BC?=", "\xc3\xbc");              /* a character cut in two */
	decodes("=?utf-8?q?a?= x =?utf-8?q?b?=", "a x b");
	decodes("=?utf-8?q?=FF?=", "\xef\xbf\xbd");
	decodes("=?iso-2022-jp?B?GyRCRnxLXBsoQg==?=", "\xe6\x97\xa5\xe6\x9c\xac");
	decodes("=?x-unknown?q?a?=", "=?x-unknown?q?a?=");
	decodes("=?utf-8*en?q?a_b?=", "a b");
	decodes("=?utf-8?q?a", "=?utf-8?q?a");
	decodes("=?utf-8?x?a?=", "=?utf-8?x?a?=");
	decodes("=?utf-8?q?a=0D=0ABcc:x?=", "a  Bcc:x");
	decodes("a\xff" "b\x01", "a\xef\xbf\xbd" "b ");
	decodes("=", "=");
	decodes("", "");
}

Test(encoded_word, encodes_so_that_it_decodes_to_the_same_and_folds)
{
	static const char *const texts[] = {
		"",
		"plain",
		"=?utf-8?q?x?=",
		" lead",
		"trail ",
		"\xc3\xbc",
		"\t",
		"\xf0\x9f\x98\x80 smile and a rather long ASCII rest of it",
		("\xe6\x97\xa5\xe6\x9c\xac\xe8\xaa\x9e\xe6\x97\xa5\xe6\x9c\xac\xe8\xaa\x9e\xe6\x97\xa5\xe6\x9c\xac\xe8\xaa\x9e"
		 "\xe6\x97\xa5\xe6\x9c\xac"
		 "\xe8\xaa\x9e\xe6\x97\xa5\xe6\x9c\xac\xe8\xaa\x9e\xe6\x97\xa5\xe6\x9c\xac\xe8\xaa\x9e\xe6\x97\xa5\xe6\x9c\xac"
		 "\xe8\xaa\x9e"),
		"many words that go on and on and on until the line must be folded somewhere because it is longer than it may "
		"be",
	};

	for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
		esp_buf wire, back;
		esp_header_field f;
		esp_header h;
		size_t col = 0;

		esp_buf_init(&wire, 10000);
		esp_buf_init(&back, 10000);
		cr_assert_eq(esp_header_write(&wire, "Subject", esp_str_z(texts[i])), ESP_OK);
		for (size_t k = 0; k < wire.len; k++) {
			col = wire.data[k] == '\n' ? 0 : col + 1;
			cr_assert_leq(col, 78);
			cr_assert((unsigned char)wire.data[k] < 128);
		}
		h = esp_header_of(esp_buf_str(&wire));
		cr_assert_eq(esp_header_next(&h, &f), ESP_OK);
		cr_assert_eq(h.offset, wire.len);
		cr_assert_eq(esp_header_decode(f.value, &back), ESP_OK);
		assert_buf(&back, texts[i][0] == '\t' ? " " : texts[i]);
		esp_buf_free(&wire);
		esp_buf_free(&back);
	}
}

Test(encoded_word, refuses_to_write_a_second_field)
{
	char mem[100];
	esp_buf b;

	esp_buf_init_fixed(&b, mem, sizeof(mem));
	cr_assert_eq(esp_header_write(&b, "Subject", ESP_STR("a\r\nBcc: b")), ESP_EINVAL);
	cr_assert_eq(esp_header_write(&b, "Subject", ESP_STR("a\nb")), ESP_EINVAL);
	cr_assert_eq(esp_header_write(&b, "Subject", ESP_STR("a\0b")), ESP_EINVAL);
	cr_assert_eq(esp_header_write(&b, "Sub:ject", ESP_STR("a")), ESP_EINVAL);
	cr_assert_eq(esp_header_write(&b, "", ESP_STR("a")), ESP_EINVAL);
	cr_assert_eq(b.len, 0);
}

static void param_is(const char *value, const char *name, const char *want)
{
	esp_str s = tight(esp_str_z(value));
	esp_params p;
	esp_buf b;
	esp_status st;

	esp_buf_init(&b, 10000);
	(void)esp_token_parse(s, &p);
	st = esp_params_get(p, name, &b);
	cr_expect_eq(st, want ? ESP_OK : ESP_ENOENT, "%s", value);
	if (want)
		cr_expect(
			esp_str_eq(esp_buf_str(&b), esp_str_z(want)), "%s: got <%.*s>", value, (int)b.len, b.data ? b.data : "");
	esp_buf_free(&b);
	free((void *)(uintptr_t)s.ptr);
}

Test(params, reads_rfc_2231_and_what_others_write_instead)
{
	param_is("attachment; filename=a.txt", "filename", "a.txt");
	param_is("attachment; FileName=\"a \\\"b\\\".txt\"; x=y", "filename", "a \"b\".txt");
	param_is("attachment; filename=two words.txt ; x=y", "filename", "two words.txt");
	param_is("attachment; filename*=utf-8'en'gr%C3%BC%20e.txt", "filename", "gr\xc3\xbc e.txt");
	param_is("attachment; filename*=\"utf-8''a%20b\"", "filename", "a b");
	param_is("attachment; filename*=iso-8859-1''%FC", "filename", "\xc3\xbc");
	param_is("attachment; filename*1=\"b.ex\"; filename*0=a; filename*2=e", "filename", "ab.exe");
	param_is("attachment; filename*0*=utf-8''%C3; filename*1*=%BC; filename*2=.txt", "filename", "\xc3\xbc.txt");
	param_is("attachment; filename=plain; filename*=utf-8''ext", "filename", "ext");
	param_is("attachment; filename=\"=?utf-8?q?=C3=BC?=\"", "filename", "\xc3\xbc");
	param_is("attachment; filename*0=a; filename*2=c", "filename", "a");
	param_is("attachment; filenames=x", "filename", NULL);
	param_is("attachment; filename", "filename", NULL);
	param_is("attachment (; filename=x) ; y=\"; filename=z\"", "filename", NULL);
	param_is("text/plain; charset=us-ascii (plain)", "charset", "us-ascii");
	param_is("a; filename*=%4", "filename", "%4");
	param_is("a; filename*=%41", "filename", "A");
}

Test(params, takes_linear_time_for_many_parameters)
{
	esp_buf b;
	esp_params p;
	esp_param one;
	int n = 0;

	esp_buf_init(&b, 10000000);
	esp_buf_add_z(&b, "a");
	for (int i = 0; i < 100000; i++)
		esp_buf_addf(&b, "; filename*%d=x", i);
	(void)esp_token_parse(esp_buf_str(&b), &p);
	while (esp_params_next(&p, &one) == ESP_OK)
		n++;
	cr_assert_eq(n, 100);
	esp_buf_free(&b);
}

/* One line per element: M name|route|local|domain, G local, E */
static void list_is(const char *value, const char *want)
{
	esp_str s = tight(esp_str_z(value));
	esp_address_list l = esp_address_list_of(s);
	esp_list_address a;
	esp_buf scratch, got;

	esp_buf_init(&scratch, 10000);
	esp_buf_init(&got, 10000);
	while (esp_address_list_next(&l, &scratch, &a) == ESP_OK) {
		if (a.kind == ESP_LIST_MAILBOX)
			esp_buf_addf(&got, "M %.*s|%.*s|%.*s|%.*s\n", ESP_FMT(a.name), ESP_FMT(a.route), ESP_FMT(a.local),
				ESP_FMT(a.domain));
		else if (a.kind == ESP_LIST_GROUP_START)
			esp_buf_addf(&got, "G %.*s\n", ESP_FMT(a.local));
		else
			esp_buf_add_z(&got, "E\n");
	}
	cr_expect(
		esp_str_eq(esp_buf_str(&got), esp_str_z(want)), "%s: got\n%.*s", value, (int)got.len, got.data ? got.data : "");
	esp_buf_free(&scratch);
	esp_buf_free(&got);
	free((void *)(uintptr_t)s.ptr);
}

Test(address_list, reads_the_forms_of_rfc_5322_and_the_old_ones)
{
	list_is("", "");
	list_is("a@b", "M ||a|b\n");
	list_is("Joe Q. Public <john.q.public@example.com>", "M Joe Q. Public||john.q.public|example.com\n");
	list_is("Mary Smith <mary@x.test>, jdoe@example.org,,Who? <one@y.test>",
		"M Mary Smith||mary|x.test\nM ||jdoe|example.org\nM Who?||one|y.test\n");
	list_is("<boss@nil.test>, \"Giant; \\\"Big\\\" Box\" <sysservices@example.net>",
		"M ||boss|nil.test\nM Giant; \"Big\" Box||sysservices|example.net\n");
	list_is("A Group:Ed Jones <c@a.test>,joe@where.test,John <jdoe@one.test>;",
		"G A Group\nM Ed Jones||c|a.test\nM ||joe|where.test\nM John||jdoe|one.test\nE\n");
	list_is("Undisclosed recipients:;", "G Undisclosed recipients\nE\n");
	list_is("g: a@b", "G g\nM ||a|b\nE\n");
	list_is("Pete(A nice \\) chap) <pete(his account)@silly.test(his host)>", "M Pete||pete|silly.test\n");
	list_is("john.doe@machine.test (John (x) Doe)", "M John (x) Doe||john.doe|machine.test\n");
	list_is("Joe Q. Public <john . q . public@example . com>", "M Joe Q. Public||john.q.public|example.com\n");
	list_is("<@a.b,@c:x@y>", "M |@a.b,@c|x|y\n");
	list_is("\"a b\"@c", "M ||a b|c\n");
	list_is("a@[1.2.3.4]", "M ||a|[1.2.3.4]\n");
	list_is("=?utf-8?q?x?= <a@b>", "M =?utf-8?q?x?=||a|b\n");
	list_is("<>", "M |||\n");
	list_is("nobody", "M ||nobody|\n");
	list_is("a@b\r\n ,\r\n c@d", "M ||a|b\nM ||c|d\n");
	list_is("a@b; c@d", "M ||a|b\nM ||c|d\n");
	list_is("x <a@b", "M x||a|b\n");
	list_is("((((((", "");
	list_is("\"", "");
	list_is("a@b (c\\", "M c||a|b\n");
}

Test(address_list, stops_at_two_thousand_and_takes_linear_time)
{
	esp_buf b, scratch;
	esp_list_address a;
	esp_status st;

	esp_buf_init(&b, 10000000);
	esp_buf_init(&scratch, 10000000);
	for (int i = 0; i < 500000; i++)
		esp_buf_add_z(&b, "a@b,(x");
	esp_address_list l = esp_address_list_of(esp_buf_str(&b));
	while ((st = esp_address_list_next(&l, &scratch, &a)) == ESP_OK)
		;
	esp_buf_reset(&b);
	for (int i = 0; i < 500000; i++)
		esp_buf_add_z(&b, "a@b,");
	l = esp_address_list_of(esp_buf_str(&b));
	while ((st = esp_address_list_next(&l, &scratch, &a)) == ESP_OK)
		;
	cr_assert_eq(st, ESP_E2BIG);
	cr_assert_eq(l.count, 2000);
	esp_buf_free(&b);
	esp_buf_free(&scratch);
}

Test(message_id, finds_ids_between_other_text)
{
	esp_cursor c = esp_cursor_of(ESP_STR("<a@b> (comment <no@c>) \"<q@r>\" x <d@e>\r\n\t<f g> <<h@i> <>"));
	esp_str id;

	cr_assert_eq(esp_message_id_next(&c, &id), ESP_OK);
	assert_str(id, ESP_STR("a@b"));
	cr_assert_eq(esp_message_id_next(&c, &id), ESP_OK);
	assert_str(id, ESP_STR("d@e"));
	cr_assert_eq(esp_message_id_next(&c, &id), ESP_OK);
	assert_str(id, ESP_STR("h@i"));
	cr_assert_eq(esp_message_id_next(&c, &id), ESP_ENOENT);
}

Test(charset, gives_the_same_for_every_split)
{
	static const struct { const char *name; esp_str bytes; } sets[] = {
		{ "utf-8", { "a\xc3\xbc\xf0\x9f\x98\x80\xe2\x82\xc3\xbc\xf0\x9f\xff\xe2\x82", 16 } },
		{ "iso-2022-jp", { "a\x1b$BF|K\\\x1b(Bz\xff", 12 } }, { "big5", { "\xa4\xa4\xa4\xe5\xff" "a\xa4", 7 } },
		{ "utf-16le", { "a\0=\xd8\0\xde\0\xd8" "b\0c", 11 } }, { "windows-1252", { "\x80\x81x", 3 } },
		{ "gb18030", { "\xd6\xd0\x81\x30\x81\x30\x81", 7 } }, { "utf-7", { "a+AOk-b+", 8 } },
	};

	for (size_t i = 0; i < sizeof(sets) / sizeof(*sets); i++) {
		esp_buf whole, parts;

		esp_buf_init(&whole, 1000);
		esp_buf_init(&parts, 1000);
		cr_assert_eq(esp_charset_to_utf8(esp_str_z(sets[i].name), sets[i].bytes, &whole), ESP_OK);
		for (size_t a = 0; a <= sets[i].bytes.len; a++)
			for (size_t z = a; z <= sets[i].bytes.len; z++) {
				esp_charset cs;

				esp_buf_reset(&parts);
				cr_assert_eq(esp_charset_open(&cs, esp_str_z(sets[i].name)), ESP_OK);
				esp_charset_feed(&cs, esp_str_of(sets[i].bytes.ptr, a), &parts);
				esp_charset_feed(&cs, esp_str_of(sets[i].bytes.ptr + a, z - a), &parts);
				esp_charset_feed(&cs, esp_str_of(sets[i].bytes.ptr + z, sets[i].bytes.len - z), &parts);
				esp_charset_end(&cs, &parts);
				esp_charset_close(&cs);
				cr_expect(esp_str_eq(esp_buf_str(&whole), esp_buf_str(&parts)), "%s %zu %zu: <%.*s> <%.*s>",
					sets[i].name, a, z, ESP_FMT(esp_buf_str(&whole)), ESP_FMT(esp_buf_str(&parts)));
			}
		esp_buf_free(&whole);
		esp_buf_free(&parts);
	}
}

Test(charset, refuses_what_is_not_on_the_list)
{
	esp_charset cs;

	cr_assert_eq(esp_charset_open(&cs, ESP_STR("iso-2022-cn-ext")), ESP_ENOENT);
	cr_assert_eq(esp_charset_open(&cs, ESP_STR("utf-8//IGNORE")), ESP_ENOENT);
	cr_assert_eq(esp_charset_open(&cs, ESP_STR("UTF8\0x")), ESP_ENOENT);
}

Test(charset, opens_every_name_of_its_table)
{
	static const char *const some[] = { "windows-31j", "x-gbk", "iso-8859-8-i", "cp-850", "unicode-1-1-utf-7", "koi8-u",
		"tis-620", "euc-kr", "big5-hkscs", "macintosh", "windows-1258", "iso-8859-16", "iso-2022-kr", "utf-32",
		"windows-874", "ibm852" };

	for (size_t i = 0; i < sizeof(some) / sizeof(*some); i++) {
		esp_charset cs;

		cr_expect_eq(esp_charset_open(&cs, esp_str_z(some[i])), ESP_OK, "%s", some[i]);
		esp_charset_close(&cs);
	}
}

Test(header, base_subjects_lose_what_mailers_add)
{
	static const struct {
		const char *subject, *base;
		uint32_t reply;
	} known[] = {
		{ "hello", "hello", 0 }, { "Re: hello", "hello", 1 }, { "RE : re:hello  world ", "hello world", 1 },
		{ "Fw: Fwd: FWD[x]: hello", "hello", 1 }, { "[list] hello", "hello", 0 },
		{ "[list] Re: [list] hello", "hello", 1 },
		{ "[a][b] re[2]: c", "c", 1 }, { "[list]", "[list]", 0 }, { "[a] [b]", "[b]", 0 },
		{ "hello (fwd)", "hello", 1 },
		{ "hello (FWD) (fwd) ", "hello", 1 }, { "[Fwd: Re: hello]", "hello", 1 }, { "[fwd: [fwd: x (fwd)]]", "x", 1 },
		{ "re", "re", 0 }, { "Re:", "", 1 }, { "regarding: x", "regarding: x", 0 }, { "re[x: y", "re[x: y", 0 },
		{ "=?utf-8?q?Re=3A_Gr=C3=BC=C3=9Fe?=", "Gr\xc3\xbc\xc3\x9f" "e", 1 }, { "", "", 0 }, { " \t ", "", 0 },
		{ "Re: \r\n a\tb", "a b", 1 },
	};

	for (size_t i = 0; i < sizeof(known) / sizeof(*known); i++) {
		uint32_t reply = 7;
		esp_buf b;

		esp_buf_init(&b, 1000);
		cr_expect_eq(esp_subject_base(esp_str_z(known[i].subject), &b, &reply), ESP_OK);
		cr_expect(
			esp_str_eq(esp_buf_str(&b), esp_str_z(known[i].base)), "%s: %.*s", known[i].subject, (int)b.len, b.data);
		cr_expect_eq(reply, known[i].reply, "%s", known[i].subject);
		esp_buf_free(&b);
	}
}
