/* core/module/sha256.h - SHA-256 (FIPS 180-4), to name images and to see that a file changed.
 *
 * Small enough to own; keys and signatures are the crypto service's subject (core/net), not this one's.
 */
#ifndef CORE_MODULE_SHA256_H
#define CORE_MODULE_SHA256_H

#include <stddef.h>
#include <stdint.h>

struct sha256 { uint32_t h[8]; uint64_t len; uint8_t block[64]; };

void sha256_init(struct sha256 *s);
void sha256_add(struct sha256 *s, const void *data, size_t n);
void sha256_end(struct sha256 *s, uint8_t out[32]);

#endif
