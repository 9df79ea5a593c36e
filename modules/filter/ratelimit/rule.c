/* rule - rules and allow-lists: how they are written, whom they concern. */
#include "ratelimit.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#define WINDOW_MINUTE (60 * ESP_SEC)
#define WINDOW_HOUR   (3600 * ESP_SEC)
#define KEY_ROOM      600u           /* two names, and an address of at most 320 bytes */

static const char *const bys[BYS] = { "ip", "network", "sender", "sender_domain", "recipient", "account" };
static const char *const ofs[OFS] = { "connections", "messages", "recipients", "bytes" };
static const char *const whose[BYS] = { "from this address", "from this network", "from this sender",
	"from this sender's domain", "to this recipient", "from this account" };

const char *by_name(uint32_t by) { return bys[by]; }
const char *of_name(uint32_t of) { return ofs[of]; }
const char *rule_whose(const struct rule *rule) { return whose[rule->by]; }
const char *rule_what(const struct rule *rule) { return rule->of == OF_BYTES ? "bytes of mail" : ofs[rule->of]; }

/* --- reading ----------------------------------------------------------------------------------------------------- */

int rule_makes_sense(uint32_t by, uint32_t of)
{
	if (of == OF_CONNECTIONS)
		return by == BY_IP || by == BY_NETWORK;
	return by != BY_RECIPIENT || of == OF_MESSAGES;
}

static esp_status read_rates(const esp_config_api *c, const esp_cfg *g, struct rule *ret, esp_err *err)
{
	int64_t minute = c->integer(g, "per_minute"), hour = c->integer(g, "per_hour"), burst = c->integer(g, "burst");
	int64_t first = minute ? minute : hour;

	if (!first) {
		c->error(g, "by", err, "a limit needs per_minute, per_hour or both");
		return ESP_ECONFIG;
	}
	if (minute && hour && hour < minute) {
		c->error(g, "per_hour", err, "per_hour is less than per_minute: leave per_minute out, or raise per_hour");
		return ESP_ECONFIG;
	}
	if (burst > first) {
		c->error(g, "burst", err, "burst is more than the limit itself: at most %lld", (long long)first);
		return ESP_ECONFIG;
	}
	burst = burst ? burst : first;
	ret->rate[MINUTE] = (struct rate){ 0, 0 };
	if (minute)
		ret->rate[MINUTE] = (struct rate){ WINDOW_MINUTE / minute, WINDOW_MINUTE / minute * burst };
	ret->rate[HOUR] = (struct rate){ 0, 0 };
	if (hour)
		ret->rate[HOUR] = (struct rate){ WINDOW_HOUR / hour, WINDOW_HOUR / hour * (minute ? hour : burst) };
	ret->most = burst;
	return ESP_OK;
}

static esp_status read_rule(const esp_config_api *c, const esp_cfg *g, struct rule *ret, esp_err *err)
{
	ret->by = (uint32_t)c->choice(g, "by");
	ret->of = (uint32_t)c->choice(g, "of");
	if (!rule_makes_sense(ret->by, ret->of)) {
		c->error(g, "of", err, "%s by %s cannot be counted: %s", ofs[ret->of], bys[ret->by],
			ret->of == OF_CONNECTIONS ? "connections are counted by ip or network" : "by recipient, count messages");
		return ESP_ECONFIG;
	}
	return read_rates(c, g, ret, err);
}

static esp_status read_networks(
	const esp_config_api *c, const esp_cfg *allow, struct network *ret, esp_err *err)
{
	struct network one;

	for (uint32_t i = 0; i < c->count(allow, "networks"); i++) {
		esp_str s = c->string_at(allow, "networks", i);
		if (!network_parse(ret ? &ret[i] : &one, s)) {
			c->error(
				allow, "networks", err, "\"%.*s\" is no network: write \"10.1.0.0/16\" or \"2001:db8::1\"", ESP_FMT(s));
			return ESP_ECONFIG;
		}
	}
	return ESP_OK;
}

static esp_str *read_strings(
	const esp_config_api *c, const esp_cfg *g, const char *key, uint32_t *ret_n, esp_arena *arena)
{
	uint32_t n = c->count(g, key);
	esp_str *list = esp_alloc_array(arena, n + 1u, sizeof *list);

	for (uint32_t i = 0; list && i < n; i++)
		list[i] = c->string_at(g, key, i);
	*ret_n = n;
	return list;
}

static esp_status read_lists(
	const esp_config_api *c, const esp_cfg *cfg, struct rules *r, esp_arena *arena, esp_err *err)
{
	static esp_str const usual[] = { ESP_STR_INIT("mx"), ESP_STR_INIT("submission"), ESP_STR_INIT("submissions") };
	const esp_cfg *allow = c->group(cfg, "allow");

	r->bits4 = (uint32_t)c->integer(cfg, "network4");
	r->bits6 = (uint32_t)c->integer(cfg, "network6");
	r->nallow_networks = c->count(allow, "networks");
	r->allow_networks = esp_alloc_array(arena, r->nallow_networks + 1u, sizeof *r->allow_networks);
	r->allow_senders = read_strings(c, allow, "senders", &r->nallow_senders, arena);
	r->allow_accounts = read_strings(c, allow, "accounts", &r->nallow_accounts, arena);
	r->roles = read_strings(c, cfg, "roles", &r->nroles, arena);
	if (!r->allow_networks || !r->allow_senders || !r->allow_accounts || !r->roles)
		return ESP_ENOMEM;
	if (!r->nroles) {
		r->nroles = sizeof usual / sizeof usual[0];
		r->roles = esp_alloc_array(arena, r->nroles, sizeof *r->roles);
		if (!r->roles)
			return ESP_ENOMEM;
		memcpy(r->roles, usual, sizeof usual);
	}
	return read_networks(c, allow, r->allow_networks, err);
}

esp_status rules_read(const esp_config_api *c, const esp_cfg *cfg, struct rules *ret, esp_arena *arena, esp_err *err)
{
	uint32_t n = c->count(cfg, "limits"), seen[BYS][OFS] = { { 0 } };
	struct rule one;

	for (uint32_t i = 0; i < n; i++) {
		const esp_cfg *g = c->at(cfg, "limits", i, NULL);
		struct rule *rule = ret && i < RULES_MOST ? &ret->rule[i] : &one;
		esp_status st = read_rule(c, g, rule, err);
		if (st != ESP_OK)
			return st;
		if (seen[rule->by][rule->of]++) {
			c->error(g, "by", err, "there is another limit of %s by %s: keep one", ofs[rule->of], bys[rule->by]);
			return ESP_ECONFIG;
		}
	}
	if (!ret)
		return read_networks(c, c->group(cfg, "allow"), NULL, err);
	ret->n = n;                      /* no pair twice: at most RULES_MOST */
	return read_lists(c, cfg, ret, arena, err);
}

/* --- whom they concern ------------------------------------------------------------------------------------------- */

static int address_of(esp_str text, struct address *ret)
{
	struct network n;

	if (!network_parse(&n, text))
		return 0;
	*ret = n.base;
	return 1;
}

static int same_letter(char a, char b)
{
	return (a >= 'A' && a <= 'Z' ? a | 32 : a) == (b >= 'A' && b <= 'Z' ? b | 32 : b);
}

static int same(esp_str a, esp_str b)
{
	size_t i = 0;

	if (a.len != b.len)
		return 0;
	while (i < a.len && same_letter(a.ptr[i], b.ptr[i]))
		i++;
	return i == a.len;
}

static esp_str domain_of(esp_str address)
{
	const char *at = address.len ? memrchr(address.ptr, '@', address.len) : NULL;

	return at ? (esp_str){ at + 1, address.len - (size_t)(at + 1 - address.ptr) } : (esp_str){ NULL, 0 };
}

static int has_sender(const struct rules *r, esp_str from)
{
	esp_str domain = domain_of(from);

	for (uint32_t i = 0; from.len && i < r->nallow_senders; i++) {
		esp_str s = r->allow_senders[i];
		if (same(s, from) || (s.len && s.ptr[0] == '@' && same((esp_str){ s.ptr + 1, s.len - 1 }, domain)))
			return 1;
	}
	return 0;
}

int rules_allow(const struct rules *r, const struct subject *s)
{
	struct address a;
	int role = 0;

	for (uint32_t i = 0; i < r->nroles; i++)
		role |= esp_str_eq(r->roles[i], s->info->role);
	if (!role)
		return 1;
	if (r->nallow_networks && address_of(s->info->peer, &a))
		for (uint32_t i = 0; i < r->nallow_networks; i++)
			if (network_has(&r->allow_networks[i], &a))
				return 1;
	if (!s->txn)
		return 0;
	for (uint32_t i = 0; s->txn->login.len && i < r->nallow_accounts; i++)
		if (same(r->allow_accounts[i], s->txn->login))
			return 1;
	return has_sender(r, s->txn->from);
}

static esp_str network_of(const struct rules *r, esp_str peer, char *room, size_t size)
{
	struct address a;
	uint32_t bits;
	size_t n;

	if (!address_of(peer, &a))
		return (esp_str){ NULL, 0 };
	bits = a.len == 4 ? r->bits4 : r->bits6;
	for (uint32_t i = 0; i < a.len; i++)
		a.b[i] &= i * 8 + 8 <= bits ? 0xff : i * 8 >= bits ? 0 : (uint8_t)(0xff << (8 - bits % 8));
	if (!inet_ntop(a.len == 4 ? AF_INET : AF_INET6, a.b, room, (socklen_t)size))
		return (esp_str){ NULL, 0 };
	n = strlen(room);
	n += (size_t)snprintf(room + n, size - n, "/%u", bits);
	return (esp_str){ room, n };
}

static esp_str value_of(const struct rules *r, uint32_t by, const struct subject *s, char *room, size_t size)
{
	switch (by) {
	case BY_IP: return s->info->trusted ? (esp_str){ NULL, 0 } : s->info->peer;
	case BY_NETWORK: return s->info->trusted ? (esp_str){ NULL, 0 } : network_of(r, s->info->peer, room, size);
	case BY_SENDER: return s->txn->from;
	case BY_SENDER_DOMAIN: return domain_of(s->txn->from);
	case BY_RECIPIENT: return s->recipient;
	default: return s->txn->login;
	}
}

esp_str rule_key(
	const struct rules *r, const struct rule *rule, const struct subject *s, esp_arena *arena, esp_status *ret)
{
	char room[INET6_ADDRSTRLEN + 8];
	esp_str value = value_of(r, rule->by, s, room, sizeof room);
	char *text;
	int n;

	*ret = ESP_OK;
	if (!value.len)
		return (esp_str){ NULL, 0 };
	text = esp_alloc(arena, KEY_ROOM);
	if (!text) {
		*ret = ESP_ENOMEM;
		return (esp_str){ NULL, 0 };
	}
	n = snprintf(text, KEY_ROOM, "%s:%s:%.*s", bys[rule->by], ofs[rule->of], ESP_FMT(value));
	if (n >= (int)KEY_ROOM)
		n = KEY_ROOM - 1;            /* longer than any address that is taken */
	for (int i = 0; i < n; i++)
		if (text[i] >= 'A' && text[i] <= 'Z')
			text[i] |= 32;
	return (esp_str){ text, (size_t)n };
}
