/* owners - who may name a blob, and which of these blobs somebody does name.
 *
 * Every module with such rows says so ("esp.blob.owner/1").  Nobody is left out by mistake: what the database records
 * of migrations is what modules have tables in it, and each of them must be loaded and as new as its tables; and one
 * whose tables have a column blob_id must have said so.
 */
#include "maildir.h"

#include <stdio.h>

#define MODULES 64u

struct known { const esp_sql_migrations *set; esp_module *by; uint32_t number; int names, owner; };
struct collecting { struct owners *owners; struct known known[MODULES]; uint32_t n; };

/* A later migration may have dropped the column: then the module is asked for an item too many, and is heard of. */
static int32_t on_migrations(void *arg, esp_module *by, const void *item)
{
	struct collecting *c = arg;
	const esp_sql_migrations *set = item;
	struct known *k = &c->known[c->n];

	if (c->n == MODULES)
		return ESP_E2BIG;
	*k = (struct known){ .set = set, .by = by };
	for (uint32_t i = 0; i < set->n; i++) {
		const esp_sql_migration *one = (const void *)((const char *)set->items + (size_t)i * set->item_size);
		k->number = one->number > k->number ? one->number : k->number;
		k->names |= strstr(one->up, "blob_id") != NULL;
	}
	c->n++;
	return ESP_OK;
}

static int32_t on_owner(void *arg, esp_module *by, const void *item)
{
	struct collecting *c = arg;

	if (c->owners->n == sizeof c->owners->owner / sizeof c->owners->owner[0])
		return ESP_E2BIG;
	c->owners->owner[c->owners->n++] = item;
	for (uint32_t i = 0; i < c->n; i++)
		c->known[i].owner |= c->known[i].by == by;
	return ESP_OK;
}

static esp_status missing(esp_err *err, esp_str module, const char *what)
{
	snprintf(err->text, sizeof err->text, "%.*s %s", ESP_FMT(module), what);
	return ESP_ECONFIG;
}

static esp_status check_module(const struct collecting *c, esp_str module, int64_t number, esp_err *err)
{
	for (uint32_t i = 0; i < c->n; i++)
		if (esp_str_eq(module, (esp_str){ c->known[i].set->module, strlen(c->known[i].set->module) }))
			return c->known[i].number >= number ? ESP_OK : missing(err, module, "is older than its tables");
	return missing(err, module, "has tables in the database and is not loaded");
}

static esp_status check_all(const struct collecting *c, const esp_sql *sql, esp_arena *a, esp_err *err)
{
	esp_sql_rows rows;
	esp_status st =
		sql->query(sql, 0, a, "SELECT module, MAX(number) FROM esp_migration GROUP BY module", NULL, 0, &rows);

	for (uint32_t i = 0; st == ESP_OK && i < rows.nrows; i++)
		st = check_module(c, esp_sql_at(&rows, i, 0)->s, esp_sql_at(&rows, i, 1)->i, err);
	for (uint32_t i = 0; st == ESP_OK && i < c->n; i++)
		if (c->known[i].names && !c->known[i].owner)
			st = missing(err, (esp_str){ c->known[i].set->module, strlen(c->known[i].set->module) },
				"does not say which message files its rows name");
	return st;
}

esp_status owners_collect(struct maildir *m, const esp_sql *sql, esp_arena *a, struct owners *ret, esp_err *err)
{
	struct collecting c = { .owners = ret };
	esp_status st;

	ret->n = 0;
	st = m->core.host->contributions("esp.sql.migrations/1", on_migrations, &c);
	if (st == ESP_OK)
		st = m->core.host->contributions("esp.blob.owner/1", on_owner, &c);
	return st == ESP_OK ? check_all(&c, sql, a, err) : st;
}

/* --- asking them ------------------------------------------------------------------------------------------------ */

static void drop(esp_id *id, uint32_t *n, esp_str named)
{
	for (uint32_t i = 0; i < *n;)
		if (named.len == sizeof id->b && memcmp(id[i].b, named.ptr, named.len) == 0)
			id[i] = id[--*n];
		else
			i++;
}

/* The last id stands in for those that are missing: a statement is one text. */
static esp_status ask(const esp_blob_owner *o, const esp_sql *sql, esp_arena *a, esp_id *id, uint32_t *n)
{
	esp_sql_value args[ESP_BLOB_ASKED];
	esp_sql_rows rows;
	esp_status st;

	for (uint32_t i = 0; i < ESP_BLOB_ASKED; i++)
		args[i] = ESP_SQL_ID(id[i < *n ? i : *n - 1]);
	st = sql->query(sql, 0, a, o->named, args, ESP_BLOB_ASKED, &rows);
	for (uint32_t i = 0; st == ESP_OK && i < rows.nrows; i++)
		drop(id, n, esp_sql_at(&rows, i, 0)->s);
	return st;
}

esp_status owners_drop_named(const struct owners *o, const esp_sql *sql, esp_arena *a, esp_id *id, uint32_t *n)
{
	esp_status st = ESP_OK;

	for (uint32_t slow = 0; slow <= ESP_BLOB_OWNER_SLOW; slow++)
		for (uint32_t i = 0; st == ESP_OK && *n && i < o->n; i++)
			if ((o->owner[i]->flags & ESP_BLOB_OWNER_SLOW) == slow)
				st = ask(o->owner[i], sql, a, id, n);
	return st;
}
