/* tables - a table as JSON lines, one row a line in the order of its primary key, and back.
 *
 * The same rows give the same bytes on every engine, so one SHA-256 says whether two tables are equal.  A dump reads
 * pages by key; a load writes a few hundred rows a transaction, and rows that are there already become those of the
 * file, so a load that was cut off is simply done again.
 */
#include "archive.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "modules/common/json.h"

#define PAGE_ROWS 1000
#define LOAD_ROWS 200u
#define LOAD_BYTES (4u << 20)

/* --- one row ------------------------------------------------------------------------------------------------- */

static esp_status to_sink(void *arg, esp_str piece)
{
	sink_write(arg, piece.ptr, piece.len);
	return ESP_OK;
}

/* As text the JSON writer need not look at; blobs may be long. */
static esp_status put_blob(struct json *j, const char *key, esp_str s)
{
	char *hex = malloc(2 * s.len + 1);

	if (!hex)
		return ESP_ENOMEM;
	hex_of(s.ptr, s.len, hex);
	json_str(j, key, (esp_str){ hex, 2 * s.len });
	free(hex);
	return ESP_OK;
}

void row_write(struct sink *to, const struct table *t, const esp_sql_value *row)
{
	esp_status st = ESP_OK;
	struct json j;

	json_begin_sink(&j, to_sink, to);
	json_open(&j, NULL, '{');
	for (uint32_t i = 0; i < t->ncolumns && st == ESP_OK; i++) {
		const char *name = t->column[i].name;
		if (row[i].type == ESP_SQL_INT)
			json_int(&j, name, row[i].i);
		else if (row[i].type != ESP_SQL_NULL && t->column[i].type == COLUMN_BLOB)
			st = put_blob(&j, name, row[i].s);
		else if (row[i].type != ESP_SQL_NULL)
			json_str(&j, name, row[i].s);
	}
	json_close(&j, '}');
	if (st == ESP_OK)
		st = json_end(&j);
	if (to->status == ESP_OK)
		to->status = st;
	sink_write(to, "\n", 1);
	to->lines++;
}

/* --- statements ---------------------------------------------------------------------------------------------- */

static void add(struct statement *t, const char *fmt, ...) ESP_PRINTF(2, 3);
static void add(struct statement *t, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(t->buf + t->n, sizeof t->buf - t->n, fmt, ap);
	va_end(ap);
	t->n += n < 0 ? 0 : (size_t)n;
	if (t->n >= sizeof t->buf)             /* 40 columns of 64 bytes fit */
		abort();
}

static void add_keys(struct statement *s, const struct table *t)
{
	for (uint32_t i = 0; i < t->nkey; i++)
		add(s, "%s%s", i ? ", " : "", t->column[t->key[i]].name);
}

/* The first page, or those behind a key. */
static void select_text(struct statement *s, const struct table *t, int behind)
{
	s->n = 0;
	add(s, "SELECT ");
	for (uint32_t i = 0; i < t->ncolumns; i++)
		add(s, "%s%s", i ? ", " : "", t->column[i].name);
	add(s, " FROM %s", t->name);
	if (behind) {
		add(s, " WHERE (");
		add_keys(s, t);
		add(s, ") > (");
		for (uint32_t i = 0; i < t->nkey; i++)
			add(s, "%s$%u", i ? ", " : "", i + 2);
		add(s, ")");
	}
	add(s, " ORDER BY ");
	add_keys(s, t);
	add(s, " LIMIT $1");
}

static int is_key(const struct table *t, uint32_t column)
{
	for (uint32_t i = 0; i < t->nkey; i++)
		if (t->key[i] == column)
			return 1;
	return 0;
}

void statement_put(struct statement *s, const struct table *t)
{
	const char *comma = "";

	s->n = 0;
	add(s, "INSERT INTO %s (", t->name);
	for (uint32_t i = 0; i < t->ncolumns; i++)
		add(s, "%s%s", i ? ", " : "", t->column[i].name);
	add(s, ") VALUES (");
	for (uint32_t i = 0; i < t->ncolumns; i++)
		add(s, "%s$%u", i ? ", " : "", i + 1);
	add(s, ") ON CONFLICT (");
	add_keys(s, t);
	add(s, ") DO ");
	if (t->nkey == t->ncolumns) {
		add(s, "NOTHING");
		return;
	}
	add(s, "UPDATE SET ");
	for (uint32_t i = 0; i < t->ncolumns; i++) {
		if (is_key(t, i))
			continue;
		add(s, "%s%s = excluded.%s", comma, t->column[i].name, t->column[i].name);
		comma = ", ";
	}
}

void statement_delete(struct statement *s, const struct table *t)
{
	s->n = 0;
	add(s, "DELETE FROM %s WHERE ", t->name);
	for (uint32_t i = 0; i < t->nkey; i++)
		add(s, "%s%s = $%u", i ? " AND " : "", t->column[t->key[i]].name, i + 1);
}

/* --- dump ---------------------------------------------------------------------------------------------------- */

static void adjust(const struct table *t, const struct margin *m, esp_sql_value *row, int sign)
{
	for (; m && m->table; m++) {
		int at = strcmp(m->table, t->name) == 0 ? schema_column(t, m->column) : -1;
		if (at >= 0 && row[at].type == ESP_SQL_INT)
			row[at].i += sign * m->add;
	}
}

/* The last key of a page outlives the page. */
static esp_status keep_key(const struct table *t, const esp_sql_value *row, esp_sql_value *key, char *bytes[SCHEMA_KEY])
{
	for (uint32_t i = 0; i < t->nkey; i++) {
		const esp_sql_value *v = &row[t->key[i]];
		key[i] = *v;
		if (v->type == ESP_SQL_INT)
			continue;
		char *copy = realloc(bytes[i], v->s.len + 1);
		if (!copy)
			return ESP_ENOMEM;
		bytes[i] = copy;
		if (v->s.len)
			memcpy(copy, v->s.ptr, v->s.len);
		key[i].s.ptr = copy;
	}
	return ESP_OK;
}

static void take_row(const struct table *t, const struct dump *d, const esp_sql_value *row, struct sink *to)
{
	esp_sql_value mine[SCHEMA_COLUMNS];

	memcpy(mine, row, t->ncolumns * sizeof mine[0]);
	adjust(t, d->margin, mine, -1);
	row_write(to, t, mine);
	if (d->each)
		d->each(d->arg, t, mine);
}

esp_status table_dump(esp_tx *tx, const struct table *t, const struct dump *d, struct sink *to)
{
	esp_sql_value arg[1 + SCHEMA_KEY] = { ESP_SQL_I(PAGE_ROWS) };
	char *bytes[SCHEMA_KEY] = { NULL };
	struct statement *s = calloc(1, sizeof *s);
	esp_status st = s ? ESP_OK : ESP_ENOMEM;
	esp_sql_rows rows = { .nrows = 0 };
	int behind = 0, more = 1;

	while (st == ESP_OK && more) {
		select_text(s, t, behind);
		st = tx->exec(tx, s->buf, arg, behind ? 1 + t->nkey : 1, &rows);
		if (st == ESP_E2BIG && arg[0].i > 1) {     /* long rows: fewer a page */
			arg[0].i = arg[0].i / 8 + 1;
			st = ESP_OK;
			continue;
		}
		for (uint32_t i = 0; st == ESP_OK && i < rows.nrows; i++)
			take_row(t, d, esp_sql_at(&rows, i, 0), to);
		more = st == ESP_OK && rows.nrows == (uint32_t)arg[0].i;
		if (more)
			st = keep_key(t, esp_sql_at(&rows, rows.nrows - 1, 0), &arg[1], bytes);
		behind = 1;
		if (st == ESP_OK)
			st = to->status != ESP_OK ? to->status : task_check(d->task);
		task_did(d->task, rows.nrows);
	}
	for (uint32_t i = 0; i < SCHEMA_KEY; i++)
		free(bytes[i]);
	free(s);
	return st == ESP_OK ? st : task_fail(d->task, st, "cannot read the table %s: %s", t->name, why(st));
}

/* --- load ---------------------------------------------------------------------------------------------------- */

struct load {
	const struct table *t;
	const struct margin *margin;
	struct statement insert;
	FILE *f;
	char *line;
	size_t cap;
	esp_arena *arena;              /* of one batch */
	esp_sql_value *values;         /* LOAD_ROWS rows */
	uint32_t nrows;
	uint64_t at;                   /* line number */
};

/* [lane] The next rows; none at the end. */
static int32_t read_batch(void *arg)
{
	struct load *l = arg;
	size_t bytes = 0;
	ssize_t n;

	l->nrows = 0;
	while (l->nrows < LOAD_ROWS && bytes < LOAD_BYTES && (n = getline(&l->line, &l->cap, l->f)) > 0) {
		esp_sql_value *row = &l->values[(size_t)l->nrows * l->t->ncolumns];
		esp_status st;
		l->at++;
		st = l->line[n - 1] == '\n' ? row_parse(l->arena, l->t, (esp_str){ l->line, (size_t)n - 1 }, row) : ESP_EPROTO;
		if (st != ESP_OK)
			return st;
		adjust(l->t, l->margin, row, 1);
		bytes += (size_t)n;
		l->nrows++;
	}
	return ferror(l->f) ? disk_status(errno) : ESP_OK;
}

static esp_status insert_tx(esp_tx *tx, void *arg)
{
	struct load *l = arg;
	esp_status st = ESP_OK;

	for (uint32_t i = 0; st == ESP_OK && i < l->nrows; i++)
		st = tx->exec(tx, l->insert.buf, &l->values[(size_t)i * l->t->ncolumns], l->t->ncolumns, NULL);
	return st;
}

static esp_status load_batch(struct task *t, struct load *l)
{
	const esp_sql *sql;
	esp_status st;

	t->a->core.mem->arena_reset(l->arena);
	st = task_lane(t, read_batch, l);
	if (st == ESP_EPROTO)
		return task_fail(t, st, "line %llu of %s is no row of it", (unsigned long long)l->at, l->t->name);
	if (st != ESP_OK || l->nrows == 0)
		return st;
	sql = archive_sql(t->a);
	st = sql ? sql->transact(sql, NULL, 0, insert_tx, l) : ESP_EUNAVAIL;
	if (st == ESP_EUNKNOWN)            /* again: it makes the same rows */
		st = sql->transact(sql, NULL, 0, insert_tx, l);
	task_did(t, l->nrows);
	return st == ESP_OK ? task_breathe(t) : task_fail(t, st, "cannot write the table %s: %s", l->t->name, why(st));
}

static int32_t open_file(void *arg)
{
	void **p = arg;

	p[1] = fopen(p[0], "re");
	return p[1] ? ESP_OK : disk_status(errno);
}

esp_status table_load(struct task *t, const struct table *table, const char *path, const struct margin *margin)
{
	struct load *l = calloc(1, sizeof *l);
	void *open_arg[2] = { (void *)(uintptr_t)path, NULL };
	esp_status st = l ? task_lane(t, open_file, open_arg) : ESP_ENOMEM;

	if (st != ESP_OK) {
		free(l);
		return task_fail(t, st, "cannot read %.200s: %s", path, why(st));
	}
	l->t = table;
	l->margin = margin;
	l->f = open_arg[1];
	l->arena = t->a->core.mem->arena_new(t->a->self, "table", 256 << 20);
	l->values = calloc((size_t)LOAD_ROWS * table->ncolumns, sizeof *l->values);
	statement_put(&l->insert, table);
	st = l->arena && l->values ? ESP_OK : ESP_ENOMEM;
	do {
		if (st == ESP_OK)
			st = load_batch(t, l);
	} while (st == ESP_OK && l->nrows);
	(void)fclose(l->f);
	if (l->arena)
		t->a->core.mem->arena_free(l->arena);
	free(l->values);
	free(l->line);
	free(l);
	return st;
}
