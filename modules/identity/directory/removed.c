/* removed - accounts that went, as long as their mail is there.
 *
 * Removing an account says what becomes of its mail.  Kept mail waits under the account's id in `removed_account`: the
 * account can come back with it, and nobody else can take its address meanwhile, so mail never changes hands.  Mail
 * that has to go is marked (`purge`) in the transaction that removes the account; whoever stores it (storage_mailstore)
 * asks purges(), removes it bit by bit, and calls purged() in its last transaction: a crash only delays it.
 */
#include "directory.h"

#include <stdio.h>

#define PURGES_MAX 100u

esp_status removed_address(esp_arena *arena, const struct key *key, const struct domain *domain, esp_str *ret)
{
	size_t len = key->local.len + 1 + domain->name.len;
	char *room = esp_alloc(arena, len + 1);

	if (!room)
		return ESP_ENOMEM;
	memcpy(room, key->local.ptr, key->local.len);
	room[key->local.len] = '@';
	memcpy(room + key->local.len + 1, domain->name.ptr, domain->name.len);
	*ret = (esp_str){ room, len };
	return ESP_OK;
}

/* --- going ------------------------------------------------------------------------------------------- */

static esp_status remember(esp_tx *tx, const struct change *c)
{
	return tx->exec(tx, "INSERT INTO removed_account (id, address, domain, purge, removed) VALUES ($1, $2, $3, $4, $5)",
	                c->more, c->nmore, NULL);
}

esp_status removed_account(
	struct directory *d, esp_arena *arena, esp_str address, enum removed_mail mail, esp_err *err)
{
	struct change c = { .event = EVENT_USER_DELETED,
		.what = mail == REMOVED_PURGE ? ESP_STR("deleted, its mail too") : ESP_STR("deleted, its mail is kept"),
		.stmt = "DELETE FROM account WHERE id = $1", .nargs = 1, .then = remember, .nmore = 5 };
	esp_account account;
	struct domain domain;
	struct key key;
	esp_status st;

	if (mail == REMOVED_UNSAID) {
		snprintf(err->text, sizeof err->text,
			"say what becomes of its mail: --keep-mail (the account can come back with it:"
			" user add --with-mail) or --purge (it is removed for good)");
		return ESP_EUSAGE;
	}
	st = change_place(d, arena, address, &key, &domain, err);
	if (st == ESP_OK)
		st = change_fail(err, store_account(d, arena, &domain, key.local, &account), "user", address);
	if (st != ESP_OK)
		return st;
	c.name = account.address;
	c.account = account.id;
	c.args[0] = c.more[0] = ESP_SQL_ID(account.id);
	c.more[1] = ESP_SQL_T(account.address);
	c.more[2] = ESP_SQL_T(domain.name);
	c.more[3] = ESP_SQL_I(mail == REMOVED_PURGE);
	c.more[4] = ESP_SQL_I(d->core.loop->wall(NULL));
	return change_fail(err, change_run(d, &c), "user", address);
}

static esp_status removed_find(
	struct directory *d, esp_arena *arena, esp_str address, esp_id *ret, int *ret_purge)
{
	const esp_sql *sql = directory_sql(d);
	esp_sql_rows rows;
	esp_status st =
		sql ? sql->query(sql, ESP_SQL_BOUNDED, arena, "SELECT id, purge FROM removed_account WHERE address = $1",
				  (esp_sql_value[]){ ESP_SQL_T(address) }, 1, &rows)
			: ESP_EUNAVAIL;

	if (st == ESP_OK && rows.nrows == 0)
		st = ESP_ENOENT;
	if (st != ESP_OK)
		return st;
	memcpy(ret->b, esp_sql_at(&rows, 0, 0)->s.ptr, sizeof ret->b);
	*ret_purge = esp_sql_at(&rows, 0, 1)->i != 0;
	return ESP_OK;
}

/* The domain may be gone as well: the address is taken as it is written. */
esp_status removed_purge(struct directory *d, esp_arena *arena, esp_str address, esp_err *err)
{
	struct change c = { .event = EVENT_USER_UPDATED, .what = ESP_STR("its kept mail is removed"), .nargs = 1,
		.stmt = "UPDATE removed_account SET purge = 1 WHERE id = $1" };
	struct key key;
	int purge;
	esp_status st = store_key(d, arena, address, &key);

	if (st != ESP_OK)
		return change_fail(err, st, "address", address);
	c.name = (esp_str){ key.local.ptr, key.local.len + 1 + key.domain.len };   /* they stand side by side */
	st = removed_find(d, arena, c.name, &c.account, &purge);
	c.args[0] = ESP_SQL_ID(c.account);
	return change_fail(err, st == ESP_OK ? change_run(d, &c) : st, "kept mail of", address);
}

static esp_status no_kept_mail(esp_tx *tx, const struct change *c)
{
	esp_sql_rows rows;
	esp_status st =
		tx->exec(tx, "SELECT 1 FROM removed_account WHERE domain = $1 AND purge = 0 LIMIT 1", c->args, 1, &rows);

	return st == ESP_OK && rows.nrows ? ESP_EBUSY : st;
}

static esp_status purge_domain(esp_tx *tx, const struct change *c)
{
	return tx->exec(tx, "UPDATE removed_account SET purge = 1 WHERE domain = $1", c->args, 1, NULL);
}

/* It was not removed (`why`): who or what is still there? */
static esp_status in_use(struct directory *d, esp_arena *arena, esp_str name, esp_status why, esp_err *err)
{
	const esp_sql *sql = directory_sql(d);
	esp_sql_rows rows;
	long long users, aliases, domains;
	esp_str first;
	esp_status st = sql ? sql->query(sql, 0, arena,
		"SELECT (SELECT COUNT(*) FROM account WHERE account.domain_id = domain.id),"
		" (SELECT COUNT(*) FROM alias WHERE alias.domain_id = domain.id),"
		" (SELECT COUNT(*) FROM domain AS other WHERE other.alias_of = domain.id),"
		" (SELECT COALESCE(MIN(other.name), '') FROM domain AS other WHERE other.alias_of = domain.id)"
		" FROM domain WHERE name = $1",
		(esp_sql_value[]){ ESP_SQL_T(name) }, 1, &rows) : ESP_EUNAVAIL;

	if (st != ESP_OK || rows.nrows == 0)
		return change_fail(err, why, "domain", name);
	users = esp_sql_at(&rows, 0, 0)->i;
	aliases = esp_sql_at(&rows, 0, 1)->i;
	domains = esp_sql_at(&rows, 0, 2)->i;
	first = esp_sql_at(&rows, 0, 3)->s;
	if (domains > 0) {
		char more[40] = " stands";

		if (domains > 1)
			snprintf(more, sizeof more, " and %lld more stand", domains - 1);
		snprintf(err->text, sizeof err->text,
			"domain %.*s cannot go while %.*s%s for it: remove first what does (esp-cli domain remove %.*s)",
			ESP_FMT(name), ESP_FMT(first), more, ESP_FMT(first));
		return ESP_EINVAL;
	}
	if (users + aliases == 0)
		return change_fail(err, why, "domain", name);
	snprintf(err->text, sizeof err->text, "domain %.*s is still in use by %lld user%s and %lld alias%s", ESP_FMT(name),
		users, users == 1 ? "" : "s", aliases, aliases == 1 ? "" : "es");
	return ESP_EINVAL;
}

esp_status removed_domain(struct directory *d, esp_arena *arena, esp_str name, enum removed_mail mail, esp_err *err)
{
	struct change c = { .event = EVENT_DOMAIN_DELETED, .what = ESP_STR("deleted"), .nargs = 1,
		.stmt = "DELETE FROM domain WHERE name = $1"
			" AND NOT EXISTS (SELECT 1 FROM domain AS other WHERE other.alias_of = domain.id)",
		.then = mail == REMOVED_PURGE ? purge_domain : mail == REMOVED_UNSAID ? no_kept_mail : NULL };
	esp_status st = change_domain_name(arena, name, &c.name);

	if (st != ESP_OK)
		return change_fail(err, st, "domain", name);
	c.args[0] = ESP_SQL_T(c.name);
	st = change_run(d, &c);
	if (st == ESP_EINVAL || st == ESP_ENOENT)
		return in_use(d, arena, c.name, st, err);
	if (st != ESP_EBUSY)
		return change_fail(err, st, "domain", name);
	snprintf(err->text, sizeof err->text,
		"mail of removed accounts of %.*s is kept (user list --removed): say what becomes"
		" of it, --keep-mail or --purge",
		(int)(name.len > 200 ? 200 : name.len), name.ptr);
	return st;
}

/* --- coming ------------------------------------------------------------------------------------------ */

esp_status removed_none(esp_tx *tx, const struct change *c)
{
	esp_sql_rows rows;
	esp_status st = tx->exec(tx, "SELECT 1 FROM removed_account WHERE address = $1", c->more, c->nmore, &rows);

	return st == ESP_OK && rows.nrows ? ESP_EBUSY : st;
}

static esp_status take_back(esp_tx *tx, const struct change *c)
{
	esp_sql_rows rows;
	esp_status st = tx->exec(tx, "DELETE FROM removed_account WHERE id = $1 AND purge = 0", c->args, 1, &rows);

	return st == ESP_OK && rows.changed == 0 ? ESP_EBUSY : st;
}

esp_status removed_revive(const esp_directory *service, esp_arena *arena, esp_str address, esp_str display_name,
                          uint64_t quota, esp_account *ret, esp_err *err)
{
	struct directory *d = (struct directory *)service;
	struct change c = { .event = EVENT_USER_CREATED, .what = ESP_STR("back with its mail"), .nargs = 6, .name = address,
		.stmt = "INSERT INTO account (id, domain_id, local, display_name, enabled, quota, created)"
			" VALUES ($1, $2, $3, $4, 1, $5, $6)",
		.then = take_back };
	struct domain domain;
	struct key key;
	esp_str canonical;
	int purge = 0;
	esp_status st = change_place(d, arena, address, &key, &domain, err);

	if (st == ESP_OK)
		st = change_no_alias(d, arena, &domain, &key, address, err);
	if (st != ESP_OK)
		return st;
	st = removed_address(arena, &key, &domain, &canonical);
	if (st == ESP_OK)
		st = removed_find(d, arena, canonical, &c.account, &purge);
	if (st == ESP_OK && purge)
		st = ESP_EBUSY;
	if (st != ESP_OK)
		return change_fail(err, st, st == ESP_ENOENT ? "kept mail of" : "user", address);
	c.args[0] = ESP_SQL_ID(c.account);
	c.args[1] = ESP_SQL_ID(domain.id);
	c.args[2] = ESP_SQL_T(key.local);
	c.args[3] = ESP_SQL_T(display_name);
	c.args[4] = ESP_SQL_I(quota);
	c.args[5] = ESP_SQL_I(d->core.loop->wall(NULL));
	st = change_fail(err, change_run(d, &c), "user", address);
	return st == ESP_OK ? store_account_by_id(d, arena, c.account, ret) : st;
}

/* --- what the store asks ----------------------------------------------------------------------------- */

esp_status removed_purges(
	const esp_directory *service, esp_arena *arena, const esp_removed_account **ret, uint32_t *ret_n)
{
	const esp_sql *sql = directory_sql((struct directory *)service);
	esp_removed_account *list;
	esp_sql_rows rows;
	esp_status st = sql ? sql->query(sql, ESP_SQL_BOUNDED, arena,
		"SELECT id, address FROM removed_account WHERE purge = 1 ORDER BY id LIMIT $1",
		(esp_sql_value[]){ ESP_SQL_I(PURGES_MAX) }, 1, &rows) : ESP_EUNAVAIL;

	if (st != ESP_OK)
		return st;
	list = esp_alloc_array(arena, rows.nrows ? rows.nrows : 1, sizeof *list);
	if (!list)
		return ESP_ENOMEM;
	for (uint32_t i = 0; i < rows.nrows; i++) {
		list[i] = (esp_removed_account){ .size = sizeof *list, .address = esp_sql_at(&rows, i, 1)->s };
		memcpy(list[i].id.b, esp_sql_at(&rows, i, 0)->s.ptr, sizeof list[i].id.b);
	}
	*ret = list;
	*ret_n = rows.nrows;
	return ESP_OK;
}

esp_status removed_purged(const esp_directory *service, esp_tx *tx, esp_id account)
{
	(void)service;
	return tx->exec(tx, "DELETE FROM removed_account WHERE id = $1 AND purge = 1",
		(esp_sql_value[]){ ESP_SQL_ID(account) }, 1, NULL);
}
