/* client_http - "esp.httpclient/1": requests to HTTP servers over libcurl's multi interface.
 *
 * Runs on the loops of the workers and of the control thread; no threads of its own.  Two generations may run side by
 * side, each with connections of its own.  curl_global_init() counts its calls: each generation's start and stop, on
 * the control thread, have one of each.
 */
#include "http.h"

#include "modules/common/why.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int parse_port(esp_str s, uint16_t *ret)
{
	uint32_t n = 0;

	for (size_t i = 0; i < s.len; i++) {
		if (s.ptr[i] < '0' || s.ptr[i] > '9' || n > 6553)
			return 0;
		n = n * 10 + (uint32_t)(s.ptr[i] - '0');
	}
	*ret = (uint16_t)n;
	return n > 0 && n <= 65535;
}

/* Into `ret`, or only looked at. */
static esp_status read_rules(const esp_config_api *c, const esp_cfg *cfg, struct rules *ret, esp_err *err)
{
	const esp_cfg *u = c->group(cfg, "untrusted");

	memset(ret, 0, sizeof *ret);
	ret->plain = c->boolean(u, "plain");
	ret->nports = c->count(u, "ports");
	ret->nallow = c->count(u, "allow");
	for (uint32_t i = 0; i < ret->nports; i++) {
		esp_str s = c->string_at(u, "ports", i);
		if (!parse_port(s, &ret->port[i])) {
			c->error(u, "ports", err, "\"%.*s\" is no port: write 1 to 65535, as in [ \"443\" ]", ESP_FMT(s));
			return ESP_ECONFIG;
		}
	}
	for (uint32_t i = 0; i < ret->nallow; i++) {
		esp_str s = c->string_at(u, "allow", i);
		if (!network_parse(&ret->allow[i], s)) {
			c->error(u, "allow", err, "\"%.*s\" is no network: write \"10.1.0.0/16\" or \"fd00:1::/64\"", ESP_FMT(s));
			return ESP_ECONFIG;
		}
	}
	if (!ret->nports) {
		ret->port[ret->nports++] = 443;
		ret->port[ret->nports++] = 8443;
	}
	return ESP_OK;
}

static const char *file(const esp_config_api *c, const esp_cfg *cfg, const char *key)
{
	esp_str s = c->string(cfg, key);

	return s.len ? s.ptr : NULL;
}

static esp_status on_check(esp_module *self, const esp_cfg *cfg, esp_err *err)
{
	const esp_config_api *c = self->host->core("esp.config/1", 0);
	struct rules rules;

	for (uint32_t i = 0; i < c->count(cfg, "profiles"); i++) {
		const esp_cfg *p = c->at(cfg, "profiles", i, NULL);
		if (file(c, p, "key") && !file(c, p, "certificate")) {
			c->error(p, "key", err, "a key without a certificate");
			return ESP_ECONFIG;
		}
	}
	return read_rules(c, cfg, &rules, err);
}

static esp_status read_settings(struct http *h, const esp_cfg *cfg, esp_err *err)
{
	const esp_config_api *c = h->core.cfg;
	struct profile *list;

	h->timeout = c->integer(cfg, "timeout");
	h->connect_timeout = c->integer(cfg, "connect_timeout");
	h->keep = c->integer(cfg, "keep");
	h->most = (uint32_t)c->integer(cfg, "requests");
	h->most_host = (uint32_t)c->integer(cfg, "requests_per_server");
	h->most_waiting = (uint32_t)c->integer(cfg, "waiting");
	h->most_memory = (size_t)c->integer(cfg, "memory");
	h->most_kept = (uint32_t)c->integer(cfg, "connections");
	h->most_untrusted = (uint32_t)c->integer(c->group(cfg, "untrusted"), "requests_per_server");
	h->ca = c->string(cfg, "ca").ptr;
	h->nprofiles = c->count(cfg, "profiles");
	list = esp_alloc_array(h->core.host->arena(h->self), h->nprofiles + 1, sizeof *list);
	if (!list)
		return ESP_ENOMEM;
	for (uint32_t i = 0; i < h->nprofiles; i++) {
		const esp_cfg *p = c->at(cfg, "profiles", i, &list[i].name);
		list[i].ca = file(c, p, "ca");
		list[i].certificate = file(c, p, "certificate");
		list[i].key = file(c, p, "key");
		list[i].verify = c->boolean(p, "verify");
	}
	h->profile = list;
	return read_rules(c, cfg, &h->rules, err);
}

static esp_status on_init(esp_module *self, const esp_cfg *cfg, esp_err *err)
{
	esp_arena *arena = self->host->arena(self);
	struct http *h = esp_alloc(arena, sizeof *h);
	esp_status st;

	if (!h)
		return ESP_ENOMEM;
	esp_core_init(&h->core, self);
	h->self = self;
	h->metric = self->host->core("esp.metric/1", 0);
	h->trust_api = self->host->core("esp.trust/1", 0);
	if (!h->trust_api) {
		say(err, "this server has no esp.trust/1: it is older than client_http");
		return ESP_EUNAVAIL;
	}
	h->nhubs = h->core.loop->workers() + 1;
	h->control = h->core.loop->here();
	h->hub = esp_alloc_array(arena, h->nhubs, sizeof *h->hub);
	if (!h->hub)
		return ESP_ENOMEM;
	for (uint32_t i = 0; i < h->nhubs; i++)
		h->hub[i].http = h;
	h->table = (esp_httpc){ .service = { .size = sizeof(esp_httpc), .minor = 0, .provider = self },
		.request = http_request };
	self->state = h;
	st = read_settings(h, cfg, err);
	if (st == ESP_ECONFIG)
		return st;
	if (st == ESP_OK)
		st = self->host->bind(self, "esp.dns/1", &h->dns);
	if (st == ESP_OK)
		st = report_declare(h);
	if (st == ESP_OK)
		st = self->host->contribute(self, "esp.command/1", &http_get_command);
	if (st == ESP_OK)
		st = self->host->provide(self, "esp.httpclient/1", &h->table.service);
	if (st != ESP_OK)
		say(err, "cannot register: %s", why(st));
	return st;
}

static esp_status readable(const char *path, const char *what, esp_err *err)
{
	if (!path || access(path, R_OK) == 0)
		return ESP_OK;
	say(err, "%s %s: %s", what, path, why(errno == EACCES ? ESP_EACCES : errno == ENOENT ? ESP_ENOENT : ESP_EIO));
	return ESP_ECONFIG;
}

struct load { struct http *h; esp_err *err; };

static int32_t on_load(void *arg)
{
	const struct load *l = arg;

	return l->h->trust_api->open(l->h->ca, &l->h->trust, l->err);
}

/* Once, and not by curl for every connection: that takes tens of milliseconds, on the loop. */
static esp_status load_trust(struct http *h, esp_err *err)
{
	const curl_version_info_data *v = curl_version_info(CURLVERSION_NOW);
	struct load l = { h, err };
	int32_t loaded = ESP_OK;
	esp_status st;

	if (!(v->features & CURL_VERSION_SSL) || !v->ssl_version) {
		say(err, "this libcurl has no TLS: install libcurl3-gnutls");
		return ESP_EUNAVAIL;
	}
	if (strncmp(v->ssl_version, "GnuTLS", 6) != 0)
		return ESP_OK;
	st = h->core.pool->run(h->self, h->core.pool->lane("misc"), on_load, &l, &loaded);
	return st == ESP_OK ? loaded : st;
}

static esp_status on_start(esp_module *self, esp_err *err)
{
	struct http *h = self->state;
	esp_status st = readable(h->ca, "ca", err);

	for (uint32_t i = 0; st == ESP_OK && i < h->nprofiles; i++) {
		st = readable(h->profile[i].ca, "a profile's ca", err);
		if (st == ESP_OK)
			st = readable(h->profile[i].certificate, "a profile's certificate", err);
		if (st == ESP_OK)
			st = readable(h->profile[i].key, "a profile's key", err);
	}
	if (st != ESP_OK)
		return st;
	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
		say(err, "libcurl does not start");
		return ESP_EUNAVAIL;
	}
	h->began = 1;
	return load_trust(h, err);
}

/* Hubs are opened by the first request. */
static esp_status on_worker_start(esp_module *self, esp_worker *w)
{
	(void)self;
	(void)w;
	return ESP_OK;
}

static void on_drain(esp_module *self, esp_nsec deadline)
{
	struct http *h = self->state;

	atomic_store(&h->drain_until, deadline);
	hub_drain(&h->hub[h->nhubs - 1]);
}

static void on_worker_drain(esp_module *self, esp_worker *w)
{
	struct http *h = self->state;

	hub_drain(&h->hub[h->core.loop->index(w)]);
}

static void end(struct http *h, struct hub *hub)
{
	h->core.loop->untimer(hub->end);
	hub->end = NULL;
	hub_close(hub);
}

static void on_worker_stop(esp_module *self, esp_worker *w)
{
	struct http *h = self->state;

	end(h, &h->hub[h->core.loop->index(w)]);
}

static void on_stop(esp_module *self)
{
	struct http *h = self->state;

	if (!h)
		return;
	end(h, &h->hub[h->nhubs - 1]);
	h->trust_api->close(h->trust);
	if (h->began)
		curl_global_cleanup();
}

static const esp_cfg_item profile_items[] = { { .name = "ca",
												  .type = ESP_CFG_STRING,
												  .max = 1000,
												  .help = "PEM file of the authorities to trust for it, instead of "
														  "`ca`; read for every new connection: a short one." },
	{ .name = "certificate",
		.type = ESP_CFG_STRING,
		.max = 1000,
		.help = "PEM file with the certificate to show to the server." },
	{ .name = "key",
		.type = ESP_CFG_STRING,
		.max = 1000,
		.help = "PEM file with its key; unset: it is in `certificate`." },
	{ .name = "verify",
		.type = ESP_CFG_BOOL,
		.def_int = 1,
		.help = "false takes any certificate: no protection from somebody in between. Name the server's own "
				"certificate as `ca` instead." },
	{ .name = NULL } };
static const esp_cfg_item untrusted_items[] = { { .name = "ports",
													.type = ESP_CFG_STRINGS,
													.max = PORTS,
													.help = "Ports that may be connected to; unset: 443 and 8443." },
	{ .name = "plain", .type = ESP_CFG_BOOL, .def_int = 0, .help = "Allow http:// beside https://." },
	{ .name = "allow",
		.type = ESP_CFG_STRINGS,
		.max = NETWORKS,
		.help =
			"Networks that may be reached although they are private, as in [ \"10.1.0.0/16\" ]: whoever may choose a "
			"URL reaches everything there." },
	{ .name = "requests_per_server",
		.type = ESP_CFG_INT,
		.def_int = 4,
		.min = 1,
		.max = 1000,
		.help = "Requests of each worker to one such server at once; more wait." },
	{ .name = NULL } };
static const esp_cfg_item config[] = {
	{ .name = "ca",
		.type = ESP_CFG_STRING,
		.def_str = "/etc/ssl/certs/ca-certificates.crt",
		.min = 1,
		.max = 1000,
		.help =
			"PEM file of the authorities whose certificates are trusted; read at start and by `esp-cli reload` of this "
			"module." },
	{ .name = "profiles",
		.type = ESP_CFG_MAP,
		.children = profile_items,
		.help = "Authorities and certificates for certain servers; modules name the profile." },
	{ .name = "timeout",
		.type = ESP_CFG_TIME,
		.def_int = 30 * ESP_SEC,
		.min = 100 * ESP_MSEC,
		.max = 3600 * ESP_SEC,
		.help = "How long a request may take for which its module says nothing." },
	{ .name = "connect_timeout",
		.type = ESP_CFG_TIME,
		.def_int = 5 * ESP_SEC,
		.min = 100 * ESP_MSEC,
		.max = 60 * ESP_SEC,
		.help = "How long connecting may take, all addresses of the name and TLS included." },
	{ .name = "keep",
		.type = ESP_CFG_TIME,
		.def_int = 60 * ESP_SEC,
		.min = ESP_SEC,
		.max = 300 * ESP_SEC,
		.help = "How long an idle connection is kept for the next request." },
	{ .name = "connections",
		.type = ESP_CFG_INT,
		.def_int = 32,
		.min = 1,
		.max = 1000,
		.help = "Idle connections each worker keeps at most." },
	{ .name = "requests",
		.type = ESP_CFG_INT,
		.def_int = 256,
		.min = 1,
		.max = 10000,
		.help = "Requests of each worker at once; more wait. Those to URLs that others chose have half of it." },
	{ .name = "requests_per_server",
		.type = ESP_CFG_INT,
		.def_int = 32,
		.min = 1,
		.max = 10000,
		.help = "Requests of each worker to one server at once; more wait." },
	{ .name = "memory",
		.type = ESP_CFG_SIZE,
		.def_int = 64 << 20,
		.min = 1 << 20,
		.max = (int64_t)16 << 30,
		.help = "What the answers that are still coming may take on each worker; one that finds no room fails." },
	{ .name = "waiting",
		.type = ESP_CFG_INT,
		.def_int = 1000,
		.min = 0,
		.max = 100000,
		.help = "Requests of each worker that may wait; more fail at once." },
	{ .name = "untrusted",
		.type = ESP_CFG_GROUP,
		.children = untrusted_items,
		.help = "What is allowed for URLs that tenants or other servers chose; never for those in this file." },
	{ .name = NULL }
};
static const esp_need needs[] = { { .id = "esp.dns/1", .min_minor = 0 }, { .id = NULL } };
static const esp_offer provides[] = { { .id = "esp.httpclient/1", .minor = 0 }, { .id = NULL } };
static const esp_module_ops ops = {
	.size = sizeof ops, .check = on_check, .init = on_init, .start = on_start, .worker_start = on_worker_start,
	.worker_stop = on_worker_stop, .drain = on_drain, .stop = on_stop, .worker_drain = on_worker_drain,
};
ESP_MODULE(.name = "client_http", .version = "1.0", .summary = "Requests to HTTP servers", .license = "MIT",
	.needs = needs, .provides = provides, .config = config, .ops = &ops);
