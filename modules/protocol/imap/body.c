/* body - the bytes of BODY[...]: first where the sections of a message lie, then they.
 *
 * A client takes its time, so nothing large waits for it: only a small message stays in memory, of all others the
 * file is open, and read in pieces as they leave.  No service is held meanwhile; an expunged file can be read on.
 * Finding parts of a large message takes all of it for a moment: one at a time on each worker.
 */
#include "imap.h"

#include <stdlib.h>
#include <unistd.h>

#define SMALL (64u << 10)
#define PIECE (64u << 10)
#define COMPOSED_MAX (2u << 20)    /* bytes of all HEADER.FIELDS together */

static esp_imap_section section_of(const esp_imap_item *it)
{
	switch (it->kind) {
	case ESP_ITEM_RFC822: return (esp_imap_section){ .kind = ESP_SECTION_ALL };
	case ESP_ITEM_RFC822_HEADER: return (esp_imap_section){ .kind = ESP_SECTION_HEADER };
	case ESP_ITEM_RFC822_TEXT: return (esp_imap_section){ .kind = ESP_SECTION_TEXT };
	default: return it->section;
	}
}

int body_is(const esp_imap_item *it)
{
	return it->kind == ESP_ITEM_BODY_SECTION || it->kind == ESP_ITEM_RFC822 || it->kind == ESP_ITEM_RFC822_HEADER ||
	       it->kind == ESP_ITEM_RFC822_TEXT;
}

/* --- finding ------------------------------------------------------------------------------------------------- */

static int is_whole(const esp_imap_item *it)
{
	esp_imap_section section = section_of(it);

	return section.kind == ESP_SECTION_ALL && section.nparts == 0;
}

/* How much of the message, from its first byte, tells where its sections are; *ret_parse: at all. */
static uint64_t needed(const struct body *b, const esp_imap_item *item, uint32_t n, uint32_t header_len, int *ret_parse)
{
	int parts = 0;

	*ret_parse = 0;
	for (uint32_t i = 0; i < n; i++) {
		if (!body_is(&item[i]) || is_whole(&item[i]))
			continue;
		*ret_parse = 1;
		parts |= section_of(&item[i]).nparts != 0;
	}
	if (!*ret_parse)
		return 0;
	return parts || header_len == 0 || header_len > b->bytes ? b->bytes : header_len;
}

static esp_status find(struct body *b, const esp_mime *mime, const esp_imap_item *it, struct span *ret)
{
	esp_imap_section section = section_of(it);
	esp_buf scratch;
	esp_str s;
	esp_status st;

	*ret = (struct span){ .where = SPAN_FILE, .len = b->bytes };
	if (is_whole(it))
		return ESP_OK;
	if (section.nparts == 0 && section.kind == ESP_SECTION_TEXT) {
		ret->at = mime->part[0].header.len;
		ret->len -= ret->at;
		return ESP_OK;
	}
	esp_buf_init(&scratch, COMPOSED_MAX);
	st = esp_imap_section_resolve(mime, &section, &scratch, &s);
	if (st != ESP_OK)
		*ret = (struct span){ .where = SPAN_NONE };
	else if (s.len && s.ptr == scratch.data)
		*ret = (struct span){ SPAN_COMPOSED, b->composed.len, s.len };
	else
		*ret = (struct span){ SPAN_FILE, s.len ? (uint64_t)(s.ptr - mime->message.ptr) : 0, s.len };
	if (ret->where == SPAN_COMPOSED)
		st = esp_buf_add_str(&b->composed, s);
	else if (st != ESP_ENOMEM)
		st = ESP_OK;
	esp_buf_free(&scratch);
	return st;
}

static void cut(struct span *s, const esp_imap_item *it)
{
	uint64_t from;

	if (!it->has_partial)
		return;
	from = it->partial_offset < s->len ? it->partial_offset : s->len;
	s->at += from;
	s->len -= from;
	if (s->len > it->partial_count)
		s->len = it->partial_count;
}

static esp_status find_all(
	struct command *c, struct body *b, const esp_mime *mime, const esp_imap_item *item, uint32_t n)
{
	esp_status st = ESP_OK;

	for (uint32_t i = 0; st == ESP_OK && i < n; i++) {
		if (!body_is(&item[i]))
			continue;
		st = find(b, mime, &item[i], &b->span[i]);
		cut(&b->span[i], &item[i]);
		command_give_way(c);   /* fields of a large header cost time and may be asked for by the dozen */
	}
	return st;
}

/* The front of the message comes into memory, and stays when that is all of a small one. */
static esp_status look(struct command *c, struct body *b, const esp_imap_item *item, uint32_t n, uint32_t header_len)
{
	const esp_blob *blob = blob_of(c->s);
	esp_mime mime = { .n = 0 };
	int parse;
	uint64_t front = needed(b, item, n, header_len, &parse), len = b->bytes <= SMALL ? b->bytes : front;
	esp_status st = ESP_OK;

	if (len) {
		b->held = malloc(len);
		st = !b->held ? ESP_ENOMEM : blob ? blob->read_at(blob, b->fd, 0, b->held, len) : ESP_EUNAVAIL;
	}
	if (st == ESP_OK && parse)
		st = esp_mime_parse((esp_str){ b->held, front }, &mime);
	if (st == ESP_OK)
		st = find_all(c, b, &mime, item, n);
	esp_mime_free(&mime);
	if (b->bytes > SMALL) {
		free(b->held);
		b->held = NULL;
	}
	return st;
}

static esp_fmutex *large_here(const struct imap *m)
{
	const esp_loop_api *loop = m->core.loop;

	return &m->large[loop->index(loop->here())];
}

esp_status body_find(
	struct command *c, esp_id id, uint32_t header_len, const esp_imap_item *item, uint32_t n, struct body *ret)
{
	struct session *s = c->s;
	const esp_fiber_api *fiber = s->imap->core.fiber;
	const esp_blob *blob = blob_of(s);
	esp_fmutex *large = NULL;
	esp_status st;

	*ret = (struct body){ .fd = -1 };
	esp_buf_init(&ret->composed, COMPOSED_MAX);
	st = blob ? blob->descriptor(blob, id, &ret->fd, &ret->bytes) : ESP_EUNAVAIL;
	if (st == ESP_OK && ret->bytes > SMALL) {
		large = large_here(s->imap);
		s->imap->core.host->give_back();       /* others may be at it for some time */
		st = fiber->lock(large);
	}
	if (st != ESP_OK)
		return st;
	st = look(c, ret, item, n, header_len);
	if (large)
		fiber->unlock(large);
	return st;
}

void body_end(struct body *b)
{
	free(b->held);
	esp_buf_free(&b->composed);
	if (b->fd >= 0)
		(void)close(b->fd);
	*b = (struct body){ .fd = -1 };
}

/* --- sending ------------------------------------------------------------------------------------------------- */

/* A literal that was announced cannot be taken back: the connection ends when the rest cannot be read. */
static void put_pieces(struct command *c, const struct body *b, uint64_t at, uint64_t len)
{
	struct session *s = c->s;
	char *piece = malloc(PIECE);
	esp_status st = piece ? ESP_OK : ESP_ENOMEM;

	while (st == ESP_OK && c->io == ESP_OK && len) {
		const esp_blob *blob = blob_of(s);
		size_t n = len < PIECE ? (size_t)len : PIECE;
		st = blob ? blob->read_at(blob, b->fd, at, piece, n) : ESP_EUNAVAIL;
		if (st == ESP_OK)
			out_bytes(c, (esp_str){ piece, n });
		at += n;
		len -= n;
	}
	free(piece);
	if (st == ESP_OK || c->io != ESP_OK)
		return;
	c->io = st;
	esp_log(s->imap->core.log, s->imap->self, ESP_LOG_ERROR,
		"a message could not be read to its end, its reader was cut off", ESP_FSTR("user", s->actor.login),
		ESP_FINT("status", st));
}

void body_put(struct command *c, const struct body *b, uint32_t i)
{
	const struct span *s = &b->span[i];

	if (s->where == SPAN_NONE) {
		(void)esp_buf_add_z(&c->out, "NIL");
		return;
	}
	(void)esp_buf_addf(&c->out, "{%llu}\r\n", (unsigned long long)s->len);
	if (s->len == 0)
		return;
	if (s->where == SPAN_COMPOSED)
		out_bytes(c, (esp_str){ b->composed.data + s->at, s->len });
	else if (b->held)
		out_bytes(c, (esp_str){ b->held + s->at, s->len });
	else
		put_pieces(c, b, s->at, s->len);
}
