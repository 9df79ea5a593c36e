/* observe_lines - routes of HTTP: a greeting, and a count of the lines that are sent. */
#include <esp/http.h>
#include <stdio.h>

static esp_status on_greeting(esp_module *self, esp_http_request *r)
{
	esp_str name = r->http->param(r, "name");
	char text[120];
	int n = snprintf(text, sizeof text, "hello %.*s\n", ESP_FMT(name));

	(void)self;
	return n < (int)sizeof text ? r->http->reply(r, 200, "text/plain; charset=utf-8", (esp_str){ text, (size_t)n })
	                            : r->http->fail(r, 400, "a shorter name, please");
}

static esp_status on_lines(esp_module *self, esp_http_request *r)
{
	uint64_t lines = 0;
	esp_str piece;
	char text[24];
	esp_status st;

	(void)self;
	while ((st = r->http->read(r, 16384, &piece)) == ESP_OK && piece.len)         /* may suspend */
		for (size_t i = 0; i < piece.len; i++)
			lines += piece.ptr[i] == '\n';
	if (st != ESP_OK)
		return st;                                /* 400, 408, 413: the server knows what to say */
	return r->http->reply(r, 200, "text/plain",
		(esp_str){ text, (size_t)snprintf(text, sizeof text, "%llu\n", (unsigned long long)lines) });
}

static esp_status on_init(esp_module *self, const esp_cfg *cfg, esp_err *err)
{
	static const esp_http_route greeting = { .size = sizeof greeting, .method = "GET", .path = "/greeting/{name}",
		.access = ESP_HTTP_OPEN, .handle = on_greeting, .help = "Says hello" };
	static const esp_http_route lines = { .size = sizeof lines, .method = "POST", .path = "/lines",
		.access = ESP_HTTP_ADMIN, .max_body = 1 << 30, .handle = on_lines, .help = "Counts lines" };
	esp_status st = self->host->contribute(self, ESP_HTTP_ROUTE, &greeting);

	(void)cfg;
	(void)err;
	return st == ESP_OK ? self->host->contribute(self, ESP_HTTP_ROUTE, &lines) : st;
}

static const esp_need needs[] = { { .id = "esp.http/1" }, { .id = NULL } };
static const esp_module_ops ops = { .size = sizeof ops, .init = on_init };

ESP_MODULE(.name = "observe_lines", .version = "1.0", .summary = "Counts lines over HTTP", .license = "MIT",
	.needs = needs, .ops = &ops);
