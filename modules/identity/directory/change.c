/* change - writes to the directory's tables, each one transaction with its durable event. */
#include "directory.h"

#include <stdio.h>

static const struct { const char *name, *help; } events[EVENTS] = {
	{ "domain.created", "A domain was added" }, { "domain.updated", "A domain was changed" },
	{ "domain.deleted", "A domain was removed" },
	{ "user.created", "An account was made" }, { "user.updated", "An account was changed" },
	{ "user.deleted", "An account was removed" },
};
static const esp_event_field fields[] = {
	{ .key = "name", .type = ESP_F_STR, .help = "the domain or address" },
	{ .key = "change", .type = ESP_F_STR, .help = "what changed" },
};

esp_status change_declare_events(struct directory *d)
{
	esp_status st = ESP_OK;

	_Static_assert(sizeof d->facts / sizeof d->facts[0] == EVENTS, "one id for each event");
	for (int i = 0; st == ESP_OK && i < EVENTS; i++)
		st = d->event->declare(d->self, events[i].name, events[i].help, fields, 2, sizeof fields[0], &d->facts[i]);
	return st;
}

static esp_status change_tx(esp_tx *tx, void *arg)
{
	struct change *c = arg;
	const esp_field f[] = { ESP_FSTR("name", c->name), ESP_FSTR("change", c->what) };
	esp_sql_rows rows;
	esp_status st = tx->exec(tx, c->stmt, c->args, c->nargs, &rows);

	if (st == ESP_OK && rows.changed == 0)
		st = ESP_ENOENT;
	if (st == ESP_OK && c->then)
		st = c->then(tx, c);
	if (st == ESP_OK && c->log)
		st = c->log->append(c->log, tx, events[c->event].name, c->account, f, 2, sizeof f[0]);
	return st;
}

/* The same fact for those who listen now (the log, `events tail`); the log of events has the durable one. */
static void tell(const struct change *c)
{
	const struct directory *d = c->d;
	const esp_field f[] = { ESP_FSTR("name", c->name), ESP_FSTR("change", c->what) };

	if (d->event->wanted(d->facts[c->event]))
		d->event->publish(d->self, d->facts[c->event], f, 2, sizeof f[0]);
}

esp_status change_run(struct directory *d, struct change *c)
{
	const esp_sql *sql = directory_sql(d);
	esp_sql_key key = { .kind = ESP_SQL_KEY_ACCOUNT, .id = c->account };
	esp_status st;

	c->d = d;
	c->log = (const esp_eventlog *)d->core.host->service(d->self, d->eventlog);
	st = sql ? sql->transact(sql, &key, 1, change_tx, c) : ESP_EUNAVAIL;
	if (st == ESP_OK && c->log)
		c->log->committed(c->log);
	if (st == ESP_OK)
		tell(c);
	if (st == ESP_OK && c->event >= EVENT_USER_UPDATED)
		d->topic->publish(c->account);   /* its sessions ask whether they may stay */
	return st;
}

/* An address in a message, for "%.*s": never so long that the rest has no room. */
#define SHORT(s) (int)((s).len > 120 ? 120 : (s).len), (s).ptr ? (s).ptr : ""

esp_status change_fail(esp_err *err, esp_status st, const char *what, esp_str name)
{
	const char *why = st == ESP_EEXIST ? "exists already" : st == ESP_ENOENT ? "does not exist" :
	                  st == ESP_EPROTO || st == ESP_E2BIG ? "is not valid" : st == ESP_EINVAL ? "is still in use" :
	                  st == ESP_EBUSY ? "was removed and its mail is still there: bring it back with its mail"
	                  " (user add --with-mail), remove the mail (user purge), or, when that is under way"
	                  " (user list --removed), try again in a moment" :
	                  "cannot be changed now (the database does not answer)";

	if (st != ESP_OK)
		snprintf(err->text, sizeof err->text, "%s %.*s %s", what, (int)(name.len > 200 ? 200 : name.len),
			name.ptr ? name.ptr : "", why);
	return st;
}

esp_status change_domain_name(esp_arena *arena, esp_str name, esp_str *ret)
{
	char *room = esp_alloc(arena, ESP_ADDRESS_ROOM);
	esp_buf buf;
	esp_status st = room ? esp_domain_check(name, ESP_ADDRESS_SMTPUTF8) : ESP_ENOMEM;

	if (st != ESP_OK)
		return st;
	esp_buf_init_fixed(&buf, room, ESP_ADDRESS_ROOM);
	st = esp_domain_to_ascii(name, &buf);
	*ret = esp_buf_str(&buf);
	return st;
}

esp_status change_domain_add(struct directory *d, esp_arena *arena, esp_str name, esp_str alias_of, esp_err *err)
{
	struct change c = { .event = EVENT_DOMAIN_CREATED, .what = ESP_STR("created"), .nargs = 4,
		.stmt = "INSERT INTO domain (id, name, enabled, alias_of, catch_all, created) VALUES ($1, $2, 1, $3, '', $4)" };
	esp_id id = d->crypto->new_id();
	struct domain real = { .enabled = 0 };
	esp_str real_name;
	esp_status st = change_domain_name(arena, name, &c.name);

	if (st == ESP_OK && alias_of.len) {
		st = change_domain_name(arena, alias_of, &real_name);
		if (st == ESP_OK)
			st = store_domain(d, arena, real_name, &real);
		if (st != ESP_OK)
			return change_fail(err, st, "domain", alias_of);
	}
	c.args[0] = ESP_SQL_ID(id);
	c.args[1] = ESP_SQL_T(c.name);
	c.args[2] = alias_of.len ? ESP_SQL_ID(real.id) : ESP_SQL_NONE;
	c.args[3] = ESP_SQL_I(d->core.loop->wall(NULL));
	return change_fail(err, st == ESP_OK ? change_run(d, &c) : st, "domain", name);
}

esp_status change_domain_catch_all(struct directory *d, esp_arena *arena, esp_str name, esp_str address, esp_err *err)
{
	struct change c = { .event = EVENT_DOMAIN_UPDATED, .what = ESP_STR("catch-all"), .nargs = 2,
		.stmt = "UPDATE domain SET catch_all = $2 WHERE name = $1" };
	esp_address parsed;
	esp_status st = change_domain_name(arena, name, &c.name);

	if (st == ESP_OK && address.len && esp_address_parse(address, ESP_ADDRESS_SMTPUTF8, &parsed) != ESP_OK)
		return change_fail(err, ESP_EPROTO, "address", address);
	c.args[0] = ESP_SQL_T(c.name);
	c.args[1] = ESP_SQL_T(address);
	return change_fail(err, st == ESP_OK ? change_run(d, &c) : st, "domain", name);
}

esp_status change_place(
	struct directory *d, esp_arena *arena, esp_str address, struct key *key, struct domain *domain, esp_err *err)
{
	esp_status st = store_key(d, arena, address, key);

	if (st != ESP_OK)
		return change_fail(err, st, "address", address);
	return change_fail(err, store_domain(d, arena, key->domain, domain), "domain", key->domain);
}

esp_status change_no_alias(struct directory *d, esp_arena *arena, const struct domain *domain, const struct key *key,
	esp_str address, esp_err *err)
{
	const esp_str *targets;
	uint32_t n;
	esp_status st = store_alias(d, arena, domain, key->local, &targets, &n);

	if (st == ESP_ENOENT)
		return ESP_OK;
	if (st != ESP_OK)
		return change_fail(err, st, "user", address);
	snprintf(err->text, sizeof err->text,
		"%.*s is an alias of %.*s%s: remove the alias first (esp-cli alias remove %.*s), or choose another name",
		SHORT(address), SHORT(targets[0]), n > 1 ? " and others" : "", SHORT(address));
	return ESP_EEXIST;
}

esp_status change_account_add(const esp_directory *service, esp_arena *arena, esp_str address, esp_str display_name,
                              uint64_t quota, esp_account *ret, esp_err *err)
{
	struct directory *d = (struct directory *)service;
	struct change c = { .event = EVENT_USER_CREATED,
		.what = ESP_STR("created"),
		.nargs = 6,
		.name = address,
		.stmt = "INSERT INTO account (id, domain_id, local, display_name, enabled, quota, created) VALUES ($1, $2, $3, "
				"$4, 1, $5, $6)" };
	esp_id id = d->crypto->new_id();
	struct domain domain;
	struct key key;
	esp_str canonical;
	esp_status st = change_place(d, arena, address, &key, &domain, err);

	if (st == ESP_OK)
		st = change_no_alias(d, arena, &domain, &key, address, err);
	if (st != ESP_OK)
		return st;
	st = removed_address(arena, &key, &domain, &canonical);
	if (st != ESP_OK)
		return st;
	c.account = id;
	c.then = removed_none;
	c.more[0] = ESP_SQL_T(canonical);
	c.nmore = 1;
	c.args[0] = ESP_SQL_ID(id);
	c.args[1] = ESP_SQL_ID(domain.id);
	c.args[2] = ESP_SQL_T(key.local);
	c.args[3] = ESP_SQL_T(display_name);
	c.args[4] = ESP_SQL_I(quota);
	c.args[5] = ESP_SQL_I(d->core.loop->wall(NULL));
	st = change_fail(err, change_run(d, &c), "user", address);
	return st == ESP_OK ? store_account_by_id(d, arena, id, ret) : st;
}

static esp_status change_find(struct directory *d, esp_arena *arena, esp_str address, struct change *c, esp_err *err)
{
	esp_account account;
	struct domain domain;
	struct key key;
	esp_status st = change_place(d, arena, address, &key, &domain, err);

	if (st == ESP_OK)
		st = change_fail(err, store_account(d, arena, &domain, key.local, &account), "user", address);
	if (st != ESP_OK)
		return st;
	c->name = account.address;
	c->account = account.id;
	c->args[0] = ESP_SQL_ID(c->account);
	if (c->nargs == 0)
		c->nargs = 1;
	return ESP_OK;
}

esp_status change_account(struct directory *d, esp_arena *arena, esp_str address, struct change *c, esp_err *err)
{
	esp_status st = change_find(d, arena, address, c, err);

	return st == ESP_OK ? change_fail(err, change_run(d, c), "user", address) : st;
}

esp_status change_account_enable(struct directory *d, esp_arena *arena, esp_str address, int on, esp_err *err)
{
	struct change c = { .event = EVENT_USER_UPDATED, .what = on ? ESP_STR("enabled") : ESP_STR("disabled"), .nargs = 2,
		.stmt = "UPDATE account SET enabled = $2 WHERE id = $1", .args = { [1] = ESP_SQL_I(on) } };

	return change_account(d, arena, address, &c, err);
}

esp_status change_account_quota(struct directory *d, esp_arena *arena, esp_str address, uint64_t quota, esp_err *err)
{
	struct change c = { .event = EVENT_USER_UPDATED, .what = ESP_STR("quota"), .nargs = 2,
		.stmt = "UPDATE account SET quota = $2 WHERE id = $1", .args = { [1] = ESP_SQL_I(quota) } };

	return change_account(d, arena, address, &c, err);
}

esp_status change_grant(struct directory *d, esp_arena *arena, esp_str account, esp_str address, int add, esp_err *err)
{
	struct change c = { .event = EVENT_USER_UPDATED,
		.what = add ? ESP_STR("grant") : ESP_STR("grant removed"),
		.nargs = 2,
		.stmt = add ? "INSERT INTO send_grant (account_id, address) VALUES ($1, $2)"
					: "DELETE FROM send_grant WHERE account_id = $1 AND address = $2" };
	struct key key;
	esp_str canonical;
	esp_status st = store_key(d, arena, address, &key);

	if (st != ESP_OK)
		return change_fail(err, st, "address", address);
	canonical = (esp_str){ key.local.ptr, key.local.len + 1 + key.domain.len };   /* they stand side by side */
	c.args[1] = ESP_SQL_T(canonical);
	st = change_find(d, arena, account, &c, err);
	if (st != ESP_OK)
		return st;
	st = change_run(d, &c);
	if (st != ESP_EEXIST && st != ESP_ENOENT)
		return change_fail(err, st, "user", account);
	snprintf(err->text, sizeof err->text, "%.*s has %s grant to send as %.*s (esp-cli grant list)", SHORT(account),
		st == ESP_EEXIST ? "already a" : "no", SHORT(address));
	return st;
}

/* An alias is asked behind accounts, and one that leads to itself reaches nobody. */
static esp_status alias_check(struct directory *d, esp_arena *arena, const struct domain *domain, const struct key *key,
                              esp_str target, esp_err *err)
{
	esp_account account;
	struct domain where;
	struct key to;
	esp_status st = store_key(d, arena, target, &to);

	if (st != ESP_OK)
		return change_fail(err, st, "address", target);
	st = store_domain(d, arena, to.domain, &where);
	if (st == ESP_OK && esp_str_eq(to.local, key->local) && memcmp(&where.id, &domain->id, sizeof where.id) == 0) {
		snprintf(err->text, sizeof err->text, "%.*s would lead to itself", SHORT(target));
		return ESP_EINVAL;
	}
	if (st == ESP_OK || st == ESP_ENOENT)
		st = store_account(d, arena, domain, key->local, &account);
	if (st == ESP_OK) {
		snprintf(err->text, sizeof err->text, "%.*s is a user, who gets this mail; no alias of that name is ever asked",
			SHORT(account.address));
		return ESP_EEXIST;
	}
	return st == ESP_ENOENT ? ESP_OK : change_fail(err, st, "address", target);
}

esp_status change_alias(struct directory *d, esp_arena *arena, esp_str alias, esp_str target, int add, esp_err *err)
{
	struct change c = { .event = EVENT_DOMAIN_UPDATED,
		.what = add ? ESP_STR("alias") : ESP_STR("alias removed"),
		.name = alias,
		.nargs = add ? 4 : 3,
		.stmt = add ? "INSERT INTO alias (domain_id, local, target, created) VALUES ($1, $2, $3, $4)"
					: "DELETE FROM alias WHERE domain_id = $1 AND local = $2 AND ($3 = '' OR target = $3)" };
	struct domain domain;
	struct key key;
	esp_address parsed;
	esp_status st = change_place(d, arena, alias, &key, &domain, err);

	if (st != ESP_OK)
		return st;
	if (add)
		st = alias_check(d, arena, &domain, &key, target, err);
	else if (target.len && esp_address_parse(target, ESP_ADDRESS_SMTPUTF8, &parsed) != ESP_OK)
		st = change_fail(err, ESP_EPROTO, "address", target);
	if (st != ESP_OK)
		return st;
	c.args[0] = ESP_SQL_ID(domain.id);
	c.args[1] = ESP_SQL_T(key.local);
	c.args[2] = ESP_SQL_T(target);
	c.args[3] = ESP_SQL_I(d->core.loop->wall(NULL));
	return change_fail(err, change_run(d, &c), "alias", alias);
}
