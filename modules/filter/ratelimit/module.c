/* filter_ratelimit - puts off who does too much at once: 450, with the time after which to try again.
 *
 * Runs at: connect, mail, rcpt, message.  Thread: worker, in the hook's fiber.  Owns: a table for all workers, which
 * its next generation takes over, and a few connections to Redis for each worker.
 * What the server limits by itself (connections of an address at one time, commands and errors of a session, failed
 * logins) is not counted here.
 */
#include "ratelimit.h"

#include "modules/common/server.h"
#include "modules/common/why.h"

#include <stdio.h>
#include <string.h>

#define LAYOUT 1u          /* raise it with every change of struct table and struct entry */

struct left { struct table *table; size_t entry_size; };

uint64_t key_hash(const struct ratelimit *r, esp_str key)
{
	const esp_str secret = { (const char *)r->table->secret, sizeof r->table->secret };
	uint8_t digest[64] = { 0 };
	uint64_t hash = 0;

	if (r->crypto->hmac(ESP_HASH_SHA256, secret, key.ptr, key.len, digest) == ESP_OK)
		memcpy(&hash, digest, sizeof hash);
	return hash ? hash : 1;
}

/* --- settings ---------------------------------------------------------------------------------------------------- */

static esp_status read_redis(const esp_config_api *c, const esp_cfg *cfg, struct server *ret, esp_err *err)
{
	const esp_cfg *g = c->group(cfg, "redis");
	esp_str s = c->string(g, "server");
	const char *wrong = s.len ? server_parse(s, ret) : NULL;

	if (wrong) {
		c->error(g, "server", err, "\"%.*s\": %s", ESP_FMT(s), wrong);
		return ESP_ECONFIG;
	}
	if (!s.len && (c->is_set(g, "password") || c->is_set(g, "on_failure"))) {
		c->error(g, "server", err, "redis has no server: write \"/run/redis/redis-server.sock\" or \"host:6379\"");
		return ESP_ECONFIG;
	}
	if (c->string(g, "user").len && !c->string(g, "password").len) {
		c->error(g, "user", err, "a user without a password");
		return ESP_ECONFIG;
	}
	return ESP_OK;
}

static esp_status on_check(esp_module *self, const esp_cfg *cfg, esp_err *err)
{
	const esp_config_api *c = self->host->core("esp.config/1", 0);
	struct server server;
	esp_status st = rules_read(c, cfg, NULL, NULL, err);

	return st == ESP_OK ? read_redis(c, cfg, &server, err) : st;
}

static esp_status read_settings(struct ratelimit *r, const esp_cfg *cfg, esp_err *err)
{
	const esp_config_api *c = r->core.cfg;
	const esp_cfg *g = c->group(cfg, "redis");
	esp_arena *arena = r->core.host->arena(r->self);
	struct server *server = esp_alloc(arena, sizeof *server);
	esp_status st;

	if (!server)
		return ESP_ENOMEM;
	r->entries = (uint32_t)c->integer(cfg, "keys");
	r->on_failure = (uint32_t)c->choice(g, "on_failure");
	r->redis_settings = (struct redis_settings){ .host = server->host,
		.port = server->port,
		.user = c->string(g, "user"),
		.password = c->string(g, "password"),
		.prefix = c->string(g, "prefix"),
		.database = c->integer(g, "database"),
		.timeout = c->integer(g, "timeout"),
		.rest = c->integer(g, "rest"),
		.links = (uint32_t)c->integer(g, "connections") };
	st = read_redis(c, cfg, server, err);
	if (st == ESP_OK)
		st = rules_read(c, cfg, &r->rules, arena, err);
	if (st == ESP_OK && server->host[0]) {
		r->redis = esp_alloc_array(arena, r->core.loop->workers() + 1u, sizeof(struct redis *));
		st = r->redis ? ESP_OK : ESP_ENOMEM;
	}
	return st;
}

static esp_status on_init(esp_module *self, const esp_cfg *cfg, esp_err *err)
{
	struct ratelimit *r = esp_alloc(self->host->arena(self), sizeof *r);
	esp_status st;

	if (!r)
		return ESP_ENOMEM;
	esp_core_init(&r->core, self);
	r->self = self;
	r->metric = self->host->core("esp.metric/1", 0);
	r->crypto = self->host->core("esp.crypto/1", 0);
	r->dial = self->host->core("esp.dial/1", 0);
	r->slot = self->host->core("esp.slot/1", 0);
	self->state = r;
	if (!r->crypto || !r->dial) {
		(void)snprintf(err->text, sizeof err->text, "this server has no esp.crypto/1 or no esp.dial/1");
		return ESP_EUNAVAIL;
	}
	st = read_settings(r, cfg, err);
	if (st == ESP_ECONFIG)
		return st;
	if (st == ESP_OK)
		st = r->slot->reserve(self, ESP_SLOT_TXN, sizeof(struct said), NULL, &r->said);
	if (st == ESP_OK)
		st = report_declare(r);
	if (st == ESP_OK)
		st = hooks_add(r);
	if (st != ESP_OK)
		(void)snprintf(err->text, sizeof err->text, "cannot register: %s", why(st));
	return st;
}

/* --- life -------------------------------------------------------------------------------------------------------- */

/* That of the generation before, which still lives and counts in it: nothing is forgotten, nothing counted twice.  Of
 * another size: a new one that begins with the same counts. */
static esp_status take_table(struct ratelimit *r)
{
	const esp_host *host = r->core.host;
	size_t len = 0;
	const struct left *from = host->take(r->self, LAYOUT, &len);
	struct left mine = { .entry_size = sizeof(struct entry) };
	uint64_t secret[2];

	if (from && (len != sizeof *from || from->entry_size != sizeof(struct entry)))
		from = NULL;
	r->crypto->random(secret, sizeof secret);
	if (from && from->table->n == (r->entries + WAYS - 1) / WAYS * WAYS) {
		r->table = r->core.mem->rc_ref(from->table);
	} else {
		r->table = table_new(r->core.mem, r->entries, from ? from->table->secret : secret);
		if (!r->table)
			return ESP_ENOMEM;
		if (from)
			table_copy(r->table, from->table, r->core.loop->clock());
	}
	atomic_store(&r->told_forgotten, r->table->forgotten);
	mine.table = r->table;
	host->leave(r->self, LAYOUT, &mine, sizeof mine);
	return ESP_OK;
}

static esp_status open_redis(struct ratelimit *r, uint32_t at)
{
	if (!r->redis)
		return ESP_OK;
	r->redis[at] = redis_new(&r->core, r->self, r->dial, &r->redis_settings);
	return r->redis[at] ? ESP_OK : ESP_ENOMEM;
}

static esp_status on_start(esp_module *self, esp_err *err)
{
	struct ratelimit *r = self->state;
	esp_status st = take_table(r);

	if (st == ESP_OK)
		st = open_redis(r, r->core.loop->workers());
	if (st != ESP_OK)
		(void)snprintf(err->text, sizeof err->text, "no memory for %u keys: lower `keys`", r->entries);
	return st;
}

static esp_status on_worker_start(esp_module *self, esp_worker *w)
{
	struct ratelimit *r = self->state;

	return open_redis(r, r->core.loop->index(w));
}

static void close_redis(struct ratelimit *r, uint32_t at)
{
	if (!r->redis)
		return;
	redis_free(r->redis[at]);
	r->redis[at] = NULL;
}

static void on_worker_stop(esp_module *self, esp_worker *w)
{
	struct ratelimit *r = self->state;

	close_redis(r, r->core.loop->index(w));
}

static void on_stop(esp_module *self)
{
	struct ratelimit *r = self->state;

	close_redis(r, r->core.loop->workers());
	r->core.mem->rc_unref(r->table);
}

#define RATE_MOST INT64_C(1000000000)

static const esp_cfg_item limit_items[] = {
	{ .name = "by", .type = ESP_CFG_ENUM, .flags = ESP_CFG_REQUIRED,
		.choices = "ip|network|sender|sender_domain|recipient|account", .help = "Whose." },
	{ .name = "of", .type = ESP_CFG_ENUM, .flags = ESP_CFG_REQUIRED, .choices = "connections|messages|recipients|bytes",
		.help = "What is counted." },
	{ .name = "per_minute", .type = ESP_CFG_SIZE, .max = RATE_MOST,
		.help = "How many are earned in a minute; bytes may be written as \"20 MiB\"." },
	{ .name = "per_hour", .type = ESP_CFG_SIZE, .max = 60 * RATE_MOST, .help = "How many are earned in an hour." },
	{ .name = "burst", .type = ESP_CFG_SIZE, .max = 60 * RATE_MOST,
		.help = "How many may come at once: of per_minute, or of per_hour where that is not set; unset: all of it." },
	{ .name = NULL } };
static const esp_cfg_item allow_items[] = { { .name = "networks",
												.type = ESP_CFG_STRINGS,
												.max = ALLOW_MOST,
												.help = "As in [ \"10.1.0.0/16\", \"2001:db8::1\" ]." },
	{ .name = "senders",
		.type = ESP_CFG_STRINGS,
		.max = ALLOW_MOST,
		.help = "Addresses, or \"@example.org\"; anybody may write them into MAIL FROM." },
	{ .name = "accounts", .type = ESP_CFG_STRINGS, .max = ALLOW_MOST, .help = "Logins." }, { .name = NULL } };
static const esp_cfg_item redis_items[] = {
	{ .name = "server", .type = ESP_CFG_STRING, .max = 300,
		.help = "\"/run/redis/redis-server.sock\" or \"host:6379\"; unset: each server counts for itself." },
	{ .name = "user", .type = ESP_CFG_STRING, .max = 100, .help = "For AUTH; unset: that of the password alone." },
	{ .name = "password", .type = ESP_CFG_STRING, .flags = ESP_CFG_SECRET, .max = 200, .help = "For AUTH." },
	{ .name = "database", .type = ESP_CFG_INT, .max = 1000, .help = "Number of the database." },
	{ .name = "prefix", .type = ESP_CFG_STRING, .def_str = "esp:ratelimit:", .max = 100,
		.help = "In front of every key: servers that count together have the same." },
	{ .name = "timeout", .type = ESP_CFG_TIME, .def_int = 200 * ESP_MSEC, .min = 10 * ESP_MSEC, .max = 10 * ESP_SEC,
		.help = "How long one question may take, connecting included." },
	{ .name = "rest", .type = ESP_CFG_TIME, .def_int = ESP_SEC, .min = 100 * ESP_MSEC, .max = 60 * ESP_SEC,
		.help = "How long a worker leaves it alone after a failure." },
	{ .name = "connections", .type = ESP_CFG_INT, .def_int = 4, .min = 1, .max = 100, .help = "Of each worker." },
	{ .name = "on_failure", .type = ESP_CFG_ENUM, .choices = "local|defer|accept", .def_str = "local",
		.help = "Without its answer: count on this server alone, apply the hook's failure policy, or count nothing." },
	{ .name = NULL } };
static const esp_cfg_item config[] = {
	{ .name = "limits",
		.type = ESP_CFG_LIST,
		.max = RULES_MOST,
		.children = limit_items,
		.help = "As in ( { by = \"ip\"; of = \"messages\"; per_minute = 60; per_hour = 1000; burst = 20; } )." },
	{ .name = "allow", .type = ESP_CFG_GROUP, .children = allow_items, .help = "Who is not limited." },
	{ .name = "roles",
		.type = ESP_CFG_STRINGS,
		.max = 16,
		.help = "Roles of the listeners where it counts; unset: mx, submission, submissions." },
	{ .name = "network4", .type = ESP_CFG_INT, .def_int = 24, .min = 8, .max = 32, .help = "Bits of an IPv4 network." },
	{ .name = "network6",
		.type = ESP_CFG_INT,
		.def_int = 64,
		.min = 16,
		.max = 128,
		.help = "Bits of an IPv6 network." },
	{ .name = "keys",
		.type = ESP_CFG_INT,
		.def_int = 65536,
		.min = 64,
		.max = 4 << 20,
		.help = "Most keys that are counted at a time, 136 bytes each; when there are more, those that used least are "
				"forgotten." },
	{ .name = "redis",
		.type = ESP_CFG_GROUP,
		.children = redis_items,
		.help = "For several servers that count together." },
	{ .name = NULL }
};
static const esp_module_ops ops = { .size = sizeof ops, .check = on_check, .init = on_init, .start = on_start,
	.worker_start = on_worker_start, .worker_stop = on_worker_stop, .stop = on_stop };
ESP_MODULE(.name = "filter_ratelimit", .version = "1.0", .summary = "Puts off who does too much at once",
	.license = "MIT", .config = config, .ops = &ops);
