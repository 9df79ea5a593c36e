/* storage_maildir - "esp.blob/1": message files, durable in groups, with real Maildir++ folders beside them. */
#include "maildir.h"
#include "modules/common/migrate.h"
#include "modules/common/timing.h"
#include "modules/common/why.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static esp_status declare_metrics(struct maildir *m)
{
	static const struct { size_t at; const char *name, *help;
	} series[] = {
		{ offsetof(struct maildir, commits), "esp_blob_commits_total", "Messages made durable through the journal" },
		{ offsetof(struct maildir, syncs), "esp_blob_syncs_total", "fdatasyncs of the journal" },
		{ offsetof(struct maildir, large), "esp_blob_large_total", "Messages with a file and fsync of their own" },
		{ offsetof(struct maildir, jobs), "esp_blob_folder_jobs_total",
			"Links, unlinks and renames in Maildir++ folders" },
		{ offsetof(struct maildir, orphans), "esp_blob_orphans_total",
			"Message files that nobody named, moved to lost+found" },
		{ offsetof(struct maildir, returned), "esp_blob_orphans_returned_total",
			"Message files taken back from lost+found, because they are named after all" },
		{ offsetof(struct maildir, removed), "esp_blob_orphans_removed_total",
			"Message files removed from lost+found, their time being over" },
	};
	static const char *const sync_help =
		"Time of an fdatasync of the journal, or of a large message's file with its fsync";
	esp_status st = m->metric->declare(m->self, ESP_GAUGE, "esp_blob_lost_files", "",
		"Message files in lost+found, at the last look", NULL, 0, &m->lost_files);

	if (st == ESP_OK)
		st = timing_declare(
			m->metric, m->self, "esp_blob_sync_seconds", "file=\"journal\"", sync_help, &m->journal_seconds);
	if (st == ESP_OK)
		st =
			timing_declare(m->metric, m->self, "esp_blob_sync_seconds", "file=\"large\"", sync_help, &m->large_seconds);
	for (size_t i = 0; st == ESP_OK && i < sizeof series / sizeof series[0]; i++)
		st = m->metric->declare(m->self, ESP_COUNTER, series[i].name, "", series[i].help, NULL, 0,
		                        (esp_metric *)(void *)((char *)m + series[i].at));
	return st;
}

/* What waits for its removal has its own time. */
static const esp_blob_owner owner = { .size = sizeof owner, .named = ESP_BLOB_NAMED("blob_trash", "id") };

static esp_status on_init(esp_module *self, const esp_cfg *cfg, esp_err *err)
{
	esp_arena *arena = self->host->arena(self);
	struct maildir *m = esp_alloc(arena, sizeof *m);
	const char *dir = self->host->data_dir();
	esp_str path;
	esp_status st;

	esp_core_init(&m->core, self);
	m->self = self;
	m->root = m->blobs = m->tmp = m->lost = m->serving = -1;
	m->metric = self->host->core("esp.metric/1", 0);
	m->hostname = self->host->hostname();
	lease_init(&m->lease, &m->core, "folder jobs");
	path = m->core.cfg->string(cfg, "path");
	m->path = esp_alloc(arena, strlen(dir) + path.len + 2);
	snprintf(m->path, strlen(dir) + path.len + 2, "%s%s%.*s", path.ptr[0] == '/' ? "" : dir,
		path.ptr[0] == '/' ? "" : "/", ESP_FMT(path));
	m->journal_bytes = (uint64_t)m->core.cfg->integer(cfg, "journal") & ~UINT64_C(4095);
	m->journal_limit = (uint32_t)m->core.cfg->integer(cfg, "journal_limit");
	m->grace = m->core.cfg->integer(cfg, "grace");
	m->sweep_every = m->core.cfg->integer(cfg, "sweep");
	m->orphan_grace = m->core.cfg->integer(cfg, "orphan_grace");
	m->lost_keep = m->core.cfg->integer(cfg, "lost_keep");
	m->table = (esp_blob){ .service = { .size = sizeof(esp_blob), .minor = 1, .provider = self },
		.put = put_blob,
		.open = file_open,
		.close_file = file_close,
		.job = folder_job,
		.kick = folder_kick,
		.remove = folder_remove,
		.discard = file_discard,
		.hold = folder_hold,
		.keep = folder_keep,
		.mark = mark_write, .accounts = scan_accounts, .folders = scan_folders, .links = scan_links,
		.sizes = scan_sizes, .take = take_file, .settle = folder_settle, .stopped = stopped_when,
		.merged = stopped_merged, .jobs = folder_jobs, .moves = folder_moves, .sweep = sweep,
		.descriptor = file_descriptor, .read_at = file_read_at };
	self->state = m;
	st = self->host->bind(self, "esp.sql/1", &m->sql);
	if (st == ESP_OK)
		st = declare_metrics(m);
	if (st == ESP_OK)
		st = self->host->contribute(self, "esp.sql.migrations/1", &maildir_migrations);
	if (st == ESP_OK)
		st = self->host->contribute(self, "esp.blob.owner/1", &owner);
	if (st == ESP_OK)
		st = self->host->provide(self, "esp.blob/1", &m->table.service);
	if (st != ESP_OK)
		snprintf(err->text, sizeof err->text, "cannot register: %s", why(st));
	return st;
}

struct open_job { struct maildir *m; esp_err *err; };

static int32_t on_open(void *arg)
{
	struct open_job *job = arg;
	esp_status st = root_check(job->m, job->err);

	if (st == ESP_OK)
		st = file_prepare(job->m, job->err);
	if (st == ESP_OK)
		st = stopped_take(job->m);
	return st == ESP_OK ? journal_open(job->m, job->err) : st;
}

/* For the next generation: what callers asked for outlives the one they asked. */
#define LEFT 1u   /* raise it with every change of the struct */
struct left { char path[1024]; int32_t held; esp_time stopped_at; };

static void take_left(struct maildir *m)
{
	size_t len = 0;
	const struct left *l = m->core.host->take(m->self, LEFT, &len);

	if (!l || len != sizeof *l || strncmp(l->path, m->path, sizeof l->path - 1) != 0)
		return;
	m->follows = 1;
	atomic_store(&m->held, l->held);
	m->stopped_at = l->stopped_at;
}

static void leave(const struct maildir *m)
{
	struct left l = { .held = atomic_load(&m->held), .stopped_at = m->stopped_at };

	snprintf(l.path, sizeof l.path, "%s", m->path);
	m->core.host->leave(m->self, LEFT, &l, sizeof l);
}

static esp_status on_start(esp_module *self, esp_err *err)
{
	struct maildir *m = self->state;
	const esp_sql *sql = (const esp_sql *)self->host->service(self, m->sql);
	struct open_job job = { m, err };
	int32_t result = ESP_OK;
	esp_status st = sql ? sql->migrate(sql, err) : ESP_EUNAVAIL;

	if (st != ESP_OK || migrate_only())
		return st;
	take_left(m);
	m->sync_lane = m->core.pool->lane("sync");
	m->folder_lane = m->core.pool->open(self, "maildir-folders", 1, 64);
	if (!m->folder_lane)
		return ESP_ENOMEM;
	st = root_ask(m, sql);
	if (st == ESP_OK)
		st = m->core.pool->run(self, m->folder_lane, on_open, &job, &result);
	if (st == ESP_OK)
		st = result;
	if (st == ESP_OK)
		st = root_note(m, sql);
	if (st == ESP_OK)
		st = stopped_compare(m, sql);
	if (st == ESP_OK)
		st = place_start(m);
	return st == ESP_OK ? journal_start(m) : st;
}

static esp_status on_worker_start(esp_module *self, esp_worker *w)
{
	struct maildir *m = self->state;
	esp_status st;

	if (m->core.loop->index(w) != 0 || migrate_only())
		return ESP_OK;
	st = m->core.fiber->spawn(self, 0, "folder jobs", folder_fiber, m, NULL);
	return st == ESP_OK ? m->core.fiber->spawn(self, 0, "orphan sweep", sweep_fiber, m, NULL) : st;
}

static void on_worker_drain(esp_module *self, esp_worker *w)
{
	struct maildir *m = self->state;

	if (m->core.loop->index(w) == 0)
		folder_drain(m);
}

static int32_t on_close(void *arg)
{
	struct maildir *m = arg;

	journal_close(m);
	stopped_leave(m);
	for (int *const *fd = (int *const[]){ &m->lost, &m->tmp, &m->blobs, &m->root, NULL }; *fd; fd++) {
		if (**fd >= 0)
			(void)close(**fd);
		**fd = -1;
	}
	return ESP_OK;
}

static void on_stop(esp_module *self)
{
	struct maildir *m = self->state;

	if (!m)
		return;
	if (!m->folder_lane || m->core.pool->run(self, m->folder_lane, on_close, m, NULL) != ESP_OK)
		on_close(m);
	leave(m);
}

static const esp_cfg_item config[] = { { .name = "path",
										   .type = ESP_CFG_STRING,
										   .def_str = "/var/mail/esp",
										   .min = 1,
										   .max = 400,
										   .help = "Root of blobs and Maildir++ folders; relative to server.path." },
	{ .name = "journal",
		.type = ESP_CFG_SIZE,
		.def_int = 32 << 20,
		.min = 4 << 20,
		.max = INT64_C(1) << 32,
		.help = "Size of each of the two journal segments." },
	{ .name = "journal_limit",
		.type = ESP_CFG_SIZE,
		.def_int = 256 << 10,
		.min = 4096,
		.max = JOURNAL_ENTRY_MAX,
		.help = "Larger messages get a file and an fsync of their own." },
	{ .name = "grace",
		.type = ESP_CFG_TIME,
		.def_int = 86400 * ESP_SEC,
		.max = 365 * 86400 * ESP_SEC,
		.help = "How long the file of a removed message stays." },
	{ .name = "sweep",
		.type = ESP_CFG_TIME,
		.def_int = 6 * 3600 * ESP_SEC,
		.max = 365 * 86400 * ESP_SEC,
		.help = "How often message files that no row names (a crash leaves them) are looked for; 0: never." },
	{ .name = "orphan_grace",
		.type = ESP_CFG_TIME,
		.def_int = 86400 * ESP_SEC,
		.min = ESP_SEC,
		.max = 365 * 86400 * ESP_SEC,
		.help = "How old such a file must be before it goes to .lost+found; longer than any message is on its way." },
	{ .name = "lost_keep",
		.type = ESP_CFG_TIME,
		.def_int = 30 * 86400 * ESP_SEC,
		.min = ESP_SEC,
		.max = 3650 * 86400 * ESP_SEC,
		.help = "How long it stays in .lost+found before it is removed." },
	{ .name = NULL } };
static const esp_need needs[] = { { .id = "esp.sql/1" }, { .id = NULL } };
static const esp_offer provides[] = { { .id = "esp.blob/1", .minor = 1 }, { .id = NULL } };
static const esp_module_ops ops = { .size = sizeof ops,
	.init = on_init,
	.start = on_start,
	.worker_start = on_worker_start,
	.worker_drain = on_worker_drain,
	.stop = on_stop };
ESP_MODULE(.name = "storage_maildir", .version = "1.0", .summary = "Message files and Maildir++ folders",
	.license = "MIT", .flags = ESP_MODULE_EXCLUSIVE | ESP_MODULE_MANDATORY, .needs = needs, .provides = provides,
	.config = config, .ops = &ops);
