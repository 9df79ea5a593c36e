/* cache - logins that were verified lately, so that a client that logs in all day costs one hash an hour.
 *
 * One for all workers and generations (shared.c), of fixed size, keyed by an HMAC under a key of this process over
 * (account, credential version, password).  The version comes from the database with every login: a changed password
 * changes it, so the entry of the old one is never found again, on this node and on any other.  Nothing in it tells a
 * password.  The lock is held for one set.
 */
#include "auth.h"

void cache_init(struct cache *c)
{
	pthread_mutex_init(&c->lock, NULL);
}

void cache_end(struct cache *c) { pthread_mutex_destroy(&c->lock); }

void cache_digest(const esp_crypto_api *crypto, const uint8_t key[32], esp_id account, int64_t version,
	esp_str password, uint8_t out[32])
{
	uint8_t text[16 + 8 + AUTH_PASSWORD_MAX];
	size_t n = password.len > AUTH_PASSWORD_MAX ? AUTH_PASSWORD_MAX : password.len;

	memcpy(text, account.b, 16);   /* fixed lengths in front: no two inputs give the same text */
	memcpy(text + 16, &version, 8);
	memcpy(text + 24, password.ptr ? password.ptr : "", n);
	if (crypto->hmac(ESP_HASH_SHA256, (esp_str){ (const char *)key, 32 }, text, 24 + n, out) != ESP_OK)
		abort();
	crypto->wipe(text, sizeof text);
}

static struct cache_entry *set_of(struct cache *c, const uint8_t digest[32])
{
	uint32_t h;

	memcpy(&h, digest, sizeof h);
	return c->e[h % CACHE_SETS];
}

int cache_has(struct cache *c, const uint8_t digest[32], esp_nsec now)
{
	struct cache_entry *e = set_of(c, digest);
	int found = 0;

	pthread_mutex_lock(&c->lock);
	for (uint32_t i = 0; i < CACHE_WAYS; i++)
		found |= e[i].until > now && memcmp(e[i].digest, digest, 32) == 0;
	pthread_mutex_unlock(&c->lock);
	return found;
}

void cache_put(struct cache *c, const uint8_t digest[32], esp_nsec until)
{
	struct cache_entry *e = set_of(c, digest), *oldest = e;

	pthread_mutex_lock(&c->lock);
	for (uint32_t i = 1; i < CACHE_WAYS; i++)
		if (e[i].until < oldest->until)
			oldest = &e[i];
	memcpy(oldest->digest, digest, 32);
	oldest->until = until;
	pthread_mutex_unlock(&c->lock);
}
