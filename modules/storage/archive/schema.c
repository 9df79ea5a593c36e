/* schema - which tables there are and what columns they have, read from the text of every module's migrations.
 *
 * Modules declare their tables in portable SQL, the same for all engines, so no catalogue of an engine is asked.  Known
 * are CREATE TABLE, DROP TABLE and ALTER TABLE ... ADD, DROP, RENAME; everything else changes no table.  Pure.
 */
#include "archive.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

/* A word, a quoted text, or a single character. */
struct lexer { const char *p, *end; esp_str word; struct schema *schema; };

static int next(struct lexer *l)
{
	while (l->p < l->end && isspace((unsigned char)*l->p))
		l->p++;
	l->word = (esp_str){ l->p, 0 };
	if (l->p == l->end)
		return 0;
	if (*l->p == '\'') {
		for (l->p++; l->p < l->end && *l->p != '\''; l->p++)
			;
		l->p += l->p < l->end;
	} else if (isalnum((unsigned char)*l->p) || *l->p == '_') {
		while (l->p < l->end && (isalnum((unsigned char)*l->p) || *l->p == '_'))
			l->p++;
	} else {
		l->p++;
	}
	l->word.len = (size_t)(l->p - l->word.ptr);
	return 1;
}

static int is(const struct lexer *l, const char *word)
{
	return l->word.len == strlen(word) && strncasecmp(l->word.ptr, word, l->word.len) == 0;
}

/* "IF [NOT] EXISTS" says nothing about the table. */
static void skip_if(struct lexer *l)
{
	if (!is(l, "IF"))
		return;
	while (next(l) && (is(l, "NOT") || is(l, "EXISTS")))
		;
}

static esp_status take_name(const struct lexer *l, char out[SCHEMA_NAME])
{
	if (l->word.len == 0 || l->word.len >= SCHEMA_NAME ||
		!(isalpha((unsigned char)l->word.ptr[0]) || *l->word.ptr == '_'))
		return ESP_EPROTO;
	snprintf(out, SCHEMA_NAME, "%.*s", ESP_FMT(l->word));
	return ESP_OK;
}

int schema_table(const struct schema *s, const char *name)
{
	for (uint32_t i = 0; i < s->n; i++)
		if (strcasecmp(s->table[i]->name, name) == 0)
			return (int)i;
	return -1;
}

int schema_column(const struct table *t, const char *name)
{
	for (uint32_t i = 0; i < t->ncolumns; i++)
		if (strcasecmp(t->column[i].name, name) == 0)
			return (int)i;
	return -1;
}

static uint32_t type_of(const struct lexer *l)
{
	return is(l, "BIGINT") || is(l, "INTEGER") ? COLUMN_INT
		   : is(l, "TEXT")                     ? COLUMN_TEXT
		   : is(l, "BLOB")                     ? COLUMN_BLOB
											   : 0;
}

static esp_status add_key(struct table *t, int column)
{
	if (column < 0 || t->nkey == SCHEMA_KEY)
		return ESP_EPROTO;
	t->key[t->nkey++] = (uint32_t)column;
	return ESP_OK;
}

/* "REFERENCES account": its rows cannot go before ours. */
static void note_parent(const struct lexer *l)
{
	char name[SCHEMA_NAME];
	int at = take_name(l, name) == ESP_OK ? schema_table(l->schema, name) : -1;

	if (at >= 0)
		l->schema->table[at]->parent = 1;
}

/* To the comma or parenthesis that ends this element; PRIMARY KEY within is noted. */
static esp_status rest_of_column(struct lexer *l, struct table *t, int column)
{
	esp_status st = ESP_OK;
	int depth = 0, primary = 0, refers = 0;

	do {
		if (refers)
			note_parent(l);
		refers = is(l, "REFERENCES");
		if (depth == 0 && (is(l, ",") || is(l, ")")))
			break;
		depth += is(l, "(") - is(l, ")");
		if (primary && is(l, "KEY"))
			st = add_key(t, column);
		primary = is(l, "PRIMARY");
	} while (st == ESP_OK && next(l));
	return st;
}

static esp_status column_definition(struct lexer *l, struct table *t)
{
	struct column *c = &t->column[t->ncolumns];
	esp_status st = t->ncolumns == SCHEMA_COLUMNS ? ESP_EPROTO : take_name(l, c->name);

	if (st != ESP_OK || !next(l) || !(c->type = type_of(l)))
		return ESP_EPROTO;
	t->ncolumns++;
	return next(l) ? rest_of_column(l, t, (int)t->ncolumns - 1) : ESP_OK;
}

/* "PRIMARY KEY (a, b)"; UNIQUE, CHECK, FOREIGN and CONSTRAINT are passed over. */
static esp_status table_rule(struct lexer *l, struct table *t)
{
	char name[SCHEMA_NAME];
	int primary = is(l, "PRIMARY"), depth = 0, refers = 0;

	while (next(l)) {
		if (refers)
			note_parent(l);
		refers = is(l, "REFERENCES");
		if (depth == 0 && (is(l, ",") || is(l, ")")))
			return ESP_OK;
		depth += is(l, "(") - is(l, ")");
		if (primary && depth == 1 && !is(l, "(") && !is(l, ",") &&
		    (take_name(l, name) != ESP_OK || add_key(t, schema_column(t, name)) != ESP_OK))
			return ESP_EPROTO;
	}
	return ESP_EPROTO;
}

static esp_status create_table(struct schema *s, esp_arena *a, const esp_module *module, struct lexer *l)
{
	struct table *t = esp_alloc(a, sizeof *t);
	esp_status st = ESP_OK;

	if (!t || s->n == SCHEMA_TABLES)
		return ESP_ENOMEM;
	t->module = module;
	skip_if(l);
	if (take_name(l, t->name) != ESP_OK || !next(l) || !is(l, "("))
		return ESP_EPROTO;
	do {
		if (!next(l))
			return ESP_EPROTO;
		if (is(l, "PRIMARY") || is(l, "UNIQUE") || is(l, "CHECK") || is(l, "FOREIGN") || is(l, "CONSTRAINT"))
			st = table_rule(l, t);
		else
			st = column_definition(l, t);
	} while (st == ESP_OK && is(l, ","));
	if (st != ESP_OK || t->nkey == 0 || schema_table(s, t->name) >= 0)
		return ESP_EPROTO;
	s->table[s->n++] = t;
	return ESP_OK;
}

static esp_status drop_column(struct table *t, const char *name)
{
	int at = schema_column(t, name);

	if (at < 0)
		return ESP_EPROTO;
	for (uint32_t i = 0; i < t->nkey; i++) {
		if (t->key[i] == (uint32_t)at)
			return ESP_EPROTO;
		t->key[i] -= t->key[i] > (uint32_t)at;
	}
	t->ncolumns--;
	memmove(&t->column[at], &t->column[at + 1], (t->ncolumns - (uint32_t)at) * sizeof t->column[0]);
	return ESP_OK;
}

static esp_status rename_in(struct table *t, struct lexer *l)
{
	char from[SCHEMA_NAME];
	int at;

	if (!next(l))
		return ESP_EPROTO;
	if (is(l, "TO"))
		return next(l) ? take_name(l, t->name) : ESP_EPROTO;
	if (is(l, "COLUMN") && !next(l))
		return ESP_EPROTO;
	if (take_name(l, from) != ESP_OK || (at = schema_column(t, from)) < 0 || !next(l) || !is(l, "TO") || !next(l))
		return ESP_EPROTO;
	return take_name(l, t->column[at].name);
}

static esp_status alter_table(struct schema *s, struct lexer *l)
{
	char name[SCHEMA_NAME];
	int at, add, drop;

	skip_if(l);
	if (take_name(l, name) != ESP_OK || (at = schema_table(s, name)) < 0 || !next(l))
		return ESP_EPROTO;
	if (is(l, "RENAME"))
		return rename_in(s->table[at], l);
	add = is(l, "ADD");
	drop = is(l, "DROP");
	if (!next(l) || (is(l, "COLUMN") && !next(l)))
		return ESP_EPROTO;
	skip_if(l);
	if (add)
		return column_definition(l, s->table[at]);
	if (drop)
		return take_name(l, name) == ESP_OK ? drop_column(s->table[at], name) : ESP_EPROTO;
	return ESP_OK;
}

static esp_status drop_table(struct schema *s, struct lexer *l)
{
	char name[SCHEMA_NAME];
	int at;

	skip_if(l);
	if (take_name(l, name) != ESP_OK || (at = schema_table(s, name)) < 0)
		return ESP_EPROTO;
	s->n--;
	memmove(&s->table[at], &s->table[at + 1], (s->n - (uint32_t)at) * sizeof s->table[0]);
	return ESP_OK;
}

static esp_status statement(struct schema *s, esp_arena *a, const esp_module *module, struct lexer *l)
{
	int create, drop, alter;

	if (!next(l))
		return ESP_OK;
	create = is(l, "CREATE");
	drop = is(l, "DROP");
	alter = is(l, "ALTER");
	if (!(create || drop || alter) || !next(l) || !is(l, "TABLE"))
		return ESP_OK;
	if (!next(l))
		return ESP_EPROTO;
	return create ? create_table(s, a, module, l) : drop ? drop_table(s, l) : alter_table(s, l);
}

esp_status schema_apply(
	struct schema *s, esp_arena *a, const esp_module *module, const char *statements, esp_err *err)
{
	for (const char *p = statements, *end; *p; p = *end ? end + 2 : end) {
		struct lexer l;
		esp_status st;
		end = strstr(p, ";\n");
		if (!end)
			end = p + strlen(p);
		l = (struct lexer){ .p = p, .end = end, .schema = s };
		st = statement(s, a, module, &l);
		if (st != ESP_OK) {
			snprintf(err->text, sizeof err->text, "cannot understand the migration \"%.*s\"",
				end - p > 60 ? 60 : (int)(end - p), p);
			return st;
		}
	}
	return ESP_OK;
}

static const struct { const char *table; uint32_t kind; } kinds[] = {
	{ "lease", TABLE_PASSING }, { "mail_node", TABLE_PASSING }, { "mail_hint", TABLE_PASSING },
	{ "esp_outcome", TABLE_PASSING }, { "blob_stop", TABLE_PASSING }, { "blob_root", TABLE_PASSING },
	{ "blob_job", TABLE_DISK }, { "blob_trash", TABLE_DISK }, { "event", TABLE_LOG }, { "event_sequencer", TABLE_LOG },
	/* records beside the log, and places in it, which mean nothing in another one */
	{ "trace", TABLE_LOG }, { "llm_position", TABLE_LOG }, { "llm_budget", TABLE_LOG }, { "rspamd_learned", TABLE_LOG },
};

uint32_t schema_kind(const char *table)
{
	for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
		if (strcmp(table, kinds[i].table) == 0)
			return kinds[i].kind;
	return TABLE_MAIL;
}

struct reading { struct schema *s; esp_arena *arena; esp_err *err; esp_status status; };

static int32_t on_migrations(void *arg, esp_module *by, const void *item)
{
	const esp_sql_migrations *m = item;
	struct reading *r = arg;

	if (r->s->nmodules < SCHEMA_MODULES) {
		r->s->modules[r->s->nmodules].name = m->module;
		r->s->modules[r->s->nmodules].module = by;
	}
	for (uint32_t i = 0; i < m->n && r->status == ESP_OK; i++) {
		const esp_sql_migration *one = (const void *)((const char *)m->items + (size_t)i * m->item_size);
		r->status = r->s->nmodules < SCHEMA_MODULES ? schema_apply(r->s, r->arena, by, one->up, r->err) : ESP_E2BIG;
		if (r->status == ESP_OK && one->number > r->s->modules[r->s->nmodules].number)
			r->s->modules[r->s->nmodules].number = one->number;
	}
	r->s->nmodules++;
	return r->status;
}

esp_status schema_read(const struct archive *a, esp_arena *arena, struct schema *ret, esp_err *err)
{
	struct reading r = { ret, arena, err, ESP_OK };

	memset(ret, 0, sizeof *ret);
	(void)a->core.host->contributions("esp.sql.migrations/1", on_migrations, &r);
	for (uint32_t i = 0; i < ret->n; i++)
		ret->table[i]->kind = schema_kind(ret->table[i]->name);
	return r.status;
}
