/* tests/unit/net/test_output.c - the output queue. */
#include "core/net/output.h"

#include <stdlib.h>
#include <string.h>

#include "tests/support/test.h"

Test(output, keeps_the_order_for_any_sizes)
{
	static char want[400000], got[400000];
	struct output out = { 0 };
	size_t in = 0, done = 0;

	srandom(3);
	while (done < sizeof(want)) {
		size_t n = (size_t)random() % (random() % 4 ? 300 : 40000);
		struct iovec iov[5];
		int nv;

		if (n > sizeof(want) - in)
			n = sizeof(want) - in;
		for (size_t i = 0; i < n; i++)
			want[in + i] = (char)random();
		cr_assert_eq(output_append(&out, want + in, n), ESP_OK);
		in += n;
		cr_assert_eq(out.len, in - done);
		nv = output_vectors(&out, iov, 5);
		n = out.len ? (size_t)random() % (out.len + 1) : 0;
		if (in == sizeof(want))
			n = out.len;
		for (int v = 0; v < nv && n; v++) {
			size_t take = n < iov[v].iov_len ? n : iov[v].iov_len;

			memcpy(got + done, iov[v].iov_base, take);
			output_sent(&out, take);
			done += take;
			n -= take;
		}
	}
	cr_assert_eq(memcmp(got, want, sizeof(want)), 0);
	cr_assert_null(out.head);
	cr_assert_eq(out.len, 0);
}

Test(output, takes_nothing_for_an_empty_write)
{
	struct output out = { 0 };

	cr_assert_eq(output_append(&out, "", 0), ESP_OK);
	cr_assert_null(out.head);
	cr_assert_eq(output_append(&out, "x", 1), ESP_OK);
	output_free(&out);
	cr_assert_null(out.head);
}
