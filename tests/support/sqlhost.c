/* tests/support/sqlhost.c - see sqlhost.h. */
#include "tests/support/sqlhost.h"

#include "core/base/arena.h"
#include "core/base/clock.h"
#include "core/base/id.h"
#include "core/base/rc.h"
#include "core/loop/pool.h"
#include "modules/storage/sqlite/migrate.h"

#include <esp/crypto.h>
#include <esp/metric.h>
#include <esp/topic.h>
#include <dirent.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct sqlhost *sqlhost;
extern const esp_module_desc esp_module_descriptor;

/* --- memory ------------------------------------------------------------------------------------------ */

static const esp_mem_api mem_api;
static esp_arena *mem_arena_new(esp_module *self, const char *label, size_t cap)
{
	(void)self;
	return arena_new(&mem_api, label, cap);
}
static const esp_mem_api mem_api = {
	.size = sizeof mem_api, .arena_new = mem_arena_new, .arena_free = arena_free, .arena_reset = arena_reset,
	.alloc = arena_alloc, .defer = arena_defer, .used = arena_used, .rc_new = rc_new, .rc_set_child = rc_set_child,
	.rc_child = rc_child, .rc_ref = rc_ref, .rc_unref = rc_unref,
};
esp_arena *sqlhost_arena(void) { return arena_new(&mem_api, "test", (size_t)256 << 20); }
void sqlhost_arena_free(esp_arena *a) { arena_free(a); }
void sqlhost_arena_reset(esp_arena *a) { arena_reset(a); }
void sqlhost_unref(const void *rc) { rc_unref((void *)(uintptr_t)rc); }

/* --- config ------------------------------------------------------------------------------------------ */

static int64_t cfg_integer(const esp_cfg *c, const char *key)
{
	(void)c;
	if (!strcmp(key, "max_mailboxes"))
		return sqlhost->max_mailboxes;
	if (!strcmp(key, "view_memory"))
		return sqlhost->view_memory;
	if (!strcmp(key, "view_idle"))
		return sqlhost->view_idle;
	if (!strcmp(key, "store_rows"))
		return sqlhost->store_rows;
	if (!strcmp(key, "retention"))
		return 86400 * ESP_SEC;
	if (!strcmp(key, "store_delay"))
		return 5 * ESP_MSEC;
	if (!strcmp(key, "hint_interval"))
		return 0;              /* tests count transactions */
	must(!strcmp(key, "account_ttl"));
	return sqlhost->account_ttl;
}
static const esp_config_api config_api = { .size = sizeof config_api, .integer = cfg_integer };

/* --- bus --------------------------------------------------------------------------------------------- */

static esp_status event_declare(esp_module *self, const char *name, const char *help, const esp_event_field *fields,
	uint32_t n, uint32_t field_size, esp_event_id *ret)
{
	(void)self;
	must(help && fields && n && field_size == sizeof *fields && sqlhost->nevents < SQLHOST_EVENTS);
	snprintf(sqlhost->event[sqlhost->nevents].name, sizeof sqlhost->event[0].name, "%s", name);
	ret->v = sqlhost->nevents++;
	return ESP_OK;
}
static int32_t event_wanted(esp_event_id id) { return id.v < sqlhost->nevents; }
static void event_publish(esp_module *self, esp_event_id id, const esp_field *fields, uint32_t n, uint32_t field_size)
{
	(void)self;
	must(id.v < sqlhost->nevents && fields && n && field_size == sizeof *fields);
	atomic_fetch_add(&sqlhost->event[id.v].count, 1);
}
static esp_status event_subscribe(esp_module *self, const esp_subscription *s)
{
	(void)self;
	must(s->pattern && s->on_events && sqlhost->nsubscriptions < 4);
	sqlhost->subscription[sqlhost->nsubscriptions++] = *s;
	return ESP_OK;
}
static const esp_event_api event_api = { .size = sizeof event_api,
	.declare = event_declare,
	.subscribe = event_subscribe,
	.wanted = event_wanted,
	.publish = event_publish };

uint32_t sqlhost_events(const char *name)
{
	for (uint32_t i = 0; i < sqlhost->nevents; i++)
		if (!strcmp(sqlhost->event[i].name, name))
			return atomic_load(&sqlhost->event[i].count);
	must(!"such an event is declared");
	return 0;
}

static void topic_publish(esp_id topic)
{
	(void)topic;
	atomic_fetch_add(&sqlhost->published, 1);
}
static const esp_topic_api topic_api = { .size = sizeof topic_api, .publish = topic_publish };

static esp_status crypto_digest(uint32_t algorithm, const void *data, size_t n, uint8_t *out)
{
	uint64_t h = 0xcbf29ce484222325u;

	must(algorithm == ESP_HASH_SHA256);
	for (size_t i = 0; i < n; i++)
		h = (h ^ ((const uint8_t *)data)[i]) * 0x100000001b3u;
	memset(out, 0, 32);
	memcpy(out, &h, sizeof h);
	return ESP_OK;
}
static const esp_crypto_api crypto_api = { .size = sizeof crypto_api, .digest = crypto_digest, .new_id = id_new };

/* Gauge 2 and counter 1 are the search index's. */
enum { METRIC_INDEXED = 1, METRIC_WAITING, METRIC_OTHER };
static atomic_llong index_waiting;
static esp_status metric_declare(esp_module *self, uint32_t type, const char *name, const char *labels,
	const char *help, const double *bounds, uint32_t nbounds, esp_metric *ret)
{
	(void)self, (void)type, (void)labels, (void)bounds, (void)nbounds;
	must(help && *help);
	ret->v = !strcmp(name, "esp_search_indexed_total") ? METRIC_INDEXED
		: !strcmp(name, "esp_search_waiting") ? METRIC_WAITING : METRIC_OTHER;
	return ESP_OK;
}
static void metric_add(esp_metric m, int64_t n)
{
	if (m.v == METRIC_INDEXED)
		atomic_fetch_add(&sqlhost->indexed, n);
	else if (m.v == METRIC_WAITING)
		atomic_fetch_add(&index_waiting, n);
}
static void metric_observe(esp_metric m, double v)
{
	(void)m;
	must(v >= 0);
}
static const esp_metric_api metric_api = {
	.size = sizeof metric_api, .declare = metric_declare, .add = metric_add, .observe = metric_observe
};

/* --- sql --------------------------------------------------------------------------------------------- */

struct tx { esp_tx pub; };
static esp_status tx_exec(esp_tx *tx, const char *stmt, const esp_sql_value *args, uint32_t nargs, esp_sql_rows *ret)
{
	esp_status st;

	atomic_fetch_add(&sqlhost->statements, 1);
	st = db_exec(sqlhost->writer, tx->arena, stmt, args, nargs, ret);
	if (st == ESP_EINVAL)
		fprintf(stderr, "sql: %s: %s\n", stmt, sqlite3_errmsg(sqlhost->writer->handle));
	return st;
}

struct tx_job { esp_status (*fn)(esp_tx *tx, void *arg); void *arg; };

static esp_status tx_once(struct tx_job *job, const char *end)
{
	esp_tx tx = { .exec = tx_exec, .arena = arena_new(&mem_api, "tx", (size_t)128 << 20) };
	esp_status st;

	must_ok(db_script(sqlhost->writer, "BEGIN IMMEDIATE", NULL));
	st = job->fn(&tx, job->arg);
	arena_free(tx.arena);
	must_ok(db_script(sqlhost->writer, st == ESP_OK ? end : "ROLLBACK", NULL));
	return st;
}

static int32_t on_tx(void *arg)
{
	atomic_fetch_add(&sqlhost->transactions, 1);
	if (atomic_load(&sqlhost->rerun) && tx_once(arg, "ROLLBACK") == ESP_OK)
		return tx_once(arg, "COMMIT");
	return tx_once(arg, "COMMIT");
}

static esp_status sql_transact(
	const esp_sql *sql, const esp_sql_key *keys, uint32_t nkeys, esp_status (*fn)(esp_tx *, void *), void *arg)
{
	struct tx_job job = { fn, arg };
	int32_t result = ESP_OK;
	esp_status st;

	(void)sql;
	must(nkeys ? keys[0].kind == ESP_SQL_KEY_ACCOUNT : !sqlhost->store);
	for (uint32_t i = 2; i < nkeys; i++)
		must(keys[i - 1].kind == keys[i].kind && id_cmp(keys[i - 1].id, keys[i].id) < 0);
	loop_fiber_api.shield(1);
	st = loop_pool_api.run(sqlhost->self, sqlhost->lane, on_tx, &job, &result);
	loop_fiber_api.shield(0);
	return st == ESP_OK ? result : st;
}

struct read_job { esp_arena *arena; const char *stmt; const esp_sql_value *args; uint32_t nargs; esp_sql_rows *ret; };

static int32_t on_read(void *arg)
{
	struct read_job *j = arg;
	esp_status st;

	pthread_mutex_lock(&sqlhost->read_lock);
	st = db_exec(sqlhost->reader, j->arena, j->stmt, j->args, j->nargs, j->ret);
	if (st == ESP_EINVAL)
		fprintf(stderr, "sql: %s: %s\n", j->stmt, sqlite3_errmsg(sqlhost->reader->handle));
	pthread_mutex_unlock(&sqlhost->read_lock);
	return st;
}

static esp_status sql_query(const esp_sql *sql, uint32_t flags, esp_arena *arena, const char *stmt,
	const esp_sql_value *args, uint32_t nargs, esp_sql_rows *ret)
{
	struct read_job job = { arena, stmt, args, nargs, ret };
	struct worker *w = worker_here();
	int32_t result = ESP_OK;
	esp_status st;

	(void)sql;
	if (flags & ESP_SQL_BOUNDED && w && w->kind == WORKER_MAIL)
		return db_exec(sqlhost->own[w->index], arena, stmt, args, nargs, ret);
	st = loop_pool_api.run(sqlhost->self, loop_pool_api.lane("misc"), on_read, &job, &result);
	return st == ESP_OK ? result : st;
}

static esp_status sql_migrate(const esp_sql *sql, esp_err *err)
{
	(void)sql;
	(void)err;
	return ESP_OK;             /* contributed(): done when they came */
}

static int64_t one_int(struct db *db, const char *stmt, const esp_sql_value *args, uint32_t nargs)
{
	esp_arena *a = sqlhost_arena();
	esp_sql_rows rows;
	int64_t v;

	must_ok(db_exec(db, a, stmt, args, nargs, &rows));
	must(rows.nrows == 1);
	v = esp_sql_at(&rows, 0, 0)->i;
	arena_free(a);
	return v;
}

int64_t sqlhost_int(const char *stmt, const esp_sql_value *args, uint32_t nargs)
{
	int64_t v;

	pthread_mutex_lock(&sqlhost->read_lock);
	v = one_int(sqlhost->reader, stmt, args, nargs);
	pthread_mutex_unlock(&sqlhost->read_lock);
	return v;
}

esp_sql_rows sqlhost_rows(esp_arena *a, const char *stmt, const esp_sql_value *args, uint32_t nargs)
{
	esp_sql_rows rows;

	pthread_mutex_lock(&sqlhost->read_lock);
	must_ok(db_exec(sqlhost->reader, a, stmt, args, nargs, &rows));
	pthread_mutex_unlock(&sqlhost->read_lock);
	return rows;
}

/* --- blob -------------------------------------------------------------------------------------------- */

esp_id sqlhost_blob_put(const char *data, size_t len)
{
	struct sqlhost_blob b = { .id = id_new(), .data = malloc(len + 1), .len = len };

	memcpy(b.data, data, len);
	pthread_mutex_lock(&sqlhost->blob_lock);
	must(sqlhost->nblobs < SQLHOST_BLOBS);
	sqlhost->blobs[sqlhost->nblobs++] = b;
	pthread_mutex_unlock(&sqlhost->blob_lock);
	return b.id;
}

static esp_status blob_open(const esp_blob *b, esp_id id, esp_blob_file *ret)
{
	const char *bad = atomic_load(&sqlhost->unreadable);
	esp_status st = ESP_ENOENT;

	(void)b;
	must(ret->size == sizeof *ret);
	pthread_mutex_lock(&sqlhost->blob_lock);
	for (uint32_t i = 0; i < sqlhost->nblobs; i++) {
		if (id_eq(sqlhost->blobs[i].id, id)) {
			ret->content = (esp_str){ sqlhost->blobs[i].data, sqlhost->blobs[i].len };
			st = bad && memmem(ret->content.ptr, ret->content.len, bad, strlen(bad)) ? ESP_EIO : ESP_OK;
		}
	}
	pthread_mutex_unlock(&sqlhost->blob_lock);
	return st;
}
static void blob_close_file(const esp_blob *b, esp_blob_file *f)
{
	(void)b;
	f->content = (esp_str){ NULL, 0 };
}
static esp_status blob_job(const esp_blob *b, esp_tx *tx, const esp_blob_job *job)
{
	(void)b;
	must(job->size == sizeof *job && job->kind >= ESP_BLOB_LINK && job->kind <= ESP_BLOB_MVFOLDER && job->account.len);
	return db_exec(sqlhost->writer, tx->arena,
		"INSERT INTO test_job (kind, account, folder, dest, id, uid, flags) VALUES ($1, $2, $3, $4, $5, $6, $7)",
		(esp_sql_value[]){ ESP_SQL_I(job->kind), ESP_SQL_T(job->account), ESP_SQL_T(job->folder), ESP_SQL_T(job->to),
			ESP_SQL_ID(job->id), ESP_SQL_I(job->uid), ESP_SQL_I(job->flags) }, 7, NULL);
}
static esp_status blob_jobs(const esp_blob *b, esp_tx *tx, const esp_blob_job *job, uint32_t n)
{
	esp_status st = ESP_OK;

	for (uint32_t i = 0; st == ESP_OK && i < n; i++) {
		must(job[i].kind == job->kind && job[i].folder.ptr == job->folder.ptr && job[i].modseq == job->modseq);
		st = blob_job(b, tx, &job[i]);
	}
	return st;
}
static void blob_kick(const esp_blob *b) { (void)b; }
static esp_status blob_remove(const esp_blob *b, esp_tx *tx, esp_id id)
{
	(void)b;
	return db_exec(sqlhost->writer, tx->arena, "INSERT INTO test_removed (id) VALUES ($1)",
		(esp_sql_value[]){ ESP_SQL_ID(id) }, 1, NULL);
}

static esp_status blob_mark(const esp_blob *b, const esp_blob_mark *mark)
{
	(void)b;
	must(mark->size == sizeof *mark && mark->account.len && mark->folder.len && mark->uidvalidity);
	atomic_fetch_add(&sqlhost->marks, 1);
	return atomic_load(&sqlhost->marks_fail) ? ESP_ENOSPC : ESP_OK;
}

/* --- directory --------------------------------------------------------------------------------------- */

static esp_status directory_by_id(const esp_directory *d, esp_arena *arena, esp_id id, esp_account *ret)
{
	(void)d;
	(void)arena;
	ret->id = id;
	ret->enabled = 1;
	ret->address = ESP_STR("someone@example.test");
	ret->quota = sqlhost->directory_quota;
	return ESP_OK;
}
static esp_directory directory = { .account_by_id = directory_by_id };

/* --- log --------------------------------------------------------------------------------------------- */

static int32_t log_enabled_at(const esp_module *self, int32_t level)
{
	(void)self;
	return level <= ESP_LOG_NOTICE;
}
static void log_count(
	const esp_module *self, int32_t level, const char *text, const esp_field *f, uint32_t n, uint32_t size)
{
	(void)self; (void)text; (void)f; (void)n; (void)size;
	atomic_fetch_add(&sqlhost->logged[level], 1);
}
static const esp_log_api log_api = { .size = sizeof log_api, .enabled = log_enabled_at, .write = log_count };

/* --- host -------------------------------------------------------------------------------------------- */

static const void *host_core(const char *id, uint32_t min_minor)
{
	static const struct { const char *id; const void *api; } known[] = {
		{ "esp.mem/1", &mem_api }, { "esp.config/1", &config_api }, { "esp.fiber/1", &loop_fiber_api },
		{ "esp.loop/1", &loop_loop_api }, { "esp.pool/1", &loop_pool_api }, { "esp.topic/1", &topic_api },
		{ "esp.log/1", &log_api }, { "esp.event/1", &event_api }, { "esp.crypto/1", &crypto_api },
		{ "esp.metric/1", &metric_api },
	};

	(void)min_minor;
	for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
		if (!strcmp(known[i].id, id))
			return known[i].api;
	return NULL;
}
enum { BIND_SQL = 1, BIND_BLOB, BIND_DIRECTORY, BIND_TEXTS, BIND_NOTHING };
static esp_status host_bind(esp_module *self, const char *id, esp_binding *ret)
{
	(void)self;
	ret->v = !strcmp(id, "esp.sql/1") ? BIND_SQL : !strcmp(id, "esp.blob/1") ? BIND_BLOB
		: !strcmp(id, "esp.directory/1") ? BIND_DIRECTORY : !strcmp(id, "esp.textindex/1") ? BIND_TEXTS : BIND_NOTHING;
	return ESP_OK;
}
static const esp_service *host_service(esp_module *self, esp_binding b)
{
	(void)self;
	must(fiber_self());
	return b.v == BIND_SQL ? &sqlhost->sql.service : b.v == BIND_BLOB ? &sqlhost->blob.service
		: b.v == BIND_DIRECTORY && sqlhost->with_directory ? &directory.service
		: b.v == BIND_TEXTS && sqlhost->texts ? &sqlhost->texts->service : NULL;
}
static esp_status host_provide(esp_module *self, const char *id, const esp_service *table)
{
	(void)self;
	sqlhost->provided = table;
	if (!strcmp(id, "esp.mailstore/1"))
		sqlhost->store = (const esp_mailstore *)table;
	return ESP_OK;
}
/* The statement of an owner of blobs fits its tables. */
static void ask_owner(const esp_blob_owner *owner)
{
	esp_arena *a = sqlhost_arena();
	struct migrate_db db = sqlite_migrate_db(sqlhost->writer, a);
	esp_sql_value args[ESP_BLOB_ASKED];
	esp_err err = ESP_ERR_INIT;
	esp_sql_rows rows;
	esp_id id = { { 0 } };

	for (uint32_t i = 0; i < ESP_BLOB_ASKED; i++)
		args[i] = ESP_SQL_ID(id);
	must_ok(db.exec(db.arg, a, owner->named, args, ESP_BLOB_ASKED, &rows, &err));
	must(rows.nrows == 0);
	arena_free(a);
}

static esp_status host_contribute(esp_module *self, const char *point, const void *item)
{
	esp_arena *a;
	struct migrate_db db;
	esp_err err = ESP_ERR_INIT;

	(void)self;
	if (!strcmp(point, "esp.command/1"))
		return ESP_OK;
	if (!strcmp(point, "esp.blob.owner/1")) {
		ask_owner(item);
		return ESP_OK;
	}
	must(!strcmp(point, "esp.sql.migrations/1"));
	a = sqlhost_arena();
	db = sqlite_migrate_db(sqlhost->writer, a);
	/* up, down and up again: both directions must work on an empty database */
	must_ok(migrate_up(&db, item, &err));
	must_ok(migrate_down(&db, item, 0, &err));
	must_ok(migrate_up(&db, item, &err));
	arena_free(a);
	return ESP_OK;
}
static esp_arena *host_arena_of;
static esp_arena *host_arena(const esp_module *self)
{
	(void)self;
	return host_arena_of;
}
static void host_quiesce(void) { must(fiber_self()); }
static const esp_host host_table = {
	.size = sizeof host_table,
	.abi_major = ESP_ABI_MAJOR,
	.abi_minor = ESP_ABI_MINOR,
	.version = "test",
	.quiesce = host_quiesce,
	.core = host_core,
	.bind = host_bind,
	.provide = host_provide,
	.service = host_service,
	.contribute = host_contribute,
	.arena = host_arena,
};

/* --- life -------------------------------------------------------------------------------------------- */

struct on { void (*fn)(void *arg); void *arg; esp_ticket ticket; atomic_int done; };

static void on_other(void *arg)
{
	struct on *on = arg;
	esp_ticket t = on->ticket;

	on->fn(on->arg);
	atomic_store(&on->done, 1);
	fiber_wake(t);
}

void sqlhost_on(uint32_t worker, void (*fn)(void *arg), void *arg)
{
	struct on on = { .fn = fn, .arg = arg };

	on.ticket = fiber_ticket();
	must_ok(worker_post_fiber(loop_worker(worker), NULL, "test.on", on_other, &on));
	while (!atomic_load(&on.done))
		must_ok(fiber_suspend());
}

/* Fibers that are always there: settle.c's and purge.c's. */
#define ALWAYS 2

/* The module tells of what waits; what it has not seen yet is a post or a timer still under way. */
void sqlhost_indexed(void)
{
	int quiet = 0;

	for (int i = 0; quiet < 3 && i < 20000; i++) {
		quiet = atomic_load(&index_waiting) == 0 && !owner_count(&sqlhost->core->owner, OWNER_POST) &&
			owner_count(&sqlhost->core->owner, OWNER_FIBER) == ALWAYS ? quiet + 1 : 0;
		must_ok(fiber_sleep_until(clock_monotonic() + ESP_MSEC));
	}
	must(quiet == 3);
}

static void open_databases(struct sqlhost *h)
{
	char path[128];
	struct db_options o = { .path = path, .cache_bytes = 8 << 20, .mmap_bytes = 0, .busy_ms = 5000, .writer = 1 };
	esp_err err = ESP_ERR_INIT;

	snprintf(path, sizeof path, "%s/test.db", h->dir);
	must_ok(db_open(&o, &h->writer, &err));
	must_ok(db_script(h->writer, "PRAGMA synchronous=OFF;"
		"CREATE TABLE test_job (kind BIGINT, account TEXT, folder TEXT, dest TEXT, id BLOB, uid BIGINT, flags BIGINT);"
		"CREATE TABLE test_removed (id BLOB)", &err));
	o.writer = 0;
	must_ok(db_open(&o, &h->reader, &err));
	h->own = calloc(h->workers, sizeof *h->own);
	for (uint32_t i = 0; i < h->workers; i++)
		must_ok(db_open(&o, &h->own[i], &err));
}

struct life { void (*body)(void *arg); void *arg; };

static void worker_up(void *arg)
{
	(void)arg;
	must_ok(esp_module_descriptor.ops->worker_start(sqlhost->self, worker_pub(worker_here())));
}

static void worker_drain(void *arg)
{
	(void)arg;
	if (esp_module_descriptor.ops->worker_drain)
		esp_module_descriptor.ops->worker_drain(sqlhost->self, worker_pub(worker_here()));
}

static void worker_down(void *arg)
{
	(void)arg;
	if (esp_module_descriptor.ops->worker_stop)
		esp_module_descriptor.ops->worker_stop(sqlhost->self, worker_pub(worker_here()));
}

static void on_life(void *arg)
{
	struct life *life = arg;
	esp_err err = ESP_ERR_INIT;

	if (!sqlhost->without_texts)
		sqlhost->texts = texthost_open(sqlhost->self, sqlhost->dir);
	must_ok(esp_module_descriptor.ops->start(sqlhost->self, &err));
	for (uint32_t i = 0; i < sqlhost->workers; i++)
		sqlhost_on(i, worker_up, NULL);
	life->body(life->arg);
	if (esp_module_descriptor.ops->drain)
		esp_module_descriptor.ops->drain(sqlhost->self, 0);
	for (uint32_t i = 0; i < sqlhost->workers; i++)
		sqlhost_on(i, worker_drain, NULL);
	/* hints under way must have arrived before the homes go */
	while (owner_count(&sqlhost->core->owner, OWNER_POST) || owner_count(&sqlhost->core->owner, OWNER_FIBER))
		must_ok(fiber_sleep_until(clock_monotonic() + ESP_MSEC));
	for (uint32_t i = 0; i < sqlhost->workers; i++)
		sqlhost_on(i, worker_down, NULL);
	if (sqlhost->texts)
		texthost_close();
	loop_quit();
}

static void tear_down(struct sqlhost *h)
{
	char command[128];

	must(owner_total(&h->core->owner) == 0);
	for (uint32_t i = 0; i < h->workers; i++)
		db_close(h->own[i]);
	db_close(h->reader);
	db_close(h->writer);
	for (uint32_t i = 0; i < h->nblobs; i++)
		free(h->blobs[i].data);
	free(h->blobs);
	free(h->own);
	owner_fini(&h->core->owner);
	free(h->core);
	arena_free(host_arena_of);
	snprintf(command, sizeof command, "rm -rf '%s'", h->dir);
	must(system(command) == 0);
	free(h);
	sqlhost = NULL;
}

void sqlhost_run_tuned(uint32_t workers, void (*tune)(struct sqlhost *h), void (*body)(void *arg), void *arg)
{
	struct sqlhost *h = calloc(1, sizeof *h);
	struct loop_config c = { .workers = workers, .grace = 2 * ESP_SEC, .no_observer = 1 };
	struct life life = { body, arg };
	esp_err err = ESP_ERR_INIT;

	sqlhost = h;
	h->workers = workers;
	h->max_mailboxes = 200;
	h->view_memory = 64 << 20;
	h->view_idle = 600 * ESP_SEC;
	h->store_rows = 500;
	h->account_ttl = 60 * ESP_SEC;
	snprintf(h->dir, sizeof h->dir, "/tmp/esp-mailstore-XXXXXX");
	must(mkdtemp(h->dir));
	pthread_mutex_init(&h->read_lock, NULL);
	pthread_mutex_init(&h->blob_lock, NULL);
	h->blobs = calloc(SQLHOST_BLOBS, sizeof *h->blobs);
	h->sql = (esp_sql){
		.service = { .size = sizeof h->sql }, .query = sql_query, .transact = sql_transact, .migrate = sql_migrate
	};
	h->blob = (esp_blob){ .service = { .size = sizeof h->blob }, .open = blob_open, .close_file = blob_close_file,
		.job = blob_job, .kick = blob_kick, .remove = blob_remove, .mark = blob_mark, .jobs = blob_jobs };
	open_databases(h);
	h->core = calloc(1, sizeof *h->core);
	owner_init(&h->core->owner, "mailstore#1");
	h->self = &h->core->pub;
	h->self->host = &host_table;
	h->self->name = "mailstore";
	host_arena_of = arena_new(&mem_api, "generation", 0);
	if (tune)
		tune(h);
	must_ok(loop_init(&c, &err));
	h->lane = loop_pool_api.open(h->self, "test-write", 1, 4096);
	must_ok(esp_module_descriptor.ops->init(h->self, NULL, &err));
	must_ok(loop_start(&err));
	must_ok(worker_post_fiber(loop_worker(0), NULL, "test", on_life, &life));
	loop_run();
	lane_close(lane_of(h->lane));
	loop_free();
	tear_down(h);
}
