/* params.c - media types, tokens and parameters with RFC 2231 (esp/mail/header.h).
 *
 * Pure.  Continuations may come in any order; each is found by its number, at most 100 of at most 100, so the
 * work is bounded whatever the peer writes.
 */
#include "lex.h"
#include <esp/mail/charset.h>
#include <esp/mail/header.h>

static bool is_token(int ch)
{
	return ch > 32 && ch != 127 && !strchr("()<>@,;:\\\"/[]?=", ch);
}

static esp_str take_token(esp_cursor *c)
{
	const char *from;

	lex_skip_cfws(c, NULL);
	from = c->p;
	while (is_token(esp_cursor_peek(c)))
		c->p++;
	return esp_cursor_since(c, from);
}

esp_status esp_media_type_parse(esp_str value, esp_str *ret_type, esp_str *ret_subtype, esp_params *ret_params)
{
	esp_cursor c = esp_cursor_of(value);

	memset(ret_params, 0, sizeof(*ret_params));
	*ret_type = take_token(&c);
	*ret_subtype = esp_str_of(c.p, 0);
	lex_skip_cfws(&c, NULL);
	if (esp_cursor_accept(&c, '/'))
		*ret_subtype = take_token(&c);
	ret_params->c = c;
	return ret_type->len && ret_subtype->len ? ESP_OK : ESP_EPROTO;
}

esp_str esp_token_parse(esp_str value, esp_params *ret_params)
{
	esp_cursor c = esp_cursor_of(value);
	esp_str token = take_token(&c);

	if (ret_params) {
		memset(ret_params, 0, sizeof(*ret_params));
		ret_params->c = c;
	}
	return token;
}

/* To behind the next ';' outside quotes and comments. */
static bool next_semicolon(esp_cursor *c)
{
	for (;;) {
		int b;

		lex_skip_cfws(c, NULL);
		b = esp_cursor_peek(c);
		if (b < 0)
			return false;
		if (b == '"') {
			lex_skip_quoted(c);
			continue;
		}
		c->p++;
		if (b == ';')
			return true;
	}
}

esp_status esp_params_next(esp_params *p, esp_param *ret)
{
	esp_cursor *c = &p->c;
	const char *from;

	while (next_semicolon(c)) {
		memset(ret, 0, sizeof(*ret));
		ret->name = take_token(c);
		lex_skip_cfws(c, NULL);
		if (ret->name.len == 0 || !esp_cursor_accept(c, '='))
			continue;
		if (p->count++ == ESP_HEADER_PARAMS_MAX)
			return ESP_E2BIG;
		lex_skip_cfws(c, NULL);
		from = c->p;
		if (esp_cursor_peek(c) == '"') {
			lex_skip_quoted(c);
			ret->quoted = 1;
			ret->value = esp_cursor_since(c, from);
		} else {
			/* spaces inside an unquoted file name are common in the wild */
			while (c->p < c->end && *c->p != ';' && *c->p != '(' && *c->p != '"')
				c->p++;
			ret->value = esp_str_trim(esp_cursor_since(c, from));
		}
		return ESP_OK;
	}
	return ESP_ENOENT;
}

esp_status esp_param_value(const esp_param *param, esp_buf *out)
{
	esp_cursor c = esp_cursor_of(param->value);

	if (param->quoted)
		lex_add_quoted(&c, out);
	else
		lex_add_unfolded(param->value, out);
	return out->err;
}

/* name, name*, name*N or name*N*: which section, and is it percent-encoded? */
static bool split_name(esp_str name, esp_str want, uint32_t *ret_section, bool *ret_plain, bool *ret_extended)
{
	esp_cursor c = esp_cursor_of(name);
	esp_str head;
	uint64_t n = 0;

	*ret_section = 0;
	*ret_plain = *ret_extended = false;
	if (!esp_cursor_take(&c, want.len, &head) || !esp_str_ieq(head, want))
		return false;
	if (c.p == c.end) {
		*ret_plain = true;
		return true;
	}
	if (!esp_cursor_accept(&c, '*'))
		return false;
	if (c.p == c.end) {
		*ret_extended = true;
		return true;
	}
	if (!esp_cursor_number(&c, ESP_HEADER_PARAMS_MAX - 1, &n))
		return false;
	*ret_section = (uint32_t)n;
	*ret_extended = esp_cursor_accept(&c, '*');
	return c.p == c.end;
}

static void add_percent(esp_str s, esp_buf *out)
{
	size_t i;

	for (i = 0; i < s.len; i++) {
		int hi = i + 2 < s.len ? esp_ascii_hex((unsigned char)s.ptr[i + 1]) : -1;
		int lo = i + 2 < s.len ? esp_ascii_hex((unsigned char)s.ptr[i + 2]) : -1;

		if (s.ptr[i] == '%' && hi >= 0 && lo >= 0) {
			esp_buf_add_char(out, (char)(hi << 4 | lo));
			i += 2;
		} else {
			esp_buf_add_char(out, s.ptr[i]);
		}
	}
}

/* One section's bytes; the first extended one names the charset before two apostrophes. */
static void add_section(const esp_param *param, bool extended, bool first, esp_str *charset, esp_buf *bytes)
{
	esp_str v = param->value;
	const char *q;

	if (!extended) {
		esp_param_value(param, bytes);
		return;
	}
	if (param->quoted && v.len >= 2) { /* wrong, and seen: what is inside counts */
		v.ptr++;
		v.len -= 1 + (v.ptr[v.len - 2] == '"');
	}
	if (first) {
		q = v.len ? memchr(v.ptr, '\'', v.len) : NULL;
		if (q) {
			*charset = esp_str_of(v.ptr, (size_t)(q - v.ptr));
			v.len -= (size_t)(q + 1 - v.ptr);
			v.ptr = q + 1;
			q = v.len ? memchr(v.ptr, '\'', v.len) : NULL;
			if (q) {
				v.len -= (size_t)(q + 1 - v.ptr);
				v.ptr = q + 1;
			}
		}
	}
	add_percent(v, bytes);
}

/* Finds the section's parameter; false when there is none. */
static bool find_section(esp_params params, esp_str want, uint32_t section, esp_param *ret, bool *ret_extended)
{
	esp_param p;

	while (esp_params_next(&params, &p) == ESP_OK) {
		uint32_t n;
		bool plain;

		if (split_name(p.name, want, &n, &plain, ret_extended) && !plain && n == section) {
			*ret = p;
			return true;
		}
	}
	return false;
}

esp_status esp_params_get(esp_params params, const char *name, esp_buf *out)
{
	esp_str want = esp_str_z(name), charset = { 0 };
	esp_params again = params;
	esp_param p;
	esp_buf bytes;
	bool extended, plain;
	uint32_t n;
	esp_status st = ESP_ENOENT;

	esp_buf_init(&bytes, esp_cursor_left(&params.c) + 1);
	for (n = 0; find_section(params, want, n, &p, &extended); n++)
		add_section(&p, extended, n == 0, &charset, &bytes);
	if (n > 0) {
		if (!bytes.err && esp_charset_to_utf8(charset, esp_buf_str(&bytes), out) == ESP_ENOENT)
			esp_charset_to_utf8(ESP_STR("utf-8"), esp_buf_str(&bytes), out);
		st = bytes.err ? bytes.err : out->err;
		goto out;
	}
	while (esp_params_next(&again, &p) == ESP_OK) {
		uint32_t section;

		if (!split_name(p.name, want, &section, &plain, &extended) || !plain)
			continue;
		esp_param_value(&p, &bytes);
		st = bytes.err ? bytes.err : esp_header_decode(esp_buf_str(&bytes), out);
		break;
	}
out:
	esp_buf_free(&bytes);
	return st;
}
