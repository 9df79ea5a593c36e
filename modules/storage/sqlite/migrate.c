/* migrate - see migrate.h. */
#include "migrate.h"

#include <stdio.h>

static int script(void *arg, const char *text, esp_err *err) { return db_script(arg, text, err); }

static int exec(void *arg, esp_arena *arena, const char *stmt, const esp_sql_value *args, uint32_t nargs,
	esp_sql_rows *ret, esp_err *err)
{
	struct db *db = arg;
	int st = db_exec(db, arena, stmt, args, nargs, ret);

	if (st != ESP_OK)
		db_reason(db, err);
	return st;
}

struct migrate_db sqlite_migrate_db(struct db *db, esp_arena *arena)
{
	return (struct migrate_db){ .arg = db, .arena = arena, .begin = "BEGIN IMMEDIATE", .script = script,
		.exec = exec };
}
