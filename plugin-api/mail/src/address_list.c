/* address_list.c - RFC 5322 address lists (esp/mail/address_list.h).
 *
 * Two looks at each element: one that finds what ends its words ('<', '@', ':', ',' ...), one that writes the
 * words in the form this end asks for.  Pure; strings live in the caller's scratch buffer.
 */
#include "lex.h"
#include <esp/mail/address_list.h>

/* Offsets into scratch: it may move while it grows. */
struct field { size_t off, len; };

static bool is_word(int ch)
{
	return ch >= 0 && !lex_is_wsp(ch) && ch != '"' && ch != '(' && ch != '<' && ch != '@' && ch != ',' && ch != ';' &&
	       ch != ':';
}

/* Past words, quoted strings and comments. */
static void skip_words(esp_cursor *c, bool colon_is_word, esp_str *ret_comment)
{
	for (;;) {
		int b;

		lex_skip_cfws(c, ret_comment);
		b = esp_cursor_peek(c);
		if (b == '"')
			lex_skip_quoted(c);
		else if (is_word(b) || (b == ':' && colon_is_word))
			c->p++;
		else
			return;
	}
}

/* Words with one space where there was any, as a display name. */
static struct field add_phrase(esp_str s, esp_buf *out)
{
	struct field f = { out->len, 0 };
	esp_cursor c = esp_cursor_of(s);

	for (;;) {
		const char *before = c.p;
		int b;

		lex_skip_cfws(&c, NULL);
		b = esp_cursor_peek(&c);
		if (b < 0)
			break;
		if (c.p > before && out->len > f.off)
			esp_buf_add_char(out, ' ');
		if (b == '"')
			lex_add_quoted(&c, out);
		else
			esp_buf_add_char(out, (char)esp_cursor_next(&c));
	}
	f.len = out->len - f.off;
	return f;
}

/* Words without space, as a local part or domain; quoted strings by their meaning, [literals] as they are. */
static struct field add_joined(esp_str s, esp_buf *out)
{
	struct field f = { out->len, 0 };
	esp_cursor c = esp_cursor_of(s);

	for (;;) {
		int b;

		lex_skip_cfws(&c, NULL);
		b = esp_cursor_peek(&c);
		if (b < 0)
			break;
		if (b == '"')
			lex_add_quoted(&c, out);
		else
			esp_buf_add_char(out, (char)esp_cursor_next(&c));
	}
	f.len = out->len - f.off;
	return f;
}

static struct field add_comment(esp_str s, esp_buf *out)
{
	struct field f = { out->len, 0 };
	esp_cursor c = esp_cursor_of(esp_str_trim(s));
	int b;

	while ((b = esp_cursor_next(&c)) >= 0) {
		if (b == '\\')
			b = esp_cursor_next(&c);
		if (b >= 0 && b != '\r' && b != '\n')
			esp_buf_add_char(out, (char)b);
	}
	f.len = out->len - f.off;
	return f;
}

/* Domain of a bare addr-spec: up to white space that no dot or comment continues, ',' or ';'. */
static esp_str take_domain(esp_cursor *c, bool in_angle, esp_str *ret_comment)
{
	const char *from, *end;

	lex_skip_cfws(c, ret_comment);
	from = end = c->p;
	for (;;) {
		int b = esp_cursor_peek(c);

		if (b == '[') {
			while (c->p < c->end && *c->p != ']')
				c->p++;
			if (c->p < c->end)
				c->p++;
		} else if (b == '"') {
			lex_skip_quoted(c);
		} else if (b < 0 || b == ',' || b == ';' || b == '<' || (in_angle && b == '>')) {
			break;
		} else if (b == '(' || lex_is_wsp(b)) {
			lex_skip_cfws(c, ret_comment);
			continue;
		} else {
			c->p++;
		}
		end = c->p;
	}
	return esp_str_of(from, (size_t)(end - from));
}

/* To the ',' or ';' behind an element; what stands between is of no use to anybody. */
static void skip_rest(esp_cursor *c, esp_str *ret_comment)
{
	for (;;) {
		int b;

		lex_skip_cfws(c, ret_comment);
		b = esp_cursor_peek(c);
		if (b < 0 || b == ',' || b == ';')
			return;
		if (b == '"')
			lex_skip_quoted(c);
		else
			c->p++;
	}
}

struct element { struct field name, route, local, domain; };

/* Behind '<': route, local part, domain, '>'. */
static void take_angle(esp_cursor *c, esp_buf *scratch, struct element *e)
{
	const char *from;

	lex_skip_cfws(c, NULL);
	if (esp_cursor_peek(c) == '@') {
		esp_cursor colon = *c;

		while (colon.p < colon.end && *colon.p != ':' && *colon.p != '>' && *colon.p != ';')
			colon.p++;
		if (esp_cursor_peek(&colon) == ':') {
			e->route = add_joined(esp_cursor_since(&colon, c->p), scratch);
			c->p = colon.p + 1;
		}
	}
	from = c->p;
	for (;;) {
		int b;

		lex_skip_cfws(c, NULL);
		b = esp_cursor_peek(c);
		if (b < 0 || b == '@' || b == '>')
			break;
		if (b == '"')
			lex_skip_quoted(c);
		else
			c->p++;
	}
	e->local = add_joined(esp_cursor_since(c, from), scratch);
	if (esp_cursor_accept(c, '@'))
		e->domain = add_joined(take_domain(c, true, NULL), scratch);
	(void)esp_cursor_accept(c, '>');
}

static esp_status finish(esp_buf *scratch, const struct element *e, uint32_t kind, esp_list_address *ret)
{
	if (scratch->err)
		return scratch->err;
	memset(ret, 0, sizeof(*ret));
	ret->kind = kind;
	if (scratch->data) {
		ret->name = esp_str_of(scratch->data + e->name.off, e->name.len);
		ret->route = esp_str_of(scratch->data + e->route.off, e->route.len);
		ret->local = esp_str_of(scratch->data + e->local.off, e->local.len);
		ret->domain = esp_str_of(scratch->data + e->domain.off, e->domain.len);
	}
	return ESP_OK;
}

esp_status esp_address_list_next(esp_address_list *l, esp_buf *scratch, esp_list_address *ret)
{
	esp_cursor *c = &l->c;

	esp_buf_reset(scratch);
	for (;;) {
		struct element e = { 0 };
		esp_str comment = { 0 }, words;
		const char *from;
		int b;

		lex_skip_cfws(c, NULL);
		b = esp_cursor_peek(c);
		if ((b == ';' || b < 0) && l->in_group) {
			(void)esp_cursor_accept(c, ';');
			l->in_group = 0;
			return finish(scratch, &e, ESP_LIST_GROUP_END, ret);
		}
		if (b < 0)
			return ESP_ENOENT;
		if (b == ',' || b == ';') {
			c->p++;
			continue;
		}
		from = c->p;
		skip_words(c, l->in_group, &comment);
		words = esp_cursor_since(c, from);
		if (esp_cursor_accept(c, ':')) {
			l->in_group = 1;
			e.local = add_phrase(words, scratch);
			return finish(scratch, &e, ESP_LIST_GROUP_START, ret);
		}
		if (l->count == ESP_ADDRESS_LIST_MAX)
			return ESP_E2BIG;
		if (esp_cursor_accept(c, '<')) {
			e.name = add_phrase(words, scratch);
			take_angle(c, scratch, &e);
			skip_rest(c, &comment);
			if (e.name.len == 0 && comment.len)
				e.name = add_comment(comment, scratch);
			l->count++;
			return finish(scratch, &e, ESP_LIST_MAILBOX, ret);
		}
		e.local = add_joined(words, scratch);
		if (esp_cursor_accept(c, '@')) {
			e.domain = add_joined(take_domain(c, false, &comment), scratch);
			skip_rest(c, &comment);
		} else {
			esp_buf_reset(scratch); /* no address in it: keep it readable */
			e.local = add_phrase(words, scratch);
		}
		if (e.local.len == 0 && e.domain.len == 0)
			continue;
		if (comment.len)
			e.name = add_comment(comment, scratch);
		l->count++;
		return finish(scratch, &e, ESP_LIST_MAILBOX, ret);
	}
}
