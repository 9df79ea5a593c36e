/* fuzz_redis - what Redis answers: the same in every split, bounded, two numbers at most. */
#include "modules/filter/ratelimit/ratelimit.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(int condition)
{
	if (!condition)
		abort();
}

static esp_status feed(struct answer *a, const char *data, size_t size, size_t step)
{
	struct redisReader *r = answer_reader(a);
	esp_status st = ESP_EAGAIN;

	must(r != NULL);
	answer_begin(a);
	for (size_t at = 0; at < size && st == ESP_EAGAIN; at += step)
		st = answer_add(r, a, data + at, size - at < step ? size - at : step);
	answer_reader_free(r);
	must(st == ESP_OK || st == ESP_EAGAIN || st == ESP_EPROTO || st == ESP_E2BIG);
	must(a->n <= 2 && memchr(a->text, '\0', sizeof a->text) != NULL && (st != ESP_OK || a->whole));
	return st;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct answer whole, split;
	const char *bytes = (const char *)data;
	esp_status st = feed(&whole, bytes, size, size ? size : 1);

	for (size_t step = 1; step <= 7; step += 6) {
		esp_status other = feed(&split, bytes, size, step);
		/* in pieces, an answer is whole before what is behind it is seen; a long one is given up before its end */
		if (st == ESP_OK)
			must(other == ESP_OK && split.n == whole.n && split.error == whole.error && split.array == whole.array &&
				 memcmp(split.number, whole.number, sizeof whole.number) == 0);
		if (st == ESP_EAGAIN)
			must(other == ESP_EAGAIN);
	}
	return 0;
}
