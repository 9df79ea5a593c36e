#include "mailtest.h"
#include <esp/mail/imap_read.h>
#include <esp/mailstore.h>

static esp_buf scratch;

static void setup(void)
{
	esp_buf_init(&scratch, 1u << 20);
}

static void teardown(void)
{
	esp_buf_free(&scratch);
}

TestSuite(imap, .init = setup, .fini = teardown);

static esp_imap_reader reader(esp_str s, uint32_t how)
{
	esp_imap_reader r;

	cr_assert_eq(esp_imap_reader_init(&r, s, how, &scratch), ESP_OK);
	return r;
}

Test(imap, reads_commands_and_their_uid_forms)
{
	esp_imap_command c;
	esp_imap_reader r = reader(ESP_STR("a.1 uid Fetch 1:*"), 0);

	cr_assert(esp_imap_read_command(&r, &c));
	assert_str(c.tag, ESP_STR("a.1"));
	assert_str(c.name, ESP_STR("Fetch"));
	cr_assert_eq(c.uid, 1);
	cr_assert(esp_imap_read_sp(&r));
	cr_assert(!esp_imap_read_end(&r));
	static const char *const bad[] = { "", "a", "a ", " NOOP", "+ NOOP", "a+ NOOP", "a  NOOP", "a \"NOOP\"", "a UID",
		"(a NOOP", "a\0 NOOP" };
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		r = reader(esp_str_z(bad[i]), 0);
		cr_expect(!esp_imap_read_command(&r, &c) && r.why, "%s", bad[i]);
	}
}

Test(imap, sees_literals_announced_at_the_end_of_a_line)
{
	uint64_t n;
	bool nonsync, binary;

	cr_assert_eq(esp_imap_literal(ESP_STR("a LOGIN {5}"), 100, &n, &nonsync, &binary), ESP_OK);
	cr_assert(n == 5 && !nonsync && !binary);
	cr_assert_eq(esp_imap_literal(ESP_STR("a APPEND x ~{7+}"), 100, &n, &nonsync, &binary), ESP_OK);
	cr_assert(n == 7 && nonsync && binary);
	cr_assert_eq(esp_imap_literal(ESP_STR("{101}"), 100, &n, &nonsync, &binary), ESP_E2BIG);
	cr_assert_eq(esp_imap_literal(ESP_STR("{99999999999999999999999}"), UINT64_MAX, &n, &nonsync, &binary), ESP_E2BIG);
	static const char *const none[] = { "", "}", "{}", "{+}", "5}", "{5", "{5} ", "{-5}", "{5-}", "{5++}" };
	for (size_t i = 0; i < sizeof(none) / sizeof(*none); i++)
		cr_expect_eq(esp_imap_literal(esp_str_z(none[i]), 100, &n, &nonsync, &binary), ESP_ENOENT, "%s", none[i]);
}

Test(imap, reads_strings_in_every_form)
{
	esp_imap_reader r = reader(ESP_STR("atom]x \"quo\\\"\\\\ted\" {5}\r\na\r\nbc {0+}\r\n NIL \"\" nil"), 0);
	esp_str s;

	cr_assert(esp_imap_read_astring(&r, &s) && esp_imap_read_sp(&r));
	assert_str(s, ESP_STR("atom]x"));
	cr_assert(esp_imap_read_astring(&r, &s) && esp_imap_read_sp(&r));
	assert_str(s, ESP_STR("quo\"\\ted"));
	cr_assert(esp_imap_read_astring(&r, &s) && esp_imap_read_sp(&r));
	assert_str(s, ESP_STR("a\r\nbc"));
	cr_assert(esp_imap_read_string(&r, &s) && esp_imap_read_sp(&r));
	cr_assert(s.len == 0 && s.ptr);
	cr_assert(esp_imap_read_nstring(&r, &s) && esp_imap_read_sp(&r));
	cr_assert_null(s.ptr);
	cr_assert(esp_imap_read_nstring(&r, &s) && esp_imap_read_sp(&r));
	cr_assert(s.ptr && s.len == 0);
	cr_assert(esp_imap_read_astring(&r, &s) && esp_imap_read_end(&r));
	assert_str(s, ESP_STR("nil"));
	static const struct {
		const char *p;
		size_t n;
	} bad[] = { { "\"a", 2 }, { "\"a\\", 3 }, { "\"a\\b\"", 5 }, { "\"a\nb\"", 5 }, { "\"\0\"", 3 }, { "{3}\r\nab", 7 },
		{ "{1}\r\n\0", 6 }, { "{3}ab", 5 }, { "{x}\r\n", 5 }, { "", 0 }, { "(", 1 }, { "\"\xff\"", 3 },
		{ "{99999999999999999999}\r\n", 24 } };
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		r = reader(esp_str_of(bad[i].p, bad[i].n), 0);
		cr_expect(!esp_imap_read_astring(&r, &s) && r.why, "%zu", i);
	}
}

Test(imap, reads_mailbox_names_as_utf8)
{
	static const struct { const char *in; uint32_t how; const char *want; } boxes[] = {
		{ "inBox", 0, "INBOX" }, { "\"a b\"", 0, "a b" }, { "&AOQ-", 0, "\xc3\xa4" },
		{ "\"x/&AOQ-\\\"\"", 0, "x/\xc3\xa4\"" },
		{ "\"\xc3\xa4\"", ESP_IMAP_UTF8, "\xc3\xa4" }, { "a&b", ESP_IMAP_UTF8, "a&b" }, { "a&b", 0, NULL },
		{ "\"\xc3\xa4\"", 0, NULL },
		{ "{3}\r\na&-", 0, "a&" },
	};
	for (size_t i = 0; i < sizeof(boxes) / sizeof(*boxes); i++) {
		esp_imap_reader r = reader(esp_str_z(boxes[i].in), boxes[i].how);
		esp_str s;
		bool ok = esp_imap_read_mailbox(&r, &s) && esp_imap_read_end(&r);

		cr_expect_eq(ok, boxes[i].want != NULL, "%s", boxes[i].in);
		if (ok)
			assert_str(s, esp_str_z(boxes[i].want));
	}
	esp_imap_reader r = reader(ESP_STR("%/&AOQ-*"), 0);
	esp_str s;
	cr_assert(esp_imap_read_list_mailbox(&r, &s));
	assert_str(s, ESP_STR("%/\xc3\xa4*"));
}

Test(imap, reads_sets_and_makes_them_ascending)
{
	esp_imap_reader r = reader(ESP_STR("7:5,1,2:3,*,9:*,*:8,6"), 0);
	esp_buf b;

	esp_buf_init(&b, ESP_IMAP_RANGES_MAX * sizeof(esp_imap_range));
	cr_assert(esp_imap_read_set(&r, &b) && esp_imap_read_end(&r));
	esp_imap_range *range = (esp_imap_range *)(void *)b.data;
	size_t n = esp_imap_ranges_normalise(range, b.len / sizeof(*range), 12);
	cr_assert_eq(n, 2);
	cr_assert(range[0].first == 1 && range[0].last == 3 && range[1].first == 5 && range[1].last == 12);
	static const char *const bad[] = { "", "0", "1:", ":1", "1,", ",1", "a", "4294967296", "1:0", "1::2", "-1", "1 2" };
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		esp_buf_reset(&b);
		r = reader(esp_str_z(bad[i]), 0);
		cr_expect(!(esp_imap_read_set(&r, &b) && esp_imap_read_end(&r)), "%s", bad[i]);
	}
	esp_buf many;
	esp_buf_init(&many, 100000);
	for (int i = 0; i < 10000; i++)
		esp_buf_add_z(&many, "1,");
	esp_buf_add_z(&many, "1");
	esp_buf_reset(&b);
	r = reader(esp_buf_str(&many), 0);
	cr_assert(!esp_imap_read_set(&r, &b));
	esp_imap_range star[] = { { 0, 0 }, { 5, 0 } };
	cr_assert_eq(esp_imap_ranges_normalise(star, 1, 0), 0);
	star[0] = (esp_imap_range){ 5, 0 };
	cr_assert_eq(esp_imap_ranges_normalise(star, 1, 3), 1);
	cr_assert(star[0].first == 3 && star[0].last == 5);
	esp_buf_free(&many);
	esp_buf_free(&b);
}

Test(imap, reads_flags)
{
	esp_imap_flags f;
	esp_imap_reader r = reader(ESP_STR("(\\sEEN \\Deleted $Fwd $fwd \\Recent x]"), 0);

	cr_assert(!esp_imap_read_flags(&r, false, &f));
	r = reader(ESP_STR("(\\sEEN \\Deleted $Fwd $fwd \\Recent)"), 0);
	cr_assert(esp_imap_read_flags(&r, false, &f) && esp_imap_read_end(&r));
	cr_assert_eq(f.system, (uint32_t)(ESP_IMAP_SEEN | ESP_IMAP_DELETED));
	cr_assert_eq(f.nkeywords, 1);
	r = reader(ESP_STR("\\Seen a"), 0);
	cr_assert(esp_imap_read_flags(&r, true, &f) && f.nkeywords == 1);
	r = reader(ESP_STR("()"), 0);
	cr_assert(esp_imap_read_flags(&r, false, &f) && f.system == 0);
	static const char *const bad[] = { "(", "(\\Bogus)", "(a", "(a  b)", "\\Seen", "( a)", "(\\)" };
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		r = reader(esp_str_z(bad[i]), 0);
		cr_expect(!esp_imap_read_flags(&r, false, &f), "%s", bad[i]);
	}
}

/* Reads FETCH items and writes their sections back. */
static void fetch_is(const char *in, const char *want)
{
	esp_imap_item *items = calloc(ESP_IMAP_ITEMS_MAX, sizeof(*items));
	esp_str s = tight(esp_str_z(in));
	esp_imap_reader r = reader(s, 0);
	uint32_t n, i;
	esp_buf b;
	bool ok = esp_imap_read_fetch(&r, items, ESP_IMAP_ITEMS_MAX, &n) && esp_imap_read_end(&r);

	cr_expect_eq(ok, want != NULL, "%s: %s", in, r.why ? r.why : "ok");
	esp_buf_init(&b, 10000);
	for (i = 0; ok && want && i < n; i++) {
		esp_buf_addf(&b, "%s%u%s", i ? " " : "", items[i].kind, items[i].peek ? "" : "!");
		if (items[i].kind == ESP_ITEM_BODY_SECTION || items[i].kind == ESP_ITEM_BINARY)
			esp_imap_add_section(&b, &items[i]);
	}
	if (ok && want)
		cr_expect(esp_str_eq(esp_buf_str(&b), esp_str_z(want)), "%s: got %.*s want %s", in, (int)b.len, b.data, want);
	esp_buf_free(&b);
	free(items);
	free((void *)(uintptr_t)s.ptr);
}

Test(imap, reads_fetch_items_and_sections)
{
	fetch_is("FAST", "2 3 6");
	fetch_is("all", "2 3 6 1");
	fetch_is("FULL", "2 3 6 1 8");
	fetch_is("(FLAGS BODY BODYSTRUCTURE UID RFC822 RFC822.HEADER RFC822.TEXT)", "2 8 9 10 4! 5 7!");
	fetch_is("BODY[]", "11![]");
	fetch_is("BODY.PEEK[1.2.HEADER.FIELDS (From \"To\" {1}\r\nX)]<0.100>", "11[1.2.HEADER.FIELDS (From To X)]<0>");
	fetch_is("(BODY[HEADER] body[header.fields.not (a)] BODY[1.MIME] BODY[TEXT]<5.1> BODY[4294967295])",
		 "11![HEADER] 11![HEADER.FIELDS.NOT (a)] 11![1.MIME] 11![TEXT]<5> 11![4294967295]");
	fetch_is("(BINARY.PEEK[1] BINARY.SIZE[2.3])", "12[1] 13");
	static const char *const bad[] = { "", "(", "()", "(FLAGS", "FLAGS)", "BOGUS", "(ALL)", "BODY[", "BODY[0]",
		"BODY[1.]", "BODY[MIME]", "BODY[1.X]", "BODY[X]", "BODY[HEADER.FIELDS]", "BODY[HEADER.FIELDS ()]",
		"BODY[HEADER.FIELDS (a)", "BODY[]<1>", "BODY[]<1.0>", "BODY[]<1.2", "BODY[]<.2>", "RFC822[]", "FLAGS FLAGS",
		"BINARY[HEADER]", "BODY[1..2]", "BODY[4294967296]", "(FLAGS  UID)",
		"BODY[1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1]" };
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		fetch_is(bad[i], NULL);
}

static const char nested[] = "Subject: outer\r\nContent-Type: multipart/mixed; boundary=a\r\n\r\n--a\r\nX: "
							 "1\r\n\r\none\r\n--a\r\nContent-Type: message/rfc822\r\n\r\n"
							 "Subject: inner\r\nTo: t\r\n\r\nbody2\r\n--a\r\nContent-Type: "
							 "message/rfc822\r\n\r\nSubject: in3\r\nContent-Type: multipart/x; boundary=b\r\n\r\n"
							 "--b\r\n\r\n3.1\r\n--b\r\n\r\n3.2\r\n--b--\r\n--a--\r\n";

static void section_is(const char *message, const char *section, const char *want)
{
	char item_text[200];
	esp_imap_item item;
	uint32_t n;
	esp_mime m;
	esp_buf out;
	esp_str got;
	esp_status st;

	snprintf(item_text, sizeof(item_text), "BODY[%s]", section);
	esp_imap_reader r = reader(esp_str_z(item_text), 0);
	cr_assert(esp_imap_read_fetch(&r, &item, 1, &n));
	esp_buf_init(&out, 10000);
	cr_assert_eq(esp_mime_parse(esp_str_z(message), &m), ESP_OK);
	st = esp_imap_section_resolve(&m, &item.section, &out, &got);
	cr_expect_eq(st, want ? ESP_OK : ESP_ENOENT, "%s", section);
	if (st == ESP_OK && want)
		cr_expect(esp_str_eq(got, esp_str_z(want)), "%s: got <%.*s>", section, ESP_FMT(got));
	esp_mime_free(&m);
	esp_buf_free(&out);
}

Test(imap, finds_the_bytes_of_every_section)
{
	section_is(nested, "", nested);
	section_is(nested, "HEADER", "Subject: outer\r\nContent-Type: multipart/mixed; boundary=a\r\n\r\n");
	section_is(nested, "1", "one");
	section_is(nested, "1.MIME", "X: 1\r\n\r\n");
	section_is(nested, "1.1", NULL);
	section_is(nested, "1.HEADER", NULL);
	section_is(nested, "1.TEXT", NULL);
	section_is(nested, "2", "Subject: inner\r\nTo: t\r\n\r\nbody2");
	section_is(nested, "2.HEADER", "Subject: inner\r\nTo: t\r\n\r\n");
	section_is(nested, "2.TEXT", "body2");
	section_is(nested, "2.1", "body2");
	section_is(nested, "2.2", NULL);
	section_is(nested, "2.1.1", NULL);
	section_is(nested, "2.MIME", "Content-Type: message/rfc822\r\n\r\n");
	section_is(nested, "3.1", "3.1");
	section_is(nested, "3.2", "3.2");
	section_is(nested, "3.3", NULL);
	section_is(nested, "4", NULL);
	section_is(nested, "HEADER.FIELDS (SUBJECT X)", "Subject: outer\r\n\r\n");
	section_is(nested, "3.HEADER.FIELDS.NOT (SUBJECT)", "Content-Type: multipart/x; boundary=b\r\n\r\n");
	section_is(nested, "HEADER.FIELDS (None)", "\r\n");
	section_is("A: b\r\n\r\ntext", "1", "text");
	section_is("A: b\r\n\r\ntext", "1.MIME", "A: b\r\n\r\n");
	section_is("A: b\r\n\r\ntext", "2", NULL);
	section_is("A: b\r\n\r\ntext", "TEXT", "text");
	section_is("A: b", "HEADER.FIELDS (A)", "A: b\r\n\r\n");
	section_is("Content-Type: message/rfc822\r\n\r\nA: b\r\n\r\nin", "1.1", "in");
	section_is("Content-Type: message/rfc822\r\n\r\nA: b\r\n\r\nin", "1.HEADER", "A: b\r\n\r\n");
}

Test(imap, cuts_partials)
{
	esp_imap_item item = { .has_partial = 1, .partial_offset = 2, .partial_count = 3 };

	assert_str(esp_imap_partial(ESP_STR("abcdefg"), &item), ESP_STR("cde"));
	assert_str(esp_imap_partial(ESP_STR("abcd"), &item), ESP_STR("cd"));
	assert_str(esp_imap_partial(ESP_STR("ab"), &item), ESP_STR(""));
}

/* The tree as text, kind(children), with the walk limited by the number of nodes. */
static void write_key(esp_imap_search *s, uint32_t i, esp_buf *b, int depth)
{
	esp_imap_key *k = &esp_imap_keys(s)[i];

	cr_assert_leq(depth, 60);
	esp_buf_addf(b, "%u", k->kind);
	if (k->number)
		esp_buf_addf(b, "#%llu", (unsigned long long)k->number);
	if (k->text.ptr)
		esp_buf_addf(b, "<%.*s:%.*s>", ESP_FMT(k->header), ESP_FMT(k->text));
	for (uint32_t n = 0; n < k->nranges; n++)
		esp_buf_addf(
			b, "[%u:%u]", esp_imap_ranges(s)[k->first_range + n].first, esp_imap_ranges(s)[k->first_range + n].last);
	if (k->child) {
		esp_buf_add_char(b, '(');
		for (uint32_t c = k->child; c; c = esp_imap_keys(s)[c].next) {
			cr_assert_gt(c, i);
			write_key(s, c, b, depth + 1);
			if (esp_imap_keys(s)[c].next)
				esp_buf_add_char(b, ' ');
		}
		esp_buf_add_char(b, ')');
	}
}

static void search_is(const char *in, const char *want)
{
	esp_str text = tight(esp_str_z(in));
	esp_imap_reader r = reader(text, 0);
	esp_imap_search s;
	esp_buf b;
	bool ok;

	esp_imap_search_init(&s);
	esp_buf_init(&b, 100000);
	ok = esp_imap_read_search(&r, &s);
	cr_expect_eq(ok, want != NULL, "%s: %s", in, r.why ? r.why : "ok");
	if (ok) {
		write_key(&s, 0, &b, 0);
		if (want)
			cr_expect(
				esp_str_eq(esp_buf_str(&b), esp_str_z(want)), "%s: got %.*s want %s", in, (int)b.len, b.data, want);
	}
	esp_buf_free(&b);
	esp_imap_search_free(&s);
	free((void *)(uintptr_t)text.ptr);
}

Test(imap, reads_search_programs)
{
	search_is("ALL", "2(1)");
	search_is("1:5,* UNSEEN", "2(5[1:5][0:0] 4(7#1))");
	search_is("OR SEEN NOT DELETED FROM joe", "2(3(7#1 4(7#8)) 20<From:joe>)");
	search_is("NOT (ANSWERED OR UID 1:2 NEW) RECENT", "2(4(2(7#2 3(6[1:2] 9))) 11)");
	search_is("OR OR SEEN DRAFT OR FLAGGED OLD", "2(3(3(7#1 7#16) 3(7#4 10)))");
	search_is(
		"CHARSET utf-8 SUBJECT \"\xc3\xa4 b\" TEXT {2}\r\nab BODY \"\"", "2(20<Subject:\xc3\xa4 b> 22<:ab> 21<:>)");
	search_is("HEADER X-Y \"z\" KEYWORD $a UNKEYWORD $b", "2(20<X-Y:z> 8<:$a> 4(8<:$b>))");
	search_is("SINCE 1-Feb-1994 BEFORE \"2-Feb-1994\" ON 3-Feb-1994 SENTSINCE 1-Jan-2000 SENTBEFORE 1-Jan-2000 SENTON "
			  "1-Jan-2000",
		"2(14 12 13 17 15 16)");
	search_is("LARGER 100 SMALLER 4294967295 MODSEQ 5 MODSEQ \"/flags/\\\\draft\" all 6 YOUNGER 9 OLDER 1",
		  "2(18#100 19#4294967295 23#5 23#6 24#9 25#1)");
	search_is("(((SEEN)))", "2(2(2(2(7#1))))");
	search_is("BCC a CC b TO c UNANSWERED UNDRAFT UNFLAGGED UNDELETED",
		  "2(20<Bcc:a> 20<Cc:b> 20<To:c> 4(7#2) 4(7#16) 4(7#4) 4(7#8))");
	static const char *const bad[] = { "", " ALL", "ALL ", "BOGUS", "NOT", "NOT ", "OR SEEN", "OR SEEN ", "()", "(ALL",
		"ALL)", "(ALL) )", "FROM", "FROM ", "LARGER x", "LARGER 4294967296", "SINCE x", "SINCE 31-Feb-2000",
		"CHARSET utf-8", "CHARSET latin1 ALL", "0", "1:", "HEADER a", "ALL  SEEN", "UID", "UID x", "TEXT \"\xff\"",
		"TEXT {1}\r\n\xff", "((((((((((((((((((((((ALL))))))))))))))))))))))", "MODSEQ",
		"NOT NOT NOT NOT NOT NOT NOT NOT NOT NOT NOT NOT NOT NOT NOT NOT NOT NOT NOT NOT NOT NOT ALL" };
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		search_is(bad[i], NULL);
}

Test(imap, bounds_the_keys_of_a_search_and_tells_a_bad_charset)
{
	esp_imap_search s;
	esp_imap_reader r;
	esp_buf b;

	esp_buf_init(&b, 100000);
	for (int i = 0; i < 499; i++)
		esp_buf_add_z(&b, i ? " SEEN" : "SEEN");
	esp_imap_search_init(&s);
	r = reader(esp_buf_str(&b), 0);
	cr_assert(esp_imap_read_search(&r, &s));
	esp_buf_add_z(&b, " SEEN");
	r = reader(esp_buf_str(&b), 0);
	cr_assert(!esp_imap_read_search(&r, &s));
	r = reader(ESP_STR("CHARSET latin1 ALL"), 0);
	cr_assert(!esp_imap_read_search(&r, &s) && s.bad_charset);
	esp_imap_search_free(&s);
	esp_buf_free(&b);
}

Test(imap, survives_commands_cut_at_every_byte)
{
	static const char *const texts[] = {
		"CHARSET utf-8 OR (NOT SEEN 1:3) HEADER \"a\\\"\" {3}\r\nabc SINCE \"1-Feb-1994\" MODSEQ \"/x\" all 5",
		"(FLAGS BODY.PEEK[1.2.HEADER.FIELDS (\"a\\\\\" {1}\r\nb)]<1.2>)", "(\\Seen $a)", "\"a&AOQ-\\\"\""
	};
	esp_imap_item *items = calloc(8, sizeof(*items));
	esp_imap_search s;

	esp_imap_search_init(&s);
	for (size_t t = 0; t < 4; t++)
		for (size_t n = 0; n <= strlen(texts[t]); n++) {
			esp_str in = tight(esp_str_of(texts[t], n)), name;
			esp_imap_flags f;
			uint32_t k;
			esp_imap_reader r = reader(in, 0);

			(void)esp_imap_read_search(&r, &s);
			r = reader(in, 0);
			(void)esp_imap_read_fetch(&r, items, 8, &k);
			r = reader(in, 0);
			(void)esp_imap_read_flags(&r, true, &f);
			r = reader(in, 0);
			(void)esp_imap_read_mailbox(&r, &name);
			free((void *)(uintptr_t)in.ptr);
		}
	esp_imap_search_free(&s);
	free(items);
}

Test(imap, numbers_keys_and_flags_as_the_mailstore_does)
{
	cr_assert((int)ESP_KEY_ALL == (int)ESP_SEARCH_ALL && (int)ESP_KEY_OLDER == (int)ESP_SEARCH_OLDER);
	cr_assert((int)ESP_KEY_HEADER == (int)ESP_SEARCH_HEADER && (int)ESP_KEY_SENTSINCE == (int)ESP_SEARCH_SENTSINCE);
	cr_assert((int)ESP_IMAP_SEEN == (int)ESP_FLAG_SEEN && (int)ESP_IMAP_DRAFT == (int)ESP_FLAG_DRAFT &&
		  (int)ESP_IMAP_DELETED == (int)ESP_FLAG_DELETED);
}
