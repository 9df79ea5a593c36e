/* move - everything into another database: esp.sql/1 to esp.sql.target/1, whichever engines they are.
 *
 * A pass writes both databases' tables to files, each in one snapshot, and changes the target where the files differ:
 * first rows go, from children to parents, then rows come, from parents to children.  A row that changed goes and
 * comes, so that unique names which changed places are in nobody's way; rows that others refer to are changed in place.
 * What a pass has done is in the target itself, so one that was cut off is just run again.  Passes run while mail
 * flows; --finish stops all transactions for the last one, compares the SHA-256 of every table and declares the copy
 * whole.  Until then no server starts on it (modules/common/migrate.h).
 *
 * Written here: server.path/move, twice the size of the tables; removed at the end.
 */
#include "archive.h"

#include <stdlib.h>
#include <string.h>

#include "modules/common/migrate.h"

#define OPS       200u
#define OPS_BYTES (4u << 20)
#define PASSES    5
#define FEW       2000u                /* changes of a pass after which another one does not pay */

struct side { FILE *f; char *line; size_t cap; ssize_t n; esp_sql_value key[SCHEMA_KEY]; };
struct move {
	struct task *t;
	struct schema schema;
	char dir[ARCHIVE_PATH + 16];
	const char *dumped;            /* "have" or "want" */
	char (*sha)[SHA_HEX];          /* of the dump that is written now, by table */
	char have[SCHEMA_TABLES][SHA_HEX], want[SCHEMA_TABLES][SHA_HEX];
	uint64_t rows, total;
	/* one table at work */
	const struct table *table;
	int deleting;
	struct side a, b;              /* what the target has, what it shall have */
	esp_arena *arena;              /* of one batch */
	esp_sql_value *values, *row;   /* OPS rows of parameters; one parsed row */
	uint32_t nops, nparams;
	int end;
	struct statement statement;
	uint64_t deleted, put;
	uint64_t changes;              /* of this pass */
};

static const esp_sql *source_of(const struct move *m) { return archive_sql(m->t->a); }
static const esp_sql *target_of(const struct move *m)
{
	return (const esp_sql *)m->t->a->core.host->service(m->t->a->self, m->t->a->target);
}

static int is_moved(const struct table *t) { return t->kind != TABLE_PASSING; }

/* --- both databases as files ------------------------------------------------------------------------------------- */

static void count_row(void *arg, const struct table *t, const esp_sql_value *row)
{
	struct move *m = arg;

	(void)t;
	(void)row;
	m->rows++;
}

static void path_of(const struct move *m, const char *which, const struct table *t, char out[ARCHIVE_FILE])
{
	path_make(out, "%s/%s/%s.jsonl", m->dir, which, t->name);
}

static esp_status dump_table(struct move *m, esp_tx *tx, const struct table *t, char sha[SHA_HEX])
{
	struct dump d = { .task = m->t, .each = count_row, .arg = m };
	char path[ARCHIVE_FILE];
	struct sink s;
	esp_status st, closed;

	path_of(m, m->dumped, t, path);
	st = sink_open(&s, m->t->a, path);
	if (st != ESP_OK)
		return st;
	st = table_dump(tx, t, &d, &s);
	closed = sink_close(&s, sha);
	return st == ESP_OK ? closed : st;
}

static esp_status dump_all(esp_tx *tx, void *arg)     /* read()'s fn */
{
	struct move *m = arg;
	char path[ARCHIVE_FILE];
	esp_status st;

	path_make(path, "%s/%s", m->dir, m->dumped);
	st = disk_make(path);
	m->rows = 0;
	for (uint32_t i = 0; st == ESP_OK && i < m->schema.n; i++)
		if (is_moved(m->schema.table[i]))
			st = dump_table(m, tx, m->schema.table[i], m->sha[i]);
	m->total = m->rows > m->total ? m->rows : m->total;
	return st;
}

static esp_status read_side(struct move *m, int target)
{
	const esp_sql *sql = target ? target_of(m) : source_of(m);
	esp_status st;

	m->dumped = target ? "have" : "want";
	m->sha = target ? m->have : m->want;
	task_step(m->t, target ? "reading the copy" : "reading the database", "rows", m->total);
	st = sql ? sql->read(sql, dump_all, m) : ESP_EUNAVAIL;
	return st == ESP_OK ? task_breathe(m->t) : st;
}

/* --- how they differ: [lane]
 * ----------------------------------------------------------------------------------------- */

static void next_line(struct side *s)
{
	s->n = s->f ? getline(&s->line, &s->cap, s->f) : -1;
}

static int32_t open_sides(void *arg)
{
	struct move *m = arg;
	char path[ARCHIVE_FILE];

	path_of(m, "have", m->table, path);
	m->a.f = fopen(path, "re");
	path_of(m, "want", m->table, path);
	m->b.f = fopen(path, "re");
	m->end = 0;
	if (!m->a.f || !m->b.f)
		return ESP_EIO;
	next_line(&m->a);
	next_line(&m->b);
	return ESP_OK;
}

static int32_t close_sides(void *arg)
{
	struct move *m = arg;

	if (m->a.f)
		(void)fclose(m->a.f);
	if (m->b.f)
		(void)fclose(m->b.f);
	m->a.f = m->b.f = NULL;
	return ESP_OK;
}

static esp_status parse(struct move *m, struct side *s, esp_sql_value *row)
{
	esp_status st = s->line[s->n - 1] == '\n'
						? row_parse(m->arena, m->table, (esp_str){ s->line, (size_t)s->n - 1 }, row)
						: ESP_EPROTO;

	for (uint32_t i = 0; st == ESP_OK && i < m->table->nkey; i++)
		s->key[i] = row[m->table->key[i]];
	return st;
}

/* The order of both engines: numbers, or bytes. */
static int compare_keys(const struct move *m)
{
	for (uint32_t i = 0; i < m->table->nkey; i++) {
		const esp_sql_value *x = &m->a.key[i], *y = &m->b.key[i];
		size_t n = x->s.len < y->s.len ? x->s.len : y->s.len;
		int c;
		if (x->type == ESP_SQL_INT)
			c = (x->i > y->i) - (x->i < y->i);
		else
			c = n ? memcmp(x->s.ptr, y->s.ptr, n) : 0;
		if (c == 0 && x->type != ESP_SQL_INT)
			c = (x->s.len > y->s.len) - (x->s.len < y->s.len);
		if (c)
			return c;
	}
	return 0;
}

/* Which side is behind: -1 the row must go, 1 it must come, 0 it changed.  2: both are through. */
static esp_status next_difference(struct move *m, int *ret)
{
	esp_sql_value *row = &m->values[(size_t)m->nops * m->table->ncolumns];
	esp_status st = ESP_OK;

	while (m->a.n > 0 && m->b.n == m->a.n && memcmp(m->a.line, m->b.line, (size_t)m->a.n) == 0) {
		next_line(&m->a);
		next_line(&m->b);
		task_did(m->t, 1);
	}
	if (ferror(m->a.f) || ferror(m->b.f))
		return ESP_EIO;
	if (m->a.n <= 0 && m->b.n <= 0) {
		*ret = 2;
		return ESP_OK;
	}
	if (m->a.n > 0)
		st = parse(m, &m->a, m->row);
	if (st == ESP_OK && m->b.n > 0)
		st = parse(m, &m->b, row);
	*ret = m->a.n <= 0 ? 1 : m->b.n <= 0 ? -1 : compare_keys(m);
	*ret = *ret < 0 ? -1 : *ret > 0;
	return st;
}

static void take_delete(struct move *m)
{
	memcpy(&m->values[(size_t)m->nops++ * m->table->ncolumns], m->a.key, m->table->nkey * sizeof m->a.key[0]);
}

/* The next changes of this kind; none at the end. */
static int32_t next_batch(void *arg)
{
	struct move *m = arg;
	size_t bytes = 0;
	esp_status st = ESP_OK;

	m->nops = 0;
	while (st == ESP_OK && !m->end && m->nops < OPS && bytes < OPS_BYTES) {
		int what;
		st = next_difference(m, &what);
		if (st != ESP_OK)
			return st;
		bytes += (m->a.n > 0 ? (size_t)m->a.n : 0) + (m->b.n > 0 ? (size_t)m->b.n : 0);
		m->end = what == 2;
		if (m->deleting && (what == -1 || (what == 0 && !m->table->parent)))
			take_delete(m);
		else if (!m->deleting && (what == 1 || what == 0))
			m->nops++;                     /* its values stand there */
		if (what <= 0)
			next_line(&m->a);
		if (what == 0 || what == 1)
			next_line(&m->b);
		task_did(m->t, what == 0 || what == 1);
	}
	return ESP_OK;
}

/* --- the target changes
 * -------------------------------------------------------------------------------------------- */

static esp_status apply_tx(esp_tx *tx, void *arg)
{
	struct move *m = arg;
	esp_status st = ESP_OK;

	for (uint32_t i = 0; st == ESP_OK && i < m->nops; i++)
		st = tx->exec(tx, m->statement.buf, &m->values[(size_t)i * m->table->ncolumns], m->nparams, NULL);
	return st;
}

static esp_status apply_batch(struct move *m)
{
	const esp_sql *sql;
	esp_status st;

	m->t->a->core.mem->arena_reset(m->arena);
	st = task_lane(m->t, next_batch, m);
	if (st != ESP_OK || m->nops == 0)
		return st;
	sql = target_of(m);
	st = sql ? sql->transact(sql, NULL, 0, apply_tx, m) : ESP_EUNAVAIL;
	if (st == ESP_EUNKNOWN)                /* again: it makes the same rows */
		st = sql->transact(sql, NULL, 0, apply_tx, m);
	*(m->deleting ? &m->deleted : &m->put) += m->nops;
	m->changes += m->nops;
	return st == ESP_OK ? task_breathe(m->t) : st;
}

static esp_status apply_table(struct move *m, const struct table *t, int deleting)
{
	esp_status st;

	m->table = t;
	m->deleting = deleting;
	m->nparams = deleting ? t->nkey : t->ncolumns;
	(deleting ? statement_delete : statement_put)(&m->statement, t);
	st = task_lane(m->t, open_sides, m);
	while (st == ESP_OK && !m->end)
		st = apply_batch(m);
	m->t->a->core.fiber->shield(1);
	(void)!task_lane(m->t, close_sides, m);
	m->t->a->core.fiber->shield(0);
	return st == ESP_OK ? st : task_fail(m->t, st, "cannot change the table %s of the copy: %s", t->name, why(st));
}

static esp_status pass(struct move *m)
{
	esp_status st = read_side(m, 1);

	if (st == ESP_OK)
		st = read_side(m, 0);
	m->changes = 0;
	task_step(m->t, "removing rows", "rows", 0);
	for (uint32_t i = m->schema.n; st == ESP_OK && i-- > 0;)
		if (is_moved(m->schema.table[i]) && strcmp(m->have[i], m->want[i]) != 0)
			st = apply_table(m, m->schema.table[i], 1);
	task_step(m->t, "copying rows", "rows", m->total);
	for (uint32_t i = 0; st == ESP_OK && i < m->schema.n; i++)
		if (is_moved(m->schema.table[i]) && strcmp(m->have[i], m->want[i]) != 0)
			st = apply_table(m, m->schema.table[i], 0);
	return st;
}

/* --- may it, and is it whole?
 * ------------------------------------------------------------------------------------------ */

static esp_status count(struct move *m, const esp_sql *sql, const char *text, int64_t *ret)
{
	esp_sql_rows rows = { .nrows = 0 };
	esp_status st = sql ? sql->query(sql, 0, m->t->arena, text, NULL, 0, &rows) : ESP_EUNAVAIL;

	*ret = st == ESP_OK && rows.nrows ? esp_sql_at(&rows, 0, 0)->i : 0;
	return st;
}

static esp_status mark_tx(esp_tx *tx, void *arg)
{
	const esp_sql_value *on = arg;
	esp_sql_value name = ESP_SQL_T(ESP_STR(MIGRATE_COPY));

	if (!on->i)
		return tx->exec(tx, "DELETE FROM esp_migration WHERE module = $1", &name, 1, NULL);
	return tx->exec(tx, "INSERT INTO esp_migration (module, number, title, applied) VALUES ($1, 1, $1, 0)"
		" ON CONFLICT (module, number) DO NOTHING", &name, 1, NULL);
}

static esp_status mark(struct move *m, int on)
{
	const esp_sql *sql = target_of(m);
	esp_sql_value arg = ESP_SQL_I(on);

	return sql ? sql->transact(sql, NULL, 0, mark_tx, &arg) : ESP_EUNAVAIL;
}

static esp_status must_be_ours(struct move *m)
{
	int64_t n = 0;
	char text[128];
	esp_status st = count(m, target_of(m), "SELECT COUNT(*) FROM esp_migration WHERE module = '" MIGRATE_COPY "'", &n);

	if (n || task_flag(m->t, "--again"))
		return st;
	for (uint32_t i = 0; st == ESP_OK && i < m->schema.n; i++) {
		if (m->schema.table[i]->kind != TABLE_MAIL)
			continue;
		snprintf(text, sizeof text, "SELECT COUNT(*) FROM (SELECT 1 FROM %s LIMIT 1) AS one", m->schema.table[i]->name);
		st = count(m, target_of(m), text, &n);
		if (st == ESP_OK && n)
			return task_fail(m->t, ESP_EEXIST,
				"the target is not empty (table %s), and is no copy that was begun here; --again"
				" makes it one",
				m->schema.table[i]->name);
	}
	return st;
}

static int is_engine(const esp_sql *sql, esp_str word)
{
	return esp_str_eq(word, (esp_str){ sql->engine, strlen(sql->engine) });
}

static esp_status check(struct move *m)
{
	const esp_sql *from = source_of(m), *to = target_of(m);

	if (!from || !to)
		return task_fail(m->t, ESP_EUNAVAIL, "there is no database to move to: add storage_sqlite_target or"
		                 " storage_pgsql_target to the modules of esp.conf, and reload");
	if (!is_engine(from, task_word(m->t, 0)) || !is_engine(to, task_word(m->t, 1)))
		return task_fail(m->t, ESP_EINVAL, "the database in use is not %.*s, or the one to move to is not %.*s",
		                 ESP_FMT(task_word(m->t, 0)), ESP_FMT(task_word(m->t, 1)));
	return ESP_OK;
}

/* Compared is what was read of both while nothing was written. */
static esp_status compare(struct move *m)
{
	esp_status st = read_side(m, 1);

	for (uint32_t i = 0; st == ESP_OK && i < m->schema.n; i++)
		if (is_moved(m->schema.table[i]) && strcmp(m->have[i], m->want[i]) != 0)
			return task_fail(
				m->t, ESP_ECORRUPT, "the table %s is not the same in both databases", m->schema.table[i]->name);
	return st;
}

static esp_status finish(struct move *m)
{
	const esp_sql *from = source_of(m);
	int64_t nodes = 0;
	esp_status st = count(m, from, "SELECT COUNT(*) FROM mail_node", &nodes);

	if (st == ESP_OK && nodes > 1 && !task_flag(m->t, "--alone") && !is_engine(from, ESP_STR("sqlite")))
		return task_fail(m->t, ESP_EBUSY,
			"%lld servers use this database: stop all but this one (one that was killed counts"
			" for five minutes; --alone if you are sure)",
			(long long)nodes);
	if (st == ESP_OK)
		st = from->pause(from, 1);
	if (st == ESP_OK)
		st = pass(m);
	if (st == ESP_OK)
		st = compare(m);
	if (st == ESP_OK)
		st = mark(m, 0);
	from = source_of(m);
	if (st != ESP_OK && from && from->pause(from, 0) != ESP_OK)
		return ESP_EUNAVAIL;
	return st;
}

static int32_t remove_files(void *arg)
{
	return disk_remove_tree(((struct move *)arg)->dir);
}

static esp_status move(struct move *m)
{
	esp_status st = check(m);

	if (st == ESP_OK)
		st = schema_read(m->t->a, m->t->arena, &m->schema, &m->t->err);
	if (st == ESP_OK)
		st = must_be_ours(m);
	if (st == ESP_OK)
		st = mark(m, 1);
	for (int i = 0; st == ESP_OK && i < PASSES; i++) {
		st = pass(m);
		if (m->changes < FEW)
			break;
	}
	if (st == ESP_OK && task_flag(m->t, "--finish"))
		st = finish(m);
	m->t->a->core.fiber->shield(1);
	(void)!task_lane(m->t, remove_files, m);
	m->t->a->core.fiber->shield(0);
	if (st != ESP_OK)
		return task_fail(m->t, st, "the copy was not finished: %s; the same command goes on with it", why(st));
	task_fact(m->t, "rows", (int64_t)m->rows);
	task_fact(m->t, "written", (int64_t)m->put);
	task_fact(m->t, "removed", (int64_t)m->deleted);
	task_text(m->t, "state",
		task_flag(m->t, "--finish") ? "whole; this server writes no more: put the new database into"
									  " esp.conf and restart"
									: "unfinished; end with --finish");
	return ESP_OK;
}

esp_status move_run(struct task *t)
{
	static const char *const options[] = { "--finish", "--again", "--alone", NULL };
	struct move *m = calloc(1, sizeof *m);
	esp_status st = m ? task_expect(t, 2, options) : ESP_ENOMEM;

	if (st == ESP_OK) {
		m->t = t;
		snprintf(m->dir, sizeof m->dir, "%.700s/move", t->a->core.host->data_dir());
		m->arena = t->a->core.mem->arena_new(t->a->self, "move", 256 << 20);
		m->values = calloc((size_t)OPS * SCHEMA_COLUMNS, sizeof *m->values);
		m->row = calloc(SCHEMA_COLUMNS, sizeof *m->row);
		st = m->arena && m->values && m->row ? move(m) : ESP_ENOMEM;
		free(m->a.line);
		free(m->b.line);
		free(m->values);
		free(m->row);
		if (m->arena)
			t->a->core.mem->arena_free(m->arena);
	}
	free(m);
	return st;
}
