/* address - where nobody may go whom we do not trust (server-side request forgery).
 *
 * IPv4: what is not a public unicast address.  IPv6: what is not global unicast (2000::/3), and within it what carries
 * an IPv4 address or is reserved.  The administrator may allow networks of his own.
 */
#include "http.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <unistd.h>

struct range { uint8_t base[16]; uint8_t bits; const char *why; };

static const struct range forbidden4[] = {
	{ { 0 }, 8, "this network" }, { { 10 }, 8, "private" }, { { 100, 64 }, 10, "shared by a provider's customers" },
	{ { 127 }, 8, "loopback" }, { { 169, 254 }, 16, "link-local" }, { { 172, 16 }, 12, "private" },
	{ { 192, 0, 0 }, 24, "reserved" }, { { 192, 0, 2 }, 24, "documentation" }, { { 192, 88, 99 }, 24, "6to4" },
	{ { 192, 168 }, 16, "private" }, { { 198, 18 }, 15, "benchmarks" }, { { 198, 51, 100 }, 24, "documentation" },
	{ { 203, 0, 113 }, 24, "documentation" }, { { 224 }, 3, "multicast or reserved" },
};
static const struct range forbidden6[] = {
	{ { 0x20, 0x01 }, 23, "reserved, or Teredo" }, { { 0x20, 0x01, 0x0d, 0xb8 }, 32, "documentation" },
	{ { 0x20, 0x02 }, 16, "6to4" }, { { 0x3f, 0xff }, 20, "documentation" },
};
static const struct range global6 = { { 0x20 }, 3, NULL };
static const struct range mapped6 = { { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff }, 96, NULL };

static const char *find(const uint8_t *b, const struct range *table, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (network_bits_equal(b, table[i].base, table[i].bits))
			return table[i].why;
	return NULL;
}

int address_of(struct address *ret, const struct sockaddr *sa)
{
	memset(ret, 0, sizeof *ret);
	if (sa->sa_family == AF_INET) {
		ret->len = 4;
		memcpy(ret->b, &((const struct sockaddr_in *)(const void *)sa)->sin_addr, 4);
	} else if (sa->sa_family == AF_INET6) {
		ret->len = 16;
		memcpy(ret->b, &((const struct sockaddr_in6 *)(const void *)sa)->sin6_addr, 16);
	}
	return ret->len != 0;
}

int address_same(const struct address *a, const struct address *b)
{
	return a->len == b->len && memcmp(a->b, b->b, a->len) == 0;
}

/* The kernel talks to an address of its own from that address.  No packet is sent. */
int address_is_own(const struct address *a)
{
	struct sockaddr_storage to = { 0 }, from = { 0 };
	socklen_t len = a->len == 4 ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
	struct address mine;
	int fd, own = 0;

	to.ss_family = a->len == 4 ? AF_INET : AF_INET6;
	if (a->len == 4) {
		struct sockaddr_in *in = (struct sockaddr_in *)(void *)&to;
		in->sin_port = htons(9);
		memcpy(&in->sin_addr, a->b, 4);
	} else {
		struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)(void *)&to;
		in6->sin6_port = htons(9);
		memcpy(&in6->sin6_addr, a->b, 16);
	}
	fd = socket(to.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return errno != EAFNOSUPPORT;   /* cannot be said: then it is */
	if (connect(fd, (struct sockaddr *)&to, len) == 0) {
		len = sizeof from;
		own = getsockname(fd, (struct sockaddr *)&from, &len) != 0
		      || !address_of(&mine, (struct sockaddr *)&from) || address_same(&mine, a);
	}
	(void)close(fd);
	return own;
}

void address_print(const struct address *a, char *text, size_t room)
{
	if (!inet_ntop(a->len == 4 ? AF_INET : AF_INET6, a->b, text, (socklen_t)room) && room)
		text[0] = '\0';
}

const char *address_forbidden(const struct address *a, const struct rules *rules)
{
	const char *why;

	for (uint32_t i = 0; i < rules->nallow; i++)
		if (network_has(&rules->allow[i], a))
			return NULL;
	if (a->len == 4)
		why = find(a->b, forbidden4, sizeof forbidden4 / sizeof forbidden4[0]);
	else if (a->len != 16)
		why = "no address";
	else if (network_bits_equal(a->b, mapped6.base, mapped6.bits))
		why = "IPv4 within IPv6";
	else if (!network_bits_equal(a->b, global6.base, global6.bits))
		why = "not global";
	else
		why = find(a->b, forbidden6, sizeof forbidden6 / sizeof forbidden6[0]);
	return why || !address_is_own(a) ? why : "this machine's own";
}
