/* migrate - numbered changes of tables, per module, up and down.
 *
 * Each change runs in one transaction with the row that records it, so a crash leaves it done or not done.
 * A database that records a change the program does not know is refused: the program is older than the data.
 */
#include "migrate.h"

#include <stdio.h>
#include <string.h>

static const char LEDGER[] =
	"CREATE TABLE IF NOT EXISTS esp_migration (module TEXT NOT NULL, number BIGINT NOT NULL, title TEXT NOT NULL,"
	" applied BIGINT NOT NULL, PRIMARY KEY (module, number))";

static esp_str cstr(const char *s) { return (esp_str){ s, strlen(s) }; }

static const esp_sql_migration *item(const esp_sql_migrations *m, uint32_t i)
{
	return (const esp_sql_migration *)((const char *)m->items + (size_t)i * m->item_size);
}

int migrate_state(struct db *db, esp_arena *arena, const char *module, uint32_t *ret, esp_err *err)
{
	esp_sql_rows rows;
	int st = db_script(db, LEDGER, err);

	if (st == ESP_OK)
		st = db_exec(db, arena, "SELECT COALESCE(MAX(number), 0) FROM esp_migration WHERE module = $1",
		             (esp_sql_value[]){ ESP_SQL_T(cstr(module)) }, 1, &rows);
	if (st == ESP_OK)
		*ret = (uint32_t)esp_sql_at(&rows, 0, 0)->i;
	return st;
}

static int step(
	struct db *db, esp_arena *arena, const esp_sql_migrations *m, const esp_sql_migration *it, int up, esp_err *err)
{
	esp_sql_value args[] = { ESP_SQL_T(cstr(m->module)), ESP_SQL_I(it->number), ESP_SQL_T(cstr(it->title)) };
	int st = db_script(db, "BEGIN IMMEDIATE", err);

	if (st != ESP_OK)
		return st;
	st = db_script(db, up ? it->up : it->down, err);
	if (st == ESP_OK)
		st = db_exec(db, arena, up
			? "INSERT INTO esp_migration (module, number, title, applied) VALUES ($1, $2, $3, unixepoch())"
			: "DELETE FROM esp_migration WHERE module = $1 AND number = $2", args, up ? 3 : 2, NULL);
	if (st == ESP_OK)
		st = db_script(db, "COMMIT", err);
	if (st != ESP_OK) {
		char why[sizeof err->text];
		snprintf(why, sizeof why, "%s", err->text);
		snprintf(err->text, sizeof err->text, "migration %s %u (%s) %s: %.200s", m->module, it->number, it->title,
		         up ? "up" : "down", why);
		(void)db_script(db, "ROLLBACK", NULL);
	}
	return st;
}

int migrate_up(struct db *db, esp_arena *arena, const esp_sql_migrations *m, esp_err *err)
{
	uint32_t have, newest = 0;
	int st = migrate_state(db, arena, m->module, &have, err);

	for (uint32_t i = 0; i < m->n; i++)
		if (item(m, i)->number > newest)
			newest = item(m, i)->number;
	if (st == ESP_OK && have > newest) {
		snprintf(err->text, sizeof err->text,
			"the database has migration %u of %s, this program knows %u: "
			"install the newer version, or go back with that version's `esp-server migrate --down`",
			have, m->module, newest);
		return ESP_ECONFIG;
	}
	for (uint32_t i = 0; st == ESP_OK && i < m->n; i++)
		if (item(m, i)->number > have)
			st = step(db, arena, m, item(m, i), 1, err);
	return st;
}

int migrate_down(struct db *db, esp_arena *arena, const esp_sql_migrations *m, uint32_t number, esp_err *err)
{
	uint32_t have;
	int st = migrate_state(db, arena, m->module, &have, err);

	for (uint32_t i = m->n; st == ESP_OK && i-- > 0; )
		if (item(m, i)->number > number && item(m, i)->number <= have)
			st = step(db, arena, m, item(m, i), 0, err);
	return st;
}
