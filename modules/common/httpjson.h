/* httpjson - POST JSON, read JSON: what an HTTP interface of this century wants.  Needs json-c. */
#ifndef ESP_COMMON_HTTPJSON_H
#define ESP_COMMON_HTTPJSON_H

#include <esp/httpclient.h>

struct json_object;

#define HTTPJSON_DEPTH 32

/*! \brief [fiber] ESP_SUSPENDS.  Send rq->body as JSON (no body: a GET) and read the answer; `rq` as for request(), its
 *  method, and the fields Content-Type and Accept, are filled in here: at most 14 fields of its own.  ESP_OK: the
 * answer is 2xx and *ret its value: json_object_put() it.  ESP_EUNAVAIL: 429 or 5xx, try later.  ESP_EACCES: 401 or
 * 403. ESP_EPROTO: another status, or no JSON.  Otherwise what request() says.  got->status tells them apart. */
ESP_CHECKED esp_status httpjson_post(const esp_httpc *http, esp_arena *arena, const esp_httpc_request *rq,
	esp_httpc_response *got, struct json_object **ret, esp_err *err);
/*! \brief [fiber] ESP_SUSPENDS.  The same for what is sent as it is: method, fields, and a body that need not be
 *  JSON. */
ESP_CHECKED esp_status httpjson_ask(const esp_httpc *http, esp_arena *arena, const esp_httpc_request *rq,
	esp_httpc_response *got, struct json_object **ret, esp_err *err);
/*! \brief [any] One JSON value of at most HTTPJSON_DEPTH levels, in valid UTF-8, and nothing behind it; NULL: it is
 *  none.  json-c takes NaN and Infinity for numbers: look at what you read. */
struct json_object *httpjson_read(esp_str text);

#endif
