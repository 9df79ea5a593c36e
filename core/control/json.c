/* core/control/json.c - see json.h. */
#include "core/control/json.h"

#include <stdio.h>
#include <string.h>

#include "core/base/assert.h"
#include "core/bus/line.h"

static void put(struct json *j, const char *p, size_t n)
{
	if (!j->failed && buffer_append(j->out, p, n) != ESP_OK)
		j->failed = true;
}

/* Before a value (or a key): the comma that is due. */
static void separate(struct json *j)
{
	if (j->after_key) {
		j->after_key = false;
		return;
	}
	if (j->more & (1u << j->depth))
		put(j, ",", 1);
	j->more |= 1u << j->depth;
}

static void begin(struct json *j, const char *bracket)
{
	separate(j);
	put(j, bracket, 1);
	ESP_ASSERT(j->depth + 1 < JSON_DEPTH);
	j->depth++;
	j->more &= ~(1u << j->depth);
}

static void end(struct json *j, const char *bracket)
{
	ESP_ASSERT(j->depth > 0 && !j->after_key);
	j->depth--;
	put(j, bracket, 1);
}

void json_begin_object(struct json *j) { begin(j, "{"); }
void json_end_object(struct json *j) { end(j, "}"); }
void json_begin_array(struct json *j) { begin(j, "["); }
void json_end_array(struct json *j) { end(j, "]"); }

void json_key(struct json *j, const char *key)
{
	separate(j);
	put(j, "\"", 1);
	put(j, key, strlen(key));
	put(j, "\":", 2);
	j->after_key = true;
}

/* One character; returns how many bytes of it were used. */
static size_t put_char(struct json *j, const unsigned char *p, size_t n)
{
	static const char *const names[32] = { [8] = "\\b", [9] = "\\t", [10] = "\\n", [12] = "\\f", [13] = "\\r" };
	char text[8];
	size_t len;

	if (*p == '"' || *p == '\\') {
		text[0] = '\\';
		text[1] = (char)*p;
		put(j, text, 2);
		return 1;
	}
	if (*p < 0x20 || *p == 0x7f) {
		if (*p < 0x20 && names[*p])
			put(j, names[*p], 2);
		else
			put(j, text, (size_t)snprintf(text, sizeof(text), "\\u%04x", *p));
		return 1;
	}
	len = line_utf8(p, n);
	if (len)
		put(j, (const char *)p, len);
	else
		put(j, "\xef\xbf\xbd", 3);
	return len ? len : 1;
}

void json_str(struct json *j, esp_str s)
{
	const unsigned char *p = (const unsigned char *)s.ptr, *end_of = p + s.len;

	separate(j);
	put(j, "\"", 1);
	while (p < end_of) {
		const unsigned char *plain = p;

		while (p < end_of && *p >= 0x20 && *p < 0x7f && *p != '"' && *p != '\\')
			p++;
		put(j, (const char *)plain, (size_t)(p - plain));
		if (p < end_of)
			p += put_char(j, p, (size_t)(end_of - p));
	}
	put(j, "\"", 1);
}

void json_text(struct json *j, const char *z)
{
	if (z) {
		json_str(j, (esp_str){ z, strlen(z) });
		return;
	}
	separate(j);
	put(j, "null", 4);
}

void json_int(struct json *j, int64_t v)
{
	char text[24];

	separate(j);
	put(j, text, (size_t)snprintf(text, sizeof(text), "%lld", (long long)v));
}

void json_bool(struct json *j, bool v)
{
	separate(j);
	put(j, v ? "true" : "false", v ? 4 : 5);
}

void json_seconds(struct json *j, esp_nsec v)
{
	char text[40];
	int64_t ms = v / ESP_MSEC;

	separate(j);
	put(j, text,
		(size_t)snprintf(text, sizeof(text), "%s%lld.%03lld", ms < 0 ? "-" : "", (long long)(ms < 0 ? -ms : ms) / 1000,
			(long long)(ms < 0 ? -ms : ms) % 1000));
}

void json_put_text(struct json *j, const char *key, const char *z) { json_key(j, key); json_text(j, z); }
void json_put_str(struct json *j, const char *key, esp_str s) { json_key(j, key); json_str(j, s); }
void json_put_int(struct json *j, const char *key, int64_t v) { json_key(j, key); json_int(j, v); }
void json_put_bool(struct json *j, const char *key, bool v) { json_key(j, key); json_bool(j, v); }
void json_put_seconds(struct json *j, const char *key, esp_nsec v) { json_key(j, key); json_seconds(j, v); }
