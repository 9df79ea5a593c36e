/* match - see match.h.  The texts are decoded by libespmail; all memory is freed before a function returns. */
#include "match.h"

#include <esp/mail/text.h>

#define NEEDLE_MAX (64u << 10)
#define VALUE_MAX  (16u * ESP_HEADER_FIELD_MAX)   /* a field, decoded and folded */

static int holds(esp_str hay, esp_str needle)
{
	return needle.len == 0 || (hay.len >= needle.len && memmem(hay.ptr, hay.len, needle.ptr, needle.len) != NULL);
}

esp_status match_fold(esp_arena *a, esp_str text, esp_str *ret)
{
	esp_buf b;
	esp_status st;

	esp_buf_init(&b, NEEDLE_MAX);
	st = esp_text_fold_key(text, &b);
	if (st == ESP_OK) {
		*ret = esp_strdup_in(a, esp_buf_str(&b));
		st = ret->ptr ? ESP_OK : ESP_ENOMEM;
	}
	esp_buf_free(&b);
	return st;
}

/* A value too long to decode within the bound does not match; only lack of memory is an error. */
esp_status match_header(esp_str content, esp_str name, esp_str needle, int *ret)
{
	esp_header h = esp_header_of((esp_str){ content.ptr, esp_header_length(content) });
	esp_header_field f;
	esp_buf folded;
	esp_status st = ESP_OK;

	esp_buf_init(&folded, VALUE_MAX);
	*ret = 0;
	while (st == ESP_OK && !*ret && esp_header_next(&h, &f) == ESP_OK) {
		if (!esp_str_ieq(f.name, name))
			continue;
		esp_buf_reset(&folded);
		if (esp_text_fold_header(f.value, &folded) == ESP_ENOMEM)
			st = ESP_ENOMEM;
		*ret = st == ESP_OK && holds(esp_buf_str(&folded), needle);
	}
	esp_buf_free(&folded);
	return st;
}

esp_status match_text(esp_str content, esp_str needle, int header, int *ret)
{
	esp_mime mime;
	esp_status st;
	int found;

	*ret = needle.len == 0;
	if (*ret)
		return ESP_OK;
	st = esp_mime_parse(content, &mime);
	if (st != ESP_OK)
		return st;
	found = esp_text_contains(&mime, needle, !header);
	esp_mime_free(&mime);
	*ret = found > 0;
	return found == ESP_ENOMEM ? ESP_ENOMEM : ESP_OK;
}
