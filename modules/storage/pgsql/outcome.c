/* outcome - was that batch committed?  Asked when the answer to a COMMIT was lost with its connection.
 *
 * Every batch writes one row of its own: a row that is there says that it was committed.  Asking writes the row too,
 * marked as a refusal: while the batch is still under way somewhere the database lets that wait, and once it stands the
 * batch cannot be committed any more, however late it comes.  (The transaction's number would not do: after a crash the
 * server gives numbers that nothing durable bears to other transactions.)
 * It is asked for long: senders wait minutes for the answer to their message, and one that is told 451 sends it twice.
 */
#include "pgsql.h"

#define AGAIN       (50 * ESP_MSEC)
#define KEPT        3600          /* s: longer than anybody asks */
#define PRUNE_EVERY (60 * ESP_SEC)

static const char RECORD[] = "INSERT INTO esp_outcome (id, at, done) VALUES ($1, $2, 1)";
static const char REFUSE[] = "INSERT INTO esp_outcome (id, at, done) VALUES ($1, $2, 0) ON CONFLICT (id) DO NOTHING";
static const char READ[] = "SELECT done FROM esp_outcome WHERE id = $1";
static const char PRUNE[] = "DELETE FROM esp_outcome WHERE at < $1";

static const esp_sql_migration items[] = {
	{ .number = 1, .title = "outcomes of batches",
	  .up = "CREATE TABLE esp_outcome (id BLOB NOT NULL PRIMARY KEY, at BIGINT NOT NULL, done BIGINT NOT NULL);\n"
	        "CREATE INDEX esp_outcome_at ON esp_outcome (at)",
	  .down = "DROP TABLE esp_outcome" },
};
const esp_sql_migrations outcome_migrations = {
	.size = sizeof outcome_migrations, .item_size = sizeof items[0], .n = sizeof items / sizeof items[0],
	.module = "storage_pgsql", .items = items,
};

esp_status outcome_record(struct link *l, esp_id *ret, void (*on)(void *arg, PGresult *res), void *arg)
{
	const struct pgsql *p = l->hub->p;

	*ret = p->crypto->new_id();
	return link_send(l, RECORD, (esp_sql_value[]){ ESP_SQL_ID(*ret), ESP_SQL_I(p->core.loop->wall(NULL)) }, 2, on, arg,
		NULL);
}

static esp_status ask(struct hub *h, esp_arena *arena, esp_id id)
{
	esp_sql_value args[] = { ESP_SQL_ID(id), ESP_SQL_I(h->p->core.loop->wall(NULL)) };
	esp_sql_rows rows;
	/* it may have to wait: not on the connection of short reads */
	esp_status st = query_here(h, 0, arena, REFUSE, args, 2, NULL);

	if (st == ESP_OK)
		st = query_here(h, 0, arena, READ, args, 1, &rows);
	if (st != ESP_OK || rows.nrows != 1)
		return ESP_EAGAIN;
	return esp_sql_at(&rows, 0, 0)->i ? ESP_OK : ESP_ECONFLICT;
}

esp_status outcome_of(struct hub *h, esp_id id)
{
	const esp_core *core = &h->p->core;
	esp_nsec until = core->loop->clock() + h->p->set.outcome_wait;
	esp_arena *arena = core->mem->arena_new(h->p->self, "pgsql-outcome", 0);
	esp_status st = ESP_EAGAIN;

	while (arena && st == ESP_EAGAIN && core->loop->clock() < until) {
		st = ask(h, arena, id);
		if (st == ESP_EAGAIN && core->fiber->sleep_until(core->loop->clock() + AGAIN) != ESP_OK)
			break;
	}
	if (arena)
		core->mem->arena_free(arena);
	return st == ESP_EAGAIN || !arena ? ESP_EUNKNOWN : st;
}

static void ignore(void *arg, PGresult *res)
{
	(void)arg;
	PQclear(res);
}

void outcome_prune(struct link *l)
{
	struct hub *h = l->hub;
	esp_nsec now = h->p->core.loop->clock();

	if (now < h->prune_at)
		return;
	h->prune_at = now + PRUNE_EVERY;
	if (link_send(l, PRUNE, (esp_sql_value[]){ ESP_SQL_I(h->p->core.loop->wall(NULL) - KEPT) }, 1, ignore, NULL,
		NULL) != ESP_OK || link_sync(l) != ESP_OK)
		h->prune_at = 0;
}
