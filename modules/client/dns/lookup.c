/* lookup - the service: what a caller asks becomes questions, and what comes back a copy in his arena. */
#include "dns.h"

#include <stdio.h>
#include <stdlib.h>

enum { ANSWER_LEAST = offsetof(esp_dns_answer, ttl) + sizeof(int64_t) };

static esp_status fail(esp_err *err, esp_status st, const char *why, esp_str name)
{
	if (err)
		snprintf(err->text, sizeof err->text, "%.*s: %s", ESP_FMT(name), why);
	return st;
}

/* All that was read of one answer, in one piece of the arena. */
static esp_status copy_reply(const struct reply *r, esp_arena *arena, esp_dns_answer *a)
{
	const char *from = (const char *)r->record;
	size_t bytes = r->bytes - sizeof *r;
	char *to = esp_alloc(arena, bytes);
	esp_dns_record *rec = (esp_dns_record *)(void *)to;

	if (!to)
		return ESP_ENOMEM;
	memcpy(to, from, bytes);
	for (uint32_t i = 0; i < r->n; i++)
		rec[i].data.ptr = to + (r->record[i].data.ptr - from);
	a->record = r->n ? rec : NULL;
	a->n = r->n;
	a->name = (esp_str){ to + (r->name.ptr - from), r->name.len };
	return ESP_OK;
}

static void give(esp_dns_answer *ret, const esp_dns_answer *a)
{
	uint32_t size = ret->size;

	memcpy(ret, a, size < sizeof *a ? size : sizeof *a);
	ret->size = size;
}

static int64_t seconds_left(const struct reply *r, esp_nsec now)
{
	return r->until > now ? (r->until - now + ESP_SEC / 2) / ESP_SEC : 0;
}

static esp_status take(struct dns *d, const struct waiter *w, esp_arena *arena, esp_str name, esp_dns_answer *a,
	esp_err *err)
{
	const struct reply *r = w->reply;

	if (!r)
		return fail(err, ESP_ENOMEM, "no memory", name);
	if (r->status != ESP_OK && r->status != ESP_ENOENT)
		return fail(err, r->status, r->why, name);
	*a = (esp_dns_answer){ .record_size = sizeof(esp_dns_record), .ttl = seconds_left(r, d->core.loop->clock()) };
	a->flags = r->flags | (w->cached ? ESP_DNS_CACHED : 0);
	return copy_reply(r, arena, a) == ESP_OK ? r->status : fail(err, ESP_ENOMEM, "the arena is full", name);
}

static esp_status lookup(const esp_dns *table, esp_arena *arena, uint32_t type, esp_str name, esp_dns_answer *ret,
	esp_err *err)
{
	struct dns *d = dns_of(table);
	struct hub *h = hub_here(d);
	struct waiter w = { .question = NULL };
	esp_dns_answer a;
	esp_status st;

	if (ret->size < ANSWER_LEAST || !h)
		return fail(
			err, ESP_EINVAL, "DNS is asked from workers and the control thread, with room for the answer", name);
	if (key_make(&w.key, type, name) != ESP_OK)
		return fail(
			err, ESP_EINVAL, "that is no domain name in ASCII, or not a type of record that can be asked for", name);
	waiter_begin(h, &w);
	st = waiters_wait(h, &w, 1);
	if (st == ESP_OK)
		st = take(d, &w, arena, name, &a, err);
	else
		(void)fail(err, st, st == ESP_ETIMEDOUT ? "DNS took longer than its caller waits" : "interrupted", name);
	waiter_end(&w);
	if (st == ESP_OK || st == ESP_ENOENT)
		give(ret, &a);
	return st;
}

/* --- addresses of a host --------------------------------------------------------------------------------- */

struct wish { struct dns *d; struct hub *h; esp_arena *arena; uint32_t flags; esp_dns_answer *ret; esp_err *err; };

enum { KNOWN_MOST = 32 };

/* One that needs no question; beyond KNOWN_MOST they are left out. */
static esp_status add_address(const struct wish *x, esp_dns_answer *a, const uint8_t *b, size_t len)
{
	esp_dns_record *rec = (esp_dns_record *)(uintptr_t)a->record;
	char *copy;

	if (a->n == KNOWN_MOST)
		return ESP_OK;
	if (!rec)
		rec = esp_alloc_array(x->arena, KNOWN_MOST, sizeof *rec);
	copy = esp_alloc(x->arena, len + 1);
	if (!rec || !copy)
		return ESP_ENOMEM;
	memcpy(copy, b, len);
	rec[a->n++] = (esp_dns_record){ .type = len == 4 ? ESP_DNS_A : ESP_DNS_AAAA, .data = { copy, len } };
	a->record = rec;
	return ESP_OK;
}

static int wanted(const struct wish *x, size_t len)
{
	return (x->flags & (len == 4 ? ESP_DNS_IPV4 : ESP_DNS_IPV6)) != 0;
}

/* RFC 6761, 6.3 */
static int is_localhost(esp_str name)
{
	static const char tail[] = ".localhost";
	size_t n = sizeof tail - 1;

	if (name.len && name.ptr[name.len - 1] == '.')
		name.len--;
	if (name.len == n - 1)
		return strncasecmp(name.ptr, tail + 1, n - 1) == 0;
	return name.len > n && strncasecmp(name.ptr + name.len - n, tail, n) == 0;
}

static esp_status add_hosts(const struct wish *x, esp_str name, esp_dns_answer *a)
{
	static const size_t lens[2] = { 16, 4 };
	const struct host *one;
	esp_status st = ESP_OK;

	for (uint32_t i = 0; i < 2; i++) {
		uint32_t at = 0;

		while (st == ESP_OK && wanted(x, lens[i]) && (one = hosts_find(&x->d->hosts, name, lens[i], &at)))
			st = add_address(x, a, one->address, one->len);
	}
	return st;
}

/* What needs no question: ESP_OK, with or without addresses, or ESP_EAGAIN. */
static esp_status known_here(const struct wish *x, esp_str host, esp_dns_answer *a)
{
	static const uint8_t here[16] = { [15] = 1 }, here4[4] = { 127, 0, 0, 1 };
	uint8_t b[16];
	size_t len = address_bytes(host, b);
	esp_status st = ESP_OK;

	*a = (esp_dns_answer){ .record_size = sizeof(esp_dns_record) };
	if (len)
		return wanted(x, len) ? add_address(x, a, b, len) : ESP_OK;
	if (x->flags & ESP_DNS_LOCAL)
		st = add_hosts(x, host, a);
	if (st != ESP_OK || a->n)
		return st;
	if (!is_localhost(host))
		return ESP_EAGAIN;
	if (wanted(x, 16))
		st = add_address(x, a, here, 16);
	return st == ESP_OK && wanted(x, 4) ? add_address(x, a, here4, 4) : st;
}

static esp_status merge(
	struct dns *d, struct waiter *w, uint32_t n, esp_arena *arena, esp_str name, esp_dns_answer *ret, esp_err *err)
{
	esp_dns_answer part[2];
	esp_dns_record *rec;
	uint32_t records = 0, failed = 0, good = 0;
	esp_status st[2], worst = ESP_ENOENT;

	*ret = (esp_dns_answer){ .record_size = sizeof *rec, .flags = ESP_DNS_AUTHENTIC | ESP_DNS_CACHED | ESP_DNS_NXDOMAIN,
		.ttl = INT64_MAX };
	for (uint32_t i = 0; i < n; i++) {
		st[i] = take(d, &w[i], arena, name, &part[i], err);
		if (st[i] != ESP_OK && st[i] != ESP_ENOENT) {
			worst = st[i];
			failed++;
			continue;
		}
		ret->flags &= part[i].flags;
		ret->ttl = part[i].ttl < ret->ttl ? part[i].ttl : ret->ttl;
		if (part[i].n || !good++)
			ret->name = part[i].name;
		records += st[i] == ESP_OK ? part[i].n : 0;
	}
	if (!records)
		return worst;
	rec = esp_alloc_array(arena, records, sizeof *rec);
	if (!rec)
		return fail(err, ESP_ENOMEM, "the arena is full", name);
	for (uint32_t i = 0; i < n; i++) {
		if (st[i] == ESP_OK) {
			memcpy(rec + ret->n, part[i].record, part[i].n * sizeof *rec);
			ret->n += part[i].n;
		}
	}
	ret->record = rec;
	ret->flags |= failed ? ESP_DNS_PARTIAL : 0;
	if (failed)
		ret->flags &= ~(uint32_t)ESP_DNS_AUTHENTIC;
	return ESP_OK;
}

static esp_status ask_both(const struct wish *x, esp_str name, esp_dns_answer *a)
{
	struct waiter w[2] = { { .question = NULL } };
	uint32_t n = 0;
	esp_status st = ESP_OK;

	if (x->flags & ESP_DNS_IPV6)
		st = key_make(&w[n++].key, ESP_DNS_AAAA, name);
	if (x->flags & ESP_DNS_IPV4)
		st = key_make(&w[n++].key, ESP_DNS_A, name);
	if (st != ESP_OK)
		return fail(x->err, ESP_EINVAL, "that is no host name in ASCII", name);
	for (uint32_t i = 0; i < n; i++)
		waiter_begin(x->h, &w[i]);
	st = waiters_wait(x->h, w, n);
	if (st == ESP_OK)
		st = merge(x->d, w, n, x->arena, name, a, x->err);
	else
		(void)fail(x->err, st, st == ESP_ETIMEDOUT ? "DNS took longer than its caller waits" : "interrupted", name);
	for (uint32_t i = 0; i < n; i++)
		waiter_end(&w[i]);
	return st;
}

/* resolv.conf(5): a name with fewer than ndots dots is tried under each domain of the list first, then as it is; one
 * with more the other way round. */
static esp_status ask_listed(const struct wish *x, esp_str host, esp_dns_answer *a)
{
	const struct resolv *r = &x->d->resolv;
	char name[2 * ESP_DNS_NAME + 2];
	uint32_t dots = 0;
	esp_status st = ESP_ENOENT;

	for (size_t i = 0; i < host.len; i++)
		dots += host.ptr[i] == '.';
	if (!(x->flags & ESP_DNS_LOCAL) || !r->nsearch || !host.len || host.len > ESP_DNS_NAME ||
		host.ptr[host.len - 1] == '.')
		return ask_both(x, host, a);
	if (dots >= r->ndots)
		st = ask_both(x, host, a);
	for (uint32_t i = 0; st == ESP_ENOENT && i < r->nsearch; i++) {
		int n = snprintf(name, sizeof name, "%.*s.%s", ESP_FMT(host), r->search[i]);

		if (n > 0 && n <= ESP_DNS_NAME)
			st = ask_both(x, (esp_str){ name, (size_t)n }, a);
	}
	if (st == ESP_ENOENT && dots < r->ndots)
		st = ask_both(x, host, a);
	return st;
}

static esp_status addresses(const esp_dns *table, esp_arena *arena, esp_str host, uint32_t flags, esp_dns_answer *ret,
	esp_err *err)
{
	struct dns *d = dns_of(table);
	struct wish x = { .d = d, .h = hub_here(d), .arena = arena, .flags = flags, .err = err };
	esp_dns_answer a;
	esp_status st;

	if (ret->size < ANSWER_LEAST || !x.h)
		return fail(
			err, ESP_EINVAL, "DNS is asked from workers and the control thread, with room for the answer", host);
	if (!(flags & (ESP_DNS_IPV4 | ESP_DNS_IPV6)))
		x.flags |= ESP_DNS_IPV4 | ESP_DNS_IPV6;
	st = known_here(&x, host, &a);
	if (st == ESP_OK && !a.n)
		st = ESP_ENOENT;
	if (st == ESP_OK || st == ESP_ENOENT) {
		a.name = esp_strdup_in(arena, host);
		if (!a.name.ptr)
			st = ESP_ENOMEM;
	} else if (st == ESP_EAGAIN) {
		st = ask_listed(&x, host, &a);
	}
	if (st == ESP_OK || st == ESP_ENOENT)
		give(ret, &a);
	return st;
}

void lookup_init(struct dns *d)
{
	d->table = (esp_dns){ .service = { .size = sizeof(esp_dns), .minor = 0, .provider = d->self },
		.lookup = lookup, .addresses = addresses };
}
