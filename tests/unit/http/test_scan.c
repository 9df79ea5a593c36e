/* The strict look at each line, the head and its framing. */
#include "modules/protocol/http/head.h"
#include "modules/protocol/http/scan.h"
#include "tests/support/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static esp_str z(const char *s) { return (esp_str){ s, strlen(s) }; }

Test(http_scan, takes_a_first_line_apart)
{
	struct request_line l;

	cr_assert_eq(scan_request_line(z("POST /a?b=c HTTP/1.0"), &l).code, 0u);
	cr_assert(esp_str_eq(l.method, z("POST")));
	cr_assert(esp_str_eq(l.target, z("/a?b=c")));
	cr_assert_eq(l.minor, 0u);
	cr_assert_eq(scan_request_line(z("GET / HTTP/1.1"), &l).code, 0u);
	cr_assert_eq(l.minor, 1u);
}

Test(http_scan, refuses_every_other_first_line)
{
	static const struct { const char *line; uint32_t code; } bad[] = {
		{ "", 400 }, { "GET", 400 }, { "GET /", 400 }, { " GET / HTTP/1.1", 400 }, { "GET  / HTTP/1.1", 400 },
		{ "GET /  HTTP/1.1", 400 }, { "GET / HTTP/1.1 ", 400 }, { "GET\t/ HTTP/1.1", 400 },
		{ "GET /\x7f HTTP/1.1", 400 },
		{ "GET /\xc3\xa4 HTTP/1.1", 400 }, { "G@T / HTTP/1.1", 400 }, { "GET / HTTP/11", 400 },
		{ "GET / HTTP/1.10", 400 },
		{ "GET / HTTP/x.1", 400 }, { "GET / http/1.1", 400 }, { "GET / HTTP/2.0", 505 }, { "GET / HTTP/1.2", 505 },
		{ "GET / HTTP/0.9", 505 }, { "TRACE / HTTP/1.1", 501 }, { "Get / HTTP/1.1", 501 },
	};
	struct request_line l;

	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		cr_assert_eq(scan_request_line(z(bad[i].line), &l).code, bad[i].code, "\"%s\"", bad[i].line);
}

/* Every byte value, in the name and in the value of a field. */
Test(http_scan, knows_which_bytes_a_field_is_made_of)
{
	static const char token[] = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
	char line[] = "a?b: c";

	for (int c = 0; c < 256; c++) {
		line[1] = (char)c;
		cr_assert_eq(scan_field((esp_str){ line, 6 }).code == 0, (c && strchr(token, c)) || c == ':', "name %d", c);
	}
	memcpy(line, "ab: ?c", 6);
	for (int c = 0; c < 256; c++) {
		line[4] = (char)c;
		cr_assert_eq(scan_field((esp_str){ line, 6 }).code == 0, c == '\t' || (c >= 0x20 && c != 0x7f), "value %d", c);
	}
	cr_assert_eq(scan_field(z("a:")).code, 0u);
	cr_assert_eq(scan_field(z(" a: b")).code, 400u);
	cr_assert_eq(scan_field(z("a : b")).code, 400u);
	cr_assert_eq(scan_field(z(": b")).code, 400u);
	cr_assert_eq(scan_field(z("ab")).code, 400u);
}

Test(http_scan, reads_lengths_of_chunks)
{
	static const struct { const char *line; uint64_t n; } good[] = {
		{ "0", 0 }, { "a", 10 }, { "FF", 255 }, { "0010", 16 }, { "5;x=\"y;z\"", 5 }, { "5;", 5 },
		{ "fffffffff", 0xfffffffffu },
	};
	static const char *const bad[] = { "", ";", "g", "0x1", "-1", "+1", " 1", "1 ", "1 ;x", "1,", "1;\x01", "1\r",
		"ffffffffffffffff", "00000000000000001" };
	uint64_t n;

	for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
		cr_assert_eq(scan_chunk_size(z(good[i].line), &n).code, 0u, "\"%s\"", good[i].line);
		cr_assert_eq(n, good[i].n, "\"%s\"", good[i].line);
	}
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		cr_assert_eq(scan_chunk_size(z(bad[i]), &n).code, 400u, "\"%s\"", bad[i]);
}

Test(http_scan, reads_lists_with_commas)
{
	esp_str rest = z(" a ,,b\t, , c"), word;
	char seen[32] = "";

	while (scan_list(&rest, &word))
		(void)snprintf(seen + strlen(seen), sizeof seen - strlen(seen), "[%.*s]", ESP_FMT(word));
	cr_assert_str_eq(seen, "[a][b][c]");
}

/* --- the reader ------------------------------------------------------------------------------------------ */

static const struct limits limits = { .head = 400, .target = 100, .fields = 5 };

/* The lines of `text`, separated by '|', through a reader; what it came to. */
static struct fault read_all(const char *text, struct reader *r, enum reader_state *ret)
{
	struct fault f = FAULT_NONE;

	*ret = READER_MORE;
	while (*ret == READER_MORE && *text) {
		size_t n = strcspn(text, "|");

		*ret = reader_line(r, &limits, (esp_str){ text, n }, &f);
		text += n + (text[n] == '|');
	}
	return f;
}

Test(http_reader, gathers_a_head_and_forgives_one_empty_line)
{
	struct reader r = { .len = 0 };
	enum reader_state state;

	read_all("|GET / HTTP/1.1|Host: x||", &r, &state);
	cr_assert_eq(state, READER_WHOLE);
	cr_assert(esp_str_eq((esp_str){ r.text, r.len }, z("GET / HTTP/1.1\r\nHost: x\r\n\r\n")));
	reader_reset(&r);
	cr_assert_not(reader_is_under_way(&r));
	cr_assert_eq(read_all("||GET / HTTP/1.1", &r, &state).code, 400u);
	reader_free(&r);
}

Test(http_reader, has_bounds_for_target_fields_and_all_of_it)
{
	struct reader r = { .len = 0 };
	enum reader_state state;
	char line[600];

	(void)snprintf(line, sizeof line, "GET /%099d HTTP/1.1", 0);
	cr_assert_eq(read_all(line, &r, &state).code, 0u);
	reader_reset(&r);
	(void)snprintf(line, sizeof line, "GET /%0100d HTTP/1.1", 0);
	cr_assert_eq(read_all(line, &r, &state).code, 414u);
	reader_reset(&r);
	cr_assert_eq(read_all("GET / HTTP/1.1|a:|a:|a:|a:|a:", &r, &state).code, 0u);
	cr_assert_eq(read_all("a:", &r, &state).code, 431u);
	reader_reset(&r);
	(void)snprintf(line, sizeof line, "GET / HTTP/1.1|a: %0380d", 0);
	cr_assert_eq(read_all(line, &r, &state).code, 431u);
	reader_reset(&r);
	(void)snprintf(line, sizeof line, "GET / HTTP/1.1|a: %0377d|", 0);       /* 16 + 382 + 2 = 400 */
	cr_assert_eq(read_all(line, &r, &state).code, 0u);
	cr_assert_eq(read_all("b:", &r, &state).code, 431u);
	reader_free(&r);
}

Test(http_reader, goes_on_from_what_another_one_had)
{
	struct reader r = { .len = 0 }, next = { .len = 0 };
	enum reader_state state;

	read_all("GET / HTTP/1.1|Host: x", &r, &state);
	cr_assert_eq(reader_restore(&next, &limits, (esp_str){ r.text, r.len }), ESP_OK);
	cr_assert_eq(read_all("a: b|", &next, &state).code, 0u);
	cr_assert_eq(next.fields, 2);
	reader_free(&next);
	cr_assert_neq(reader_restore(&next, &limits, z("GET / HTTP/1.1\r\nHost: x")), ESP_OK);
	reader_free(&next);
	cr_assert_neq(reader_restore(&next, &limits, z("GET / HTTP/1.1\nHost: x\n")), ESP_OK);
	reader_free(&next);
	reader_free(&r);
}

/* --- the head -------------------------------------------------------------------------------------------- */

static struct head head;

static uint32_t parse(const char *fields)
{
	char *text = malloc(strlen(fields) + 64);
	uint32_t code;

	(void)snprintf(text, strlen(fields) + 64, "POST /p?q HTTP/1.1\r\nHost: x\r\n%s\r\n", fields);
	code = head_parse(z(text), &head).code;
	free(text);                            /* only numbers are looked at afterwards */
	return code;
}

Test(http_head, finds_every_field)
{
	static const char text[] = "GET /p?q HTTP/1.1\r\nHost: h:8\r\nEmpty:\r\nBlank:  \t\r\nA: b \t\r\na: c\r\n\r\n";
	uint32_t at = 0;

	cr_assert_eq(head_parse(z(text), &head).code, 0u);
	cr_assert_eq(head.nfields, 5u);
	cr_assert(esp_str_eq(head.path, z("/p")) && esp_str_eq(head.query, z("q")) && esp_str_eq(head.host, z("h:8")));
	cr_assert_eq(head_value(&head, "empty").len, 0u);
	cr_assert_eq(head_value(&head, "blank").len, 0u);
	cr_assert(esp_str_eq(head_find(&head, "A", &at)->value, z("b")));
	cr_assert(esp_str_eq(head_find(&head, "A", &at)->value, z("c")));
	cr_assert_null(head_find(&head, "A", &at));
	cr_assert_null(head_value(&head, "B").ptr);
	cr_assert(head.keep_alive && !head.expects && !head_has_body(&head));
}

Test(http_head, knows_one_length_or_refuses)
{
	static const struct { const char *fields; uint32_t code; } all[] = {
		{ "", 0 }, { "Content-Length: 0\r\n", 0 }, { "Content-Length: 12\r\n", 0 }, { "Content-Length: 0012\r\n", 0 },
		{ "Transfer-Encoding: CHUNKED\r\n", 0 }, { "Content-Length: 1\r\nContent-Length: 1\r\n", 400 },
		{ "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n", 400 },
		{ "Transfer-Encoding: chunked\r\nContent-Length: 1\r\n", 400 }, { "Content-Length: 1,1\r\n", 400 },
		{ "Content-Length: +1\r\n", 400 }, { "Content-Length: -1\r\n", 400 }, { "Content-Length:\r\n", 400 },
		{ "Content-Length: 1 1\r\n", 400 }, { "Content-Length: 99999999999999999999\r\n", 400 },
		{ "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", 400 }, { "Host: y\r\n", 400 },
	};

	for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
		cr_assert_eq(parse(all[i].fields), all[i].code, "%s", all[i].fields);
	cr_assert_eq(parse("Content-Length: 12\r\n"), 0u);
	cr_assert(head.has_length && head.length == 12 && !head.chunked && head_has_body(&head));
	cr_assert_eq(parse("Transfer-Encoding: chunked\r\n"), 0u);
	cr_assert(!head.has_length && head.chunked);
	for (const char *const *coding = (const char *const[]){ "gzip, chunked", "xchunked", "identity", "", NULL };
		 *coding; coding++) {
		char field[64];

		(void)snprintf(field, sizeof field, "Transfer-Encoding: %s\r\n", *coding);
		cr_assert_geq(parse(field), 400u, "%s", field);
	}
}

Test(http_head, does_what_connection_and_expect_say)
{
	cr_assert_eq(parse("Connection: x, Close\r\n"), 0u);
	cr_assert_not(head.keep_alive);
	cr_assert_eq(parse("Connection: x\r\nConnection: close\r\n"), 0u);
	cr_assert_not(head.keep_alive);
	cr_assert_eq(parse("Connection: Upgrade\r\nUpgrade: websocket\r\n"), 0u);
	cr_assert(head.keep_alive);
	cr_assert_eq(parse("Expect: 100-Continue\r\n"), 0u);
	cr_assert(head.expects);
	cr_assert_eq(parse("Expect: something\r\n"), 417u);
	cr_assert_eq(head_parse(z("GET / HTTP/1.0\r\n\r\n"), &head).code, 0u);
	cr_assert_not(head.keep_alive);
	cr_assert_eq(head_parse(z("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"), &head).code, 0u);
	cr_assert(head.keep_alive);
	cr_assert_eq(head_parse(z("GET / HTTP/1.1\r\n\r\n"), &head).code, 400u, "without Host");
}
