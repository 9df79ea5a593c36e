/* protocol_http - "esp.http/1": an HTTP/1.1 server for the routes of other modules (roles http and https). */
#include "http.h"
#include "modules/common/why.h"

#include <stdio.h>

#define TOKEN_LEAST 20

extern const esp_http http_functions;

static void read_config(struct http *h, const esp_cfg *cfg)
{
	const esp_config_api *c = h->core.cfg;

	h->limits = (struct limits){ .head = (uint32_t)c->integer(cfg, "max_head"),
		.target = (uint32_t)c->integer(cfg, "max_target"), .fields = (uint32_t)c->integer(cfg, "max_fields") };
	h->intake.max = (uint64_t)c->integer(cfg, "memory");
	h->max_requests = (uint32_t)c->integer(cfg, "max_requests");
	h->idle = c->integer(cfg, "idle");
	h->head_time = c->integer(cfg, "head_time");
	h->request_time = c->integer(cfg, "request_time");
	h->token = c->string(cfg, "admin_token");
	h->admin_loopback = c->boolean(cfg, "admin_loopback") != 0;
	h->access_log = c->boolean(cfg, "access_log") != 0;
	h->compress = c->boolean(cfg, "gzip") != 0;
}

static esp_status on_check(esp_module *self, const esp_cfg *cfg, esp_err *err)
{
	const esp_config_api *c = (const esp_config_api *)self->host->core("esp.config/1", 0);
	esp_str token = c->string(cfg, "admin_token");

	if (c->is_set(cfg, "admin_token") && (token.len < TOKEN_LEAST || !scan_is_value(token) ||
		memchr(token.ptr, ' ', token.len))) {
		c->error(cfg, "admin_token", err,
			"admin_token is a secret of at least %d characters without blanks: openssl rand -hex 32 makes one",
			TOKEN_LEAST);
		return ESP_ECONFIG;
	}
	if (c->integer(cfg, "max_target") + 64 > c->integer(cfg, "max_head")) {
		c->error(cfg, "max_target", err, "max_target does not fit into max_head");
		return ESP_ECONFIG;
	}
	return ESP_OK;
}

static esp_status register_all(struct http *h)
{
	static const char *const roles[] = { "http", "https" };
	esp_status st = counts_declare(h);

	if (st == ESP_OK)
		st = h->core.host->bind(h->self, "esp.auth/1", &h->auth);
	if (st == ESP_OK)
		st = h->core.host->provide(h->self, "esp.http/1", &h->table.service);
	if (st == ESP_OK)
		st = h->core.host->contribute(h->self, ESP_AUTH_PROTOCOL, "http");
	for (size_t i = 0; st == ESP_OK && i < sizeof roles / sizeof roles[0]; i++)
		st = h->listen->serve(h->self, roles[i], &http_protocol);
	return st;
}

static esp_status on_init(esp_module *self, const esp_cfg *cfg, esp_err *err)
{
	struct http *h = esp_alloc(self->host->arena(self), sizeof *h);
	esp_status st;

	if (!h)
		return ESP_ENOMEM;
	esp_core_init(&h->core, self);
	h->table = http_functions;
	h->table.service.provider = self;
	h->self = self;
	h->listen = self->host->core("esp.listen/1", 0);
	h->hook = self->host->core("esp.hook/1", 0);
	h->metric = self->host->core("esp.metric/1", 0);
	h->health = self->host->core("esp.health/1", 0);
	h->control = h->core.loop->here();
	read_config(h, cfg);
	self->state = h;
	st = register_all(h);
	if (st != ESP_OK)
		snprintf(err->text, sizeof err->text, "cannot register: %s", why(st));
	return st;
}

static esp_status on_start(esp_module *self, esp_err *err)
{
	(void)err;
	counts_known(self->state);
	return ESP_OK;
}

static const esp_cfg_item config[] = {
	{ .name = "admin_token", .type = ESP_CFG_STRING, .flags = ESP_CFG_SECRET, .max = 512,
		.help = "What the administrator sends as Authorization: Bearer TOKEN; at least 20 characters. Unset: "
			"no token opens anything." },
	{ .name = "admin_loopback", .type = ESP_CFG_BOOL, .def_int = 0,
		.help = "Requests from this machine are the administrator's without a token: for machines where "
			"nobody else logs in. Not those that a proxy or a page in a browser sent." },
	{ .name = "access_log", .type = ESP_CFG_BOOL, .def_int = 1,
		.help = "A line in the log for every request but answered health checks; never what stands behind the "
			"? of a path." },
	{ .name = "gzip", .type = ESP_CFG_BOOL, .def_int = 1, .help = "Compress texts for clients that take it." },
	{ .name = "max_head", .type = ESP_CFG_SIZE, .def_int = 16 << 10, .min = 2 << 10, .max = 60 << 10,
		.help = "Largest head of a request, its first line included (414, 431)." },
	{ .name = "max_target", .type = ESP_CFG_SIZE, .def_int = 8000, .min = 256, .max = 32 << 10,
		.help = "Longest target, that is path and query (414)." },
	{ .name = "max_fields", .type = ESP_CFG_INT, .def_int = 64, .min = 8, .max = HEAD_FIELDS,
		.help = "Fields in a head (431)." },
	{ .name = "max_requests", .type = ESP_CFG_INT, .def_int = 10000, .min = 1, .max = 1000000000,
		.help = "Requests on a connection; the last answer says Connection: close." },
	{ .name = "idle", .type = ESP_CFG_TIME, .def_int = 75 * ESP_SEC, .min = ESP_SEC, .max = 3600 * ESP_SEC,
		.help = "How long a connection stays open between two requests, and how long a client may take "
			"nothing of an answer or send nothing of a body." },
	{ .name = "head_time", .type = ESP_CFG_TIME, .def_int = 15 * ESP_SEC, .min = ESP_SEC, .max = 600 * ESP_SEC,
		.help = "How long the head of a request may take from its first line on, however it trickles, and the "
			"first line after the connection was made (408)." },
	{ .name = "request_time", .type = ESP_CFG_TIME, .def_int = 60 * ESP_SEC, .min = ESP_SEC, .max = 3600 * ESP_SEC,
		.help = "How long a request may take from its head on, where its route says nothing else; a body has "
			"a second more for every 2 KiB (408, 503)." },
	{ .name = "memory", .type = ESP_CFG_SIZE, .def_int = 128 << 20, .min = 1 << 20, .max = INT64_C(1) << 40,
		.help = "What bodies that are still coming may hold in memory together (503). The first 128 KiB of "
			"each do not count." },
	{ .name = NULL } };
static const esp_need needs[] = { { .id = "esp.auth/1", .min_minor = 1, .optional = 1 }, { .id = NULL } };
static const esp_offer provides[] = { { .id = "esp.http/1", .minor = 0 }, { .id = NULL } };
static const esp_module_ops ops = { .size = sizeof ops, .check = on_check, .init = on_init, .start = on_start };
ESP_MODULE(.name = "protocol_http", .version = "1.0", .summary = "HTTP/1.1 server for routes of modules",
	.license = "MIT", .needs = needs, .provides = provides, .config = config, .ops = &ops);
