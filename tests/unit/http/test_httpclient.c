/* modules/client/http: what a URL and header fields must look like, and where nobody may go whom we do not trust. */
#include "tests/support/test.h"

#include "modules/client/http/http.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

static const struct rules strict = { .nports = 2, .port = { 443, 8443 } };

/* --- addresses ------------------------------------------------------------------------------------------------ */

static struct address address(const char *text)
{
	struct address a = { .len = 4 };

	if (inet_pton(AF_INET, text, a.b) != 1) {
		a.len = 16;
		cr_assert_eq(inet_pton(AF_INET6, text, a.b), 1, "%s", text);
	}
	return a;
}

static const char *why(const char *text, const struct rules *rules)
{
	struct address a = address(text);

	return address_forbidden(&a, rules);
}

Test(address, what_is_not_public_is_forbidden)
{
	static const char *const list[] = { "0.0.0.0", "0.255.255.255", "10.0.0.0", "10.255.255.255", "100.64.0.0",
		"100.127.255.255", "127.0.0.1", "127.255.255.255", "169.254.0.0", "169.254.169.254", "169.254.255.255",
		"172.16.0.0", "172.31.255.255", "192.0.0.1", "192.0.2.1", "192.88.99.1", "192.168.0.0", "192.168.255.255",
		"198.18.0.0", "198.19.255.255", "198.51.100.9", "203.0.113.255", "224.0.0.1", "239.255.255.255", "240.0.0.1",
		"255.255.255.255", "::", "::1", "::7f00:1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:10.0.0.1",
		"::ffff:93.184.216.34", "::ffff:0:127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::10.0.0.1", "64:ff9b:1::1",
		"100::1", "2001::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2", "2001:10::1", "2001:1ff:ffff::1", "2001:db8::1",
		"2002:7f00:1::", "2002:a00:1::1", "3fff::1", "3fff:fff::1", "fc00::1", "fd12:3456::1", "fe80::1", "fec0::1",
		"ff02::1", "ff0e::1", "4000::1", "5f00::1", "1fff::1" };

	for (size_t i = 0; i < sizeof list / sizeof list[0]; i++)
		cr_assert_not_null(why(list[i], &strict), "%s passes", list[i]);
}

Test(address, what_is_public_passes)
{
	static const char *const list[] = { "1.1.1.1", "9.255.255.255", "11.0.0.0", "93.184.216.34", "100.63.255.255",
		"100.128.0.0", "126.255.255.255", "128.0.0.1", "169.253.255.255", "169.255.0.1", "172.15.255.255", "172.32.0.1",
		"192.0.1.1", "192.0.3.1", "192.88.98.1", "192.167.255.255", "192.169.0.1", "198.17.255.255", "198.20.0.1",
		"198.51.99.1", "198.51.101.1", "203.0.112.1", "203.0.114.1", "223.255.255.255", "2001:200::1",
		"2001:4860::8888", "2003::1", "2606:2800:220:1::1", "2a00:1450:4001::1", "3ffe::1" };

	for (size_t i = 0; i < sizeof list / sizeof list[0]; i++)
		cr_assert_null(why(list[i], &strict), "%s: %s", list[i], why(list[i], &strict));
}

Test(address, the_administrator_may_allow_networks)
{
	struct rules rules = strict;

	cr_assert(network_parse(&rules.allow[0], ESP_STR("10.1.0.0/15")));
	cr_assert(network_parse(&rules.allow[1], ESP_STR("fd00:1::/64")));
	cr_assert(network_parse(&rules.allow[2], ESP_STR("192.168.1.1")));
	rules.nallow = 3;
	cr_assert_null(why("10.1.255.255", &rules));
	cr_assert_null(why("10.0.0.1", &rules));
	cr_assert_not_null(why("10.2.0.1", &rules));
	cr_assert_null(why("fd00:1::ffff", &rules));
	cr_assert_not_null(why("fd00:1:0:1::1", &rules));
	cr_assert_null(why("192.168.1.1", &rules));
	cr_assert_not_null(why("192.168.1.2", &rules));
	cr_assert_not_null(why("::ffff:10.1.0.1", &rules), "IPv4 within IPv6 is another family");
}

Test(address, what_is_no_network_is_said_to_be_none)
{
	static const char *const list[] = { "", "/", "10", "10.0.0.0/", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/8x",
		"10.0.0.0/+8", "::/129", "example.org", "10.0.0.0 /8", "1.2.3.4.5" };
	struct network n;

	for (size_t i = 0; i < sizeof list / sizeof list[0]; i++)
		cr_assert_not(network_parse(&n, (esp_str){ list[i], strlen(list[i]) }), "%s", list[i]);
	cr_assert_not(network_parse(&n, (esp_str){ "10.0.0.0\0/8", 11 }));
	cr_assert(network_parse(&n, ESP_STR("0.0.0.0/0")));
	cr_assert_eq(n.bits, 0);
}

Test(address, a_host_is_loopback_by_its_digits_and_not_by_how_its_name_begins)
{
	static const char *const here[] = { "localhost", "LOCALHOST", "[::1]", "127.0.0.1", "127.255.255.255" };
	static const char *const elsewhere[] = { "", "127", "127.", "127.1", "127.0.0.1.", "127.0.0.256", "127.0.0.1/8",
		"127.evil.test", "127.0.0.1.evil.test", "127.127.127.127.1", "128.0.0.1", "localhost.", "localhost.test",
		"::1" };

	for (size_t i = 0; i < sizeof here / sizeof here[0]; i++)
		cr_assert(network_host_is_loopback((esp_str){ here[i], strlen(here[i]) }), "%s", here[i]);
	for (size_t i = 0; i < sizeof elsewhere / sizeof elsewhere[0]; i++)
		cr_assert_not(network_host_is_loopback((esp_str){ elsewhere[i], strlen(elsewhere[i]) }), "%s", elsewhere[i]);
	cr_assert_not(network_host_is_loopback((esp_str){ "127.0.0.1\0x", 11 }));
	cr_assert_not(network_host_is_loopback((esp_str){ NULL, 0 }));
}

Test(address, those_of_this_machine_are_known_and_others_are_not)
{
	static const char *const others[] = { "192.0.2.1", "198.51.100.9", "2001:db8::1" };
	struct ifaddrs *all, *i;
	struct address a;
	int n = 0;

	cr_assert_eq(getifaddrs(&all), 0);
	for (i = all; i; i = i->ifa_next) {
		char text[64];
		if (!i->ifa_addr || !(i->ifa_flags & IFF_UP) || !address_of(&a, i->ifa_addr))
			continue;
		if (a.len == 16 && a.b[0] == 0xfe)       /* link-local: an address of a link, not of the machine */
			continue;
		address_print(&a, text, sizeof text);
		cr_assert(address_is_own(&a), "%s", text);
		n++;
	}
	freeifaddrs(all);
	cr_assert_geq(n, 1);
	for (size_t k = 0; k < sizeof others / sizeof others[0]; k++) {
		a = address(others[k]);
		cr_assert_not(address_is_own(&a), "%s", others[k]);
	}
	a = address("::1");
	cr_assert(address_is_own(&a) || access("/proc/net/if_inet6", F_OK) != 0);
}

/* In a network of its own, whose loopback has the public address 1.1.1.1. */
static int with_a_public_address(void)
{
	struct ifreq rq = { .ifr_name = "lo" };
	struct sockaddr_in *in = (struct sockaddr_in *)(void *)&rq.ifr_addr;
	int fd, ok;

	if (unshare(CLONE_NEWNET) && unshare(CLONE_NEWUSER | CLONE_NEWNET))
		return 0;
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	in->sin_family = AF_INET;
	in->sin_addr.s_addr = htonl(0x01010101);
	ok = fd >= 0 && ioctl(fd, SIOCSIFADDR, &rq) == 0;
	rq.ifr_flags = IFF_UP | IFF_RUNNING;
	ok = ok && ioctl(fd, SIOCSIFFLAGS, &rq) == 0;
	close(fd);
	return ok;
}

Test(address, a_public_one_is_forbidden_where_it_is_this_machines_own)
{
	cr_assert_null(why("1.1.1.1", &strict));
	if (!with_a_public_address()) {
		fputs("no right to a network namespace: an own public address is not tested\n", stderr);
		return;
	}
	cr_assert_str_eq(why("1.1.1.1", &strict), "this machine's own");
	cr_assert_null(why("9.9.9.9", &strict));
}

/* What the table says comes first, the question to the kernel last; the administrator's word is above both. */
Test(address, what_the_administrator_allows_may_be_this_machine)
{
	struct rules rules = strict;

	cr_assert_str_eq(why("127.0.0.1", &rules), "loopback");
	cr_assert(network_parse(&rules.allow[0], ESP_STR("127.0.0.0/8")));
	rules.nallow = 1;
	cr_assert_null(why("127.0.0.1", &rules));
}

/* --- URLs ------------------------------------------------------------------------------------------------------- */

static esp_status parse(const char *text, const struct rules *rules, struct url *u)
{
	esp_err err = ESP_ERR_INIT;
	esp_status st = url_parse(u, (esp_str){ text, strlen(text) }, rules, &err);

	cr_assert(st == ESP_OK || (err.text[0] && !u->u), "%s: no reason", text);
	return st;
}

static void is_refused(const char *text, const struct rules *rules, esp_status want)
{
	struct url u;
	esp_status st = parse(text, rules, &u);

	cr_assert_eq(st, want, "%s: %d", text, st);
}

Test(url, its_parts_have_one_spelling)
{
	static const struct { const char *text, *url, *host; uint16_t port; int https; uint32_t literal; } list[] = {
		{ "http://example.org", "http://example.org/", "example.org", 80, 0, 0 },
		{ "HTTPS://Example.ORG:8443/a?b#c", "https://example.org:8443/a?b", "example.org", 8443, 1, 0 },
		{ "https://example.org./", "https://example.org/", "example.org", 443, 1, 0 },
		{ "http://127.0.0.1:11333/checkv2", "http://127.0.0.1:11333/checkv2", "127.0.0.1", 11333, 0, 4 },
		{ "http://[::1]:80/", "http://[::1]:80/", "::1", 80, 0, 6 },
		{ "http://my_host/", "http://my_host/", "my_host", 80, 0, 0 },
		{ "https://xn--bcher-kva.example/x", "https://xn--bcher-kva.example/x", "xn--bcher-kva.example", 443, 1, 0 },
	};
	struct url u;

	for (size_t i = 0; i < sizeof list / sizeof list[0]; i++) {
		cr_assert_eq(parse(list[i].text, NULL, &u), ESP_OK, "%s", list[i].text);
		cr_assert_str_eq(u.text, list[i].url);
		cr_assert_str_eq(u.host, list[i].host);
		cr_assert_eq(u.port, list[i].port);
		cr_assert_eq(u.https, list[i].https);
		cr_assert_eq(u.literal, list[i].literal, "%s", list[i].text);
		url_free(&u);
	}
}

Test(url, what_could_be_read_in_two_ways_is_none)
{
	static const char *const list[] = { "", "http://", "http:///x", "https:////x", "http:/x", "example.org",
		"//example.org/", "ftp://example.org/", "file:///etc/passwd", "gopher://example.org/", "dict://example.org/",
		"javascript:1", "http://user@example.org/", "http://user:pw@example.org/", "http://a@b@example.org/",
		"http://:@example.org/", "http://example.org\\@evil/", "http://exa mple.org/", "http://example.org/a b",
		"http://example.org/\r\nX: y", "http://example.org/\t", "http://ex\xc3\xa4mple.org/", "http://example.org:0/",
		"http://example.org:65536/", "http://example.org:99999999999/", "http://example.org:x/",
		"http://example.org:-1/", "http://[fe80::1%25eth0]/", "http://[::1/", "http://[zz]/", "http://[1.2.3.4]/",
		"http://exa%2fmple.org/", "http://exam%00ple.org/", "http://.example.org/", "http://example..org/",
		"http://-a.example.org/", "http://a-.example.org/", "http://exam*ple.org/", "http://a,b/", "http://a;b/",
		"http://a$b/", "http://'a'/", "http://(a)/", " http://a/",
		"http://66./", "http://a.0x7f/", "http://0x7f.1./", "http://1.2.3.4.5/", "http://a.1/",
		"http://0123456789012345678901234567890123456789012345678901234567890123.org/" };

	for (size_t i = 0; i < sizeof list / sizeof list[0]; i++)
		is_refused(list[i], NULL, ESP_EINVAL);
}

Test(url, its_length_is_bounded)
{
	static char text[ESP_HTTPC_URL + 2];
	struct url u;

	memset(text, 'a', sizeof text - 1);
	memcpy(text, "https://example.org/", 20);
	is_refused(text, NULL, ESP_EINVAL);
	text[UNTRUSTED_URL + 1] = '\0';
	is_refused(text, &strict, ESP_EINVAL);
	cr_assert_eq(parse(text, NULL, &u), ESP_OK);
	url_free(&u);
	text[UNTRUSTED_URL] = '\0';
	cr_assert_eq(parse(text, &strict, &u), ESP_OK);
	url_free(&u);
}

Test(url, whom_we_do_not_trust_names_a_public_host_by_https_on_a_known_port)
{
	static const char *const refused[] = { "http://example.org/", "https://example.org:22/", "https://example.org:80/",
		"https://localhost/", "https://intranet/", "https://127.0.0.1/", "https://127.1/", "https://2130706433/",
		"https://0x7f000001/", "https://0x7f.1/", "https://0177.0.0.1/", "https://017700000001/", "https://[::1]/",
		"https://[::ffff:127.0.0.1]/", "https://1.1.1.1/", "https://example.1/", "https://example.0x7f/",
		"https://127.0.0.1./", "https://%31%32%37.0.0.1/", "https://1.2.3.4.5/", "https://0/" };
	static const char *const taken[] = { "https://example.org/", "https://example.org:8443/hook?id=1",
		"https://a.b.c.example.co.uk/", "https://127.0.0.1.nip.io/" };   /* its address is looked at later */
	struct url u;

	for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
		esp_status st = parse(refused[i], &strict, &u);
		cr_assert(st == ESP_EACCES || st == ESP_EINVAL, "%s: %d", refused[i], st);
	}
	for (size_t i = 0; i < sizeof taken / sizeof taken[0]; i++) {
		cr_assert_eq(parse(taken[i], &strict, &u), ESP_OK, "%s", taken[i]);
		url_free(&u);
	}
}

static esp_status follow(const char *from, const char *location, const struct rules *rules, const char *want)
{
	struct url a, b;
	esp_err err = ESP_ERR_INIT;
	esp_status st;

	cr_assert_eq(parse(from, rules, &a), ESP_OK, "%s", from);
	st = url_follow(&b, &a, (esp_str){ location, strlen(location) }, rules, &err);
	cr_assert(st != ESP_OK || strcmp(b.text, want) == 0, "%s", b.text);
	cr_assert(st == ESP_OK || (err.text[0] && !b.u));
	url_free(&a);
	url_free(&b);
	return st;
}

Test(url, a_redirect_is_held_to_the_same_rules)
{
	const char *from = "https://example.org/a/b?c";

	cr_assert_eq(follow(from, "d", &strict, "https://example.org/a/d"), ESP_OK);
	cr_assert_eq(follow(from, "/d#e", &strict, "https://example.org/d"), ESP_OK);
	cr_assert_eq(follow(from, "//example.com/", &strict, "https://example.com/"), ESP_OK);
	cr_assert_eq(follow(from, "?q", &strict, "https://example.org/a/b?q"), ESP_OK);
	cr_assert_eq(follow(from, "https://example.com:8443/x", &strict, "https://example.com:8443/x"), ESP_OK);
	cr_assert_eq(follow(from, "https://localhost/", &strict, ""), ESP_EACCES);
	cr_assert_eq(follow(from, "https://169.254.169.254/latest", &strict, ""), ESP_EACCES);
	cr_assert_eq(follow(from, "https://example.org:22/", &strict, ""), ESP_EACCES);
	cr_assert_eq(follow(from, "http://example.org/", &strict, ""), ESP_EACCES);
	cr_assert_eq(follow(from, "http://example.org/", NULL, ""), ESP_EACCES, "never from https to http");
	cr_assert_eq(follow(from, "file:///etc/passwd", NULL, ""), ESP_EPROTO);
	cr_assert_eq(follow(from, "https://u:p@example.org/", NULL, ""), ESP_EPROTO);
	cr_assert_eq(follow(from, "", NULL, ""), ESP_EPROTO);
	cr_assert_eq(follow(from, "/a b", NULL, "https://example.org/a%20b"), ESP_OK, "as browsers do");
	cr_assert_eq(follow(from, "https://example.com/a b", NULL, ""), ESP_EPROTO);
	cr_assert_eq(follow(from, "/\r\nX: y", NULL, ""), ESP_EPROTO);
	cr_assert_eq(follow("http://127.0.0.1:1/x", "https://127.0.0.1:2/y", NULL, "https://127.0.0.1:2/y"), ESP_OK);
}

Test(url, servers_are_the_same_by_scheme_host_and_port)
{
	static const struct { const char *a, *b; int same; } list[] = {
		{ "https://a.test/x", "https://A.test:443/y", 1 }, { "https://a.test/", "https://a.test:8443/", 0 },
		{ "https://a.test/", "https://b.test/", 0 }, { "http://a.test:443/", "https://a.test/", 0 },
	};
	struct url a, b;

	for (size_t i = 0; i < sizeof list / sizeof list[0]; i++) {
		cr_assert_eq(parse(list[i].a, NULL, &a), ESP_OK);
		cr_assert_eq(parse(list[i].b, NULL, &b), ESP_OK);
		cr_assert_eq(url_same_server(&a, &b), list[i].same, "%s %s", list[i].a, list[i].b);
		url_free(&a);
		url_free(&b);
	}
}

/* --- header fields
 * -------------------------------------------------------------------------------------------------- */

/* Lines end in \n here; what is wrong with the first that is. */
static const char *take(const char *lines, struct framing *f)
{
	const char *why = NULL;

	memset(f, 0, sizeof *f);
	for (const char *end; !why && (end = strchr(lines, '\n')) != NULL; lines = end + 1)
		why = fields_take(f, lines, (size_t)(end - lines) + 1);
	return why;
}

Test(fields, an_answer_says_its_length_in_one_way)
{
	static const char *const wrong[] = { "Content-Length: 5\r\nContent-Length: 6\r\n", "Content-Length: 5x\r\n",
		"Content-Length: -5\r\n", "Content-Length: +5\r\n", "Content-Length: 5, 5\r\n", "Content-Length:\r\n 5\r\n",
		"Content-Length: 9999999999999999999\r\n", "content-length: 0x5\r\n",
		"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
		"Transfer-Encoding: gzip, chunked\r\n", "Transfer-Encoding: xchunked\r\n",
		"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "Content-Length : 5\r\n", "no colon here\r\n",
		": x\r\n", "HTTP/1.1 101 Switching Protocols\r\n", "X Y: z\r\n", "X: a\rb\r\n" };
	static const char *const right[] = { "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Y: z\r\n\r\n",
		"Content-Length: 5\r\ncontent-length:5 \r\n\r\n",
		"Transfer-Encoding: Chunked\r\n\r\n", "X: a\n b\n\n",
		"HTTP/1.1 100 Continue\r\nContent-Length: 1\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n",
		"Transfer-Encoding: chunked\r\n\r\nX-Trailer: 1\r\nContent-Length: 7\r\n\r\n" };
	struct framing f;

	for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
		cr_assert_not_null(take(wrong[i], &f), "%s", wrong[i]);
	for (size_t i = 0; i < sizeof right / sizeof right[0]; i++) {
		cr_assert_null(take(right[i], &f), "%s: %s", right[i], take(right[i], &f));
		cr_assert(f.whole, "%s", right[i]);
	}
	cr_assert_not_null(fields_take(&f, "X: a\0b\r\n", 9));
	cr_assert_null(take("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n", &f));
	cr_assert_not(f.whole, "the blank line is missing");
}

Test(fields, what_belongs_to_the_framing_or_would_break_it_is_not_sent)
{
	static const struct { const char *name, *value; esp_status want; } list[] = {
		{ "X-A", "b", ESP_OK }, { "Authorization", "Bearer x.y-z", ESP_OK }, { "X-A", "", ESP_OK },
		{ "X-A", "\xc3\xa4\tb", ESP_OK }, { "Host", "x", ESP_EINVAL }, { "hOST", "x", ESP_EINVAL },
		{ "Content-Length", "1", ESP_EINVAL }, { "Transfer-Encoding", "chunked", ESP_EINVAL },
		{ "Expect", "", ESP_EINVAL },
		{ "Connection", "close", ESP_EINVAL }, { "X-A", "b\r\nX-B: c", ESP_EINVAL }, { "X-A", "b\nc", ESP_EINVAL },
		{ "X-A", "b\rc", ESP_EINVAL }, { "", "x", ESP_EINVAL }, { "X A", "x", ESP_EINVAL }, { "X:A", "x", ESP_EINVAL },
		{ "X\r\nB", "x", ESP_EINVAL },
	};
	static const char *const methods[] = { "GE T", "GET\r\n", "G\xc3", "CONNECT", "G/T" };
	esp_err err = ESP_ERR_INIT;

	for (size_t i = 0; i < sizeof list / sizeof list[0]; i++) {
		esp_httpc_header h = { { list[i].name, strlen(list[i].name) }, { list[i].value, strlen(list[i].value) } };
		esp_httpc_request rq = { .size = sizeof rq, .header = &h, .nheaders = 1, .header_size = sizeof h };
		cr_assert_eq(fields_check(&rq, &err), list[i].want, "%s: %s", list[i].name, list[i].value);
	}
	for (size_t i = 0; i < sizeof methods / sizeof methods[0]; i++) {
		esp_httpc_request rq = { .size = sizeof rq, .method = { methods[i], strlen(methods[i]) } };
		cr_assert_eq(fields_check(&rq, &err), ESP_EINVAL, "%s", methods[i]);
	}
	cr_assert_eq(fields_check(&(esp_httpc_request){ .header_size = 8, .nheaders = 1 }, &err), ESP_EINVAL, "no stride");
	cr_assert(fields_harmless(ESP_STR("content-type")) && !fields_harmless(ESP_STR("X-Api-Key")));
}
