#include "cache.h"

#include <stdlib.h>
#include <string.h>

struct cached {
	struct cached *next;               /* in its bucket */
	struct cached *newer, *older;      /* by last use */
	struct reply *reply;
	uint64_t hash;
	uint16_t type;
	uint8_t len;
	uint8_t name[];
};

#define BLOCK 32u                      /* what malloc() and the bucket cost beside */

static uint64_t rotate(uint64_t x, unsigned by) { return x << by | x >> (64 - by); }

static void mix(uint64_t v[4])
{
	v[0] += v[1], v[1] = rotate(v[1], 13) ^ v[0], v[0] = rotate(v[0], 32);
	v[2] += v[3], v[3] = rotate(v[3], 16) ^ v[2];
	v[0] += v[3], v[3] = rotate(v[3], 21) ^ v[0];
	v[2] += v[1], v[1] = rotate(v[1], 17) ^ v[2], v[2] = rotate(v[2], 32);
}

uint64_t key_hash(const uint64_t secret[2], const struct key *k)
{
	uint64_t v[4] = { secret[0] ^ UINT64_C(0x736f6d6570736575), secret[1] ^ UINT64_C(0x646f72616e646f6d),
		secret[0] ^ UINT64_C(0x6c7967656e657261), secret[1] ^ UINT64_C(0x7465646279746573) };
	uint64_t last = (uint64_t)k->type << 40 | (uint64_t)k->len << 56, word;
	size_t at = 0;

	for (; at + 8 <= k->len; at += 8) {
		memcpy(&word, k->name + at, 8);
		v[3] ^= word;
		mix(v);
		v[0] ^= word;
	}
	word = 0;
	memcpy(&word, k->name + at, k->len - at);
	v[3] ^= word;
	mix(v);
	v[0] ^= word;
	v[3] ^= last;
	mix(v);
	v[0] ^= last;
	v[2] ^= 0xff;
	mix(v);
	mix(v);
	mix(v);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

esp_status cache_init(struct cache *c, uint32_t most, size_t most_bytes, const uint64_t secret[2])
{
	uint32_t buckets = 64;

	while (buckets < most && buckets < 1u << 20)
		buckets *= 2;
	*c = (struct cache){ .secret = { secret[0], secret[1] }, .mask = buckets - 1, .most = most,
		.most_bytes = most_bytes };
	c->bucket = calloc(buckets, sizeof(struct cached *));
	return c->bucket ? ESP_OK : ESP_ENOMEM;
}

static size_t size_of(const struct cached *e)
{
	return sizeof *e + e->len + e->reply->bytes + 2 * BLOCK;
}

static void unlink_use(struct cache *c, struct cached *e)
{
	*(e->newer ? &e->newer->older : &c->newest) = e->older;
	*(e->older ? &e->older->newer : &c->oldest) = e->newer;
}

static void link_use(struct cache *c, struct cached *e)
{
	e->newer = NULL;
	e->older = c->newest;
	*(c->newest ? &c->newest->newer : &c->oldest) = e;
	c->newest = e;
}

static void drop(struct cache *c, struct cached *e)
{
	struct cached **at = &c->bucket[e->hash & c->mask];

	while (*at != e)
		at = &(*at)->next;
	*at = e->next;
	unlink_use(c, e);
	c->n--;
	c->bytes -= size_of(e);
	reply_unref(e->reply);
	free(e);
}

static struct cached *find(struct cache *c, const struct key *k, uint64_t hash)
{
	struct cached *e = c->bucket[hash & c->mask];

	while (e && (e->hash != hash || e->type != k->type || e->len != k->len || memcmp(e->name, k->name, k->len)))
		e = e->next;
	return e;
}

struct reply *cache_get(struct cache *c, const struct key *k, esp_nsec now)
{
	struct cached *e = find(c, k, key_hash(c->secret, k));

	if (e && e->reply->until <= now) {
		drop(c, e);
		e = NULL;
	}
	if (!e)
		return NULL;
	unlink_use(c, e);
	link_use(c, e);
	return e->reply;
}

static void make_room(struct cache *c)
{
	while (c->oldest && (c->n > c->most || c->bytes > c->most_bytes))
		drop(c, c->oldest);
}

void cache_put(struct cache *c, const struct key *k, struct reply *r, esp_nsec now)
{
	uint64_t hash = key_hash(c->secret, k);
	struct cached *e = find(c, k, hash);

	if (e)
		drop(c, e);
	if (r->until <= now || !c->most)
		return;
	e = malloc(sizeof *e + k->len);
	if (!e)
		return;
	*e = (struct cached){ .reply = reply_ref(r), .hash = hash, .type = k->type, .len = k->len,
		.next = c->bucket[hash & c->mask] };
	memcpy(e->name, k->name, k->len);
	c->bucket[hash & c->mask] = e;
	link_use(c, e);
	c->n++;
	c->bytes += size_of(e);
	make_room(c);
}

void cache_clear(struct cache *c)
{
	while (c->oldest)
		drop(c, c->oldest);
}

void cache_end(struct cache *c)
{
	if (c->bucket)
		cache_clear(c);
	free(c->bucket);
	c->bucket = NULL;
}
