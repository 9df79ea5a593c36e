/* fuzz_frame - requests on the control socket: no crash, no read beyond the end, words that are text and lie in their
 * frame, an answer that does not depend on the pieces, and the same bytes again when it is written anew. */
#include <stdlib.h>

#include "core/base/str.h"
#include "core/control/frame.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(int condition)
{
	if (!condition)
		abort();
}

static void check_words(esp_str payload)
{
	esp_str words[FRAME_MAX_WORDS], input;
	struct buffer again;
	uint32_t n;

	if (frame_words(payload, words, &n, &input) != ESP_OK)
		return;
	must(n > 0 && n <= FRAME_MAX_WORDS);
	for (uint32_t i = 0; i < n; i++)
		for (size_t k = 0; k < words[i].len; k++)
			must((unsigned char)words[i].ptr[k] >= 0x20 && words[i].ptr[k] != 0x7f);
	buffer_init(&again, FRAME_MAX_REQUEST + FRAME_HEAD);
	must(frame_put_request(&again, words, n, input) == ESP_OK);
	must(str_eq(str_sub(buffer_str(&again), FRAME_HEAD, again.len), payload));
	buffer_free(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct frame whole = { 0 }, part;
	size_t used = 0, part_used;
	esp_str in = { (const char *)data, size };
	int final = frame_parse(in, FRAME_MAX_REQUEST, &whole, &used);

	must(final == ESP_OK || final == ESP_EAGAIN || final == ESP_EPROTO || final == ESP_E2BIG);
	must(final != ESP_OK || (used <= size && whole.payload.len + FRAME_HEAD == used));
	for (size_t n = 0; n < size && n < 300; n++) {
		int rc = frame_parse((esp_str){ in.ptr, n }, FRAME_MAX_REQUEST, &part, &part_used);

		must(rc == ESP_EAGAIN || rc == final);
		must(rc != ESP_OK || (n >= used && part_used == used && part.payload.len == whole.payload.len));
	}
	if (final == ESP_OK)
		check_words(whole.payload);
	return 0;
}
