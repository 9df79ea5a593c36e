/* protocol_smtp - SMTP for other servers (role mx) and for users (roles submission, submissions). */
#include "smtp.h"
#include "modules/common/why.h"

#include <stdio.h>

#define RECHECK (60 * ESP_SEC)

static esp_status declare_metrics(struct smtp *m)
{
	static const struct { size_t at; const char *label; } series[] = {
		{ offsetof(struct smtp, accepted), "result=\"accepted\"" },
		{ offsetof(struct smtp, rejected), "result=\"rejected\"" },
		{ offsetof(struct smtp, deferred), "result=\"deferred\"" },
		{ offsetof(struct smtp, discarded), "result=\"discarded\"" },
	};
	esp_status st = ESP_OK;

	for (size_t i = 0; st == ESP_OK && i < sizeof series / sizeof series[0]; i++)
		st = m->metric->declare(m->self, ESP_COUNTER, "esp_smtp_messages_total", series[i].label,
			"Messages by what became of them", NULL, 0, (esp_metric *)(void *)((char *)m + series[i].at));
	return st == ESP_OK ? reply_declare(m) : st;
}

static esp_status declare_events(struct smtp *m)
{
	static const esp_event_field fields[] = {
		{ .key = "message", .type = ESP_F_ID, .help = "its id, for `esp-cli trace`; absent before MAIL" },
		{ .key = "peer", .type = ESP_F_STR, .help = "address of the client" },
		{ .key = "helo", .type = ESP_F_STR, .help = "name the client gave itself" },
		{ .key = "user", .type = ESP_F_STR, .help = "who is logged in" },
		{ .key = "from", .type = ESP_F_STR, .help = "envelope sender" },
		{ .key = "to", .type = ESP_F_STR, .help = "the recipient that was refused; empty: the whole message" },
		{ .key = "code", .type = ESP_F_INT, .help = "SMTP reply code" },
		{ .key = "why", .type = ESP_F_STR, .help = "text of the reply" },
	};
	uint32_t n = sizeof fields / sizeof fields[0];
	esp_status st = m->event->declare(m->self, "message.deferred", "A sender, recipient or message was refused for now",
		fields, n, sizeof fields[0], &m->refused[0]);

	return st != ESP_OK ? st : m->event->declare(m->self, "message.rejected",
		"A sender, recipient or message was refused for good", fields, n, sizeof fields[0], &m->refused[1]);
}

static esp_status bind_all(struct smtp *m)
{
	const esp_host *host = m->core.host;
	static const struct { const char *id; size_t at; } needs[] = {
		{ "esp.accept/1", offsetof(struct smtp, accept) }, { "esp.directory/1", offsetof(struct smtp, directory) },
		{ "esp.auth/1", offsetof(struct smtp, auth) },
	};
	static const esp_attention attention = { .size = sizeof attention, .tell = reply_attention };
	static const char *const roles[] = { "mx", "submission", "submissions" };
	esp_status st = ESP_OK;

	for (size_t i = 0; st == ESP_OK && i < sizeof needs / sizeof needs[0]; i++)
		st = host->bind(m->self, needs[i].id, (esp_binding *)(void *)((char *)m + needs[i].at));
	m->asker = (struct standing_asker){ .core = &m->core, .self = m->self, .topic = m->topic, .auth = m->auth,
		.every = RECHECK, .protocol = "smtp", .event = m->event };
	if (st == ESP_OK)
		st = standing_declare(&m->asker);
	if (st == ESP_OK)
		st = host->contribute(m->self, ESP_AUTH_PROTOCOL, m->asker.protocol);
	if (st == ESP_OK)
		st = host->contribute(m->self, "esp.attention/1", &attention);
	for (size_t i = 0; st == ESP_OK && i < sizeof roles / sizeof roles[0]; i++)
		st = m->listen->serve(m->self, roles[i], &smtp_protocol);
	return st;
}

static void read_config(struct smtp *m, const esp_cfg *cfg)
{
	const esp_config_api *c = m->core.cfg;
	esp_str name = c->string(cfg, "hostname");

	m->hostname = name.len ? name : m->core.host->hostname();
	m->max_size = (uint64_t)c->integer(cfg, "max_size");
	m->intake.max = (uint64_t)c->integer(cfg, "memory");
	m->max_rcpt = (uint32_t)c->integer(cfg, "max_recipients");
	m->max_rcpt_unauth = (uint32_t)c->integer(cfg, "max_recipients_unauthenticated");
	m->max_hops = (uint32_t)c->integer(cfg, "max_hops");
	m->soft_errors = (uint32_t)c->integer(cfg, "soft_errors");
	m->hard_errors = (uint32_t)c->integer(cfg, "hard_errors");
	m->idle = c->integer(cfg, "idle");
	m->login_time = c->integer(cfg, "login_time");
	m->bare_newline_ok = c->choice(cfg, "bare_newline") == 1;
}

static esp_status on_init(esp_module *self, const esp_cfg *cfg, esp_err *err)
{
	struct smtp *m = esp_alloc(self->host->arena(self), sizeof *m);
	esp_status st;

	esp_core_init(&m->core, self);
	m->self = self;
	m->listen = self->host->core("esp.listen/1", 0);
	m->hook = self->host->core("esp.hook/1", 0);
	m->mail = self->host->core("esp.mail/1", 0);
	m->event = self->host->core("esp.event/1", 0);
	m->topic = self->host->core("esp.topic/1", 0);
	m->metric = self->host->core("esp.metric/1", 0);
	read_config(m, cfg);
	self->state = m;
	st = declare_metrics(m);
	if (st == ESP_OK)
		st = declare_events(m);
	if (st == ESP_OK)
		st = bind_all(m);
	if (st != ESP_OK)
		snprintf(err->text, sizeof err->text, "cannot register: %s", why(st));
	return st;
}

static const esp_cfg_item config[] = { { .name = "hostname",
										   .type = ESP_CFG_STRING,
										   .max = 255,
										   .help = "Name in the greeting; server.hostname when unset." },
	{ .name = "max_size",
		.type = ESP_CFG_SIZE,
		.def_int = 35 << 20,
		.min = 64 << 10,
		.max = INT64_C(1) << 31,
		.help = "Largest message, announced in SIZE." },
	{ .name = "max_recipients",
		.type = ESP_CFG_INT,
		.def_int = 1000,
		.min = 1,
		.max = 50000,
		.help = "Recipients of a message from an authenticated user." },
	{ .name = "max_recipients_unauthenticated",
		.type = ESP_CFG_INT,
		.def_int = 100,
		.min = 100,
		.max = 50000,
		.help = "Recipients of a message from anybody else (RFC 5321 4.5.3.1.8 asks for 100)." },
	{ .name = "max_hops",
		.type = ESP_CFG_INT,
		.def_int = 50,
		.min = 10,
		.max = 1000,
		.help = "Received fields above which a message loops." },
	{ .name = "soft_errors",
		.type = ESP_CFG_INT,
		.def_int = 10,
		.min = 1,
		.max = 100000,
		.help = "Mistakes after which every further one costs a second." },
	{ .name = "hard_errors",
		.type = ESP_CFG_INT,
		.def_int = 20,
		.min = 1,
		.max = 100000,
		.help = "Mistakes after which the session ends." },
	{ .name = "idle",
		.type = ESP_CFG_TIME,
		.def_int = 300 * ESP_SEC,
		.min = ESP_SEC,
		.max = 3600 * ESP_SEC,
		.help = "Silence after which the session ends (RFC 5321 4.5.3.2.7: 5 minutes)." },
	{ .name = "login_time",
		.type = ESP_CFG_TIME,
		.def_int = 60 * ESP_SEC,
		.min = ESP_SEC,
		.max = 3600 * ESP_SEC,
		.help = "How long a client of submission may take to log in, however busy it is." },
	{ .name = "bare_newline",
		.type = ESP_CFG_ENUM,
		.def_str = "reject",
		.choices = "reject|normalize",
		.help = "What to do with a message that has a CR or LF on its own." },
	{ .name = "memory",
		.type = ESP_CFG_SIZE,
		.def_int = 512 << 20,
		.min = 1 << 20,
		.max = INT64_C(1) << 40,
		.help = "What messages that are still coming may hold in memory together; more is deferred. "
				"The first 128 KiB of each do not count." },
	{ .name = NULL } };
static const esp_need needs[] = { { .id = "esp.accept/1" }, { .id = "esp.directory/1" },
	{ .id = "esp.auth/1", .min_minor = 1 }, { .id = NULL } };
static const esp_module_ops ops = { .size = sizeof ops, .init = on_init };
ESP_MODULE(.name = "protocol_smtp", .version = "1.0", .summary = "SMTP for servers and for users", .license = "MIT",
           .flags = ESP_MODULE_MANDATORY, .needs = needs, .config = config, .ops = &ops);
