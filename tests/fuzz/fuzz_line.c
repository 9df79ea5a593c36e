/* fuzz_line - the reader of lines: the same answers whole, byte by byte and in random pieces; strict and bounded.
 *
 * The first byte is the longest line, the second seeds the pieces, the rest is what the peer sends.
 */
#include <stdlib.h>
#include <string.h>

#include "core/net/input.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(int condition)
{
	if (!condition)
		abort();
}

struct answers { char *text; size_t len, cap; int dead; };

static void note(struct answers *a, int rc, esp_str line)
{
	size_t need = a->len + line.len + 2;

	if (need > a->cap) {
		a->cap = 2 * need;
		a->text = realloc(a->text, a->cap);
		must(a->text != NULL);
	}
	a->text[a->len++] = (char)-rc;
	if (line.len)
		memcpy(a->text + a->len, line.ptr, line.len);
	a->len += line.len;
	a->text[a->len++] = '\n';
}

static void read_lines(struct input *in, size_t max, struct answers *a)
{
	esp_str line;
	int rc;

	while ((rc = input_line(in, max, &line)) != ESP_EAGAIN && rc != ESP_ECLOSED) {
		must(rc == ESP_OK || rc == ESP_E2BIG || rc == ESP_EPROTO);
		must(line.len <= max + 1 && (rc != ESP_E2BIG || line.len == 0));
		if (rc == ESP_OK && line.len)
			must(!memchr(line.ptr, '\r', line.len) && !memchr(line.ptr, '\n', line.len) &&
				 !memchr(line.ptr, 0, line.len));
		note(a, rc, line);
	}
	must(input_len(in) < max + 2 || in->dead);
}

/* seed 0: all at once; 1: byte by byte; else pieces. */
static struct answers feed(const uint8_t *data, size_t size, size_t max, uint32_t seed)
{
	struct answers a = { 0 };
	struct input in = { 0 };

	for (size_t at = 0; at < size && !in.dead;) {
		size_t n = size - at, piece;

		seed = seed < 2 ? seed : seed * 1664525u + 1013904223u;
		piece = seed == 0 ? n : seed == 1 ? 1 : 1 + (seed >> 16) % 40;
		if (n > piece)
			n = piece;
		must(input_append(&in, data + at, n) == ESP_OK);
		at += n;
		must(!input_ready(&in, max) || in.dead || memchr(in.p + in.start, '\n', input_len(&in)));
		read_lines(&in, max, &a);
		input_trim(&in);
		must(input_len(&in) || !in.p);
	}
	a.dead = in.dead;
	input_free(&in);
	return a;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct answers whole, other;
	uint32_t seeds[2];
	size_t max;

	if (size < 2)
		return 0;
	max = 1 + data[0] % 64;
	seeds[0] = 1;
	seeds[1] = 2 + data[1];
	data += 2;
	size -= 2;
	if (size > 4096)
		size = 4096;
	whole = feed(data, size, max, 0);
	for (int i = 0; i < 2; i++) {
		other = feed(data, size, max, seeds[i]);
		must(other.len == whole.len && other.dead == whole.dead);
		must(!whole.len || memcmp(other.text, whole.text, whole.len) == 0);
		free(other.text);
	}
	free(whole.text);
	return 0;
}
