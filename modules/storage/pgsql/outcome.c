/* outcome - was that transaction committed?  Asked when the answer to a COMMIT was lost with its connection.
 *
 * The server keeps the fate of every transaction id for longer than anybody waits here.  A transaction whose server
 * process has not noticed the lost connection yet is in progress: asked again until it is decided or time is up.
 * That time is long: senders wait minutes for the answer to their message, and one that is told 451 sends it twice.
 */
#include "pgsql.h"

#define AGAIN (50 * ESP_MSEC)

static esp_status ask(struct hub *h, esp_arena *arena, esp_str xid)
{
	esp_sql_rows rows;
	const esp_sql_value *v;
	esp_status st = query_here(h, ESP_SQL_BOUNDED, arena, "SELECT pg_xact_status(CAST($1 AS xid8))",
		(esp_sql_value[]){ ESP_SQL_T(xid) }, 1, &rows);

	if (st == ESP_EINVAL)
		return ESP_ECONFLICT;        /* an id this server has not reached: it never got that far */
	if (st != ESP_OK)
		return ESP_EAGAIN;
	v = esp_sql_at(&rows, 0, 0);
	if (v->type != ESP_SQL_TEXT)
		return ESP_EUNKNOWN;
	return esp_str_eq(v->s, ESP_STR("committed")) ? ESP_OK
		: esp_str_eq(v->s, ESP_STR("aborted")) ? ESP_ECONFLICT : ESP_EAGAIN;
}

esp_status outcome_of(struct hub *h, const char *xid)
{
	const esp_core *core = &h->p->core;
	esp_nsec until = core->loop->clock() + h->p->set.outcome_wait;
	esp_arena *arena = core->mem->arena_new(h->p->self, "pgsql-outcome", 0);
	esp_status st = ESP_EAGAIN;

	while (arena && st == ESP_EAGAIN && core->loop->clock() < until) {
		st = ask(h, arena, (esp_str){ xid, strlen(xid) });
		if (st == ESP_EAGAIN && core->fiber->sleep_until(core->loop->clock() + AGAIN) != ESP_OK)
			break;
	}
	if (arena)
		core->mem->arena_free(arena);
	return st == ESP_EAGAIN || !arena ? ESP_EUNKNOWN : st;
}
