/* storage_mailstore - "esp.mailstore/1": mailboxes, messages, flags, quota, views, search.
 *
 * This file is the module: its table, its life, its configuration.  Tables are in migrations.c; writes in deliver.c,
 * message.c, copy.c, mailbox.c, rename.c and account.c over op.c, rows.c and mark.c; reads in fetch.c and search.c;
 * views in view.c, refresh.c and home.c; index.c fills the search index; nodes.c talks to other servers; fsck*.c
 * compare with the disk.  All calls run
 * in fibers of workers, deliver() in the caller's transaction, delivered() anywhere.  EXCLUSIVE: a mailbox has one home
 * on a node. Errors: ESP_ENOENT what the actor may not see; ESP_EUNAVAIL no database; else what sql and blob answer.
 */
#include "index.h"
#include "nodes.h"
#include "modules/common/migrate.h"

#include <stdio.h>
#include <stdlib.h>

struct mailstore *store_of(const esp_mailstore *s)
{
	struct mailstore *m = (struct mailstore *)(uintptr_t)s;

	if (m->magic != STORE_MAGIC)
		abort();
	return m;
}

esp_status store_query(const struct mailstore *m, uint32_t flags, esp_arena *a, const char *stmt,
                       const esp_sql_value *args, uint32_t nargs, esp_sql_rows *ret)
{
	const esp_sql *sql = store_sql(m);

	return sql ? sql->query(sql, flags, a, stmt, args, nargs, ret) : ESP_EUNAVAIL;
}

static const esp_mailstore table = {
	.service = { .size = sizeof(esp_mailstore), .minor = 1 },
	.list = mailbox_list,
	.find = mailbox_find,
	.create = mailbox_create,
	.remove = mailbox_remove,
	.rename = mailbox_rename,
	.subscribe = mailbox_subscribe,
	.sync = view_sync,
	.sync_to = view_sync_to,
	.claim_recent = mailbox_claim_recent,
	.fetch = message_fetch,
	.prepare = message_prepare,
	.append = message_append,
	.store = message_store,
	.copy = message_copy,
	.expunge = message_expunge,
	.search = message_search,
	.set_quota = quota_set,
	.quota = quota_get,
	.target = message_target,
	.deliver = message_deliver,
	.delivered = view_delivered,
	.thread = message_thread,
	.settle = settle_all,
};

static esp_status bind_all(struct mailstore *m)
{
	const esp_host *host = m->core.host;
	esp_status st = host->bind(m->self, "esp.sql/1", &m->sql);

	if (st == ESP_OK)
		st = host->bind(m->self, "esp.blob/1", &m->blob);
	if (st == ESP_OK)
		st = host->bind(m->self, "esp.eventlog/1", &m->eventlog);
	if (st == ESP_OK)
		st = host->bind(m->self, "esp.directory/1", &m->directory);
	if (st == ESP_OK)
		st = host->bind(m->self, "esp.textindex/1", &m->textindex);
	return st;
}

static void read_limits(struct mailstore *m, const esp_cfg *cfg)
{
	const esp_config_api *c = m->core.cfg;

	m->limits = (struct limits){ .mailboxes = (uint32_t)c->integer(cfg, "max_mailboxes"),
		.view_bytes = (uint64_t)c->integer(cfg, "view_memory"), .view_idle = c->integer(cfg, "view_idle"),
		.account_ttl = c->integer(cfg, "account_ttl"), .store_rows = (uint32_t)c->integer(cfg, "store_rows"),
		.store_delay = c->integer(cfg, "store_delay") };
}

static esp_status on_init(esp_module *self, const esp_cfg *cfg, esp_err *err)
{
	const esp_host *host = self->host;
	struct mailstore *m = esp_alloc(host->arena(self), sizeof *m);
	esp_status st;

	if (!m)
		return ESP_ENOMEM;
	m->magic = STORE_MAGIC;
	m->self = self;
	m->table = table;
	m->table.service.provider = self;
	esp_core_init(&m->core, self);
	m->topic = host->core("esp.topic/1", 0);
	m->event = host->core("esp.event/1", 0);
	m->crypto = host->core("esp.crypto/1", 0);
	m->metric = host->core("esp.metric/1", 0);
	m->lane = m->core.pool->lane("misc");
	m->sync_lane = m->core.pool->lane("sync");
	read_limits(m, cfg);
	m->nworkers = m->core.loop->workers();
	m->home = esp_alloc_array(host->arena(self), m->nworkers, sizeof *m->home);
	m->indexer = esp_alloc_array(host->arena(self), m->nworkers, sizeof *m->indexer);
	m->marking = esp_alloc_array(host->arena(self), MARK_SLOTS, sizeof *m->marking);
	self->state = m;
	st = m->home && m->indexer && m->marking ? bind_all(m) : ESP_ENOMEM;
	if (st == ESP_OK)
		st = facts_declare(m);
	if (st == ESP_OK)
		st = nodes_new(m, m->core.cfg->integer(cfg, "hint_interval"));
	if (st == ESP_OK)
		st = settle_new(m);
	if (st == ESP_OK)
		st = index_declare(m);
	if (st == ESP_OK)
		st = fsck_declare(m);
	if (st == ESP_OK)
		st = host->contribute(self, "esp.sql.migrations/1", &mailstore_migrations);
	for (size_t i = 0; st == ESP_OK && i < sizeof mailstore_owners / sizeof mailstore_owners[0]; i++)
		st = host->contribute(self, "esp.blob.owner/1", &mailstore_owners[i]);
	if (st == ESP_OK)
		st = host->provide(self, "esp.mailstore/1", &m->table.service);
	if (st != ESP_OK)
		snprintf(err->text, sizeof err->text, "cannot bind services or declare events (%d)", st);
	return st;
}

static esp_status on_start(esp_module *self, esp_err *err)
{
	const esp_sql *sql = store_sql(self->state);

	return sql ? sql->migrate(sql, err) : ESP_EUNAVAIL;
}

static esp_status on_worker_start(esp_module *self, esp_worker *w)
{
	struct mailstore *m = self->state;
	uint32_t index = m->core.loop->index(w);
	esp_status st;

	if (migrate_only())
		return ESP_OK;
	st = home_start(m, index);
	if (st == ESP_OK)
		st = index_start(m, index);
	if (st == ESP_OK && index == 0)
		st = nodes_start(m);
	if (st == ESP_OK && index == 0)
		st = settle_start(m);
	if (st == ESP_OK && index == 0)
		st = purge_start(m);
	return st == ESP_OK && index == 0 ? merge_start(m) : st;
}

static void on_stop(esp_module *self)
{
	if (self->state)
		nodes_free(self->state);
}

static void on_worker_stop(esp_module *self, esp_worker *w)
{
	struct mailstore *m = self->state;

	index_stop(m, m->core.loop->index(w));
	home_stop(m, m->core.loop->index(w));
}

static void on_drain(esp_module *self, esp_nsec deadline)
{
	struct mailstore *m = self->state;

	(void)deadline;
	atomic_store(&m->draining, 1);
}

static void on_worker_drain(esp_module *self, esp_worker *w)
{
	struct mailstore *m = self->state;

	if (m->core.loop->index(w) != 0 || migrate_only())
		return;
	nodes_drain(m);
	settle_drain(m);
	purge_drain(m);
}

static const esp_cfg_item config[] = { { .name = "max_mailboxes",
										   .type = ESP_CFG_INT,
										   .def_int = 5000,
										   .min = 10,
										   .max = 20000,
										   .help = "Mailboxes an account may have." },
	{ .name = "view_memory",
		.type = ESP_CFG_SIZE,
		.def_int = 256 << 20,
		.min = 1 << 20,
		.max = INT64_C(1) << 40,
		.help = "Memory for views of mailboxes in use; the least recently used go first." },
	{ .name = "view_idle",
		.type = ESP_CFG_TIME,
		.def_int = 600 * ESP_SEC,
		.min = ESP_SEC,
		.max = 86400 * ESP_SEC,
		.help = "A view nobody asked for this long is dropped." },
	{ .name = "account_ttl",
		.type = ESP_CFG_TIME,
		.def_int = 60 * ESP_SEC,
		.min = ESP_SEC,
		.max = 3600 * ESP_SEC,
		.help = "How soon a changed quota of the directory is noticed." },
	{ .name = "store_rows",
		.type = ESP_CFG_INT,
		.def_int = 500,
		.min = 1,
		.max = 1000000,
		.help =
			"A STORE of so many messages or more is one entry of the change log at first; rows and file names follow "
			"after store_delay." },
	{ .name = "store_delay",
		.type = ESP_CFG_TIME,
		.def_int = ESP_SEC,
		.max = 60 * ESP_SEC,
		.help = "How long after such a STORE its rows and file names begin to follow." },
	{ .name = "hint_interval",
		.type = ESP_CFG_TIME,
		.def_int = 200 * ESP_MSEC,
		.max = 10 * ESP_SEC,
		.help = "How often servers on one database tell each other what changed; 0: never, they notice by themselves "
				"within a minute." },
	{ .name = NULL } };
static const esp_need needs[] = {
	{ .id = "esp.sql/1" }, { .id = "esp.blob/1" }, { .id = "esp.eventlog/1", .optional = 1 },
	{ .id = "esp.directory/1", .optional = 1 }, { .id = "esp.textindex/1", .optional = 1 }, { .id = NULL }
};
static const esp_offer provides[] = { { .id = "esp.mailstore/1", .minor = 1 }, { .id = NULL } };
static const esp_module_ops ops = {
	.size = sizeof ops,
	.init = on_init,
	.start = on_start,
	.worker_start = on_worker_start,
	.worker_stop = on_worker_stop,
	.drain = on_drain,
	.worker_drain = on_worker_drain,
	.stop = on_stop,
};
ESP_MODULE(.name = "storage_mailstore", .version = "1.0", .summary = "Mailboxes, messages, flags, quota and search",
           .license = "MIT", .flags = ESP_MODULE_EXCLUSIVE | ESP_MODULE_MANDATORY, .needs = needs, .provides = provides,
           .config = config, .ops = &ops);
