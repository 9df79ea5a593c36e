/* observe_metrics - the registry of metrics for Prometheus, as a route of esp.http/1.
 *
 * The text is the core's own (esp-cli metrics prints the same); it is written on a lane, because thousands of series
 * take milliseconds, and sent from there in pieces by the HTTP server.
 */
#include <esp/http.h>
#include <esp/metric.h>

#include "modules/common/why.h"

#include <stdio.h>
#include <stdlib.h>

#define TYPE      "text/plain; version=0.0.4; charset=utf-8"
#define TEXT_MAX  ((size_t)64 << 20)
#define TEXT_STEP ((size_t)64 << 10)

struct metrics {
	esp_core core;
	esp_module *self;
	const esp_metric_api *metric;
	esp_lane *lane;
	esp_http_route route;
};

/* Built by the lane; malloc, because an arena belongs to a worker. */
struct text { const esp_metric_api *metric; char *data; size_t len, cap; int failed; };

static void on_piece(void *arg, esp_str piece)
{
	struct text *t = arg;

	if (t->cap - t->len < piece.len) {
		size_t cap = t->cap ? t->cap * 2 : TEXT_STEP;
		char *grown = cap > TEXT_MAX || cap - t->len < piece.len ? NULL : realloc(t->data, cap);

		if (!grown) {
			t->failed = 1;
			return;
		}
		t->data = grown;
		t->cap = cap;
	}
	memcpy(t->data + t->len, piece.ptr, piece.len);
	t->len += piece.len;
}

/* [lane] */
static int32_t render(void *arg)
{
	struct text *t = arg;

	t->metric->render(on_piece, t);
	return t->failed ? ESP_ENOMEM : ESP_OK;
}

static esp_status on_get(esp_module *self, esp_http_request *r)
{
	const struct metrics *m = self->state;
	struct text t = { .metric = m->metric };
	int32_t result = ESP_OK;
	esp_status st = m->core.pool->run(self, m->lane, render, &t, &result);

	if (st == ESP_OK)
		st = result;
	if (st == ESP_OK)
		st = r->http->reply(r, 200, TYPE, (esp_str){ t.data, t.len });
	free(t.data);
	return st;
}

static esp_status on_check(esp_module *self, const esp_cfg *cfg, esp_err *err)
{
	const esp_config_api *c = (const esp_config_api *)self->host->core("esp.config/1", 0);
	esp_str path = c->string(cfg, "path");

	if (path.len && path.ptr[0] == '/' && !strpbrk(path.ptr, "{}%?#\"\\ "))
		return ESP_OK;
	c->error(
		cfg, "path", err, "path is that of a request: it begins with / and has none of { } %% ? # \" \\ and blanks");
	return ESP_ECONFIG;
}

static esp_status on_init(esp_module *self, const esp_cfg *cfg, esp_err *err)
{
	struct metrics *m = esp_alloc(self->host->arena(self), sizeof *m);
	esp_status st;

	if (!m)
		return ESP_ENOMEM;
	esp_core_init(&m->core, self);
	m->self = self;
	m->metric = self->host->core("esp.metric/1", 0);
	m->lane = m->core.pool->lane("misc");
	m->route = (esp_http_route){ .size = sizeof m->route, .method = "GET", .path = m->core.cfg->string(cfg, "path").ptr,
		.access = m->core.cfg->choice(cfg, "access") == 1 ? ESP_HTTP_OPEN : ESP_HTTP_ADMIN, .timeout = 10 * ESP_SEC,
		.help = "Every metric in the text format of Prometheus", .handle = on_get };
	self->state = m;
	st = self->host->contribute(self, ESP_HTTP_ROUTE, &m->route);
	if (st != ESP_OK)
		snprintf(err->text, sizeof err->text, "cannot register: %s", why(st));
	return st;
}

static const esp_cfg_item config[] = {
	{ .name = "path", .type = ESP_CFG_STRING, .def_str = "/metrics", .min = 1, .max = 200,
		.help = "Where Prometheus finds the metrics, on every listener of protocol_http." },
	{ .name = "access", .type = ESP_CFG_ENUM, .def_str = "admin", .choices = "admin|open",
		.help = "Who may read them: the administrator (admin_token, admin_loopback of protocol_http), or everybody "
			"who reaches the listener." },
	{ .name = NULL }
};
static const esp_need needs[] = { { .id = "esp.http/1" }, { .id = NULL } };
static const esp_module_ops ops = { .size = sizeof ops, .check = on_check, .init = on_init };
ESP_MODULE(.name = "observe_metrics", .version = "1.0", .summary = "Metrics for Prometheus over HTTP", .license = "MIT",
           .needs = needs, .config = config, .ops = &ops);
