/* core/base/map.h - hash map from bytes to a pointer: open addressing, keyed hash, a bound on its size.
 *
 * The map borrows its keys: they usually live inside the value.  One thread at a time.  Iteration order is
 * undefined; do not put or delete while iterating, except deleting the entry just returned.
 */
#ifndef CORE_BASE_MAP_H
#define CORE_BASE_MAP_H

#include <esp/abi.h>

struct map_entry { uint64_t hash; esp_str key; void *value; };
struct map { struct map_entry *slots; size_t cap, count, filled, limit; };

/*! \brief limit: most entries, 0 for 1 Mi.  Allocates nothing yet. */
void map_init(struct map *m, size_t limit);
void map_free(struct map *m);
void *map_get(const struct map *m, esp_str key);
/*! \brief Add or replace (the key pointer as well).  value must not be NULL.
 *  ESP_EBUSY at the limit, ESP_ENOMEM. */
ESP_CHECKED esp_status map_put(struct map *m, esp_str key, void *value);
/*! \brief Take out; returns the value or NULL. */
void *map_delete(struct map *m, esp_str key);
size_t map_count(const struct map *m);
/*! \brief Next entry: start with *iter = 0; NULL at the end. */
const struct map_entry *map_next(const struct map *m, size_t *iter);

#endif
