/* tests/unit/net/test_crypto.c - esp.crypto/1 against published vectors. */
#include <string.h>

#include "core/base/hash.h"
#include "core/base/id.h"
#include "core/net/net.h"
#include "tests/support/test.h"

static void expect_hex(const uint8_t *p, size_t n, const char *want)
{
	char hex[129];

	hex_encode(hex, p, n);
	cr_assert_str_eq(hex, want);
}

Test(crypto, digests)
{
	static const struct { uint32_t alg, len; const char *abc; } cases[] = {
		{ ESP_HASH_MD5, 16, "900150983cd24fb0d6963f7d28e17f72" },
		{ ESP_HASH_SHA1, 20, "a9993e364706816aba3e25717850c26c9cd0d89d" },
		{ ESP_HASH_SHA256, 32, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" },
		{ ESP_HASH_SHA512, 64, "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a"
		                       "2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f" },
	};
	uint8_t out[64];

	for (size_t i = 0; i < 4; i++) {
		esp_hash *h = crypto_api.hash_new(cases[i].alg);

		cr_assert_eq(crypto_api.digest_len(cases[i].alg), cases[i].len);
		cr_assert_eq(crypto_api.digest(cases[i].alg, "abc", 3, out), ESP_OK);
		expect_hex(out, cases[i].len, cases[i].abc);
		crypto_api.hash_update(h, "a", 1);
		crypto_api.hash_update(h, "", 0);
		crypto_api.hash_update(h, "bc", 2);
		memset(out, 0, sizeof(out));
		crypto_api.hash_finish(h, out);
		expect_hex(out, cases[i].len, cases[i].abc);
	}
	crypto_api.hash_finish(crypto_api.hash_new(ESP_HASH_SHA256), NULL);
	cr_assert_eq(crypto_api.digest(ESP_HASH_SHA256, NULL, 0, out), ESP_OK);
	expect_hex(out, 32, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
	cr_assert_eq(crypto_api.digest(99, "abc", 3, out), ESP_EINVAL);
	cr_assert_eq(crypto_api.digest_len(99), 0);
	cr_assert_null(crypto_api.hash_new(99));
}

Test(crypto, authenticates)
{
	uint8_t out[64];        /* RFC 4231, case 2 */

	cr_assert_eq(crypto_api.hmac(ESP_HASH_SHA256, ESP_STR("Jefe"), "what do ya want for nothing?", 28, out), ESP_OK);
	expect_hex(out, 32, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
	cr_assert_eq(crypto_api.hmac(99, ESP_STR("Jefe"), "x", 1, out), ESP_EINVAL);
}

Test(crypto, compares_wipes_and_invents)
{
	uint8_t a[32] = { 0 }, b[32] = { 0 };
	esp_id x, y;

	crypto_api.random(a, sizeof(a));
	cr_assert_not(crypto_api.equal(a, b, sizeof(a)));
	memcpy(b, a, sizeof(b));
	cr_assert(crypto_api.equal(a, b, sizeof(a)));
	cr_assert(crypto_api.equal(NULL, NULL, 0));
	crypto_api.wipe(a, sizeof(a));
	for (size_t i = 0; i < sizeof(a); i++)
		cr_assert_eq(a[i], 0);
	x = crypto_api.new_id();
	y = crypto_api.new_id();
	cr_assert_lt(id_cmp(x, y), 0);
	cr_assert_eq(x.b[6] >> 4, 7);
}
