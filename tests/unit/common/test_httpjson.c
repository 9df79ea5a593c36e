/* modules/common/httpjson: what is one JSON value and what is not; which answers are which status. */
#include "tests/support/test.h"

#include "modules/common/httpjson.h"

#include <json-c/json.h>
#include <stdio.h>

Test(httpjson, one_value_and_nothing_behind_it)
{
	static const char *const right[] = { "{}", "[1,2]", " {\"a\": [true]} \r\n", "\"x\"", "12", "-1.5e3", "true",
		"{\"a\":\"\xc3\xa4\"}", "\"\\u00e4\"" };
	static const char *const wrong[] = { "", " ", "{", "[1", "{\"a\":1", "{} {}", "{}x", "12x", "'x'", "{a:1}", "[1,]",
		"nul", "\"x", "\"\xff\"", "{\"a\":\"\xc3\"}", "<html>", "//x\n1" };
	static char deep[200];

	for (size_t i = 0; i < sizeof right / sizeof right[0]; i++) {
		struct json_object *v = httpjson_read((esp_str){ right[i], strlen(right[i]) });
		cr_assert_not_null(v, "%s", right[i]);
		json_object_put(v);
	}
	for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
		cr_assert_null(httpjson_read((esp_str){ wrong[i], strlen(wrong[i]) }), "%s", wrong[i]);
	cr_assert_null(httpjson_read((esp_str){ "{}\0", 3 }));
	memset(deep, '[', 100);
	memset(deep + 100, ']', 100);
	cr_assert_null(httpjson_read((esp_str){ deep, sizeof deep }), "deeper than allowed");
}

/* An esp.httpclient/1 that answers what it is told to. */
static struct { esp_status st; uint32_t status; const char *body; esp_httpc_request asked; char fields[200]; } fake;

static esp_status request(
	const esp_httpc *h, esp_arena *arena, const esp_httpc_request *rq, esp_httpc_response *ret, esp_err *err)
{
	(void)h;
	(void)arena;
	(void)err;
	fake.asked = *rq;
	fake.fields[0] = '\0';
	for (uint32_t i = 0; i < rq->nheaders; i++)
		snprintf(fake.fields + strlen(fake.fields), sizeof fake.fields - strlen(fake.fields), "%.*s=%.*s;",
			ESP_FMT(rq->header[i].name), ESP_FMT(rq->header[i].value));
	ret->status = fake.status;
	ret->body = (esp_str){ fake.body, strlen(fake.body) };
	ret->url = rq->url;
	return fake.st;
}

static esp_status ask(esp_status st, uint32_t status, const char *body, struct json_object **ret, esp_err *err)
{
	static const esp_httpc table = { .request = request };
	static const esp_httpc_header key = { ESP_STR_INIT("X-Key"), ESP_STR_INIT("k") };
	esp_httpc_request rq = { .size = sizeof rq, .url = ESP_STR("http://llm/v1"), .body = ESP_STR("{}"), .header = &key,
		.nheaders = 1, .header_size = sizeof key };
	esp_httpc_response got = { .size = sizeof got };

	fake.st = st;
	fake.status = status;
	fake.body = body;
	*ret = NULL;
	*err = (esp_err)ESP_ERR_INIT;
	return httpjson_post(&table, NULL, &rq, &got, ret, err);
}

Test(httpjson, an_answer_is_a_value_or_a_reason)
{
	static const struct { esp_status st; uint32_t status; const char *body; esp_status want; } list[] = {
		{ ESP_OK, 200, "{}", ESP_OK }, { ESP_OK, 201, "[]", ESP_OK }, { ESP_OK, 200, "<html>", ESP_EPROTO },
		{ ESP_OK, 204, "", ESP_EPROTO }, { ESP_OK, 302, "{}", ESP_EPROTO }, { ESP_OK, 400, "{}", ESP_EPROTO },
		{ ESP_OK, 401, "{}", ESP_EACCES }, { ESP_OK, 403, "{}", ESP_EACCES }, { ESP_OK, 429, "{}", ESP_EUNAVAIL },
		{ ESP_OK, 500, "{}", ESP_EUNAVAIL }, { ESP_ETIMEDOUT, 0, "", ESP_ETIMEDOUT }, { ESP_ETLS, 0, "", ESP_ETLS },
	};
	struct json_object *v;
	esp_err err;

	for (size_t i = 0; i < sizeof list / sizeof list[0]; i++) {
		cr_assert_eq(ask(list[i].st, list[i].status, list[i].body, &v, &err), list[i].want, "%zu", i);
		cr_assert_eq(v != NULL, list[i].want == ESP_OK, "%zu", i);
		cr_assert(list[i].want == ESP_OK || list[i].st != ESP_OK || strstr(err.text, "http://llm/v1"), "%s", err.text);
		json_object_put(v);
	}
	cr_assert(esp_str_eq(fake.asked.method, ESP_STR("POST")));
	cr_assert_str_eq(fake.fields, "Content-Type=application/json;Accept=application/json;X-Key=k;");
}
