/* modules/client/http/hop.c: what curl is not let do, should it want what nobody told it. */
#include "tests/support/test.h"

#include "modules/client/http/hop.c"

#include <arpa/inet.h>
#include <fcntl.h>

static int connections;

static void count(esp_metric m, int64_t n)
{
	(void)m;
	connections += (int)n;
}

static const esp_metric_api metric = { .size = sizeof metric, .add = count };

/* A hop to `known`, to a URL that somebody chose whom we do not trust, or that stands in esp.conf. */
struct case_ { struct http http; struct url url; esp_httpc_request rq; struct hop hop; };

static struct hop *prepare(struct case_ *c, const char *known, uint32_t flags)
{
	memset(c, 0, sizeof *c);
	c->http.metric = &metric;
	c->rq.flags = flags;
	c->hop = (struct hop){ .http = &c->http, .rq = &c->rq, .url = &c->url, .naddresses = 1, .address[0].len = 4 };
	cr_assert_eq(inet_pton(AF_INET, known, c->hop.address[0].b), 1);
	return &c->hop;
}

static curl_socket_t open_at(struct hop *hop, const char *text, curlsocktype purpose)
{
	struct curl_sockaddr to = { .family = AF_INET, .socktype = SOCK_STREAM, .addrlen = sizeof(struct sockaddr_in) };
	struct sockaddr_in *in = (struct sockaddr_in *)(void *)&to.addr;

	in->sin_family = AF_INET;
	cr_assert_eq(inet_pton(AF_INET, text, &in->sin_addr), 1);
	return on_open(hop, purpose, &to);
}

Test(hop, connects_where_it_was_sent_and_nowhere_else)
{
	struct case_ c;
	struct hop *hop = prepare(&c, "127.0.0.1", 0);
	int fd;

	cr_assert_eq(open_at(hop, "127.0.0.2", CURLSOCKTYPE_IPCXN), CURL_SOCKET_BAD);
	cr_assert(hop->foreign && !hop->opened && !hop->refused && connections == 0);
	hop = prepare(&c, "127.0.0.1", 0);
	cr_assert_eq(open_at(hop, "127.0.0.1", CURLSOCKTYPE_ACCEPT), CURL_SOCKET_BAD);
	fd = open_at(hop, "127.0.0.1", CURLSOCKTYPE_IPCXN);
	cr_assert_geq(fd, 0);
	cr_assert(!hop->foreign && hop->opened && connections == 1);
	cr_assert(fcntl(fd, F_GETFL) & O_NONBLOCK && fcntl(fd, F_GETFD) & FD_CLOEXEC);
	close(fd);
}

/* Although it got past the first look, at what esp.dns/1 said. */
Test(hop, looks_again_at_an_address_that_somebody_else_chose)
{
	struct case_ c;
	struct hop *hop = prepare(&c, "127.0.0.1", ESP_HTTPC_UNTRUSTED);
	int fd;

	cr_assert_eq(open_at(hop, "127.0.0.1", CURLSOCKTYPE_IPCXN), CURL_SOCKET_BAD);
	cr_assert(hop->refused && !hop->opened && connections == 0);
	hop = prepare(&c, "127.0.0.1", ESP_HTTPC_UNTRUSTED);
	cr_assert(network_parse(&c.http.rules.allow[0], ESP_STR("127.0.0.0/8")));
	c.http.rules.nallow = 1;
	fd = open_at(hop, "127.0.0.1", CURLSOCKTYPE_IPCXN);
	cr_assert_geq(fd, 0);
	close(fd);
}

Test(hop, lets_curl_resolve_no_name)
{
	struct case_ c;
	struct hop *hop = prepare(&c, "127.0.0.1", 0);

	cr_assert_neq(on_resolve(NULL, NULL, hop), 0);
	cr_assert(hop->foreign);
	hop = prepare(&c, "127.0.0.1", 0);
	c.url.literal = 4;
	cr_assert_eq(on_resolve(NULL, NULL, hop), 0);
	cr_assert_not(hop->foreign);
}
