/* tables - migrations on a connection of their own, on the lane; the workers' connections are not needed for it.
 *
 * Types are those of esp.sql/1: BLOB becomes BYTEA, and TEXT is compared by bytes as everywhere else in ESP, whatever
 * the database's locale.
 */
#include "pgsql.h"

#include "modules/common/migrate.h"

#include <stdio.h>
#include <stdlib.h>

#define REHEARSAL "esp_rehearsal"
/* The search index (textlink.c): no migration knows it, and it may be large. */
#define NOT_SEARCH " AND tablename NOT LIKE 'esp\\_search\\_%'"

/* --- one connection -------------------------------------------------------------------------------------- */

static void reason(esp_err *err, const PGresult *res, const PGconn *c)
{
	if (err)
		snprintf(err->text, sizeof err->text, "PostgreSQL: %.300s", res ? PQresultErrorMessage(res)
		                                                                 : PQerrorMessage(c));
}

static int is_word(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

static const char *mapped(const char *word, size_t len)
{
	if (len == 4 && memcmp(word, "BLOB", 4) == 0)
		return "BYTEA";
	if (len == 4 && memcmp(word, "TEXT", 4) == 0)
		return "TEXT COLLATE \"C\"";
	return NULL;
}

char *tables_map_types(const char *text)
{
	char *out = malloc(strlen(text) * 4 + 1), *p = out;
	int quoted = 0;

	while (out && *text) {
		size_t n = 0;
		const char *type;
		while (is_word(text[n]))
			n++;
		type = quoted ? NULL : mapped(text, n);
		if (*text == '\'')
			quoted = !quoted;
		if (n == 0)
			n = 1;
		p = stpncpy(p, type ? type : text, type ? strlen(type) : n);
		text += n;
	}
	if (out)
		*p = '\0';
	return out;
}

static int script(void *arg, const char *text, esp_err *err)
{
	char *mine = tables_map_types(text);
	PGresult *res = mine ? PQexec(arg, mine) : NULL;
	esp_status st = mine ? result_status(res) : ESP_ENOMEM;

	if (st != ESP_OK)
		reason(err, res, arg);
	PQclear(res);
	free(mine);
	return st;
}

static int exec(void *arg, esp_arena *arena, const char *stmt, const esp_sql_value *args, uint32_t nargs,
	esp_sql_rows *ret, esp_err *err)
{
	struct params p;
	PGresult *res;
	esp_status st = params_fill(&p, args, nargs);

	if (st != ESP_OK)
		return st;
	res = PQexecParams(arg, stmt, p.n, p.type, p.value, p.length, p.format, 1);
	st = result_status(res);
	if (st != ESP_OK)
		reason(err, res, arg);
	else if (ret)
		st = result_rows(res, arena, 1, ret);
	PQclear(res);
	return st;
}

/* --- a copy to rehearse on: a schema in the same database ------------------------------------------------- */

static void silent(void *arg, const char *message)
{
	(void)arg;
	(void)message;
}

static int copy_table(PGconn *c, const char *name, esp_err *err)
{
	char *id = PQescapeIdentifier(c, name, strlen(name)), text[600];
	int st = ESP_ENOMEM;

	if (id && snprintf(text, sizeof text,
				  "CREATE TABLE " REHEARSAL ".%s (LIKE %s INCLUDING ALL EXCLUDING INDEXES); INSERT INTO " REHEARSAL
				  ".%s SELECT * FROM %s",
				  id, id, id, id) < (int)sizeof text)
		st = script(c, text, err);
	PQfreemem(id);
	return st;
}

/* Under their own names, by which migrations know them: LIKE would give them others. */
static int copy_indexes(const struct migrate_db *db, esp_err *err)
{
	esp_sql_rows rows;
	int st = exec(db->arg, db->arena, "SELECT replace(indexdef, ' ON ' || quote_ident(schemaname) || '.', ' ON "
		REHEARSAL ".') FROM pg_indexes WHERE schemaname = current_schema()" NOT_SEARCH, NULL, 0, &rows, err);

	for (uint32_t i = 0; st == ESP_OK && i < rows.nrows; i++) {
		PGresult *res = PQexec(db->arg, esp_sql_at(&rows, i, 0)->s.ptr);
		st = result_status(res);
		if (st != ESP_OK)
			reason(err, res, db->arg);
		PQclear(res);
	}
	return st;
}

static int copy_all(const struct migrate_db *db, esp_err *err)
{
	esp_sql_rows rows;
	int st = script(db->arg, "DROP SCHEMA IF EXISTS " REHEARSAL " CASCADE; CREATE SCHEMA " REHEARSAL, err);

	if (st == ESP_OK)
		st = exec(db->arg, db->arena, "SELECT tablename FROM pg_tables WHERE schemaname = current_schema()" NOT_SEARCH,
			NULL, 0, &rows, err);
	for (uint32_t i = 0; st == ESP_OK && i < rows.nrows; i++)
		st = copy_table(db->arg, esp_sql_at(&rows, i, 0)->s.ptr, err);
	if (st == ESP_OK)
		st = copy_indexes(db, err);
	return st == ESP_OK ? script(db->arg, "SET search_path TO " REHEARSAL, err) : st;
}

static int rehearse(const struct migrate_db *db, const struct migrate_job *job)
{
	/* copying a large table takes longer than a statement may */
	int st = script(db->arg, "SET statement_timeout = 0", job->err);

	if (st == ESP_OK)
		st = copy_all(db, job->err);
	if (st == ESP_OK)
		st = migrate_run(db, job);
	(void)script(db->arg, "DROP SCHEMA IF EXISTS " REHEARSAL " CASCADE", NULL);
	return st;
}

/* --- on the lane ----------------------------------------------------------------------------------------- */

struct lane_job { struct pgsql *p; esp_arena *arena; struct migrate_job migrate; };

/* A server that forgets what it acknowledged cannot hold mail. */
static int check_server(PGconn *c, esp_err *err)
{
	PGresult *res = PQexec(c, "SELECT current_setting('synchronous_commit'), current_setting('fsync'),"
		" current_setting('server_encoding')");
	int st = result_status(res);

	if (st != ESP_OK) {
		reason(err, res, c);
	} else if (strcmp(PQgetvalue(res, 0, 0), "off") == 0 || strcmp(PQgetvalue(res, 0, 1), "off") == 0) {
		snprintf(err->text, sizeof err->text, "PostgreSQL is set to lose what it acknowledged: "
			"synchronous_commit and fsync must not be off");
		st = ESP_ECONFIG;
	} else if (strcmp(PQgetvalue(res, 0, 2), "UTF8") != 0) {
		snprintf(err->text, sizeof err->text, "the database's encoding is %.40s, it must be UTF8",
			PQgetvalue(res, 0, 2));
		st = ESP_ECONFIG;
	}
	PQclear(res);
	return st;
}

static int32_t on_lane(void *arg)
{
	struct lane_job *job = arg;
	PGconn *c = address_open(&job->p->set, job->migrate.err);
	struct migrate_db db = { .arg = c, .arena = job->arena, .begin = "BEGIN", .script = script, .exec = exec };
	int st;

	if (!c)
		return ESP_EUNAVAIL;
	PQsetNoticeProcessor(c, silent, NULL);
	st = check_server(c, job->migrate.err);
	if (st == ESP_OK)
		st = job->migrate.kind == MIGRATE_REHEARSE ? rehearse(&db, &job->migrate) : migrate_run(&db, &job->migrate);
	PQfinish(c);
	return st;
}

static esp_status run_migrations(struct lane_job *job)
{
	const esp_core *core = &job->p->core;
	int32_t result = ESP_OK;
	esp_status st = migrate_collect(core->host, &job->migrate);

	job->arena = core->mem->arena_new(job->p->self, "pgsql-migrate", 0);
	if (st == ESP_OK && !job->arena)
		st = ESP_ENOMEM;
	if (st == ESP_OK && IS_TARGET && job->migrate.n < sizeof job->migrate.sets / sizeof job->migrate.sets[0])
		job->migrate.sets[job->migrate.n++] = &outcome_migrations;   /* nobody else's database needs that table */
	if (st == ESP_OK)
		st = core->pool->run(job->p->self, job->p->lane, on_lane, job, &result);
	if (job->arena)
		core->mem->arena_free(job->arena);
	return st == ESP_OK ? result : st;
}

esp_status pgsql_migrate(const esp_sql *sql, esp_err *err)
{
	struct pgsql *p = (struct pgsql *)(uintptr_t)sql;
	struct lane_job job = { .p = p, .migrate = { .err = err, .target = IS_TARGET } };

	job.migrate.kind = migrate_at_start(p->set.auto_migrate, &job.migrate.automatic);
	return run_migrations(&job);
}

static esp_status on_migrate(esp_module *self, esp_command_call *call)
{
	struct pgsql *p = self->state;
	struct lane_job job = { .p = p, .migrate = { .kind = MIGRATE_UP, .automatic = 1, .err = call->err } };
	esp_status st = migrate_words(call, &job.migrate);

	if (st == ESP_OK)
		st = run_migrations(&job);
	return st == ESP_OK ? migrate_list(&p->table, &job.migrate, call) : st;
}

const esp_command pgsql_migrate_command = {
	.size = sizeof(esp_command), .words = "migrate", .usage = MIGRATE_USAGE, .help = MIGRATE_HELP, .run = on_migrate,
};
