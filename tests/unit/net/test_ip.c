/* tests/unit/net/test_ip.c - addresses in one form. */
#include "core/net/ip.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

#include "tests/support/test.h"

static esp_str str(const char *s) { return (esp_str){ s, strlen(s) }; }

Test(ip, parses_and_formats)
{
	static const struct { const char *in, *out; } cases[] = {
		{ "192.0.2.1", "192.0.2.1" }, { "::ffff:192.0.2.1", "192.0.2.1" }, { "2001:DB8::1", "2001:db8::1" },
		{ "[2001:db8::1]", "2001:db8::1" }, { "::", "::" }, { "0.0.0.0", "0.0.0.0" },
		{ "2001:db8:0:0:0:0:0:1", "2001:db8::1" },
		{ "ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff" },
	};
	char text[IP_TEXT];
	struct ip ip;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		cr_assert_eq(ip_parse(str(cases[i].in), &ip), ESP_OK, "%s", cases[i].in);
		cr_assert_eq(ip_format(&ip, text), strlen(cases[i].out));
		cr_assert_str_eq(text, cases[i].out);
	}
}

Test(ip, refuses_what_is_no_address)
{
	static const char *const bad[] = { "", "1.2.3", "1.2.3.4.5", "256.1.1.1", "[1.2.3.4]", "::1%eth0", "1.2.3.4 ",
		"g::", "[]", "[", "1:2:3:4:5:6:7:8:9", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" };
	struct ip ip;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		cr_assert_eq(ip_parse(str(bad[i]), &ip), ESP_EINVAL, "%s", bad[i]);
	cr_assert_eq(ip_parse((esp_str){ "::1\0", 4 }, &ip), ESP_EINVAL);
}

Test(ip, parses_ports)
{
	struct ip_port p;

	cr_assert_eq(ip_parse_port(str("[::]:25"), &p), ESP_OK);
	cr_assert(p.port == 25 && ip_is_any(&p.ip));
	cr_assert_eq(ip_parse_port(str("0.0.0.0:65535"), &p), ESP_OK);
	cr_assert(p.port == 65535 && ip_is_any(&p.ip) && ip_is_v4(&p.ip));
	cr_assert_eq(ip_parse_port(str("*:1"), &p), ESP_OK);
	cr_assert(ip_is_any(&p.ip) && !ip_is_v4(&p.ip));
	static const char *const bad[] = { "25", ":25", "1.2.3.4", "1.2.3.4:", "1.2.3.4:65536", "1.2.3.4:-1", "1.2.3.4:025",
		"::1:25", "[::1]", "1.2.3.4:2 5" };
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		cr_assert_eq(ip_parse_port(str(bad[i]), &p), ESP_EINVAL, "%s", bad[i]);
}

Test(ip, matches_networks)
{
	static const struct { const char *net, *ip; int in; } cases[] = {
		{ "10.0.0.0/8", "10.255.1.2", 1 }, { "10.0.0.0/8", "11.0.0.0", 0 }, { "10.9.8.7/8", "10.0.0.1", 1 },
		{ "0.0.0.0/0", "1.2.3.4", 1 }, { "0.0.0.0/0", "2001:db8::1", 0 }, { "::/0", "1.2.3.4", 1 },
		{ "192.0.2.129/25", "192.0.2.128", 1 }, { "192.0.2.129/25", "192.0.2.127", 0 },
		{ "2001:db8::/33", "2001:db8:7fff::", 1 }, { "2001:db8::/33", "2001:db8:8000::", 0 },
		{ "2001:db8::1", "2001:db8::1", 1 }, { "2001:db8::1", "2001:db8::2", 0 },
		{ "192.0.2.1", "::ffff:192.0.2.1", 1 },
	};
	struct ip_nets nets = { 0 };
	struct ip_net net;
	struct ip ip;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		cr_assert_eq(ip_net_parse(str(cases[i].net), &net), ESP_OK, "%s", cases[i].net);
		cr_assert_eq(ip_parse(str(cases[i].ip), &ip), ESP_OK);
		cr_assert_eq(ip_net_has(&net, &ip), cases[i].in, "%s in %s", cases[i].ip, cases[i].net);
	}
	cr_assert_eq(ip_net_parse(str("10.0.0.0/33"), &net), ESP_EINVAL);
	cr_assert_eq(ip_net_parse(str("10.0.0.0/"), &net), ESP_EINVAL);
	cr_assert_eq(ip_net_parse(str("::/129"), &net), ESP_EINVAL);
	cr_assert_not(ip_nets_have(&nets, &ip));
	cr_assert_eq(ip_nets_add(&nets, &net), ESP_OK);
	for (int i = 1; i < 1024; i++)
		cr_assert_eq(ip_nets_add(&nets, &net), ESP_OK);
	cr_assert_eq(ip_nets_add(&nets, &net), ESP_E2BIG);
	ip_nets_free(&nets);
}

Test(ip, goes_to_socket_addresses_and_back)
{
	static const char *const texts[] = { "192.0.2.1:25", "[2001:db8::1]:993", "[::]:1" };
	struct sockaddr_storage sa;
	struct ip_port a, b;

	for (size_t i = 0; i < 3; i++) {
		cr_assert_eq(ip_parse_port(str(texts[i]), &a), ESP_OK);
		socklen_t len = ip_to_sockaddr(&a, &sa);
		cr_assert_eq(sa.ss_family, i ? AF_INET6 : AF_INET);
		cr_assert_eq(ip_from_sockaddr((struct sockaddr *)&sa, len, &b), ESP_OK);
		cr_assert(a.port == b.port && ip_eq(&a.ip, &b.ip));
	}
	sa.ss_family = AF_UNIX;
	cr_assert_eq(ip_from_sockaddr((struct sockaddr *)&sa, sizeof(sa), &b), ESP_EINVAL);
}

Test(ip, knows_loopback)
{
	static const struct {
		const char *ip;
		int loop;
	} cases[] = { { "127.0.0.1", 1 }, { "127.255.0.1", 1 }, { "::1", 1 }, { "::ffff:127.0.0.1", 1 }, { "128.0.0.1", 0 },
		{ "::2", 0 }, { "7f00::1", 0 } };
	struct ip ip;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		cr_assert_eq(ip_parse(str(cases[i].ip), &ip), ESP_OK);
		cr_assert_eq(ip_is_loopback(&ip), cases[i].loop, "%s", cases[i].ip);
	}
}
