/* cache - answers of one loop, until their time is over or room is needed: the longest unused goes first.
 *
 * Names come from strangers, so the table's hash is keyed: nobody can aim at one chain.
 */
#ifndef CLIENT_DNS_CACHE_H
#define CLIENT_DNS_CACHE_H

#include "reply.h"

struct cached;
struct cache {
	uint64_t secret[2];
	struct cached **bucket;
	uint32_t mask, n, most;
	size_t bytes, most_bytes;
	struct cached *newest, *oldest;
};

/*! \brief At most `most` answers (0: none are kept) and `most_bytes` with all that belongs to them.  ESP_ENOMEM. */
ESP_CHECKED esp_status cache_init(struct cache *c, uint32_t most, size_t most_bytes, const uint64_t secret[2]);
void cache_end(struct cache *c);
/*! \brief SipHash-1-3 under `secret`. */
uint64_t key_hash(const uint64_t secret[2], const struct key *k);
/*! \brief Borrowed until the next call; NULL: not known, or not any more. */
struct reply *cache_get(struct cache *c, const struct key *k, esp_nsec now);
/*! \brief Takes a reference of its own, until r->until; in place of the one before. */
void cache_put(struct cache *c, const struct key *k, struct reply *r, esp_nsec now);
void cache_clear(struct cache *c);

#endif
