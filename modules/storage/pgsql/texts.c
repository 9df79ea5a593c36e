/* texts - "esp.textindex/1" in tables of PostgreSQL, with pg_trgm.
 *
 * A scope's texts are rows, found by a GIN index of the scope and the trigrams of header and body; LIKE over the stored
 * text decides.  pg_trgm makes trigrams of letters and digits alone: a needle without three of them in a row has every
 * text of its scope read.  How far a scope is indexed is a row that changes in the same transaction.
 *
 * As with SQLite, one lane writes and another of two threads reads, each thread on a connection of its own: mail's
 * connections never wait for the index.  Without the extension there is no index; it is looked for now and then.
 */
#include "pgsql.h"

#include <endian.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#define READERS       2u
#define WRITE_TIMEOUT (60 * ESP_SEC)   /* a statement may have to put 4 MB of new entries into their places */
#define LOOK_EVERY    (5 * ESP_SEC)
#define GONE_MAX      5000u            /* texts that leave in one transaction */
#define TRIGRAM       3u

static const char MARK[] = "SELECT epoch, upto, modseq FROM esp_search_mark WHERE scope = $1";
/* Makes it, locks it and tells what it is. */
static const char MARK_LOCK[] =
	"INSERT INTO esp_search_mark (scope, epoch, upto, modseq) VALUES ($1, 0, 0, 0)"
	" ON CONFLICT (scope) DO UPDATE SET epoch = esp_search_mark.epoch RETURNING epoch, upto, modseq";
static const char MARK_UPDATE[] = "UPDATE esp_search_mark SET epoch = $2, upto = $3, modseq = $4 WHERE scope = $1";
static const char MARK_DELETE[] = "DELETE FROM esp_search_mark WHERE scope = $1";
static const char SCOPES[] = "SELECT scope FROM esp_search_mark WHERE scope > $1 ORDER BY scope LIMIT 500";
static const char TEXT_PUT[] =
	"INSERT INTO esp_search_text (scope, number, cut, header, body) VALUES ($1, $2, $3 <> 0, $4, $5)"
	" ON CONFLICT (scope, number) DO UPDATE SET cut = excluded.cut, header = excluded.header, body = excluded.body";
static const char RANGE_DELETE[] =
	"DELETE FROM esp_search_text WHERE scope = $1 AND number IN (SELECT number FROM esp_search_text"
	" WHERE scope = $1 AND number BETWEEN $2 AND $3 ORDER BY number LIMIT $4)";
static const char HAS_TRIGRAM[] = "SELECT $1 ~ '[[:alnum:]]{3}'";

/* The mark and the hits, as one string of 64-bit numbers (the text's, doubled, and one more when it is sure): a
 * statement of its own would be another state of the tables, and a row for each hit takes much memory. */
#define FIND(texts) \
	"SELECT epoch, upto, modseq, (SELECT string_agg(int8send(number * 2 + sure), ''::BYTEA ORDER BY number) FROM" \
	" (SELECT number, max(sure) AS sure FROM (" texts " UNION ALL" \
	" SELECT number, 0 FROM esp_search_text WHERE scope = $1 AND number BETWEEN $2 AND $3 AND cut) AS every" \
	" GROUP BY number) AS hit) FROM esp_search_mark WHERE scope = $1"
#define READING(holds) \
	"SELECT number, 1 AS sure FROM esp_search_text WHERE scope = $1 AND number BETWEEN $2 AND $3 AND " holds
/* The planner knows nothing of what it costs to read texts that lie outside the rows: "+ 0" keeps it from the primary
 * key, and an OR would have it look for the scope alone. */
#define BY_TRIGRAMS(holds) \
	"SELECT number, 1 AS sure FROM esp_search_text WHERE ARRAY[scope] @> ARRAY[$1] AND number + 0 BETWEEN $2 AND $3" \
	" AND " holds
#define HEADER_HOLDS "header LIKE $4"
#define BODY_HOLDS   "body LIKE $4"
/* fields are "name: value\1"; $5 is "name: ", $6 the needle */
#define FIELD_HOLDS \
	"header LIKE $4 AND EXISTS (SELECT FROM unnest(string_to_array(header, chr(1))) AS field" \
	" WHERE starts_with(field, $5) AND strpos(substr(field, length($5) + 1), $6) > 0)"

enum where { HEADER, BODY, BOTH, FIELD, WHERES };
static const char *const find_reading[WHERES] = {
	[HEADER] = FIND(READING(HEADER_HOLDS)),
	[BODY] = FIND(READING(BODY_HOLDS)),
	[BOTH] = FIND(READING("(" HEADER_HOLDS " OR " BODY_HOLDS ")")),
	[FIELD] = FIND(READING(FIELD_HOLDS)),
};
static const char *const find_by_trigrams[WHERES] = {
	[HEADER] = FIND(BY_TRIGRAMS(HEADER_HOLDS)),
	[BODY] = FIND(BY_TRIGRAMS(BODY_HOLDS)),
	[BOTH] = FIND(BY_TRIGRAMS(HEADER_HOLDS) " UNION ALL " BY_TRIGRAMS(BODY_HOLDS)),
	[FIELD] = FIND(BY_TRIGRAMS(FIELD_HOLDS)),
};

struct texts {
	esp_textindex table;         /* first: services are found by it */
	struct pgsql *p;
	esp_lane *write_lane, *read_lane;
	struct textlink writer, readers[READERS];
	_Atomic(struct textlink *) reader[READERS];
	esp_arena *arena;            /* of the writer */
	atomic_int usable;
	_Atomic esp_nsec look_at;    /* when to see again whether it is */
	int told;
};

static struct texts *of(const esp_textindex *ti) { return (struct texts *)(uintptr_t)ti; }
static int64_t int_at(const esp_sql_rows *r, uint32_t col) { return esp_sql_at(r, 0, col)->i; }
static esp_text_mark mark_at(const esp_sql_rows *r)
{
	return (esp_text_mark){ (uint32_t)int_at(r, 0), (uint32_t)int_at(r, 1), (uint64_t)int_at(r, 2) };
}

static int32_t run(struct texts *t, esp_lane *lane, int32_t (*fn)(void *arg), void *arg)
{
	const esp_core *core = &t->p->core;
	int32_t result = ESP_OK;
	esp_status st;

	core->fiber->shield(1);           /* the job is on our stack */
	st = core->pool->run(t->p->self, lane, fn, arg, &result);
	core->fiber->shield(0);
	return st == ESP_OK ? result : st;
}

/* --- is there one? ----------------------------------------------------------------------------------------- */

struct look_job { struct texts *t; uint32_t may; esp_status status; esp_err err; };

/* A database that is away is told of elsewhere. */
static void tell(struct texts *t, const struct look_job *job)
{
	const esp_core *core = &t->p->core;
	esp_str why = { job->err.text, strcspn(job->err.text, "\n") };
	esp_str remedy = job->status != ESP_ENOENT ? ESP_STR("mend that: it is tried again")
	               : !t->p->set.auto_migrate   ? ESP_STR("run esp-server migrate")
	               : ESP_STR("let a superuser run in this database: CREATE EXTENSION pg_trgm");

	if (job->status == ESP_EUNAVAIL || t->told == (job->status != ESP_OK))
		return;
	t->told = !t->told;
	if (t->told)
		esp_log(core->log, t->p->self, ESP_LOG_WARNING, "there is no search index: searches read the messages",
			ESP_FSTR("reason", why), ESP_FSTR("do", remedy));
	else
		esp_log(core->log, t->p->self, ESP_LOG_INFO, "there is a search index now",
			ESP_FSTR("with", ESP_STR("pg_trgm")));
}

static int32_t on_look(void *arg)
{
	struct look_job *job = arg;
	struct texts *t = job->t;

	if (atomic_load(&t->usable))
		return ESP_OK;
	job->status = textlink_prepare(&t->writer, t->arena, job->may, &job->err);
	atomic_store(&t->usable, job->status == ESP_OK);
	atomic_store(&t->look_at, t->p->core.loop->clock() + LOOK_EVERY);
	t->p->core.mem->arena_reset(t->arena);
	tell(t, job);
	return job->status;
}

/* Asked by who fills it, not by searches. */
static esp_status look_again(struct texts *t)
{
	struct look_job job = { .t = t, .may = t->p->set.auto_migrate ? TEXTLINK_TABLES : 0, .err = ESP_ERR_INIT };

	if (atomic_load(&t->usable))
		return ESP_OK;
	if (t->p->core.loop->clock() < atomic_load(&t->look_at))
		return ESP_EUNAVAIL;
	return run(t, t->write_lane, on_look, &job) == ESP_OK ? ESP_OK : ESP_EUNAVAIL;
}

/* --- reading ----------------------------------------------------------------------------------------------- */

struct read_job {
	struct texts *t;
	int (*fn)(struct textlink *l, struct read_job *job);
	esp_arena *arena;            /* the lane's own */
	esp_id scope;
	const esp_text_query *query;
	esp_text_mark mark;
	esp_sql_rows rows;
};

static int32_t on_read_lane(void *arg)
{
	struct read_job *job = arg;
	struct textlink *l;
	uint32_t i = 0;
	int st;

	while (!(l = atomic_exchange(&job->t->reader[i], NULL)))
		i = (i + 1) % READERS;
	st = job->fn(l, job);
	if (st == ESP_EUNAVAIL)      /* a connection that nobody used may have ended long ago */
		st = job->fn(l, job);
	atomic_store(&job->t->reader[i], l);
	return st;
}

static esp_status read_on_lane(struct read_job *job)
{
	struct texts *t = job->t;

	if (!atomic_load(&t->usable))
		return ESP_EUNAVAIL;
	job->arena = t->p->core.mem->arena_new(t->p->self, "texts", 2 * (size_t)BYTES_MAX);
	return job->arena ? run(t, t->read_lane, on_read_lane, job) : ESP_ENOMEM;
}

static int fn_mark(struct textlink *l, struct read_job *job)
{
	int st = textlink_exec(l, job->arena, MARK, (esp_sql_value[]){ ESP_SQL_ID(job->scope) }, 1, &job->rows);

	if (st == ESP_OK && job->rows.nrows)
		job->mark = mark_at(&job->rows);
	return st;
}

static esp_status mark(const esp_textindex *ti, esp_id scope, esp_text_mark *ret)
{
	struct read_job job = { .t = of(ti), .fn = fn_mark, .scope = scope };
	esp_status st = look_again(job.t);

	if (st == ESP_OK)
		st = read_on_lane(&job);
	*ret = job.mark;
	job.t->p->core.mem->arena_free(job.arena);
	return st;
}

static int fn_scopes(struct textlink *l, struct read_job *job)
{
	return textlink_exec(l, job->arena, SCOPES, (esp_sql_value[]){ ESP_SQL_ID(job->scope) }, 1, &job->rows);
}

static esp_status scopes(const esp_textindex *ti, esp_arena *arena, esp_id after, const esp_id **ret, uint32_t *ret_n)
{
	struct read_job job = { .t = of(ti), .fn = fn_scopes, .scope = after };
	esp_status st = look_again(job.t);
	esp_id *id = NULL;

	*ret_n = 0;
	if (st == ESP_OK)
		st = read_on_lane(&job);
	if (st == ESP_OK && !(id = esp_alloc_array(arena, job.rows.nrows + 1, sizeof *id)))
		st = ESP_ENOMEM;
	for (uint32_t i = 0; st == ESP_OK && i < job.rows.nrows; i++) {
		const esp_sql_value *v = esp_sql_at(&job.rows, i, 0);
		if (v->type == ESP_SQL_BLOB && v->s.len == sizeof id->b)
			memcpy(id[(*ret_n)++].b, v->s.ptr, sizeof id->b);
	}
	*ret = id;
	job.t->p->core.mem->arena_free(job.arena);
	return st;
}

/* --- finding ----------------------------------------------------------------------------------------------- */

static int is_alnum(unsigned char c)
{
	return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}

/* Letters beyond ASCII are those of the database's locale: it is asked. */
static int has_trigram(struct textlink *l, esp_arena *a, esp_str needle, int *ret)
{
	esp_sql_rows rows;
	uint32_t in_row = 0, foreign = 0;
	int st;

	*ret = 0;
	for (size_t i = 0; i < needle.len && in_row < TRIGRAM; i++) {
		in_row = is_alnum((unsigned char)needle.ptr[i]) ? in_row + 1 : 0;
		foreign |= (unsigned char)needle.ptr[i] >= 0x80;
	}
	*ret = in_row == TRIGRAM;
	if (*ret || !foreign)
		return ESP_OK;
	st = textlink_exec(l, a, HAS_TRIGRAM, (esp_sql_value[]){ ESP_SQL_T(needle) }, 1, &rows);
	if (st == ESP_OK)
		*ret = int_at(&rows, 0) != 0;
	return st;
}

/* "%needle%" with what LIKE would understand escaped; no memory: ptr NULL. */
static esp_str like_pattern(esp_arena *a, esp_str needle)
{
	char *p = esp_alloc(a, 2 * needle.len + 3), *start = p;

	if (!p)
		return (esp_str){ NULL, 0 };
	*p++ = '%';
	for (size_t i = 0; i < needle.len; i++) {
		if (needle.ptr[i] == '%' || needle.ptr[i] == '_' || needle.ptr[i] == '\\')
			*p++ = '\\';
		*p++ = needle.ptr[i];
	}
	*p++ = '%';
	return (esp_str){ start, (size_t)(p - start) };
}

static esp_str field_start(esp_arena *a, esp_str field)
{
	char *p = esp_alloc(a, field.len + 3);

	if (!p)
		return (esp_str){ NULL, 0 };
	memcpy(p, field.ptr, field.len);
	memcpy(p + field.len, ": ", 3);
	return (esp_str){ p, field.len + 2 };
}

static enum where where_of(const esp_text_query *q)
{
	if (q->field.len)
		return FIELD;
	return q->where == ESP_TEXT_IN_HEADER ? HEADER : q->where == ESP_TEXT_IN_BODY ? BODY : BOTH;
}

static int fn_find(struct textlink *l, struct read_job *job)
{
	const esp_text_query *q = job->query;
	enum where where = where_of(q);
	esp_str pattern = like_pattern(job->arena, q->needle), field = { "", 0 };
	int indexed, st;

	if (where == FIELD)
		field = field_start(job->arena, q->field);
	if (!pattern.ptr || !field.ptr)
		return ESP_ENOMEM;
	st = has_trigram(l, job->arena, q->needle, &indexed);
	if (st == ESP_OK)
		st = textlink_exec(l, job->arena, indexed ? find_by_trigrams[where] : find_reading[where],
			(esp_sql_value[]){ ESP_SQL_ID(q->scope), ESP_SQL_I(q->first), ESP_SQL_I(q->last), ESP_SQL_T(pattern),
				ESP_SQL_T(field), ESP_SQL_T(q->needle) }, where == FIELD ? 6 : 4, &job->rows);
	if (st == ESP_OK && job->rows.nrows)
		job->mark = mark_at(&job->rows);
	return st;
}

static esp_status take_hits(esp_arena *arena, const esp_sql_rows *rows, const esp_text_hit **ret, uint32_t *ret_n)
{
	const esp_sql_value *v = rows->nrows ? esp_sql_at(rows, 0, 3) : NULL;
	uint32_t n = v && v->type == ESP_SQL_BLOB ? (uint32_t)(v->s.len / sizeof(uint64_t)) : 0;
	esp_text_hit *hit = esp_alloc_array(arena, (size_t)n + 1, sizeof *hit);
	uint64_t number;

	if (!hit)
		return ESP_ENOMEM;
	for (uint32_t i = 0; i < n; i++) {
		memcpy(&number, v->s.ptr + i * sizeof number, sizeof number);
		number = be64toh(number);
		hit[i] = (esp_text_hit){ (uint32_t)(number / 2), number % 2 };
	}
	*ret = hit;
	*ret_n = n;
	return ESP_OK;
}

static esp_status find(const esp_textindex *ti, esp_arena *arena, const esp_text_query *q, esp_text_mark *ret_mark,
	const esp_text_hit **ret, uint32_t *ret_n)
{
	struct read_job job = { .t = of(ti), .fn = fn_find, .query = q };
	esp_status st = q->needle.len ? read_on_lane(&job) : ESP_EINVAL;

	*ret = NULL;
	*ret_n = 0;
	if (st == ESP_OK)
		st = take_hits(arena, &job.rows, ret, ret_n);
	*ret_mark = job.mark;
	job.t->p->core.mem->arena_free(job.arena);
	return st;
}

/* --- writing ----------------------------------------------------------------------------------------------- */

static int write_exec(struct texts *t, const char *text, const esp_sql_value *args, uint32_t nargs, esp_sql_rows *ret)
{
	return textlink_exec(&t->writer, t->arena, text, args, nargs, ret);
}

/* Texts of one range leave, at most *left of them. */
static int range_delete(struct texts *t, esp_id scope, esp_uid_range range, uint32_t *left)
{
	esp_sql_value args[] = { ESP_SQL_ID(scope), ESP_SQL_I(range.first), ESP_SQL_I(range.last), ESP_SQL_I(*left) };
	esp_sql_rows rows = { .changed = 0 };
	int st = write_exec(t, RANGE_DELETE, args, 4, &rows);

	if (st == ESP_OK)
		*left -= rows.changed;
	return st;
}

static int text_put(struct texts *t, esp_id scope, const esp_text_doc *d)
{
	esp_sql_value args[] = { ESP_SQL_ID(scope), ESP_SQL_I(d->number), ESP_SQL_I(d->cut), ESP_SQL_T(d->header),
		ESP_SQL_T(d->body) };

	return write_exec(t, TEXT_PUT, args, 5, NULL);
}

static int same_mark(esp_text_mark a, esp_text_mark b)
{
	return a.epoch == b.epoch && a.upto == b.upto && a.modseq == b.modseq;
}

static int mark_put(struct texts *t, esp_id scope, esp_text_mark m)
{
	esp_sql_value args[] = { ESP_SQL_ID(scope), ESP_SQL_I(m.epoch), ESP_SQL_I(m.upto), ESP_SQL_I(m.modseq) };

	if (same_mark(m, (esp_text_mark){ 0, 0, 0 }))
		return write_exec(t, MARK_DELETE, args, 1, NULL);
	return write_exec(t, MARK_UPDATE, args, 4, NULL);
}

static int update_one(struct texts *t, esp_text_update *u, uint32_t *left)
{
	esp_sql_rows rows;
	int st = write_exec(t, MARK_LOCK, (esp_sql_value[]){ ESP_SQL_ID(u->scope) }, 1, &rows);

	if (st != ESP_OK)
		return st;
	u->status = same_mark(mark_at(&rows), u->before) ? ESP_OK : ESP_ECONFLICT;
	if (u->status == ESP_ECONFLICT)
		return ESP_OK;
	for (uint32_t i = 0; st == ESP_OK && *left && i < u->gone.n; i++)
		st = range_delete(t, u->scope, u->gone.range[i], left);
	if (st == ESP_OK && *left == 0) {
		u->status = ESP_EAGAIN;
		return ESP_OK;
	}
	for (uint32_t i = 0; st == ESP_OK && i < u->ndocs; i++)
		st = text_put(t, u->scope, &u->doc[i]);
	return st == ESP_OK ? mark_put(t, u->scope, u->after) : st;
}

static int by_scope(const void *a, const void *b)
{
	const esp_text_update *const *x = a, *const *y = b;

	return memcmp((*x)->scope.b, (*y)->scope.b, sizeof (*x)->scope.b);
}

struct update_job { struct texts *t; esp_text_update *u; uint32_t n; };

/* In order of scopes: servers that index the same mailboxes wait for each other, and in no circle. */
static int update_all(struct texts *t, const struct update_job *job)
{
	esp_text_update **turn = esp_alloc_array(t->arena, job->n, sizeof(esp_text_update *));
	uint32_t left = GONE_MAX;
	int st = turn ? write_exec(t, "BEGIN", NULL, 0, NULL) : ESP_ENOMEM;

	for (uint32_t i = 0; st == ESP_OK && i < job->n; i++)
		turn[i] = &job->u[i];
	if (st == ESP_OK)
		qsort(turn, job->n, sizeof(esp_text_update *), by_scope);
	for (uint32_t i = 0; st == ESP_OK && i < job->n; i++)
		st = update_one(t, turn[i], &left);
	return st == ESP_OK ? write_exec(t, "COMMIT", NULL, 0, NULL) : st;
}

static int32_t on_update(void *arg)
{
	struct update_job *job = arg;
	struct texts *t = job->t;
	int st = update_all(t, job);

	if (st != ESP_OK)
		textlink_close(&t->writer);   /* whatever it was in the middle of */
	t->p->core.mem->arena_reset(t->arena);
	return st;
}

static esp_status update(const esp_textindex *ti, esp_text_update *u, uint32_t n)
{
	struct update_job job = { of(ti), u, n };
	esp_status st = look_again(job.t);

	return st == ESP_OK ? run(job.t, job.t->write_lane, on_update, &job) : st;
}

/* --- life -------------------------------------------------------------------------------------------------- */

esp_status texts_open(struct texts *t, int may_make)
{
	struct pgsql *p = t->p;
	struct look_job job = { .t = t, .may = may_make ? TEXTLINK_TABLES | TEXTLINK_EXTENSION : 0, .err = ESP_ERR_INIT };
	esp_status st = textlink_init(&t->writer, p, WRITE_TIMEOUT);

	for (uint32_t i = 0; st == ESP_OK && i < READERS; i++) {
		st = textlink_init(&t->readers[i], p, p->set.statement_timeout);
		atomic_store(&t->reader[i], &t->readers[i]);
	}
	t->arena = p->core.mem->arena_new(p->self, "texts-write", 2 * (size_t)BYTES_MAX);
	t->write_lane = p->core.pool->open(p->self, "index-write", 1, 1024);
	t->read_lane = p->core.pool->open(p->self, "index-read", READERS, 4096);
	if (st != ESP_OK || !t->arena || !t->write_lane || !t->read_lane)
		return ESP_ENOMEM;
	return run(t, t->write_lane, on_look, &job);
}

void texts_close(struct texts *t)
{
	textlink_close(&t->writer);
	for (uint32_t i = 0; i < READERS; i++)
		textlink_close(&t->readers[i]);
	if (t->arena)
		t->p->core.mem->arena_free(t->arena);
	t->arena = NULL;
}

const esp_service *texts_service(struct texts *t) { return &t->table.service; }

struct texts *texts_new(struct pgsql *p)
{
	struct texts *t = esp_alloc(p->core.host->arena(p->self), sizeof *t);

	if (!t)
		return NULL;
	t->p = p;
	t->table = (esp_textindex){ .service = { .size = sizeof(esp_textindex), .minor = 0, .provider = p->self },
		.mark = mark, .update = update, .find = find, .scopes = scopes };
	return t;
}
