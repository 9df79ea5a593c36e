/* head - see head.h. */
#include "head.h"
#include "target.h"

#include <llhttp.h>

#define BAD(why) ((struct fault){ 400, why })

/* --- llhttp ---------------------------------------------------------------------------------------------- */

struct parse {
	llhttp_t parser;
	struct head *head;
	int whole;
};

static struct parse *parse_of(llhttp_t *p) { return p->data; }

/* A string is one span: the head is one piece, and nothing in it is folded. */
static int take(esp_str *to, const char *at, size_t n)
{
	if (to->ptr && to->ptr + to->len != at)
		return -1;
	if (!to->ptr)
		to->ptr = at;
	to->len += n;
	return 0;
}

static int on_url(llhttp_t *p, const char *at, size_t n) { return take(&parse_of(p)->head->target, at, n); }

static int on_name(llhttp_t *p, const char *at, size_t n)
{
	struct head *h = parse_of(p)->head;

	return h->nfields < HEAD_FIELDS ? take(&h->fields[h->nfields].name, at, n) : -1;
}

static int on_value(llhttp_t *p, const char *at, size_t n)
{
	struct head *h = parse_of(p)->head;

	return h->nfields < HEAD_FIELDS ? take(&h->fields[h->nfields].value, at, n) : -1;
}

static int on_field(llhttp_t *p)
{
	struct head *h = parse_of(p)->head;

	h->fields[h->nfields].value = scan_trim(h->fields[h->nfields].value);
	if (++h->nfields < HEAD_FIELDS)
		h->fields[h->nfields] = (struct field){ { NULL, 0 }, { NULL, 0 } };
	return 0;
}

static int on_head(llhttp_t *p)
{
	parse_of(p)->whole = 1;
	return 0;
}

static const llhttp_settings_t *settings(void)
{
	static const llhttp_settings_t s = { .on_url = on_url, .on_header_field = on_name, .on_header_value = on_value,
		.on_header_value_complete = on_field, .on_headers_complete = on_head };

	return &s;
}

static struct fault run_parser(esp_str text, struct head *h, uint64_t *ret_length, int *ret_chunked)
{
	struct parse p = { .head = h };
	llhttp_errno_t rc;

	/* llhttp only reads its settings */
	llhttp_init(&p.parser, HTTP_REQUEST, (llhttp_settings_t *)(uintptr_t)settings());
	p.parser.data = &p;
	rc = llhttp_execute(&p.parser, text.ptr, text.len);
	/* an Upgrade is not taken up: the request is answered as any other (RFC 9110 7.8) */
	if ((rc != HPE_OK && rc != HPE_PAUSED_UPGRADE) || !p.whole)
		return BAD("the head cannot be read (RFC 9112)");
	*ret_length = p.parser.flags & F_CONTENT_LENGTH && !(p.parser.flags & F_CHUNKED) ? p.parser.content_length : 0;
	*ret_chunked = (p.parser.flags & F_CHUNKED) != 0;
	return FAULT_NONE;
}

/* --- what the fields say --------------------------------------------------------------------------------- */

const struct field *head_find(const struct head *h, const char *name, uint32_t *at)
{
	while (*at < h->nfields) {
		const struct field *f = &h->fields[(*at)++];

		if (scan_same(f->name, name))
			return f;
	}
	return NULL;
}

esp_str head_value(const struct head *h, const char *name)
{
	uint32_t at = 0;
	const struct field *f = head_find(h, name, &at);

	return f ? f->value : (esp_str){ NULL, 0 };
}

static uint32_t count(const struct head *h, const char *name)
{
	uint32_t n = 0, at = 0;

	while (head_find(h, name, &at))
		n++;
	return n;
}

/* A name or an address, perhaps with a port (RFC 9110 7.2). */
static int is_host(esp_str s)
{
	for (size_t i = 0; i < s.len; i++) {
		char c = s.ptr[i];

		if ((unsigned char)c <= 0x20 || (unsigned char)c >= 0x7f || strchr("\"#/<>?@\\^`{|}", c))
			return 0;
	}
	return s.len <= 255 + 6;
}

static struct fault read_host(struct head *h)
{
	uint32_t n = count(h, "Host");

	if (n > 1 || (n == 0 && h->minor == 1))
		return BAD("a request has one Host field");
	if (!h->host.ptr)              /* not in the target */
		h->host = head_value(h, "Host");
	return is_host(head_value(h, "Host")) && is_host(h->host) ? FAULT_NONE : BAD("Host is no name of a host");
}

/* How long is the body?  One answer, or none. */
static struct fault read_framing(struct head *h)
{
	uint32_t lengths = count(h, "Content-Length"), codings = count(h, "Transfer-Encoding");

	if (lengths && codings)
		return BAD("Content-Length and Transfer-Encoding in one request");
	if (lengths > 1 || codings > 1)
		return BAD("Content-Length or Transfer-Encoding twice");
	if (codings && h->minor == 0)
		return BAD("Transfer-Encoding in HTTP/1.0");
	if (codings && !scan_same(head_value(h, "Transfer-Encoding"), "chunked"))
		return (struct fault){ 501, "the only Transfer-Encoding here is chunked" };
	if (lengths && scan_number(head_value(h, "Content-Length"), &h->length) != ESP_OK)
		return BAD("Content-Length is no number");
	h->has_length = lengths == 1;
	h->chunked = codings == 1;
	return FAULT_NONE;
}

static struct fault read_connection(struct head *h)
{
	const struct field *f;
	esp_str rest, word;
	uint32_t at = 0;

	h->keep_alive = h->minor == 1;
	while ((f = head_find(h, "Connection", &at)))
		for (rest = f->value; scan_list(&rest, &word);)
			if (scan_same(word, "close"))
				return h->keep_alive = 0, FAULT_NONE;
			else if (scan_same(word, "keep-alive"))
				h->keep_alive = 1;
	return FAULT_NONE;
}

static struct fault read_expect(struct head *h)
{
	const struct field *f;
	uint32_t at = 0;

	while ((f = head_find(h, "Expect", &at))) {
		if (!scan_same(f->value, "100-continue"))
			return (struct fault){ 417, "the only Expect here is 100-continue" };
		h->expects = h->minor == 1;
	}
	return FAULT_NONE;
}

struct fault head_parse(esp_str text, struct head *h)
{
	static struct fault (*const readers[])(struct head *) = {
		target_read, read_host, read_framing, read_connection, read_expect
	};
	struct request_line line;
	const char *end = text.len ? memchr(text.ptr, '\r', text.len) : NULL;
	uint64_t length = 0;
	int chunked = 0;
	struct fault f;

	memset(h, 0, offsetof(struct head, fields));
	h->fields[0] = (struct field){ { NULL, 0 }, { NULL, 0 } };
	f = scan_request_line((esp_str){ text.ptr, end ? (size_t)(end - text.ptr) : 0 }, &line);
	if (!f.code)
		f = run_parser(text, h, &length, &chunked);
	if (!f.code && !esp_str_eq(h->target, line.target))
		f = BAD("the target cannot be read");
	h->method = line.method;
	h->target = line.target;
	h->minor = line.minor;
	for (size_t i = 0; !f.code && i < sizeof readers / sizeof readers[0]; i++)
		f = readers[i](h);
	/* two readers that understand a head differently: nobody knows where it ends */
	if (!f.code && (h->length != length || h->chunked != chunked))
		f = BAD("the length of the body is not clear");
	return f;
}
