/* core/base/hash.c - SipHash-2-4, CRC-32C, hex, random (see hash.h). */
#include "core/base/hash.h"

#include "core/base/assert.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/random.h>

static uint64_t rotl(uint64_t v, int n)
{
	return (v << n) | (v >> (64 - n));
}

static void sip_round(uint64_t v[4])
{
	v[0] += v[1]; v[1] = rotl(v[1], 13); v[1] ^= v[0]; v[0] = rotl(v[0], 32);
	v[2] += v[3]; v[3] = rotl(v[3], 16); v[3] ^= v[2];
	v[0] += v[3]; v[3] = rotl(v[3], 21); v[3] ^= v[0];
	v[2] += v[1]; v[1] = rotl(v[1], 17); v[1] ^= v[2]; v[2] = rotl(v[2], 32);
}

static uint64_t load_le64(const unsigned char *p)
{
	uint64_t v = 0;
	int i;

	for (i = 7; i >= 0; i--)
		v = v << 8 | p[i];
	return v;
}

static void sip_word(uint64_t v[4], uint64_t m)
{
	v[3] ^= m;
	sip_round(v);
	sip_round(v);
	v[0] ^= m;
}

uint64_t siphash(const struct siphash_key *key, const void *bytes, size_t n)
{
	const unsigned char *p = bytes;
	uint64_t v[4] = { key->k0 ^ 0x736f6d6570736575u, key->k1 ^ 0x646f72616e646f6du,
	                  key->k0 ^ 0x6c7967656e657261u, key->k1 ^ 0x7465646279746573u };
	uint64_t last = (uint64_t)n << 56;
	size_t i, whole = n & ~(size_t)7;

	for (i = 0; i < whole; i += 8)
		sip_word(v, load_le64(p + i));
	for (; i < n; i++)
		last |= (uint64_t)p[i] << (8 * (i & 7));
	sip_word(v, last);
	v[2] ^= 0xff;
	for (i = 0; i < 4; i++)
		sip_round(v);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

/* One key per process: whoever knows it could aim for collisions. */
static struct siphash_key process_key;
static pthread_once_t process_key_once = PTHREAD_ONCE_INIT;

static void make_process_key(void)
{
	random_bytes(&process_key, sizeof(process_key));
}

const struct siphash_key *siphash_process_key(void)
{
	pthread_once(&process_key_once, make_process_key);
	return &process_key;
}

uint32_t crc32c(uint32_t crc, const void *bytes, size_t n)
{
	static const uint32_t nibble[16] = { /* reflected polynomial 0x82f63b78 */
		0x00000000, 0x105ec76f, 0x20bd8ede, 0x30e349b1, 0x417b1dbc, 0x5125dad3, 0x61c69362, 0x7198540d,
		0x82f63b78, 0x92a8fc17, 0xa24bb5a6, 0xb21572c9, 0xc38d26c4, 0xd3d3e1ab, 0xe330a81a, 0xf36e6f75 };
	const unsigned char *p = bytes;

	crc = ~crc;
	while (n--) {
		crc ^= *p++;
		crc = crc >> 4 ^ nibble[crc & 15];
		crc = crc >> 4 ^ nibble[crc & 15];
	}
	return ~crc;
}

void hex_encode(char *dst, const void *bytes, size_t n)
{
	static const char digits[] = "0123456789abcdef";
	const unsigned char *p = bytes;
	size_t i;

	for (i = 0; i < n; i++) {
		dst[2 * i] = digits[p[i] >> 4];
		dst[2 * i + 1] = digits[p[i] & 15];
	}
	dst[2 * n] = 0;
}

static int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

esp_status hex_decode(void *dst, size_t n, esp_str text)
{
	unsigned char *out = dst;
	size_t i;

	if (n > SIZE_MAX / 2 || text.len != 2 * n)
		return ESP_EINVAL;
	for (i = 0; i < n; i++) {
		int hi = hex_value(text.ptr[2 * i]), lo = hex_value(text.ptr[2 * i + 1]);

		if (hi < 0 || lo < 0)
			return ESP_EINVAL;
		out[i] = (unsigned char)(hi << 4 | lo);
	}
	return ESP_OK;
}

void random_bytes(void *bytes, size_t n)
{
	unsigned char *p = bytes;

	while (n) {
		ssize_t got = getrandom(p, n, 0);

		if (got < 0) {
			ESP_ASSERT(errno == EINTR);
			continue;
		}
		p += got;
		n -= (size_t)got;
	}
}

uint64_t random_u64(void)
{
	uint64_t v;

	random_bytes(&v, sizeof(v));
	return v;
}

uint64_t random_below(uint64_t below)
{
	uint64_t limit, v;

	ESP_ASSERT(below != 0);
	limit = UINT64_MAX - UINT64_MAX % below; /* reject the uneven end */
	do
		v = random_u64();
	while (v >= limit);
	return v % below;
}
