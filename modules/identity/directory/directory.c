/* identity_directory - "esp.directory/1": domains, accounts, aliases in SQL.
 *
 * Every question is one look-up by key or a few on the worker itself; nothing is cached, so a change is seen at once by
 * every node.  Whoever may write comes through change.c, with a durable event.
 */
#include "directory.h"
#include "modules/common/why.h"

#include <stdio.h>

static esp_status account(const esp_directory *service, esp_arena *arena, esp_str login, esp_account *ret)
{
	struct directory *d = (struct directory *)service;
	struct domain domain;
	struct key key;
	esp_status st;

	if (d->default_domain.len && login.len && login.len <= ESP_LOCAL_MAX && !memchr(login.ptr, '@', login.len)) {
		char *room = esp_alloc(arena, login.len + 1 + d->default_domain.len);
		if (!room)
			return ESP_ENOMEM;
		memcpy(room, login.ptr, login.len);
		room[login.len] = '@';
		memcpy(room + login.len + 1, d->default_domain.ptr, d->default_domain.len);
		login = (esp_str){ room, login.len + 1 + d->default_domain.len };
	}
	st = store_key(d, arena, login, &key);
	if (st != ESP_OK)
		return st == ESP_ENOMEM ? st : ESP_ENOENT;
	st = store_place(d, arena, &key, &domain, ret);
	return st == ESP_OK && !ret->size ? ESP_ENOENT : st;
}

static esp_status account_by_id(const esp_directory *d, esp_arena *arena, esp_id id, esp_account *ret)
{
	return store_account_by_id((struct directory *)d, arena, id, ret);
}

static esp_status may_send_as(const esp_directory *service, esp_arena *arena, esp_id id, esp_str address)
{
	struct directory *d = (struct directory *)service;
	esp_directory_target target;
	struct key key;
	esp_status st = resolve(service, arena, address, &target);

	for (uint32_t i = 0; st == ESP_OK && i < target.naccounts; i++)
		if (memcmp(&target.accounts[i].id, &id, sizeof id) == 0)
			return ESP_OK;
	if (st == ESP_OK)
		st = store_key(d, arena, address, &key);
	if (st == ESP_EPROTO || st == ESP_E2BIG)
		return ESP_EACCES;
	return st == ESP_OK ? store_granted(d, arena, id, (esp_str){ key.local.ptr, key.local.len + 1 + key.domain.len })
						: st;
}

static esp_status create_domain(const esp_directory *service, esp_arena *arena, esp_str name, esp_err *err)
{
	return change_domain_add((struct directory *)service, arena, name, (esp_str){ NULL, 0 }, err);
}

static esp_status is_local(const esp_directory *service, esp_str name)
{
	struct directory *d = (struct directory *)service;
	esp_arena *arena = d->core.mem->arena_new(d->self, "is_local", 64 << 10);
	char room[ESP_ADDRESS_ROOM];
	struct domain domain;
	esp_buf buf;
	esp_status st = arena ? ESP_OK : ESP_ENOMEM;

	esp_buf_init_fixed(&buf, room, sizeof room);
	if (st == ESP_OK && esp_domain_to_ascii(name, &buf) != ESP_OK)
		st = ESP_ENOENT;
	if (st == ESP_OK)
		st = store_domain(d, arena, esp_buf_str(&buf), &domain);
	if (arena)
		d->core.mem->arena_free(arena);
	return st == ESP_OK ? 1 : st == ESP_ENOENT ? 0 : st;
}

static esp_status register_all(struct directory *d)
{
	const esp_host *host = d->core.host;
	esp_status st = host->bind(d->self, "esp.sql/1", &d->sql);

	if (st == ESP_OK)
		st = host->bind(d->self, "esp.eventlog/1", &d->eventlog);
	if (st == ESP_OK)
		st = change_declare_events(d);
	if (st == ESP_OK)
		st = host->contribute(d->self, "esp.sql.migrations/1", &directory_migrations);
	for (uint32_t i = 0; st == ESP_OK && directory_commands[i]; i++)
		st = host->contribute(d->self, "esp.command/1", directory_commands[i]);
	return st == ESP_OK ? host->provide(d->self, "esp.directory/1", &d->table.service) : st;
}

static esp_status on_init(esp_module *self, const esp_cfg *cfg, esp_err *err)
{
	struct directory *d = esp_alloc(self->host->arena(self), sizeof *d);
	esp_status st;

	esp_core_init(&d->core, self);
	d->self = self;
	d->crypto = self->host->core("esp.crypto/1", 0);
	d->event = self->host->core("esp.event/1", 0);
	d->topic = self->host->core("esp.topic/1", 0);
	d->postmaster = d->core.cfg->string(cfg, "postmaster");
	d->default_domain = d->core.cfg->string(cfg, "default_domain");
	d->subaddress_folders = d->core.cfg->boolean(cfg, "subaddress_folders");
	d->table = (esp_directory){ .service = { .size = sizeof(esp_directory), .minor = 1, .provider = self },
		.resolve = resolve, .account = account, .account_by_id = account_by_id, .may_send_as = may_send_as,
		.is_local = is_local, .create_account = change_account_add,
		.revive_account = removed_revive, .purges = removed_purges, .purged = removed_purged,
		.create_domain = create_domain };
	self->state = d;
	st = register_all(d);
	if (st != ESP_OK)
		snprintf(err->text, sizeof err->text, "cannot register: %s", why(st));
	return st;
}

static esp_status on_start(esp_module *self, esp_err *err)
{
	const esp_sql *sql = directory_sql(self->state);

	return sql ? sql->migrate(sql, err) : ESP_EUNAVAIL;
}

static esp_status on_check(esp_module *self, const esp_cfg *cfg, esp_err *err)
{
	const esp_config_api *c = self->host->core("esp.config/1", 0);
	esp_str postmaster = c->string(cfg, "postmaster"), domain = c->string(cfg, "default_domain");
	esp_address parsed;

	if (postmaster.len && esp_address_parse(postmaster, ESP_ADDRESS_SMTPUTF8, &parsed) != ESP_OK) {
		c->error(cfg, "postmaster", err, "\"%.*s\" is not an address", ESP_FMT(postmaster));
		return ESP_ECONFIG;
	}
	if (domain.len && esp_domain_check(domain, ESP_ADDRESS_SMTPUTF8) != ESP_OK) {
		c->error(cfg, "default_domain", err, "\"%.*s\" is not a domain", ESP_FMT(domain));
		return ESP_ECONFIG;
	}
	return ESP_OK;
}

static const esp_cfg_item config[] = {
	{ .name = "postmaster",
		.type = ESP_CFG_STRING,
		.help = "Who gets mail for postmaster of a domain that has no such account (RFC 5321 4.5.1)." },
	{ .name = "default_domain", .type = ESP_CFG_STRING, .help = "Domain of logins written without one." },
	{ .name = "subaddress_folders",
		.type = ESP_CFG_BOOL,
		.help = "Deliver user+detail into the folder \"detail\" where it exists." },
	{ .name = NULL }
};
static const esp_need needs[] = { { .id = "esp.sql/1" }, { .id = "esp.eventlog/1", .optional = 1 }, { .id = NULL } };
static const esp_offer provides[] = { { .id = "esp.directory/1", .minor = 1 }, { .id = NULL } };
static const esp_module_ops ops = { .size = sizeof ops, .check = on_check, .init = on_init, .start = on_start };
ESP_MODULE(.name = "identity_directory", .version = "1.0", .summary = "Domains, accounts and aliases", .license = "MIT",
           .flags = ESP_MODULE_MANDATORY, .needs = needs, .provides = provides, .config = config, .ops = &ops);
