/* resolve - who gets mail for this address?
 *
 * A work list instead of recursion: every address found is looked at once, at most 1,000 in all and 10 aliases deep.
 * Order for a local part: account, alias, the same without its subaddress, postmaster, catch-all.
 */
#include "directory.h"

#define DEPTH_MAX  10
#define TARGETS_MAX 1000u

struct work { esp_str address; uint32_t depth; };

struct walk {
	struct directory *d;
	esp_arena *arena;
	struct work *list;
	uint32_t n, next, cap;
	esp_account *accounts;
	esp_str *forward;
	uint32_t naccounts, nforward, cap_accounts, cap_forward;
	int disabled;              /* somebody was found, but switched off */
	esp_str folder, subaddress;
};

/* Room for one more entry: most addresses are one account, so the arrays begin small. */
static void *grow(struct walk *w, void *array, uint32_t n, uint32_t *cap, size_t item)
{
	void *more;

	if (n < *cap)
		return array;
	*cap = *cap ? *cap * 2 : 4;
	more = esp_alloc_array(w->arena, *cap, item);
	if (more && n)
		memcpy(more, array, n * item);
	return more;
}

static esp_status add(struct walk *w, esp_str address, uint32_t depth)
{
	if (depth > DEPTH_MAX)
		return ESP_OK;         /* an alias that leads to itself ends here */
	for (uint32_t i = 0; i < w->n; i++)
		if (esp_str_eq(w->list[i].address, address))
			return ESP_OK;
	if (w->n == TARGETS_MAX)
		return ESP_E2BIG;
	if (!(w->list = grow(w, w->list, w->n, &w->cap, sizeof *w->list)))
		return ESP_ENOMEM;
	w->list[w->n++] = (struct work){ address, depth };
	return ESP_OK;
}

static esp_status add_account(struct walk *w, const esp_account *account)
{
	if (!account->enabled) {
		w->disabled = 1;
		return ESP_OK;
	}
	for (uint32_t i = 0; i < w->naccounts; i++)
		if (memcmp(&w->accounts[i].id, &account->id, sizeof account->id) == 0)
			return ESP_OK;
	if (!(w->accounts = grow(w, w->accounts, w->naccounts, &w->cap_accounts, sizeof *w->accounts)))
		return ESP_ENOMEM;
	w->accounts[w->naccounts++] = *account;
	return ESP_OK;
}

static esp_status try_alias(struct walk *w, const struct domain *domain, esp_str local, uint32_t depth)
{
	const esp_str *targets;
	uint32_t n;
	esp_status st = store_alias(w->d, w->arena, domain, local, &targets, &n);

	for (uint32_t i = 0; st == ESP_OK && i < n; i++)
		st = add(w, targets[i], depth + 1);
	return st;
}

/* ESP_ENOENT: neither an account nor an alias has this local part. */
static esp_status try_local(struct walk *w, const struct domain *domain, esp_str local, uint32_t depth)
{
	esp_account account;
	esp_status st = store_account(w->d, w->arena, domain, local, &account);

	if (st == ESP_OK)
		return add_account(w, &account);
	return st == ESP_ENOENT ? try_alias(w, domain, local, depth) : st;
}

/* `account` has the whole local part, if any has. */
static esp_status try_domain(
	struct walk *w, const struct domain *domain, const esp_account *account, esp_str local, uint32_t depth)
{
	esp_str user, detail;
	esp_status st = account->size ? add_account(w, account) : try_alias(w, domain, local, depth);

	if (st == ESP_ENOENT && esp_local_split(local, '+', &user, &detail)) {
		st = try_local(w, domain, user, depth);
		if (st == ESP_OK && depth == 0) {
			w->subaddress = detail;
			w->folder = w->d->subaddress_folders ? detail : (esp_str){ NULL, 0 };
		}
	}
	if (st == ESP_ENOENT && esp_str_eq(local, ESP_STR("postmaster")) && w->d->postmaster.len)
		st = add(w, w->d->postmaster, depth + 1);
	if (st == ESP_ENOENT && domain->catch_all.len)
		st = add(w, domain->catch_all, depth + 1);
	return st;
}

/* RFC 5321 4.5.1: a server has a postmaster even when its own name is no domain it takes mail for. */
static int is_our_postmaster(const struct directory *d, const struct key *key)
{
	esp_str host = d->core.host->hostname();

	return d->postmaster.len && esp_str_eq(key->local, ESP_STR("postmaster")) && key->domain.len == host.len &&
	       strncasecmp(key->domain.ptr, host.ptr, host.len) == 0;
}

static esp_status look(struct walk *w, const struct work *item, int *ret_kind)
{
	struct domain domain;
	esp_account account;
	struct key key;
	esp_status st = store_key(w->d, w->arena, item->address, &key);

	if (st != ESP_OK)
		return st == ESP_ENOMEM ? st : ESP_ENOENT;
	st = store_place(w->d, w->arena, &key, &domain, &account);
	if (st == ESP_ENOENT && is_our_postmaster(w->d, &key))
		return add(w, w->d->postmaster, item->depth + 1);
	/* without any domain the database is new, or was lost: mail is not refused for good */
	if (st == ESP_ENOENT && store_any_domain(w->d, w->arena) != ESP_OK)
		st = ESP_EUNAVAIL;
	if (st == ESP_ENOENT) {
		*ret_kind = ESP_DIR_NOT_LOCAL;
		if (item->depth == 0)
			return ESP_OK;
		if (!(w->forward = grow(w, w->forward, w->nforward, &w->cap_forward, sizeof *w->forward)))
			return ESP_ENOMEM;
		w->forward[w->nforward++] = item->address;
		return ESP_OK;
	}
	if (st == ESP_OK && !domain.enabled) {
		w->disabled = 1;
		return ESP_OK;
	}
	return st == ESP_OK ? try_domain(w, &domain, &account, key.local, item->depth) : st;
}

esp_status resolve(const esp_directory *service, esp_arena *arena, esp_str address, esp_directory_target *ret)
{
	struct walk w = { .d = (struct directory *)service, .arena = arena };
	int first = ESP_DIR_UNKNOWN, kind;
	esp_status st = add(&w, address, 0);

	while (st == ESP_OK && w.next < w.n) {
		struct work item = w.list[w.next++];
		kind = ESP_DIR_UNKNOWN;
		st = look(&w, &item, &kind);
		if (item.depth == 0)
			first = kind;
		if (st == ESP_ENOENT)
			st = ESP_OK;           /* a dead target of an alias does not stop the others */
	}
	if (st != ESP_OK)
		return st;
	*ret = (esp_directory_target){
		.size = sizeof *ret,
		.accounts = w.accounts,
		.naccounts = w.naccounts,
		.forward = w.forward,
		.nforward = w.nforward,
		.folder = w.folder,
		.subaddress = w.subaddress,
		.kind = w.nforward                   ? ESP_DIR_FORWARD
				: w.naccounts                ? ESP_DIR_ACCOUNT
				: first == ESP_DIR_NOT_LOCAL ? ESP_DIR_NOT_LOCAL
				: w.disabled                 ? ESP_DIR_DISABLED
											 : ESP_DIR_UNKNOWN,
	};
	return ESP_OK;
}
