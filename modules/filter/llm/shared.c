/* shared - what all workers and all generations of this instance have in common: the day's budget, answers that are
 * remembered, how many requests run, and since when the service is left alone.
 *
 * A generation leaves the address; the next one takes a reference in its start().  The memory is the core's
 * (esp.mem/1).  No locks: hooks of all workers come here.
 */
#include "llm.h"

#define LAYOUT 1u              /* raise it with every change of struct shared */
#define WAYS   4u              /* places an answer may be in */
#define REST_FIRST (1 * ESP_SEC)
#define REST_LAST  (60 * ESP_SEC)
#define DAY 86400

struct left { struct shared *shared; size_t bytes; };

esp_status shared_take(struct llm *m)
{
	uint32_t nslots = m->settings.cache ? (m->settings.cache + WAYS - 1) / WAYS * WAYS : 0;
	struct left mine = { .bytes = sizeof(struct shared) + nslots * sizeof(struct slot) };
	size_t len = 0;
	const struct left *from = m->core.host->take(m->self, LAYOUT, &len);
	struct shared *before = from && len == sizeof *from ? from->shared : NULL;

	if (before && from->bytes == mine.bytes) {
		mine.shared = m->core.mem->rc_ref(before);
	} else {
		mine.shared = m->core.mem->rc_new(mine.bytes, 0);
		if (!mine.shared)
			return ESP_ENOMEM;
		mine.shared->nslots = nslots;
	}
	m->shared = mine.shared;
	atomic_store(&m->shared->failures, 0);     /* other settings may have been what it lacked: ask again */
	atomic_store(&m->shared->rest_until, 0);
	m->core.host->leave(m->self, LAYOUT, &mine, sizeof mine);
	return ESP_OK;
}

void shared_drop(struct llm *m)
{
	m->core.mem->rc_unref(m->shared);
	m->shared = NULL;
}

/* --- the cache ------------------------------------------------------------------------------------------------
 * A slot is three words that are written one by one: two halves of the key, each with the data mixed in, and the data.
 * Who reads words of two writers finds that the key does not come out. */

#define EXPIRES(data)    ((esp_time)((data) >> 32))
#define CATEGORY(data)   ((uint32_t)((data) >> 16) & 0xff)
#define CONFIDENCE(data) ((uint32_t)(data) & 0xffff)

static void halves(const uint8_t key[HASH_LEN], uint64_t *a, uint64_t *b)
{
	memcpy(a, key, sizeof *a);
	memcpy(b, key + sizeof *a, sizeof *b);
}

static uint32_t first_way(const struct shared *sh, uint64_t a)
{
	return (uint32_t)(a % (sh->nslots / WAYS)) * WAYS;
}

int cache_get(const struct shared *sh, const uint8_t key[HASH_LEN], esp_time now, struct verdict *ret)
{
	uint64_t a, b;

	halves(key, &a, &b);
	for (uint32_t i = 0; sh->nslots && i < WAYS; i++) {
		const struct slot *s = &sh->slot[first_way(sh, a) + i];
		uint64_t data = atomic_load(&s->data);
		if ((atomic_load(&s->a) ^ data) != a || (atomic_load(&s->b) ^ data) != b || EXPIRES(data) <= now)
			continue;
		*ret = (struct verdict){ .category = CATEGORY(data), .confidence = CONFIDENCE(data) };
		return 1;
	}
	return 0;
}

void cache_put(struct shared *sh, const uint8_t key[HASH_LEN], esp_time now, esp_time ttl, const struct verdict *v)
{
	uint64_t data = (uint64_t)(now + ttl) << 32 | v->category << 16 | v->confidence, a, b;
	struct slot *oldest = NULL;

	halves(key, &a, &b);
	for (uint32_t i = 0; sh->nslots && i < WAYS; i++) {
		struct slot *s = &sh->slot[first_way(sh, a) + i];
		if (!oldest || atomic_load(&s->data) < atomic_load(&oldest->data))
			oldest = s;
	}
	if (!oldest)
		return;
	atomic_store(&oldest->data, data);
	atomic_store(&oldest->a, a ^ data);
	atomic_store(&oldest->b, b ^ data);
}

/* --- the budget: requests that are under way at midnight may count for either day ---------------------------- */

void budget_day(struct shared *sh, esp_time now)
{
	int64_t today = now / DAY, was = atomic_load(&sh->day);

	if (was == today || !atomic_compare_exchange_strong(&sh->day, &was, today))
		return;
	atomic_store(&sh->requests, 0);
	atomic_store(&sh->tokens, 0);
}

int budget_spent(const struct shared *sh, const struct settings *s)
{
	return (s->requests && atomic_load(&sh->requests) >= s->requests) ||
		(s->tokens && atomic_load(&sh->tokens) >= s->tokens);
}

int budget_take(struct shared *sh, const struct settings *s, esp_time now)
{
	budget_day(sh, now);
	if (budget_spent(sh, s))
		return 0;
	if (atomic_fetch_add(&sh->requests, 1) >= s->requests && s->requests) {
		atomic_fetch_sub(&sh->requests, 1);
		return 0;
	}
	atomic_fetch_add(&sh->new_requests, 1);
	return 1;
}

static void take_one(atomic_uint_least64_t *n)
{
	uint64_t was = atomic_load(n);

	while (was && !atomic_compare_exchange_weak(n, &was, was - 1))
		;
}

/* What is in the database already stays there: too many by one is better than too few. */
void budget_give_back(struct shared *sh)
{
	take_one(&sh->requests);
	take_one(&sh->new_requests);
}

void budget_tokens(struct shared *sh, uint64_t n)
{
	atomic_fetch_add(&sh->tokens, n);
	atomic_fetch_add(&sh->new_tokens, n);
}

/* --- the service --------------------------------------------------------------------------------------------- */

int running_enter(struct shared *sh, uint32_t most)
{
	if (atomic_fetch_add(&sh->running, 1) < most)
		return 1;
	atomic_fetch_sub(&sh->running, 1);
	return 0;
}

void running_leave(struct shared *sh) { atomic_fetch_sub(&sh->running, 1); }

void rest(struct shared *sh, esp_nsec now, esp_nsec span)
{
	uint32_t failures = atomic_fetch_add(&sh->failures, 1);

	if (!span)
		span = failures < 6 ? REST_FIRST << failures : REST_LAST;
	if (atomic_load(&sh->rest_until) < now + span)
		atomic_store(&sh->rest_until, now + span);
}
