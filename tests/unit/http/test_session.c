/* protocol_http in the fake host: sessions without a server; tests/scenario/http.py has the wider matrix. */
#include "tests/support/test.h"

#include "plugin-api/template/fakehost/fakehost.h"

#include <esp/http.h>
#include <string.h>

static esp_status on_echo(esp_module *self, esp_http_request *r)
{
	esp_str body = { "", 0 };
	esp_status st = r->length ? r->http->body(r, &body) : ESP_OK;

	(void)self;
	if (st == ESP_OK && body.len == 0)
		body = r->http->param(r, "word");
	return st != ESP_OK ? st : r->http->reply(r, 200, "text/plain", body);
}

static const esp_http_route get = { .size = sizeof get, .access = ESP_HTTP_OPEN, .method = "GET", .path = "/{word}",
	.handle = on_echo };
static const esp_http_route post = { .size = sizeof post, .access = ESP_HTTP_OPEN, .method = "POST", .path = "/{word}",
	.max_body = 10, .handle = on_echo };

static struct fakehost *start(void)
{
	struct fakehost *h = fakehost_new("access_log=false", NULL);

	fakehost_contribute(h, ESP_HTTP_ROUTE, &get);
	fakehost_contribute(h, ESP_HTTP_ROUTE, &post);
	cr_assert_eq(fakehost_start(h), ESP_OK);
	return h;
}

static int answers(const char *said, const char *status, const char *body)
{
	const char *end = strstr(said, "\r\n\r\n");

	return strncmp(said, "HTTP/1.1 ", 9) == 0 && strncmp(said + 9, status, 3) == 0 && end && strcmp(end + 4, body) == 0;
}

Test(http_session, answers_one_request_after_the_other)
{
	struct fakehost *h = start();
	esp_conn *c = fakehost_connect(h, "http");

	cr_assert_str_eq(fakehost_say(c, ""), "", "HTTP servers do not greet");
	cr_assert(answers(fakehost_say(c, "GET /health HTTP/1.1\r\nHost: x\r\n\r\n"), "200", "ok\n"));
	cr_assert(answers(fakehost_say(c, "GET /a%20b HTTP/1.1\r\nHost: x\r\n\r\n"), "200", "a b"));
	cr_assert(
		answers(fakehost_say(c, "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"), "200", "hello"));
	cr_assert(answers(fakehost_say(c, "POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
		"2;x\r\nhe\r\n3\r\nllo\r\n0\r\nT: t\r\n\r\n"), "200", "hello"));
	cr_assert_str_eq(fakehost_say(c, "GET /half HTTP/1.1\r\n"), "");
	cr_assert(answers(fakehost_say(c, "Host: x\r\n\r\n"), "200", "half"));
	cr_assert_eq(fakehost_metric(h, "esp_http_connections"), 1);
	cr_assert_eq(fakehost_hangup(c), 0, "it stays open");
	cr_assert_eq(fakehost_metric(h, "esp_http_connections"), 0);
	fakehost_stop(h);
}

static void ends_with(struct fakehost *h, const char *request, const char *status)
{
	esp_conn *c = fakehost_connect(h, "http");
	const char *said = fakehost_say(c, request);

	cr_assert(strncmp(said + 9, status, 3) == 0, "%s: %s", request, said);
	cr_assert_not_null(strstr(said, "\r\nConnection: close\r\n"));
	cr_assert_eq(fakehost_hangup(c), 1, "it is closed");
}

Test(http_session, ends_where_the_next_request_could_be_anywhere)
{
	struct fakehost *h = start();

	ends_with(h, "nonsense\r\n", "400");
	ends_with(h, "GET / HTTP/1.1\nHost: x\r\n\r\n", "400");
	ends_with(
		h, "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400");
	ends_with(h, "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n", "413");
	ends_with(h, "POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nB\r\n", "413");
	ends_with(h, "POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n", "400");
	ends_with(h, "POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n", "400");
	ends_with(h, "GET /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "200");
	ends_with(h, "GET /a HTTP/1.0\r\n\r\n", "200");
	ends_with(h, "GET /a HTTP/3.0\r\n\r\n", "505");
	fakehost_stop(h);
}

Test(http_session, moves_to_the_next_generation_in_the_middle_of_a_head)
{
	struct fakehost *h = start();
	esp_conn *c = fakehost_connect(h, "http");

	cr_assert_str_eq(fakehost_say(c, "GET /health HTTP/1.1\r\nHo"), "");
	h = fakehost_next(h, "access_log=false", NULL);
	cr_assert(answers(fakehost_say(c, "st: x\r\n\r\n"), "200", "ok\n"));
	cr_assert_eq(fakehost_hangup(c), 0);
	fakehost_stop(h);
}

Test(http_session, refuses_settings_that_do_not_fit)
{
	struct fakehost *h = fakehost_new("admin_token=short", NULL);

	cr_assert_eq(fakehost_start(h), ESP_ECONFIG);
	fakehost_stop(h);
	h = fakehost_new("max_target=4096", "max_head=2048", NULL);
	cr_assert_eq(fakehost_start(h), ESP_ECONFIG);
	fakehost_stop(h);
}
