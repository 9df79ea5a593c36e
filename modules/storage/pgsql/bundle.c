/* bundle - the same change many times, as one statement.
 *
 * What the server spends on a small INSERT is mostly the statement, not the row.  Changes whose result nobody looks at
 * are kept until the batch needs them done; those of one text then go as one:
 *
 *   INSERT INTO t (a, b) VALUES ($1, $2)   INSERT INTO t (a, b) SELECT x.a1, x.a2 FROM unnest($1, $2) AS x (a1, a2)
 *   DELETE FROM t WHERE a = $1             DELETE FROM t WHERE a = ANY ($1)
 *
 * Rows keep their order, texts the order of their first rows.  Rows with NULLs in other columns are another text.
 * An upsert must not meet the same row twice in one statement: a first argument that is there already ends the bundle.
 * A statement that names a table with changes that wait makes them go first: bundles_touch().
 */
#include "pgsql.h"

#include <endian.h>
#include <stdio.h>
#include <stdlib.h>

#define BUNDLE_ROWS  1000u
#define BUNDLE_BYTES (4u << 20)
#define ARRAY_HEAD   20u

struct column { char *data; size_t len, cap; Oid element; };
struct bundle {
	struct bundle *next;
	char *text;
	char table[64];
	uint32_t ncols, nrows;
	uint64_t nulls;            /* bit k: column k is NULL in every row */
	struct column *column;     /* an array on the wire each, its head still to be written */
};

/* --- which texts ----------------------------------------------------------------------------------------- */

static const char DELETE[] = "DELETE FROM ";
static const char INSERT[] = "INSERT INTO ";
static const char VALUES[] = " VALUES (";

static int is_upsert(const char *text) { return strstr(text, " DO UPDATE ") != NULL; }

static int is_delete(const char *text)
{
	static const char end[] = " = $1";
	size_t n = strlen(text);

	return strncmp(text, DELETE, sizeof DELETE - 1) == 0 && !strstr(text, " AND ") && !strstr(text, " OR ") &&
	       strstr(text, " WHERE ") && n > sizeof end && strcmp(text + n - sizeof end + 1, end) == 0;
}

int bundle_takes(const char *text, uint32_t nargs)
{
	if (nargs == 0 || nargs > PARAMS_MAX)
		return 0;
	if (is_delete(text))
		return nargs == 1;
	return strncmp(text, INSERT, sizeof INSERT - 1) == 0 && strstr(text, VALUES) && !strstr(text, " RETURNING ");
}

static int is_word(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

/* The third word of both. */
static void table_of(const char *text, char table[64])
{
	size_t n = 0;

	for (text += sizeof INSERT - 1; is_word(*text) && n < 63; text++)
		table[n++] = *text;
	table[n] = '\0';
}

static int names(const char *text, const char *table)
{
	size_t n = strlen(table);

	for (const char *p = strstr(text, table); p; p = strstr(p + 1, table))
		if ((p == text || !is_word(p[-1])) && !is_word(p[n]))
			return 1;
	return 0;
}

int bundles_touch(const struct bundles *list, const char *text)
{
	for (const struct bundle *b = list->first; b; b = b->next)
		if (strcmp(b->text, text) != 0 && names(text, b->table))
			return 1;
	return 0;
}

/* --- rows ------------------------------------------------------------------------------------------------ */

static int column_add(struct column *c, const esp_sql_value *v)
{
	uint64_t number = htobe64((uint64_t)v->i);
	const char *bytes = v->type == ESP_SQL_INT ? (const char *)&number : v->s.ptr;
	size_t len = v->type == ESP_SQL_INT ? sizeof number : v->s.len;
	uint32_t wire = htobe32((uint32_t)len);

	if (c->len + 4 + len > c->cap) {
		size_t cap = (c->cap ? c->cap * 2 : 512) + 4 + len;
		char *grown = realloc(c->data, cap);
		if (!grown)
			return 0;
		c->data = grown;
		c->cap = cap;
	}
	if (c->len == 0)
		c->len = ARRAY_HEAD;
	memcpy(c->data + c->len, &wire, 4);
	if (len)
		memcpy(c->data + c->len + 4, bytes, len);
	c->len += 4 + len;
	c->element = type_of(v);
	return 1;
}

static uint64_t nulls_of(const esp_sql_value *args, uint32_t n)
{
	uint64_t nulls = 0;

	for (uint32_t i = 0; i < n; i++)
		if (args[i].type == ESP_SQL_NULL)
			nulls |= UINT64_C(1) << i;
	return nulls;
}

static int has_first(const struct bundle *b, const esp_sql_value *v)
{
	const struct column *c = &b->column[0];
	uint64_t number = htobe64((uint64_t)v->i);
	esp_str s = v->type == ESP_SQL_INT ? (esp_str){ (const char *)&number, 8 } : v->s;
	uint32_t len;

	for (size_t at = ARRAY_HEAD; at < c->len; at += 4 + len) {
		memcpy(&len, c->data + at, 4);
		len = be32toh(len);
		if (len == s.len && memcmp(c->data + at + 4, s.ptr, len) == 0)
			return 1;
	}
	return 0;
}

static int fits(const struct bundle *b, const esp_sql_value *args)
{
	size_t bytes = 0;

	for (uint32_t i = 0; i < b->ncols; i++)
		bytes += b->column[i].len;
	return b->nrows < BUNDLE_ROWS && bytes < BUNDLE_BYTES && !(is_upsert(b->text) && has_first(b, &args[0]));
}

static void bundle_free(struct bundle *b)
{
	for (uint32_t i = 0; b && b->column && i < b->ncols; i++)
		free(b->column[i].data);
	if (b) {
		free(b->column);
		free(b->text);
	}
	free(b);
}

void bundles_free(struct bundles *list)
{
	while (list->first) {
		struct bundle *b = list->first;
		list->first = b->next;
		bundle_free(b);
	}
	list->end = &list->first;
}

static struct bundle *bundle_new(struct bundles *list, const char *text, uint32_t nargs, uint64_t nulls)
{
	struct bundle *b = calloc(1, sizeof *b);

	if (!b)
		return NULL;
	b->text = strdup(text);
	b->ncols = nargs;
	b->nulls = nulls;
	b->column = calloc(nargs, sizeof *b->column);
	table_of(text, b->table);
	if (!b->text || !b->column) {
		bundle_free(b);
		return NULL;
	}
	*list->end = b;
	list->end = &b->next;
	return b;
}

esp_status bundle_add(struct bundles *list, const char *text, const esp_sql_value *args, uint32_t nargs)
{
	uint64_t nulls = nulls_of(args, nargs);
	struct bundle *b, *last = NULL;

	for (b = list->first; b; b = b->next)
		if (b->nulls == nulls && b->ncols == nargs && strcmp(b->text, text) == 0)
			last = b;
	if (!last || !fits(last, args))
		last = bundle_new(list, text, nargs, nulls);
	if (!last)
		return ESP_ENOMEM;
	for (uint32_t i = 0; i < nargs; i++)
		if (args[i].type != ESP_SQL_NULL && !column_add(&last->column[i], &args[i]))
			return ESP_ENOMEM;
	last->nrows++;
	return ESP_OK;
}

/* --- one statement --------------------------------------------------------------------------------------- */

/* "x.a7" for each "$7"; NULL where the column is. */
static void put_values(FILE *f, const char *values, size_t len, uint64_t nulls)
{
	for (const char *p = values; p < values + len; p++) {
		char *end;
		unsigned long k;
		if (*p != '$') {
			fputc(*p, f);
			continue;
		}
		k = strtoul(p + 1, &end, 10);
		if (k && nulls >> (k - 1) & 1)
			fputs("NULL", f);
		else
			fprintf(f, "x.a%lu", k);
		p = end - 1;
	}
}

static size_t tuple_length(const char *values)
{
	int depth = 1;
	size_t n = 0;

	for (; values[n] && depth; n++)
		depth += (values[n] == '(') - (values[n] == ')');
	return n ? n - 1 : 0;
}

static void put_insert(FILE *f, const struct bundle *b)
{
	const char *values = strstr(b->text, VALUES), *tuple = values + sizeof VALUES - 1;
	size_t len = tuple_length(tuple);
	uint32_t n = 0;

	fprintf(f, "%.*s SELECT ", (int)(values - b->text), b->text);
	put_values(f, tuple, len, b->nulls);
	fputs(" FROM unnest(", f);
	for (uint32_t i = 0; i < b->ncols; i++) {
		if (b->nulls >> i & 1)
			continue;
		fprintf(f, "%s$%u", n ? ", " : "", n + 1);
		n++;
	}
	fputs(") AS x (", f);
	n = 0;
	for (uint32_t i = 0; i < b->ncols; i++)
		if (!(b->nulls >> i & 1))
			fprintf(f, "%sa%u", n++ ? ", " : "", i + 1);
	fprintf(f, ")%s", tuple + len + 1);
}

static char *combined(const struct bundle *b)
{
	char *text = NULL;
	size_t size;
	FILE *f = open_memstream(&text, &size);

	if (!f)
		return NULL;
	if (is_delete(b->text))
		fprintf(f, "%.*s= ANY ($1)", (int)strlen(b->text) - 4, b->text);
	else
		put_insert(f, b);
	if (fclose(f) != 0) {
		free(text);
		return NULL;
	}
	return text;
}

static void array_head(struct column *c, uint32_t n)
{
	const uint32_t head[5] = { htobe32(1), 0, htobe32(c->element), htobe32(n), htobe32(1) };

	memcpy(c->data, head, ARRAY_HEAD);
}

static esp_status bundle_send(struct bundle *b, struct link *l, void (*on)(void *arg, PGresult *res), void *arg)
{
	esp_sql_value args[PARAMS_MAX];
	char *text = combined(b);
	uint32_t n = 0;
	esp_status st;

	if (!text)
		return ESP_ENOMEM;
	for (uint32_t i = 0; i < b->ncols; i++) {
		struct column *c = &b->column[i];
		if (b->nulls >> i & 1)
			continue;
		array_head(c, b->nrows);
		args[n++] = (esp_sql_value){ .type = SQL_ARRAY, .reserved = array_of(c->element), .s = { c->data, c->len } };
	}
	st = link_send(l, text, args, n, on, arg, NULL);
	free(text);
	return st;
}

esp_status bundles_send(struct bundles *list, struct link *l, void (*on)(void *arg, PGresult *res), void *arg)
{
	esp_status st = ESP_OK;

	for (struct bundle *b = list->first; st == ESP_OK && b; b = b->next)
		st = bundle_send(b, l, on, arg);
	bundles_free(list);
	return st;
}
