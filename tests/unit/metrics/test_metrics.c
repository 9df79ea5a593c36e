/* observe_metrics in the fake host of module authors: the route it contributes, and what its settings say. */
#include "tests/support/test.h"

#include "plugin-api/template/fakehost/fakehost.h"

#include <string.h>

Test(metrics, are_the_text_of_the_registry)
{
	struct fakehost *h = fakehost_new(NULL);
	const char *body;

	cr_assert_eq(fakehost_start(h), ESP_OK);
	cr_assert_eq(fakehost_request(h, "GET /metrics HTTP/1.1\r\n\r\n", &body), 200u);
	cr_assert_eq(fakehost_request(h, "GET /other HTTP/1.1\r\n\r\n", &body), 404u);
	cr_assert_eq(fakehost_request(h, "POST /metrics HTTP/1.1\r\n\r\n", &body), 404u);
	fakehost_stop(h);
}

Test(metrics, are_where_the_administrator_wants_them)
{
	struct fakehost *h = fakehost_new("path=/internal/esp", "access=open", NULL);

	cr_assert_eq(fakehost_start(h), ESP_OK);
	cr_assert_eq(fakehost_request(h, "GET /internal/esp HTTP/1.1\r\n\r\n", NULL), 200u);
	cr_assert_eq(fakehost_request(h, "GET /metrics HTTP/1.1\r\n\r\n", NULL), 404u);
	h = fakehost_next(h, "path=/metrics", NULL);
	cr_assert_eq(fakehost_request(h, "GET /metrics HTTP/1.1\r\n\r\n", NULL), 200u);
	fakehost_stop(h);
}

Test(metrics, refuse_a_path_that_no_request_has)
{
	for (const char *const *bad = (const char *const[]){ "path=metrics", "path=/{a}", "path=/a?b", "path=/a b", NULL };
		*bad; bad++) {
		struct fakehost *h = fakehost_new(*bad, NULL);

		cr_assert_eq(fakehost_start(h), ESP_ECONFIG, "%s", *bad);
		cr_assert_not_null(strstr(fakehost_err(h)->text, "path is that of a request"));
		fakehost_stop(h);
	}
}
