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

/* An alias domain answers with the rows of the domain it stands for. */
#define REAL(column) "COALESCE(real." column ", named." column ")"
#define DOMAIN_COLUMNS "SELECT " REAL("id") ", named.enabled * COALESCE(real.enabled, 1), " REAL("name") ", " \
	REAL("catch_all")
#define DOMAIN_NAMED " FROM domain AS named LEFT JOIN domain AS real ON real.id = named.alias_of "
enum { DOMAIN_NCOLUMNS = 4 };

static esp_status read_domain(const esp_sql_rows *rows, struct domain *ret)
{
	if (rows->nrows == 0)
		return ESP_ENOENT;
	*ret = (struct domain){ .enabled = esp_sql_at(rows, 0, 1)->i != 0, .name = esp_sql_at(rows, 0, 2)->s,
	                        .catch_all = esp_sql_at(rows, 0, 3)->s };
	read_id(esp_sql_at(rows, 0, 0), &ret->id);
	return ESP_OK;
}

esp_status store_domain(struct directory *d, esp_arena *arena, esp_str name, struct domain *ret)
{
	esp_sql_rows rows;
	esp_status st = get(d, arena, DOMAIN_COLUMNS DOMAIN_NAMED "WHERE named.name = $1",
	                    (esp_sql_value[]){ ESP_SQL_T(name) }, 1, &rows);

	return st == ESP_OK ? read_domain(&rows, ret) : st;
}

esp_status store_any_domain(struct directory *d, esp_arena *arena)
{
	esp_sql_rows rows;
	esp_status st = get(d, arena, "SELECT 1 FROM domain LIMIT 1", NULL, 0, &rows);

	return st != ESP_OK ? st : rows.nrows ? ESP_OK : ESP_ENOENT;
}

/* Of an account, whose domain has these columns. */
#define ACCOUNT_OF(domain_enabled, domain_name) "account.id, account.domain_id, account.enabled * " domain_enabled \
	", account.local || '@' || " domain_name ", account.display_name, account.quota"
#define ACCOUNT_COLUMNS "SELECT " ACCOUNT_OF("domain.enabled", "domain.name") \
	" FROM account JOIN domain ON domain.id = account.domain_id "

/* The columns begin with number c. */
static esp_status read_account(const esp_sql_rows *rows, uint32_t c, esp_account *ret)
{
	if (rows->nrows == 0 || esp_sql_at(rows, 0, c)->type == ESP_SQL_NULL)
		return ESP_ENOENT;
	*ret = (esp_account){ .size = sizeof *ret,
		.enabled = esp_sql_at(rows, 0, c + 2)->i != 0,
		.address = esp_sql_at(rows, 0, c + 3)->s,
		.display_name = esp_sql_at(rows, 0, c + 4)->s,
		.quota = (uint64_t)esp_sql_at(rows, 0, c + 5)->i };
	read_id(esp_sql_at(rows, 0, c), &ret->id);
	read_id(esp_sql_at(rows, 0, c + 1), &ret->domain);
	return ESP_OK;
}

esp_status store_place(
	struct directory *d, esp_arena *arena, const struct key *key, struct domain *ret, esp_account *ret_account)
{
	static const char stmt[] = DOMAIN_COLUMNS ", " ACCOUNT_OF(REAL("enabled"), REAL("name")) DOMAIN_NAMED
		"LEFT JOIN account ON account.domain_id = " REAL("id") " AND account.local = $2 WHERE named.name = $1";
	esp_sql_rows rows;
	esp_status st =
		get(d, arena, stmt, (esp_sql_value[]){ ESP_SQL_T(key->domain), ESP_SQL_T(key->local) }, 2, &rows);

	if (st == ESP_OK)
		st = read_domain(&rows, ret);
	if (st == ESP_OK && read_account(&rows, DOMAIN_NCOLUMNS, ret_account) != ESP_OK)
		*ret_account = (esp_account){ .size = 0 };
	return st;
}

esp_status store_account(
	struct directory *d, esp_arena *arena, const struct domain *domain, esp_str local, esp_account *ret)
{
	esp_sql_rows rows;
	esp_status st = get(d, arena, ACCOUNT_COLUMNS "WHERE account.domain_id = $1 AND account.local = $2",
	                    (esp_sql_value[]){ ESP_SQL_ID(domain->id), ESP_SQL_T(local) }, 2, &rows);

	return st == ESP_OK ? read_account(&rows, 0, ret) : st;
}

esp_status store_account_by_id(struct directory *d, esp_arena *arena, esp_id id, esp_account *ret)
{
	esp_sql_rows rows;
	esp_status st =
		get(d, arena, ACCOUNT_COLUMNS "WHERE account.id = $1", (esp_sql_value[]){ ESP_SQL_ID(id) }, 1, &rows);

	return st == ESP_OK ? read_account(&rows, 0, ret) : st;
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
