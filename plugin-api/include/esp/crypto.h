/* esp/crypto.h - "esp.crypto/1": hashes, MACs, random, constant-time comparison; keys later.
 *  The library behind it lives in core/net and nowhere else. [any] throughout; nothing suspends. */
#ifndef ESP_CRYPTO_H
#define ESP_CRYPTO_H

#include <esp/abi.h>

#ifdef __cplusplus
extern "C" {
#endif

/*! \brief What is computed, and a running one. */
enum { ESP_HASH_SHA1 = 1, ESP_HASH_SHA256, ESP_HASH_SHA512, ESP_HASH_MD5 };
typedef struct esp_hash esp_hash;

typedef struct esp_crypto_api {
	uint32_t size;
	/*! Length of the digest in bytes (at most 64), 0 for an unknown algorithm. */
	uint32_t (*digest_len)(uint32_t algorithm);
	ESP_CHECKED esp_status (*digest)(uint32_t algorithm, const void *data, size_t n, uint8_t *out);
	ESP_CHECKED esp_status (*hmac)(uint32_t algorithm, esp_str key, const void *data, size_t n, uint8_t *out);
	/*! Incremental digest; finish() frees it (out may be NULL). */
	esp_hash *(*hash_new)(uint32_t algorithm);
	void (*hash_update)(esp_hash *h, const void *data, size_t n);
	void (*hash_finish)(esp_hash *h, uint8_t *out);
	void (*random)(void *out, size_t n);                      /* never fails */
	int32_t (*equal)(const void *a, const void *b, size_t n); /* constant time; 1 when equal */
	void (*wipe)(void *p, size_t n);
	esp_id (*new_id)(void);                                   /* UUIDv7, ascending per thread */
} esp_crypto_api;

#ifdef __cplusplus
}
#endif
#endif
