/* httpjson - POST JSON, read JSON. */
#include "modules/common/httpjson.h"

#include <json-c/json.h>
#include <stdio.h>

#define FIELDS 16

struct json_object *httpjson_read(esp_str text)
{
	struct json_tokener *t = json_tokener_new_ex(HTTPJSON_DEPTH);
	struct json_object *value = NULL;
	size_t end = 0;

	if (!t)
		return NULL;
	json_tokener_set_flags(t, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
	if (text.len && text.len < INT32_MAX) {
		value = json_tokener_parse_ex(t, text.ptr, (int)text.len);
		end = json_tokener_get_parse_end(t);
		if (!value && json_tokener_get_error(t) == json_tokener_continue) {   /* a number could go on */
			value = json_tokener_parse_ex(t, "", 1);
			end = text.len;
		}
	}
	while (value && end < text.len && memchr(" \t\r\n", text.ptr[end], 4))
		end++;
	if (value && end < text.len) {
		json_object_put(value);
		value = NULL;
	}
	json_tokener_free(t);
	return value;
}

static esp_status of_status(const esp_httpc_response *got, esp_err *err)
{
	if (got->status >= 200 && got->status < 300)
		return ESP_OK;
	if (err)
		(void)snprintf(err->text, sizeof err->text, "%.*s answers %u: %.*s",
			got->url.len > 120 ? 120 : ESP_FMT(got->url), got->status, got->body.len > 120 ? 120 : ESP_FMT(got->body));
	if (got->status == 401 || got->status == 403)
		return ESP_EACCES;
	return got->status == 429 || got->status >= 500 ? ESP_EUNAVAIL : ESP_EPROTO;
}

esp_status httpjson_ask(const esp_httpc *http, esp_arena *arena, const esp_httpc_request *rq, esp_httpc_response *got,
	struct json_object **ret, esp_err *err)
{
	esp_status st = http->request(http, arena, rq, got, err);

	if (st == ESP_OK)
		st = of_status(got, err);
	if (st != ESP_OK)
		return st;
	*ret = httpjson_read(got->body);
	if (!*ret && err)
		(void)snprintf(err->text, sizeof err->text, "%.*s answers %u, and no JSON", got->url.len > 120 ? 120
			: ESP_FMT(got->url), got->status);
	return *ret ? ESP_OK : ESP_EPROTO;
}

esp_status httpjson_post(const esp_httpc *http, esp_arena *arena, const esp_httpc_request *rq, esp_httpc_response *got,
	struct json_object **ret, esp_err *err)
{
	esp_httpc_request with = *rq;
	esp_httpc_header fields[FIELDS] = { { ESP_STR_INIT("Content-Type"), ESP_STR_INIT("application/json") },
		{ ESP_STR_INIT("Accept"), ESP_STR_INIT("application/json") } };

	if (rq->nheaders > FIELDS - 2 || (rq->nheaders && rq->header_size < sizeof fields[0]))
		return ESP_EINVAL;
	for (uint32_t i = 0; i < rq->nheaders; i++)
		fields[2 + i] =
			*(const esp_httpc_header *)(const void *)((const char *)rq->header + (size_t)i * rq->header_size);
	with.header = fields;
	with.nheaders = rq->nheaders + 2;
	with.header_size = sizeof fields[0];
	with.method = rq->body.len || rq->read ? ESP_STR("POST") : ESP_STR("GET");
	return httpjson_ask(http, arena, &with, got, ret, err);
}
