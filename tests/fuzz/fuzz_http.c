/* fuzz_http - what an HTTP client sends, through the core's reader of lines: the same requests in every split, spans
 * that lie within the head, and no head that says two things about its body. */
#include <stdlib.h>
#include <string.h>

#include "core/net/input.h"
#include "modules/protocol/http/head.h"
#include "modules/protocol/http/negotiate.h"
#include "modules/protocol/http/target.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct limits limits = { .head = 2048, .target = 512, .fields = 16 };

/* What comes next. */
enum part { HEAD, DATA, CHUNK, CHUNK_SIZE, CHUNK_END, TRAILER, NOTHING };

struct state {
	struct input in;
	struct reader reader;
	enum part next;
	uint64_t left;             /* of a body or chunk */
	uint64_t digest;
};

static void note(struct state *s, esp_str text)
{
	for (size_t i = 0; i < text.len; i++)
		s->digest = (s->digest ^ (unsigned char)text.ptr[i]) * UINT64_C(1099511628211);
	s->digest = (s->digest ^ 256) * UINT64_C(1099511628211);
}

static void within(esp_str part, esp_str whole)
{
	if (part.len && (part.ptr < whole.ptr || part.len > (size_t)(whole.ptr + whole.len - part.ptr)))
		abort();
}

static void check(const struct head *h, esp_str text)
{
	static const char *const patterns[] = { "/", "/a/{b}", "/{a}/{b}/c", "/a/{rest*}" };
	struct match m;
	esp_str v;

	within(h->method, text);
	within(h->path, text);
	within(h->query, text);
	within(h->host, text);
	for (uint32_t i = 0; i < h->nfields; i++) {
		within(h->fields[i].name, text);
		within(h->fields[i].value, text);
		if (!scan_is_token(h->fields[i].name) || !scan_is_value(h->fields[i].value))
			abort();
		(void)negotiate_takes_gzip(h->fields[i].value);
		(void)negotiate_has(h->fields[i].value, ESP_STR("a"));
	}
	if ((h->chunked && (h->has_length || h->length)) || (!h->has_length && h->length) || (h->chunked && h->minor == 0))
		abort();
	for (size_t i = 0; i < sizeof patterns / sizeof patterns[0]; i++)
		if (pattern_match(patterns[i], h->path, &m))
			for (uint32_t k = 0; k < m.nparams; k++)
				within(m.params[k].value, h->path);
	if (target_query(h->query, "a", &v))
		within(v, h->query);
}

static enum part on_head(struct state *s)
{
	static struct head h;
	/* of exactly its size, so that a sanitizer sees a read beyond */
	char *copy = malloc(s->reader.len);
	esp_str text = { copy, s->reader.len };
	struct fault f;

	if (!copy)
		abort();
	memcpy(copy, s->reader.text, text.len);
	f = head_parse(text, &h);
	note(s, (esp_str){ (const char *)&f.code, sizeof f.code });
	if (!f.code) {
		check(&h, text);
		note(s, h.path);
		s->left = h.length;
	}
	free(copy);
	reader_reset(&s->reader);
	return f.code ? NOTHING : h.chunked ? CHUNK_SIZE : h.length ? DATA : HEAD;
}

static enum part on_line(struct state *s, esp_str line)
{
	struct fault f;

	note(s, line);
	switch (s->next) {
	case CHUNK_SIZE:
		f = scan_chunk_size(line, &s->left);
		return f.code ? NOTHING : s->left ? CHUNK : TRAILER;
	case CHUNK_END: return line.len ? NOTHING : CHUNK_SIZE;
	case TRAILER: return !line.len ? HEAD : scan_field(line).code ? NOTHING : TRAILER;
	default: break;
	}
	switch (reader_line(&s->reader, &limits, line, &f)) {
	case READER_MORE: return HEAD;
	case READER_WHOLE: return on_head(s);
	default: return NOTHING;
	}
}

/* All that can be read now. */
static void run(struct state *s)
{
	while (s->next != NOTHING) {
		esp_str piece;

		if (s->next == DATA || s->next == CHUNK) {
			piece = input_take(&s->in, s->left < 100 ? (size_t)s->left : 100);
			if (!piece.len)
				return;
			for (size_t i = 0; i < piece.len; i++)
				s->digest = (s->digest ^ (unsigned char)piece.ptr[i]) * UINT64_C(1099511628211);
			s->left -= piece.len;
			if (!s->left)
				s->next = s->next == DATA ? HEAD : CHUNK_END;
		} else {
			int rc = input_line(&s->in, limits.head, &piece);

			if (rc == ESP_EAGAIN)
				return;
			s->next = rc == ESP_OK ? on_line(s, piece) : NOTHING;
		}
	}
}

static uint64_t feed(const uint8_t *data, size_t size, size_t step)
{
	struct state s = { .digest = UINT64_C(14695981039346656037) };

	for (size_t at = 0; at < size && s.next != NOTHING; at += step) {
		size_t n = size - at < step ? size - at : step;

		if (input_append(&s.in, data + at, n) != ESP_OK)
			abort();
		run(&s);
	}
	input_free(&s.in);
	reader_free(&s.reader);
	return s.digest;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint64_t whole;

	if (size == 0 || size > 16384)
		return 0;
	whole = feed(data, size, size);
	if (feed(data, size, 1) != whole || feed(data, size, 7) != whole)
		abort();
	return 0;
}
