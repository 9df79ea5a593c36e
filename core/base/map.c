/* core/base/map.c - hash map (see map.h).  hash 0 = never used; value NULL with a hash = deleted. */
#include "core/base/map.h"

#include "core/base/assert.h"
#include "core/base/hash.h"
#include "core/base/str.h"

#include <stdlib.h>

#define MAP_LIMIT_DEFAULT ((size_t)1 << 20)

static uint64_t key_hash(esp_str key)
{
	uint64_t h = siphash(siphash_process_key(), key.ptr, key.len);

	return h ? h : 1;
}

void map_init(struct map *m, size_t limit)
{
	*m = (struct map){ .limit = limit ? limit : MAP_LIMIT_DEFAULT };
}

void map_free(struct map *m)
{
	free(m->slots);
	*m = (struct map){ .limit = m->limit };
}

static struct map_entry *find(const struct map *m, esp_str key, uint64_t hash)
{
	size_t i;

	if (!m->cap)
		return NULL;
	for (i = hash & (m->cap - 1); m->slots[i].hash; i = (i + 1) & (m->cap - 1))
		if (m->slots[i].hash == hash && m->slots[i].value && str_eq(m->slots[i].key, key))
			return &m->slots[i];
	return NULL;
}

void *map_get(const struct map *m, esp_str key)
{
	struct map_entry *e = find(m, key, key_hash(key));

	return e ? e->value : NULL;
}

static void insert(struct map *m, struct map_entry entry)
{
	size_t i = entry.hash & (m->cap - 1);

	while (m->slots[i].hash)
		i = (i + 1) & (m->cap - 1);
	m->slots[i] = entry;
	m->filled++;
}

/* Grow, or only drop the tombstones when most slots are dead. */
static esp_status rehash(struct map *m)
{
	struct map next = *m;
	size_t i;

	next.cap = m->cap == 0 ? 8 : m->count * 2 >= m->cap ? m->cap * 2 : m->cap;
	next.filled = 0;
	next.slots = calloc(next.cap, sizeof(*next.slots));
	if (!next.slots)
		return ESP_ENOMEM;
	for (i = 0; i < m->cap; i++)
		if (m->slots[i].value)
			insert(&next, m->slots[i]);
	free(m->slots);
	*m = next;
	return ESP_OK;
}

esp_status map_put(struct map *m, esp_str key, void *value)
{
	uint64_t hash = key_hash(key);
	struct map_entry *e = find(m, key, hash);
	esp_status st;

	ESP_ASSERT(value != NULL);
	if (e) {
		e->key = key;
		e->value = value;
		return ESP_OK;
	}
	if (m->count >= m->limit)
		return ESP_EBUSY;
	if ((m->filled + 1) * 4 > m->cap * 3 && (st = rehash(m)) != ESP_OK)
		return st;
	insert(m, (struct map_entry){ .hash = hash, .key = key, .value = value });
	m->count++;
	return ESP_OK;
}

void *map_delete(struct map *m, esp_str key)
{
	struct map_entry *e = find(m, key, key_hash(key));
	void *value;

	if (!e)
		return NULL;
	value = e->value;
	e->value = NULL;
	e->key = (esp_str){ NULL, 0 };
	m->count--;
	return value;
}

size_t map_count(const struct map *m)
{
	return m->count;
}

const struct map_entry *map_next(const struct map *m, size_t *iter)
{
	while (*iter < m->cap) {
		const struct map_entry *e = &m->slots[(*iter)++];

		if (e->value)
			return e;
	}
	return NULL;
}
