/* tests/unit/base/test_buffer.c */
#include "core/base/buffer.h"
#include "core/base/str.h"
#include "tests/support/test.h"

#include <string.h>

Test(buffer, grows_to_its_limit_and_appends_all_or_nothing)
{
	struct buffer b;
	char block[100];
	int i;

	memset(block, 'x', sizeof(block));
	buffer_init(&b, 1000);
	for (i = 0; i < 10; i++)
		cr_assert_eq(buffer_append(&b, block, 100), ESP_OK);
	cr_assert_eq(buffer_append(&b, "y", 1), ESP_E2BIG);
	cr_assert_eq(b.len, 1000);
	buffer_consume(&b, 1);
	cr_assert_eq(buffer_append(&b, "yz", 2), ESP_E2BIG);
	cr_assert_eq(buffer_append(&b, "y", 1), ESP_OK);
	cr_assert_eq(buffer_str(&b).ptr[999], 'y');
	buffer_free(&b);
}

Test(buffer, any_mix_of_appends_and_consumes_keeps_the_bytes_in_order)
{
	struct buffer b;
	unsigned seed = 1, put = 0, got = 0;
	int i;

	buffer_init(&b, 0);
	for (i = 0; i < 20000; i++) {
		unsigned n = (seed = seed * 1103515245u + 12345u) >> 16 & 63;

		for (; n && i % 3; n--, put++)
			cr_assert_eq(buffer_append(&b, &(unsigned char){ (unsigned char)put }, 1), ESP_OK);
		for (; n && b.len; n--, got++) {
			cr_assert_eq((unsigned char)buffer_str(&b).ptr[0], (unsigned char)got);
			buffer_consume(&b, 1);
		}
	}
	cr_assert_eq(b.len, put - got);
	buffer_free(&b);
}

Test(buffer, formats_short_and_long_texts)
{
	struct buffer b;

	buffer_init(&b, 2000);
	cr_assert_eq(buffer_printf(&b, "%s-%d", "a", 1), ESP_OK);
	cr_assert_eq(buffer_printf(&b, "%01500d", 1), ESP_OK);
	cr_assert_eq(b.len, 1503);
	cr_assert_eq(buffer_printf(&b, "%01500d", 1), ESP_E2BIG);
	cr_assert_eq(buffer_printf(&b, "%05000d", 1), ESP_E2BIG);
	cr_assert_eq(b.len, 1503);
	buffer_free(&b);
}

static int done;
static void on_done(void *arg) { done += *(int *)arg; }

Test(outq, hands_out_what_went_in_at_every_step_of_consumption)
{
	static char expected[20000], got[20000];
	size_t step, i, len;

	for (step = 1; step < 3000; step += 97) {
		struct outq q;
		struct iovec iov[4];
		size_t in = 0, out = 0;
		int ten = 10;

		done = 0;
		outq_init(&q, sizeof(expected));
		for (i = 0; in + 700 < sizeof(expected); i++) {
			size_t n = 1 + i * 37 % 600;

			memset(expected + in, 'a' + (int)(i % 26), n);
			cr_assert_eq(i % 5 == 4 ? outq_append_borrowed(&q, expected + in, n, on_done, &ten)
			                        : outq_append(&q, expected + in, n), ESP_OK);
			in += n;
		}
		cr_assert_eq(outq_len(&q), in);
		while (outq_len(&q)) {
			size_t n = outq_len(&q) < step ? outq_len(&q) : step, left = n;
			int k, nv = outq_iov(&q, iov, 4);

			cr_assert_eq(outq_front(&q, &len), iov[0].iov_base);
			cr_assert_eq(len, iov[0].iov_len);
			for (k = 0; k < nv && left; k++) {
				size_t take = iov[k].iov_len < left ? iov[k].iov_len : left;

				memcpy(got + out, iov[k].iov_base, take);
				out += take;
				left -= take;
			}
			outq_consume(&q, n - left);
		}
		cr_assert_eq(out, in);
		cr_assert_eq(memcmp(got, expected, in), 0);
		cr_assert_eq(done, (int)(i / 5) * 10);
		outq_free(&q);
	}
}

Test(outq, refuses_beyond_its_limit_and_frees_what_it_borrowed)
{
	struct outq q;
	int one = 1;

	outq_init(&q, 10);
	cr_assert_eq(outq_append(&q, "12345678", 8), ESP_OK);
	cr_assert_eq(outq_append(&q, "123", 3), ESP_E2BIG);
	cr_assert_eq(outq_append_borrowed(&q, "123", 3, on_done, &one), ESP_E2BIG);
	cr_assert_eq(done, 0);
	cr_assert_eq(outq_append_borrowed(&q, "12", 2, on_done, &one), ESP_OK);
	outq_free(&q);
	cr_assert_eq(done, 1);
	cr_assert_eq(outq_len(&q), 0);
}
