/* What another IMAP server answers: framing in every split, elements, FETCH, LIST, SEARCH; and what makes no sense. */
#include <criterion/criterion.h>

#include <stdlib.h>
#include <string.h>

#include "modules/storage/archive/response.h"

#define INIT(s) { "" s, sizeof(s) - 1 }
#define STR(s)  ((esp_str)INIT(s))

/* --- pieces ------------------------------------------------------------------------------------------------------ */

static const esp_str stream = INIT(
	"* OK hello\r\n"
	"* LIST (\\HasNoChildren) \"/\" INBOX\r\n"
	"* LIST () \"/\" {5}\r\na\"b)c\r\n"
	"* 1 FETCH (UID 7 BODY[] {24}\r\n* 2 FETCH (UID 9)\r\n{3}\r\n FLAGS (\\Seen))\r\n"
	"* 2 FETCH (UID 8 BODY[] {0}\r\n BODY[HEADER] {2}\r\n\r\n)\r\n"
	"* SEARCH 1 2 3\n"
	"* 3 FETCH (BODY[] {3}\r\n\0\xff\n)\r\n"
	"+ \r\n"
	"\r\n"
	"e1 OK done {x}\r\n");
static const esp_str wanted[] = {
	INIT("* OK hello"),
	INIT("* LIST (\\HasNoChildren) \"/\" INBOX"),
	INIT("* LIST () \"/\" {5}\r\na\"b)c"),
	INIT("* 1 FETCH (UID 7 BODY[] {24}\r\n* 2 FETCH (UID 9)\r\n{3}\r\n FLAGS (\\Seen))"),
	INIT("* 2 FETCH (UID 8 BODY[] {0}\r\n BODY[HEADER] {2}\r\n\r\n)"),
	INIT("* SEARCH 1 2 3"),
	INIT("* 3 FETCH (BODY[] {3}\r\n\0\xff\n)"),
	INIT("+ "),
	INIT(""),
	INIT("e1 OK done {x}"),
};
#define WANTED (sizeof wanted / sizeof wanted[0])

/* Each piece is a copy of its own size, so that a sanitizer sees what reads beyond. */
static void feed(struct response *r, esp_str piece, size_t *at)
{
	char *copy = malloc(piece.len ? piece.len : 1);
	esp_str in = { copy, piece.len };

	cr_assert_not_null(copy);
	memcpy(copy, piece.ptr, piece.len);
	while (in.len) {
		esp_status st = response_feed(r, &in);
		if (st == ESP_EAGAIN)
			break;
		cr_assert_eq(st, ESP_OK);
		cr_assert_lt(*at, WANTED);
		cr_assert(esp_str_eq(esp_buf_str(&r->text), wanted[*at]), "response %zu is \"%.*s\"", *at,
		          (int)r->text.len, r->text.data);
		(*at)++;
		response_reset(r);
	}
	cr_assert_eq(in.len, 0, "what belongs to this one was taken");
	free(copy);
}

static void feed_split(size_t first, size_t step)
{
	struct response r;
	size_t at = 0, from = 0, n = first;

	response_init(&r);
	while (from < stream.len) {
		n = n < stream.len - from ? n : stream.len - from;
		feed(&r, (esp_str){ stream.ptr + from, n }, &at);
		from += n;
		n = step;
	}
	cr_assert_eq(at, WANTED, "cut at %zu, then every %zu: %zu responses", first, step, at);
	response_free(&r);
}

Test(response, is_the_same_in_every_split_of_its_bytes)
{
	for (size_t first = 1; first <= stream.len; first++)
		feed_split(first, stream.len);
	for (size_t step = 1; step <= 9; step++)
		for (size_t first = 1; first <= step; first++)
			feed_split(first, step);
}

Test(response, that_is_cut_off_waits_for_the_rest)
{
	for (size_t n = 0; n < stream.len; n++) {
		struct response r;
		esp_str in = { stream.ptr, n };
		size_t whole = 0;

		response_init(&r);
		while (response_feed(&r, &in) == ESP_OK) {
			whole++;
			response_reset(&r);
		}
		cr_assert_lt(whole, WANTED);
		cr_assert_eq(in.len, 0);
		response_free(&r);
	}
}

static esp_status framed(const char *text)
{
	struct response r;
	esp_str in = { text, strlen(text) };
	esp_status st;

	response_init(&r);
	st = response_feed(&r, &in);
	response_free(&r);
	return st;
}

Test(response, has_literals_up_to_the_largest_message_and_no_larger)
{
	cr_assert_eq(framed("* 1 FETCH (BODY[] {268435456}\r\n"), ESP_EAGAIN);
	cr_assert_eq(framed("* 1 FETCH (BODY[] {268435457}\r\n"), ESP_E2BIG);
	cr_assert_eq(framed("* 1 FETCH (BODY[] {99999999999999999999999999999999999999}\r\n"), ESP_E2BIG);
	cr_assert_eq(framed("* 1 FETCH (BODY[] {00000000000000000000000000000000000000001}\r\nx)\r\n"), ESP_OK);
	/* none of these is a literal */
	cr_assert_eq(framed("* OK {}\r\n"), ESP_OK);
	cr_assert_eq(framed("* OK {-1}\r\n"), ESP_OK);
	cr_assert_eq(framed("* OK {5} \r\n"), ESP_OK);
	cr_assert_eq(framed("* OK 5}\r\n"), ESP_OK);
	cr_assert_eq(framed("{\r\n"), ESP_OK);
	cr_assert_eq(framed("}\r\n"), ESP_OK);
	cr_assert_eq(framed("5}\r\n"), ESP_OK);
	cr_assert_eq(framed("{5}\r\nabcde\r\n"), ESP_OK);
}

Test(response, never_takes_a_line_without_end)
{
	static char piece[1 << 20];
	struct response r;
	esp_status st = ESP_EAGAIN;
	size_t fed = 0;

	memset(piece, 'x', sizeof piece);
	response_init(&r);
	while (st == ESP_EAGAIN && fed <= 2 * RESPONSE_TEXT) {
		esp_str in = { piece, sizeof piece };
		st = response_feed(&r, &in);
		fed += sizeof piece;
	}
	cr_assert_eq(st, ESP_E2BIG);
	cr_assert_leq(r.text.len, RESPONSE_TEXT);
	response_free(&r);
}

/* Nor many small ones with literals between. */
Test(response, counts_lines_beside_literals_together)
{
	static char piece[(1 << 20) + 64];
	struct response r;
	esp_status st = ESP_EAGAIN;
	unsigned lines = 0;

	memset(piece, 'x', 1 << 20);
	memcpy(piece + (1 << 20), "{1}\r\n.", 7);
	response_init(&r);
	while (st == ESP_EAGAIN && lines++ < 200) {
		esp_str in = { piece, (1 << 20) + 6 };
		st = response_feed(&r, &in);
	}
	cr_assert_eq(st, ESP_E2BIG);
	cr_assert_eq(lines, 64);
	response_free(&r);
}

/* --- elements ---------------------------------------------------------------------------------------------------- */

/* Readers may write into a response: each gets a copy, of exactly its size. */
static struct { char *data; } held;

static esp_str copy_of(esp_str s)
{
	free(held.data);
	held.data = malloc(s.len ? s.len : 1);
	cr_assert_not_null(held.data);
	memcpy(held.data, s.ptr, s.len);
	return (esp_str){ held.data, s.len };
}

#define COPY(s) copy_of(STR(s))

static const char *string(esp_str in)
{
	static char out[100];
	esp_cursor c = esp_cursor_of(copy_of(in));
	esp_str s;

	if (!response_string(&c, &s))
		return "none";
	if (!s.ptr)
		return "nil";
	snprintf(out, sizeof out, "%.*s+%zu", ESP_FMT(s), esp_cursor_left(&c));
	return out;
}

Test(element, is_an_atom_a_quoted_string_a_literal_or_nil)
{
	cr_assert_str_eq(string(STR("INBOX x")), "INBOX+2");
	cr_assert_str_eq(string(STR("a)")), "a+1");
	cr_assert_str_eq(string(STR("\"a b\" c")), "a b+2");
	cr_assert_str_eq(string(STR("\"\"")), "+0");
	cr_assert_str_eq(string(STR("\"\\\\\\\"x\"")), "\\\"x+0");
	cr_assert_str_eq(string(STR("{3}\r\na\"b)")), "a\"b+1");
	cr_assert_str_eq(string(STR("{3}\na\"b)")), "a\"b+1");
	cr_assert_str_eq(string(STR("{0}\r\n")), "+0");
	cr_assert_str_eq(string(STR("NIL ")), "nil");
	cr_assert_str_eq(string(STR("nil")), "nil");
	cr_assert_str_eq(string(STR("\"NIL\"")), "NIL+0");
	const esp_str bad[] = { STR(""), STR(" x"), STR("("), STR(")"), STR("\"open"), STR("\"open\\"), STR("\"open\\\""),
		STR("{"), STR("{3"), STR("{3}"), STR("{3}\r"), STR("{3}\r\n"), STR("{3}\r\nab"), STR("{}\r\n"),
		STR("{x}\r\nabc"), STR("{3}abc"), STR("{18446744073709551619}\r\nabc"), STR("{-1}\r\n"),
		STR("{268435457}\r\n") };
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		cr_assert_str_eq(string(bad[i]), "none", "%zu", i);
}

static size_t skipped(esp_str in)
{
	esp_cursor c = esp_cursor_of(copy_of(in));

	return response_skip(&c) ? in.len - esp_cursor_left(&c) : 0;
}

Test(element, is_passed_over_with_its_parentheses)
{
	char deep[400];

	cr_assert_eq(skipped(STR("() x")), 2);
	cr_assert_eq(skipped(STR("(a (b \"c)\") {2}\r\n)) d) x")), 22);
	cr_assert_eq(skipped(STR("atom)")), 4);
	cr_assert_eq(skipped(STR("((a)")), 0);
	cr_assert_eq(skipped(STR("(")), 0);
	cr_assert_eq(skipped(STR(")")), 0);
	cr_assert_eq(skipped(STR("(\"x")), 0);
	memset(deep, '(', 200);
	memset(deep + 200, ')', 200);
	cr_assert_eq(skipped((esp_str){ deep, 400 }), 0, "nobody nests that deep");
	cr_assert_eq(skipped((esp_str){ deep + 150, 100 }), 100);
}

/* --- FETCH ------------------------------------------------------------------------------------------------------- */

static struct marks marks;
static struct response_message message;

static int fetch(esp_str in)
{
	message = (struct response_message){ .marks = &marks };
	return response_fetch(copy_of(in), &message);
}

Test(fetch, brings_what_was_asked_for_in_any_order)
{
	cr_assert_eq(
		fetch(STR("* 5 FETCH (UID 7 FLAGS (\\Seen $Work \\Flagged x:y) INTERNALDATE \"17-Jul-1996 02:44:25 -0700\""
				  " BODY[] {5}\r\na)\0 b)")),
		1);
	cr_assert_eq(message.uid, 7);
	cr_assert_eq(message.date, 837596665);
	cr_assert(message.has_body && esp_str_eq(message.body, STR("a)\0 b")));
	cr_assert_eq(marks.flags, ESP_FLAG_SEEN | ESP_FLAG_FLAGGED);
	cr_assert(marks.n == 2 && marks_has(&marks, "$Work") && marks_has(&marks, "x:y"));

	cr_assert_eq(fetch(STR("* 5 fetch (body[] \"quoted\" modseq (12) internaldate NIL flags () uid 4294967295) ")), 1);
	cr_assert_eq(message.uid, 4294967295);
	cr_assert_eq(message.date, 0);
	cr_assert(esp_str_eq(message.body, STR("quoted")));
	cr_assert(marks.flags == 0 && marks.n == 0, "nothing is left of the one before");

	cr_assert_eq(
		fetch(STR("* 1 FETCH (BODY[HEADER.FIELDS (A \"B)\")] {2}\r\n)) ENVELOPE (NIL (\"x\" (y))) UID 3)")), 1);
	cr_assert(message.uid == 3 && !message.has_body);
	cr_assert_eq(fetch(STR("* 1 FETCH (UID 3 BODY[] NIL)")), 1);
	cr_assert(message.has_body && !message.body.ptr, "expunged");
	cr_assert_eq(fetch(STR("* 1 FETCH (UID 3 BODY[] {0}\r\n)")), 1);
	cr_assert(message.has_body && message.body.ptr && message.body.len == 0, "empty");
	cr_assert_eq(fetch(STR("* 1 FETCH ()")), 1);
	cr_assert_eq(fetch(STR("* 1 FETCH (INTERNALDATE \"yesterday\")")), 1);
	cr_assert_eq(message.date, 0);
}

Test(fetch, is_not_what_else_a_server_says)
{
	const esp_str others[] = { STR(""), STR("*"), STR("* "), STR("* OK hi"), STR("* 5 EXISTS"), STR("* 5 EXPUNGE"),
		STR("* FLAGS (\\Seen)"), STR("+ go on"), STR("e1 OK"), STR("* LIST () NIL FETCH"), STR("* 5 FETCHES (UID 1)"),
		STR("* 99999999999 FETCH (UID 1)"), STR("* x FETCH (UID 1)") };

	for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
		cr_assert_eq(fetch(others[i]), 0, "%.*s", ESP_FMT(others[i]));
}

Test(fetch, that_makes_no_sense_is_told_apart)
{
	const esp_str bad[] = { STR("* 1 FETCH "), STR("* 1 FETCH UID 1"), STR("* 1 FETCH ("), STR("* 1 FETCH (UID"),
		STR("* 1 FETCH (UID )"), STR("* 1 FETCH (UID x)"), STR("* 1 FETCH (UID 4294967296)"),
		STR("* 1 FETCH (FLAGS x)"), STR("* 1 FETCH (FLAGS (\\Seen)"), STR("* 1 FETCH (FLAGS (()))"),
		STR("* 1 FETCH (BODY[] )"), STR("* 1 FETCH (BODY[] {3}\r\nabcdef)"), /* three of six bytes */
		STR("* 1 FETCH (BODY[] {6}\r\nabc)"), STR("* 1 FETCH (INTERNALDATE )"), STR("* 1 FETCH (X)"),
		STR("* 1 FETCH (X (a)"), STR("* 1 FETCH (UID 1) more"), STR("* 1 FETCH (UID 1))") };

	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		cr_assert_eq(fetch(bad[i]), -1, "%.*s", ESP_FMT(bad[i]));
}

Test(fetch, has_only_so_many_keywords)
{
	static char text[100000];
	size_t n = (size_t)snprintf(text, sizeof text, "* 1 FETCH (FLAGS (");

	for (int i = 0; i < 5000; i++)
		n += (size_t)snprintf(text + n, sizeof text - n, "k%d ", i);
	n += (size_t)snprintf(text + n, sizeof text - n, "\\Seen))");
	cr_assert_eq(fetch((esp_str){ text, n }), 1);
	cr_assert_eq(marks.n, ESP_KEYWORDS_MAX);
	cr_assert_eq(marks.flags, ESP_FLAG_SEEN);
}

/* --- folders and UIDs -------------------------------------------------------------------------------------------- */

static const char *listed(esp_str in)
{
	static char out[2000];
	struct response_folder f;
	char name[1500];
	esp_buf b;
	int is = response_list(copy_of(in), &f);

	if (is != 1)
		return is ? "nonsense" : "other";
	esp_buf_init_fixed(&b, name, sizeof name);
	if (names_of_imap(f.name, f.separator, &b) != ESP_OK)
		return "no name";
	snprintf(out, sizeof out, "%.*s%s", (int)b.len, name, f.no_mail ? " (no mail)" : "");
	return out;
}

Test(list, names_folders_with_any_separator_and_in_utf7)
{
	cr_assert_str_eq(listed(STR("* LIST (\\HasNoChildren) \"/\" INBOX")), "INBOX");
	cr_assert_str_eq(listed(STR("* LIST () \".\" \"a.b/c\"")), "a/b_c");
	cr_assert_str_eq(listed(STR("* LIST () \"\\\\\" \"a\\\\b\"")), "a/b");
	cr_assert_str_eq(listed(STR("* LIST () \"|\" {3}\r\na|b")), "a/b");
	cr_assert_str_eq(listed(STR("* LIST () \"\\\"\" \"a\\\"b\"")), "a/b");
	cr_assert_str_eq(listed(STR("* LIST () NIL \"a/b.c\"")), "a_b.c");
	cr_assert_str_eq(listed(STR("* LIST () \"\" flat")), "flat");
	cr_assert_str_eq(listed(STR("* LIST () \"::\" a:b")), "a/b");
	cr_assert_str_eq(listed(STR("* LIST (\\Noselect) \"/\" top")), "top (no mail)");
	cr_assert_str_eq(listed(STR("* list (\\HasChildren \\NONEXISTENT) \"/\" top")), "top (no mail)");
	cr_assert_str_eq(listed(STR("* LIST () \"/\" \"Entw&APw-rfe/&2D3c7A-\"")), "Entw\xc3\xbcrfe/\xf0\x9f\x93\xac");
	cr_assert_str_eq(listed(STR("* LIST () \"/\" \"R&-D\"")), "R&D");
	/* no UTF-7, or a broken one: as it stands */
	cr_assert_str_eq(listed(STR("* LIST () \"/\" \"R&D\"")), "R&D");
	cr_assert_str_eq(listed(STR("* LIST () \"/\" \"&AP\"")), "&AP");
	cr_assert_str_eq(listed(STR("* LIST () \"/\" \"&!!!!-\"")), "&!!!!-");
	cr_assert_str_eq(listed(STR("* LIST () \"/\" \"\xc3\xbc\xff\"")), "\xc3\xbc_");
	/* what leads out, or says what it is not */
	cr_assert_str_eq(listed(STR("* LIST () \"/\" \"../&AC4ALg-/x\"")), "_/_/x");
	cr_assert_str_eq(listed(STR("* LIST () \".\" \"a&AC8-b\"")), "a_b");
	cr_assert_str_eq(listed(STR("* LIST () \"/\" \"//a/\"")), "_/_/a/_");
	cr_assert_str_eq(listed(STR("* LIST () \"/\" {4}\r\na\r\nb")), "a__b");
	cr_assert_str_eq(listed(STR("* LIST () \"/\" {3}\r\na\0b")), "a_b");
}

Test(list, that_makes_no_sense_is_told_apart)
{
	const esp_str bad[] = { STR("* LIST "), STR("* LIST ("), STR("* LIST () "), STR("* LIST () \"/\""),
		STR("* LIST () \"/\" "), STR("* LIST () \"/\" \"open"), STR("* LIST x \"/\" INBOX"), STR("* LIST (()) \"/\""),
		STR("* LIST () \"/\" {9}\r\nshort") };
	const esp_str others[] = { STR("* LSUB () \"/\" x"), STR("* LISTS"), STR("e2 OK"), STR("") };

	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		cr_assert_str_eq(listed(bad[i]), "nonsense", "%zu", i);
	for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
		cr_assert_str_eq(listed(others[i]), "other", "%zu", i);
}

static const char *found(esp_str in)
{
	static char out[200];
	esp_cursor c;
	uint32_t uid;
	size_t n = 0;
	int is;

	if (!response_search(copy_of(in), &c))
		return "other";
	out[0] = '\0';
	while ((is = response_next_uid(&c, &uid)) > 0)
		n += (size_t)snprintf(out + n, sizeof out - n, "%u,", uid);
	return is ? "nonsense" : out;
}

Test(search, finds_uids)
{
	cr_assert_str_eq(found(STR("* SEARCH")), "");
	cr_assert_str_eq(found(STR("* SEARCH ")), "");
	cr_assert_str_eq(found(STR("* SEARCH 1 20  4294967295 ")), "1,20,4294967295,");
	cr_assert_str_eq(found(STR("* search 3 (MODSEQ 917162500)")), "3,");
	cr_assert_str_eq(found(STR("* SEARCH 0")), "nonsense");
	cr_assert_str_eq(found(STR("* SEARCH 4294967296")), "nonsense");
	cr_assert_str_eq(found(STR("* SEARCH 1:5")), "nonsense");
	cr_assert_str_eq(found(STR("* SEARCH 1 x")), "nonsense");
	cr_assert_str_eq(found(STR("* SEARCHED 1")), "other");
	cr_assert_str_eq(found(STR("* ESEARCH UID ALL 1")), "other");
}

static int validity(esp_str in, uint32_t *ret) { return response_uidvalidity(copy_of(in), ret); }

Test(examine, says_uidvalidity)
{
	uint32_t v = 0;

	cr_assert(validity(STR("* OK [UIDVALIDITY 5] ok"), &v) == 1 && v == 5);
	cr_assert(validity(STR("* ok [uidvalidity 4294967295]"), &v) == 1 && v == 4294967295);
	cr_assert_eq(validity(STR("* OK [UIDNEXT 5]"), &v), 0);
	cr_assert_eq(validity(STR("* OK"), &v), 0);
	cr_assert_eq(validity(STR("* OK [UIDVALIDITY 0]"), &v), -1);
	cr_assert_eq(validity(STR("* OK [UIDVALIDITY -1]"), &v), -1);
	cr_assert_eq(validity(STR("* OK [UIDVALIDITY 5"), &v), -1);
	cr_assert_eq(validity(STR("* OK [UIDVALIDITY 4294967296]"), &v), -1);
}
