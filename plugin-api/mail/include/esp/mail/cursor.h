/* esp/mail/cursor.h - a bounded reader over borrowed bytes.
 *
 * Every parser of libespmail reads through this cursor: it never runs past `end`, peeking at the end gives -1
 * (so an escape at the end of the input cannot read what is behind it), and an error is sticky.  Spans that
 * it hands out point into the input and live as long as the input does.  All functions are static inline. [any]
 */
#ifndef ESP_MAIL_CURSOR_H
#define ESP_MAIL_CURSOR_H

#include <esp/abi.h>
#include <stdbool.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

/*! \brief Reader over [p, end).  `err` is set by a failed read and never cleared. */
typedef struct { const char *p, *end; uint32_t err; } esp_cursor;

/*! \brief A cursor at the start of `s`. */
static inline esp_cursor esp_cursor_of(esp_str s)
{
	esp_cursor c;

	c.p = s.ptr ? s.ptr : "";
	c.end = c.p + s.len;
	c.err = 0;
	return c;
}

/*! \brief Bytes not yet read. */
static inline size_t esp_cursor_left(const esp_cursor *c)
{
	return (size_t)(c->end - c->p);
}

/*! \brief The next byte (0..255) without taking it, or -1 at the end. */
static inline int esp_cursor_peek(const esp_cursor *c)
{
	return c->p < c->end ? (unsigned char)*c->p : -1;
}

/*! \brief The byte `n` places ahead (0 is the next one), or -1 when that is beyond the end. */
static inline int esp_cursor_peek_at(const esp_cursor *c, size_t n)
{
	return n < esp_cursor_left(c) ? (unsigned char)c->p[n] : -1;
}

/*! \brief Takes one byte, or returns -1 at the end (no error: the end is an answer). */
static inline int esp_cursor_next(esp_cursor *c)
{
	return c->p < c->end ? (unsigned char)*c->p++ : -1;
}

/*! \brief Takes `want` when it is next. */
static inline bool esp_cursor_accept(esp_cursor *c, char want)
{
	if (c->p == c->end || *c->p != want)
		return false;
	c->p++;
	return true;
}

/*! \brief Takes exactly `n` bytes; too few left sets the sticky error and takes nothing. */
static inline bool esp_cursor_take(esp_cursor *c, size_t n, esp_str *ret_span)
{
	if (n > esp_cursor_left(c)) {
		c->err = 1;
		return false;
	}
	ret_span->ptr = c->p;
	ret_span->len = n;
	c->p += n;
	return true;
}

/*! \brief The bytes between `from` (an earlier position of this cursor) and the current position. */
static inline esp_str esp_cursor_since(const esp_cursor *c, const char *from)
{
	esp_str s;

	s.ptr = from;
	s.len = (size_t)(c->p - from);
	return s;
}

/*! \brief All that is left, without taking it. */
static inline esp_str esp_cursor_rest(const esp_cursor *c)
{
	esp_str s;

	s.ptr = c->p;
	s.len = esp_cursor_left(c);
	return s;
}

/* --- small things about spans and bytes, without locale --------------------------------------------------- */

/*! \brief ASCII lower case of one byte. */
static inline int esp_ascii_lower(int ch)
{
	return ch >= 'A' && ch <= 'Z' ? ch + 32 : ch;
}

/*! \brief ASCII upper case of one byte. */
static inline int esp_ascii_upper(int ch)
{
	return ch >= 'a' && ch <= 'z' ? ch - 32 : ch;
}

/*! \brief Is it a letter, a digit, one of both?  ASCII alone; -1 is none. */
static inline bool esp_ascii_isalpha(int ch)
{
	return (ch >= 'A' && ch <= 'Z') || (ch >= 'a' && ch <= 'z');
}
static inline bool esp_ascii_isdigit(int ch)
{
	return ch >= '0' && ch <= '9';
}
static inline bool esp_ascii_isalnum(int ch)
{
	return esp_ascii_isalpha(ch) || esp_ascii_isdigit(ch);
}

/*! \brief Value of a hexadecimal digit, or -1. */
static inline int esp_ascii_hex(int ch)
{
	if (ch >= '0' && ch <= '9')
		return ch - '0';
	if (ch >= 'A' && ch <= 'F')
		return ch - 'A' + 10;
	if (ch >= 'a' && ch <= 'f')
		return ch - 'a' + 10;
	return -1;
}

/*! \brief A span over `n` bytes at `p`. */
static inline esp_str esp_str_of(const char *p, size_t n)
{
	esp_str s;

	s.ptr = p;
	s.len = n;
	return s;
}

/*! \brief A span over a NUL-terminated string. */
static inline esp_str esp_str_z(const char *z)
{
	return esp_str_of(z, strlen(z));
}

/*! \brief Equal without regard to ASCII case. */
static inline bool esp_str_ieq(esp_str a, esp_str b)
{
	size_t i;

	if (a.len != b.len)
		return false;
	for (i = 0; i < a.len; i++)
		if (esp_ascii_lower((unsigned char)a.ptr[i]) != esp_ascii_lower((unsigned char)b.ptr[i]))
			return false;
	return true;
}

/*! \brief Equal to a NUL-terminated word without regard to ASCII case. */
static inline bool esp_str_is(esp_str a, const char *word)
{
	return esp_str_ieq(a, esp_str_z(word));
}

/*! \brief Takes space and tab (and, as obsolete folding, CR and LF) from both ends. */
static inline esp_str esp_str_trim(esp_str s)
{
	while (s.len && (*s.ptr == ' ' || *s.ptr == '\t' || *s.ptr == '\r' || *s.ptr == '\n')) {
		s.ptr++;
		s.len--;
	}
	while (s.len && (s.ptr[s.len - 1] == ' ' || s.ptr[s.len - 1] == '\t' || s.ptr[s.len - 1] == '\r' ||
			 s.ptr[s.len - 1] == '\n'))
		s.len--;
	return s;
}

/*! \brief Takes a decimal number of at most `max`.  False, and nothing taken, when there is no digit or it is
 *  larger. */
static inline bool esp_cursor_number(esp_cursor *c, uint64_t max, uint64_t *ret_value)
{
	const char *from = c->p;
	uint64_t v = 0;

	while (esp_ascii_isdigit(esp_cursor_peek(c))) {
		uint64_t d = (uint64_t)(*c->p - '0');

		if (d > max || v > (max - d) / 10) {
			c->p = from;
			return false;
		}
		v = v * 10 + d;
		c->p++;
	}
	if (c->p == from)
		return false;
	*ret_value = v;
	return true;
}

/*! \brief The whole of `s` as a decimal number of at most `max`. */
static inline bool esp_str_number(esp_str s, uint64_t max, uint64_t *ret_value)
{
	esp_cursor c = esp_cursor_of(s);

	return esp_cursor_number(&c, max, ret_value) && c.p == c.end;
}

#ifdef __cplusplus
}
#endif
#endif
