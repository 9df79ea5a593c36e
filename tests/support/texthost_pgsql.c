/* texthost - see texthost.h: PostgreSQL's, in the database that ESP_STORAGE_DATABASE_HOST, _PORT, _USER, _PASSWORD and
 * _NAME point at.  One test at a time. */
#include "tests/support/texthost.h"

#include "modules/storage/pgsql/pgsql.h"
#include "tests/support/sqlhost.h"

static struct pgsql pgsql;

static char *from(const char *variable)
{
	char *v = getenv(variable);

	must(v);
	return v;
}

static void empty(void)
{
	esp_err err = ESP_ERR_INIT;
	PGconn *c = address_open(&pgsql.set, &err);

	must(c);
	PQclear(PQexec(c, "SET client_min_messages = warning"));
	PQclear(PQexec(c, "DROP TABLE IF EXISTS esp_search_text, esp_search_mark"));
	PQfinish(c);
}

const esp_textindex *texthost_open(esp_module *self, const char *dir)
{
	static char none[] = "", sslmode[] = "disable";

	(void)dir;
	pgsql = (struct pgsql){ .self = self, .set = { .host = from("ESP_STORAGE_DATABASE_HOST"),
		.port = from("ESP_STORAGE_DATABASE_PORT"), .user = from("ESP_STORAGE_DATABASE_USER"),
		.password = from("ESP_STORAGE_DATABASE_PASSWORD"), .name = from("ESP_STORAGE_DATABASE_NAME"),
		.sslmode = sslmode, .ca = none, .options = none, .connect_timeout = 10 * ESP_SEC,
		.statement_timeout = 60 * ESP_SEC, .auto_migrate = 1 } };
	esp_core_init(&pgsql.core, self);
	empty();
	pgsql.texts = texts_new(&pgsql);
	must(pgsql.texts);
	must_ok(texts_open(pgsql.texts, 1));
	return (const esp_textindex *)texts_service(pgsql.texts);
}

void texthost_close(void) { texts_close(pgsql.texts); }
