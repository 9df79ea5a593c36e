/* delivery_accept - "esp.accept/1": the one door for mail.
 *
 * Everything that brings a message in (SMTP, LMTP, submission, API) comes through deliver(): blob durable, one
 * transaction, COMMIT acknowledged, and only then the reply may be 250.  What a crash leaves before COMMIT is a blob
 * nobody names: it is in nobody's view, and its space comes back with the next sweep of esp.blob/1.
 */
#include "accept.h"
#include "modules/common/migrate.h"
#include "modules/common/why.h"

#include <stdio.h>
#include <stdlib.h>

static const esp_sql_migration migrations[] = {
	{ .number = 1,
		.title = "quarantine",
		.up = "CREATE TABLE quarantine (id BLOB NOT NULL PRIMARY KEY, account_id BLOB NOT NULL, blob_id BLOB NOT NULL,"
			  " bytes BIGINT NOT NULL, sender TEXT NOT NULL, recipient TEXT NOT NULL, folder TEXT NOT NULL, reason "
			  "TEXT NOT NULL,"
			  " at BIGINT NOT NULL);\n"
			  "CREATE INDEX quarantine_account ON quarantine (account_id, at)",
		.down = "DROP TABLE quarantine" },
	{ .number = 2,
		.title = "quarantine by age and by message file",
		.up = "CREATE INDEX quarantine_at ON quarantine (at);\n"
			  "CREATE INDEX quarantine_blob ON quarantine (blob_id)",
		.down = "DROP INDEX quarantine_blob;\nDROP INDEX quarantine_at" },
	{ .number = 3,
		.title = "traces of messages",
		.up = "CREATE TABLE trace (id BLOB NOT NULL PRIMARY KEY, outcome TEXT NOT NULL, sender TEXT NOT NULL,"
			  " recipients BIGINT NOT NULL, shadow BIGINT NOT NULL, calls TEXT NOT NULL);\n"
			  "CREATE INDEX trace_shadow ON trace (id) WHERE shadow <> 0",
		.down = "DROP TABLE trace" },
	{ .number = 4,
		.title = "the message of what is held, for its trace",
		.up = "ALTER TABLE quarantine ADD COLUMN message_id BLOB",
		.down = "ALTER TABLE quarantine DROP COLUMN message_id" },
};
static const esp_sql_migrations migration_set = {
	.size = sizeof migration_set, .item_size = sizeof migrations[0], .n = sizeof migrations / sizeof migrations[0],
	.module = "delivery_accept", .items = migrations,
};

static const esp_blob_owner owner = { .size = sizeof owner, .named = ESP_BLOB_NAMED("quarantine", "blob_id") };

static const esp_event_field event_fields[] = {
	{ .key = "message", .type = ESP_F_ID, .help = "id of the message" },
	{ .key = "from", .type = ESP_F_STR, .help = "envelope sender" },
	{ .key = "to", .type = ESP_F_STR, .help = "envelope recipient" },
	{ .key = "bytes", .type = ESP_F_INT, .help = "size as stored" },
	{ .key = "why", .type = ESP_F_STR, .help = "released, deleted (by the administrator) or expired" },
};
#define NFIELDS (sizeof event_fields / sizeof event_fields[0])

static esp_status declare_events(struct accept *a)
{
	/* "why" is of those that end a quarantine */
	const struct { const char *name, *help; uint32_t n; esp_event_id *ret; } all[] = {
		{ "message.received", "A message was delivered to a mailbox", NFIELDS - 1, &a->received },
		{ "message.quarantined", "A message is held outside the mailboxes", NFIELDS - 1, &a->quarantined },
		{ "message.released", "A message that was held was delivered to a mailbox", NFIELDS, &a->released },
		{ "message.discarded", "A message that was held was removed", NFIELDS, &a->discarded },
	};
	esp_status st = ESP_OK;

	for (size_t i = 0; st == ESP_OK && i < sizeof all / sizeof all[0]; i++)
		st = a->event->declare(a->self, all[i].name, all[i].help, event_fields, all[i].n, sizeof event_fields[0],
		                       all[i].ret);
	return st;
}

static esp_status declare_metrics(struct accept *a)
{
	static const char *const labels[COPY_OUTCOMES] = { [COPY_STORED] = "outcome=\"stored\"",
		[COPY_HELD] = "outcome=\"held\"", [COPY_DISCARDED] = "outcome=\"discarded\"",
		[COPY_RELEASED] = "outcome=\"released\"" };
	esp_status st = ESP_OK;

	for (uint32_t i = 0; st == ESP_OK && i < COPY_OUTCOMES; i++)
		st = a->metric->declare(a->self, ESP_COUNTER, "esp_accept_copies_total", labels[i],
			"Recipients' copies of accepted messages: stored in a mailbox, held in quarantine, discarded; released: "
			"stored after they were held", NULL, 0, &a->copies[i]);
	return st;
}

static esp_status bind_services(struct accept *a)
{
	const esp_host *host = a->core.host;
	esp_status st = host->bind(a->self, "esp.sql/1", &a->sql);

	if (st == ESP_OK)
		st = host->bind(a->self, "esp.blob/1", &a->blob);
	if (st == ESP_OK)
		st = host->bind(a->self, "esp.mailstore/1", &a->mailstore);
	if (st == ESP_OK)
		st = host->bind(a->self, "esp.eventlog/1", &a->eventlog);
	if (st == ESP_OK)
		st = host->bind(a->self, "esp.directory/1", &a->directory);
	return st;
}

static esp_status on_init(esp_module *self, const esp_cfg *cfg, esp_err *err)
{
	struct accept *a = esp_alloc(self->host->arena(self), sizeof *a);
	esp_status st;

	esp_core_init(&a->core, self);
	a->self = self;
	a->crypto = self->host->core("esp.crypto/1", 0);
	a->event = self->host->core("esp.event/1", 0);
	a->hook = self->host->core("esp.hook/1", 0);
	a->metric = self->host->core("esp.metric/1", 0);
	a->slots = self->host->core("esp.slot/1", 0);
	a->keep = a->core.cfg->integer(cfg, "quarantine_keep");
	a->trace_keep = a->core.cfg->integer(cfg, "trace_keep");
	a->nworkers = a->core.loop->workers();
	a->held = calloc((size_t)a->nworkers * ACCEPT_BUCKETS, sizeof(struct reservation *));
	a->table = (esp_accept){ .service = { .size = sizeof(esp_accept), .minor = 0, .provider = self },
	                         .deliver = deliver, .reserve = reserve, .refused = refused };
	self->state = a;
	st = a->held ? declare_events(a) : ESP_ENOMEM;
	if (st == ESP_OK)
		st = declare_metrics(a);
	if (st == ESP_OK)
		st = bind_services(a);
	if (st == ESP_OK)
		st = self->host->contribute(self, "esp.sql.migrations/1", &migration_set);
	if (st == ESP_OK)
		st = self->host->contribute(self, "esp.blob.owner/1", &owner);
	if (st == ESP_OK)
		st = self->host->provide(self, "esp.accept/1", &a->table.service);
	if (st == ESP_OK)
		st = quarantine_declare(a);
	if (st == ESP_OK)
		st = record_declare(a);
	if (st == ESP_OK)
		st = explain_declare(a);
	if (st != ESP_OK)
		snprintf(err->text, sizeof err->text, "cannot register: %s", why(st));
	return st;
}

static esp_status on_start(esp_module *self, esp_err *err)
{
	struct accept *a = self->state;
	const esp_sql *sql = (const esp_sql *)self->host->service(self, a->sql);

	return sql ? sql->migrate(sql, err) : ESP_EUNAVAIL;
}

static esp_status on_worker_start(esp_module *self, esp_worker *w)
{
	struct accept *a = self->state;

	return a->core.loop->index(w) != 0 || migrate_only() ? ESP_OK : sweep_start(a);
}

static void on_worker_drain(esp_module *self, esp_worker *w)
{
	struct accept *a = self->state;

	if (a->core.loop->index(w) == 0)
		sweep_drain(a);
}

static void on_stop(esp_module *self)
{
	if (self->state)
		reservations_free(self->state);
}

static const esp_need needs[] = { { .id = "esp.sql/1" }, { .id = "esp.blob/1" }, { .id = "esp.mailstore/1" },
	{ .id = "esp.directory/1" }, { .id = "esp.eventlog/1", .optional = 1 }, { .id = NULL } };
static const esp_offer provides[] = { { .id = "esp.accept/1" }, { .id = NULL } };
static const esp_cfg_item config[] = {
	{ .name = "quarantine_keep",
		.type = ESP_CFG_TIME,
		.def_int = 30 * 86400 * ESP_SEC,
		.min = 0,
		.max = 3650 * 86400 * ESP_SEC,
		.help = "How long a message is held in quarantine before it is removed; 0: until an "
				"administrator releases or deletes it." },
	{ .name = "trace_keep",
		.type = ESP_CFG_TIME,
		.def_int = 30 * 86400 * ESP_SEC,
		.min = 0,
		.max = 3650 * 86400 * ESP_SEC,
		.help = "How long is kept what hooks said of a message (`esp-cli trace`); 0s: nothing is." },
	{ .name = NULL }
};
static const esp_module_ops ops = { .size = sizeof ops, .init = on_init, .start = on_start,
	.worker_start = on_worker_start, .worker_drain = on_worker_drain, .stop = on_stop };
ESP_MODULE(.name = "delivery_accept", .version = "1.0", .summary = "The one door for mail: durable before 250",
	.license = "MIT", .flags = ESP_MODULE_MANDATORY, .needs = needs,
	.provides = provides, .config = config, .ops = &ops);
