/* server - where a server is, as it is written in esp.conf and as esp.dial/1 takes it. */
#include "modules/common/server.h"

#include <arpa/inet.h>
#include <string.h>

#define PATH_MOST 107u     /* of a Unix socket (struct sockaddr_un) */

static int copy(char *out, size_t room, esp_str s)
{
	if (s.len == 0 || s.len >= room || memchr(s.ptr, '\0', s.len))
		return 0;
	memcpy(out, s.ptr, s.len);
	out[s.len] = '\0';
	return 1;
}

static int is_port(esp_str s)
{
	uint32_t n = 0;

	for (size_t i = 0; i < s.len; i++) {
		if (s.ptr[i] < '0' || s.ptr[i] > '9' || i == 5)
			return 0;
		n = n * 10 + (uint32_t)(s.ptr[i] - '0');
	}
	return n >= 1 && n <= 65535;
}

/* What consists of digits and dots must be an address; anything else may be a name. */
static int is_host(const char *host)
{
	struct in_addr a;

	if (host[strspn(host, "0123456789.")] == '\0')
		return inet_pton(AF_INET, host, &a) == 1;
	return host[0] != '.' && host[0] != '-' &&
		   host[strspn(host, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_")] == '\0';
}

static const char *parse_tcp(esp_str text, struct server *ret)
{
	const char *colon = memrchr(text.ptr, ':', text.len);
	struct in6_addr a;
	esp_str host, port;
	int v6 = text.ptr[0] == '[';

	if (!colon)
		return "it has no port: write \"host:port\", or the path of a Unix socket";
	host = (esp_str){ text.ptr, (size_t)(colon - text.ptr) };
	port = (esp_str){ colon + 1, text.len - host.len - 1 };
	if (v6 && host.len > 2 && host.ptr[host.len - 1] == ']')
		host = (esp_str){ host.ptr + 1, host.len - 2 };
	else if (v6 || memchr(host.ptr, ':', host.len))
		return "write an IPv6 address in brackets: \"[2001:db8::1]:port\"";
	if (!is_port(port))
		return "the port must be a number from 1 to 65535";
	if (!copy(ret->host, sizeof ret->host, host) || !copy(ret->port, sizeof ret->port, port))
		return "the host is missing, or longer than 253 bytes";
	if (v6 ? inet_pton(AF_INET6, ret->host, &a) != 1 : !is_host(ret->host))
		return "the host is neither an address nor a name";
	return NULL;
}

const char *server_parse(esp_str text, struct server *ret)
{
	memset(ret, 0, sizeof *ret);
	ret->text = text;
	if (text.len == 0)
		return "it is empty: write the path of a Unix socket, or \"host:port\"";
	if (text.ptr[0] != '/')
		return parse_tcp(text, ret);
	return text.len <= PATH_MOST && copy(ret->host, sizeof ret->host, text)
			   ? NULL
			   : "the path of a Unix socket has at most 107 bytes";
}
