/* scenario_names - an "esp.dns/1" that says what esp.conf tells it to: addresses, other ones from the second question
 * on (`then`), none, a failure, or nothing until the deadline.  Addresses in digits are their own answer.
 */
#include <esp/dns.h>
#include <esp/host.h>

#include <arpa/inet.h>
#include <stdatomic.h>
#include <stdio.h>

#define NAMES 64

struct names {
	esp_core core;
	esp_dns table;
	const esp_cfg *cfg;
	atomic_uint asked[NAMES];
};

static esp_status add(esp_arena *arena, esp_dns_answer *ret, esp_str text)
{
	esp_dns_record *r = (esp_dns_record *)(uintptr_t)ret->record;
	uint8_t *bytes = esp_alloc(arena, 16);
	esp_str z = esp_strdup_in(arena, text);

	if (!bytes || !z.ptr || ret->n == 16)
		return ESP_ENOMEM;
	if (inet_pton(AF_INET, z.ptr, bytes) == 1)
		r[ret->n++] = (esp_dns_record){ .type = ESP_DNS_A, .data = { (char *)bytes, 4 } };
	else if (inet_pton(AF_INET6, z.ptr, bytes) == 1)
		r[ret->n++] = (esp_dns_record){ .type = ESP_DNS_AAAA, .data = { (char *)bytes, 16 } };
	else
		return ESP_ENOENT;
	return ESP_OK;
}

static esp_status find(struct names *n, esp_arena *arena, esp_str host, esp_dns_answer *ret)
{
	const esp_config_api *c = n->core.cfg;

	for (uint32_t i = 0; i < c->count(n->cfg, "names") && i < NAMES; i++) {
		const esp_cfg *e = c->at(n->cfg, "names", i, NULL);
		esp_status st = ESP_OK;
		const char *key = "addresses";
		if (!esp_str_eq(c->string(e, "name"), host))
			continue;
		if (atomic_fetch_add(&n->asked[i], 1) && c->count(e, "then"))
			key = "then";
		if (c->choice(e, "fails") == 1)
			return ESP_EUNAVAIL;
		if (c->choice(e, "fails") == 2)
			return n->core.fiber->sleep_until(n->core.loop->clock() + 600 * ESP_SEC);
		for (uint32_t k = 0; st == ESP_OK && k < c->count(e, key); k++)
			st = add(arena, ret, c->string_at(e, key, k));
		return st == ESP_OK && !ret->n ? ESP_ENOENT : st;
	}
	return add(arena, ret, host);
}

static esp_status addresses(
	const esp_dns *d, esp_arena *arena, esp_str host, uint32_t flags, esp_dns_answer *ret, esp_err *err)
{
	esp_status st;

	(void)flags;
	ret->record = esp_alloc_array(arena, 16, sizeof(esp_dns_record));
	ret->record_size = sizeof(esp_dns_record);
	ret->n = 0;
	if (!ret->record)
		return ESP_ENOMEM;
	st = find(d->service.provider->state, arena, host, ret);
	if (st == ESP_EUNAVAIL && err)
		(void)snprintf(err->text, sizeof err->text, "SERVFAIL");
	return st;
}

static esp_status lookup(
	const esp_dns *d, esp_arena *arena, uint32_t type, esp_str name, esp_dns_answer *ret, esp_err *err)
{
	(void)d;
	(void)arena;
	(void)type;
	(void)name;
	(void)ret;
	(void)err;
	return ESP_EUNAVAIL;
}

static esp_status on_init(esp_module *self, const esp_cfg *cfg, esp_err *err)
{
	struct names *n = esp_alloc(self->host->arena(self), sizeof *n);

	(void)err;
	if (!n)
		return ESP_ENOMEM;
	esp_core_init(&n->core, self);
	n->cfg = cfg;
	n->table = (esp_dns){ .service = { .size = sizeof(esp_dns), .provider = self }, .lookup = lookup,
		.addresses = addresses };
	self->state = n;
	return self->host->provide(self, "esp.dns/1", &n->table.service);
}

static const esp_cfg_item name_items[] = {
	{ .name = "name", .type = ESP_CFG_STRING, .help = "what is asked for" },
	{ .name = "addresses", .type = ESP_CFG_STRINGS, .help = "where it is" },
	{ .name = "then", .type = ESP_CFG_STRINGS, .help = "where it is from the second question on" },
	{ .name = "fails", .type = ESP_CFG_ENUM, .choices = "no|servfail|never", .def_str = "no", .help = "no answer" },
	{ .name = NULL }
};
static const esp_cfg_item config[] = {
	{ .name = "names", .type = ESP_CFG_LIST, .children = name_items, .help = "the names there are" },
	{ .name = NULL }
};
static const esp_offer provides[] = { { .id = "esp.dns/1", .minor = 0 }, { .id = NULL } };
static const esp_module_ops ops = { .size = sizeof ops, .init = on_init };
ESP_MODULE(.name = "scenario_names", .version = "1.0", .summary = "says where names are", .license = "MIT",
	.provides = provides, .config = config, .ops = &ops);
