/* client_dns - "esp.dns/1": questions to resolvers, answered to fibers.  dns.h has the map.
 *
 * Names are not validated here: DNSSEC is a validating resolver's beside the server, and its AD bit is believed where
 * nobody can stand in between, on loopback.  Two generations run side by side, each with sockets and caches of its own.
 */
#include "dns.h"
#include "modules/common/why.h"

#include <esp/attention.h>

#include <ares.h>
#include <stdio.h>
#include <stdlib.h>

/* --- settings -------------------------------------------------------------------------------------------- */

static esp_status read_servers(const esp_config_api *api, const esp_cfg *cfg, struct server *out, uint32_t *ret_n,
	esp_err *err)
{
	uint32_t n = api->count(cfg, "servers");
	int trust = api->boolean(cfg, "trust_ad");

	*ret_n = n;
	for (uint32_t i = 0; i < n; i++) {
		esp_str text = api->string_at(cfg, "servers", i);

		if (!address_read(text, &out[i].at)) {
			api->error(cfg, "servers", err,
				"\"%.*s\" is no address of a DNS server: write \"127.0.0.1\", \"192.0.2.1:53\", "
				"\"::1\" or \"[2001:db8::1]:53\"; a name cannot be looked up before there is a server",
				ESP_FMT(text));
			return ESP_ECONFIG;
		}
		if (trust && !out[i].at.loopback) {
			api->error(cfg, "trust_ad", err,
				"%s is not on loopback: whoever stands between could forge what it says; run a "
				"validating resolver on this machine, or take trust_ad away",
				out[i].at.text);
			return ESP_ECONFIG;
		}
	}
	return ESP_OK;
}

static esp_status on_check(esp_module *self, const esp_cfg *cfg, esp_err *err)
{
	const esp_config_api *api = self->host->core("esp.config/1", 0);
	struct server *list = calloc(SERVERS_MAX, sizeof *list);
	uint32_t n;
	esp_status st = list ? read_servers(api, cfg, list, &n, err) : ESP_ENOMEM;

	free(list);
	return st;
}

static esp_status read_settings(struct dns *d, const esp_cfg *cfg, esp_err *err)
{
	const esp_config_api *c = d->core.cfg;

	d->timeout = c->integer(cfg, "timeout");
	d->tries = (uint32_t)c->integer(cfg, "tries");
	d->wait = c->integer(cfg, "wait");
	d->outstanding = (uint32_t)c->integer(cfg, "outstanding");
	d->cache_entries = (uint32_t)c->integer(cfg, "cache_entries");
	d->cache_bytes = (size_t)c->integer(cfg, "cache_size");
	d->ttl_most = c->integer(cfg, "ttl_max");
	d->ttl_negative = c->integer(cfg, "ttl_negative");
	d->ttl_failure = c->integer(cfg, "ttl_failure");
	d->trust_ad = c->boolean(cfg, "trust_ad");
	d->resolv_file = c->string(cfg, "resolv_conf").ptr;
	d->hosts_file = c->string(cfg, "hosts").ptr;
	d->configured = c->count(cfg, "servers") > 0;
	return read_servers(c, cfg, d->server, &d->nservers, err);
}

/* --- registering ------------------------------------------------------------------------------------------ */

static esp_status declare_queries(struct dns *d)
{
	static const char *const type[TYPES] = { "A", "AAAA", "CNAME", "MX", "NS", "PTR", "TLSA", "TXT" };
	static const char *const result[RESULTS] = { "found", "nxdomain", "nodata", "failed", "silence", "malformed" };
	char labels[64];
	esp_status st = ESP_OK;

	for (uint32_t i = 0; i < TYPES; i++) {
		for (uint32_t k = 0; st == ESP_OK && k < RESULTS; k++) {
			snprintf(labels, sizeof labels, "type=\"%s\",result=\"%s\"", type[i], result[k]);
			st = d->metric->declare(d->self, ESP_COUNTER, "esp_dns_queries_total", labels,
				"Questions to DNS servers, by type and what came of them", NULL, 0, &d->queries[i][k]);
		}
	}
	return st;
}

static esp_status declare(struct dns *d)
{
	static const double bounds[] = { 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20 };
	static const struct { size_t at; uint32_t type; const char *name, *help; } series[] = {
		{ offsetof(struct dns, hits), ESP_COUNTER, "esp_dns_cache_hits_total", "Lookups answered by the cache" },
		{ offsetof(struct dns, joined), ESP_COUNTER, "esp_dns_joined_total",
			"Lookups that waited for a question which somebody else had asked" },
		{ offsetof(struct dns, retries), ESP_COUNTER, "esp_dns_retries_total",
			"Questions sent again, to the same server or another" },
		{ offsetof(struct dns, turned_away), ESP_COUNTER, "esp_dns_turned_away_total",
			"Lookups refused because too many questions were in flight" },
		{ offsetof(struct dns, in_flight), ESP_GAUGE, "esp_dns_in_flight", "Questions that wait for an answer" },
		{ offsetof(struct dns, entries), ESP_GAUGE, "esp_dns_cache_entries", "Answers in the caches of all workers" },
		{ offsetof(struct dns, bytes), ESP_GAUGE, "esp_dns_cache_bytes", "Memory of the caches of all workers" },
	};
	esp_status st = declare_queries(d);

	for (size_t i = 0; st == ESP_OK && i < sizeof series / sizeof series[0]; i++)
		st = d->metric->declare(d->self, series[i].type, series[i].name, "", series[i].help, NULL, 0,
			(esp_metric *)(void *)((char *)d + series[i].at));
	if (st == ESP_OK)
		st = d->metric->declare(d->self, ESP_HISTOGRAM, "esp_dns_query_seconds", "",
			"Time from a question to its answer, with all tries", bounds, sizeof bounds / sizeof bounds[0],
			&d->seconds);
	return st;
}

static int32_t tell_silent(esp_module *self, char text[ESP_ATTENTION_ROOM])
{
	struct dns *d = self->state;
	const char *first = NULL;
	uint32_t n = 0;

	for (uint32_t i = 0; i < d->nservers; i++) {
		if (!atomic_load(&d->server[i].silent))
			continue;
		first = first ? first : d->server[i].at.text;
		n++;
	}
	if (n)
		snprintf(text, ESP_ATTENTION_ROOM,
			"%u of %u DNS servers do not answer (%s): see that they run, or change servers of "
			"%s in esp.conf",
			n, d->nservers, first, self->name);
	return n > 0;
}

static const esp_attention attention = { .size = sizeof(esp_attention), .tell = tell_silent };

static esp_status register_all(struct dns *d)
{
	const esp_host *host = d->core.host;
	esp_status st = declare(d);

	for (uint32_t i = 0; st == ESP_OK && dns_commands[i]; i++)
		st = host->contribute(d->self, "esp.command/1", dns_commands[i]);
	if (st == ESP_OK)
		st = host->contribute(d->self, "esp.attention/1", &attention);
	return st == ESP_OK ? host->provide(d->self, "esp.dns/1", &d->table.service) : st;
}

static esp_status on_init(esp_module *self, const esp_cfg *cfg, esp_err *err)
{
	struct dns *d = esp_alloc(self->host->arena(self), sizeof *d);
	esp_status st;

	if (!d) {
		snprintf(err->text, sizeof err->text, "cannot register: %s", why(ESP_ENOMEM));
		return ESP_ENOMEM;
	}
	esp_core_init(&d->core, self);
	d->self = self;
	d->crypto = self->host->core("esp.crypto/1", 0);
	d->metric = self->host->core("esp.metric/1", 0);
	d->control = d->core.loop->here();
	d->nworkers = d->core.loop->workers();
	lookup_init(d);
	st = read_settings(d, cfg, err);
	if (st != ESP_OK)
		return st;
	d->hub = calloc(d->nworkers + 1, sizeof *d->hub);
	st = d->hub ? register_all(d) : ESP_ENOMEM;
	for (uint32_t i = 0; st == ESP_OK && i <= d->nworkers; i++)
		d->hub[i].d = d;
	if (st != ESP_OK) {
		snprintf(err->text, sizeof err->text, "cannot register: %s", why(st));
		free(d->hub);
		d->hub = NULL;
	}
	self->state = d;
	return st;
}

/* --- life ------------------------------------------------------------------------------------------------- */

struct texts { const char *resolv_file, *hosts_file; char *resolv, *hosts; };

static int32_t read_files(void *arg)
{
	struct texts *t = arg;

	t->resolv = file_read(t->resolv_file);
	t->hosts = file_read(t->hosts_file);
	return ESP_OK;
}

static void take_servers(struct dns *d, const char *text)
{
	esp_str none = { "", 0 };

	resolv_read(text ? (esp_str){ text, strlen(text) } : none, &d->resolv);
	if (d->configured)
		return;
	d->nservers = d->resolv.n;
	for (uint32_t i = 0; i < d->resolv.n; i++)
		d->server[i].at = d->resolv.server[i];
	if (d->resolv.skipped)
		esp_log(d->core.log, d->self, ESP_LOG_WARNING, "nameserver lines that cannot be used are left out",
			ESP_FSTR("file", ((esp_str){ d->resolv_file, strlen(d->resolv_file) })),
			ESP_FINT("lines", d->resolv.skipped));
}

static void warn_untrusted(const struct dns *d)
{
	for (uint32_t i = 0; d->trust_ad && i < d->nservers; i++)
		if (!d->server[i].at.loopback)
			esp_log(d->core.log, d->self, ESP_LOG_WARNING,
				"trust_ad has no effect on this DNS server, it is not on loopback: run a validating resolver here",
				ESP_FSTR("server", ((esp_str){ d->server[i].at.text, strlen(d->server[i].at.text) })));
}

static esp_status on_start(esp_module *self, esp_err *err)
{
	struct dns *d = self->state;
	struct texts t = { .resolv_file = d->resolv_file, .hosts_file = d->hosts_file };
	esp_status st;

	if (ares_library_init(ARES_LIB_INIT_ALL) != ARES_SUCCESS) {
		snprintf(err->text, sizeof err->text, "c-ares cannot be initialised");
		return ESP_ENOMEM;
	}
	d->library = 1;
	st = d->core.pool->run(self, d->core.pool->lane("misc"), read_files, &t, NULL);
	if (st == ESP_OK) {
		take_servers(d, t.resolv);
		warn_untrusted(d);
		if (t.hosts) {
			st = hosts_read(t.hosts, &d->hosts);
			t.hosts = NULL;
		}
	}
	free(t.resolv);
	free(t.hosts);
	if (st == ESP_OK)
		st = hub_open(&d->hub[d->nworkers]);
	if (st != ESP_OK)
		snprintf(err->text, sizeof err->text, "DNS cannot be set up: %s", why(st));
	return st;
}

static esp_status on_worker_start(esp_module *self, esp_worker *w)
{
	struct dns *d = self->state;

	return hub_open(&d->hub[d->core.loop->index(w)]);
}

static void on_worker_stop(esp_module *self, esp_worker *w)
{
	struct dns *d = self->state;

	hub_close(&d->hub[d->core.loop->index(w)]);
}

/* Fibers of other modules still wait here, and this generation cannot end before they have left: they are told in time
 * for that. */
static void on_drain(esp_module *self, esp_nsec deadline)
{
	struct dns *d = self->state;

	atomic_store(&d->ends, deadline - 250 * ESP_MSEC);
}

static void on_stop(esp_module *self)
{
	struct dns *d = self->state;

	hub_close(&d->hub[d->nworkers]);
	hosts_end(&d->hosts);
	if (d->library)
		ares_library_cleanup();
	free(d->hub);
}

static const esp_cfg_item config[] = {
	{ .name = "servers",
		.type = ESP_CFG_STRINGS,
		.min = 0,
		.max = SERVERS_MAX,
		.help = "Resolvers to ask, in this order: \"127.0.0.1\", \"192.0.2.1:5353\", \"[::1]:53\". Unset: those of "
				"resolv_conf. A validating resolver on this machine (unbound, knot-resolver) is what a mail server "
				"wants." },
	{ .name = "resolv_conf",
		.type = ESP_CFG_STRING,
		.def_str = "/etc/resolv.conf",
		.min = 1,
		.max = 1000,
		.help = "Where servers (when none are set) and the search list are taken from; read at start and by "
				"`esp-cli reload` of this module." },
	{ .name = "hosts",
		.type = ESP_CFG_STRING,
		.def_str = "/etc/hosts",
		.min = 1,
		.max = 1000,
		.help = "Addresses of names that stand in the configuration; never used for names in mail." },
	{ .name = "timeout",
		.type = ESP_CFG_TIME,
		.def_int = 2 * ESP_SEC,
		.min = 50 * ESP_MSEC,
		.max = 30 * ESP_SEC,
		.help = "How long one server may take for one try." },
	{ .name = "tries",
		.type = ESP_CFG_INT,
		.def_int = 3,
		.min = 1,
		.max = 10,
		.help = "How often each server is asked before a question is given up." },
	{ .name = "wait",
		.type = ESP_CFG_TIME,
		.def_int = 10 * ESP_SEC,
		.min = 50 * ESP_MSEC,
		.max = 120 * ESP_SEC,
		.help = "How long a lookup takes at most, with all tries; then it fails for now (451)." },
	{ .name = "outstanding",
		.type = ESP_CFG_INT,
		.def_int = 4096,
		.min = 1,
		.max = 30000,
		.help = "Questions in flight on each worker; lookups beyond are refused for now." },
	{ .name = "cache_size",
		.type = ESP_CFG_SIZE,
		.def_int = 8 << 20,
		.min = 0,
		.max = INT64_C(1) << 32,
		.help = "Memory for answers on each worker; what was unused for longest goes first." },
	{ .name = "cache_entries",
		.type = ESP_CFG_INT,
		.def_int = 20000,
		.min = 0,
		.max = 10000000,
		.help = "Answers kept on each worker; 0: none." },
	{ .name = "ttl_max",
		.type = ESP_CFG_TIME,
		.def_int = 3600 * ESP_SEC,
		.min = 0,
		.max = 7 * 86400 * ESP_SEC,
		.help = "Longest time an answer is kept, whatever its zone allows." },
	{ .name = "ttl_negative",
		.type = ESP_CFG_TIME,
		.def_int = 300 * ESP_SEC,
		.min = 0,
		.max = 10800 * ESP_SEC,
		.help = "The same for \"there is none\" (NXDOMAIN, NODATA)." },
	{ .name = "ttl_failure",
		.type = ESP_CFG_TIME,
		.def_int = 5 * ESP_SEC,
		.min = 0,
		.max = 300 * ESP_SEC,
		.help =
			"How long a failure (SERVFAIL, no answer, malformed) is remembered before the question is sent again." },
	{ .name = "trust_ad",
		.type = ESP_CFG_BOOL,
		.help = "Believe resolvers on loopback that an answer was validated (AD bit; DANE needs it). Only when they "
				"validate: "
				"a forwarder passes on what anybody says." },
	{ .name = NULL }
};
static const esp_offer provides[] = { { .id = "esp.dns/1" }, { .id = NULL } };
static const esp_module_ops ops = { .size = sizeof ops,
	.check = on_check,
	.init = on_init,
	.start = on_start,
	.worker_start = on_worker_start,
	.worker_stop = on_worker_stop,
	.drain = on_drain,
	.stop = on_stop };
ESP_MODULE(.name = "client_dns", .version = "1.0", .summary = "DNS lookups through c-ares", .license = "MIT",
	.provides = provides, .config = config, .ops = &ops);
