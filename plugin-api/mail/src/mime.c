/* mime.c - MIME structure in one pass over the lines (esp/mail/mime.h).
 *
 * Owns the index until esp_mime_free, and a stack of open boundaries during the parse.  Errors: ESP_ENOMEM only.
 */
#include "lex.h"
#include <esp/mail/mime.h>
#include <stdlib.h>

/* A multipart whose boundary may still come. */
struct open_part { uint32_t part; uint32_t last_child, count; uint32_t len; char boundary[ESP_MIME_BOUNDARY_MAX]; };

struct parser {
	esp_mime *m;
	esp_str s;
	size_t at;                 /* start of the line to look at next */
	uint32_t lf;               /* line ends before `at` */
	uint32_t open;             /* entries of `stack` */
	uint32_t leaf;             /* deepest part whose body runs */
	struct open_part *stack;   /* ESP_MIME_DEPTH_MAX + 1 */
	uint32_t *body_lf;         /* line ends before each part's body; as long as the index */
};

static size_t line_end(esp_str s, size_t at)
{
	const char *nl = at < s.len ? memchr(s.ptr + at, '\n', s.len - at) : NULL;

	return nl ? (size_t)(nl - s.ptr) + 1 : s.len;
}

/* The index of the open multipart whose boundary this line is, or -1; *ret_last for the closing one. */
static int match_boundary(const struct parser *p, size_t at, size_t end, bool *ret_last)
{
	esp_str line = esp_str_of(p->s.ptr + at, end - at);
	uint32_t i;

	if (line.len < 3 || line.ptr[0] != '-' || line.ptr[1] != '-')
		return -1;
	while (line.len && lex_is_wsp((unsigned char)line.ptr[line.len - 1]))
		line.len--;
	for (i = p->open; i-- > 0;) {
		const struct open_part *o = &p->stack[i];
		esp_str rest;

		if (line.len < 2 + (size_t)o->len || memcmp(line.ptr + 2, o->boundary, o->len) != 0)
			continue;
		rest = esp_str_of(line.ptr + 2 + o->len, line.len - 2 - o->len);
		*ret_last = rest.len == 2 && memcmp(rest.ptr, "--", 2) == 0;
		if (rest.len == 0 || *ret_last)
			return (int)i;
	}
	return -1;
}

static esp_status add_part(struct parser *p, uint32_t parent, uint32_t number, uint32_t *ret)
{
	esp_mime *m = p->m;
	esp_mime_part *part;

	if (m->n == m->cap) {
		uint32_t cap = m->cap ? m->cap * 2 : 8;
		esp_mime_part *parts = realloc(m->part, cap * sizeof(*parts));
		uint32_t *lf;

		if (!parts)
			return ESP_ENOMEM;
		m->part = parts;
		lf = realloc(p->body_lf, cap * sizeof(*lf));
		if (!lf)
			return ESP_ENOMEM;
		p->body_lf = lf;
		m->cap = cap;
	}
	part = &m->part[m->n];
	memset(part, 0, sizeof(*part));
	part->parent = parent;
	part->number = number;
	part->depth = m->n ? m->part[parent].depth + 1 : 0;
	*ret = m->n++;
	return ESP_OK;
}

/* The part's fields that structure and BODYSTRUCTURE need; the first of each counts. */
static void read_header(esp_mime_part *part)
{
	esp_header h = esp_header_of(part->header);
	esp_header_field f;
	const struct { const char *name; esp_str *value; } want[] = {
		{ "type", &part->content_type }, { "transfer-encoding", &part->encoding },
		{ "disposition", &part->disposition },
		{ "id", &part->id }, { "description", &part->description }, { "language", &part->language },
		{ "location", &part->location }, { "md5", &part->md5 },
	};
	size_t i;

	while (esp_header_next(&h, &f) == ESP_OK) {
		if (f.name.len < 10 || !esp_str_is(esp_str_of(f.name.ptr, 8), "content-"))
			continue;
		for (i = 0; i < sizeof(want) / sizeof(*want); i++)
			if (want[i].value->len == 0 && esp_str_is(esp_str_of(f.name.ptr + 8, f.name.len - 8), want[i].name))
				*want[i].value = f.value;
	}
}

static void set_opaque(esp_mime_part *part, const char *type, const char *subtype)
{
	part->type = esp_str_z(type);
	part->subtype = esp_str_z(subtype);
	part->flags = ESP_MIME_OPAQUE | (esp_str_is(part->type, "text") ? ESP_MIME_TEXT : 0u);
}

/* Opens a multipart: false when it has no usable boundary. */
static bool open_multipart(struct parser *p, uint32_t index, esp_params params)
{
	struct open_part *o = &p->stack[p->open];
	esp_buf b;

	esp_buf_init_fixed(&b, o->boundary, sizeof(o->boundary));
	if (esp_params_get(params, "boundary", &b) != ESP_OK || b.len == 0)
		return false;
	while (b.len && b.data[b.len - 1] == ' ') /* RFC 2046 5.1.1: never ends in space */
		b.len--;
	o->len = (uint32_t)b.len;
	o->part = index;
	o->last_child = o->count = 0;
	p->open += o->len > 0;
	return o->len > 0;
}

/* What the part is, from its header; a container that may be opened is opened. */
static void classify(struct parser *p, uint32_t index)
{
	esp_mime_part *part = &p->m->part[index];
	bool digest = index && (p->m->part[part->parent].flags & ESP_MIME_MULTIPART) &&
		      esp_str_is(p->m->part[part->parent].subtype, "digest");
	bool room = part->depth < ESP_MIME_DEPTH_MAX && p->m->n < ESP_MIME_PARTS_MAX;
	esp_params params;

	read_header(part);
	if (esp_media_type_parse(part->content_type, &part->type, &part->subtype, &params) != ESP_OK) {
		part->type = digest ? ESP_STR("message") : ESP_STR("text");
		part->subtype = digest ? ESP_STR("rfc822") : ESP_STR("plain");
		part->flags |= ESP_MIME_DEFAULTED;
	}
	if (esp_str_is(part->type, "multipart")) {
		if (!room)
			set_opaque(part, "application", "octet-stream");
		else if (open_multipart(p, index, params))
			part->flags |= ESP_MIME_MULTIPART;
		else
			set_opaque(part, "text", "plain"); /* RFC 2045 5.2: unusable Content-Type */
	} else if (esp_str_is(part->type, "message") &&
		   (esp_str_is(part->subtype, "rfc822") || esp_str_is(part->subtype, "global"))) {
		if (!room || esp_mime_encoding(part) != ESP_MIME_IDENTITY)
			set_opaque(part, "application", "octet-stream");
		else
			part->flags |= ESP_MIME_MESSAGE;
	} else if (esp_str_is(part->type, "text")) {
		part->flags |= ESP_MIME_TEXT;
	}
}

/* Takes the header of `index` at p->at: up to its empty line, a boundary around it, or the end. */
static void take_header(struct parser *p, uint32_t index)
{
	esp_mime_part *part = &p->m->part[index];
	size_t from = p->at;
	bool last;

	while (p->at < p->s.len) {
		size_t end = line_end(p->s, p->at);
		bool empty = p->s.ptr[p->at] == '\n' || (p->s.ptr[p->at] == '\r' && end - p->at == 2);

		if (match_boundary(p, p->at, end, &last) >= 0)
			break;
		p->lf += p->s.ptr[end - 1] == '\n';
		p->at = end;
		if (empty)
			break;
	}
	part->header = esp_str_of(p->s.ptr + from, p->at - from);
	part->body = esp_str_of(p->s.ptr + p->at, 0);
	p->body_lf[index] = p->lf;
	p->leaf = index;
}

/* Starts a part at p->at, and the messages inside it while it is message/rfc822. */
static esp_status begin_part(struct parser *p, uint32_t parent, uint32_t number, uint32_t *ret)
{
	uint32_t index, inner;
	esp_status st = add_part(p, parent, number, &index);

	*ret = index;
	while (st == ESP_OK) {
		take_header(p, index);
		classify(p, index);
		if (!(p->m->part[index].flags & ESP_MIME_MESSAGE))
			return ESP_OK;
		st = add_part(p, index, 1, &inner);
		if (st == ESP_OK)
			p->m->part[index].child = inner;
		index = inner;
	}
	return st;
}

/* Ends the bodies from the running leaf up to (not including) `upto`, at byte `end`, before which there are `lf`
 * line ends. */
static void close_parts(struct parser *p, uint32_t upto, size_t end, uint32_t lf)
{
	uint32_t i;

	for (i = p->leaf; i != upto; i = p->m->part[i].parent) {
		esp_mime_part *part = &p->m->part[i];
		size_t from = (size_t)(part->body.ptr - p->s.ptr), head = (size_t)(part->header.ptr - p->s.ptr);

		if (from > end) { /* a boundary right behind the header: the line end before it is the boundary's */
			part->header = esp_str_of(p->s.ptr + (head < end ? head : end), head < end ? end - head : 0);
			part->body.ptr = p->s.ptr + end;
			from = end;
		}
		part->body.len = end > from ? end - from : 0;
		part->lines = part->body.len && lf > p->body_lf[i] ? lf - p->body_lf[i] : 0;
		if (part->body.len && part->body.ptr[part->body.len - 1] != '\n')
			part->lines++;
		if (i == 0)
			return;
	}
}

/* A boundary line [p->at, end) of stack entry `k`. */
static esp_status take_boundary(struct parser *p, uint32_t k, size_t end, bool last)
{
	struct open_part *o = &p->stack[k];
	size_t stop = p->at;
	uint32_t lf = p->lf, index;
	esp_status st;

	if (stop > 0 && p->s.ptr[stop - 1] == '\n') { /* the line end before it belongs to it */
		stop--;
		lf--;
		if (stop > 0 && p->s.ptr[stop - 1] == '\r')
			stop--;
	}
	close_parts(p, o->part, stop, lf);
	p->leaf = o->part;
	p->lf += p->s.ptr[end - 1] == '\n';
	p->at = end;
	p->open = last ? k : k + 1;
	if (last)
		return ESP_OK;
	st = begin_part(p, o->part, ++o->count, &index);
	if (st == ESP_OK) {
		if (o->last_child)
			p->m->part[o->last_child].next = index;
		else
			p->m->part[o->part].child = index;
		o->last_child = index;
	}
	return st;
}

static esp_status run(struct parser *p)
{
	uint32_t root;
	esp_status st = begin_part(p, 0, 0, &root);

	while (st == ESP_OK && p->at < p->s.len) {
		size_t end = line_end(p->s, p->at);
		bool last = false;
		int k = match_boundary(p, p->at, end, &last);

		if (k >= 0 && (last || p->m->n < ESP_MIME_PARTS_MAX)) {
			st = take_boundary(p, (uint32_t)k, end, last);
			continue;
		}
		p->lf += p->s.ptr[end - 1] == '\n';
		p->at = end;
	}
	if (st == ESP_OK)
		close_parts(p, UINT32_MAX, p->s.len, p->lf);
	return st;
}

esp_status esp_mime_parse(esp_str message, esp_mime *ret)
{
	struct parser p = { .m = ret };
	esp_status st = ESP_ENOMEM;

	if (!message.ptr)
		message.ptr = "";
	memset(ret, 0, sizeof(*ret));
	ret->message = p.s = message;
	if (message.len > UINT32_MAX)
		return ESP_ENOMEM;
	p.stack = malloc((ESP_MIME_DEPTH_MAX + 1) * sizeof(*p.stack));
	if (p.stack)
		st = run(&p);
	free(p.stack);
	free(p.body_lf);
	if (st != ESP_OK)
		esp_mime_free(ret);
	return st;
}

void esp_mime_free(esp_mime *m)
{
	free(m->part);
	m->part = NULL;
	m->n = m->cap = 0;
}

uint32_t esp_mime_encoding(const esp_mime_part *part)
{
	esp_str e = esp_token_parse(part->encoding, NULL);

	if (e.len == 0 || esp_str_is(e, "7bit") || esp_str_is(e, "8bit") || esp_str_is(e, "binary"))
		return ESP_MIME_IDENTITY;
	if (esp_str_is(e, "quoted-printable"))
		return ESP_MIME_QP;
	return esp_str_is(e, "base64") ? ESP_MIME_BASE64 : ESP_MIME_OTHER;
}

esp_params esp_mime_params(const esp_mime_part *part)
{
	esp_str type, subtype;
	esp_params p;

	if ((part->flags & (ESP_MIME_OPAQUE | ESP_MIME_DEFAULTED)) ||
	    esp_media_type_parse(part->content_type, &type, &subtype, &p) != ESP_OK)
		memset(&p, 0, sizeof(p));
	return p;
}
