/* store - reads of the directory's tables, each a bounded look-up by key. */
#include "directory.h"

#define ALIAS_TARGETS_MAX 1000

static esp_status get(
	struct directory *d, esp_arena *arena, const char *stmt, const esp_sql_value *args, uint32_t n, esp_sql_rows *ret)
{
	const esp_sql *sql = directory_sql(d);

	return sql ? sql->query(sql, ESP_SQL_BOUNDED, arena, stmt, args, n, ret) : ESP_EUNAVAIL;
}

static void read_id(const esp_sql_value *v, esp_id *ret)
{
	if (v->type == ESP_SQL_BLOB && v->s.len == sizeof ret->b)
		memcpy(ret->b, v->s.ptr, sizeof ret->b);
}

esp_status store_key(struct directory *d, esp_arena *arena, esp_str address, struct key *ret)
{
	char *room = esp_alloc(arena, ESP_ADDRESS_ROOM);
	esp_address parsed;
	esp_buf buf;
	esp_status st;
	size_t at;

	(void)d;
	if (!room)
		return ESP_ENOMEM;
	st = esp_address_parse(address, ESP_ADDRESS_SMTPUTF8, &parsed);
	if (st != ESP_OK)
		return st;
	esp_buf_init_fixed(&buf, room, ESP_ADDRESS_ROOM);
	st = esp_address_canonical(&parsed, ESP_CANONICAL_FOLD_LOCAL, &buf);
	if (st != ESP_OK)
		return st;
	for (at = buf.len; at > 0 && room[at - 1] != '@'; at--)
		;
	if (at == 0)
		return ESP_EPROTO;
	*ret = (struct key){ .local = { room, at - 1 }, .domain = { room + at, buf.len - at } };
	return ESP_OK;
}

esp_status store_domain(struct directory *d, esp_arena *arena, esp_str name, struct domain *ret)
{
	/* an alias domain answers with the rows of the domain it stands for */
	static const char stmt[] =
		"SELECT COALESCE(real.id, named.id), named.enabled * COALESCE(real.enabled, 1), COALESCE(real.name, "
		"named.name),"
		" COALESCE(real.catch_all, named.catch_all)"
		" FROM domain AS named LEFT JOIN domain AS real ON real.id = named.alias_of WHERE named.name = $1";
	esp_sql_rows rows;
	esp_status st = get(d, arena, stmt, (esp_sql_value[]){ ESP_SQL_T(name) }, 1, &rows);

	if (st != ESP_OK)
		return st;
	if (rows.nrows == 0)
		return ESP_ENOENT;
	*ret = (struct domain){ .enabled = esp_sql_at(&rows, 0, 1)->i != 0, .name = esp_sql_at(&rows, 0, 2)->s,
	                        .catch_all = esp_sql_at(&rows, 0, 3)->s };
	read_id(esp_sql_at(&rows, 0, 0), &ret->id);
	return ESP_OK;
}

esp_status store_any_domain(struct directory *d, esp_arena *arena)
{
	esp_sql_rows rows;
	esp_status st = get(d, arena, "SELECT 1 FROM domain LIMIT 1", NULL, 0, &rows);

	return st != ESP_OK ? st : rows.nrows ? ESP_OK : ESP_ENOENT;
}

#define ACCOUNT_COLUMNS \
	"SELECT account.id, account.domain_id, account.enabled * domain.enabled, account.local || '@' || domain.name," \
	" account.display_name, account.quota FROM account JOIN domain ON domain.id = account.domain_id "

static esp_status read_account(const esp_sql_rows *rows, esp_account *ret)
{
	if (rows->nrows == 0)
		return ESP_ENOENT;
	*ret = (esp_account){ .size = sizeof *ret,
		.enabled = esp_sql_at(rows, 0, 2)->i != 0,
		.address = esp_sql_at(rows, 0, 3)->s,
		.display_name = esp_sql_at(rows, 0, 4)->s,
		.quota = (uint64_t)esp_sql_at(rows, 0, 5)->i };
	read_id(esp_sql_at(rows, 0, 0), &ret->id);
	read_id(esp_sql_at(rows, 0, 1), &ret->domain);
	return ESP_OK;
}

esp_status store_account(
	struct directory *d, esp_arena *arena, const struct domain *domain, esp_str local, esp_account *ret)
{
	esp_sql_rows rows;
	esp_status st = get(d, arena, ACCOUNT_COLUMNS "WHERE account.domain_id = $1 AND account.local = $2",
	                    (esp_sql_value[]){ ESP_SQL_ID(domain->id), ESP_SQL_T(local) }, 2, &rows);

	return st == ESP_OK ? read_account(&rows, ret) : st;
}

esp_status store_account_by_id(struct directory *d, esp_arena *arena, esp_id id, esp_account *ret)
{
	esp_sql_rows rows;
	esp_status st =
		get(d, arena, ACCOUNT_COLUMNS "WHERE account.id = $1", (esp_sql_value[]){ ESP_SQL_ID(id) }, 1, &rows);

	return st == ESP_OK ? read_account(&rows, ret) : st;
}

esp_status store_alias(struct directory *d, esp_arena *arena, const struct domain *domain, esp_str local,
	const esp_str **ret, uint32_t *ret_n)
{
	esp_sql_rows rows;
	esp_str *targets;
	esp_status st =
		get(d, arena, "SELECT target FROM alias WHERE domain_id = $1 AND local = $2 ORDER BY target LIMIT $3",
			(esp_sql_value[]){ ESP_SQL_ID(domain->id), ESP_SQL_T(local), ESP_SQL_I(ALIAS_TARGETS_MAX) }, 3, &rows);

	if (st != ESP_OK)
		return st;
	if (rows.nrows == 0)
		return ESP_ENOENT;
	targets = esp_alloc_array(arena, rows.nrows, sizeof *targets);
	if (!targets)
		return ESP_ENOMEM;
	for (uint32_t i = 0; i < rows.nrows; i++)
		targets[i] = esp_sql_at(&rows, i, 0)->s;
	*ret = targets;
	*ret_n = rows.nrows;
	return ESP_OK;
}

esp_status store_granted(struct directory *d, esp_arena *arena, esp_id account, esp_str address)
{
	esp_sql_rows rows;
	esp_status st = get(d, arena, "SELECT 1 FROM send_grant WHERE account_id = $1 AND address = $2",
	                    (esp_sql_value[]){ ESP_SQL_ID(account), ESP_SQL_T(address) }, 2, &rows);

	return st != ESP_OK ? st : rows.nrows ? ESP_OK : ESP_EACCES;
}
