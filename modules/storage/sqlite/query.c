/* query - reads: a few rows by key on the worker's own connection, others on the read lane, long ones on a connection
 * opened for them. */
#include "sqlite.h"

#include <string.h>

struct read_job {
	struct sqlite *s;
	esp_arena *arena;          /* the lane's own: the caller's belongs to its worker */
	const char *stmt;
	const esp_sql_value *args;
	uint32_t nargs;
	esp_sql_rows rows;
};

static int32_t on_read_lane(void *arg)
{
	struct read_job *job = arg;
	struct db *db = NULL;
	uint32_t i = 0;
	int st;

	while (!(db = atomic_exchange(&job->s->reader[i], NULL)))
		i = (i + 1) % job->s->nreaders;
	st = db_exec(db, job->arena, job->stmt, job->args, job->nargs, &job->rows);
	atomic_store(&job->s->reader[i], db);
	return st;
}

static esp_status copy_rows(const esp_sql_rows *from, esp_arena *arena, esp_sql_rows *ret)
{
	size_t n = (size_t)from->nrows * from->ncols;
	esp_sql_value *values = esp_alloc_array(arena, n ? n : 1, sizeof *values);

	if (!values)
		return ESP_ENOMEM;
	for (size_t i = 0; i < n; i++) {
		values[i] = from->values[i];
		if (values[i].type == ESP_SQL_TEXT || values[i].type == ESP_SQL_BLOB) {
			values[i].s = esp_strdup_in(arena, values[i].s);
			if (!values[i].s.ptr)
				return ESP_ENOMEM;
		}
	}
	*ret = *from;
	ret->values = values;
	return ESP_OK;
}

static esp_status query_on_lane(struct sqlite *s, esp_arena *arena, const char *stmt, const esp_sql_value *args,
                                uint32_t nargs, esp_sql_rows *ret)
{
	struct read_job job = { .s = s, .stmt = stmt, .args = args, .nargs = nargs };
	int32_t result = ESP_OK;
	esp_status st;

	job.arena = s->core.mem->arena_new(s->writer.self, "query", 2 * (size_t)DB_BYTES_MAX);
	if (!job.arena)
		return ESP_ENOMEM;
	st = s->core.pool->run(s->writer.self, s->read_lane, on_read_lane, &job, &result);
	if (st == ESP_OK)
		st = result;
	if (st == ESP_OK)
		st = copy_rows(&job.rows, arena, ret);
	s->core.mem->arena_free(job.arena);
	return st;
}

static struct db *own_connection(struct sqlite *s)
{
	esp_worker *here = s->core.loop->here();
	uint32_t i = here ? s->core.loop->index(here) : UINT32_MAX;

	return i < s->nworkers && s->core.loop->worker(i) == here ? s->worker[i] : NULL;
}

esp_status sqlite_query(const esp_sql *sql, uint32_t flags, esp_arena *arena, const char *stmt,
                        const esp_sql_value *args, uint32_t nargs, esp_sql_rows *ret)
{
	struct sqlite *s = sqlite_of(sql);
	struct db *db = flags & ESP_SQL_BOUNDED ? own_connection(s) : NULL;

	if (db)
		return db_exec(db, arena, stmt, args, nargs, ret);
	return query_on_lane(s, arena, stmt, args, nargs, ret);
}

/* --- reading long and consistently ---------------------------------------------------------------------------- */

struct long_tx { esp_tx pub; struct sqlite *s; struct db *db; };
struct long_job { struct sqlite *s; esp_status (*fn)(esp_tx *tx, void *arg); void *arg; };

static esp_status long_exec(esp_tx *tx, const char *stmt, const esp_sql_value *args, uint32_t nargs, esp_sql_rows *ret)
{
	struct long_tx *l = (struct long_tx *)tx;

	l->s->core.mem->arena_reset(tx->arena);
	return db_exec(l->db, tx->arena, stmt, args, nargs, ret);
}

/* WAL: the connection sees what was committed before its first statement until it ends, and holds up nobody. */
static int32_t on_long_lane(void *arg)
{
	struct long_job *job = arg;
	struct sqlite *s = job->s;
	struct db_options o = s->options;
	struct long_tx l = { .pub.exec = long_exec, .s = s };
	esp_err err = ESP_ERR_INIT;
	int st;

	o.writer = 0;
	o.cache_bytes = db_cache(&o, SQLITE_READER_CACHE);
	l.pub.arena = s->core.mem->arena_new(s->writer.self, "long read", 2 * (size_t)DB_BYTES_MAX);
	if (!l.pub.arena)
		return ESP_ENOMEM;
	st = db_open(&o, &l.db, &err);
	if (st != ESP_OK)
		db_tell(&s->trouble, &err);
	if (st == ESP_OK)
		st = db_script(l.db, "BEGIN", NULL);
	if (st == ESP_OK)
		st = job->fn(&l.pub, job->arg);
	db_close(l.db);
	s->core.mem->arena_free(l.pub.arena);
	return st;
}

esp_status sqlite_read(const esp_sql *sql, esp_status (*fn)(esp_tx *tx, void *arg), void *arg)
{
	struct sqlite *s = sqlite_of(sql);
	struct long_job job = { s, fn, arg };
	int32_t result = ESP_OK;
	esp_status st;

	s->core.fiber->shield(1);
	st = s->core.pool->run(s->writer.self, s->long_lane, on_long_lane, &job, &result);
	s->core.fiber->shield(0);
	return st == ESP_OK ? result : st;
}

struct check { esp_arena *arena; esp_str wrong; };

static esp_status check_tx(esp_tx *tx, void *arg)
{
	struct check *c = arg;
	esp_sql_rows rows;
	esp_status st = tx->exec(tx, "PRAGMA integrity_check(1)", NULL, 0, &rows);

	if (st == ESP_ECORRUPT)
		c->wrong = ESP_STR("the file cannot be read");
	else if (st != ESP_OK)
		return st;
	else if (rows.nrows != 1 || !esp_str_eq(esp_sql_at(&rows, 0, 0)->s, ESP_STR("ok")))
		c->wrong = esp_strdup_in(c->arena, rows.nrows ? esp_sql_at(&rows, 0, 0)->s : ESP_STR("no answer"));
	return ESP_OK;
}

esp_status sqlite_check(const esp_sql *sql, esp_arena *arena, esp_str *ret)
{
	struct check c = { .arena = arena };
	esp_status st = sqlite_read(sql, check_tx, &c);

	*ret = c.wrong;
	return st;
}
