/* fuzz_response.c - what another IMAP server answers: the same responses in every split, nothing read beyond them, and
 * spans that lie within. */
#include <stdlib.h>
#include <string.h>

#include "modules/storage/archive/response.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void within(esp_str part, esp_str whole)
{
	if (part.ptr && (part.ptr < whole.ptr || part.len > (size_t)(whole.ptr + whole.len - part.ptr)))
		abort();
}

static void read_fetch(esp_str text)
{
	static struct marks marks;
	struct response_message m = { .marks = &marks };

	if (response_fetch(text, &m) > 0 && m.has_body)
		within(m.body, text);
}

static void read_list(esp_str text)
{
	struct response_folder f;
	char memory[FOREIGN_NAME + 1];
	esp_buf name;

	if (response_list(text, &f) <= 0)
		return;
	within(f.name, text);
	esp_buf_init_fixed(&name, memory, sizeof memory);
	if (names_of_imap(f.name, f.separator, &name) == ESP_OK && memchr(memory, '\0', name.len))
		abort();
}

static void read_numbers(esp_str text)
{
	esp_cursor c;
	uint32_t uid;

	if (response_search(text, &c))
		while (response_next_uid(&c, &uid) > 0)
			if (uid == 0)
				abort();
	if (response_uidvalidity(text, &uid) > 0 && uid == 0)
		abort();
}

/* Reading takes escapes out in place: each reader has a copy, of exactly its size. */
static void with_copy(esp_str text, void (*read)(esp_str))
{
	char *copy = malloc(text.len ? text.len : 1);

	if (!copy)
		abort();
	if (text.len)
		memcpy(copy, text.ptr, text.len);
	read((esp_str){ copy, text.len });
	free(copy);
}

static void digest(uint64_t *h, esp_str s)
{
	for (size_t i = 0; i < s.len; i++)
		*h = (*h ^ (unsigned char)s.ptr[i]) * UINT64_C(1099511628211);
	*h = (*h ^ 256) * UINT64_C(1099511628211);
}

/* All responses of the bytes in pieces of `step`, as one number. */
static uint64_t feed(esp_str all, size_t step, int look)
{
	uint64_t h = UINT64_C(14695981039346656037);
	struct response r;
	esp_status st = ESP_EAGAIN;

	response_init(&r);
	for (size_t at = 0; at < all.len && (st == ESP_OK || st == ESP_EAGAIN); at += step) {
		esp_str in = { all.ptr + at, step < all.len - at ? step : all.len - at };
		while ((st = response_feed(&r, &in)) == ESP_OK) {
			digest(&h, esp_buf_str(&r.text));
			if (look) {
				with_copy(esp_buf_str(&r.text), read_fetch);
				with_copy(esp_buf_str(&r.text), read_list);
				with_copy(esp_buf_str(&r.text), read_numbers);
			}
			response_reset(&r);
		}
		if (st == ESP_EAGAIN && in.len)
			abort();
	}
	h ^= (uint64_t)(uint32_t)st;
	response_free(&r);
	return h;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	esp_str all = { (const char *)data, size };
	uint64_t whole;

	if (size == 0)
		return 0;
	whole = feed(all, size, 1);
	if (feed(all, 1, 0) != whole || feed(all, 7, 0) != whole)
		abort();
	return 0;
}
