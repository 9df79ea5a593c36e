/* tests/unit/net/test_proxy.c - PROXY headers, versions 1 and 2, whole and in pieces. */
#include "core/net/proxy.h"

#include <stdlib.h>
#include <string.h>

#include "tests/support/test.h"

/* In pieces the answer is ESP_EAGAIN until it is the final one. */
static int parse(const char *data, size_t n, struct proxy_header *h, size_t *used)
{
	int final = proxy_parse(data, n, h, used);

	for (size_t i = 0; i < n; i++) {
		struct proxy_header part;
		size_t part_used;
		/* an exact copy: a read beyond its end is seen by the sanitizer */
		char *copy = memcpy(malloc(i + 1), data, i);
		int rc = proxy_parse(copy, i, &part, &part_used);

		free(copy);
		if (rc == ESP_OK)
			cr_assert(final == ESP_OK && part_used == *used && i >= *used, "at %zu", i);
		else if (rc == ESP_EPROTO)
			cr_assert_eq(final, ESP_EPROTO, "at %zu", i);
	}
	return final;
}

Test(proxy, reads_version_1)
{
	static const char tcp4[] = "PROXY TCP4 192.0.2.1 198.51.100.2 56324 25\r\nEHLO";
	static const char tcp6[] = "PROXY TCP6 2001:db8::1 2001:db8::2 1 65535\r\n";
	struct proxy_header h;
	char text[IP_TEXT];
	size_t used;

	cr_assert_eq(parse(tcp4, sizeof(tcp4) - 1, &h, &used), ESP_OK);
	cr_assert_eq(used, sizeof(tcp4) - 5);
	ip_format(&h.peer.ip, text);
	cr_assert_str_eq(text, "192.0.2.1");
	ip_format(&h.here.ip, text);
	cr_assert_str_eq(text, "198.51.100.2");
	cr_assert(h.peer.port == 56324 && h.here.port == 25 && !h.local);
	cr_assert_eq(parse(tcp6, sizeof(tcp6) - 1, &h, &used), ESP_OK);
	ip_format(&h.peer.ip, text);
	cr_assert_str_eq(text, "2001:db8::1");
	cr_assert_eq(parse("PROXY UNKNOWN\r\n", 15, &h, &used), ESP_OK);
	cr_assert(h.local && used == 15);
	cr_assert_eq(parse("PROXY UNKNOWN ffff::1 whatever 1 2\r\n", 36, &h, &used), ESP_OK);
	cr_assert(h.local);
}

Test(proxy, refuses_broken_version_1)
{
	static const char *const bad[] = {
		"PROXY TCP4 192.0.2.1 198.51.100.2 56324 25\n",
		"PROXY TCP4 192.0.2.1 198.51.100.2 56324\r\n",
		"PROXY TCP4 192.0.2.1 198.51.100.2 56324 25 \r\n",
		"PROXY TCP4 192.0.2.1  198.51.100.2 56324 25\r\n",
		"PROXY TCP4 ::1 198.51.100.2 56324 25\r\n",
		"PROXY TCP6 1.2.3.4 ::1 1 2\r\n",
		"PROXY TCP4 1.2.3.4 1.2.3.4 01 2\r\n",
		"PROXY TCP4 1.2.3.4 1.2.3.4 1 65536\r\n",
		"PROXY UDP4 1.2.3.4 1.2.3.4 1 2\r\n",
		"PROXY \r\n",
		"PROXY\r\n",
		"EHLO x\r\n",
		"proxy TCP4 1.2.3.4 1.2.3.4 1 2\r\n",
		"PROXY TCP6 [::1] ::1 1 2\r\n",
		"PROXY UNKNOWN "
		"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r"
		"\n",
	};
	struct proxy_header h;
	size_t used;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		cr_assert_eq(parse(bad[i], strlen(bad[i]), &h, &used), ESP_EPROTO, "%s", bad[i]);
}

#define V2 "\r\n\r\n\0\r\nQUIT\n"

Test(proxy, reads_version_2)
{
	static const char tcp4[] = V2 "\x21\x11\0\x0c\xc0\0\2\1\xc6\x33\x64\2\xdc\4\0\x19";
	static const char tlv[] = V2 "\x21\x11\0\x0f\xc0\0\2\1\xc6\x33\x64\2\xdc\4\0\x19xyzmore";
	static const char local[] = V2 "\x20\0\0\0rest";
	struct proxy_header h;
	char text[IP_TEXT];
	size_t used;

	cr_assert_eq(parse(tcp4, sizeof(tcp4) - 1, &h, &used), ESP_OK);
	cr_assert_eq(used, 28);
	ip_format(&h.peer.ip, text);
	cr_assert_str_eq(text, "192.0.2.1");
	cr_assert(h.peer.port == 56324 && h.here.port == 25);
	cr_assert_eq(parse(tlv, sizeof(tlv) - 1, &h, &used), ESP_OK);
	cr_assert_eq(used, 31);
	cr_assert_eq(parse(local, sizeof(local) - 1, &h, &used), ESP_OK);
	cr_assert(h.local && used == 16);
}

Test(proxy, refuses_broken_version_2)
{
	static const struct { const char *data; size_t n;
	} bad[] = {
#define BAD(s) { s, sizeof(s) - 1 }
		BAD(V2 "\x11\x11\0\x0c............"),
		BAD(V2 "\x22\x11\0\x0c............"),
		BAD(V2 "\x21\x12\0\x0c............"),
		BAD(V2 "\x21\x31\0\x0c............"),
		BAD(V2 "\x21\x11\0\x0b..........."),
		BAD(V2 "\x21\x21\0\x0c............"),
		BAD(V2 "\x21\x11\xff\xff"),
		BAD("\r\n\r\n\0\r\nQUIT\r"),
#undef BAD
	};
	struct proxy_header h;
	size_t used;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		cr_assert_eq(parse(bad[i].data, bad[i].n, &h, &used), ESP_EPROTO, "%zu", i);
}

/* Exactly at the bounds, and one byte beyond them. */
Test(proxy, the_longest_header_is_read_and_a_longer_one_is_not)
{
	char v1[108] = "PROXY UNKNOWN ", v2[PROXY_MAX + 1] = V2 "\x21\x11";
	struct proxy_header h;
	size_t used;

	memset(v1 + 14, 'x', sizeof(v1) - 14);
	memcpy(v1 + 105, "\r\n", 2);
	cr_assert_eq(parse(v1, 107, &h, &used), ESP_OK);
	cr_assert_eq(used, 107);
	memcpy(v1 + 105, "x\r\n", 3);
	cr_assert_eq(parse(v1, 108, &h, &used), ESP_EPROTO);
	cr_assert_eq(parse(v1, 107, &h, &used), ESP_EPROTO, "no LF can save it any more");
	v2[14] = (char)((PROXY_MAX - 16) >> 8);
	v2[15] = (char)((PROXY_MAX - 16) & 0xff);
	cr_assert_eq(parse(v2, PROXY_MAX, &h, &used), ESP_OK);
	cr_assert_eq(used, PROXY_MAX);
	v2[15]++;
	cr_assert_eq(parse(v2, 16, &h, &used), ESP_EPROTO, "refused before its bytes come");
}

/* Who is not named keeps the socket's addresses, whatever stands where addresses would be. */
Test(proxy, a_header_without_a_peer_is_local)
{
	static const struct { const char *data; size_t n;
	} local[] = {
#define LOCAL(s) { s, sizeof(s) - 1 }
		LOCAL(V2 "\x20\x11\0\x0c............"),
		LOCAL(V2 "\x20\xff\0\1x"),
		LOCAL(V2 "\x20\0\0\4\4\0\1x"),
		LOCAL(V2 "\x21\0\0\0"),
		LOCAL(V2 "\x21\0\0\4\4\0\1x"),
		LOCAL("PROXY UNKNOWN\r\n"),
		LOCAL("PROXY UNKNOWN TCP4 x\r\n"),
#undef LOCAL
	};
	struct proxy_header h;
	size_t used;

	for (size_t i = 0; i < sizeof(local) / sizeof(local[0]); i++) {
		cr_assert_eq(parse(local[i].data, local[i].n, &h, &used), ESP_OK, "%zu", i);
		cr_assert(h.local && used == local[i].n && h.peer.port == 0, "%zu", i);
	}
}

Test(proxy, a_broken_header_is_told_from_none)
{
	cr_assert_str_eq(proxy_fault("PROXY TCP5 ", 11), "a header of version 1 that is wrong or too long");
	cr_assert_str_eq(proxy_fault(V2 "\x31", 13), "a header of version 2 that is wrong, too long or not of TCP");
	cr_assert_str_eq(proxy_fault("EHLO a\r\n", 8), "no PROXY header but something else");
	cr_assert_str_eq(proxy_fault("PR", 2), "no PROXY header but something else");
}
