/* core/bus/line.c - bounded, escaped text (see line.h). */
#include "core/bus/line.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

void line_put(struct line *l, const char *p, size_t n)
{
	if (l->cut || n > l->cap - l->len) {
		l->cut = true;
		return;
	}
	if (n)
		memcpy(l->buf + l->len, p, n);
	l->len += n;
}

void line_puts(struct line *l, const char *s)
{
	if (s)
		line_put(l, s, strlen(s));
}

void line_int(struct line *l, int64_t v)
{
	char digits[24];
	char *p = digits + sizeof digits;
	uint64_t u = v < 0 ? 0 - (uint64_t)v : (uint64_t)v;

	do
		*--p = (char)('0' + u % 10);
	while (u /= 10);
	if (v < 0)
		*--p = '-';
	line_put(l, p, (size_t)(digits + sizeof digits - p));
}

void line_double(struct line *l, double v)
{
	char text[40];
	int n;

	if (!isfinite(v))
		v = 0;
	n = snprintf(text, sizeof text, "%.15g", v);
	if (n > 0 && strtod(text, NULL) != v)   /* the shortest form that reads back as the same number */
		n = snprintf(text, sizeof text, "%.17g", v);
	line_put(l, text, n > 0 ? (size_t)n : 0);
}

void line_nsec(struct line *l, esp_nsec v)
{
	char text[40];
	uint64_t u = v < 0 ? 0 - (uint64_t)v : (uint64_t)v;
	int n = snprintf(text, sizeof text, "%s%llu.%06llu", v < 0 ? "-" : "", (unsigned long long)(u / 1000000000u),
	                 (unsigned long long)(u % 1000000000u / 1000u));

	line_put(l, text, n > 0 ? (size_t)n : 0);
}

void line_id(struct line *l, const esp_id *id)
{
	static const char hex[] = "0123456789abcdef";
	char text[36];
	size_t n = 0;

	for (size_t i = 0; i < sizeof id->b; i++) {
		if (i == 4 || i == 6 || i == 8 || i == 10)
			text[n++] = '-';
		text[n++] = hex[id->b[i] >> 4];
		text[n++] = hex[id->b[i] & 15];
	}
	line_put(l, text, n);
}

void line_time(struct line *l, esp_time wall, int64_t nsec)
{
	time_t t = (time_t)wall;
	struct tm tm;
	char text[48];
	int n = 0;

	if (gmtime_r(&t, &tm))
		n = snprintf(text, sizeof text, "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ", tm.tm_year + 1900, tm.tm_mon + 1,
		             tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, (int)(nsec / 1000000 % 1000));
	line_put(l, text, n > 0 && (size_t)n < sizeof text ? (size_t)n : 0);
}

size_t line_utf8(const unsigned char *p, size_t n)
{
	static const unsigned char low[3] = { 0x80, 0xa0, 0x90 }, high[3] = { 0xbf, 0x9f, 0x8f };
	size_t want;

	if (n == 0)
		return 0;
	if (p[0] < 0x80)
		return 1;
	want = p[0] >= 0xc2 && p[0] <= 0xdf ? 2 : p[0] >= 0xe0 && p[0] <= 0xef ? 3 : p[0] >= 0xf0 && p[0] <= 0xf4 ? 4 : 0;
	if (want == 0 || want > n)
		return 0;
	for (size_t i = 1; i < want; i++)
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	if ((p[0] == 0xe0 && p[1] < low[1]) || (p[0] == 0xed && p[1] > high[1]) ||
	    (p[0] == 0xf0 && p[1] < low[2]) || (p[0] == 0xf4 && p[1] > high[2]))
		return 0;
	return want;
}

/* How much of a value is shown: at most LINE_VALUE_MAX bytes, never half a character. */
static size_t value_shown(esp_str s)
{
	size_t n = s.len;

	if (n <= LINE_VALUE_MAX)
		return n;
	n = LINE_VALUE_MAX;
	for (int i = 0; i < 3 && n > 0 && ((unsigned char)s.ptr[n] & 0xc0) == 0x80; i++)
		n--;
	return n;
}

static void put_escaped(struct line *l, unsigned char c, bool json)
{
	static const char hex[] = "0123456789abcdef";
	char text[6] = { '\\', 'u', '0', '0', hex[c >> 4], hex[c & 15] };

	switch (c) {
	case '"':  line_put(l, "\\\"", 2); return;
	case '\\': line_put(l, "\\\\", 2); return;
	case '\n': line_put(l, "\\n", 2); return;
	case '\r': line_put(l, "\\r", 2); return;
	case '\t': line_put(l, "\\t", 2); return;
	default: break;
	}
	if (json)
		line_put(l, text, 6);
	else
		line_put(l, (char[4]){ '\\', 'x', text[4], text[5] }, 4);
}

static void put_quoted(struct line *l, esp_str s, bool json)
{
	const unsigned char *p = (const unsigned char *)s.ptr;
	size_t shown = value_shown(s);

	line_put(l, "\"", 1);
	for (size_t i = 0, n; i < shown; i += n) {
		n = line_utf8(p + i, shown - i);
		if (n == 0) {
			line_put(l, "\xef\xbf\xbd", 3);
			n = 1;
		} else if (n == 1 && (p[i] < 0x20 || p[i] == 0x7f || p[i] == '"' || p[i] == '\\')) {
			put_escaped(l, p[i], json);
		} else {
			line_put(l, s.ptr + i, n);
		}
	}
	if (shown < s.len)
		line_put(l, "...", 3);
	line_put(l, "\"", 1);
}

void line_json(struct line *l, esp_str s)
{
	put_quoted(l, s, true);
}

void line_logfmt(struct line *l, esp_str s)
{
	bool plain = s.len > 0 && s.len <= LINE_VALUE_MAX;

	for (size_t i = 0; plain && i < s.len; i++) {
		unsigned char c = (unsigned char)s.ptr[i];

		plain = c > 0x20 && c < 0x7f && c != '"' && c != '=' && c != '\\';
	}
	if (plain)
		line_put(l, s.ptr, s.len);
	else
		put_quoted(l, s, false);
}

void line_key(struct line *l, const char *key)
{
	size_t n = key ? strnlen(key, 64) : 0;

	if (n == 0)
		line_put(l, "_", 1);
	for (size_t i = 0; i < n; i++) {
		char c = key[i];
		bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
		             c == '.' || c == '-' || c == '/';

		line_put(l, plain ? &c : "_", 1);
	}
}

void line_field(struct line *l, const esp_field *f, bool json)
{
	switch (f->type) {
	case ESP_F_STR:
		if (json)
			line_json(l, f->s);
		else
			line_logfmt(l, f->s);
		break;
	case ESP_F_INT:
		line_int(l, f->i);
		break;
	case ESP_F_NSEC:
		line_nsec(l, f->i);
		break;
	case ESP_F_ID:
		line_puts(l, json ? "\"" : "");
		line_id(l, &f->id);
		line_puts(l, json ? "\"" : "");
		break;
	case ESP_F_BOOL:
		line_puts(l, f->i ? "true" : "false");
		break;
	default:
		line_puts(l, "null");
		break;
	}
}
