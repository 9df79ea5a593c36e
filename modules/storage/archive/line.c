/* line - reading a row that tables.c wrote.  A file of its own: json-c and the writer of modules/common share names. */
#include "archive.h"

#include <json-c/json.h>

#define LINE_MAX (64u << 20)

static esp_status parse_value(esp_arena *a, const struct column *c, struct json_object *v, esp_sql_value *ret)
{
	esp_str s;

	*ret = ESP_SQL_NONE;
	if (!v)
		return ESP_OK;
	if (c->type == COLUMN_INT) {
		*ret = ESP_SQL_I(json_object_get_int64(v));
		return json_object_is_type(v, json_type_int) ? ESP_OK : ESP_EPROTO;
	}
	if (!json_object_is_type(v, json_type_string))
		return ESP_EPROTO;
	s = (esp_str){ json_object_get_string(v), (size_t)json_object_get_string_len(v) };
	if (c->type == COLUMN_TEXT) {
		*ret = ESP_SQL_T(esp_strdup_in(a, s));
	} else {
		char *bytes = esp_alloc(a, s.len / 2 + 1);
		if (!bytes)
			return ESP_ENOMEM;
		if (hex_parse(s.ptr, s.len, bytes, s.len / 2) != ESP_OK)
			return ESP_EPROTO;
		*ret = ESP_SQL_B(((esp_str){ bytes, s.len / 2 }));
	}
	return ret->s.ptr ? ESP_OK : ESP_ENOMEM;
}

esp_status row_parse(esp_arena *a, const struct table *t, esp_str line, esp_sql_value *ret)
{
	struct json_tokener *tok = json_tokener_new_ex(4);
	struct json_object *o = NULL;
	esp_status st = tok ? ESP_OK : ESP_ENOMEM;

	if (st == ESP_OK && (line.len > LINE_MAX || !(o = json_tokener_parse_ex(tok, line.ptr, (int)line.len)) ||
	                     !json_object_is_type(o, json_type_object)))
		st = ESP_EPROTO;
	for (uint32_t i = 0; st == ESP_OK && i < t->ncolumns; i++) {
		struct json_object *v = NULL;
		json_object_object_get_ex(o, t->column[i].name, &v);
		st = parse_value(a, &t->column[i], v, &ret[i]);
	}
	json_object_put(o);
	if (tok)
		json_tokener_free(tok);
	return st;
}
