/* reply - reads what a server answered.  The bytes come from strangers: every length is checked where it is used, names
 * cannot go in circles (name.c), CNAMEs end after REPLY_CNAMES, and what is counted is what is there, not what the
 * message says.  What is malformed anywhere is malformed as a whole: half an answer is a lie.
 */
#include "reply.h"

#include <stdlib.h>
#include <string.h>

enum { TYPE_SOA = 6, TYPE_OPT = 41, CLASS_IN = 1, RCODE_NXDOMAIN = 3 };

/* One record, where it stands. */
struct rr { uint32_t owner, ttl, rdata; uint16_t type, cls, rdlen; };

struct reading {
	const uint8_t *msg;
	size_t len, at;
	const struct key *asked;
	uint32_t rcode, flags, counts[3];        /* of answer, authority, additional */
	struct rr *rr;                           /* of the answer section */
	uint32_t n;
	uint8_t name[NAME_WIRE];                 /* where the CNAMEs lead, lower case */
	size_t name_len;
	uint32_t ttl, chain;                     /* least so far; CNAMEs followed */
	uint32_t soa_ttl, soas, referrals;
	const char *why;
};

struct reply *reply_ref(struct reply *r)
{
	r->refs++;
	return r;
}

void reply_unref(struct reply *r)
{
	if (r && --r->refs == 0)
		free(r);
}

static struct reply *reply_new(esp_status st, uint32_t n, size_t text)
{
	size_t bytes = sizeof(struct reply) + n * sizeof(esp_dns_record) + text;
	struct reply *r = calloc(1, bytes);

	if (r) {
		r->refs = 1;
		r->status = st;
		r->n = n;
		r->bytes = bytes;
	}
	return r;
}

struct reply *reply_fail(esp_status st, const char *why)
{
	struct reply *r = reply_new(st, 0, 0);

	if (r)
		r->why = why;
	return r;
}

static uint32_t get16(const uint8_t *p) { return (uint32_t)p[0] << 8 | p[1]; }
static uint32_t get32(const uint8_t *p) { return get16(p) << 16 | get16(p + 2); }

/* A time to live above 2^31 counts as 0 (RFC 2181, 8). */
static uint32_t get_ttl(const uint8_t *p)
{
	uint32_t ttl = get32(p);

	return ttl & 0x80000000u ? 0 : ttl;
}

static int malformed(struct reading *r, const char *why)
{
	r->why = why;
	return 0;
}

static int read_head(struct reading *r)
{
	uint8_t name[NAME_WIRE];
	size_t n;

	if (r->len < 12)
		return malformed(r, "the answer is shorter than a header");
	if (!(r->msg[2] & 0x80) || r->msg[2] & 0x78)
		return malformed(r, "the answer is no response to a query");
	if (r->msg[2] & 0x02)
		return malformed(r, "the answer is truncated over TCP as well");
	r->flags = r->msg[3];
	r->rcode = r->msg[3] & 15;
	if (get16(r->msg + 4) != 1)
		return malformed(r, "the answer does not repeat the question");
	for (uint32_t i = 0; i < 3; i++)
		r->counts[i] = get16(r->msg + 6 + 2 * i);
	r->at = 12;
	n = name_read(r->msg, r->len, &r->at, name);
	if (!n || r->len - r->at < 4)
		return malformed(r, "the question in the answer is malformed");
	if (n != r->asked->len || memcmp(name, r->asked->name, n) || get16(r->msg + r->at) != r->asked->type ||
		get16(r->msg + r->at + 2) != CLASS_IN)
		return malformed(r, "the answer is to another question");
	r->at += 4;
	memcpy(r->name, name, n);
	r->name_len = n;
	return 1;
}

static int read_rr(struct reading *r, struct rr *rr)
{
	uint8_t owner[NAME_WIRE];
	size_t start = r->at;

	if (!name_read(r->msg, r->len, &r->at, owner) || r->len - r->at < 10)
		return malformed(r, "a record in the answer is cut short, or its name is malformed");
	rr->owner = (uint32_t)start;
	rr->type = (uint16_t)get16(r->msg + r->at);
	rr->cls = (uint16_t)get16(r->msg + r->at + 2);
	rr->ttl = get_ttl(r->msg + r->at + 4);
	rr->rdlen = (uint16_t)get16(r->msg + r->at + 8);
	r->at += 10;
	rr->rdata = (uint32_t)r->at;
	if (rr->rdlen > r->len - r->at)
		return malformed(r, "a record says that it is longer than the answer");
	r->at += rr->rdlen;
	return 1;
}

static int read_answer_section(struct reading *r)
{
	uint32_t most = r->counts[0] < REPLY_RRS ? r->counts[0] : REPLY_RRS;

	r->rr = most ? calloc(most, sizeof *r->rr) : NULL;
	for (uint32_t i = 0; i < r->counts[0]; i++) {
		struct rr rr;

		if (!read_rr(r, &rr))
			return 0;
		if (r->n < most && r->rr)
			r->rr[r->n++] = rr;
	}
	return 1;
}

/* RFC 2308, 3: how long "there is none" lasts is the SOA's own time to live or its last number, whichever is less. */
static int read_soa(struct reading *r, const struct rr *rr)
{
	uint8_t name[NAME_WIRE];
	size_t at = rr->rdata, end = at + rr->rdlen;
	uint32_t minimum;

	if (!name_read(r->msg, end, &at, name) || !name_read(r->msg, end, &at, name) || at > end || end - at != 20)
		return malformed(r, "the SOA in the answer is malformed");
	minimum = get_ttl(r->msg + at + 16);
	if (!r->soas++)
		r->soa_ttl = rr->ttl < minimum ? rr->ttl : minimum;
	return 1;
}

static int read_other_sections(struct reading *r)
{
	struct rr rr;

	for (uint32_t i = 0; i < r->counts[1]; i++) {
		if (!read_rr(r, &rr))
			return 0;
		if (rr.type == TYPE_SOA && rr.cls == CLASS_IN && !read_soa(r, &rr))
			return 0;
		r->referrals += rr.type == ESP_DNS_NS;
	}
	for (uint32_t i = 0; i < r->counts[2]; i++) {
		if (!read_rr(r, &rr))
			return 0;
		if (rr.type == TYPE_OPT)         /* its class and TTL are other things: the upper bits of the RCODE */
			r->rcode |= get16(r->msg + rr.rdata - 6) >> 8 << 4;
	}
	return 1;
}

/* --- the records that were asked for ---------------------------------------------------------------------- */

static int is_owner(const struct reading *r, const struct rr *rr)
{
	uint8_t owner[NAME_WIRE];
	size_t at = rr->owner, n = name_read(r->msg, r->len, &at, owner);

	return n == r->name_len && memcmp(owner, r->name, n) == 0;
}

static void keep_least(struct reading *r, uint32_t ttl)
{
	if (ttl < r->ttl)
		r->ttl = ttl;
}

/* A name in the data of a record; it must end where the data ends. */
static int name_in(const struct reading *r, const struct rr *rr, size_t skip, uint8_t out[NAME_WIRE], size_t *ret_len)
{
	size_t at = rr->rdata + skip, end = rr->rdata + (size_t)rr->rdlen;

	if (skip > rr->rdlen)
		return 0;
	*ret_len = name_read_as_is(r->msg, end, &at, out);
	return *ret_len && at == end;
}

static const struct rr *find(const struct reading *r, uint32_t type)
{
	for (uint32_t i = 0; i < r->n; i++)
		if (r->rr[i].type == type && r->rr[i].cls == CLASS_IN && is_owner(r, &r->rr[i]))
			return &r->rr[i];
	return NULL;
}

static void become(struct reading *r, const uint8_t *name, size_t n)
{
	memcpy(r->name, name, n);
	r->name_len = n;
	for (size_t i = 0; i < n; i++)
		if (r->name[i] >= 'A' && r->name[i] <= 'Z')
			r->name[i] = (uint8_t)(r->name[i] + 32);
}

static int follow(struct reading *r)
{
	const struct rr *cname;
	uint8_t name[NAME_WIRE];
	size_t n;

	r->ttl = 0x7fffffff;
	while (!find(r, r->asked->type) && (cname = find(r, ESP_DNS_CNAME))) {
		if (r->chain++ == REPLY_CNAMES)
			return malformed(r, "the CNAMEs go in a circle, or on for too long");
		if (!name_in(r, cname, 0, name, &n))
			return malformed(r, "a CNAME is malformed");
		keep_least(r, cname->ttl);
		become(r, name, n);
	}
	return 1;
}

/* Where the text of the records goes; without memory it only counts. */
struct writer { char *p; size_t used; };

static esp_str put(struct writer *w, const void *data, size_t n)
{
	esp_str s = { w->p ? w->p + w->used : NULL, n };

	if (w->p) {
		memcpy(w->p + w->used, data, n);
		w->p[w->used + n] = 0;
	}
	w->used += n + 1;
	return s;
}

static int put_name(struct writer *w, const struct reading *r, const struct rr *rr, size_t skip, esp_str *ret)
{
	uint8_t name[NAME_WIRE];
	char text[NAME_TEXT];
	size_t n;

	if (!name_in(r, rr, skip, name, &n))
		return 0;
	*ret = put(w, text, name_text(name, text));
	return 1;
}

static int put_txt(struct writer *w, const struct reading *r, const struct rr *rr, esp_str *ret)
{
	const uint8_t *p = r->msg + rr->rdata;
	size_t left = rr->rdlen, start = w->used, n = 0;

	if (!left)
		return 0;
	while (left) {
		size_t part = *p;

		if (part + 1 > left)
			return 0;
		if (w->p)
			memcpy(w->p + start + n, p + 1, part);
		n += part;
		p += part + 1;
		left -= part + 1;
	}
	*ret = (esp_str){ w->p ? w->p + start : NULL, n };
	if (w->p)
		w->p[start + n] = 0;
	w->used += n + 1;
	return 1;
}

static int put_record(struct writer *w, const struct reading *r, const struct rr *rr, esp_dns_record *ret)
{
	const uint8_t *p = r->msg + rr->rdata;

	*ret = (esp_dns_record){ .type = rr->type };
	switch (rr->type) {
	case ESP_DNS_A:
	case ESP_DNS_AAAA:
		if (rr->rdlen != (rr->type == ESP_DNS_A ? 4 : 16))
			return 0;
		ret->data = put(w, p, rr->rdlen);
		return 1;
	case ESP_DNS_MX:
		if (rr->rdlen < 3)
			return 0;
		ret->preference = (uint16_t)get16(p);
		return put_name(w, r, rr, 2, &ret->data);
	case ESP_DNS_TXT:
		return put_txt(w, r, rr, &ret->data);
	case ESP_DNS_TLSA:
		if (rr->rdlen < 4)
			return 0;
		ret->usage = p[0];
		ret->selector = p[1];
		ret->matching = p[2];
		ret->data = put(w, p + 3, rr->rdlen - 3u);
		return 1;
	default:
		return put_name(w, r, rr, 0, &ret->data);
	}
}

/* All records of the type and name; with `out` NULL only counted and measured. */
static int put_records(struct writer *w, struct reading *r, esp_dns_record *out, uint32_t *ret_n)
{
	esp_dns_record one;
	uint32_t n = 0;

	for (uint32_t i = 0; i < r->n; i++) {
		const struct rr *rr = &r->rr[i];

		if (rr->type != r->asked->type || rr->cls != CLASS_IN || !is_owner(r, rr))
			continue;
		if (!put_record(w, r, rr, out ? &out[n] : &one))
			return malformed(r, "the data of a record is malformed");
		keep_least(r, rr->ttl);
		n++;
	}
	*ret_n = n;
	return 1;
}

static void sort_by_preference(esp_dns_record *rec, uint32_t n)
{
	for (uint32_t i = 1; i < n; i++) {
		esp_dns_record one = rec[i];
		uint32_t k = i;

		for (; k && rec[k - 1].preference > one.preference; k--)
			rec[k] = rec[k - 1];
		rec[k] = one;
	}
}

static struct reply *finish(const struct reading *r, struct reply *ret)
{
	if (ret) {
		ret->rcode = r->rcode;
		ret->flags |= r->flags & 0x20 ? ESP_DNS_AUTHENTIC : 0;
	}
	return ret;
}

static struct reply *with_name(const struct reading *r, struct reply *ret, struct writer *w)
{
	char text[NAME_TEXT];

	if (!ret)
		return NULL;
	ret->name = put(w, text, name_text(r->name, text));
	return finish(r, ret);
}

static struct reply *none(struct reading *r)
{
	char text[NAME_TEXT];
	struct reply *ret = reply_new(ESP_ENOENT, 0, name_text(r->name, text) + 1);
	struct writer w = { ret ? (char *)&ret->record[0] : NULL, 0 };

	if (!ret)
		return NULL;
	if (r->rcode == RCODE_NXDOMAIN)
		ret->flags |= ESP_DNS_NXDOMAIN;
	if (r->soas)                 /* without one it is not kept (RFC 2308, 5) */
		ret->ttl = r->soa_ttl < r->ttl ? r->soa_ttl : r->ttl;
	return with_name(r, ret, &w);
}

static struct reply *some(struct reading *r)
{
	char text[NAME_TEXT];
	struct writer w = { NULL, 0 };
	struct reply *ret;
	uint32_t n = 0;

	if (!put_records(&w, r, NULL, &n))
		return finish(r, reply_fail(ESP_EPROTO, r->why));
	if (n > ESP_DNS_RECORDS || r->counts[0] > REPLY_RRS)
		return finish(r, reply_fail(ESP_E2BIG, "the answer has too many records"));
	if (n && r->rcode == RCODE_NXDOMAIN)
		return finish(r, reply_fail(ESP_EPROTO, "the answer says that the name does not exist, and what it has"));
	if (n == 0 && (r->rcode == RCODE_NXDOMAIN || r->soas || !r->referrals || r->chain))
		return none(r);
	if (n == 0)
		return finish(r, reply_fail(ESP_EUNAVAIL, "the server names others instead of answering: it is no resolver"));
	ret = reply_new(ESP_OK, n, w.used + name_text(r->name, text) + 1);
	if (!ret)
		return NULL;
	w = (struct writer){ (char *)&ret->record[n], 0 };
	if (!put_records(&w, r, ret->record, &n))
		abort();                     /* it was good a moment ago */
	if (r->asked->type == ESP_DNS_MX)
		sort_by_preference(ret->record, n);
	ret->ttl = r->ttl;
	return with_name(r, ret, &w);
}

static const char *refusal(uint32_t rcode)
{
	switch (rcode) {
	case 1: return "the server could not read the question (FORMERR)";
	case 2: return "the server failed to find out (SERVFAIL)";
	case 4: return "the server does not do such questions (NOTIMP)";
	case 5: return "the server refuses to answer us (REFUSED): it must allow recursion to this machine";
	default: return "the server answered with an error";
	}
}

struct reply *reply_read(const uint8_t *msg, size_t len, const struct key *asked)
{
	struct reading r = { .msg = msg, .len = len, .asked = asked };
	struct reply *ret;

	if (!read_head(&r))
		return reply_fail(ESP_EPROTO, r.why);
	if (!read_answer_section(&r) || !read_other_sections(&r))
		ret = finish(&r, reply_fail(r.rcode && r.rcode != RCODE_NXDOMAIN ? ESP_EUNAVAIL : ESP_EPROTO, r.why));
	else if (r.counts[0] && !r.rr)
		ret = NULL;
	else if (r.rcode && r.rcode != RCODE_NXDOMAIN)
		ret = finish(&r, reply_fail(ESP_EUNAVAIL, refusal(r.rcode)));
	else if (!follow(&r))
		ret = finish(&r, reply_fail(ESP_EPROTO, r.why));
	else
		ret = some(&r);
	free(r.rr);
	return ret;
}
