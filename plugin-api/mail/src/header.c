/* header.c - iterating over header fields, message ids, and writing fields (esp/mail/header.h).  Pure. */
#include "lex.h"
#include <esp/mail/header.h>
#include <esp/mail/utf8.h>

/* Behind the next LF at or after `at`, or the end. */
static size_t line_end(esp_str s, size_t at)
{
	const char *nl = at < s.len ? memchr(s.ptr + at, '\n', s.len - at) : NULL;

	return nl ? (size_t)(nl - s.ptr) + 1 : s.len;
}

static bool is_empty_line(esp_str s, size_t at)
{
	return s.ptr[at] == '\n' || (s.ptr[at] == '\r' && at + 1 < s.len && s.ptr[at + 1] == '\n');
}

esp_status esp_header_next(esp_header *h, esp_header_field *ret)
{
	esp_str s = h->block, value;
	size_t at = h->offset, end;
	const char *colon;

	memset(ret, 0, sizeof(*ret));
	if (at >= s.len)
		return ESP_ENOENT;
	if (is_empty_line(s, at)) {
		h->offset = line_end(s, at);
		h->block.len = h->offset; /* the end is the end: asking again stays there */
		return ESP_ENOENT;
	}
	end = line_end(s, at);
	while (end < s.len && (s.ptr[end] == ' ' || s.ptr[end] == '\t'))
		end = line_end(s, end);
	ret->offset = at;
	ret->raw = value = esp_str_of(s.ptr + at, end - at);
	h->offset = end;
	h->count++;
	if (value.len && value.ptr[value.len - 1] == '\n')
		value.len--;
	if (value.len && value.ptr[value.len - 1] == '\r')
		value.len--;
	colon = value.len ? memchr(value.ptr, ':', line_end(value, 0)) : NULL;
	if (colon) {
		ret->name = esp_str_trim(esp_str_of(value.ptr, (size_t)(colon - value.ptr)));
		value.len -= (size_t)(colon + 1 - value.ptr);
		value.ptr = colon + 1;
	}
	if (!colon || ret->name.len == 0 || value.ptr[-1] != ':' || ret->raw.ptr[0] == ' ' || ret->raw.ptr[0] == '\t') {
		ret->flags |= ESP_FIELD_NO_COLON;
		ret->name.len = 0;
		value = esp_str_trim(ret->raw);
	}
	while (value.len && (*value.ptr == ' ' || *value.ptr == '\t')) {
		value.ptr++;
		value.len--;
	}
	ret->value = value;
	return ESP_OK;
}

size_t esp_header_length(esp_str message)
{
	size_t at = 0;

	while (at < message.len) {
		bool empty = is_empty_line(message, at);

		at = line_end(message, at);
		if (empty)
			break;
	}
	return at;
}

esp_status esp_header_check(esp_str block)
{
	esp_header h = esp_header_of(block);
	esp_header_field f;

	if (esp_header_length(block) > ESP_HEADER_BLOCK_MAX)
		return ESP_E2BIG;
	while (esp_header_next(&h, &f) == ESP_OK) {
		if (h.count > ESP_HEADER_FIELDS_MAX || f.raw.len > ESP_HEADER_FIELD_MAX)
			return ESP_E2BIG;
		if (memchr(f.raw.ptr, 0, f.raw.len))
			return ESP_EPROTO;
	}
	return ESP_OK;
}

esp_status esp_header_find(esp_str block, const char *name, uint32_t nth, esp_header_field *ret)
{
	esp_header h = esp_header_of(block);
	esp_str want = esp_str_z(name);

	while (esp_header_next(&h, ret) == ESP_OK)
		if (esp_str_ieq(ret->name, want) && nth-- == 0)
			return ESP_OK;
	return ESP_ENOENT;
}

esp_status esp_header_unfold(esp_str value, esp_buf *out)
{
	lex_add_unfolded(esp_str_trim(value), out);
	return out->err;
}

static bool is_name(const char *name)
{
	const char *p;

	for (p = name; *p; p++)
		if (*p <= 32 || *p >= 127 || *p == ':')
			return false;
	return p > name && p - name <= 76;
}

esp_status esp_header_write(esp_buf *out, const char *name, esp_str text)
{
	size_t before = out->len;
	esp_status st;

	if (!is_name(name))
		return ESP_EINVAL;
	esp_buf_add_z(out, name);
	esp_buf_add_z(out, ": ");
	st = esp_header_encode(text, strlen(name) + 2, out);
	if (st == ESP_OK)
		st = esp_buf_add_z(out, "\r\n");
	if (st != ESP_OK)
		esp_buf_cut(out, before);
	return st;
}

esp_status esp_message_id_next(esp_cursor *c, esp_str *ret)
{
	for (;;) {
		const char *from;
		int b;

		lex_skip_cfws(c, NULL);
		b = esp_cursor_peek(c);
		if (b < 0)
			return ESP_ENOENT;
		if (b == '"') {
			lex_skip_quoted(c);
			continue;
		}
		c->p++;
		if (b != '<')
			continue;
		from = c->p;
		while ((b = esp_cursor_peek(c)) >= 0 && b != '>' && b != '<' && !lex_is_wsp(b))
			c->p++;
		*ret = esp_cursor_since(c, from);
		if (esp_cursor_accept(c, '>') && ret->len)
			return ESP_OK;
	}
}
