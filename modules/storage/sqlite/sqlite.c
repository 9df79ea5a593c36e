/* storage_sqlite - "esp.sql/1" over an embedded SQLite database.
 *
 * One private lane writes (writer.c); query.c reads.  WAL: readers never wait for the writer.  EXCLUSIVE: two
 * generations would be two writers.  "esp.textindex/1" stands beside it, in a file of its own (textindex.c).
 */
#include "migrate.h"
#include "sqlite.h"

#include <esp/command.h>

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WORKER_CACHE (64 << 10)    /* a few rows by key at a time, and each COMMIT of others empties it */

/* Built twice: storage_sqlite_target.so is the database that mail is moved to, beside the one in use. */
#ifdef ESP_SQL_TARGET
#define IS_TARGET   1
#define ENGINE      "sqlite_target"
#define SQL_SERVICE "esp.sql.target/1"
#else
#define IS_TARGET   0
#define ENGINE      "sqlite"
#define SQL_SERVICE "esp.sql/1"
#endif

static esp_status transact(const esp_sql *sql, const esp_sql_key *keys, uint32_t nkeys,
                           esp_status (*fn)(esp_tx *tx, void *arg), void *arg)
{
	struct sqlite *s = sqlite_of(sql);
	esp_status st;

	(void)keys;   /* one writer: nothing to lock */
	(void)nkeys;
	if (!pause_enter(&s->pause))
		return ESP_EUNAVAIL;
	st = writer_transact(&s->writer, fn, arg);
	pause_leave(&s->pause);
	return st;
}

static esp_status set_pause(const esp_sql *sql, int32_t on)
{
	struct sqlite *s = sqlite_of(sql);

	return pause_set(&s->core, &s->pause, on);
}

/* A pause outlives the generation that was asked for it: what was moved elsewhere must not be written to again. */
#define LEFT 1u   /* raise it with every change of the struct */
struct left { char path[1024]; int32_t paused; };

static void take_left(struct sqlite *s, esp_module *self)
{
	size_t len = 0;
	const struct left *l = s->core.host->take(self, LEFT, &len);

	if (l && len == sizeof *l && strncmp(l->path, s->path, sizeof l->path - 1) == 0)
		atomic_store(&s->pause.on, l->paused);
}

static void leave(struct sqlite *s, esp_module *self)
{
	struct left l = { .paused = atomic_load(&s->pause.on) };

	snprintf(l.path, sizeof l.path, "%s", s->path);
	s->core.host->leave(self, LEFT, &l, sizeof l);
}

/* --- migrations ------------------------------------------------------------------------------------------- */

struct lane_job { struct sqlite *s; struct migrate_job migrate; };

/* On a copy of the file, with the data there is. */
static int rehearse(struct sqlite *s, struct migrate_job *job)
{
	struct db_options o = s->options;
	struct db *db;
	char path[1100], sql[1200];
	int st;

	if (snprintf(path, sizeof path, "%.1000s.rehearsal", s->path) < 0)
		return ESP_EINVAL;
	(void)remove(path);
	snprintf(sql, sizeof sql, "VACUUM INTO '%s'", path);
	if (strchr(s->path, '\'') || db_script(s->writer.db, sql, job->err) != ESP_OK)
		return ESP_EIO;
	o.path = path;
	st = db_open(&o, &db, job->err);
	if (st == ESP_OK) {
		struct migrate_db copy = sqlite_migrate_db(db, s->writer.arena);
		st = migrate_run(&copy, job);
		db_close(db);
	}
	(void)remove(path);
	for (const char *const *tail = (const char *const[]){ "-wal", "-shm", NULL }; *tail; tail++) {
		snprintf(sql, sizeof sql, "%s%s", path, *tail);
		(void)remove(sql);
	}
	return st;
}

static int32_t on_migrate_lane(void *arg)
{
	struct lane_job *job = arg;
	struct writer *w = &job->s->writer;
	struct migrate_db db = sqlite_migrate_db(w->db, w->arena);
	int st = job->migrate.kind == MIGRATE_REHEARSE ? rehearse(job->s, &job->migrate)
	                                               : migrate_run(&db, &job->migrate);

	w->core->mem->arena_reset(w->arena);
	return st;
}

static esp_status run_migrations(struct lane_job *job)
{
	const struct writer *w = &job->s->writer;
	int32_t result = ESP_OK;
	esp_status st = migrate_collect(w->core->host, &job->migrate);

	if (st == ESP_OK)
		st = w->core->pool->run(w->self, w->lane, on_migrate_lane, job, &result);
	return st == ESP_OK ? result : st;
}

static esp_status migrate(const esp_sql *sql, esp_err *err)
{
	struct lane_job job = { sqlite_of(sql), { .err = err, .target = IS_TARGET } };

	job.migrate.kind = migrate_at_start(sqlite_of(sql)->auto_migrate, &job.migrate.automatic);
	return run_migrations(&job);
}

static esp_status on_migrate(esp_module *self, esp_command_call *call)
{
	struct sqlite *s = self->state;
	struct lane_job job = { s, { .kind = MIGRATE_UP, .automatic = 1, .err = call->err } };
	esp_status st = migrate_words(call, &job.migrate);

	if (st == ESP_OK)
		st = run_migrations(&job);
	return st == ESP_OK ? migrate_list(&s->table, &job.migrate, call) : st;
}

static const esp_command migrate_command = {
	.size = sizeof(esp_command), .words = "migrate", .usage = MIGRATE_USAGE, .help = MIGRATE_HELP, .run = on_migrate,
};

/* --- life ------------------------------------------------------------------------------------------------- */

static esp_status declare_metrics(struct writer *w)
{
	const esp_metric_api *m = w->metric;
	esp_status st = m->declare(w->self, ESP_COUNTER, "esp_sql_commits_total", "engine=\"" ENGINE "\"",
		"COMMITs that reached the disk", NULL, 0, &w->commits);

	if (st == ESP_OK)
		st = m->declare(w->self, ESP_COUNTER, "esp_sql_transactions_total", "engine=\"" ENGINE "\"",
			"Transactions inside those COMMITs", NULL, 0, &w->transactions);
	if (st == ESP_OK)
		st = m->declare(w->self, ESP_COUNTER, "esp_sql_retries_total", "engine=\"" ENGINE "\"",
			"Transactions run again alone after their batch failed", NULL, 0, &w->retries);
	if (st == ESP_OK)
		st = timing_declare_sql(m, w->self, "engine=\"" ENGINE "\"", &w->seconds);
	return st;
}

/* A path of the configuration, relative to the data directory. */
static char *file_path(esp_module *self, esp_str name)
{
	const char *dir = self->host->data_dir();
	size_t size = strlen(dir) + name.len + 2;
	int absolute = name.ptr[0] == '/';
	char *path = esp_alloc(self->host->arena(self), size);

	if (path)
		snprintf(path, size, "%s%s%.*s", absolute ? "" : dir, absolute ? "" : "/", ESP_FMT(name));
	return path;
}

static esp_status on_init(esp_module *self, const esp_cfg *cfg, esp_err *err)
{
	esp_arena *arena = self->host->arena(self);
	struct sqlite *s = esp_alloc(arena, sizeof *s);
	char *texts;

	esp_core_init(&s->core, self);
	self->state = s;
	s->path = file_path(self, s->core.cfg->string(cfg, "path"));
	texts = file_path(self, s->core.cfg->string(cfg, "index_path"));
	s->texts = s->path && texts ? textindex_new(&s->core, self, texts, s->core.cfg->integer(cfg, "cache")) : NULL;
	if (!s->texts)
		return ESP_ENOMEM;
	s->options = (struct db_options){ .path = s->path,
		.cache_bytes = s->core.cfg->integer(cfg, "cache"),
		.mmap_bytes = s->core.cfg->integer(cfg, "mmap"),
		.busy_ms = (int)(s->core.cfg->integer(cfg, "busy_timeout") / ESP_MSEC),
		.writer = 1,
		.trouble = &s->trouble };
	s->trouble.core = &s->core;
	s->trouble.self = self;
	s->auto_migrate = s->core.cfg->boolean(cfg, "auto_migrate");
	s->nreaders = (uint32_t)s->core.cfg->integer(cfg, "readers");
	s->nworkers = s->core.loop->workers();
	s->worker = esp_alloc_array(arena, s->nworkers, sizeof(struct db *));
	s->writer.core = &s->core;
	s->writer.self = self;
	s->writer.checkpoint.core = &s->core;
	s->writer.checkpoint.self = self;
	s->writer.metric = self->host->core("esp.metric/1", 0);
	if (declare_metrics(&s->writer) != ESP_OK ||
		(!IS_TARGET && self->host->contribute(self, "esp.command/1", &migrate_command) != ESP_OK)) {
		snprintf(err->text, sizeof err->text, "cannot declare metrics and commands");
		return ESP_ENOMEM;
	}
	s->table = (esp_sql){ .service = { .size = sizeof(esp_sql), .minor = 1, .provider = self },
	                      .query = sqlite_query, .transact = transact, .migrate = migrate, .read = sqlite_read,
	                      .check = sqlite_check, .pause = set_pause, .engine = "sqlite" };
	if (!IS_TARGET && self->host->provide(self, "esp.textindex/1", textindex_service(s->texts)) != ESP_OK)
		return ESP_ENOMEM;
	return self->host->provide(self, SQL_SERVICE, &s->table.service);
}

/* --- opening ---------------------------------------------------------------------------------------------- */

#define LOOK_MS     250
#define WAIT_MOST   (20 * ESP_SEC)   /* then the reason is worth more than another try */

/* The writer's connection, when nobody else writes at this moment. */
static int open_writer(const struct db_options *o, const char *vfs, struct db **ret, esp_err *err)
{
	struct db_options look = *o;
	struct db *db;
	int st;

	look.busy_ms = o->busy_ms < LOOK_MS ? o->busy_ms : LOOK_MS;
	look.vfs = vfs;
	st = db_open(&look, &db, err);
	if (st != ESP_OK)
		return st;
	st = db_script(db, "BEGIN IMMEDIATE; ROLLBACK", err);
	if (st != ESP_OK) {
		db_close(db);
		return st;
	}
	(void)sqlite3_busy_timeout(db->handle, o->busy_ms);
	*ret = db;
	return ESP_OK;
}

/* A backup script or a forgotten shell holds it: say so at once, for the administrator waits too. */
static int wait_for_writer(struct sqlite *s, esp_err *err)
{
	const esp_core *core = &s->core;
	esp_nsec begun = core->loop->clock(), most = 4 * s->options.busy_ms * ESP_MSEC;
	const char *vfs = vfs_add(&s->writer.vfs) == SQLITE_OK ? s->writer.vfs.name : NULL;
	int told = 0, st;

	if (most > WAIT_MOST)
		most = WAIT_MOST;
	while ((st = open_writer(&s->options, vfs, &s->writer.db, err)) == ESP_EBUSY &&
		   core->loop->clock() < begun + most) {
		if (!told++)
			esp_log(core->log, s->writer.self, ESP_LOG_WARNING, "the database is locked: waiting for it",
				ESP_FSTR("reason", ((esp_str){ err->text, strlen(err->text) })), ESP_FNSEC("most", most));
	}
	if (st == ESP_OK && told)
		esp_log(core->log, s->writer.self, ESP_LOG_NOTICE, "the database is free",
			ESP_FNSEC("waited", core->loop->clock() - begun));
	return st;
}

struct open_job { struct sqlite *s; esp_err *err; };

static int32_t on_open(void *arg)
{
	struct open_job *job = arg;
	struct sqlite *s = job->s;
	struct db_options o = s->options;
	int st = wait_for_writer(s, job->err);
	struct db *db;

	if (st == ESP_OK)
		st = checkpoint_open(&s->writer.checkpoint, &o, s->writer.db, job->err);
	o.writer = 0;
	o.cache_bytes = db_cache(&o, SQLITE_READER_CACHE);
	for (uint32_t i = 0; st == ESP_OK && i < s->nreaders; i++)
		if ((st = db_open(&o, &db, job->err)) == ESP_OK)
			atomic_store(&s->reader[i], db);
	return st;
}

static esp_status on_start(esp_module *self, esp_err *err)
{
	struct sqlite *s = self->state;
	struct open_job job = { s, err };
	esp_err said = ESP_ERR_INIT;
	int32_t result = ESP_OK;
	esp_status st;

	take_left(s, self);
	s->writer.lane = s->core.pool->open(self, "sqlite-write", 1, 65536);
	s->writer.checkpoint.lane = s->core.pool->open(self, "sqlite-wal", 1, 2);
	s->read_lane = s->core.pool->open(self, "sqlite-read", s->nreaders, 65536);
	s->long_lane = s->core.pool->open(self, "sqlite-long", 2, 64);
	s->writer.arena = s->core.mem->arena_new(self, "sqlite-tx", 2 * (size_t)DB_BYTES_MAX);
	if (!s->writer.lane || !s->writer.checkpoint.lane || !s->read_lane || !s->long_lane || !s->writer.arena) {
		snprintf(err->text, sizeof err->text, "no memory for the lanes");
		return ESP_ENOMEM;
	}
	writer_start(&s->writer);
	db_init();
	st = s->core.pool->run(self, s->writer.lane, on_open, &job, &result);
	if (st == ESP_OK)
		st = result;
	if (st != ESP_OK)
		return st;
	if (!IS_TARGET && textindex_open(s->texts, &said) != ESP_OK)   /* mail comes first: searches read messages then */
		esp_log(s->core.log, self, ESP_LOG_ERROR, "there is no search index",
			ESP_FSTR("reason", ((esp_str){ said.text, strlen(said.text) })));
	return migrate(&s->table, err);
}

static esp_status on_worker_start(esp_module *self, esp_worker *w)
{
	struct sqlite *s = self->state;
	struct db_options o = s->options;

	o.writer = 0;
	o.cache_bytes = db_cache(&o, WORKER_CACHE);
	o.mmap_bytes = 0;          /* a map is made anew after each COMMIT of others, which costs more than a few rows */
	return db_open(&o, &s->worker[s->core.loop->index(w)], NULL);
}

static void on_worker_stop(esp_module *self, esp_worker *w)
{
	struct sqlite *s = self->state;

	db_close(s->worker[s->core.loop->index(w)]);
	s->worker[s->core.loop->index(w)] = NULL;
}

static int32_t on_close(void *arg)
{
	struct sqlite *s = arg;

	for (uint32_t i = 0; i < s->nreaders; i++)
		db_close(atomic_exchange(&s->reader[i], NULL));
	checkpoint_close(&s->writer.checkpoint);
	db_close(s->writer.db);   /* last: the last connection checkpoints the WAL */
	s->writer.db = NULL;
	return ESP_OK;
}

static void on_stop(esp_module *self)
{
	struct sqlite *s = self->state;

	if (!s)
		return;
	if (s->texts && !IS_TARGET)
		textindex_close(s->texts);
	if (s->writer.lane && s->core.pool->run(self, s->writer.lane, on_close, s, NULL) != ESP_OK)
		on_close(s);
	vfs_remove(&s->writer.vfs);
	if (s->writer.arena)
		s->core.mem->arena_free(s->writer.arena);
	leave(s, self);
}

static const esp_cfg_item config[] = { { .name = "path",
										   .type = ESP_CFG_STRING,
										   .def_str = "esp.db",
										   .min = 1,
										   .max = 900,
										   .help = "Database file; relative to server.path." },
	{ .name = "index_path",
		.type = ESP_CFG_STRING,
		.def_str = "search.db",
		.min = 1,
		.max = 900,
		.help = "File of the search index; relative to server.path. It can be deleted while the server is stopped and "
				"is then made anew." },
	{ .name = "cache",
		.type = ESP_CFG_SIZE,
		.def_int = 64 << 20,
		.min = 1 << 20,
		.max = INT64_C(1) << 36,
		.help = "Page cache of the writer, emptied once a second while it writes; those that read have at most 8 MiB "
				"each, those of the workers 64 KiB, and none more than this." },
	{ .name = "mmap",
		.type = ESP_CFG_SIZE,
		.def_int = 256 << 20,
		.max = INT64_C(1) << 40,
		.help = "Part of the file that is read through a memory map; 0 switches it off." },
	{ .name = "busy_timeout",
		.type = ESP_CFG_TIME,
		.def_int = 5 * ESP_SEC,
		.max = 60 * ESP_SEC,
		.help = "How long to wait for another program that holds the database; at start four times as long, at most "
				"20 seconds." },
	{ .name = "readers",
		.type = ESP_CFG_INT,
		.def_int = 4,
		.min = 1,
		.max = SQLITE_READERS_MAX,
		.help = "Threads for reads of more than a few rows." },
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
ESP_MODULE(.name = "storage_" ENGINE, .version = "1.0", .summary = "SQL in an embedded SQLite database",
	.license = "MIT", .flags = ESP_MODULE_EXCLUSIVE | (IS_TARGET ? 0 : ESP_MODULE_MANDATORY), .provides = provides,
	.config = config, .ops = &ops);
