/* response - see response.h. */
#include "response.h"

#include <esp/mail/date.h>

#include <string.h>
#include <strings.h>

#define DEPTH_MAX 100

/* --- pieces ------------------------------------------------------------------------------------------------------ */

void response_init(struct response *r)
{
	esp_buf_init(&r->text, FOREIGN_MAX + RESPONSE_TEXT);
	response_reset(r);
}

void response_reset(struct response *r)
{
	esp_buf_reset(&r->text);
	r->start = r->words = r->literal = 0;
}

void response_free(struct response *r) { esp_buf_free(&r->text); }

/* "{123}" at the end of the line at hand: that many bytes follow.  -1: none; -2: too many. */
static int64_t literal_at_end(const struct response *r)
{
	const char *data = r->text.data;
	size_t n = r->text.len, from;
	uint64_t v = 0;

	while (n > r->start && (data[n - 1] == '\r' || data[n - 1] == '\n'))
		n--;
	if (n < r->start + 3 || data[n - 1] != '}')
		return -1;
	for (from = n - 1; from > r->start && esp_ascii_isdigit((unsigned char)data[from - 1]); from--)
		;
	if (from == r->start || from == n - 1 || data[from - 1] != '{')
		return -1;
	for (size_t i = from; i < n - 1; i++) {
		v = v * 10 + (uint64_t)(data[i] - '0');
		if (v > FOREIGN_MAX)
			return -2;
	}
	return (int64_t)v;
}

static esp_status end_line(struct response *r)
{
	int64_t literal = literal_at_end(r);

	if (literal == -2)
		return ESP_E2BIG;
	if (literal >= 0) {
		r->literal = (size_t)literal;
		r->start = r->text.len;
		return ESP_EAGAIN;
	}
	while (r->text.len > r->start && (r->text.data[r->text.len - 1] == '\n' || r->text.data[r->text.len - 1] == '\r'))
		esp_buf_cut(&r->text, r->text.len - 1);
	return ESP_OK;
}

static esp_status take(struct response *r, esp_str *in, size_t n)
{
	esp_status st = esp_buf_add(&r->text, in->ptr, n);

	*in = (esp_str){ in->ptr + n, in->len - n };
	return st;
}

/* Up to LF. */
static esp_status feed_line(struct response *r, esp_str *in)
{
	const char *lf = memchr(in->ptr, '\n', in->len);
	size_t n = lf ? (size_t)(lf - in->ptr) + 1 : in->len;
	esp_status st;

	r->words += n;
	if (r->words > RESPONSE_TEXT)
		return ESP_E2BIG;
	st = take(r, in, n);
	if (st != ESP_OK)
		return st;
	return lf ? end_line(r) : ESP_EAGAIN;
}

static esp_status feed_literal(struct response *r, esp_str *in)
{
	size_t n = r->literal < in->len ? r->literal : in->len;
	esp_status st = take(r, in, n);

	r->literal -= n;
	r->start = r->text.len;
	return st == ESP_OK ? ESP_EAGAIN : st;
}

esp_status response_feed(struct response *r, esp_str *in)
{
	esp_status st = ESP_EAGAIN;

	while (st == ESP_EAGAIN && in->len)
		st = r->literal ? feed_literal(r, in) : feed_line(r, in);
	return st;
}

/* --- elements ---------------------------------------------------------------------------------------------------- */

static int quoted(esp_cursor *c, esp_str *ret)
{
	char *to = (char *)(uintptr_t)c->p;    /* escapes go out in place: the response is ours */

	*ret = (esp_str){ c->p, 0 };
	while (c->p < c->end && *c->p != '"') {
		if (*c->p == '\\' && c->p + 1 < c->end)
			c->p++;
		to[ret->len++] = *c->p++;
	}
	return esp_cursor_accept(c, '"');
}

static int literal(esp_cursor *c, esp_str *ret)
{
	uint64_t n;

	if (!esp_cursor_number(c, FOREIGN_MAX, &n) || !esp_cursor_accept(c, '}'))
		return 0;
	(void)esp_cursor_accept(c, '\r');
	return esp_cursor_accept(c, '\n') && esp_cursor_take(c, (size_t)n, ret);
}

int response_string(esp_cursor *c, esp_str *ret)
{
	const char *from = c->p;

	if (esp_cursor_accept(c, '"'))
		return quoted(c, ret);
	if (esp_cursor_accept(c, '{'))
		return literal(c, ret);
	while (c->p < c->end && *c->p != ' ' && *c->p != '(' && *c->p != ')')
		c->p++;
	*ret = esp_cursor_since(c, from);
	if (esp_str_is(*ret, "NIL"))
		*ret = (esp_str){ NULL, 0 };
	return c->p > from;
}

int response_word(esp_cursor *c, const char *word)
{
	size_t n = strlen(word);

	if (esp_cursor_left(c) < n || strncasecmp(c->p, word, n) != 0)
		return 0;
	c->p += n;
	(void)esp_cursor_accept(c, ' ');
	return 1;
}

int response_skip(esp_cursor *c)
{
	int depth = 0;

	do {
		esp_str s;
		if (esp_cursor_accept(c, '('))
			depth++;
		else if (depth && esp_cursor_accept(c, ')'))
			depth--;
		else if (!(depth && esp_cursor_accept(c, ' ')) && !response_string(c, &s))
			return 0;
	} while (depth > 0 && depth < DEPTH_MAX && c->p < c->end);
	return depth == 0;
}

static int number(esp_cursor *c, uint32_t *ret)
{
	uint64_t v;

	if (!esp_cursor_number(c, UINT32_MAX, &v))
		return 0;
	*ret = (uint32_t)v;
	return 1;
}

/* --- FETCH ------------------------------------------------------------------------------------------------------- */

static int take_flags(esp_cursor *c, struct marks *m)
{
	static const struct { const char *name; uint64_t flag; } known[] = { { "\\Seen", ESP_FLAG_SEEN },
		{ "\\Answered", ESP_FLAG_ANSWERED }, { "\\Flagged", ESP_FLAG_FLAGGED }, { "\\Deleted", ESP_FLAG_DELETED },
		{ "\\Draft", ESP_FLAG_DRAFT } };

	if (!esp_cursor_accept(c, '('))
		return 0;
	while (!esp_cursor_accept(c, ')')) {
		esp_str s;
		if (esp_cursor_accept(c, ' '))
			continue;
		if (!response_string(c, &s))
			return 0;
		for (size_t k = 0; k < sizeof known / sizeof known[0]; k++)
			if (esp_str_is(s, known[k].name))
				m->flags |= known[k].flag;
		marks_add(m, s);
	}
	return 1;
}

static int take_item(esp_cursor *c, struct response_message *ret)
{
	esp_str s;

	if (response_word(c, "UID "))
		return number(c, &ret->uid);
	if (response_word(c, "FLAGS "))
		return take_flags(c, ret->marks);
	if (response_word(c, "INTERNALDATE ")) {
		if (!response_string(c, &s))
			return 0;
		if (!s.ptr || esp_imap_datetime_parse(s, &ret->date, NULL) != ESP_OK)
			ret->date = 0;
		return 1;
	}
	if (response_word(c, "BODY[] ")) {
		ret->has_body = 1;
		return response_string(c, &ret->body);
	}
	return response_string(c, &s) && esp_cursor_accept(c, ' ') && response_skip(c);   /* what nobody asked for */
}

int response_fetch(esp_str response, struct response_message *ret)
{
	esp_cursor c = esp_cursor_of(response);
	uint32_t sequence;
	struct marks *marks = ret->marks;

	*ret = (struct response_message){ .marks = marks };
	marks_clear(marks);
	if (!response_word(&c, "* ") || !number(&c, &sequence) || !esp_cursor_accept(&c, ' ') ||
	    !response_word(&c, "FETCH "))
		return 0;
	if (!esp_cursor_accept(&c, '('))
		return -1;
	while (!esp_cursor_accept(&c, ')'))
		if (!esp_cursor_accept(&c, ' ') && !take_item(&c, ret))
			return -1;
	while (esp_cursor_accept(&c, ' '))
		;
	return c.p == c.end ? 1 : -1;
}

/* --- folders and UIDs -------------------------------------------------------------------------------------------- */

static int has_attribute(esp_str attributes, const char *name)
{
	size_t n = strlen(name);

	for (size_t k = 0; k + n <= attributes.len; k++)
		if (strncasecmp(attributes.ptr + k, name, n) == 0)
			return 1;
	return 0;
}

int response_list(esp_str response, struct response_folder *ret)
{
	esp_cursor c = esp_cursor_of(response);
	esp_str attributes, separator;
	const char *from;

	*ret = (struct response_folder){ .separator = '\0' };
	if (!response_word(&c, "* LIST "))
		return 0;
	from = c.p;
	if (esp_cursor_peek(&c) != '(' || !response_skip(&c))
		return -1;
	attributes = esp_cursor_since(&c, from);
	if (!esp_cursor_accept(&c, ' ') || !response_string(&c, &separator) || !esp_cursor_accept(&c, ' ') ||
	    !response_string(&c, &ret->name))
		return -1;
	ret->separator = separator.len ? separator.ptr[0] : '\0';
	ret->no_mail = has_attribute(attributes, "\\Noselect") || has_attribute(attributes, "\\NonExistent");
	return 1;
}

int response_search(esp_str response, esp_cursor *ret)
{
	*ret = esp_cursor_of(response);
	return response_word(ret, "* SEARCH") && (esp_cursor_left(ret) == 0 || ret->p[-1] == ' ');
}

int response_next_uid(esp_cursor *c, uint32_t *ret)
{
	while (esp_cursor_accept(c, ' '))
		;
	if (esp_cursor_left(c) == 0 || esp_cursor_peek(c) == '(')   /* RFC 7162: (MODSEQ 5) at the end */
		return 0;
	return number(c, ret) && *ret && (esp_cursor_left(c) == 0 || *c->p == ' ') ? 1 : -1;
}

int response_uidvalidity(esp_str response, uint32_t *ret)
{
	esp_cursor c = esp_cursor_of(response);

	if (!response_word(&c, "* OK [UIDVALIDITY "))
		return 0;
	return number(&c, ret) && *ret && esp_cursor_accept(&c, ']') ? 1 : -1;
}
