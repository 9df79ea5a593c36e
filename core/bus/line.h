/* core/bus/line.h - writing one bounded line of text: escaping belongs to the sink, the caller cannot forget it.
 *
 * A line is a cursor over memory of the caller.  Nothing is appended that does not fit: `cut` is set instead and
 * stays set, and what was there before remains valid.  Any thread; owns nothing; cannot fail otherwise.
 */
#ifndef CORE_BUS_LINE_H
#define CORE_BUS_LINE_H

#include <esp/abi.h>
#include <esp/log.h>
#include <stdbool.h>

struct line {
	char *buf;
	size_t len, cap;
	bool cut;        /* something did not fit */
};

enum { LINE_VALUE_MAX = 1024 };   /* bytes of one string value that are shown; the rest becomes "..." */

static inline struct line line_on(char *buf, size_t cap)
{
	return (struct line){ .buf = buf, .cap = cap };
}

static inline esp_str line_str(const struct line *l)
{
	return (esp_str){ l->buf, l->len };
}

/*! \brief Append all of it or, when it does not fit, nothing. */
void line_put(struct line *l, const char *p, size_t n);
void line_puts(struct line *l, const char *s);
void line_int(struct line *l, int64_t v);
/*! \brief Append a double the way Prometheus and JSON both read it; never "nan" or "inf" (0 instead). */
void line_double(struct line *l, double v);
/*! \brief Nanoseconds as decimal seconds: 0.001250. */
void line_nsec(struct line *l, esp_nsec v);
/*! \brief An id as a UUID: 8-4-4-4-12 hexadecimal digits. */
void line_id(struct line *l, const esp_id *id);
/*! \brief RFC 3339 in UTC with milliseconds: 2026-11-22T08:15:26.123Z. */
void line_time(struct line *l, esp_time wall, int64_t nsec);
/*! \brief A JSON string with its quotes (RFC 8259): every byte value gives valid JSON, what is not UTF-8 becomes
 *  U+FFFD.  Longer than LINE_VALUE_MAX: cut at a character and "..." added. */
void line_json(struct line *l, esp_str s);
/*! \brief A logfmt value: bare when it is one plain word, else quoted with \n, \t, \" and \xHH. */
void line_logfmt(struct line *l, esp_str s);
/*! \brief A key: anything but letters, digits, '_', '.', '-' and '/' becomes '_'. */
void line_key(struct line *l, const char *key);
/*! \brief One field's value as JSON or, with `json` false, as a logfmt value.  Unknown types give null. */
void line_field(struct line *l, const esp_field *f, bool json);

/*! \brief Length in bytes of the UTF-8 character at p (1..4), or 0 when it is not one (RFC 3629: no surrogates, no
 *  overlong forms, at most U+10FFFF). */
size_t line_utf8(const unsigned char *p, size_t n);

/*! \brief The i-th field of an array whose elements may be larger or smaller than ours. */
static inline esp_field line_field_at(const esp_field *fields, uint32_t i, uint32_t field_size)
{
	esp_field f = { 0 };

	__builtin_memcpy(&f, (const char *)fields + (size_t)i * field_size,
	                 field_size < sizeof f ? field_size : sizeof f);
	return f;
}

#endif
