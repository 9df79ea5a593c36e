/* table - the counts of this server: a bounded table that never grows.
 *
 * A key has eight places, chosen by a keyed hash: nobody can make keys meet on purpose, and a hash stands for its key.
 * When all eight are taken, the row that owes least makes room: a flood of new keys pushes out other new keys, and not
 * those that are at their limit.
 */
#include "ratelimit.h"

#include <string.h>

static int64_t later(int64_t a, int64_t b) { return a > b ? a : b; }
int64_t entry_until(const struct entry *e) { return later(e->until[MINUTE], e->until[HOUR]); }
static struct entry *places(struct table *t, uint64_t hash) { return &t->entry[hash % (t->n / WAYS) * WAYS]; }

static struct entry *find(struct table *t, uint64_t hash)
{
	struct entry *e = places(t, hash);

	for (uint32_t i = 0; i < WAYS; i++)
		if (e[i].hash == hash)
			return &e[i];
	return NULL;
}

static struct entry *make(struct table *t, uint64_t hash, esp_str text, int64_t now)
{
	struct entry *e = places(t, hash), *least = e;
	size_t n = text.len < KEY_SHOWN ? text.len : KEY_SHOWN - 1;

	for (uint32_t i = 1; i < WAYS && least->hash; i++)
		if (!e[i].hash || entry_until(&e[i]) < entry_until(least))
			least = &e[i];
	t->forgotten += least->hash && entry_until(least) > now;
	memset(least, 0, sizeof *least);
	least->hash = hash;
	memcpy(least->text, text.ptr, n);
	return least;
}

/* How long `a` must wait; 0: it need not. */
static int64_t wait_of(struct table *t, const struct ask *a, int64_t now)
{
	const struct entry *e = find(t, a->hash);
	int64_t wait = 0;

	for (uint32_t w = 0; w < WINDOWS; w++) {
		const struct rate *rate = &a->rule->rate[w];
		if (rate->period)
			wait = later(wait, later(e ? e->until[w] : now, now) + a->amount * rate->period - now - rate->credit);
	}
	return wait;
}

static void take(struct table *t, const struct ask *a, int64_t now)
{
	struct entry *e = find(t, a->hash);

	if (!e)
		e = make(t, a->hash, a->key, now);
	for (uint32_t w = 0; w < WINDOWS; w++) {
		e->period[w] = a->rule->rate[w].period;
		e->until[w] = e->period[w] ? later(e->until[w], now) + a->amount * e->period[w] : 0;
	}
}

struct table *table_new(const esp_mem_api *mem, uint32_t entries, const uint64_t secret[2])
{
	uint32_t n = (entries + WAYS - 1) / WAYS * WAYS;
	struct table *t = mem->rc_new(sizeof *t + (size_t)n * sizeof(struct entry), 0);

	if (!t)
		return NULL;
	t->n = n;
	memcpy(t->secret, secret, sizeof t->secret);
	(void)pthread_mutex_init(&t->lock, NULL);
	return t;
}

int32_t table_take(struct table *t, const struct ask *ask, uint32_t n, int64_t now, int64_t *ret_wait)
{
	int32_t worst = -1;

	*ret_wait = 0;
	(void)pthread_mutex_lock(&t->lock);
	for (uint32_t i = 0; i < n; i++) {
		int64_t wait = wait_of(t, &ask[i], now);
		if (wait > *ret_wait) {
			*ret_wait = wait;
			worst = (int32_t)i;
		}
	}
	for (uint32_t i = 0; worst < 0 && i < n; i++)
		take(t, &ask[i], now);
	(void)pthread_mutex_unlock(&t->lock);
	return worst;
}

int table_forget(struct table *t, uint64_t hash)
{
	struct entry *e;

	(void)pthread_mutex_lock(&t->lock);
	e = find(t, hash);
	if (e)
		memset(e, 0, sizeof *e);
	(void)pthread_mutex_unlock(&t->lock);
	return e != NULL;
}

int table_next(struct table *t, uint32_t *at, int64_t now, struct entry *ret)
{
	int found = 0;

	(void)pthread_mutex_lock(&t->lock);
	while (!found && *at < t->n) {
		*ret = t->entry[(*at)++];
		found = ret->hash && entry_until(ret) > now;
	}
	(void)pthread_mutex_unlock(&t->lock);
	return found;
}

void table_copy(struct table *to, struct table *from, int64_t now)
{
	struct entry e;

	for (uint32_t at = 0; table_next(from, &at, now, &e);) {
		(void)pthread_mutex_lock(&to->lock);
		*make(to, e.hash, (esp_str){ e.text, strlen(e.text) }, now) = e;
		(void)pthread_mutex_unlock(&to->lock);
	}
}
