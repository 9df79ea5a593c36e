/* migrate - see migrate.h. */
#include "modules/common/migrate.h"
#include "modules/common/json.h"
#include "modules/common/words.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const char LEDGER[] =
	"CREATE TABLE IF NOT EXISTS esp_migration (module TEXT NOT NULL, number BIGINT NOT NULL, title TEXT NOT NULL,"
	" applied BIGINT NOT NULL, PRIMARY KEY (module, number))";
static const char RECORD[] = "INSERT INTO esp_migration (module, number, title, applied) VALUES ($1, $2, $3, $4)";
static const char FORGET[] = "DELETE FROM esp_migration WHERE module = $1 AND number = $2";

static esp_str cstr(const char *s) { return (esp_str){ s, strlen(s) }; }

static const esp_sql_migration *item(const esp_sql_migrations *m, uint32_t i)
{
	return (const esp_sql_migration *)((const char *)m->items + (size_t)i * m->item_size);
}

int migrate_state(const struct migrate_db *db, const char *module, uint32_t *ret, esp_err *err)
{
	esp_sql_rows rows;
	int st = db->script(db->arg, LEDGER, err);

	if (st != ESP_OK)      /* two nodes that start at once: IF NOT EXISTS does not see the other's */
		st = db->script(db->arg, LEDGER, err);
	if (st == ESP_OK)
		st = db->exec(db->arg, db->arena, "SELECT COALESCE(MAX(number), 0) FROM esp_migration WHERE module = $1",
			(esp_sql_value[]){ ESP_SQL_T(cstr(module)) }, 1, &rows, err);
	if (st == ESP_OK)
		*ret = (uint32_t)esp_sql_at(&rows, 0, 0)->i;
	return st;
}

/* The record first: it is the lock between two nodes.  ESP_EEXIST: the other one has done it. */
static int change(const struct migrate_db *db, const esp_sql_migrations *m, const esp_sql_migration *it, int up,
	esp_err *err)
{
	esp_sql_value args[] = { ESP_SQL_T(cstr(m->module)), ESP_SQL_I(it->number), ESP_SQL_T(cstr(it->title)),
		ESP_SQL_I(time(NULL)) };
	esp_sql_rows rows;
	int st = db->exec(db->arg, db->arena, up ? RECORD : FORGET, args, up ? 4 : 2, &rows, err);

	if (st == ESP_OK && rows.changed == 0)
		st = ESP_EEXIST;
	return st == ESP_OK ? db->script(db->arg, up ? it->up : it->down, err) : st;
}

static int step(const struct migrate_db *db, const esp_sql_migrations *m, const esp_sql_migration *it, int up,
	esp_err *err)
{
	int st = db->script(db->arg, db->begin, err);

	if (st != ESP_OK)
		return st;
	st = change(db, m, it, up, err);
	if (st == ESP_OK)
		st = db->script(db->arg, "COMMIT", err);
	if (st != ESP_OK) {
		char why[sizeof err->text];
		snprintf(why, sizeof why, "%s", err->text);
		snprintf(err->text, sizeof err->text, "migration %s %u (%s) %s: %.200s", m->module, it->number, it->title,
		         up ? "up" : "down", why);
		(void)db->script(db->arg, "ROLLBACK", NULL);
	}
	return st == ESP_EEXIST ? ESP_OK : st;
}

/* Where the database is; ESP_ECONFIG: beyond what this program knows. */
static int known_state(const struct migrate_db *db, const esp_sql_migrations *m, uint32_t *ret, esp_err *err)
{
	uint32_t newest = 0;
	int st = migrate_state(db, m->module, ret, err);

	for (uint32_t i = 0; i < m->n; i++)
		if (item(m, i)->number > newest)
			newest = item(m, i)->number;
	if (st == ESP_OK && *ret > newest) {
		snprintf(err->text, sizeof err->text,
			"the database has migration %u of %s, this program knows %u: "
			"install the newer version, or go back with that version's `esp-server migrate --down`",
			*ret, m->module, newest);
		return ESP_ECONFIG;
	}
	return st;
}

int migrate_up(const struct migrate_db *db, const esp_sql_migrations *m, esp_err *err)
{
	uint32_t have;
	int st = known_state(db, m, &have, err);

	for (uint32_t i = 0; st == ESP_OK && i < m->n; i++)
		if (item(m, i)->number > have)
			st = step(db, m, item(m, i), 1, err);
	return st;
}

int migrate_down(const struct migrate_db *db, const esp_sql_migrations *m, uint32_t number, esp_err *err)
{
	uint32_t have;
	int st = known_state(db, m, &have, err);

	for (uint32_t i = m->n; st == ESP_OK && i-- > 0; )
		if (item(m, i)->number > number && item(m, i)->number <= have)
			st = step(db, m, item(m, i), 0, err);
	return st;
}

/* --- all modules ----------------------------------------------------------------------------------------- */

static int32_t on_set(void *arg, esp_module *by, const void *set)
{
	struct migrate_job *job = arg;

	(void)by;
	if (job->n == sizeof job->sets / sizeof job->sets[0])
		return ESP_E2BIG;
	job->sets[job->n++] = set;
	return 0;
}

esp_status migrate_collect(const esp_host *host, struct migrate_job *job)
{
	return host->contributions("esp.sql.migrations/1", on_set, job);
}

static int check_pending(const struct migrate_db *db, const struct migrate_job *job)
{
	uint32_t have;
	int st = ESP_OK;

	for (uint32_t i = 0; st == ESP_OK && i < job->n; i++) {
		st = migrate_state(db, job->sets[i]->module, &have, job->err);
		if (st == ESP_OK && have < job->sets[i]->n) {
			snprintf(job->err->text, sizeof job->err->text, "the tables of %s are at %u, this program needs %u: "
			         "run `esp-server migrate`", job->sets[i]->module, have, job->sets[i]->n);
			st = ESP_ECONFIG;
		}
	}
	return st;
}

static int all_up(const struct migrate_db *db, const struct migrate_job *job)
{
	int st = ESP_OK;

	for (uint32_t i = 0; st == ESP_OK && i < job->n; i++)
		st = migrate_up(db, job->sets[i], job->err);
	return st;
}

static int rehearse(const struct migrate_db *db, const struct migrate_job *job)
{
	int st = all_up(db, job);

	for (uint32_t i = job->n; st == ESP_OK && i-- > 0; )
		st = migrate_down(db, job->sets[i], 0, job->err);
	return st == ESP_OK ? all_up(db, job) : st;
}

enum migrate_kind migrate_at_start(int automatic, int *ret_automatic)
{
	const char *asked = getenv("ESP_MIGRATE");   /* set by `esp-server migrate` for itself */

	*ret_automatic = automatic || (asked && strcmp(asked, "apply") == 0);
	return asked && strcmp(asked, "check") == 0 ? MIGRATE_NOTHING : MIGRATE_UP;
}

static int check_whole(const struct migrate_db *db, const struct migrate_job *job)
{
	uint32_t unfinished = 0;
	int st = job->target ? ESP_OK : migrate_state(db, MIGRATE_COPY, &unfinished, job->err);

	if (st == ESP_OK && unfinished) {
		snprintf(job->err->text, sizeof job->err->text, "this database is an unfinished copy of another: finish it with"
		         " `esp-cli migrate-database` on the server that has the mail, or remove it");
		st = ESP_ECONFIG;
	}
	return st;
}

static int one_down(const struct migrate_db *db, const struct migrate_job *job)
{
	for (uint32_t i = 0; i < job->n; i++)
		if (strcmp(job->sets[i]->module, job->module) == 0)
			return migrate_down(db, job->sets[i], job->number, job->err);
	snprintf(job->err->text, sizeof job->err->text, "there is no module %s with tables; modules with tables:",
		job->module);
	for (uint32_t i = 0; i < job->n; i++) {
		size_t len = strlen(job->err->text);
		snprintf(job->err->text + len, sizeof job->err->text - len, " %s", job->sets[i]->module);
	}
	return ESP_ENOENT;
}

int migrate_run(const struct migrate_db *db, const struct migrate_job *job)
{
	int st = ESP_OK;

	if (job->kind == MIGRATE_NOTHING)
		return ESP_OK;

	if (job->kind == MIGRATE_REHEARSE)
		return rehearse(db, job);
	if (job->kind == MIGRATE_UP)
		st = check_whole(db, job);
	if (st == ESP_OK && job->kind == MIGRATE_UP && !job->automatic)
		st = check_pending(db, job);
	if (job->kind == MIGRATE_UP)
		return st == ESP_OK ? all_up(db, job) : st;
	return one_down(db, job);
}

/* --- the command ----------------------------------------------------------------------------------------- */

esp_status migrate_words(const esp_command_call *call, struct migrate_job *job)
{
	char word[160];
	int end = 0, sure = call->argc == 2 && esp_str_eq(call->argv[1], ESP_STR("--yes"));

	if (call->argc == 0)
		return ESP_OK;
	if (call->argc > 1 && !sure)
		return words_usage(call, "migrate " MIGRATE_USAGE);
	snprintf(word, sizeof word, "%.*s", ESP_FMT(call->argv[0]));
	if (strcmp(word, "--check") == 0)
		job->kind = MIGRATE_REHEARSE;
	else if (sscanf(word, "--down=%127[a-z0-9_]:%9u%n", job->module, &job->number, &end) == 2 && !word[end])
		job->kind = MIGRATE_DOWN;
	else
		return snprintf(call->err->text, sizeof call->err->text, "unknown word \"%.100s\"; try " MIGRATE_USAGE, word),
		       ESP_EUSAGE;
	if (sure && job->kind != MIGRATE_DOWN)
		return words_usage(call, "migrate " MIGRATE_USAGE);
	if (job->kind == MIGRATE_DOWN && !sure)
		return snprintf(call->err->text, sizeof call->err->text, "what the tables of %.100s gained above number %u is "
		                "lost, rows and all: make a backup, then add --yes", job->module, job->number), ESP_EUSAGE;
	return ESP_OK;
}

static void list_row(struct json *j, const struct migrate_job *job, const esp_sql_rows *rows, uint32_t i)
{
	int loaded = 0;

	for (uint32_t k = 0; k < job->n; k++)
		loaded |= esp_str_eq(cstr(job->sets[k]->module), esp_sql_at(rows, i, 0)->s);
	json_open(j, NULL, '{');
	json_str(j, "module", esp_sql_at(rows, i, 0)->s);
	json_int(j, "number", esp_sql_at(rows, i, 1)->i);
	json_str(j, "title", esp_sql_at(rows, i, 2)->s);
	json_time(j, "applied", esp_sql_at(rows, i, 3)->i);
	json_bool(j, "module_loaded", loaded);
	json_close(j, '}');
}

esp_status migrate_list(const esp_sql *sql, const struct migrate_job *job, esp_command_call *call)
{
	struct json j;
	esp_sql_rows rows = { .nrows = 0 };
	esp_status st = sql->query(sql, 0, call->arena,
		"SELECT module, number, title, applied FROM esp_migration ORDER BY module, number", NULL, 0, &rows);

	if (st == ESP_EINVAL && job->kind == MIGRATE_REHEARSE)
		rows.nrows = 0;            /* no table yet: nothing is applied */
	else if (st != ESP_OK)
		return st;
	json_begin(&j, call);
	json_open(&j, NULL, '[');
	for (uint32_t i = 0; i < rows.nrows; i++)
		list_row(&j, job, &rows, i);
	json_close(&j, ']');
	return json_end(&j);
}
