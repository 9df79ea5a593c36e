/* query - reads: one statement each, on the worker's reading connections, many under way at once.
 *
 * Those of one turn of the loop go together, as one transaction in which each sees what was committed before it began;
 * one that another's failure cut off is asked again.  A read whose connection was lost is asked again on a new one,
 * until the fiber's deadline or the configured wait.  Calls from the control thread are made by worker 0.
 */
#include "pgsql.h"

static void nobody(void *arg, PGresult *res)
{
	(void)arg;
	PQclear(res);
}

static struct link *reader(struct hub *h, uint32_t flags)
{
	struct link *best = &h->link[1];

	if (flags & ESP_SQL_BOUNDED)
		return &h->link[0];
	for (uint32_t i = 2; i < h->nreaders; i++)
		if (h->link[i].nanswers < best->nanswers)
			best = &h->link[i];
	return best;
}

/* May suspend, until the fiber's deadline. */
static esp_status wait_up(struct link *l)
{
	struct hub *h = l->hub;
	esp_status st = ESP_OK;

	h->waiting++;
	while (!l->up && st == ESP_OK) {
		link_want(l);
		hub_watch_time(h);
		st = h->p->core.fiber->wait(&h->changed);
	}
	h->waiting--;
	return st;
}

static esp_status ask(struct link *l, esp_arena *arena, const char *stmt, const esp_sql_value *args, uint32_t nargs,
	esp_sql_rows *ret)
{
	struct call call = { .hub = l->hub };
	struct answer *a = NULL;
	esp_status st;

	call.ticket = l->hub->p->core.fiber->ticket();
	st = link_send(l, stmt, args, nargs, call_answered, &call, &a);
	if (st != ESP_OK)
		return st;
	link_kick(l, 1);
	st = call_wait(&call);
	if (st != ESP_OK) {          /* cut short: nobody wants the answer */
		a->on = nobody;
		return st;
	}
	st = result_status(call.res);
	if (st == ESP_OK && ret)
		st = result_rows(call.res, arena, 1, ret);
	else if (st == ESP_EUNAVAIL && call.res)
		link_lost(l, "the server is going away");
	PQclear(call.res);
	return st;
}

esp_status query_here(struct hub *h, uint32_t flags, esp_arena *arena, const char *stmt, const esp_sql_value *args,
	uint32_t nargs, esp_sql_rows *ret)
{
	const esp_core *core = &h->p->core;
	esp_nsec before = core->fiber->deadline(), until = core->loop->clock() + h->p->set.wait;
	struct link *l = reader(h, flags);
	esp_status st;

	if (before && before < until)
		until = before;
	(void)core->fiber->set_deadline(until);
	do {
		st = wait_up(l);
		if (st == ESP_OK)
			st = ask(l, arena, stmt, args, nargs, ret);
	} while ((st == ESP_EUNAVAIL || st == ESP_ECONFLICT) && core->loop->clock() < until);
	(void)core->fiber->set_deadline(before);
	if (st == ESP_ETIMEDOUT && (!before || core->loop->clock() < before))
		st = ESP_EUNAVAIL;       /* ours, not the caller's */
	return st == ESP_ECONFLICT ? ESP_EBUSY : st;
}

/* --- from the control thread ----------------------------------------------------------------------------- */

struct errand {
	struct pgsql *p;
	esp_ticket ticket;
	uint32_t flags, nargs;
	esp_arena *arena;
	const char *stmt;
	const esp_sql_value *args;
	esp_sql_rows *ret;
	esp_status status;
	int done;
};

static void on_errand(void *arg)         /* worker 0 */
{
	struct errand *e = arg;
	esp_ticket ticket = e->ticket;
	const esp_fiber_api *fiber = e->p->core.fiber;

	e->status = query_here(&e->p->hub[0], e->flags, e->arena, e->stmt, e->args, e->nargs, e->ret);
	__atomic_store_n(&e->done, 1, __ATOMIC_RELEASE);
	fiber->wake(ticket);
}

esp_status pgsql_query(const esp_sql *sql, uint32_t flags, esp_arena *arena, const char *stmt,
	const esp_sql_value *args, uint32_t nargs, esp_sql_rows *ret)
{
	struct pgsql *p = (struct pgsql *)(uintptr_t)sql;
	struct hub *h = hub_here(p);
	struct errand e = { .p = p, .flags = flags, .arena = arena, .stmt = stmt, .args = args, .nargs = nargs,
		.ret = ret };
	esp_status st;

	if (h)
		return query_here(h, flags, arena, stmt, args, nargs, ret);
	/* the arena is worker 0's until it is done: no leaving early */
	p->core.fiber->shield(1);
	e.ticket = p->core.fiber->ticket();
	st = p->core.loop->post_fiber(p->self, p->core.loop->worker(0), "pgsql query", on_errand, &e);
	while (st == ESP_OK && !__atomic_load_n(&e.done, __ATOMIC_ACQUIRE))
		st = p->core.fiber->suspend();
	p->core.fiber->shield(0);
	return st == ESP_OK ? e.status : st;
}
