/* One SQLite connection, its migrations, and the writer that puts many transactions into one COMMIT.  The writer's lane
 * is this thread: batches are handed to it as the lane would get them. */
#include "core/base/arena.h"
#include "core/base/rc.h"
#include "tests/support/test.h"

#include "modules/storage/sqlite/migrate.h"
#include "modules/storage/sqlite/writer.c"

#include <unistd.h>

static const esp_mem_api mem_api;
static esp_arena *mem_arena_new(esp_module *self, const char *label, size_t cap)
{
	(void)self;
	return arena_new(&mem_api, label, cap);
}
static const esp_mem_api mem_api = { .size = sizeof mem_api, .arena_new = mem_arena_new, .arena_free = arena_free,
	.arena_reset = arena_reset, .alloc = arena_alloc, .defer = arena_defer, .used = arena_used };

static char dir[64], path[96];
static esp_arena *arena;
static esp_err err;

static struct db *db_at(const char *file, int writer)
{
	struct db_options o = { .path = file, .cache_bytes = 1 << 20, .busy_ms = 50, .writer = writer };
	struct db *db = NULL;

	cr_assert_eq(db_open(&o, &db, &err), ESP_OK, "%s", err.text);
	return db;
}
static void set_up(void)
{
	err = (esp_err)ESP_ERR_INIT;
	snprintf(dir, sizeof dir, "/tmp/esp-sqlite-XXXXXX");
	cr_assert_not_null(mkdtemp(dir));
	snprintf(path, sizeof path, "%s/t.db", dir);
	arena = arena_new(&mem_api, "test", (size_t)256 << 20);
}
static void tear_down(void)
{
	char cmd[128];

	arena_free(arena);
	snprintf(cmd, sizeof cmd, "rm -rf %s", dir);
	cr_assert_eq(system(cmd), 0);
}
static int run(struct db *db, const char *text) { return db_exec(db, arena, text, NULL, 0, NULL); }
static int64_t number(struct db *db, const char *text)
{
	esp_sql_rows rows;

	cr_assert_eq(db_exec(db, arena, text, NULL, 0, &rows), ESP_OK, "%s", text);
	cr_assert_eq(rows.nrows, 1);
	return esp_sql_at(&rows, 0, 0)->i;
}

Test(sqlite, values_come_back_as_they_went, .init = set_up, .fini = tear_down)
{
	struct db *db = db_at(path, 1);
	esp_sql_rows rows;
	const esp_sql_value v[] = { ESP_SQL_I(INT64_MIN), ESP_SQL_I(INT64_MAX), ESP_SQL_T(((esp_str){ "a\0b", 3 })),
		ESP_SQL_B(((esp_str){ "\xff\0\x01", 3 })), ESP_SQL_T(((esp_str){ NULL, 0 })), ESP_SQL_NONE };

	cr_assert_eq(db_exec(db, arena, "SELECT $1, $2, $3, $4, $5, $6, $1", v, 6, &rows), ESP_OK);
	cr_assert_eq(rows.ncols, 7);
	cr_assert_eq(esp_sql_at(&rows, 0, 0)->i, INT64_MIN);
	cr_assert_eq(esp_sql_at(&rows, 0, 1)->i, INT64_MAX);
	cr_assert(esp_str_eq(esp_sql_at(&rows, 0, 2)->s, v[2].s) && esp_sql_at(&rows, 0, 2)->type == ESP_SQL_TEXT);
	cr_assert(esp_str_eq(esp_sql_at(&rows, 0, 3)->s, v[3].s) && esp_sql_at(&rows, 0, 3)->type == ESP_SQL_BLOB);
	cr_assert(esp_sql_at(&rows, 0, 4)->type == ESP_SQL_TEXT && esp_sql_at(&rows, 0, 4)->s.len == 0);
	cr_assert_eq(esp_sql_at(&rows, 0, 5)->type, ESP_SQL_NULL);
	cr_assert_eq(esp_sql_at(&rows, 0, 6)->i, INT64_MIN);
	db_close(db);
}

Test(sqlite, wrong_statements_are_refused_and_leave_nothing_behind, .init = set_up, .fini = tear_down)
{
	struct db *db = db_at(path, 1);
	esp_sql_value one = ESP_SQL_I(1);

	cr_assert_eq(run(db, "CREATE TABLE t (k BIGINT PRIMARY KEY)"), ESP_OK);
	cr_assert_eq(run(db, "INSERT INTO t VALUES (1); INSERT INTO t VALUES (2)"), ESP_EINVAL);
	cr_assert_eq(run(db, "SELECT $41"), ESP_EINVAL);
	cr_assert_eq(run(db, "SELECT $1"), ESP_EINVAL, "an argument is missing");
	cr_assert_eq(run(db, "SELECT :name"), ESP_EINVAL);
	cr_assert_eq(run(db, "nonsense"), ESP_EINVAL);
	cr_assert_eq(run(db, ""), ESP_EINVAL);
	cr_assert_eq(number(db, "SELECT COUNT(*) FROM t"), 0);
	cr_assert_eq(db_exec(db, arena, "INSERT INTO t VALUES ($1)", &one, 1, NULL), ESP_OK);
	cr_assert_eq(db_exec(db, arena, "INSERT INTO t VALUES ($1)", &one, 1, NULL), ESP_EEXIST);
	db_close(db);
}

Test(sqlite, the_statement_cache_never_mixes_two_texts, .init = set_up, .fini = tear_down)
{
	struct db *db = db_at(path, 1);
	static char text[2000][64];

	for (int round = 0; round < 2; round++)
		for (int i = 0; i < 2000; i++) {   /* many times what the cache holds */
			esp_sql_value v = ESP_SQL_I(round);
			esp_sql_rows rows;
			snprintf(text[i], sizeof text[i], "SELECT %d + $1", i);
			cr_assert_eq(db_exec(db, arena, text[i], &v, 1, &rows), ESP_OK);
			cr_assert_eq(esp_sql_at(&rows, 0, 0)->i, i + round);
			cr_assert_leq(db->nstmts, DB_STATEMENTS / 2);
		}
	db_close(db);
}

Test(sqlite, a_text_that_changes_behind_its_pointer_is_another_statement, .init = set_up, .fini = tear_down)
{
	struct db *db = db_at(path, 1);
	char text[32] = "SELECT 1";

	cr_assert_eq(number(db, text), 1);
	text[7] = '2';
	cr_assert_eq(number(db, text), 2);
	db_close(db);
}

Test(sqlite, results_are_bounded, .init = set_up, .fini = tear_down)
{
	struct db *db = db_at(path, 1);
	esp_sql_rows rows;

	cr_assert_eq(db_exec(db, arena, "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000)"
		" SELECT i FROM n", NULL, 0, &rows), ESP_OK);
	cr_assert_eq(rows.nrows, DB_ROWS_MAX);
	cr_assert_eq(db_exec(db, arena, "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100001)"
		" SELECT i FROM n", NULL, 0, &rows), ESP_E2BIG);
	cr_assert_eq(db_exec(db, arena, "SELECT zeroblob(40000000), zeroblob(40000000)", NULL, 0, &rows), ESP_E2BIG);
	cr_assert_eq(number(db, "SELECT 7"), 7, "the connection goes on");
	db_close(db);
}

Test(sqlite, a_full_disk_is_not_a_broken_one, .init = set_up, .fini = tear_down)
{
	struct db *db = db_at(path, 1);

	cr_assert_eq(db_status(db, SQLITE_FULL), ESP_ENOSPC);
	cr_assert_eq(db_status(db, SQLITE_IOERR_SHMSIZE), ESP_ENOSPC, "the WAL's index could not grow");
	cr_assert_eq(db_status(db, SQLITE_IOERR_WRITE), ESP_EIO);
	cr_assert_eq(db_status(db, SQLITE_IOERR_FSYNC), ESP_EIO);
	db_close(db);
}

Test(sqlite, a_reader_cannot_write_and_sees_only_what_is_committed, .init = set_up, .fini = tear_down)
{
	struct db *db = db_at(path, 1), *reader;

	cr_assert_eq(run(db, "CREATE TABLE t (k BIGINT)"), ESP_OK);
	reader = db_at(path, 0);
	cr_assert_eq(run(db, "BEGIN IMMEDIATE"), ESP_OK);
	cr_assert_eq(run(db, "INSERT INTO t VALUES (1)"), ESP_OK);
	cr_assert_eq(number(reader, "SELECT COUNT(*) FROM t"), 0);
	cr_assert_neq(run(reader, "INSERT INTO t VALUES (2)"), ESP_OK);
	cr_assert_eq(run(db, "COMMIT"), ESP_OK);
	cr_assert_eq(number(reader, "SELECT COUNT(*) FROM t"), 1);
	db_close(reader);
	db_close(db);
}

/* --- migrations ----------------------------------------------------------------------------------------------- */

static const esp_sql_migration steps[] = {
	{ .number = 1,
		.title = "one",
		.up = "CREATE TABLE a (k BIGINT);\nINSERT INTO a VALUES (1)",
		.down = "DROP TABLE a" },
	{ .number = 2, .title = "two", .up = "ALTER TABLE a ADD COLUMN v TEXT", .down = "ALTER TABLE a DROP COLUMN v" },
	{ .number = 3, .title = "three", .up = "CREATE TABLE b (k BIGINT);\nthis is no SQL", .down = "DROP TABLE b" },
};
static esp_sql_migrations set_of(uint32_t n)
{
	return (esp_sql_migrations){ .size = sizeof(esp_sql_migrations), .item_size = sizeof steps[0], .n = n,
		.module = "test_module", .items = steps };
}

Test(migrate, goes_up_down_and_up_again, .init = set_up, .fini = tear_down)
{
	struct db *db = db_at(path, 1);
	struct migrate_db m = sqlite_migrate_db(db, arena);
	esp_sql_migrations set = set_of(2);
	uint32_t at;

	for (int i = 0; i < 3; i++) {
		cr_assert_eq(migrate_up(&m, &set, &err), ESP_OK, "%s", err.text);
		cr_assert_eq(migrate_up(&m, &set, &err), ESP_OK, "again: nothing to do");
		cr_assert_eq(number(db, "SELECT COUNT(v) + COUNT(*) FROM a"), 1);
		cr_assert_eq(migrate_down(&m, &set, 1, &err), ESP_OK);
		cr_assert_eq(run(db, "SELECT v FROM a"), ESP_EINVAL);
		cr_assert_eq(migrate_state(&m, "test_module", &at, &err), ESP_OK);
		cr_assert_eq(at, 1);
		cr_assert_eq(migrate_down(&m, &set, 0, &err), ESP_OK);
		cr_assert_eq(run(db, "SELECT 1 FROM a"), ESP_EINVAL);
	}
	db_close(db);
}

Test(migrate, a_step_that_fails_leaves_nothing_of_itself, .init = set_up, .fini = tear_down)
{
	struct db *db = db_at(path, 1);
	struct migrate_db m = sqlite_migrate_db(db, arena);
	esp_sql_migrations set = set_of(3);
	uint32_t at;

	cr_assert_neq(migrate_up(&m, &set, &err), ESP_OK);
	cr_assert_not_null(strstr(err.text, "test_module 3 (three) up"));
	cr_assert_eq(migrate_state(&m, "test_module", &at, &err), ESP_OK);
	cr_assert_eq(at, 2);
	cr_assert_eq(run(db, "SELECT 1 FROM b"), ESP_EINVAL);
	db_close(db);
}

Test(migrate, a_database_newer_than_the_program_is_refused, .init = set_up, .fini = tear_down)
{
	struct db *db = db_at(path, 1);
	struct migrate_db m = sqlite_migrate_db(db, arena);
	esp_sql_migrations newer = set_of(2), older = set_of(1);

	cr_assert_eq(migrate_up(&m, &newer, &err), ESP_OK);
	cr_assert_eq(migrate_down(&m, &older, 0, &err), ESP_ECONFIG);
	cr_assert_eq(migrate_up(&m, &older, &err), ESP_ECONFIG);
	cr_assert_not_null(strstr(err.text, "has migration 2 of test_module, this program knows 1"));
	db_close(db);
}

/* --- the writer ----------------------------------------------------------------------------------------------- */

static void no_wake(esp_ticket t) { (void)t; }
static void count(esp_metric m, int64_t n) { (void)m; (void)n; }
static void observe(esp_metric m, double value) { (void)m; (void)value; }
static const esp_fiber_api fiber_api = { .size = sizeof fiber_api, .wake = no_wake };
static const esp_metric_api metric_api = { .size = sizeof metric_api, .add = count, .observe = observe };
static int told;
static int32_t log_on(const esp_module *self, int32_t level)
{
	(void)self;
	return level == ESP_LOG_ERROR;
}
static void log_count(
	const esp_module *self, int32_t level, const char *text, const esp_field *f, uint32_t n, uint32_t size)
{
	(void)self; (void)level; (void)text; (void)f; (void)n; (void)size;
	told++;
}
static esp_nsec now(void) { return ESP_SEC; }
static const esp_log_api log_api = { .size = sizeof log_api, .enabled = log_on, .write = log_count };
static const esp_loop_api loop_api = { .size = sizeof loop_api, .clock = now };
/* The checkpoint's lane takes a job and does it when the test says so. */
static void (*lane_fn)(void *);
static void *lane_arg;
static int lane_jobs;
static esp_status submit(esp_module *self, esp_lane *lane, void (*fn)(void *), void *arg)
{
	(void)self;
	(void)lane;
	lane_fn = fn;
	lane_arg = arg;
	lane_jobs++;
	return ESP_OK;
}
static const esp_pool_api pool_api = { .size = sizeof pool_api, .submit = submit };
static esp_core core = {
	.mem = &mem_api, .fiber = &fiber_api, .log = &log_api, .loop = &loop_api, .pool = &pool_api
};

struct work { struct writer_job job; struct batch_wait wait; int64_t key; esp_status then; int runs; };

static esp_status insert(esp_tx *tx, void *arg)
{
	struct work *k = arg;
	esp_status st =
		tx->exec(tx, "INSERT INTO t VALUES ($1, zeroblob(2000))", (esp_sql_value[]){ ESP_SQL_I(k->key) }, 1, NULL);

	k->runs++;
	return st == ESP_OK ? k->then : st;
}

static void write_all(struct writer *w, struct work *k, int n)
{
	for (int i = 0; i < n; i++) {
		k[i].job.fn = insert;
		k[i].job.arg = &k[i];
		atomic_init(&k[i].wait.left, 1);
		k[i].job.batch = (struct batch_job){ .next = i + 1 < n ? &k[i + 1].job.batch : NULL, .wait = &k[i].wait };
	}
	w->batch.run(w->batch.arg, &k[0].job.batch);
	for (int i = 0; i < n; i++)
		cr_assert_eq(atomic_load(&k[i].wait.left), 0, "job %d got no answer", i);
}

static void writer_on(struct writer *w, const char *file)
{
	*w = (struct writer){
		.core = &core, .db = db_at(file, 1), .arena = arena_new(&mem_api, "tx", 64 << 20), .metric = &metric_api
	};
	cr_assert_eq(run(w->db, "CREATE TABLE IF NOT EXISTS t (k BIGINT PRIMARY KEY, v BLOB)"), ESP_OK);
	w->checkpoint.core = &core;
	cr_assert_eq(checkpoint_open(&w->checkpoint, &(struct db_options){ .path = file, .busy_ms = 50, .writer = 1 },
		w->db, &err), ESP_OK, "%s", err.text);
	writer_start(w);
}
static void writer_off(struct writer *w)
{
	checkpoint_close(&w->checkpoint);
	db_close(w->db);
	arena_free(w->arena);
}

static int count_commit(void *arg)
{
	++*(int *)arg;
	return 0;
}

Test(writer, transactions_that_wait_share_a_commit, .init = set_up, .fini = tear_down)
{
	static struct work k[2 * BATCH_MAX];
	struct writer w;
	int commits = 0;

	writer_on(&w, path);
	(void)sqlite3_commit_hook(w.db->handle, count_commit, &commits);
	for (int i = 0; i < (int)(2 * BATCH_MAX); i++)
		k[i].key = i;
	write_all(&w, k, 2 * BATCH_MAX);
	cr_assert_eq(commits, 2, "%d COMMITs", commits);
	cr_assert_eq(number(w.db, "SELECT COUNT(*) FROM t"), 2 * BATCH_MAX);
	writer_off(&w);
}

Test(writer, one_failing_transaction_of_a_batch_fails_alone, .init = set_up, .fini = tear_down)
{
	static struct work k[300];
	struct writer w;

	writer_on(&w, path);
	for (int i = 0; i < 300; i++) {
		k[i].key = i == 7 ? 6 : i;                     /* 7 repeats the key of 6 */
		k[i].then = i == 9 ? ESP_EACCES : ESP_OK;      /* 9 changes its mind after its write */
	}
	write_all(&w, k, 300);
	for (int i = 0; i < 300; i++)
		cr_assert_eq(k[i].job.batch.status, i == 7 ? ESP_EEXIST : i == 9 ? ESP_EACCES : ESP_OK, "job %d", i);
	cr_assert_eq(number(w.db, "SELECT COUNT(*) FROM t"), 298);
	cr_assert_eq(number(w.db, "SELECT COUNT(*) FROM t WHERE k IN (7, 9)"), 0);
	writer_off(&w);
}

Test(writer, a_full_database_fails_who_does_not_fit_and_keeps_the_rest, .init = set_up, .fini = tear_down)
{
	static struct work k[200];
	struct writer w;
	int fitted = 0;

	writer_on(&w, path);
	cr_assert_eq(run(w.db, "PRAGMA max_page_count = 40"), ESP_OK);
	for (int i = 0; i < 200; i++)
		k[i].key = i;
	write_all(&w, k, 200);
	for (int i = 0; i < 200; i++) {
		cr_assert(k[i].job.batch.status == ESP_OK || k[i].job.batch.status == ESP_ENOSPC, "%d", k[i].job.batch.status);
		fitted += k[i].job.batch.status == ESP_OK;
	}
	cr_assert(fitted > 10 && fitted < 200, "%d", fitted);
	cr_assert_eq(number(w.db, "SELECT COUNT(*) FROM t"), fitted);
	cr_assert_eq(run(w.db, "PRAGMA max_page_count = 100000"), ESP_OK);
	write_all(&w, &k[199], 1);
	cr_assert_eq(k[199].job.batch.status, ESP_OK, "room again");
	writer_off(&w);
}

Test(writer, who_holds_the_database_is_waited_for_once_a_batch, .init = set_up, .fini = tear_down)
{
	static struct work k[50];
	struct writer w;
	struct db *other;

	writer_on(&w, path);
	other = db_at(path, 1);
	cr_assert_eq(run(other, "BEGIN IMMEDIATE"), ESP_OK);
	for (int i = 0; i < 50; i++)
		k[i].key = i;
	write_all(&w, k, 50);
	for (int i = 0; i < 50; i++) {
		cr_assert_eq(k[i].job.batch.status, ESP_EBUSY);
		cr_assert_eq(k[i].runs, 0);
	}
	write_all(&w, k, 50);
	cr_assert_eq(told, 1, "of two batches in one moment");
	cr_assert_eq(run(other, "ROLLBACK"), ESP_OK);
	write_all(&w, k, 50);
	cr_assert_eq(k[49].job.batch.status, ESP_OK);
	db_close(other);
	writer_off(&w);
}

/* A pass beside the writer cannot reach the end of the WAL; the writer's own, between two transactions, does. */
Test(writer, the_wal_begins_anew_after_a_pass_beside_the_writer, .init = set_up, .fini = tear_down)
{
	static struct work k[200];
	struct writer w;
	int64_t key = 0;

	writer_on(&w, path);
	while (lane_jobs == 0) {
		for (int i = 0; i < 200; i++)
			k[i].key = key++;
		write_all(&w, k, 200);
		cr_assert_lt(w.checkpoint.wal_pages, 6000, "nobody was asked to checkpoint");
	}
	for (int i = 0; i < 200; i++)
		k[i].key = key++;
	write_all(&w, k, 200);
	cr_assert_eq(lane_jobs, 1, "asked once");
	cr_assert_gt(w.checkpoint.wal_pages, 4000, "still the old one");
	lane_fn(lane_arg);
	for (int round = 0; round < 2; round++) {
		k[0].key = key++;
		write_all(&w, k, 1);
	}
	cr_assert_lt(w.checkpoint.wal_pages, 10, "%d", w.checkpoint.wal_pages);
	cr_assert_eq(number(w.db, "SELECT COUNT(*) FROM t"), key);
	writer_off(&w);
}

/* What a lane would have done by the next batch. */
static void write_some(struct writer *w, int64_t *key)
{
	static struct work k[50];
	int jobs = lane_jobs;

	for (int i = 0; i < 50; i++)
		k[i].key = (*key)++;
	write_all(w, k, 50);
	if (lane_jobs != jobs)
		lane_fn(lane_arg);
}

/* A reader that stays, as a backup is. */
Test(writer, a_checkpoint_that_moved_nothing_is_not_tried_at_every_commit, .init = set_up, .fini = tear_down)
{
	struct writer w;
	struct db *reader;
	int64_t key = 0;
	int jobs, pages;

	writer_on(&w, path);
	write_some(&w, &key);
	reader = db_at(path, 0);
	cr_assert_eq(run(reader, "BEGIN"), ESP_OK);
	cr_assert_eq(number(reader, "SELECT COUNT(*) FROM t"), 50);
	while (w.checkpoint.wal_pages < 8000)
		write_some(&w, &key);
	cr_assert(lane_jobs >= 1 && lane_jobs <= 4, "%d for 8,000 pages", lane_jobs);
	jobs = lane_jobs;
	pages = w.checkpoint.wal_pages;
	while (w.checkpoint.wal_pages < pages + 16000)
		write_some(&w, &key);
	cr_assert(lane_jobs - jobs >= 3 && lane_jobs - jobs <= 5, "%d for 16,000 pages more", lane_jobs - jobs);
	cr_assert_eq(number(reader, "SELECT COUNT(*) FROM t"), 50, "it still sees what it saw");

	cr_assert_eq(run(reader, "COMMIT"), ESP_OK);
	pages = w.checkpoint.wal_pages;
	while (w.checkpoint.wal_pages >= pages)
		write_some(&w, &key);
	cr_assert_lt(w.checkpoint.wal_pages, 4000, "begun anew as soon as nobody needs it");
	jobs = lane_jobs;
	while (lane_jobs == jobs)
		write_some(&w, &key);
	cr_assert(w.checkpoint.wal_pages >= 4000 && w.checkpoint.wal_pages < 5000, "%d: as ever", w.checkpoint.wal_pages);
	db_close(reader);
	writer_off(&w);
}

/* --- few large writes ---------------------------------------------------------------------------------------- */

/* What a kill would leave: the two files as the kernel has them now. */
static int64_t after_a_kill(const char *question)
{
	char cmd[600], copy[120];
	struct db *db;
	int64_t n;

	snprintf(copy, sizeof copy, "%s/killed.db", dir);
	snprintf(cmd, sizeof cmd, "rm -f %s*; cp %s %s; cp %s-wal %s-wal", copy, path, copy, path, copy);
	cr_assert_eq(system(cmd), 0);
	db = db_at(copy, 1);
	n = number(db, question);
	cr_assert_eq(number(db, "SELECT COUNT(*) FROM pragma_integrity_check WHERE integrity_check = 'ok'"), 1);
	db_close(db);
	return n;
}

static struct db *db_with(struct vfs *vfs)
{
	struct db_options o = { .path = path, .cache_bytes = 32 << 10, .busy_ms = 50, .writer = 1 };
	struct db *db = NULL;

	cr_assert_eq(vfs_add(vfs), SQLITE_OK);
	o.vfs = vfs->name;
	cr_assert_eq(db_open(&o, &db, &err), ESP_OK, "%s", err.text);
	cr_assert_eq(run(db, "CREATE TABLE t (k INTEGER PRIMARY KEY, v BLOB)"), ESP_OK);
	return db;
}
static int commit(struct db *db, struct vfs *vfs)
{
	int st;

	vfs_keep(vfs, 1);
	st = run(db, "COMMIT");
	vfs_keep(vfs, 0);
	return st;
}

Test(vfs, what_is_committed_is_in_the_files_at_once, .init = set_up, .fini = tear_down)
{
	static const char SUM[] = "SELECT COALESCE(SUM(LENGTH(v)), 0) FROM t";
	struct vfs vfs = { .own = NULL };
	struct db *db = db_with(&vfs), *other = db_at(path, 0);
	int64_t sum = 0;

	for (int i = 0; i < 120; i++) {
		int64_t before = sum;
		cr_assert_eq(run(db, "BEGIN IMMEDIATE"), ESP_OK);
		for (int j = 0; j < 1 + i % 7; j++) {          /* up to 400 KB, more than the cache and than one write */
			int64_t n = (int64_t)(i * 7919 + j * 104729) % 60000 + 1;
			int undone = j % 3 == 2;
			if (undone)
				cr_assert_eq(run(db, "SAVEPOINT s"), ESP_OK);
			cr_assert_eq(db_exec(db, arena, "INSERT INTO t (v) VALUES (randomblob($1))",
				(esp_sql_value[]){ ESP_SQL_I(n) }, 1, NULL), ESP_OK);
			if (undone)
				cr_assert_eq(db_script(db, "ROLLBACK TO s; RELEASE s", &err), ESP_OK, "%s", err.text);
			sum += undone ? 0 : n;
		}
		if (i % 4 == 3)
			sum = before;
		cr_assert_eq(i % 4 == 3 ? run(db, "ROLLBACK") : commit(db, &vfs), ESP_OK);
		cr_assert_eq(number(other, SUM), sum, "transaction %d, another connection", i);
		if (i % 8 == 0)
			cr_assert_eq(after_a_kill(SUM), sum, "transaction %d, killed", i);
		if (i % 50 == 49)
			cr_assert_eq(sqlite3_wal_checkpoint_v2(other->handle, "main", SQLITE_CHECKPOINT_RESTART, NULL, NULL),
				SQLITE_OK);
	}
	cr_assert_eq(number(db, SUM), sum);
	db_close(other);
	db_close(db);
	vfs_remove(&vfs);
	cr_assert_null(sqlite3_vfs_find(vfs.name));
}

/* Its pages were in the WAL when it was rolled back; now another program writes there. */
Test(vfs, a_transaction_that_was_rolled_back_writes_nothing_later, .init = set_up, .fini = tear_down)
{
	struct vfs vfs = { .own = NULL };
	struct db *db = db_with(&vfs), *other = db_at(path, 1);

	for (int i = 0; i < 200; i++)
		cr_assert_eq(run(db, "INSERT INTO t (v) VALUES (zeroblob(900))"), ESP_OK);
	cr_assert_eq(sqlite3_wal_checkpoint_v2(other->handle, "main", SQLITE_CHECKPOINT_RESTART, NULL, NULL), SQLITE_OK);
	cr_assert_eq(run(db, "BEGIN IMMEDIATE"), ESP_OK);
	cr_assert_eq(run(db, "UPDATE t SET v = zeroblob(901) WHERE k <= 100"), ESP_OK);
	cr_assert_eq(run(db, "ROLLBACK"), ESP_OK);
	cr_assert_eq(run(other, "UPDATE t SET v = zeroblob(899) WHERE k < 50"), ESP_OK);
	cr_assert_eq(number(db, "SELECT SUM(LENGTH(v)) FROM t"), 200 * 900 - 49);
	cr_assert_eq(number(other, "SELECT SUM(LENGTH(v)) FROM t"), 200 * 900 - 49);
	cr_assert_eq(after_a_kill("SELECT SUM(LENGTH(v)) FROM t"), 200 * 900 - 49);
	db_close(other);
	db_close(db);
	vfs_remove(&vfs);
}
