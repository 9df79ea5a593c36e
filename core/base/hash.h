/* core/base/hash.h - SipHash-2-4 (keyed: tables fed by peers), CRC-32C (damage, not attackers), hex. */
#ifndef CORE_BASE_HASH_H
#define CORE_BASE_HASH_H

#include <esp/abi.h>

struct siphash_key { uint64_t k0, k1; };

uint64_t siphash(const struct siphash_key *key, const void *p, size_t n);
/*! \brief This process's random key, made at the first use.  [any] */
const struct siphash_key *siphash_process_key(void);
/*! \brief CRC-32C (Castagnoli, RFC 3720 B.4); start with crc 0, feed the result to continue. */
uint32_t crc32c(uint32_t crc, const void *p, size_t n);

/*! \brief 2n lower-case digits and a NUL into dst. */
void hex_encode(char *dst, const void *p, size_t n);
/*! \brief Exactly n bytes from 2n digits (either case).  ESP_EINVAL otherwise. */
ESP_CHECKED esp_status hex_decode(void *dst, size_t n, esp_str text);

/*! \brief n random bytes from the kernel.  Never fails: a kernel without getrandom aborts the process. */
void random_bytes(void *p, size_t n);
uint64_t random_u64(void);
/*! \brief Uniform in 0 .. below-1; below must not be 0. */
uint64_t random_below(uint64_t below);

#endif
