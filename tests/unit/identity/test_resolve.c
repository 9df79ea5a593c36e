/* resolve() of identity/directory, over tables in memory: aliases, their loops and depth, subaddresses, catch-all. */
#include "modules/identity/directory/directory.h"
#include "tests/support/test.h"

#include "core/base/arena.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* example.test (catch-all unless it is off), other.test that is disabled; alias.test stands for example.test. */
static const char *catch_all = "";
static const struct {
	const char *local;
	int enabled;
} accounts[] = { { "alice", 1 }, { "bob", 1 }, { "off", 0 }, { "a+b", 1 } };
static const struct { const char *local, *target;
} aliases[] = { { "sales", "alice@example.test" }, { "team", "alice@example.test" }, { "team", "bob@example.test" },
	{ "team", "sales@example.test" }, { "round", "trip@example.test" }, { "trip", "round@alias.test" },
	{ "self", "self@example.test" }, { "self", "bob@example.test" }, { "gone", "nobody@nowhere.example.test" },
	{ "dead", "nobody@example.test" }, { "half", "off@example.test" }, { "half", "bob@example.test" },
	{ "sleepy", "off@example.test" }, { "broken", "no address" }, { "plus", "alice+x@example.test" },
	{ "asleep", "x@other.test" } };
static int endless;                /* "chainN" leads to "chainN+1" */

static void *arena_alloc_it(esp_arena *a, size_t n) { return arena_alloc(a, n); }
static const esp_mem_api mem = { .size = sizeof mem, .alloc = arena_alloc_it };

esp_status store_key(struct directory *d, esp_arena *arena, esp_str address, struct key *ret)
{
	const char *at = memrchr(address.ptr, '@', address.len);
	char *p = arena_dup(arena, address.ptr, address.len);

	(void)d;
	if (!at || !p)
		return ESP_EPROTO;
	for (size_t i = 0; i < address.len; i++)
		if (p[i] >= 'A' && p[i] <= 'Z')
			p[i] = (char)(p[i] | 0x20);
	*ret = (struct key){ { p, (size_t)(at - address.ptr) },
		{ p + (at - address.ptr) + 1, address.len - (size_t)(at - address.ptr) - 1 } };
	return ESP_OK;
}

static esp_status named(esp_str name, struct domain *ret)
{
	*ret = (struct domain){
		.enabled = !esp_str_eq(name, ESP_STR("other.test")), .name = name, .catch_all = { catch_all, strlen(catch_all) }
	};
	return esp_str_eq(name, ESP_STR("example.test")) || esp_str_eq(name, ESP_STR("alias.test")) || !ret->enabled
			   ? ESP_OK
			   : ESP_ENOENT;
}

static esp_status any_domain;
esp_status store_any_domain(struct directory *d, esp_arena *arena)
{
	(void)d;
	(void)arena;
	return any_domain;
}

esp_status store_account(
	struct directory *d, esp_arena *arena, const struct domain *domain, esp_str local, esp_account *ret)
{
	(void)d;
	(void)arena;
	(void)domain;
	for (size_t i = 0; i < sizeof accounts / sizeof accounts[0]; i++) {
		if (!esp_str_eq(local, (esp_str){ accounts[i].local, strlen(accounts[i].local) }))
			continue;
		*ret = (esp_account){ .size = sizeof *ret, .id = { { (uint8_t)(i + 1) } }, .enabled = accounts[i].enabled };
		return ESP_OK;
	}
	return ESP_ENOENT;
}

esp_status store_place(
	struct directory *d, esp_arena *arena, const struct key *key, struct domain *ret, esp_account *ret_account)
{
	esp_status st = named(key->domain, ret);

	if (st == ESP_OK && store_account(d, arena, ret, key->local, ret_account) != ESP_OK)
		*ret_account = (esp_account){ .size = 0 };
	return st;
}

esp_status store_alias(struct directory *d, esp_arena *arena, const struct domain *domain, esp_str local,
	const esp_str **ret, uint32_t *ret_n)
{
	esp_str *found = esp_alloc_array(arena, 1000, sizeof *found);
	uint32_t n = 0;

	(void)d;
	(void)domain;
	for (size_t i = 0; i < sizeof aliases / sizeof aliases[0]; i++)
		if (esp_str_eq(local, (esp_str){ aliases[i].local, strlen(aliases[i].local) }))
			found[n++] = (esp_str){ aliases[i].target, strlen(aliases[i].target) };
	if (endless && local.len > 5 && memcmp(local.ptr, "chain", 5) == 0) {
		int next = atoi(local.ptr + 5) + 1;
		size_t len;
		char *to = next == endless ? arena_printf(arena, &len, "alice@example.test")
								   : arena_printf(arena, &len, "chain%d@example.test", next);
		found[n++] = (esp_str){ to, len };
	}
	for (uint32_t i = 0; endless && i < 1000 && esp_str_eq(local, ESP_STR("crowd")); i++) {
		size_t len;
		char *to = arena_printf(arena, &len, "u%u@elsewhere.test", i);
		found[n++] = (esp_str){ to, len };
	}
	*ret = found;
	*ret_n = n;
	return n ? ESP_OK : ESP_ENOENT;
}

static esp_str hostname(void) { return ESP_STR("mx.example.test"); }
static const esp_host host = { .size = sizeof host, .hostname = hostname };

struct found { int kind; char who[16]; uint32_t forward; char folder[32]; esp_status status; };

/* What an address leads to: the first letters of the accounts, in order. */
static struct found find_in(struct directory *d, const char *address)
{
	esp_arena *arena = arena_new(&mem, "resolve test", 0);
	struct found f = { .kind = -1 };
	esp_directory_target t;

	d->core.host = &host;
	f.status = resolve(&d->table, arena, (esp_str){ address, strlen(address) }, &t);
	if (f.status == ESP_OK) {
		f.kind = (int)t.kind;
		f.forward = t.nforward;
		for (uint32_t i = 0; i < t.naccounts && i < 15; i++)
			f.who[i] = accounts[t.accounts[i].id.b[0] - 1].local[0];
		snprintf(f.folder, sizeof f.folder, "%.*s", (int)t.folder.len, t.folder.len ? t.folder.ptr : "");
	}
	arena_free(arena);
	return f;
}

static struct found find(const char *address)
{
	struct directory d = { .subaddress_folders = 1 };

	return find_in(&d, address);
}

#define LEADS_TO(address, k, w) \
	do { \
		struct found f_ = find(address); \
		cr_assert_eq(f_.kind, k, "%s: kind %d", address, f_.kind); \
		cr_assert_str_eq(f_.who, w, "%s: %s", address, f_.who); \
	} while (0)

Test(resolve, finds_accounts_in_any_case_and_under_an_alias_domain)
{
	LEADS_TO("alice@example.test", ESP_DIR_ACCOUNT, "a");
	LEADS_TO("ALICE@Example.Test", ESP_DIR_ACCOUNT, "a");
	LEADS_TO("alice@alias.test", ESP_DIR_ACCOUNT, "a");
	LEADS_TO("nobody@example.test", ESP_DIR_UNKNOWN, "");
	LEADS_TO("alice@elsewhere.test", ESP_DIR_NOT_LOCAL, "");
	LEADS_TO("no address", ESP_DIR_UNKNOWN, "");
}

Test(resolve, tells_switched_off_from_unknown)
{
	LEADS_TO("off@example.test", ESP_DIR_DISABLED, "");
	LEADS_TO("sleepy@example.test", ESP_DIR_DISABLED, "");
	LEADS_TO("asleep@example.test", ESP_DIR_DISABLED, "");
	LEADS_TO("x@other.test", ESP_DIR_DISABLED, "");
	LEADS_TO("half@example.test", ESP_DIR_ACCOUNT, "b");
}

Test(resolve, follows_aliases_and_names_everybody_once)
{
	LEADS_TO("sales@example.test", ESP_DIR_ACCOUNT, "a");
	LEADS_TO("team@example.test", ESP_DIR_ACCOUNT, "ab");
	LEADS_TO("plus@example.test", ESP_DIR_ACCOUNT, "a");
	LEADS_TO("dead@example.test", ESP_DIR_UNKNOWN, "");
	LEADS_TO("broken@example.test", ESP_DIR_UNKNOWN, "");
	LEADS_TO("gone@example.test", ESP_DIR_FORWARD, "");
}

Test(resolve, survives_loops)
{
	LEADS_TO("round@example.test", ESP_DIR_UNKNOWN, "");
	LEADS_TO("self@example.test", ESP_DIR_ACCOUNT, "b");
	catch_all = "lost@example.test";   /* catches what it leads to itself */
	LEADS_TO("nobody@example.test", ESP_DIR_UNKNOWN, "");
}

Test(resolve, goes_ten_aliases_deep_and_no_further)
{
	endless = 10;
	LEADS_TO("chain0@example.test", ESP_DIR_ACCOUNT, "a");
	endless = 11;
	LEADS_TO("chain0@example.test", ESP_DIR_UNKNOWN, "");
	endless = 1000000;
	LEADS_TO("chain0@example.test", ESP_DIR_UNKNOWN, "");
	cr_assert_eq(find("crowd@example.test").status, ESP_E2BIG, "1,000 addresses and the alias are one too many");
}

Test(resolve, splits_subaddresses_only_when_nothing_has_the_whole_name)
{
	struct directory plain = { .subaddress_folders = 0 };

	LEADS_TO("alice+news@example.test", ESP_DIR_ACCOUNT, "a");
	cr_assert_str_eq(find("alice+news@example.test").folder, "news");
	cr_assert_str_eq(find_in(&plain, "alice+news@example.test").folder, "");
	LEADS_TO("a+b@example.test", ESP_DIR_ACCOUNT, "a");
	cr_assert_str_eq(find("a+b@example.test").folder, "", "an account has that name");
	LEADS_TO("team+x@example.test", ESP_DIR_ACCOUNT, "ab");
	cr_assert_str_eq(find("plus@example.test").folder, "", "an alias chooses no folder");
	LEADS_TO("nobody+x@example.test", ESP_DIR_UNKNOWN, "");
	LEADS_TO("+x@example.test", ESP_DIR_UNKNOWN, "");
	LEADS_TO("off+x@example.test", ESP_DIR_DISABLED, "");
}

Test(resolve, asks_the_catch_all_last)
{
	catch_all = "bob@example.test";
	LEADS_TO("nobody@example.test", ESP_DIR_ACCOUNT, "b");
	LEADS_TO("nobody+x@alias.test", ESP_DIR_ACCOUNT, "b");
	LEADS_TO("alice+x@example.test", ESP_DIR_ACCOUNT, "a");
	LEADS_TO("off@example.test", ESP_DIR_DISABLED, "");
	catch_all = "x@elsewhere.test";
	LEADS_TO("nobody@example.test", ESP_DIR_FORWARD, "");
}

Test(resolve, reaches_the_postmaster_of_every_domain_and_of_this_host_only)
{
	struct directory d = { .postmaster = ESP_STR("bob@example.test") };

	cr_assert_str_eq(find_in(&d, "postmaster@example.test").who, "b");
	cr_assert_str_eq(find_in(&d, "PostMaster@MX.Example.Test").who, "b");
	cr_assert_eq(find_in(&d, "postmaster@elsewhere.test").kind, ESP_DIR_NOT_LOCAL);
	cr_assert_eq(find_in(&d, "alice@mx.example.test").kind, ESP_DIR_NOT_LOCAL);
	LEADS_TO("postmaster@example.test", ESP_DIR_UNKNOWN, "");
}

Test(resolve, defers_all_mail_while_there_is_no_domain)
{
	any_domain = ESP_ENOENT;
	cr_assert_eq(find("alice@elsewhere.test").status, ESP_EUNAVAIL);
	any_domain = ESP_EBUSY;
	cr_assert_eq(find("alice@elsewhere.test").status, ESP_EUNAVAIL);
	any_domain = ESP_OK;
	cr_assert_eq(find("alice@elsewhere.test").kind, ESP_DIR_NOT_LOCAL);
}
