/* protocol_imap - IMAP4rev1 (RFC 3501) for mail clients. */
#include "imap.h"
#include "modules/common/why.h"

#include <stdio.h>

static esp_status bind_all(struct imap *m)
{
	const esp_host *host = m->core.host;
	esp_status st = host->bind(m->self, "esp.mailstore/1", &m->mailstore);

	if (st == ESP_OK)
		st = host->bind(m->self, "esp.blob/1", &m->blob);
	if (st == ESP_OK)
		st = host->bind(m->self, "esp.auth/1", &m->auth);
	if (st == ESP_OK) {
		m->asker = (struct standing_asker){ .core = &m->core, .self = m->self, .topic = m->topic, .auth = m->auth,
			.every = m->recheck, .protocol = "imap", .event = host->core("esp.event/1", 0) };
		st = standing_declare(&m->asker);
	}
	if (st == ESP_OK)
		st = m->metric->declare(
			m->self, ESP_COUNTER, "esp_imap_commands_total", "", "IMAP commands", NULL, 0, &m->commands);
	if (st == ESP_OK)
		st = m->metric->declare(
			m->self, ESP_COUNTER, "esp_imap_appended_total", "", "Messages stored by APPEND", NULL, 0, &m->appended);
	if (st == ESP_OK)
		st = host->contribute(m->self, ESP_AUTH_PROTOCOL, m->asker.protocol);
	if (st == ESP_OK)
		st = m->listen->serve(m->self, "imap", &imap_protocol);
	return st == ESP_OK ? m->listen->serve(m->self, "imaps", &imap_protocol) : st;
}

static esp_status on_init(esp_module *self, const esp_cfg *cfg, esp_err *err)
{
	struct imap *m = esp_alloc(self->host->arena(self), sizeof *m);
	const esp_config_api *c;
	esp_status st;

	esp_core_init(&m->core, self);
	c = m->core.cfg;
	m->self = self;
	m->large = esp_alloc_array(self->host->arena(self), m->core.loop->workers(), sizeof *m->large);
	m->listen = self->host->core("esp.listen/1", 0);
	m->topic = self->host->core("esp.topic/1", 0);
	m->hook = self->host->core("esp.hook/1", 0);
	m->crypto = self->host->core("esp.crypto/1", 0);
	m->metric = self->host->core("esp.metric/1", 0);
	m->max_append = (uint64_t)c->integer(cfg, "max_size");
	m->intake.max = (uint64_t)c->integer(cfg, "memory");
	m->max_literals = (uint32_t)c->integer(cfg, "max_literals");
	m->hard_errors = (uint32_t)c->integer(cfg, "hard_errors");
	m->idle = c->integer(cfg, "idle");
	m->idle_unauth = c->integer(cfg, "login_time");
	m->recheck = c->integer(cfg, "recheck");
	self->state = m;
	st = bind_all(m);
	if (st != ESP_OK)
		snprintf(err->text, sizeof err->text, "cannot register: %s", why(st));
	return st;
}

static const esp_cfg_item config[] = { { .name = "max_size",
										   .type = ESP_CFG_SIZE,
										   .def_int = 35 << 20,
										   .min = 64 << 10,
										   .max = INT64_C(1) << 31,
										   .help = "Largest message APPEND takes." },
	{ .name = "max_literals",
		.type = ESP_CFG_SIZE,
		.def_int = 64 << 10,
		.min = 4096,
		.max = 128 << 10,
		.help = "Literals of one command in all, APPEND's message apart." },
	{ .name = "hard_errors",
		.type = ESP_CFG_INT,
		.def_int = 20,
		.min = 1,
		.max = 100000,
		.help = "Mistakes after which the session ends." },
	{ .name = "idle",
		.type = ESP_CFG_TIME,
		.def_int = 1830 * ESP_SEC,
		.min = 1800 * ESP_SEC,
		.max = 86400 * ESP_SEC,
		.help = "Silence after which a session ends (RFC 3501 5.4: at least 30 minutes)." },
	{ .name = "login_time",
		.type = ESP_CFG_TIME,
		.def_int = 60 * ESP_SEC,
		.min = ESP_SEC,
		.max = 3600 * ESP_SEC,
		.help = "How long a client may take to log in, however busy it is." },
	{ .name = "recheck",
		.type = ESP_CFG_TIME,
		.def_int = 60 * ESP_SEC,
		.min = ESP_SEC,
		.max = 1800 * ESP_SEC,
		.help = "After this much silence a session in IDLE looks into its mailbox, and any session asks whether its "
				"login is "
				"still good, whether or not it was told to." },
	{ .name = "memory",
		.type = ESP_CFG_SIZE,
		.def_int = 512 << 20,
		.min = 1 << 20,
		.max = INT64_C(1) << 40,
		.help = "What messages that are still coming may hold in memory together; more is deferred. "
				"The first 128 KiB of each do not count." },
	{ .name = NULL } };
static const esp_need needs[] = { { .id = "esp.mailstore/1" }, { .id = "esp.blob/1", .min_minor = 1 },
	{ .id = "esp.auth/1", .min_minor = 1 }, { .id = NULL } };
static const esp_module_ops ops = { .size = sizeof ops, .init = on_init };
ESP_MODULE(.name = "protocol_imap", .version = "1.0", .summary = "IMAP4rev1 for mail clients", .license = "MIT",
           .flags = ESP_MODULE_MANDATORY, .needs = needs, .config = config, .ops = &ops);
