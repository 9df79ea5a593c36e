/* lex.h - lexical elements of RFC 5322 shared inside libespmail: white space, comments, quoted strings.
 *
 * Iterative on purpose: a comment nested a million deep costs a counter.  Escapes need two bytes, so a
 * backslash at the end of the input ends there (R-E6).
 */
#ifndef ESP_MAIL_LEX_H
#define ESP_MAIL_LEX_H

#include <esp/mail/buf.h>
#include <esp/mail/cursor.h>

static inline bool lex_is_wsp(int ch)
{
	return ch == ' ' || ch == '\t' || ch == '\r' || ch == '\n';
}

/* At '(': behind the matching ')' or the end.  *ret_inside: what is between. */
static inline void lex_skip_comment(esp_cursor *c, esp_str *ret_inside)
{
	const char *from = c->p + 1;
	size_t depth = 0;
	int b;

	while ((b = esp_cursor_next(c)) >= 0) {
		if (b == '\\')
			(void)esp_cursor_next(c);
		else if (b == '(')
			depth++;
		else if (b == ')' && --depth == 0)
			break;
	}
	*ret_inside = esp_str_of(from, (size_t)(c->p - from));
	if (b == ')' && ret_inside->len)
		ret_inside->len--;
}

/* White space and comments; the last comment's inside goes to *ret_comment when there was one. */
static inline void lex_skip_cfws(esp_cursor *c, esp_str *ret_comment)
{
	esp_str inside;

	for (;;) {
		while (lex_is_wsp(esp_cursor_peek(c)))
			c->p++;
		if (esp_cursor_peek(c) != '(')
			return;
		lex_skip_comment(c, &inside);
		if (ret_comment)
			*ret_comment = inside;
	}
}

/* At '"': behind the closing one or the end. */
static inline void lex_skip_quoted(esp_cursor *c)
{
	int b;

	(void)esp_cursor_next(c);
	while ((b = esp_cursor_next(c)) >= 0 && b != '"')
		if (b == '\\')
			(void)esp_cursor_next(c);
}

/* Appends what a quoted string at the cursor means, without CR and LF (folding). */
static inline void lex_add_quoted(esp_cursor *c, esp_buf *out)
{
	int b;

	(void)esp_cursor_next(c);
	while ((b = esp_cursor_next(c)) >= 0 && b != '"') {
		if (b == '\\')
			b = esp_cursor_next(c);
		if (b >= 0 && b != '\r' && b != '\n')
			esp_buf_add_char(out, (char)b);
	}
}

/* Appends bytes without CR and LF. */
static inline void lex_add_unfolded(esp_str s, esp_buf *out)
{
	size_t i, from = 0;

	for (i = 0; i <= s.len; i++)
		if (i == s.len || s.ptr[i] == '\r' || s.ptr[i] == '\n') {
			esp_buf_add(out, s.ptr + from, i - from);
			from = i + 1;
		}
}

#endif
