/* match - see match.h.  All memory is freed before a function returns; nothing suspends. */
#include "match.h"

#include <esp/mail/encoding.h>
#include <esp/mail/header.h>

#define NEEDLE_MAX (64u << 10)
#define FIELD_MAX  (4u * ESP_HEADER_FIELD_MAX)
#define PIECE      (16u << 10)

static int holds(esp_str hay, esp_str needle)
{
	return needle.len == 0 || (hay.len >= needle.len && memmem(hay.ptr, hay.len, needle.ptr, needle.len) != NULL);
}

esp_status match_fold(esp_arena *a, esp_str text, esp_str *ret)
{
	esp_buf b;
	esp_status st;

	esp_buf_init(&b, NEEDLE_MAX);
	st = esp_fold_unicode(text, &b);
	if (st == ESP_OK) {
		*ret = esp_strdup_in(a, esp_buf_str(&b));
		st = ret->ptr ? ESP_OK : ESP_ENOMEM;
	}
	esp_buf_free(&b);
	return st;
}

/* A value too long to decode within the bound does not match; only lack of memory is an error. */
static esp_status match_value(esp_buf *decoded, esp_buf *folded, esp_str value, esp_str needle, int *ret)
{
	esp_buf_reset(decoded);
	esp_buf_reset(folded);
	if (esp_header_decode(value, decoded) == ESP_OK)
		(void)esp_fold_unicode(esp_buf_str(decoded), folded);
	*ret = holds(esp_buf_str(folded), needle);
	return decoded->err == ESP_ENOMEM || folded->err == ESP_ENOMEM ? ESP_ENOMEM : ESP_OK;
}

/* `name` empty: every field, and its name counts as text. */
static esp_status match_fields(esp_str content, esp_str name, esp_str needle, int *ret)
{
	esp_header h = esp_header_of((esp_str){ content.ptr, esp_header_length(content) });
	esp_header_field f;
	esp_buf decoded, folded;
	esp_status st = ESP_OK;

	esp_buf_init(&decoded, FIELD_MAX);
	esp_buf_init(&folded, FIELD_MAX);
	*ret = 0;
	while (st == ESP_OK && !*ret && esp_header_next(&h, &f) == ESP_OK)
		if (name.len == 0 || esp_str_ieq(f.name, name))
			st = match_value(&decoded, &folded, name.len ? f.value : f.raw, needle, ret);
	esp_buf_free(&decoded);
	esp_buf_free(&folded);
	return st;
}

esp_status match_header(esp_str content, esp_str name, esp_str needle, int *ret)
{
	return match_fields(content, name, needle, ret);
}

/* Text in pieces; the end of one is kept in front of the next, so that a match across the border is seen. */
static esp_status match_bytes(esp_str text, esp_str needle, int *ret)
{
	esp_buf folded;
	esp_status st = ESP_OK;

	esp_buf_init(&folded, 8 * (size_t)PIECE + 2 * needle.len + 64);
	for (size_t at = 0; st == ESP_OK && !*ret && at < text.len; ) {
		size_t n = text.len - at < PIECE ? text.len - at : PIECE, keep;
		while (n > 1 && at + n < text.len && ((unsigned char)text.ptr[at + n] & 0xc0) == 0x80 && n > PIECE - 4)
			n--;               /* between characters */
		st = esp_fold_unicode((esp_str){ text.ptr + at, n }, &folded);
		*ret = holds(esp_buf_str(&folded), needle);
		keep = folded.len < needle.len ? folded.len : needle.len;
		memmove(folded.data, folded.data + folded.len - keep, keep);
		esp_buf_cut(&folded, keep);
		at += n;
	}
	esp_buf_free(&folded);
	return st == ESP_E2BIG ? ESP_OK : st;
}

esp_status match_text(esp_str content, esp_str needle, int header, int *ret)
{
	size_t body = esp_header_length(content);
	esp_status st = ESP_OK;

	*ret = needle.len == 0;
	if (header && !*ret)
		st = match_fields(content, (esp_str){ NULL, 0 }, needle, ret);
	if (st == ESP_OK && !*ret)
		st = match_bytes((esp_str){ content.ptr + body, content.len - body }, needle, ret);
	return st;
}
