/* lesson - what a move of messages teaches, read from the event that tells of it. */
#include "lesson.h"

#include "modules/common/httpjson.h"

#include <json-c/json.h>

static int read_id(const struct json_object *json, const char *name, esp_id *ret)
{
	static const char hex[] = "0123456789abcdef";
	struct json_object *v = NULL;
	const char *s;

	if (!json_object_object_get_ex(json, name, &v) || !json_object_is_type(v, json_type_string) ||
		json_object_get_string_len(v) != 2 * (int)sizeof ret->b)
		return 0;
	s = json_object_get_string(v);
	for (size_t i = 0; i < sizeof ret->b; i++) {
		const char *high = memchr(hex, s[2 * i], 16), *low = memchr(hex, s[2 * i + 1], 16);
		if (!high || !low)
			return 0;
		ret->b[i] = (uint8_t)((high - hex) << 4 | (low - hex));
	}
	return 1;
}

static int64_t read_number(const struct json_object *json, const char *name)
{
	struct json_object *v = NULL;

	return json_object_object_get_ex(json, name, &v) && json_object_is_type(v, json_type_int) ? json_object_get_int64(v)
																							   : 0;
}

esp_status moved_read(esp_str body, struct moved *ret)
{
	struct json_object *json = httpjson_read(body);
	int64_t first, n;
	int ok = json && json_object_is_type(json, json_type_object) && read_id(json, "account", &ret->account) &&
		read_id(json, "mailbox", &ret->from) && read_id(json, "to", &ret->to);

	if (ok) {
		first = read_number(json, "to_uid");
		n = read_number(json, "messages");
		ok = first > 0 && n > 0 && first <= UINT32_MAX && n <= UINT32_MAX - first + 1;
		ret->first = ok ? (uint32_t)first : 0;
		ret->last = ok ? (uint32_t)(first + n - 1) : 0;
	}
	json_object_put(json);
	return ok ? ESP_OK : ESP_EPROTO;
}

enum lesson lesson_of(esp_str from_use, esp_str to_use)
{
	static const esp_str junk = ESP_STR_INIT("\\Junk"), trash = ESP_STR_INIT("\\Trash");
	int from_junk = esp_str_eq(from_use, junk), to_junk = esp_str_eq(to_use, junk);

	if (from_junk == to_junk || esp_str_eq(to_use, trash))
		return LESSON_NONE;
	return to_junk ? LESSON_SPAM : LESSON_HAM;
}
