/* network - addresses of IPv4 and IPv6, and networks of them as they are written in esp.conf. */
#include "modules/common/network.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

int network_bits_equal(const uint8_t *a, const uint8_t *b, uint32_t bits)
{
	uint32_t whole = bits / 8, rest = bits % 8;

	if (memcmp(a, b, whole) != 0)
		return 0;
	return rest == 0 || ((a[whole] ^ b[whole]) & (0xff << (8 - rest) & 0xff)) == 0;
}

int network_has(const struct network *n, const struct address *a)
{
	return n->base.len == a->len && network_bits_equal(a->b, n->base.b, n->bits);
}

int network_parse(struct network *ret, esp_str text)
{
	char copy[64], *slash, *end = NULL;
	unsigned long bits;

	memset(ret, 0, sizeof *ret);
	if (text.len == 0 || text.len >= sizeof copy || memchr(text.ptr, 0, text.len))
		return 0;
	memcpy(copy, text.ptr, text.len);
	copy[text.len] = '\0';
	slash = strchr(copy, '/');
	if (slash)
		*slash++ = '\0';
	ret->base.len = inet_pton(AF_INET, copy, ret->base.b) == 1    ? 4
					: inet_pton(AF_INET6, copy, ret->base.b) == 1 ? 16
																  : 0;
	bits = ret->base.len * 8u;
	if (ret->base.len && slash) {
		if (*slash < '0' || *slash > '9')
			return 0;
		bits = strtoul(slash, &end, 10);
		if (*end || bits > ret->base.len * 8u)
			return 0;
	}
	ret->bits = (uint32_t)bits;
	return ret->base.len != 0;
}

static int is_word(esp_str s, const char *word)
{
	return s.len == strlen(word) && strncasecmp(s.ptr, word, s.len) == 0;
}

int network_host_is_loopback(esp_str host)
{
	char copy[INET_ADDRSTRLEN];
	uint8_t b[4];

	if (is_word(host, "localhost") || is_word(host, "[::1]"))
		return 1;
	if (host.len == 0 || host.len >= sizeof copy || memchr(host.ptr, 0, host.len))
		return 0;
	memcpy(copy, host.ptr, host.len);
	copy[host.len] = '\0';
	return inet_pton(AF_INET, copy, b) == 1 && b[0] == 127;
}
