/* ledger - what a restart must not forget: how far the event log was read, and what of today's budget is used.
 *
 * Thread: worker 0, in the follower's fiber; the *_tx functions run wherever the SQL provider runs transactions and are
 * pure.  A crash loses the budget's last seconds (FLUSH_EVERY in after.c) and no message.
 */
#include "llm.h"

#define DAY 86400

static const esp_sql_migration migrations[] = {
	{ .number = 1, .title = "place in the event log, and budget",
		.up = "CREATE TABLE llm_position (name TEXT NOT NULL PRIMARY KEY, position BIGINT NOT NULL);\n"
			  "CREATE TABLE llm_budget (name TEXT NOT NULL, day BIGINT NOT NULL, requests BIGINT NOT NULL,"
			  " tokens BIGINT NOT NULL, PRIMARY KEY (name, day))",
		.down = "DROP TABLE llm_budget;\nDROP TABLE llm_position" },
};
const esp_sql_migrations ledger_migrations = {
	.size = sizeof ledger_migrations, .item_size = sizeof migrations[0], .n = sizeof migrations / sizeof migrations[0],
	.module = "filter_llm", .items = migrations,
};

static esp_sql_value name_of(const struct llm *m)
{
	return ESP_SQL_T(((esp_str){ m->self->name, strlen(m->self->name) }));
}

/* --- budget -------------------------------------------------------------------------------------------------- */

struct spend { struct llm *m; int64_t day, requests, tokens, all_requests, all_tokens; };

static esp_status spend_tx(esp_tx *tx, void *arg)
{
	struct spend *s = arg;
	esp_sql_rows rows;
	esp_status st = tx->exec(tx, "DELETE FROM llm_budget WHERE name = $1 AND day < $2",
		(esp_sql_value[]){ name_of(s->m), ESP_SQL_I(s->day - 7) }, 2, NULL);

	if (st == ESP_OK)
		st = tx->exec(tx,
			"INSERT INTO llm_budget (name, day, requests, tokens) VALUES ($1, $2, $3, $4) ON CONFLICT "
			"(name, day) DO UPDATE SET requests = llm_budget.requests + excluded.requests, tokens = llm_budget.tokens "
			"+ "
			"excluded.tokens RETURNING requests, tokens",
			(esp_sql_value[]){ name_of(s->m), ESP_SQL_I(s->day), ESP_SQL_I(s->requests), ESP_SQL_I(s->tokens) }, 4,
			&rows);
	if (st != ESP_OK || rows.nrows != 1)
		return st == ESP_OK ? ESP_ECORRUPT : st;
	s->all_requests = esp_sql_at(&rows, 0, 0)->i;
	s->all_tokens = esp_sql_at(&rows, 0, 1)->i;
	return ESP_OK;
}

/* Nothing of ours to write: what others used. */
static esp_status look(struct spend *s, const esp_sql *sql)
{
	esp_arena *arena = s->m->core.mem->arena_new(s->m->self, "budget", 0);
	esp_sql_rows rows;
	esp_status st = arena ? sql->query(sql, ESP_SQL_BOUNDED, arena,
		"SELECT requests, tokens FROM llm_budget WHERE name = $1 AND day = $2",
		(esp_sql_value[]){ name_of(s->m), ESP_SQL_I(s->day) }, 2, &rows) : ESP_ENOMEM;

	if (st == ESP_OK && rows.nrows == 1) {
		s->all_requests = esp_sql_at(&rows, 0, 0)->i;
		s->all_tokens = esp_sql_at(&rows, 0, 1)->i;
	}
	s->m->core.mem->arena_free(arena);
	return st;
}

esp_status ledger_budget(struct llm *m, const esp_sql *sql)
{
	struct shared *sh = m->shared;
	struct spend s = { .m = m };
	esp_status st;

	budget_day(sh, m->core.loop->wall(NULL));
	s.day = atomic_load(&sh->day);
	s.requests = (int64_t)atomic_exchange(&sh->new_requests, 0);
	s.tokens = (int64_t)atomic_exchange(&sh->new_tokens, 0);
	st = s.requests || s.tokens ? sql->transact(sql, NULL, 0, spend_tx, &s) : look(&s, sql);
	if (st != ESP_OK && st != ESP_EUNKNOWN) {
		atomic_fetch_add(&sh->new_requests, (uint64_t)s.requests);
		atomic_fetch_add(&sh->new_tokens, (uint64_t)s.tokens);
	}
	if (st != ESP_OK)
		return st;
	/* others may have used some, too; what began meanwhile is not in the database yet */
	atomic_store(&sh->requests, (uint64_t)s.all_requests + atomic_load(&sh->new_requests));
	atomic_store(&sh->tokens, (uint64_t)s.all_tokens + atomic_load(&sh->new_tokens));
	return ESP_OK;
}

/* --- position ------------------------------------------------------------------------------------------------ */

esp_status ledger_position(struct llm *m, const esp_sql *sql, esp_arena *arena, int64_t *ret)
{
	esp_sql_rows rows;
	esp_status st = sql->query(sql, ESP_SQL_BOUNDED, arena, "SELECT position FROM llm_position WHERE name = $1",
		(esp_sql_value[]){ name_of(m) }, 1, &rows);

	if (st != ESP_OK || rows.nrows == 0)
		return st == ESP_OK ? ESP_ENOENT : st;
	*ret = esp_sql_at(&rows, 0, 0)->i;
	return ESP_OK;
}

struct move { const struct llm *m; int64_t position; };

static esp_status move_tx(esp_tx *tx, void *arg)
{
	const struct move *v = arg;
	esp_status st = lease_check(&v->m->lease, tx);

	return st == ESP_OK ? tx->exec(tx, "INSERT INTO llm_position (name, position) VALUES ($1, $2)"
		" ON CONFLICT (name) DO UPDATE SET position = excluded.position",
		(esp_sql_value[]){ name_of(v->m), ESP_SQL_I(v->position) }, 2, NULL) : st;
}

esp_status ledger_move(struct llm *m, const esp_sql *sql, int64_t position)
{
	struct move v = { m, position };

	return sql->transact(sql, NULL, 0, move_tx, &v);
}
