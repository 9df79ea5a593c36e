/* core/net/ip.c - parsing, formatting and matching of addresses.  See ip.h. */
#include "core/net/ip.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

enum { NETS_MAX = 1024 };

static const uint8_t mapped[12] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff };

int ip_parse(esp_str text, struct ip *ret)
{
	char buf[IP_TEXT];

	if (text.len >= 2 && text.ptr[0] == '[' && text.ptr[text.len - 1] == ']') {
		text.ptr++;
		text.len -= 2;
		if (!memchr(text.ptr, ':', text.len))
			return ESP_EINVAL;
	}
	if (text.len == 0 || text.len >= sizeof(buf) || memchr(text.ptr, 0, text.len))
		return ESP_EINVAL;
	memcpy(buf, text.ptr, text.len);
	buf[text.len] = 0;
	if (inet_pton(AF_INET6, buf, ret->b) == 1)
		return ESP_OK;
	memcpy(ret->b, mapped, sizeof(mapped));
	return inet_pton(AF_INET, buf, ret->b + 12) == 1 ? ESP_OK : ESP_EINVAL;
}

/* Decimal without sign, space or leading zeros; at most `max`. */
static int parse_number(esp_str text, unsigned max, unsigned *ret)
{
	unsigned value = 0;

	if (text.len == 0 || text.len > 5 || (text.len > 1 && text.ptr[0] == '0'))
		return ESP_EINVAL;
	for (size_t i = 0; i < text.len; i++) {
		if (text.ptr[i] < '0' || text.ptr[i] > '9')
			return ESP_EINVAL;
		value = value * 10 + (unsigned)(text.ptr[i] - '0');
	}
	if (value > max)
		return ESP_EINVAL;
	*ret = value;
	return ESP_OK;
}

int ip_parse_port(esp_str text, struct ip_port *ret)
{
	const char *colon = text.len ? memrchr(text.ptr, ':', text.len) : NULL;
	esp_str host, port;
	unsigned value;

	if (!colon)
		return ESP_EINVAL;
	host = (esp_str){ text.ptr, (size_t)(colon - text.ptr) };
	port = (esp_str){ colon + 1, text.len - host.len - 1 };
	if (parse_number(port, 65535, &value) != ESP_OK)
		return ESP_EINVAL;
	ret->port = (uint16_t)value;
	if (host.len == 1 && host.ptr[0] == '*') {
		memset(&ret->ip, 0, sizeof(ret->ip));
		return ESP_OK;
	}
	if (memchr(host.ptr, ':', host.len) && host.ptr[0] != '[')
		return ESP_EINVAL;      /* "::1:25" could be read in two ways */
	return ip_parse(host, &ret->ip);
}

int ip_net_parse(esp_str text, struct ip_net *ret)
{
	const char *slash = text.len ? memchr(text.ptr, '/', text.len) : NULL;
	esp_str host = text;
	unsigned bits = 128, width;
	struct ip ip;

	if (slash)
		host.len = (size_t)(slash - text.ptr);
	if (ip_parse(host, &ip) != ESP_OK)
		return ESP_EINVAL;
	width = memchr(host.ptr, ':', host.len) ? 128 : 32;
	if (slash) {
		esp_str n = { slash + 1, text.len - host.len - 1 };

		if (parse_number(n, width, &bits) != ESP_OK)
			return ESP_EINVAL;
		bits += 128 - width;
	}
	ret->ip = ip_mask(&ip, bits);
	ret->bits = (uint8_t)bits;
	return ESP_OK;
}

size_t ip_format(const struct ip *ip, char out[IP_TEXT])
{
	if (ip_is_v4(ip))
		inet_ntop(AF_INET, ip->b + 12, out, IP_TEXT);
	else
		inet_ntop(AF_INET6, ip->b, out, IP_TEXT);
	return strlen(out);
}

int ip_from_sockaddr(const struct sockaddr *sa, socklen_t len, struct ip_port *ret)
{
	if (len >= sizeof(struct sockaddr_in) && sa->sa_family == AF_INET) {
		struct sockaddr_in in;

		memcpy(&in, sa, sizeof(in));
		memcpy(ret->ip.b, mapped, sizeof(mapped));
		memcpy(ret->ip.b + 12, &in.sin_addr, 4);
		ret->port = ntohs(in.sin_port);
		return ESP_OK;
	}
	if (len >= sizeof(struct sockaddr_in6) && sa->sa_family == AF_INET6) {
		struct sockaddr_in6 in6;

		memcpy(&in6, sa, sizeof(in6));
		memcpy(ret->ip.b, &in6.sin6_addr, 16);
		ret->port = ntohs(in6.sin6_port);
		return ESP_OK;
	}
	return ESP_EINVAL;
}

socklen_t ip_to_sockaddr(const struct ip_port *ip, struct sockaddr_storage *out)
{
	memset(out, 0, sizeof(*out));
	if (ip_is_v4(&ip->ip)) {
		struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons(ip->port) };

		memcpy(&in.sin_addr, ip->ip.b + 12, 4);
		memcpy(out, &in, sizeof(in));
		return sizeof(in);
	}
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6, .sin6_port = htons(ip->port) };

	memcpy(&in6.sin6_addr, ip->ip.b, 16);
	memcpy(out, &in6, sizeof(in6));
	return sizeof(in6);
}

bool ip_is_v4(const struct ip *ip)
{
	return memcmp(ip->b, mapped, sizeof(mapped)) == 0;
}

bool ip_is_loopback(const struct ip *ip)
{
	static const uint8_t one[16] = { [15] = 1 };

	return ip_is_v4(ip) ? ip->b[12] == 127 : memcmp(ip->b, one, 16) == 0;
}

bool ip_is_any(const struct ip *ip)
{
	static const uint8_t zero[16];

	return memcmp(ip->b, zero, 16) == 0 || (ip_is_v4(ip) && memcmp(ip->b + 12, zero, 4) == 0);
}

bool ip_eq(const struct ip *a, const struct ip *b)
{
	return memcmp(a->b, b->b, 16) == 0;
}

struct ip ip_mask(const struct ip *ip, unsigned bits)
{
	struct ip masked = *ip;

	for (unsigned i = 0; i < 16; i++) {
		if (bits >= 8 * (i + 1))
			continue;
		masked.b[i] &= bits <= 8 * i ? 0 : (uint8_t)(0xff00u >> (bits - 8 * i));
	}
	return masked;
}

bool ip_net_has(const struct ip_net *net, const struct ip *ip)
{
	struct ip masked = ip_mask(ip, net->bits);

	return ip_eq(&masked, &net->ip);
}

bool ip_nets_have(const struct ip_nets *nets, const struct ip *ip)
{
	for (size_t i = 0; i < nets->n; i++)
		if (ip_net_has(&nets->net[i], ip))
			return true;
	return false;
}

int ip_nets_add(struct ip_nets *nets, const struct ip_net *net)
{
	struct ip_net *grown;

	if (nets->n >= NETS_MAX)
		return ESP_E2BIG;
	grown = reallocarray(nets->net, nets->n + 1, sizeof(*grown));
	if (!grown)
		return ESP_ENOMEM;
	grown[nets->n] = *net;
	nets->net = grown;
	nets->n++;
	return ESP_OK;
}

int ip_nets_copy(const struct ip_nets *from, struct ip_nets *ret)
{
	*ret = (struct ip_nets){ 0 };
	if (from->n == 0)
		return ESP_OK;
	ret->net = reallocarray(NULL, from->n, sizeof(*ret->net));
	if (!ret->net)
		return ESP_ENOMEM;
	memcpy(ret->net, from->net, from->n * sizeof(*ret->net));
	ret->n = from->n;
	return ESP_OK;
}

void ip_nets_free(struct ip_nets *nets)
{
	free(nets->net);
	*nets = (struct ip_nets){ 0 };
}
