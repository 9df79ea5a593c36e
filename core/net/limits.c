/* core/net/limits.c - connection counts by network.  See limits.h.
 *
 * Only the control thread adds, finds and frees entries, and only it raises a count: an entry whose count is 0
 * has no holder and gets none while it is being freed.
 */
#include "core/net/limits.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/assert.h"
#include "core/base/map.h"

enum { LEVELS = 3, KNOWN_MAX = 256 * 1024 };

struct limit_net {
	struct limit_net *parent;       /* the wider net; NULL on top */
	struct ip_net net;              /* also the key */
	uint8_t level;
	atomic_uint held;               /* connections; for parents, of all their hosts */
	atomic_bool blamed;
	uint32_t children;              /* narrower entries that point here */
	bool erred;                     /* blamed in this or the last minute */
	uint32_t recent;                /* new ones in this minute */
	esp_nsec minute;                /* when it began */
};

struct limits {
	struct net_limits l;
	struct map known;
	esp_nsec swept;
};

static uint32_t or_default(uint32_t value, uint32_t fallback)
{
	return value ? value : fallback;
}

int limits_new(const struct net_limits *from, struct limits **ret)
{
	struct limits *l = calloc(1, sizeof(*l));

	*ret = l;
	if (!l)
		return ESP_ENOMEM;
	l->l = *from;
	l->l.per_host = or_default(from->per_host, 30);
	l->l.per_net = or_default(from->per_net, 90);
	l->l.per_wide = or_default(from->per_wide, 270);
	l->l.per_minute = or_default(from->per_minute, 300);
	l->l.per_minute_erred = or_default(from->per_minute_erred, 60);
	map_init(&l->known, KNOWN_MAX);
	return ESP_OK;
}

void limits_free(struct limits *l)
{
	const struct map_entry *e;
	size_t at = 0;

	if (!l)
		return;
	while ((e = map_next(&l->known, &at)))
		free(e->value);
	map_free(&l->known);
	free(l);
}

size_t limits_known(const struct limits *l)
{
	return map_count(&l->known);
}

static esp_str key_of(const struct ip_net *net)
{
	_Static_assert(sizeof(*net) == 17, "the key has no padding");
	return (esp_str){ (const char *)net, sizeof(*net) };
}

/* Free what nobody holds and whose minute is over; children go before their parents. */
static void sweep(struct limits *l, esp_nsec now)
{
	for (int level = 0; level < LEVELS; level++) {
		const struct map_entry *e;
		size_t at = 0;

		while ((e = map_next(&l->known, &at))) {
			struct limit_net *n = e->value;

			if (n->level != level || n->children || atomic_load(&n->held) || now - n->minute < 60 * ESP_SEC)
				continue;
			map_delete(&l->known, key_of(&n->net));
			if (n->parent)
				n->parent->children--;
			free(n);
		}
	}
	l->swept = now;
}

static struct limit_net *know(struct limits *l, const struct ip *ip, int level, struct limit_net *parent, esp_nsec now)
{
	static const uint8_t bits[2][LEVELS] = { { 64, 56, 48 }, { 128, 120, 112 } };
	struct ip_net net = { .bits = bits[ip_is_v4(ip)][level] };
	struct limit_net *n;

	net.ip = ip_mask(ip, net.bits);
	n = map_get(&l->known, key_of(&net));
	if (n)
		return n;
	n = calloc(1, sizeof(*n));
	if (!n)
		return NULL;
	n->net = net;
	n->level = (uint8_t)level;
	n->minute = now;
	if (map_put(&l->known, key_of(&n->net), n) != ESP_OK) {
		free(n);
		return NULL;
	}
	n->parent = parent;
	if (parent)
		parent->children++;
	return n;
}

static bool too_fast(const struct limits *l, struct limit_net *host, esp_nsec now)
{
	if (now - host->minute >= 60 * ESP_SEC) {
		host->minute = now;
		host->recent = 0;
		host->erred = false;
	}
	if (atomic_exchange(&host->blamed, false))
		host->erred = true;
	return ++host->recent > (host->erred ? l->l.per_minute_erred : l->l.per_minute);
}

int limits_admit(struct limits *l, const struct ip *ip, esp_nsec now, struct limit_net **ret)
{
	uint32_t cap[LEVELS] = { l->l.per_host, l->l.per_net, l->l.per_wide };
	struct limit_net *n = NULL;

	*ret = NULL;
	if (now - l->swept >= 60 * ESP_SEC)
		sweep(l, now);
	for (int level = LEVELS - 1; level >= 0; level--) {
		n = know(l, ip, level, n, now);
		if (!n)
			return ESP_OK;
	}
	if (too_fast(l, n, now))
		return ESP_EBUSY;
	for (struct limit_net *up = n; up; up = up->parent)
		if (atomic_load(&up->held) >= cap[up->level])
			return ESP_EBUSY;
	for (struct limit_net *up = n; up; up = up->parent)
		atomic_fetch_add(&up->held, 1);
	*ret = n;
	return ESP_OK;
}

void limit_release(struct limit_net *host)
{
	/* the parent is read first: once the count is 0 the sweep may free the entry */
	for (struct limit_net *n = host; n;) {
		struct limit_net *parent = n->parent;

		ESP_ASSERT(atomic_fetch_sub(&n->held, 1) != 0);
		n = parent;
	}
}

void limit_blame(struct limit_net *host)
{
	if (host)
		atomic_store(&host->blamed, true);
}
