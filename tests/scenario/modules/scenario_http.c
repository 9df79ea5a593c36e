/* scenario_http - routes for tests/scenario/http.py, and as many series as tests/scenario/metrics.py asks for. */
#include <esp/hook.h>
#include <esp/http.h>
#include <esp/metric.h>

#include <stdio.h>
#include <stdlib.h>

struct routes { esp_core core; const esp_metric_api *metric; const char *label; char *large; };

#define LARGE ((size_t)1 << 20)

static esp_status on_echo(esp_module *self, esp_http_request *r)
{
	const esp_http *h = r->http;
	esp_str q = { NULL, 0 }, agent = h->header(r, "X-Many"), name = h->param(r, "name");
	char text[1024];
	esp_status st = h->query(r, "q", &q);
	int n;

	(void)self;
	if (st != ESP_OK && st != ESP_ENOENT)
		return st;
	n = snprintf(text, sizeof text, "%.*s name=%.*s q=%.*s many=%.*s host=%.*s\n", ESP_FMT(r->method), ESP_FMT(name),
		ESP_FMT(q), ESP_FMT(agent), ESP_FMT(r->host));
	return h->reply(r, 200, "text/plain", (esp_str){ text, (size_t)n < sizeof text ? (size_t)n : sizeof text - 1 });
}

static esp_status on_body(esp_module *self, esp_http_request *r)
{
	esp_str body;
	esp_status st = r->http->body(r, &body);

	(void)self;
	return st != ESP_OK ? st : r->http->reply(r, 200, "application/octet-stream", body);
}

static esp_status on_pieces(esp_module *self, esp_http_request *r)
{
	uint64_t total = 0;
	char text[32];
	esp_str piece;
	esp_status st;

	(void)self;
	do {
		st = r->http->read(r, 4096, &piece);
		total += st == ESP_OK ? piece.len : 0;
	} while (st == ESP_OK && piece.len);
	if (st != ESP_OK)
		return st;
	return r->http->reply(
		r, 200, NULL, (esp_str){ text, (size_t)snprintf(text, sizeof text, "%llu\n", (unsigned long long)total) });
}

static esp_status on_ignore(esp_module *self, esp_http_request *r)
{
	(void)self;
	return r->http->reply(r, 200, "text/plain", ESP_STR("ignored\n"));
}

static long number(esp_http_request *r, const char *name, long otherwise)
{
	esp_str text;
	char room[24];

	if (r->http->query(r, name, &text) != ESP_OK || text.len >= sizeof room)
		return otherwise;
	memcpy(room, text.ptr, text.len);
	room[text.len] = '\0';
	return strtol(room, NULL, 10);
}

static esp_status on_stream(esp_module *self, esp_http_request *r)
{
	const struct routes *m = self->state;
	long n = number(r, "n", 3), size = number(r, "size", 10), pause = number(r, "pause", 0);
	esp_status st = r->http->begin(r, 200, number(r, "text", 1) ? "text/plain" : "application/octet-stream");

	for (long i = 0; st == ESP_OK && i < n; i++) {
		st = r->http->write(r, (esp_str){ m->large, (size_t)size < LARGE ? (size_t)size : LARGE });
		if (st == ESP_OK && pause) {
			st = r->http->flush(r);
			if (st == ESP_OK)
				st = m->core.fiber->sleep_until(m->core.loop->clock() + pause * ESP_MSEC);
		}
	}
	return st != ESP_OK ? st : number(r, "cut", 0) ? ESP_EIO : ESP_OK;
}

static esp_status on_etag(esp_module *self, esp_http_request *r)
{
	const struct routes *m = self->state;
	esp_status st = r->http->etag(r, (esp_str){ m->label, strlen(m->label) });

	if (st == ESP_EEXIST)
		return ESP_OK;
	if (st == ESP_OK)
		st = r->http->set(r, "Cache-Control", ESP_STR("max-age=5"));
	return st != ESP_OK ? st : r->http->reply(r, 200, "text/plain", (esp_str){ m->large, 5000 });
}

static esp_status on_set(esp_module *self, esp_http_request *r)
{
	static const char *const refused[] = { "Content-Length", "connection", "Bad Name", "Date" };

	(void)self;
	for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++)
		if (r->http->set(r, refused[i], ESP_STR("x")) != ESP_EINVAL)
			return ESP_EIO;
	if (r->http->set(r, "X-A", ESP_STR("a\r\nX-B: b")) != ESP_EINVAL || r->http->set(r, "X-C", ESP_STR("c")) != ESP_OK)
		return ESP_EIO;
	return r->http->reply(r, 201, NULL, ESP_STR(""));
}

static esp_status on_who(esp_module *self, esp_http_request *r)
{
	(void)self;
	return r->http->reply(r, 200, "text/plain", r->who ? r->who->login : ESP_STR("nobody"));
}

static esp_status on_slow(esp_module *self, esp_http_request *r)
{
	const struct routes *m = self->state;
	esp_status st = m->core.fiber->sleep_until(m->core.loop->clock() + number(r, "ms", 100) * ESP_MSEC);

	return st != ESP_OK ? st : r->http->reply(r, 200, "text/plain", (esp_str){ m->label, strlen(m->label) });
}

static esp_status on_status(esp_module *self, esp_http_request *r)
{
	(void)self;
	return (esp_status)number(r, "st", 0);
}

static esp_status on_large(esp_module *self, esp_http_request *r)
{
	const struct routes *m = self->state;

	return r->http->reply(r, 200, "text/plain", (esp_str){ m->large, LARGE });
}

static esp_status on_rest(esp_module *self, esp_http_request *r)
{
	(void)self;
	return r->http->reply(r, 200, "text/plain", r->http->param(r, "rest"));
}

static esp_status on_crash(esp_module *self, esp_http_request *r)
{
	(void)self;
	(void)r;
	abort();
}

#define ROUTE(m, p, a, f, ...) \
	{ .size = sizeof(esp_http_route), .method = m, .path = p, .access = a, .handle = f, .help = "test", __VA_ARGS__ }
static const esp_http_route routes[] = {
	ROUTE("GET", "/t/echo/{name}", ESP_HTTP_OPEN, on_echo, .timeout = 0),
	ROUTE("GET", "/t/echo/literal", ESP_HTTP_OPEN, on_ignore, .timeout = 0),
	ROUTE("POST", "/t/body", ESP_HTTP_OPEN, on_body, .max_body = 1 << 20),
	ROUTE("PUT", "/t/body", ESP_HTTP_OPEN, on_pieces, .max_body = 1 << 20),
	ROUTE("POST", "/t/ignore", ESP_HTTP_OPEN, on_ignore, .max_body = 8 << 20),
	ROUTE("GET", "/t/stream", ESP_HTTP_OPEN, on_stream, .timeout = 0),
	ROUTE("GET", "/t/etag", ESP_HTTP_OPEN, on_etag, .timeout = 0),
	ROUTE("GET", "/t/set", ESP_HTTP_OPEN, on_set, .timeout = 0),
	ROUTE("GET", "/t/admin", ESP_HTTP_ADMIN, on_who, .timeout = 0),
	ROUTE("GET", "/t/who", ESP_HTTP_ACCOUNT, on_who, .timeout = 0),
	ROUTE("GET", "/t/nobody", ESP_HTTP_NOBODY, on_who, .timeout = 0),
	ROUTE("GET", "/t/slow", ESP_HTTP_OPEN, on_slow, .timeout = 2 * ESP_SEC),
	ROUTE("POST", "/t/slow", ESP_HTTP_OPEN, on_body, .timeout = ESP_SEC, .max_body = 1 << 20),
	ROUTE("GET", "/t/status", ESP_HTTP_OPEN, on_status, .timeout = 0),
	ROUTE("DELETE", "/t/status", ESP_HTTP_OPEN, on_ignore, .timeout = 0),
	ROUTE("GET", "/t/large", ESP_HTTP_OPEN, on_large, .timeout = 0),
	ROUTE("GET", "/t/files/{rest*}", ESP_HTTP_OPEN, on_rest, .timeout = 0),
	ROUTE("GET", "/t/crash", ESP_HTTP_OPEN, on_crash, .timeout = 0),
	ROUTE("GET", "/t/bad/{", ESP_HTTP_OPEN, on_crash, .timeout = 0),       /* no pattern: never served */
};

static esp_verdict on_request(esp_module *self, const esp_command_args *args, esp_answer *answer)
{
	(void)self;
	(void)answer;
	if (esp_str_eq(args->command, ESP_STR("GET /t/echo/reject")))
		return ESP_VERDICT_REJECT;
	if (esp_str_eq(args->user, ESP_STR("bob@example.test")))
		return ESP_VERDICT_REJECT;
	return esp_str_eq(args->command, ESP_STR("GET /t/echo/defer")) ? ESP_VERDICT_DEFER : ESP_VERDICT_CONTINUE;
}

/* Series like those of a large server: a few labels each. */
static esp_status declare(esp_module *self, const struct routes *m, int64_t n)
{
	esp_status st = ESP_OK;
	char labels[120];

	for (int64_t i = 0; st == ESP_OK && i < n; i++) {
		esp_metric one;

		(void)snprintf(
			labels, sizeof labels, "module=\"scenario\",point=\"number-%lld\",result=\"accepted\"", (long long)i);
		st = m->metric->declare(self, ESP_COUNTER, "esp_scenario_total", labels, "Series of a test", NULL, 0, &one);
		if (st == ESP_OK)
			m->metric->add(one, i);
	}
	return st;
}

static esp_status on_init(esp_module *self, const esp_cfg *cfg, esp_err *err)
{
	static const esp_hook request = { .size = sizeof request, .point = ESP_AT_HTTP_REQUEST, .priority = 100,
		.run = { .command = on_request } };
	struct routes *m = esp_alloc(self->host->arena(self), sizeof *m);
	const esp_hook_api *hooks;
	esp_status st;

	esp_core_init(&m->core, self);
	hooks = self->host->core("esp.hook/1", 0);
	m->metric = self->host->core("esp.metric/1", 0);
	m->label = m->core.cfg->string(cfg, "label").ptr;
	m->large = esp_alloc(self->host->arena(self), LARGE);
	for (size_t i = 0; i < LARGE; i++)
		m->large[i] = (char)('a' + i * i % 23);
	self->state = m;
	st = declare(self, m, m->core.cfg->integer(cfg, "series"));
	if (st == ESP_OK)
		st = hooks->add(self, &request);
	for (size_t i = 0; st == ESP_OK && i < sizeof routes / sizeof routes[0]; i++)
		st = self->host->contribute(self, ESP_HTTP_ROUTE, &routes[i]);
	(void)err;
	return st;
}

static const esp_cfg_item config[] = { { .name = "label",
										   .type = ESP_CFG_STRING,
										   .def_str = "one",
										   .help = "What /t/slow answers, and the tag of /t/etag." },
	{ .name = "series", .type = ESP_CFG_INT, .def_int = 0, .min = 0, .max = 100000, .help = "Series to declare." },
	{ .name = NULL } };
static const esp_need needs[] = { { .id = "esp.http/1" }, { .id = NULL } };
static const esp_module_ops ops = { .size = sizeof ops, .init = on_init };
ESP_MODULE(.name = "scenario_http", .version = "1", .summary = "routes of tests", .license = "MIT", .needs = needs,
           .config = config, .ops = &ops);
