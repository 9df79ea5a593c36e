/* core/net/crypto.c - esp.crypto/1 over GnuTLS.  [any] thread, no state of its own.
 *
 * A hash or random source that fails is a broken library or a broken machine: for those functions that cannot
 * report it the process ends, rather than going on with predictable bytes.
 */
#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <stdlib.h>

#include "core/base/assert.h"
#include "core/base/id.h"
#include "core/net/net.h"

enum { HASH_MAGIC = 0x48415348 };

struct esp_hash {
	uint32_t magic, algorithm;
	gnutls_hash_hd_t h;
};

static gnutls_digest_algorithm_t digest_of(uint32_t algorithm)
{
	switch (algorithm) {
	case ESP_HASH_SHA1: return GNUTLS_DIG_SHA1;
	case ESP_HASH_SHA256: return GNUTLS_DIG_SHA256;
	case ESP_HASH_SHA512: return GNUTLS_DIG_SHA512;
	case ESP_HASH_MD5: return GNUTLS_DIG_MD5;
	default: return GNUTLS_DIG_UNKNOWN;
	}
}

static gnutls_mac_algorithm_t mac_of(uint32_t algorithm)
{
	switch (algorithm) {
	case ESP_HASH_SHA1: return GNUTLS_MAC_SHA1;
	case ESP_HASH_SHA256: return GNUTLS_MAC_SHA256;
	case ESP_HASH_SHA512: return GNUTLS_MAC_SHA512;
	case ESP_HASH_MD5: return GNUTLS_MAC_MD5;
	default: return GNUTLS_MAC_UNKNOWN;
	}
}

static uint32_t digest_len(uint32_t algorithm)
{
	gnutls_digest_algorithm_t d = digest_of(algorithm);

	return d == GNUTLS_DIG_UNKNOWN ? 0 : gnutls_hash_get_len(d);
}

static esp_status digest(uint32_t algorithm, const void *data, size_t n, uint8_t *out)
{
	gnutls_digest_algorithm_t d = digest_of(algorithm);

	if (d == GNUTLS_DIG_UNKNOWN)
		return ESP_EINVAL;
	return gnutls_hash_fast(d, n ? data : "", n, out) < 0 ? ESP_EUNAVAIL : ESP_OK;
}

static esp_status hmac(uint32_t algorithm, esp_str key, const void *data, size_t n, uint8_t *out)
{
	gnutls_mac_algorithm_t m = mac_of(algorithm);

	if (m == GNUTLS_MAC_UNKNOWN)
		return ESP_EINVAL;
	return gnutls_hmac_fast(m, key.len ? key.ptr : "", key.len, n ? data : "", n, out) < 0 ? ESP_EUNAVAIL : ESP_OK;
}

static esp_hash *hash_new(uint32_t algorithm)
{
	gnutls_digest_algorithm_t d = digest_of(algorithm);
	esp_hash *h;

	if (d == GNUTLS_DIG_UNKNOWN)
		return NULL;
	h = malloc(sizeof(*h));
	if (!h)
		return NULL;
	*h = (esp_hash){ .magic = HASH_MAGIC, .algorithm = algorithm };
	if (gnutls_hash_init(&h->h, d) < 0) {
		free(h);
		return NULL;
	}
	return h;
}

static void hash_update(esp_hash *h, const void *data, size_t n)
{
	MAGIC_CHECK(h, HASH_MAGIC);
	if (n && gnutls_hash(h->h, data, n) < 0)
		ESP_PANIC("hash of algorithm %u failed", h->algorithm);
}

static void hash_finish(esp_hash *h, uint8_t *out)
{
	MAGIC_CHECK(h, HASH_MAGIC);
	MAGIC_CLEAR(h);
	gnutls_hash_deinit(h->h, out);
	free(h);
}

static void random_fill(void *out, size_t n)
{
	if (n && gnutls_rnd(GNUTLS_RND_RANDOM, out, n) < 0)
		ESP_PANIC("no random bytes");
}

static int32_t equal(const void *a, const void *b, size_t n)
{
	return n == 0 || gnutls_memcmp(a, b, n) == 0;
}

static void wipe(void *p, size_t n)
{
	if (n)
		gnutls_memset(p, 0, n);
}

const esp_crypto_api crypto_api = {
	.size = sizeof(crypto_api),
	.digest_len = digest_len,
	.digest = digest,
	.hmac = hmac,
	.hash_new = hash_new,
	.hash_update = hash_update,
	.hash_finish = hash_finish,
	.random = random_fill,
	.equal = equal,
	.wipe = wipe,
	.new_id = id_new,
};
