/* tests/unit/net/test_input.c - the reader of lines: strict, bounded, blind to packet borders. */
#include "core/net/input.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/test.h"

/* Feed `n` bytes cut at the given places and write down every answer. */
static size_t answers_of(
	const char *data, size_t n, const size_t *cuts, size_t ncuts, size_t max, char *out, size_t cap)
{
	struct input in = { 0 };
	size_t at = 0, len = 0;

	for (size_t i = 0; i <= ncuts; i++) {
		size_t end = i < ncuts ? cuts[i] : n;
		esp_str line;
		int rc;

		if (!in.dead)
			cr_assert_eq(input_append(&in, data + at, end - at), ESP_OK);
		at = end;
		input_ready(&in, max);
		while ((rc = input_line(&in, max, &line)) != ESP_EAGAIN && rc != ESP_ECLOSED)
			len += (size_t)snprintf(out + len, cap - len, "%d:%zu:%.*s|", rc, line.len, (int)line.len, line.ptr);
		input_trim(&in);
	}
	len += (size_t)snprintf(out + len, cap - len, "dead=%d rest=%zu", in.dead, in.dead ? 0 : input_len(&in));
	input_free(&in);
	return len;
}

static const struct { const char *data; size_t n;
} inputs[] = {
#define IN(s) { s, sizeof(s) - 1 }
	IN("a\r\nbb\r\n\r\n"),
	IN("a\nb\r\n"),
	IN("a\rb\r\n"),
	IN("\0\r\nx\r\n"),
	IN("\r\r\n"),
	IN("\n\n"),
	IN("\r\n.\r\n"),
	IN("12345678\r\n"),
	IN("123456789\r\nok\r\n"),
	IN("12345678901234567\r\nok\r\n"),
	IN("1234567890123456789012\r\nok\r\n"),
	IN("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\nok\r\n"),
	IN("12345678\r9\r\nx\r\n"),
	IN("123456789\nx\r\n"),
	IN("12345678\n"),
	IN("no end"),
	IN("half\r"),
	IN(""),
#undef IN
};

Test(input, answers_the_same_for_every_two_cuts)
{
	char whole[500], cut[500];

	for (size_t k = 0; k < sizeof(inputs) / sizeof(inputs[0]); k++) {
		size_t n = inputs[k].n;

		answers_of(inputs[k].data, n, NULL, 0, 8, whole, sizeof(whole));
		for (size_t i = 0; i <= n; i++) {
			for (size_t j = i; j <= n; j++) {
				answers_of(inputs[k].data, n, (size_t[]){ i, j }, 2, 8, cut, sizeof(cut));
				cr_assert_str_eq(cut, whole, "input %zu cut at %zu, %zu: %s, whole: %s", k, i, j, cut, whole);
			}
		}
	}
}

Test(input, answers_the_same_byte_by_byte_for_random_input)
{
	static const char letters[] = "ab\r\n\r\n\0c";
	char data[60], whole[1000], cut[1000];
	size_t cuts[60];

	srandom(7);
	for (int round = 0; round < 5000; round++) {
		size_t n = (size_t)random() % sizeof(data);

		for (size_t i = 0; i < n; i++) {
			data[i] = letters[random() % 8];
			cuts[i] = i;
		}
		answers_of(data, n, NULL, 0, 6, whole, sizeof(whole));
		answers_of(data, n, cuts, n, 6, cut, sizeof(cut));
		cr_assert_str_eq(cut, whole);
	}
}

Test(input, takes_crlf_alone_for_the_end_of_a_line)
{
	char got[500];

	answers_of("a\r\nb\nc\rd\r\n\r\n", 12, NULL, 0, 80, got, sizeof(got));
	cr_assert_str_eq(got, "0:1:a|-12:1:b|-12:3:c\rd|0:0:|dead=0 rest=0");
}

Test(input, allows_exactly_the_longest_line)
{
	char got[500];

	answers_of("12345678\r\n123456789\r\n", 21, NULL, 0, 8, got, sizeof(got));
	cr_assert_str_eq(got, "0:8:12345678|-13:0:|dead=0 rest=0");
}

Test(input, gives_up_when_twice_the_limit_brings_no_end)
{
	char got[500], data[100];

	memset(data, 'a', sizeof(data));
	answers_of(data, sizeof(data), NULL, 0, 8, got, sizeof(got));
	cr_assert_str_eq(got, "-13:0:|dead=1 rest=0");
}

Test(input, holds_no_memory_when_empty_and_little_when_not)
{
	struct input in = { 0 };
	static char data[5000];
	esp_str line;

	memset(data, 'a', sizeof(data));
	memcpy(data + 4000, "\r\n", 2);
	cr_assert_eq(input_append(&in, data, sizeof(data)), ESP_OK);
	cr_assert_eq(input_line(&in, 8192, &line), ESP_OK);
	cr_assert_eq(line.len, 4000);
	input_trim(&in);
	cr_assert_leq(in.cap, 1024 + 64);
	cr_assert_eq(input_len(&in), 998);
	cr_assert_eq(input_take(&in, 10000).len, 998);
	input_trim(&in);
	cr_assert_null(in.p);
	input_free(&in);
}

Test(input, refuses_to_grow_without_bound)
{
	struct input in = { 0 };
	char *to;
	size_t room;

	cr_assert_eq(input_room(&in, (size_t)64 << 20, &to, &room), ESP_ENOMEM);
	cr_assert_eq(input_room(&in, 1000, &to, &room), ESP_OK);
	cr_assert_geq(room, 1000);
	input_free(&in);
}

Test(input, aborts_when_more_was_written_than_there_was_room, .signal = SIGABRT)
{
	struct input in = { 0 };
	char *to;
	size_t room;

	cr_assert_eq(input_room(&in, 100, &to, &room), ESP_OK);
	input_added(&in, room + 1);
}
