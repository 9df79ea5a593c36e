/* storage_pgsql - "esp.sql/1" over PostgreSQL.
 *
 * Everything runs on the workers' loops (hub.c, link.c, query.c, group.c); names are resolved and tables migrated on a
 * lane, and the search index (texts.c) has lanes of its own.  Two generations may run side by side: each has
 * connections of its own.
 */
#include "pgsql.h"

#include "modules/common/migrate.h"
#include "modules/common/why.h"

#include <stdio.h>
#include <stdlib.h>

static char *copy(esp_arena *arena, esp_str s)
{
	return (char *)(uintptr_t)esp_strdup_in(arena, s).ptr;
}

/* The environment's value, which wins, or the configuration's. */
static char *setting(struct pgsql *p, const esp_cfg *cfg, const char *key, const char *variable)
{
	const char *env = variable ? getenv(variable) : NULL;
	esp_str s = env && *env ? (esp_str){ env, strlen(env) } : p->core.cfg->string(cfg, key);

	return copy(p->core.host->arena(p->self), s);
}

static esp_status read_settings(struct pgsql *p, const esp_cfg *cfg)
{
	const esp_config_api *c = p->core.cfg;
	struct settings *s = &p->set;
	char text[200];

	s->host = setting(p, cfg, "host", "ESP_STORAGE_DATABASE_HOST");
	s->user = setting(p, cfg, "user", "ESP_STORAGE_DATABASE_USER");
	s->password = setting(p, cfg, "password", "ESP_STORAGE_DATABASE_PASSWORD");
	s->name = setting(p, cfg, "name", "ESP_STORAGE_DATABASE_NAME");
	s->sslmode = setting(p, cfg, "sslmode", NULL);
	s->ca = setting(p, cfg, "ca", NULL);
	s->connect_timeout = c->integer(cfg, "connect_timeout");
	s->statement_timeout = c->integer(cfg, "statement_timeout");
	s->wait = c->integer(cfg, "wait");
	s->outcome_wait = c->integer(cfg, "outcome_wait");
	s->connections = (uint32_t)c->integer(cfg, "connections");
	s->auto_migrate = c->boolean(cfg, "auto_migrate");
	snprintf(text, sizeof text, "%lld", (long long)c->integer(cfg, "port"));
	if (getenv("ESP_STORAGE_DATABASE_PORT"))
		snprintf(text, sizeof text, "%.7s", getenv("ESP_STORAGE_DATABASE_PORT"));
	s->port = copy(p->core.host->arena(p->self), (esp_str){ text, strlen(text) });
	/* a node that was stopped in the middle of a transaction must not keep its locks */
	snprintf(text, sizeof text, "-c statement_timeout=%lld -c idle_in_transaction_session_timeout=%lld",
		(long long)(s->statement_timeout / ESP_MSEC), (long long)(2 * s->statement_timeout / ESP_MSEC));
	s->options = copy(p->core.host->arena(p->self), (esp_str){ text, strlen(text) });
	return s->host && s->user && s->password && s->name && s->sslmode && s->ca && s->port && s->options ? ESP_OK
	                                                                                                    : ESP_ENOMEM;
}

static esp_status declare_metrics(struct pgsql *p)
{
	static const struct { size_t at; const char *name, *help;
	} series[] = {
		{ offsetof(struct pgsql, commits), "esp_sql_commits_total", "COMMITs that reached the disk" },
		{ offsetof(struct pgsql, transactions), "esp_sql_transactions_total", "Transactions inside those COMMITs" },
		{ offsetof(struct pgsql, retries), "esp_sql_retries_total",
			"Transactions run again alone after their batch failed" },
		{ offsetof(struct pgsql, lost), "esp_sql_connections_lost_total", "Connections to the database that broke" },
		{ offsetof(struct pgsql, unknown), "esp_sql_commits_unknown_total",
			"COMMITs whose answer was lost and had to be looked up" },
	};
	esp_status st = ESP_OK;

	for (size_t i = 0; st == ESP_OK && i < sizeof series / sizeof series[0]; i++)
		st = p->metric->declare(p->self, ESP_COUNTER, series[i].name, "engine=\"" ENGINE "\"", series[i].help, NULL, 0,
		                        (esp_metric *)(void *)((char *)p + series[i].at));
	return st != ESP_OK ? st : timing_declare_sql(p->metric, p->self, "engine=\"" ENGINE "\"", &p->seconds);
}

static esp_status on_init(esp_module *self, const esp_cfg *cfg, esp_err *err)
{
	struct pgsql *p = esp_alloc(self->host->arena(self), sizeof *p);
	esp_status st;

	esp_core_init(&p->core, self);
	p->self = self;
	p->metric = self->host->core("esp.metric/1", 0);
	p->crypto = self->host->core("esp.crypto/1", 0);
	p->nworkers = p->core.loop->workers();
	self->state = p;
	p->table = (esp_sql){ .service = { .size = sizeof(esp_sql), .minor = 1, .provider = self },
	                      .query = pgsql_query, .transact = pgsql_transact, .migrate = pgsql_migrate,
	                      .read = pgsql_read, .pause = pgsql_pause, .engine = "pgsql" };
	st = read_settings(p, cfg);
	if (st == ESP_OK)
		st = hubs_new(p);
	if (st == ESP_OK)
		st = declare_metrics(p);
	if (st == ESP_OK && !IS_TARGET)
		st = self->host->contribute(self, "esp.sql.migrations/1", &outcome_migrations);
	if (st == ESP_OK && !IS_TARGET)
		st = self->host->contribute(self, "esp.command/1", &pgsql_migrate_command);
	if (st == ESP_OK && !IS_TARGET) {
		p->texts = texts_new(p);
		st = p->texts ? self->host->provide(self, "esp.textindex/1", texts_service(p->texts)) : ESP_ENOMEM;
	}
	if (st == ESP_OK)
		st = self->host->provide(self, SQL_SERVICE, &p->table.service);
	if (st != ESP_OK)
		snprintf(err->text, sizeof err->text, "cannot register: %s", why(st));
	return st;
}

#define WAIT_START (60 * ESP_SEC)

static int32_t look_for_it(void *arg) { return address_silent(arg); }

/* After a power failure all machines start at once, and this one may be the first. */
static esp_status migrate_when_there(struct pgsql *p, esp_err *err)
{
	const esp_core *core = &p->core;
	esp_nsec begun = core->loop->clock();
	int32_t silent = 0, told = 0;
	esp_status st;

	while ((st = pgsql_migrate(&p->table, err)) == ESP_EUNAVAIL && core->loop->clock() < begun + WAIT_START) {
		if (core->pool->run(p->self, p->lane, look_for_it, &p->set, &silent) != ESP_OK || !silent)
			return st;
		if (!told++)
			esp_log(core->log, p->self, ESP_LOG_WARNING, "PostgreSQL does not answer: waiting for it",
				ESP_FSTR("reason", ((esp_str){ err->text, strlen(err->text) })), ESP_FNSEC("most", WAIT_START));
		if (core->fiber->sleep_until(core->loop->clock() + ESP_SEC) != ESP_OK)
			return st;
	}
	if (st == ESP_OK && told)
		esp_log(core->log, p->self, ESP_LOG_NOTICE, "PostgreSQL answers", ESP_FNSEC("waited",
			core->loop->clock() - begun));
	return st;
}

static esp_status on_start(esp_module *self, esp_err *err)
{
	struct pgsql *p = self->state;
	int may_make = 0;
	esp_status st;

	p->lane = p->core.pool->open(self, "pgsql", 2, 256);
	p->long_lane = p->core.pool->open(self, "pgsql-long", 2, 64);
	if (!p->lane || !p->long_lane) {
		snprintf(err->text, sizeof err->text, "no memory for the lane");
		return ESP_ENOMEM;
	}
	st = migrate_when_there(p, err);
	if (st == ESP_OK && !IS_TARGET)
		(void)!texts_open(p->texts, migrate_at_start(p->set.auto_migrate, &may_make) != MIGRATE_NOTHING && may_make);
	return st;
}

/* Connections are made when the first call needs one. */
static esp_status on_worker_start(esp_module *self, esp_worker *w)
{
	(void)self;
	(void)w;
	return ESP_OK;
}

static void on_worker_stop(esp_module *self, esp_worker *w)
{
	struct pgsql *p = self->state;

	hub_stop(&p->hub[p->core.loop->index(w)]);
}

static void on_stop(esp_module *self)
{
	struct pgsql *p = self->state;

	if (!p)
		return;
	if (p->texts)
		texts_close(p->texts);
	hubs_free(p);
}

static const esp_cfg_item config[] = { { .name = "host",
										   .type = ESP_CFG_STRING,
										   .def_str = "localhost",
										   .min = 1,
										   .max = 1000,
										   .help = "Where PostgreSQL is: names, addresses or the directory of a Unix "
												   "socket, separated by commas; the first that takes writes is used. "
												   "A port may follow: \"db1:5433\", \"[::1]:5433\". Environment: "
												   "ESP_STORAGE_DATABASE_HOST." },
	{ .name = "port",
		.type = ESP_CFG_INT,
		.def_int = 5432,
		.min = 1,
		.max = 65535,
		.help = "Port of hosts that name none. Environment: ESP_STORAGE_DATABASE_PORT." },
	{ .name = "user",
		.type = ESP_CFG_STRING,
		.def_str = "esp",
		.min = 1,
		.max = 63,
		.help = "Role that owns ESP's tables. Environment: ESP_STORAGE_DATABASE_USER." },
	{ .name = "password",
		.type = ESP_CFG_STRING,
		.flags = ESP_CFG_SECRET,
		.def_str = "",
		.max = 1000,
		.help = "Its password. Environment: ESP_STORAGE_DATABASE_PASSWORD." },
	{ .name = "name",
		.type = ESP_CFG_STRING,
		.def_str = "esp",
		.min = 1,
		.max = 63,
		.help = "Database, encoding UTF8. Environment: ESP_STORAGE_DATABASE_NAME." },
	{ .name = "sslmode",
		.type = ESP_CFG_ENUM,
		.choices = "disable|prefer|require|verify-ca|verify-full",
		.def_str = "prefer",
		.help = "TLS to the database; verify-full wherever the network is not your own." },
	{ .name = "ca",
		.type = ESP_CFG_STRING,
		.def_str = "/etc/ssl/certs/ca-certificates.crt",
		.max = 900,
		.help = "Certificates that verify-ca and verify-full trust." },
	{ .name = "connections",
		.type = ESP_CFG_INT,
		.def_int = 5,
		.min = 3,
		.max = LINKS_MAX,
		.help =
			"Connections of each worker at most: at least one reads a few rows, one reads more, the others write." },
	{ .name = "connect_timeout",
		.type = ESP_CFG_TIME,
		.def_int = 3 * ESP_SEC,
		.min = 100 * ESP_MSEC,
		.max = 60 * ESP_SEC,
		.help = "How long one address may take to answer." },
	{ .name = "statement_timeout",
		.type = ESP_CFG_TIME,
		.def_int = 5 * ESP_SEC,
		.min = 100 * ESP_MSEC,
		.max = 600 * ESP_SEC,
		.help = "How long one statement may take; a server silent for 2 s longer is given up." },
	{ .name = "wait",
		.type = ESP_CFG_TIME,
		.def_int = 10 * ESP_SEC,
		.min = 100 * ESP_MSEC,
		.max = 600 * ESP_SEC,
		.help = "How long a read or a transaction waits for a database that is away, before it fails for now (451)." },
	{ .name = "outcome_wait",
		.type = ESP_CFG_TIME,
		.def_int = 60 * ESP_SEC,
		.min = ESP_SEC,
		.max = 600 * ESP_SEC,
		.help =
			"How long to find out whether a COMMIT whose answer was lost happened; a message whose fate stays unknown "
			"is refused for now, and may then come twice." },
	{ .name = "auto_migrate",
		.type = ESP_CFG_BOOL,
		.def_int = 1,
		.help = "Bring tables up to date at start; else `esp-server migrate` must." },
	{ .name = NULL } };
static const esp_offer provides[] = { { .id = SQL_SERVICE, .minor = 1 },
#if !IS_TARGET
	{ .id = "esp.textindex/1", .minor = 0 },
#endif
	{ .id = NULL } };
static const esp_module_ops ops = {
	.size = sizeof ops, .init = on_init, .start = on_start, .worker_start = on_worker_start,
	.worker_stop = on_worker_stop, .stop = on_stop,
};
ESP_MODULE(.name = "storage_" ENGINE, .version = "1.0", .summary = "SQL in a PostgreSQL database", .license = "MIT",
	.flags = IS_TARGET ? 0 : ESP_MODULE_MANDATORY, .provides = provides, .config = config, .ops = &ops);
