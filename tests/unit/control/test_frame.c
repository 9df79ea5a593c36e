/* tests/unit/control/test_frame.c - frames of the control socket: whole, cut at every byte, and hostile. */
#include "core/control/frame.h"

#include <criterion/criterion.h>
#include <string.h>

#include "core/base/str.h"

static struct buffer request(const char *const *words, uint32_t n, const char *input)
{
	struct buffer b;
	esp_str w[FRAME_MAX_WORDS];

	buffer_init(&b, 1 << 20);
	for (uint32_t i = 0; i < n; i++)
		w[i] = str_of(words[i]);
	cr_assert_eq(frame_put_request(&b, w, n, str_of(input)), ESP_OK);
	return b;
}

Test(frame, carries_words_and_input)
{
	static const char *const words[] = { "user", "add", "a@example.test", "--password-stdin" };
	struct buffer b = request(words, 4, "secret");
	esp_str got[FRAME_MAX_WORDS], input;
	struct frame f;
	size_t used;
	uint32_t n;

	cr_assert_eq(frame_parse(buffer_str(&b), FRAME_MAX_REQUEST, &f, &used), ESP_OK);
	cr_assert_eq(used, b.len);
	cr_assert_eq(f.type, FRAME_REQUEST);
	cr_assert_eq(frame_words(f.payload, got, &n, &input), ESP_OK);
	cr_assert_eq(n, 4);
	for (uint32_t i = 0; i < n; i++)
		cr_assert(str_eqz(got[i], words[i]));
	cr_assert(str_eqz(input, "secret"));
	buffer_free(&b);
}

Test(frame, asks_for_more_at_every_cut)
{
	static const char *const words[] = { "status" };
	struct buffer b = request(words, 1, "");
	struct frame f;
	size_t used;

	for (size_t n = 0; n < b.len; n++)
		cr_assert_eq(
			frame_parse((esp_str){ buffer_str(&b).ptr, n }, FRAME_MAX_REQUEST, &f, &used), ESP_EAGAIN, "at %zu", n);
	buffer_free(&b);
}

Test(frame, refuses_a_length_beyond_the_bound_before_its_bytes_come)
{
	struct frame f;
	size_t used;

	cr_assert_eq(frame_parse((esp_str){ "\x7f\xff\xff\xff", 4 }, FRAME_MAX_REQUEST, &f, &used), ESP_E2BIG);
	cr_assert_eq(frame_parse((esp_str){ "\0\0\0\0", 4 }, FRAME_MAX_REQUEST, &f, &used), ESP_EPROTO);
	cr_assert_eq(frame_parse((esp_str){ "GET / HT", 8 }, FRAME_MAX_REQUEST, &f, &used), ESP_E2BIG);
}

static int words_of(const char *bytes, size_t n)
{
	esp_str got[FRAME_MAX_WORDS], input;
	uint32_t count;

	return frame_words((esp_str){ bytes, n }, got, &count, &input);
}

Test(frame, refuses_words_that_do_not_fit_or_are_not_text)
{
	cr_assert_eq(words_of("", 0), ESP_EPROTO);
	cr_assert_eq(words_of("\0\0", 2), ESP_EPROTO, "no words");
	cr_assert_eq(words_of("\0\x41", 2), ESP_EPROTO, "65 words");
	cr_assert_eq(words_of("\0\1\0\5abc", 7), ESP_EPROTO, "longer than the frame");
	cr_assert_eq(words_of("\0\1\0", 3), ESP_EPROTO, "half a length");
	cr_assert_eq(words_of("\0\1\0\0", 4), ESP_EPROTO, "empty");
	cr_assert_eq(words_of("\0\1\0\3a\nb", 7), ESP_EPROTO, "control character");
	cr_assert_eq(words_of("\0\1\0\3abc", 7), ESP_OK);
}

Test(frame, a_cut_request_is_never_read_beyond_its_end)
{
	static const char *const words[] = { "modules", "list" };
	struct buffer b = request(words, 2, "xyz");
	size_t payload = b.len - FRAME_HEAD;

	for (size_t n = 0; n < payload; n++) {
		char *copy = malloc(n ? n : 1);    /* ASan watches its end */

		memcpy(copy, buffer_str(&b).ptr + FRAME_HEAD, n);
		if (n < payload - 3)
			cr_assert_eq(words_of(copy, n), ESP_EPROTO, "at %zu", n);
		else
			cr_assert_eq(words_of(copy, n), ESP_OK, "only the input is shorter at %zu", n);
		free(copy);
	}
	buffer_free(&b);
}

Test(frame, refuses_to_send_more_than_the_server_would_take)
{
	static char big[FRAME_MAX_REQUEST];
	esp_str words[2] = { ESP_STR("x"), { big, sizeof(big) } };
	struct buffer b;

	memset(big, 'a', sizeof(big));
	buffer_init(&b, 1 << 20);
	cr_assert_eq(frame_put_request(&b, words, 2, (esp_str){ NULL, 0 }), ESP_E2BIG);
	cr_assert_eq(frame_put_request(&b, words, 1, (esp_str){ big, sizeof(big) }), ESP_E2BIG);
	cr_assert_eq(b.len, 0);
	buffer_free(&b);
}
