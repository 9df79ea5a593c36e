/* snapshot - reads that take long and see the database at one moment: a connection of their own, on a lane of their
 * own.
 *
 * REPEATABLE READ: one snapshot for the whole transaction, nobody waits for it.  A lost connection ends the read; it
 * cannot go on elsewhere, so its caller begins anew.
 */
#include "pgsql.h"

struct long_tx { esp_tx pub; struct pgsql *p; PGconn *c; };
struct long_job { struct pgsql *p; esp_status (*fn)(esp_tx *tx, void *arg); void *arg; };

static esp_status long_exec(esp_tx *tx, const char *stmt, const esp_sql_value *args, uint32_t nargs, esp_sql_rows *ret)
{
	struct long_tx *l = (struct long_tx *)tx;
	struct params p;
	PGresult *res;
	esp_status st = params_fill(&p, args, nargs);

	if (st != ESP_OK)
		return st;
	l->p->core.mem->arena_reset(tx->arena);
	res = PQexecParams(l->c, stmt, p.n, p.type, p.value, p.length, p.format, 1);
	st = result_status(res);
	if (st == ESP_OK && ret)
		st = result_rows(res, tx->arena, 1, ret);
	PQclear(res);
	return st;
}

static esp_status begin(PGconn *c)
{
	PGresult *res = PQexec(c, "SET statement_timeout = 0; BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
	esp_status st = result_status(res);

	PQclear(res);
	return st;
}

static int32_t on_long_lane(void *arg)
{
	struct long_job *job = arg;
	struct pgsql *p = job->p;
	esp_err err = ESP_ERR_INIT;
	struct long_tx l = { .pub.exec = long_exec, .p = p };
	esp_status st;

	l.pub.arena = p->core.mem->arena_new(p->self, "long read", 2 * (size_t)BYTES_MAX);
	if (!l.pub.arena)
		return ESP_ENOMEM;
	l.c = address_open(&p->set, &err);
	st = l.c ? begin(l.c) : ESP_EUNAVAIL;
	if (st == ESP_OK)
		st = job->fn(&l.pub, job->arg);
	PQfinish(l.c);
	p->core.mem->arena_free(l.pub.arena);
	return st;
}

esp_status pgsql_read(const esp_sql *sql, esp_status (*fn)(esp_tx *tx, void *arg), void *arg)
{
	struct pgsql *p = (struct pgsql *)(uintptr_t)sql;
	struct long_job job = { p, fn, arg };
	int32_t result = ESP_OK;
	esp_status st;

	p->core.fiber->shield(1);
	st = p->core.pool->run(p->self, p->long_lane, on_long_lane, &job, &result);
	p->core.fiber->shield(0);
	return st == ESP_OK ? result : st;
}
