/* command - `esp-cli http get`: what this server sees of another, through the same door as its modules. */
#include "http.h"

#include "modules/common/json.h"
#include "modules/common/words.h"

#include <string.h>

static const char usage[] = "http get URL [--untrusted] [--redirects=N] [--profile=NAME] [--unix=PATH]";

static esp_status read_words(const esp_command_call *call, esp_httpc_request *rq)
{
	for (uint32_t i = 0; i < call->argc; i++) {
		esp_str w = call->argv[i], n = words_value(w, "--redirects=");
		if (esp_str_eq(w, ESP_STR("--untrusted")))
			rq->flags |= ESP_HTTPC_UNTRUSTED;
		else if (n.len == 1 && n.ptr[0] >= '0' && n.ptr[0] <= '9')
			rq->redirects = (uint32_t)(n.ptr[0] - '0');
		else if (words_value(w, "--profile=").len)
			rq->profile = words_value(w, "--profile=");
		else if (words_value(w, "--unix=").len)
			rq->unix_path = words_value(w, "--unix=");
		else if (!rq->url.len && w.len && w.ptr[0] != '-')
			rq->url = w;
		else
			return ESP_EUSAGE;
	}
	return rq->url.len ? ESP_OK : ESP_EUSAGE;
}

static esp_status on_get(esp_module *self, esp_command_call *call)
{
	const struct http *h = self->state;
	esp_httpc_request rq = { .size = sizeof rq, .max_body = 1u << 20 };
	esp_httpc_response got = { .size = sizeof got };
	struct json j;
	esp_status st;

	if (read_words(call, &rq) != ESP_OK)
		return words_usage(call, usage);
	st = http_request(&h->table, call->arena, &rq, &got, call->err);
	if (st != ESP_OK)
		return st;
	json_begin(&j, call);
	json_open(&j, NULL, '{');
	json_str(&j, "url", got.url);
	json_int(&j, "status", got.status);
	json_str(&j, "address", got.address);
	json_int(&j, "milliseconds", got.took / ESP_MSEC);
	json_int(&j, "redirects", got.redirected);
	json_str(&j, "type", esp_httpc_field(&got, "Content-Type"));
	json_int(&j, "bytes", (int64_t)got.body.len);
	json_close(&j, '}');
	return json_end(&j);
}

const esp_command http_get_command = { .size = sizeof(esp_command),
	.words = "http get",
	.usage = "URL [--untrusted] [--redirects=N] [--profile=NAME] [--unix=PATH]",
	.help =
		"Ask an HTTP server as this server's modules do: is it reached, is its certificate taken, is the URL allowed?",
	.run = on_get };
