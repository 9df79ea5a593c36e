/* encoded_word.c - RFC 2047: decoding header text for people, encoding text for headers (esp/mail/header.h).
 *
 * Pure.  Decoding joins the bytes of adjacent words of one charset before it converts them, because writers cut
 * characters in two.  The result is for display and search only: nothing parses it again (R-H3).
 */
#include "lex.h"
#include <esp/mail/charset.h>
#include <esp/mail/encoding.h>
#include <esp/mail/header.h>
#include <esp/mail/utf8.h>

struct word { esp_str charset, text; int encoding; };

/* "=?charset*lang?B?text?=" at the cursor; takes it when it is one. */
static bool take_word(esp_cursor *c, struct word *ret)
{
	esp_cursor at = *c;
	const char *from, *star;
	int b;

	if (!esp_cursor_accept(&at, '=') || !esp_cursor_accept(&at, '?'))
		return false;
	from = at.p;
	while ((b = esp_cursor_peek(&at)) > 32 && b < 127 && b != '?')
		at.p++;
	ret->charset = esp_cursor_since(&at, from);
	star = ret->charset.len ? memchr(ret->charset.ptr, '*', ret->charset.len) : NULL;
	if (star)
		ret->charset.len = (size_t)(star - ret->charset.ptr);
	if (ret->charset.len == 0 || !esp_cursor_accept(&at, '?'))
		return false;
	ret->encoding = esp_ascii_upper(esp_cursor_next(&at));
	if ((ret->encoding != 'B' && ret->encoding != 'Q') || !esp_cursor_accept(&at, '?'))
		return false;
	from = at.p;
	while ((b = esp_cursor_peek(&at)) >= 0 && b != '?' && b != '\r' && b != '\n')
		at.p++;
	ret->text = esp_cursor_since(&at, from);
	if (!esp_cursor_accept(&at, '?') || !esp_cursor_accept(&at, '='))
		return false;
	c->p = at.p; /* taken even when we do not know the charset: then it stays text */
	return esp_charset_name(ret->charset) != NULL;
}

static void add_q(esp_str s, esp_buf *out)
{
	esp_cursor c = esp_cursor_of(s);
	int b;

	while ((b = esp_cursor_next(&c)) >= 0) {
		int hi = esp_ascii_hex(esp_cursor_peek(&c)), lo = esp_ascii_hex(esp_cursor_peek_at(&c, 1));

		if (b == '=' && hi >= 0 && lo >= 0) {
			b = hi << 4 | lo;
			c.p += 2;
		} else if (b == '_') {
			b = ' ';
		}
		esp_buf_add_char(out, (char)b);
	}
}

struct decoder { esp_buf *out; esp_buf bytes; esp_str charset; bool joined; };

/* What words have gathered, as UTF-8 without controls. */
static void flush(struct decoder *d)
{
	size_t from = d->out->len, i;

	if (!d->joined)
		return;
	esp_charset_to_utf8(d->charset, esp_buf_str(&d->bytes), d->out);
	for (i = from; i < d->out->len; i++)
		if ((unsigned char)d->out->data[i] < 32 || d->out->data[i] == 127)
			d->out->data[i] = ' ';
	esp_buf_reset(&d->bytes);
	d->joined = false;
}

static void add_word(struct decoder *d, const struct word *w)
{
	esp_base64 b64 = { 0 };

	if (d->joined && !esp_str_ieq(d->charset, w->charset))
		flush(d);
	d->charset = w->charset;
	d->joined = true;
	if (w->encoding == 'B')
		esp_base64_feed(&b64, w->text, &d->bytes);
	else
		add_q(w->text, &d->bytes);
}

/* Text outside words: line endings out, controls to spaces, bad UTF-8 to U+FFFD. */
static void add_text(esp_str s, esp_buf *out)
{
	while (s.len) {
		uint32_t ch = 0;
		int n = esp_utf8_next(s, &ch);

		if (n <= 0) {
			esp_utf8_add(out, 0xfffd);
			n = 1;
		} else if (ch != '\r' && ch != '\n') {
			esp_utf8_add(out, ch < 32 || ch == 127 ? ' ' : ch);
		}
		s.ptr += n;
		s.len -= (size_t)n;
	}
}

esp_status esp_header_decode(esp_str value, esp_buf *out)
{
	esp_cursor c = esp_cursor_of(esp_str_trim(value));
	struct decoder d = { .out = out };
	const char *text = c.p;
	esp_status st;

	esp_buf_init(&d.bytes, value.len + 1);
	while (c.p < c.end) {
		const char *at = memchr(c.p, '=', esp_cursor_left(&c));
		esp_str between;
		struct word w;

		if (!at)
			break;
		c.p = at;
		if (!take_word(&c, &w)) {
			if (c.p == at)
				c.p++; /* else an encoded word of a charset we do not know: it stays as it is */
			continue;
		}
		between = esp_str_of(text, (size_t)(at - text));
		if (!d.joined || esp_str_trim(between).len) {
			flush(&d);
			add_text(between, out);
		}
		add_word(&d, &w);
		text = c.p;
	}
	flush(&d);
	add_text(esp_str_of(text, (size_t)(c.end - text)), out);
	st = d.bytes.err ? d.bytes.err : out->err;
	esp_buf_free(&d.bytes);
	return st;
}

/* Plain text folded before words that would pass column 76. */
static void add_folded(esp_str s, size_t column, esp_buf *out)
{
	size_t i = 0;

	while (i < s.len) {
		size_t gap = i, word;

		while (gap < s.len && s.ptr[gap] == ' ')
			gap++;
		word = gap;
		while (word < s.len && s.ptr[word] != ' ')
			word++;
		if (gap > i && word > gap && column + (word - i) > 76 && column > 1) {
			esp_buf_add(out, "\r\n", 2);
			column = 0;
		}
		esp_buf_add(out, s.ptr + i, word - i);
		column += word - i;
		i = word;
	}
}

static bool q_plain(unsigned char b)
{
	return esp_ascii_isalnum(b) || b == '!' || b == '*' || b == '+' || b == '-' || b == '/';
}

/* Words of at most 75 columns, cut between characters (RFC 2047 2, 5). */
static void add_words(esp_str s, size_t column, bool q, esp_buf *out)
{
	static const char hex[] = "0123456789ABCDEF";

	if (column > 30) /* a first word worth its overhead, within the line */
		column = 30;
	while (s.len) {
		size_t room = 75 - 12 - (column > 1 ? column : 0), used = 0, n = 0, i;

		while (n < s.len) {
			uint32_t ch;
			size_t k = (size_t)esp_utf8_next(esp_str_of(s.ptr + n, s.len - n), &ch), cost = 0;

			for (i = 0; i < k; i++)
				cost += q_plain((unsigned char)s.ptr[n + i]) || s.ptr[n + i] == ' ' ? 1 : 3;
			if (q ? used + cost > room : (n + k + 2) / 3 * 4 > room)
				break;
			used += cost;
			n += k;
		}
		esp_buf_add_z(out, q ? "=?utf-8?Q?" : "=?utf-8?B?");
		for (i = 0; q && i < n; i++) {
			unsigned char b = (unsigned char)s.ptr[i];
			char esc[3] = { '=', hex[b >> 4], hex[b & 15] };

			if (b == ' ')
				esp_buf_add_char(out, '_');
			else if (q_plain(b))
				esp_buf_add_char(out, (char)b);
			else
				esp_buf_add(out, esc, 3);
		}
		if (!q)
			esp_base64_encode(esp_str_of(s.ptr, n), 0, out);
		esp_buf_add_z(out, "?=");
		s.ptr += n;
		s.len -= n;
		if (s.len)
			esp_buf_add_z(out, "\r\n ");
		column = 1;
	}
}

static bool encodable(esp_str s)
{
	size_t i;

	for (i = 0; i < s.len; i++)
		if (s.ptr[i] == 0 || s.ptr[i] == '\r' || s.ptr[i] == '\n')
			return false;
	return esp_utf8_valid(s);
}

/* Does the text need encoded words?  Also when it looks like one, holds controls or a word too long for a line. */
static bool needs_words(esp_str s, size_t *ret_escapes)
{
	size_t i, run = 0, escapes = 0;
	bool needs = s.len && (s.ptr[0] == ' ' || s.ptr[s.len - 1] == ' ');

	for (i = 0; i < s.len; i++) {
		unsigned char b = (unsigned char)s.ptr[i];

		if (b < 32 || b > 126 || (b == '=' && i + 1 < s.len && s.ptr[i + 1] == '?'))
			needs = true;
		run = b == ' ' ? 0 : run + 1;
		if (run > 900)
			needs = true;
		escapes += !q_plain(b) && b != ' ';
	}
	*ret_escapes = escapes;
	return needs;
}

esp_status esp_header_encode(esp_str text, size_t column, esp_buf *out)
{
	size_t escapes;

	if (!encodable(text))
		return ESP_EINVAL;
	if (!needs_words(text, &escapes))
		add_folded(text, column, out);
	else
		add_words(text, column, escapes * 6 < text.len * 2, out);
	return out->err;
}

esp_status esp_header_write_phrase(esp_str text, esp_buf *out)
{
	size_t i, escapes;
	bool atoms = true;

	if (!encodable(text))
		return ESP_EINVAL;
	if (needs_words(text, &escapes)) {
		add_words(text, 1, escapes * 6 < text.len * 2, out);
		return out->err;
	}
	for (i = 0; i < text.len; i++)
		if (!esp_ascii_isalnum((unsigned char)text.ptr[i]) && text.ptr[i] != ' ' && text.ptr[i] != '-' &&
		    text.ptr[i] != '_')
			atoms = false;
	if (atoms && text.len)
		return esp_buf_add_str(out, text);
	esp_buf_add_char(out, '"');
	for (i = 0; i < text.len; i++) {
		if (text.ptr[i] == '"' || text.ptr[i] == '\\')
			esp_buf_add_char(out, '\\');
		esp_buf_add_char(out, text.ptr[i]);
	}
	return esp_buf_add_char(out, '"');
}
