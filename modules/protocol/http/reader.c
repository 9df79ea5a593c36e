/* reader - see reader.h. */
#include "reader.h"

#include <stdlib.h>

#define FIRST 512u

static esp_status keep(struct reader *r, esp_str line)
{
	size_t need = r->len + line.len + 2;
	char *grown;

	if (need > r->cap) {
		size_t cap = r->cap ? r->cap : FIRST;

		while (cap < need)
			cap *= 2;
		grown = realloc(r->text, cap);
		if (!grown)
			return ESP_ENOMEM;
		r->text = grown;
		r->cap = (uint32_t)cap;
	}
	if (line.len)
		memcpy(r->text + r->len, line.ptr, line.len);
	memcpy(r->text + r->len + line.len, "\r\n", 2);
	r->len = (uint32_t)need;
	return ESP_OK;
}

struct fault reader_too_long(const struct reader *r)
{
	return r->begun ? (struct fault){ 431, "the fields of the head are too large: send fewer or shorter ones" }
	                : (struct fault){ 414, "the target is too long: put what it says into the body" };
}

static struct fault look(struct reader *r, const struct limits *l, esp_str line)
{
	struct request_line first;
	struct fault f;

	if (r->begun) {
		f = scan_field(line);
		if (!f.code && ++r->fields > l->fields)
			f = (struct fault){ 431, "too many fields in the head" };
	} else {
		f = scan_request_line(line, &first);
		if ((!f.code || f.code == 501) && first.target.len > l->target)
			f = reader_too_long(r);
	}
	return f;
}

enum reader_state reader_line(struct reader *r, const struct limits *l, esp_str line, struct fault *ret)
{
	if (line.len == 0 && !r->begun) {       /* RFC 9112 2.2: one is forgiven */
		*ret = (struct fault){ 400, "empty lines where a request should begin" };
		return r->blanks++ ? READER_BAD : READER_MORE;
	}
	if (line.len + 2 > l->head - (r->len < l->head ? r->len : l->head)) {
		*ret = reader_too_long(r);
		return READER_BAD;
	}
	*ret = line.len ? look(r, l, line) : FAULT_NONE;
	if (ret->code)
		return READER_BAD;
	if (keep(r, line) != ESP_OK) {
		*ret = (struct fault){ 503, "no memory now, try again later" };
		return READER_BAD;
	}
	r->begun = 1;
	return line.len ? READER_MORE : READER_WHOLE;
}

void reader_reset(struct reader *r)
{
	r->len = 0;
	r->fields = 0;
	r->begun = r->blanks = 0;
}

void reader_free(struct reader *r)
{
	free(r->text);
	*r = (struct reader){ .len = 0 };
}

esp_status reader_restore(struct reader *r, const struct limits *l, esp_str text)
{
	struct fault f;

	while (text.len) {
		const char *lf = memchr(text.ptr, '\n', text.len);
		size_t n = lf ? (size_t)(lf - text.ptr) : 0;
		enum reader_state state;

		if (n == 0 || text.ptr[n - 1] != '\r')
			return ESP_EPROTO;
		state = reader_line(r, l, (esp_str){ text.ptr, n - 1 }, &f);
		if (state != READER_MORE)
			return ESP_EPROTO;
		text.ptr += n + 1;
		text.len -= n + 1;
	}
	return ESP_OK;
}
