/* subject.c - the base subject of RFC 5256 2.1 (esp/mail/header.h).
 *
 * Works on the decoded text with single spaces, cutting a span from both ends; the text itself is written once, at the
 * end.  Pure.
 */
#include <esp/mail/header.h>

/* "[...]" without brackets inside, and the space behind it. */
static bool take_blob(esp_str *s)
{
	size_t i = 1;

	if (s->len < 2 || s->ptr[0] != '[')
		return false;
	while (i < s->len && s->ptr[i] != '[' && s->ptr[i] != ']')
		i++;
	if (i == s->len || s->ptr[i] != ']')
		return false;
	*s = esp_str_trim(esp_str_of(s->ptr + i + 1, s->len - i - 1));
	return true;
}

static bool starts(esp_str s, const char *lower)
{
	size_t i;

	for (i = 0; lower[i]; i++)
		if (i == s.len || esp_ascii_lower((unsigned char)s.ptr[i]) != lower[i])
			return false;
	return true;
}

/* "re", "fw" or "fwd", a blob perhaps, a colon. */
static bool take_refwd(esp_str *s)
{
	esp_str rest = *s;
	size_t n = starts(rest, "re") ? 2 : starts(rest, "fwd") ? 3 : starts(rest, "fw") ? 2 : 0;

	if (n == 0)
		return false;
	rest = esp_str_trim(esp_str_of(rest.ptr + n, rest.len - n));
	(void)take_blob(&rest);
	if (rest.len == 0 || rest.ptr[0] != ':')
		return false;
	*s = esp_str_trim(esp_str_of(rest.ptr + 1, rest.len - 1));
	return true;
}

/* Blobs and a "Re:" behind them; nothing is taken when there is none. */
static bool take_leader(esp_str *s)
{
	esp_str rest = *s;

	while (take_blob(&rest))
		;
	if (!take_refwd(&rest))
		return false;
	*s = rest;
	return true;
}

static bool take_trailers(esp_str *s)
{
	bool any = false;

	while (s->len >= 5 && starts(esp_str_of(s->ptr + s->len - 5, 5), "(fwd)")) {
		*s = esp_str_trim(esp_str_of(s->ptr, s->len - 5));
		any = true;
	}
	return any;
}

/* A blob in front, unless nothing else is left. */
static bool take_prefix(esp_str *s)
{
	esp_str rest = *s;

	if (!take_blob(&rest) || rest.len == 0)
		return false;
	*s = rest;
	return true;
}

static bool take_wrapper(esp_str *s)
{
	if (s->len < 6 || !starts(*s, "[fwd:") || s->ptr[s->len - 1] != ']')
		return false;
	*s = esp_str_trim(esp_str_of(s->ptr + 5, s->len - 6));
	return true;
}

/* Runs of white space become one space, in place. */
static void single_spaces(esp_buf *b)
{
	size_t i, n = 0;

	for (i = 0; i < b->len; i++)
		if ((unsigned char)b->data[i] > ' ')
			b->data[n++] = b->data[i];
		else if (n && b->data[n - 1] != ' ')
			b->data[n++] = ' ';
	b->len = n;
}

esp_status esp_subject_base(esp_str value, esp_buf *out, uint32_t *ret_reply)
{
	esp_buf text;
	esp_status st;
	esp_str s;

	*ret_reply = 0;
	esp_buf_init(&text, value.len * 4 + 64);
	st = esp_header_decode(value, &text);
	single_spaces(&text);
	s = esp_str_trim(esp_buf_str(&text));
	do {
		bool more;
		*ret_reply |= take_trailers(&s);
		do {
			more = take_leader(&s);
			*ret_reply |= more;
			more |= take_prefix(&s);
		} while (more);
	} while (take_wrapper(&s) && (*ret_reply = 1));
	if (st == ESP_OK)
		st = esp_buf_add_str(out, s);
	esp_buf_free(&text);
	return st;
}
