/* identity_auth - "esp.auth/1": passwords and SASL; argon2id on the hash lane, a keyed cache of verified logins. */
#include "auth.h"
#include "modules/common/why.h"

#include <stdio.h>

static const esp_event_field event_fields[] = {
	{ .key = "user", .type = ESP_F_STR, .help = "the name as given" },
	{ .key = "peer", .type = ESP_F_STR, .help = "address of the client" },
	{ .key = "protocol", .type = ESP_F_STR, .help = "imap, smtp ..." },
	{ .key = "why", .type = ESP_F_STR, .help = "why it was refused" },
};

static esp_status declare(struct auth *a)
{
	uint32_t n = sizeof event_fields / sizeof event_fields[0];
	esp_status st = a->event->declare(
		a->self, "user.login", "Somebody logged in", event_fields, n, sizeof event_fields[0], &a->login);

	if (st == ESP_OK)
		st = a->event->declare(
			a->self, "user.login_failed", "A login was refused", event_fields, n, sizeof event_fields[0], &a->failed);
	if (st == ESP_OK)
		st = a->metric->declare(a->self, ESP_COUNTER, "esp_logins_total", "result=\"ok\"", "Logins", NULL, 0, &a->ok);
	if (st == ESP_OK)
		st = a->metric->declare(
			a->self, ESP_COUNTER, "esp_logins_total", "result=\"refused\"", "Logins", NULL, 0, &a->refused);
	if (st == ESP_OK)
		st = a->metric->declare(
			a->self, ESP_COUNTER, "esp_logins_total", "result=\"unavailable\"", "Logins", NULL, 0, &a->unknown);
	if (st == ESP_OK)
		st = a->metric->declare(a->self, ESP_COUNTER, "esp_logins_cached_total", "",
			"Logins answered by the cache of verified ones", NULL, 0, &a->cached);
	return st;
}

static esp_status register_all(struct auth *a)
{
	const esp_host *host = a->core.host;
	esp_status st = host->bind(a->self, "esp.sql/1", &a->sql);

	if (st == ESP_OK)
		st = host->bind(a->self, "esp.directory/1", &a->directory);
	if (st == ESP_OK)
		st = host->bind(a->self, "esp.eventlog/1", &a->eventlog);
	if (st == ESP_OK)
		st = declare(a);
	if (st == ESP_OK)
		st = host->contribute(a->self, "esp.sql.migrations/1", &auth_migrations);
	for (uint32_t i = 0; st == ESP_OK && auth_commands[i]; i++)
		st = host->contribute(a->self, "esp.command/1", auth_commands[i]);
	return st == ESP_OK ? host->provide(a->self, "esp.auth/1", &a->table.service) : st;
}

static void get_interfaces(struct auth *a, esp_module *self)
{
	esp_core_init(&a->core, self);
	a->self = self;
	a->crypto = self->host->core("esp.crypto/1", 0);
	a->event = self->host->core("esp.event/1", 0);
	a->metric = self->host->core("esp.metric/1", 0);
	a->hook = self->host->core("esp.hook/1", 0);
	a->topic = self->host->core("esp.topic/1", 0);
}

static esp_status on_init(esp_module *self, const esp_cfg *cfg, esp_err *err)
{
	struct auth *a = esp_alloc(self->host->arena(self), sizeof *a);
	esp_status st;

	get_interfaces(a, self);
	a->memory_kib = (uint32_t)(a->core.cfg->integer(cfg, "memory") / 1024);
	a->passes = (uint32_t)a->core.cfg->integer(cfg, "passes");
	a->plaintext_ok = a->core.cfg->boolean(cfg, "plaintext_on_trusted");
	a->cache_time = a->core.cfg->integer(cfg, "cache");
	a->table = (esp_auth){ .service = { .size = sizeof(esp_auth), .minor = 1, .provider = self },
		.mechanisms = sasl_mechanisms,
		.login = login,
		.sasl_begin = sasl_begin,
		.sasl_step = sasl_step,
		.sasl_end = sasl_end,
		.recheck = login_recheck };
	self->state = a;
	st = register_all(a);
	if (st != ESP_OK)
		snprintf(err->text, sizeof err->text, "cannot register: %s", why(st));
	return st;
}

static esp_status on_start(esp_module *self, esp_err *err)
{
	struct auth *a = self->state;
	const esp_sql *sql = auth_sql(a);

	a->hash_lane = a->core.pool->lane("hash");
	hash_of_nobody(a, a->dummy);
	if (shared_take(a) != ESP_OK)
		return ESP_ENOMEM;
	return sql ? sql->migrate(sql, err) : ESP_EUNAVAIL;
}

static void on_stop(esp_module *self)
{
	struct auth *a = self->state;

	if (a)
		shared_drop(a);
}

static const esp_cfg_item config[] = {
	{ .name = "memory", .type = ESP_CFG_SIZE, .def_int = 19 << 20, .min = 64 << 10, .max = INT64_C(1) << 31,
	  .help = "Memory of one password hash (argon2id)." },
	{ .name = "passes", .type = ESP_CFG_INT, .def_int = 2, .min = 1, .max = 100, .help = "Passes over that memory." },
	{ .name = "cache", .type = ESP_CFG_TIME, .def_int = 3600 * ESP_SEC, .max = 86400 * ESP_SEC,
	  .help = "How long a verified login is remembered." },
	{ .name = "plaintext_on_trusted", .type = ESP_CFG_BOOL,
	  .help = "Allow passwords without TLS from loopback on listeners marked trust_loopback (tests)." },
	{ .name = NULL }
};
static const esp_need needs[] = { { .id = "esp.sql/1" }, { .id = "esp.directory/1", .min_minor = 1 },
	{ .id = "esp.eventlog/1", .optional = 1 }, { .id = NULL } };
static const esp_offer provides[] = { { .id = "esp.auth/1", .minor = 1 }, { .id = NULL } };
static const esp_module_ops ops = { .size = sizeof ops,
	.init = on_init,
	.start = on_start,
	.stop = on_stop };
ESP_MODULE(.name = "identity_auth", .version = "1.0", .summary = "Passwords, SASL PLAIN and LOGIN", .license = "MIT",
           .flags = ESP_MODULE_MANDATORY, .needs = needs, .provides = provides, .config = config, .ops = &ops);
