/* core/net/proxy.c - PROXY protocol headers (haproxy.org, proxy-protocol.txt).  See proxy.h.  No allocation. */
#include "core/net/proxy.h"

#include <esp/mem.h>
#include <string.h>

enum { V1_MAX = 107, V2_FIXED = 16 };

static const char v1_prefix[6] = "PROXY ";
static const uint8_t v2_magic[12] = "\r\n\r\n\0\r\nQUIT\n";

/* The next word of a line whose words are separated by exactly one space. */
static esp_str next_word(esp_str *line)
{
	const char *space = line->len ? memchr(line->ptr, ' ', line->len) : NULL;
	esp_str word = { line->ptr, space ? (size_t)(space - line->ptr) : line->len };

	line->ptr += word.len + (space != NULL);
	line->len -= word.len + (space != NULL);
	return word;
}

static int parse_port(esp_str text, uint16_t *ret)
{
	uint32_t value = 0;

	if (text.len == 0 || text.len > 5 || (text.len > 1 && text.ptr[0] == '0'))
		return ESP_EPROTO;
	for (size_t i = 0; i < text.len; i++) {
		if (text.ptr[i] < '0' || text.ptr[i] > '9')
			return ESP_EPROTO;
		value = value * 10 + (uint32_t)(text.ptr[i] - '0');
	}
	if (value > 65535)
		return ESP_EPROTO;
	*ret = (uint16_t)value;
	return ESP_OK;
}

static int parse_v1_line(esp_str line, struct proxy_header *ret)
{
	esp_str family, peer, here, peer_port, here_port;
	bool v4;

	family = next_word(&line);
	if (esp_str_eq(family, ESP_STR("UNKNOWN"))) {
		ret->local = true;
		return ESP_OK;
	}
	v4 = esp_str_eq(family, ESP_STR("TCP4"));
	if (!v4 && !esp_str_eq(family, ESP_STR("TCP6")))
		return ESP_EPROTO;
	peer = next_word(&line);
	here = next_word(&line);
	peer_port = next_word(&line);
	here_port = line;       /* a further space is no digit */
	if (ip_parse(peer, &ret->peer.ip) != ESP_OK || ip_parse(here, &ret->here.ip) != ESP_OK)
		return ESP_EPROTO;
	/* the text decides the family: a TCP6 line may carry a mapped address, a TCP4 line no colon at all */
	if (v4 != !memchr(peer.ptr, ':', peer.len) || v4 != !memchr(here.ptr, ':', here.len) || peer.ptr[0] == '[' ||
	    here.ptr[0] == '[')
		return ESP_EPROTO;
	if (parse_port(peer_port, &ret->peer.port) != ESP_OK || parse_port(here_port, &ret->here.port) != ESP_OK)
		return ESP_EPROTO;
	return ESP_OK;
}

static int parse_v1(const char *p, size_t n, struct proxy_header *ret, size_t *ret_used)
{
	size_t seen = n < V1_MAX ? n : V1_MAX;
	const char *lf = memchr(p, '\n', seen);
	esp_str line;

	if (!lf)
		return seen == V1_MAX || memchr(p, 0, seen) ? ESP_EPROTO : ESP_EAGAIN;
	if (lf - p < (ptrdiff_t)sizeof(v1_prefix) + 1 || lf[-1] != '\r')
		return ESP_EPROTO;
	line.ptr = p + sizeof(v1_prefix);
	line.len = (size_t)(lf - 1 - line.ptr);
	if (memchr(line.ptr, 0, line.len) || memchr(line.ptr, '\r', line.len))
		return ESP_EPROTO;
	if (parse_v1_line(line, ret) != ESP_OK)
		return ESP_EPROTO;
	*ret_used = (size_t)(lf - p) + 1;
	return ESP_OK;
}

static void v2_address(const uint8_t *p, size_t width, struct ip *ret)
{
	if (width == 16) {
		memcpy(ret->b, p, 16);
		return;
	}
	memset(ret->b, 0, 10);
	memset(ret->b + 10, 0xff, 2);
	memcpy(ret->b + 12, p, 4);
}

static int parse_v2(const uint8_t *p, size_t n, struct proxy_header *ret, size_t *ret_used)
{
	size_t len, width;
	unsigned command, family;

	if (n > 12 && ((p[12] & 0xf0) != 0x20 || (p[12] & 0x0f) > 1))
		return ESP_EPROTO;
	if (n < V2_FIXED)
		return ESP_EAGAIN;
	len = (size_t)p[14] << 8 | p[15];
	if (len > PROXY_MAX - V2_FIXED)
		return ESP_EPROTO;
	if (n < V2_FIXED + len)
		return ESP_EAGAIN;
	command = p[12] & 0x0f;
	family = p[13];
	if (command == 0 || family == 0) {
		ret->local = true;
		*ret_used = V2_FIXED + len;
		return ESP_OK;
	}
	if (family != 0x11 && family != 0x21)
		return ESP_EPROTO;      /* mail is TCP; a datagram or a UNIX path is a mistake of the balancer */
	width = family == 0x11 ? 4 : 16;
	if (len < 2 * width + 4)
		return ESP_EPROTO;
	p += V2_FIXED;
	v2_address(p, width, &ret->peer.ip);
	v2_address(p + width, width, &ret->here.ip);
	ret->peer.port = (uint16_t)(p[2 * width] << 8 | p[2 * width + 1]);
	ret->here.port = (uint16_t)(p[2 * width + 2] << 8 | p[2 * width + 3]);
	*ret_used = V2_FIXED + len;
	return ESP_OK;
}

int proxy_parse(const void *data, size_t n, struct proxy_header *ret, size_t *ret_used)
{
	size_t head;

	*ret = (struct proxy_header){ 0 };
	*ret_used = 0;
	if (n == 0)
		return ESP_EAGAIN;
	head = n < sizeof(v1_prefix) ? n : sizeof(v1_prefix);
	if (memcmp(data, v1_prefix, head) == 0)
		return n < sizeof(v1_prefix) ? ESP_EAGAIN : parse_v1(data, n, ret, ret_used);
	head = n < sizeof(v2_magic) ? n : sizeof(v2_magic);
	if (memcmp(data, v2_magic, head) == 0)
		return n < sizeof(v2_magic) ? ESP_EAGAIN : parse_v2(data, n, ret, ret_used);
	return ESP_EPROTO;
}

const char *proxy_fault(const void *data, size_t n)
{
	if (n >= sizeof(v1_prefix) && memcmp(data, v1_prefix, sizeof(v1_prefix)) == 0)
		return "a header of version 1 that is wrong or too long";
	if (n >= sizeof(v2_magic) && memcmp(data, v2_magic, sizeof(v2_magic)) == 0)
		return "a header of version 2 that is wrong, too long or not of TCP";
	return "no PROXY header but something else";
}
