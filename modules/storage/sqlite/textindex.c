/* textindex - see textindex.h and esp/textindex.h.
 *
 * Tables: `scope` gives each scope a number and holds its mark; `texts` is an FTS5 table whose rowid is the scope's
 * number and the text's number, so that a scope is one range of rowids; `cut` names texts that were too long.
 * The trigram index (detail=none: which rows, not where) gives candidates; esp_holds() over the stored text decides.
 *
 * One lane writes, another of two threads reads; both run with low priority for the CPU.  The file is not synced at
 * each COMMIT (synchronous=NORMAL): a crash takes the last texts together with the marks that speak of them.  A file
 * that is damaged is made anew, and filled again by whoever filled it.
 */
#include "textindex.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define READERS     2u
#define NICE        15           /* an eighth of nice 5, a thirtieth of nice 0 */
#define TRIGRAMS    12u          /* of a needle that are looked up */
#define HITS_PAGE   20000u
#define GONE_MAX    256u         /* texts that leave in one transaction */
#define NUMBER_BITS 32

static const char SCHEMA[] =
	"CREATE TABLE IF NOT EXISTS scope (number INTEGER PRIMARY KEY AUTOINCREMENT, id BLOB NOT NULL UNIQUE,"
	" epoch INTEGER NOT NULL, upto INTEGER NOT NULL, modseq INTEGER NOT NULL);"
	"CREATE TABLE IF NOT EXISTS cut (row INTEGER PRIMARY KEY);"
	"CREATE VIRTUAL TABLE IF NOT EXISTS texts USING fts5(header, body, tokenize='trigram case_sensitive 1',"
	" detail=none, columnsize=0);"
	"INSERT INTO texts(texts, rank) VALUES('hashsize', 16777216);"   /* one segment a batch */
	"PRAGMA user_version=1;";

static const char MARK[] = "SELECT epoch, upto, modseq, number FROM scope WHERE id = $1";
static const char MARK_INSERT[] =
	"INSERT INTO scope (id, epoch, upto, modseq) VALUES ($1, 0, 0, 0) RETURNING epoch, upto, modseq, number";
static const char MARK_UPDATE[] = "UPDATE scope SET epoch = $2, upto = $3, modseq = $4 WHERE number = $1";
static const char SCOPE_DELETE[] = "DELETE FROM scope WHERE number = $1";
static const char SCOPES[] = "SELECT id FROM scope WHERE id > $1 ORDER BY id LIMIT 500";
static const char ROWS_BETWEEN[] = "SELECT id FROM texts_content WHERE id >= $1 AND id <= $2 ORDER BY id LIMIT $3";
static const char ROW_DELETE[] = "DELETE FROM texts WHERE rowid = $1";
static const char ROW_INSERT[] = "INSERT INTO texts (rowid, header, body) VALUES ($1, $2, $3)";
static const char CUT_INSERT[] = "INSERT INTO cut (row) VALUES ($1) ON CONFLICT (row) DO NOTHING";
static const char CUT_DELETE[] = "DELETE FROM cut WHERE row = $1";
static const char CUT_BETWEEN[] = "SELECT row FROM cut WHERE row >= $1 AND row <= $2 ORDER BY row LIMIT $3";
static const char FIND[] =
	"SELECT rowid FROM texts WHERE texts MATCH $4 AND rowid >= $1 AND rowid <= $2 AND"
	" esp_holds(CASE WHEN CAST($5 AS INT) & 1 THEN header END, CASE WHEN CAST($5 AS INT) & 2 THEN body END, $6, $7)"
	" ORDER BY rowid LIMIT $3";
static const char SCAN[] =
	"SELECT id FROM texts_content WHERE id >= $1 AND id <= $2 AND"
	" esp_holds(CASE WHEN CAST($5 AS INT) & 1 THEN c0 END, CASE WHEN CAST($5 AS INT) & 2 THEN c1 END, $6, $7)"
	" ORDER BY id LIMIT $3";

struct textindex {
	esp_textindex table;         /* first: services are found by it */
	esp_core *core;
	esp_module *self;
	char *path;
	int64_t cache;               /* of any connection, at most */
	esp_lane *write_lane, *read_lane;
	struct db *writer;
	esp_arena *arena;            /* of the writer's rows */
	_Atomic(struct db *) reader[READERS];
	int usable;
};

static struct textindex *of(const esp_textindex *ti) { return (struct textindex *)(uintptr_t)ti; }
static int64_t row_of(int64_t scope, uint32_t number)
{
	return (int64_t)((uint64_t)scope << NUMBER_BITS | number);
}
static int64_t int_at(const esp_sql_rows *r, uint32_t row, uint32_t col) { return esp_sql_at(r, row, col)->i; }

/* Threads of a lane come and go: each job says how important it is. */
static void be_nice(void) { (void)setpriority(PRIO_PROCESS, (id_t)gettid(), NICE); }

/* --- what decides ---------------------------------------------------------------------------------------- */

static int holds(esp_str hay, esp_str needle)
{
	return hay.len >= needle.len && memmem(hay.ptr, hay.len, needle.ptr, needle.len) != NULL;
}

/* Is there a field of that name whose value holds the needle?  Fields are "name: value\1". */
static int field_holds(esp_str header, esp_str field, esp_str needle)
{
	while (header.len) {
		const char *end = memchr(header.ptr, ESP_TEXT_END, header.len);
		size_t n = end ? (size_t)(end - header.ptr) : header.len;

		if (n >= field.len + 2 && memcmp(header.ptr, field.ptr, field.len) == 0 &&
			memcmp(header.ptr + field.len, ": ", 2) == 0 &&
			holds((esp_str){ header.ptr + field.len + 2, n - field.len - 2 }, needle))
			return 1;
		header.ptr += n + !!end;
		header.len -= n + !!end;
	}
	return 0;
}

static esp_str argument(sqlite3_value *v)
{
	esp_str s = { (const char *)sqlite3_value_text(v), 0 };

	s.len = s.ptr ? (size_t)sqlite3_value_bytes(v) : 0;
	return s;
}

/* esp_holds(header, body, field, needle): texts that are not asked are NULL. */
static void on_holds(sqlite3_context *ctx, int argc, sqlite3_value **argv)
{
	esp_str header = argument(argv[0]), body = argument(argv[1]), field = argument(argv[2]), needle = argument(argv[3]);

	(void)argc;
	if (field.len)
		sqlite3_result_int(ctx, field_holds(header, field, needle));
	else
		sqlite3_result_int(ctx, holds(header, needle) || holds(body, needle));
}

/* --- the query of FTS5 ----------------------------------------------------------------------------------- */

static size_t char_length(unsigned char b) { return b < 0x80 ? 1 : b < 0xe0 ? 2 : b < 0xf0 ? 3 : 4; }

/* Where each character of the needle starts; n + 1 entries. */
static uint32_t char_starts(esp_str s, size_t *at, uint32_t max)
{
	uint32_t n = 0;
	size_t i = 0;

	while (i < s.len && n < max) {
		at[n++] = i;
		i += char_length((unsigned char)s.ptr[i]);
	}
	at[n] = i < s.len ? i : s.len;
	return n;
}

/* `"abc" AND "bcd"`, in arena memory; empty when the needle has fewer than three characters. */
static esp_status match_text(esp_arena *a, esp_str needle, esp_str *ret)
{
	size_t at[TRIGRAMS + 3];
	uint32_t n = char_starts(needle, at, TRIGRAMS + 2);
	char *p = esp_alloc(a, (size_t)TRIGRAMS * 40), *start = p;

	*ret = (esp_str){ start, 0 };
	if (!p)
		return ESP_ENOMEM;
	for (uint32_t i = 0; i + 3 <= n; i++) {
		if (i)
			p = stpcpy(p, " AND ");
		*p++ = '"';
		for (size_t k = at[i]; k < at[i + 3]; k++) {
			if (needle.ptr[k] == '"')
				*p++ = '"';
			*p++ = needle.ptr[k];
		}
		*p++ = '"';
	}
	ret->len = (size_t)(p - start);
	return ESP_OK;
}

/* --- reading --------------------------------------------------------------------------------------------- */

struct read_job {
	struct textindex *ti;
	int (*fn)(struct db *db, struct read_job *job);
	esp_arena *arena;            /* the lane's own */
	esp_id scope;
	const esp_text_query *query;
	esp_text_mark mark;
	int64_t number;
	esp_sql_rows rows;
	esp_text_hit *hit;
	uint32_t nhits, cap;
};

static int32_t on_read_lane(void *arg)
{
	struct read_job *job = arg;
	struct db *db = NULL;
	uint32_t i = 0;
	int st;

	while (!(db = atomic_exchange(&job->ti->reader[i], NULL)))
		i = (i + 1) % READERS;
	st = db_exec(db, job->arena, "BEGIN", NULL, 0, NULL);   /* one state of the file for mark and texts */
	if (st == ESP_OK) {
		st = job->fn(db, job);
		if (db_exec(db, job->arena, "COMMIT", NULL, 0, NULL) != ESP_OK && st == ESP_OK)
			st = ESP_EIO;
	}
	atomic_store(&job->ti->reader[i], db);
	return st;
}

static esp_status read_on_lane(struct read_job *job)
{
	struct textindex *ti = job->ti;
	int32_t result = ESP_OK;
	esp_status st;

	if (!ti->usable)
		return ESP_EUNAVAIL;
	job->arena = ti->core->mem->arena_new(ti->self, "textindex", 2 * (size_t)DB_BYTES_MAX);
	if (!job->arena)
		return ESP_ENOMEM;
	ti->core->fiber->shield(1);   /* the job is on our stack */
	st = ti->core->pool->run(ti->self, ti->read_lane, on_read_lane, job, &result);
	ti->core->fiber->shield(0);
	return st == ESP_OK ? result : st;
}

static int read_mark(struct db *db, esp_arena *a, esp_id scope, esp_text_mark *ret, int64_t *ret_number)
{
	esp_sql_rows rows;
	int st = db_exec(db, a, MARK, (esp_sql_value[]){ ESP_SQL_ID(scope) }, 1, &rows);

	*ret = (esp_text_mark){ 0, 0, 0 };
	*ret_number = 0;
	if (st != ESP_OK || rows.nrows == 0)
		return st;
	ret->epoch = (uint32_t)int_at(&rows, 0, 0);
	ret->upto = (uint32_t)int_at(&rows, 0, 1);
	ret->modseq = (uint64_t)int_at(&rows, 0, 2);
	*ret_number = int_at(&rows, 0, 3);
	return ESP_OK;
}

static int fn_mark(struct db *db, struct read_job *job)
{
	return read_mark(db, job->arena, job->scope, &job->mark, &job->number);
}

static esp_status mark(const esp_textindex *ti, esp_id scope, esp_text_mark *ret)
{
	struct read_job job = { .ti = of(ti), .fn = fn_mark, .scope = scope };
	esp_status st = read_on_lane(&job);

	*ret = job.mark;
	of(ti)->core->mem->arena_free(job.arena);
	return st;
}

static int fn_scopes(struct db *db, struct read_job *job)
{
	return db_exec(db, job->arena, SCOPES, (esp_sql_value[]){ ESP_SQL_ID(job->scope) }, 1, &job->rows);
}

static esp_status scopes(const esp_textindex *ti, esp_arena *arena, esp_id after, const esp_id **ret, uint32_t *ret_n)
{
	struct read_job job = { .ti = of(ti), .fn = fn_scopes, .scope = after };
	esp_status st = read_on_lane(&job);
	esp_id *id = st == ESP_OK ? esp_alloc_array(arena, job.rows.nrows + 1, sizeof *id) : NULL;

	*ret_n = 0;
	if (st == ESP_OK && !id)
		st = ESP_ENOMEM;
	for (uint32_t i = 0; st == ESP_OK && i < job.rows.nrows; i++) {
		const esp_sql_value *v = esp_sql_at(&job.rows, i, 0);
		if (v->type == ESP_SQL_BLOB && v->s.len == sizeof id->b)
			memcpy(id[(*ret_n)++].b, v->s.ptr, sizeof id->b);
	}
	*ret = id;
	of(ti)->core->mem->arena_free(job.arena);
	return st;
}

static int add_hits(struct read_job *job, const esp_sql_rows *rows, uint32_t sure)
{
	if (job->nhits + rows->nrows > job->cap) {
		uint32_t cap = (job->nhits + rows->nrows) * 2;
		esp_text_hit *grown = esp_alloc_array(job->arena, cap, sizeof *grown);
		if (!grown)
			return ESP_ENOMEM;
		if (job->nhits)
			memcpy(grown, job->hit, job->nhits * sizeof *grown);
		job->hit = grown;
		job->cap = cap;
	}
	for (uint32_t i = 0; i < rows->nrows; i++)
		job->hit[job->nhits++] = (esp_text_hit){ (uint32_t)int_at(rows, i, 0), sure };
	return ESP_OK;
}

/* Pages of a statement whose first column is the row, ascending. */
static int pages(struct db *db, struct read_job *job, const char *stmt, esp_sql_value *args, uint32_t nargs, int sure)
{
	esp_sql_rows rows;
	int64_t first = args[0].i;
	int st;

	do {
		st = db_exec(db, job->arena, stmt, args, nargs, &rows);
		if (st == ESP_OK)
			st = add_hits(job, &rows, (uint32_t)sure);
		if (st == ESP_OK && rows.nrows == HITS_PAGE)
			args[0].i = int_at(&rows, rows.nrows - 1, 0) + 1;
	} while (st == ESP_OK && rows.nrows == HITS_PAGE && args[0].i <= args[1].i);
	args[0].i = first;
	return st;
}

/* Texts that hold it for certain, and those of which only the start is known, each ascending: merged. */
static int merge_hits(struct read_job *job, uint32_t nsure)
{
	uint32_t n = job->nhits, a = 0, b = nsure, k = 0;
	esp_text_hit *out = esp_alloc_array(job->arena, n + 1, sizeof *out);

	if (!out)
		return ESP_ENOMEM;
	while (a < nsure || b < n) {
		if (b == n || (a < nsure && job->hit[a].number <= job->hit[b].number)) {
			b += b < n && job->hit[a].number == job->hit[b].number;
			out[k++] = job->hit[a++];
		} else {
			out[k++] = job->hit[b++];
		}
	}
	job->hit = out;
	job->nhits = k;
	return ESP_OK;
}

static int fn_find(struct db *db, struct read_job *job)
{
	const esp_text_query *q = job->query;
	esp_sql_value args[7];
	esp_str match;
	uint32_t nsure;
	int st = read_mark(db, job->arena, q->scope, &job->mark, &job->number);

	if (st != ESP_OK || job->number == 0)
		return st;
	st = match_text(job->arena, q->needle, &match);
	if (st != ESP_OK)
		return st;
	args[0] = ESP_SQL_I(row_of(job->number, q->first));
	args[1] = ESP_SQL_I(row_of(job->number, q->last < job->mark.upto ? q->last : job->mark.upto));
	args[2] = ESP_SQL_I(HITS_PAGE);
	args[3] = ESP_SQL_T(match);
	args[4] = ESP_SQL_I(q->field.len ? ESP_TEXT_IN_HEADER : q->where);
	args[5] = ESP_SQL_T(q->field);
	args[6] = ESP_SQL_T(q->needle);
	st = pages(db, job, match.len ? FIND : SCAN, args, 7, 1);
	nsure = job->nhits;
	if (st == ESP_OK)
		st = pages(db, job, CUT_BETWEEN, args, 3, 0);
	return st == ESP_OK && job->nhits > nsure ? merge_hits(job, nsure) : st;
}

static esp_status find(const esp_textindex *ti, esp_arena *arena, const esp_text_query *q, esp_text_mark *ret_mark,
	const esp_text_hit **ret, uint32_t *ret_n)
{
	struct read_job job = { .ti = of(ti), .fn = fn_find, .query = q };
	esp_text_hit *hit = NULL;
	esp_status st = q->needle.len ? read_on_lane(&job) : ESP_EINVAL;

	if (st == ESP_OK) {
		hit = esp_alloc_array(arena, job.nhits + 1, sizeof *hit);
		st = hit ? ESP_OK : ESP_ENOMEM;
	}
	if (st == ESP_OK && job.nhits)
		memcpy(hit, job.hit, job.nhits * sizeof *hit);
	*ret = hit;
	*ret_n = st == ESP_OK ? job.nhits : 0;
	*ret_mark = job.mark;
	of(ti)->core->mem->arena_free(job.arena);
	return st;
}

/* --- writing --------------------------------------------------------------------------------------------- */

static int row_delete(struct textindex *ti, int64_t row)
{
	esp_sql_value arg[] = { ESP_SQL_I(row) };
	int st = db_exec(ti->writer, ti->arena, ROW_DELETE, arg, 1, NULL);

	return st == ESP_OK ? db_exec(ti->writer, ti->arena, CUT_DELETE, arg, 1, NULL) : st;
}

/* Texts of one range leave, at most *left of them. */
static int range_delete(struct textindex *ti, int64_t scope, esp_uid_range range, uint32_t *left)
{
	esp_sql_value args[] = { ESP_SQL_I(row_of(scope, range.first)), ESP_SQL_I(row_of(scope, range.last)),
		ESP_SQL_I(*left) };
	esp_sql_rows rows;
	int st = db_exec(ti->writer, ti->arena, ROWS_BETWEEN, args, 3, &rows);

	for (uint32_t i = 0; st == ESP_OK && i < rows.nrows; i++)
		st = row_delete(ti, int_at(&rows, i, 0));
	if (st == ESP_OK)
		*left -= rows.nrows;
	return st;
}

static int doc_put(struct textindex *ti, int64_t scope, const esp_text_doc *d)
{
	esp_sql_value args[] = { ESP_SQL_I(row_of(scope, d->number)), ESP_SQL_T(d->header), ESP_SQL_T(d->body) };
	int st = db_exec(ti->writer, ti->arena, ROW_INSERT, args, 3, NULL);

	if (st == ESP_EEXIST) {
		st = row_delete(ti, args[0].i);
		if (st == ESP_OK)
			st = db_exec(ti->writer, ti->arena, ROW_INSERT, args, 3, NULL);
	}
	return st == ESP_OK && d->cut ? db_exec(ti->writer, ti->arena, CUT_INSERT, args, 1, NULL) : st;
}

static int same_mark(esp_text_mark a, esp_text_mark b)
{
	return a.epoch == b.epoch && a.upto == b.upto && a.modseq == b.modseq;
}

static int mark_put(struct textindex *ti, int64_t scope, esp_text_mark m)
{
	esp_sql_value args[] = { ESP_SQL_I(scope), ESP_SQL_I(m.epoch), ESP_SQL_I(m.upto), ESP_SQL_I(m.modseq) };

	if (same_mark(m, (esp_text_mark){ 0, 0, 0 }))
		return db_exec(ti->writer, ti->arena, SCOPE_DELETE, args, 1, NULL);
	return db_exec(ti->writer, ti->arena, MARK_UPDATE, args, 4, NULL);
}

static int scope_number(struct textindex *ti, esp_id scope, esp_text_mark *now, int64_t *ret)
{
	esp_sql_rows rows;
	int st = read_mark(ti->writer, ti->arena, scope, now, ret);

	if (st != ESP_OK || *ret)
		return st;
	st = db_exec(ti->writer, ti->arena, MARK_INSERT, (esp_sql_value[]){ ESP_SQL_ID(scope) }, 1, &rows);
	if (st == ESP_OK)
		*ret = int_at(&rows, 0, 3);
	return st;
}

/* One update with what is known of its scope. */
struct turn { esp_text_update *u; int64_t scope; };

static int update_one(struct textindex *ti, const struct turn *t, uint32_t *left)
{
	esp_text_update *u = t->u;
	int st = ESP_OK;

	if (u->status == ESP_ECONFLICT)
		return ESP_OK;
	for (uint32_t i = 0; st == ESP_OK && *left && i < u->gone.n; i++)
		st = range_delete(ti, t->scope, u->gone.range[i], left);
	if (st == ESP_OK && *left == 0) {
		u->status = ESP_EAGAIN;
		return ESP_OK;
	}
	for (uint32_t i = 0; st == ESP_OK && i < u->ndocs; i++)
		st = doc_put(ti, t->scope, &u->doc[i]);
	return st == ESP_OK ? mark_put(ti, t->scope, u->after) : st;
}

static int look_up(struct textindex *ti, struct turn *t)
{
	esp_text_mark now;
	int st = scope_number(ti, t->u->scope, &now, &t->scope);

	t->u->status = st == ESP_OK && !same_mark(now, t->u->before) ? ESP_ECONFLICT : ESP_OK;
	return st;
}

static int by_scope(const void *a, const void *b)
{
	int64_t x = ((const struct turn *)a)->scope, y = ((const struct turn *)b)->scope;

	return x < y ? -1 : x > y;
}

struct update_job { struct textindex *ti; esp_text_update *u; uint32_t n; };

/* In order of rows: FTS5 starts a new segment whenever a row is below the one before. */
static int update_all(struct textindex *ti, const struct update_job *job, struct turn *turn)
{
	uint32_t left = GONE_MAX;
	int st = ESP_OK;

	for (uint32_t i = 0; st == ESP_OK && i < job->n; i++) {
		turn[i].u = &job->u[i];
		st = look_up(ti, &turn[i]);
	}
	if (st == ESP_OK)
		qsort(turn, job->n, sizeof *turn, by_scope);
	for (uint32_t i = 0; st == ESP_OK && i < job->n; i++)
		st = update_one(ti, &turn[i], &left);
	return st;
}

static int32_t on_update(void *arg)
{
	struct update_job *job = arg;
	struct textindex *ti = job->ti;
	struct turn *turn = esp_alloc_array(ti->arena, job->n, sizeof *turn);
	int st;

	be_nice();
	if (!turn)
		return ESP_ENOMEM;
	st = db_exec(ti->writer, ti->arena, "BEGIN IMMEDIATE", NULL, 0, NULL);
	if (st == ESP_OK)
		st = update_all(ti, job, turn);
	if (st == ESP_OK)
		st = db_exec(ti->writer, ti->arena, "COMMIT", NULL, 0, NULL);
	if (st != ESP_OK && !sqlite3_get_autocommit(ti->writer->handle) &&
		db_exec(ti->writer, ti->arena, "ROLLBACK", NULL, 0, NULL) != ESP_OK)
		st = ESP_EIO;
	ti->core->mem->arena_reset(ti->arena);
	return st;
}

static esp_status update(const esp_textindex *ti, esp_text_update *u, uint32_t n)
{
	struct textindex *t = of(ti);
	struct update_job job = { t, u, n };
	int32_t result = ESP_OK;
	esp_status st;

	if (!t->usable)
		return ESP_EUNAVAIL;
	t->core->fiber->shield(1);
	st = t->core->pool->run(t->self, t->write_lane, on_update, &job, &result);
	t->core->fiber->shield(0);
	return st == ESP_OK ? result : st;
}

/* --- life ------------------------------------------------------------------------------------------------ */

static int open_one(struct textindex *ti, int writer, struct db **ret, esp_err *err)
{
	struct db_options o = { .path = ti->path, .cache_bytes = ti->cache, .mmap_bytes = 256 << 20, .busy_ms = 5000,
		.writer = writer };
	int st;

	o.cache_bytes = db_cache(&o, (writer ? 16 : 4) << 20);
	st = db_open(&o, ret, err);

	if (st == ESP_OK && writer)
		st = db_script(*ret, "PRAGMA synchronous=NORMAL; PRAGMA wal_autocheckpoint=8000;", err);
	if (st == ESP_OK && sqlite3_create_function((*ret)->handle, "esp_holds", 4,
		SQLITE_UTF8 | SQLITE_DETERMINISTIC | SQLITE_DIRECTONLY, NULL, on_holds, NULL, NULL) != SQLITE_OK)
		st = ESP_ENOMEM;
	return st;
}

static void close_all(struct textindex *ti)
{
	for (uint32_t i = 0; i < READERS; i++)
		db_close(atomic_exchange(&ti->reader[i], NULL));
	db_close(ti->writer);
	ti->writer = NULL;
}

static int open_all(struct textindex *ti, esp_err *err)
{
	struct db *db;
	int st = open_one(ti, 1, &ti->writer, err);

	if (st == ESP_OK)
		st = db_script(ti->writer, SCHEMA, err);
	for (uint32_t i = 0; st == ESP_OK && i < READERS; i++) {
		db = NULL;
		st = open_one(ti, 0, &db, err);
		atomic_store(&ti->reader[i], db);
	}
	return st;
}

static void remove_file(const struct textindex *ti)
{
	static const char *const tail[] = { "", "-wal", "-shm" };
	char path[1100];

	for (size_t i = 0; i < sizeof tail / sizeof tail[0]; i++) {
		snprintf(path, sizeof path, "%s%s", ti->path, tail[i]);
		(void)remove(path);
	}
}

struct open_job { struct textindex *ti; esp_err *err; };

static int32_t on_open(void *arg)
{
	struct open_job *job = arg;
	int st;

	be_nice();
	st = open_all(job->ti, job->err);
	if (st == ESP_OK || st == ESP_ENOMEM)
		return st;
	close_all(job->ti);           /* nothing in it that cannot be made again */
	remove_file(job->ti);
	return open_all(job->ti, job->err);
}

static int32_t on_close(void *arg)
{
	close_all(arg);
	return ESP_OK;
}

esp_status textindex_open(struct textindex *ti, esp_err *err)
{
	struct open_job job = { ti, err };
	int32_t result = ESP_OK;
	esp_status st;

	ti->arena = ti->core->mem->arena_new(ti->self, "textindex-write", 2 * (size_t)DB_BYTES_MAX);
	ti->write_lane = ti->core->pool->open(ti->self, "index-write", 1, 1024);
	ti->read_lane = ti->core->pool->open(ti->self, "index-read", READERS, 4096);
	if (!ti->arena || !ti->write_lane || !ti->read_lane)
		return ESP_ENOMEM;
	st = ti->core->pool->run(ti->self, ti->write_lane, on_open, &job, &result);
	ti->usable = st == ESP_OK && result == ESP_OK;
	return st == ESP_OK ? result : st;
}

void textindex_close(struct textindex *ti)
{
	if (ti->write_lane && ti->core->pool->run(ti->self, ti->write_lane, on_close, ti, NULL) != ESP_OK)
		close_all(ti);
	if (ti->arena)
		ti->core->mem->arena_free(ti->arena);
	ti->arena = NULL;
}

const esp_service *textindex_service(struct textindex *ti) { return &ti->table.service; }

struct textindex *textindex_new(esp_core *core, esp_module *self, const char *path, int64_t cache)
{
	esp_arena *a = self->host->arena(self);
	struct textindex *ti = esp_alloc(a, sizeof *ti);
	esp_str copy = esp_strdup_in(a, (esp_str){ path, strlen(path) });

	if (!ti || !copy.ptr)
		return NULL;
	ti->core = core;
	ti->self = self;
	ti->cache = cache;
	ti->path = (char *)(uintptr_t)copy.ptr;
	ti->table = (esp_textindex){ .service = { .size = sizeof(esp_textindex), .minor = 0, .provider = self },
		.mark = mark, .update = update, .find = find, .scopes = scopes };
	return ti;
}
