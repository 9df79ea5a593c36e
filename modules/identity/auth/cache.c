/* cache - logins that were verified lately, so that a client that logs in all day costs one hash an hour.
 *
 * Per worker, fixed size, keyed by an HMAC under a key of this process over (account, credential version, password):
 * a changed password changes the version, so its entry is never found again.  Nothing in it tells a password.
 */
#include "auth.h"

#include <stdlib.h>

#define SETS 4096u
#define WAYS 4u

struct entry { uint8_t digest[32]; esp_nsec until; };
struct cache { struct entry e[SETS][WAYS]; };

struct cache *cache_new(void) { return calloc(1, sizeof(struct cache)); }
void cache_free(struct cache *c) { free(c); }

void cache_digest(const struct auth *a, esp_id account, int64_t version, esp_str password, uint8_t out[32])
{
	uint8_t text[16 + 8 + AUTH_PASSWORD_MAX];
	size_t n = password.len > AUTH_PASSWORD_MAX ? AUTH_PASSWORD_MAX : password.len;

	memcpy(text, account.b, 16);   /* fixed lengths in front: no two inputs give the same text */
	memcpy(text + 16, &version, 8);
	memcpy(text + 24, password.ptr ? password.ptr : "", n);
	if (a->crypto->hmac(ESP_HASH_SHA256, (esp_str){ (const char *)a->key, sizeof a->key }, text, 24 + n, out) != ESP_OK)
		abort();
	a->crypto->wipe(text, sizeof text);
}

static struct entry *set_of(struct cache *c, const uint8_t digest[32])
{
	uint32_t h;

	memcpy(&h, digest, sizeof h);
	return c->e[h % SETS];
}

int cache_has(struct cache *c, const uint8_t digest[32], esp_nsec now)
{
	struct entry *e = set_of(c, digest);

	for (uint32_t i = 0; i < WAYS; i++)
		if (e[i].until > now && memcmp(e[i].digest, digest, 32) == 0)
			return 1;
	return 0;
}

void cache_put(struct cache *c, const uint8_t digest[32], esp_nsec until)
{
	struct entry *e = set_of(c, digest), *oldest = e;

	for (uint32_t i = 1; i < WAYS; i++)
		if (e[i].until < oldest->until)
			oldest = &e[i];
	memcpy(oldest->digest, digest, 32);
	oldest->until = until;
}
