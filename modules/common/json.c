/* json - writes one JSON value piece by piece.  Stateless but for struct json. */
#include "modules/common/json.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static void put(struct json *j, const char *p, size_t n)
{
	if (j->status == ESP_OK)
		j->status = j->sink(j->arg, (esp_str){ p, n });
}

static void put_text(struct json *j, const char *s) { put(j, s, strlen(s)); }

/* Length of the valid UTF-8 sequence at p (RFC 3629), 0 when it is none. */
static size_t utf8_len(const uint8_t *p, size_t n)
{
	size_t len = p[0] < 0x80 ? 1 : p[0] >= 0xc2 && p[0] < 0xe0 ? 2 : p[0] >= 0xe0 && p[0] < 0xf0 ? 3 :
	             p[0] >= 0xf0 && p[0] < 0xf5 ? 4 : 0;

	if (len == 0 || len > n)
		return 0;
	for (size_t i = 1; i < len; i++)
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	if (len == 3 && ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f)))
		return 0;
	if (len == 4 && ((p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f)))
		return 0;
	return len;
}

static void put_string(struct json *j, esp_str s)
{
	const uint8_t *p = (const uint8_t *)s.ptr;
	char esc[8];

	put(j, "\"", 1);
	for (size_t i = 0; i < s.len; ) {
		size_t run = i, len = 0;
		while (run < s.len && p[run] >= 0x20 && p[run] != '"' && p[run] != '\\' && p[run] != 0x7f &&
		       (len = utf8_len(p + run, s.len - run)) > 0)
			run += len;
		if (run > i)
			put(j, s.ptr + i, run - i);
		i = run;
		if (i == s.len)
			break;
		if (p[i] < 0x80) {
			snprintf(esc, sizeof esc, p[i] == '"' || p[i] == '\\' ? "\\%c" : "\\u%04x", p[i]);
			put_text(j, esc);
		} else {
			put_text(j, "\\ufffd");
		}
		i++;
	}
	put(j, "\"", 1);
}

static void lead_in(struct json *j, const char *key)
{
	if (j->filled[j->depth])
		put(j, ",", 1);
	j->filled[j->depth] = 1;
	if (key) {
		put_string(j, (esp_str){ key, strlen(key) });
		put(j, ":", 1);
	}
}

void json_begin_sink(struct json *j, esp_status (*sink)(void *arg, esp_str piece), void *arg)
{
	memset(j, 0, sizeof *j);
	j->sink = sink;
	j->arg = arg;
}

static esp_status to_call(void *arg, esp_str piece)
{
	esp_command_call *call = arg;

	return call->write(call, piece);
}

void json_begin(struct json *j, esp_command_call *call) { json_begin_sink(j, to_call, call); }

void json_open(struct json *j, const char *key, char bracket)
{
	lead_in(j, key);
	put(j, &bracket, 1);
	if (j->depth + 1 == JSON_DEPTH) {
		j->status = ESP_E2BIG;
		return;
	}
	j->filled[++j->depth] = 0;
}

void json_close(struct json *j, char bracket)
{
	if (j->depth > 0)
		j->depth--;
	put(j, &bracket, 1);
}

void json_str(struct json *j, const char *key, esp_str value)
{
	lead_in(j, key);
	put_string(j, value);
}

void json_cstr(struct json *j, const char *key, const char *value)
{
	json_str(j, key, (esp_str){ value, strlen(value) });
}

void json_int(struct json *j, const char *key, int64_t value)
{
	char text[24];

	lead_in(j, key);
	snprintf(text, sizeof text, "%" PRId64, value);
	put_text(j, text);
}

void json_time(struct json *j, const char *key, esp_time when)
{
	time_t t = (time_t)when;
	struct tm tm;
	char text[40];

	if (when && gmtime_r(&t, &tm) && strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &tm)) {
		json_cstr(j, key, text);
	} else {
		lead_in(j, key);
		put_text(j, "null");
	}
}

void json_field(struct json *j, const esp_field *f)
{
	static const char hex[] = "0123456789abcdef";
	char id[32];

	switch (f->type) {
	case ESP_F_STR: json_str(j, f->key, f->s); break;
	case ESP_F_BOOL: json_bool(j, f->key, f->i != 0); break;
	case ESP_F_ID:
		for (int i = 0; i < 16; i++) {
			id[2 * i] = hex[f->id.b[i] >> 4];
			id[2 * i + 1] = hex[f->id.b[i] & 15];
		}
		json_str(j, f->key, (esp_str){ id, 32 });
		break;
	default: json_int(j, f->key, f->i);
	}
}

void json_bool(struct json *j, const char *key, int value)
{
	lead_in(j, key);
	put_text(j, value ? "true" : "false");
}

esp_status json_end(struct json *j) { return j->status; }
