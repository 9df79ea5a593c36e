/* address - where the database may be, and how to connect there.
 *
 * Names are resolved here, on a lane, and given to libpq as hostaddr: PQconnectPoll() would wait for the name service
 * on the loop.  The name itself goes along, for the certificate.
 */
#include "pgsql.h"

#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

/* "db1", "db1:5433", "[::1]:5433", "/run/postgresql" */
static void split(const char *item, size_t len, const char *port, struct address *a)
{
	const char *end = item + len, *colon = NULL, *first = item;

	if (len && *item == '[') {
		first = item + 1;
		end = memchr(first, ']', len - 1);
		colon = end && end + 1 < item + len && end[1] == ':' ? end + 1 : NULL;
		end = end ? end : item + len;
	} else if (len && *item != '/' && (colon = memchr(item, ':', len)) != NULL) {
		end = colon;
	}
	snprintf(a->host, sizeof a->host, "%.*s", (int)(end - first), first);
	snprintf(a->port, sizeof a->port, "%.*s", colon ? (int)(item + len - colon - 1) : (int)strlen(port),
		colon ? colon + 1 : port);
}

static uint32_t resolve_one(const struct address *a, struct address *ret, uint32_t room)
{
	struct addrinfo hints = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV };
	struct addrinfo *found = NULL;
	uint32_t n = 0;

	if (a->host[0] == '/') {
		if (room)
			ret[0] = *a;
		return room ? 1 : 0;
	}
	if (getaddrinfo(a->host, a->port, &hints, &found) != 0)
		return 0;
	for (const struct addrinfo *i = found; i && n < room; i = i->ai_next) {
		ret[n] = *a;
		if (getnameinfo(i->ai_addr, i->ai_addrlen, ret[n].ip, sizeof ret[n].ip, NULL, 0, NI_NUMERICHOST) == 0)
			n++;
	}
	freeaddrinfo(found);
	return n;
}

uint32_t address_resolve(const struct settings *s, struct address *ret)
{
	uint32_t n = 0;

	for (const char *p = s->host; p && *p && n < ADDRESSES; ) {
		size_t len = strcspn(p, ", ");
		struct address a = { .ip = "" };
		if (len) {
			split(p, len, s->port, &a);
			n += resolve_one(&a, ret + n, ADDRESSES - n);
		}
		p += len + (p[len] != '\0');
	}
	return n;
}

#define KEYS 16
struct connect_params { const char *key[KEYS], *value[KEYS]; char seconds[16]; };

static void connect_params(struct connect_params *c, const struct settings *s, const struct address *a)
{
	const char *const pairs[KEYS - 1][2] = { { "host", a->host }, { "hostaddr", a->ip }, { "port", a->port },
		{ "user", s->user }, { "password", s->password }, { "dbname", s->name }, { "sslmode", s->sslmode },
		{ "sslrootcert", s->ca }, { "options", s->options }, { "application_name", "esp" },
		{ "target_session_attrs", "read-write" }, { "client_encoding", "UTF8" }, { "gssencmode", "disable" },
		{ "tcp_user_timeout", "10000" }, { "connect_timeout", c->seconds } };

	/* for the blocking form only; whole seconds, and 1 means 2 */
	snprintf(c->seconds, sizeof c->seconds, "%lld", (long long)(s->connect_timeout / ESP_SEC + 1));
	for (size_t i = 0; i < KEYS - 1; i++) {
		c->key[i] = pairs[i][0];
		c->value[i] = pairs[i][1];
	}
	c->key[KEYS - 1] = c->value[KEYS - 1] = NULL;
}

/* Without TLS: what matters is whether anybody answers, and then whether it still starts up. */
static int is_silent(const struct settings *s, const struct address *a)
{
	char none[] = "disable";
	struct settings plain = *s;
	struct connect_params c;

	plain.sslmode = none;
	connect_params(&c, &plain, a);
	return PQpingParams(c.key, c.value, 0) != PQPING_OK;
}

int address_silent(const struct settings *s)
{
	struct address *list = calloc(ADDRESSES, sizeof *list);
	uint32_t n = list ? address_resolve(s, list) : 0, i = 0;

	while (i < n && is_silent(s, &list[i]))
		i++;
	free(list);
	return i == n;
}

PGconn *address_connect(const struct settings *s, const struct address *a)
{
	struct connect_params c;

	connect_params(&c, s, a);
	return PQconnectStartParams(c.key, c.value, 0);
}

static PGconn *open_one(const struct settings *s, const struct address *a, esp_err *err)
{
	struct connect_params p;
	PGconn *c;

	connect_params(&p, s, a);
	c = PQconnectdbParams(p.key, p.value, 0);
	if (c && PQstatus(c) == CONNECTION_OK)
		return c;
	snprintf(err->text, sizeof err->text, "cannot connect to PostgreSQL at %.100s: %.200s", a->host,
		c ? PQerrorMessage(c) : "no memory");
	PQfinish(c);
	return NULL;
}

PGconn *address_open(const struct settings *s, esp_err *err)
{
	struct address *list = calloc(ADDRESSES, sizeof *list);
	uint32_t n = list ? address_resolve(s, list) : 0;
	PGconn *c = NULL;

	if (n == 0)
		snprintf(err->text, sizeof err->text, "no host of \"%.200s\" has an address", s->host);
	for (uint32_t i = 0; !c && i < n; i++)
		c = open_one(s, &list[i], err);
	free(list);
	return c;
}
