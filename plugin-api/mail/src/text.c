/* text.c - text of parts, decoded in pieces (esp/mail/text.h).
 *
 * transfer encoding -> charset -> HTML and white space -> folding; each stage writes whole characters into the buffer
 * of the next.  Owns three buffers and an iconv descriptor between open and close.
 */
#include <esp/mail/text.h>
#include <esp/mail/utf8.h>

#define PIECE (64u * 1024u)

enum { IN_TEXT = 0, IN_ENTITY, TAG_NAME, IN_TAG, IN_COMMENT };
enum { SKIP_NONE = 0, SKIP_SCRIPT, SKIP_STYLE, SKIP_HEAD };

esp_status esp_text_open(esp_text *t, uint32_t encoding, esp_str charset, uint32_t how)
{
	esp_status st;

	memset(t, 0, sizeof(*t));
	t->encoding = encoding;
	t->how = how;
	esp_buf_init(&t->raw, PIECE + 256);
	esp_buf_init(&t->utf8, (PIECE + 256) * 4);
	esp_buf_init(&t->plain, (PIECE + 256) * 4);
	st = esp_charset_open(&t->charset, charset);
	if (st == ESP_ENOENT)
		st = esp_charset_open(&t->charset, ESP_STR("utf-8"));
	return st;
}

esp_status esp_text_open_part(esp_text *t, const esp_mime_part *part, uint32_t how)
{
	char mem[64];
	esp_buf charset;

	esp_buf_init_fixed(&charset, mem, sizeof(mem));
	if (esp_params_get(esp_mime_params(part), "charset", &charset) != ESP_OK)
		esp_buf_reset(&charset);
	if ((part->flags & ESP_MIME_TEXT) && esp_str_is(part->subtype, "html"))
		how |= ESP_TEXT_HTML;
	return esp_text_open(t, esp_mime_encoding(part), esp_buf_str(&charset), how);
}

void esp_text_close(esp_text *t)
{
	esp_charset_close(&t->charset);
	esp_buf_free(&t->raw);
	esp_buf_free(&t->utf8);
	esp_buf_free(&t->plain);
}

/* A character of readable text. */
static void put(esp_text *t, uint32_t ch)
{
	if (t->how & ESP_TEXT_SPACE) {
		if (ch <= 32 || ch == 127 || ch == 0xa0 || ch == 0x200b || ch == 0xfeff) {
			t->space = 1;
			return;
		}
		if (t->space && t->started)
			esp_buf_add_char(&t->plain, ' ');
		t->space = 0;
		t->started = 1;
	}
	esp_utf8_add(&t->plain, ch);
}

/* What an entity's name means, or 0. */
static uint32_t entity(const char *name, size_t n)
{
	static const struct { const char *name; uint32_t ch;
	} known[] = {
		{ "amp", '&' },
		{ "lt", '<' },
		{ "gt", '>' },
		{ "quot", '"' },
		{ "apos", '\'' },
		{ "nbsp", 0xa0 },
		{ "auml", 0xe4 },
		{ "ouml", 0xf6 },
		{ "uuml", 0xfc },
		{ "Auml", 0xc4 },
		{ "Ouml", 0xd6 },
		{ "Uuml", 0xdc },
		{ "szlig", 0xdf },
		{ "eacute", 0xe9 },
		{ "egrave", 0xe8 },
		{ "agrave", 0xe0 },
		{ "ccedil", 0xe7 },
		{ "copy", 0xa9 },
		{ "reg", 0xae },
		{ "euro", 0x20ac },
		{ "ndash", 0x2013 },
		{ "mdash", 0x2014 },
		{ "hellip", 0x2026 },
		{ "rsquo", 0x2019 },
		{ "lsquo", 0x2018 },
		{ "rdquo", 0x201d },
		{ "ldquo", 0x201c },
		{ "zwnj", 0x200c },
	};
	uint32_t ch = 0;
	size_t i;

	if (n > 1 && name[0] == '#') {
		bool hex = name[1] == 'x' || name[1] == 'X';

		for (i = hex ? 2 : 1; i < n; i++) {
			int d = esp_ascii_hex((unsigned char)name[i]);

			if (d < 0 || (!hex && d > 9) || ch > 0x10ffff)
				return 0;
			ch = ch * (hex ? 16 : 10) + (uint32_t)d;
		}
		return ch;
	}
	for (i = 0; i < sizeof(known) / sizeof(*known); i++)
		if (strlen(known[i].name) == n && memcmp(known[i].name, name, n) == 0)
			return known[i].ch;
	return 0;
}

/* "&..." that turned out to be no entity is text. */
static void flush_entity(esp_text *t)
{
	uint32_t i;

	put(t, '&');
	for (i = 0; i < t->nname; i++)
		put(t, (unsigned char)t->name[i]);
	t->state = IN_TEXT;
}

static void end_tag_name(esp_text *t)
{
	static const struct { const char *name; uint32_t skip; } elements[] = {
		{ "script", SKIP_SCRIPT }, { "style", SKIP_STYLE }, { "head", SKIP_HEAD },
	};
	bool closing = t->nname && t->name[0] == '/';
	esp_str name = esp_str_of(t->name + closing, t->nname - closing);
	size_t i;

	for (i = 0; i < sizeof(elements) / sizeof(*elements); i++)
		if (esp_str_is(name, elements[i].name)) {
			if (closing && t->skip == elements[i].skip)
				t->skip = SKIP_NONE;
			else if (!closing && !t->skip)
				t->skip = elements[i].skip;
		}
	if (!t->skip)
		put(t, ' ');
	t->state = IN_TAG;
}

static void html(esp_text *t, uint32_t ch)
{
	switch (t->state) {
	case IN_TEXT:
		if (ch == '<' || (ch == '&' && !t->skip)) {
			t->state = ch == '<' ? TAG_NAME : IN_ENTITY;
			t->nname = 0;
		} else if (!t->skip) {
			put(t, ch);
		}
		return;
	case IN_ENTITY:
		if (ch == ';' && entity(t->name, t->nname)) {
			put(t, entity(t->name, t->nname));
			t->state = IN_TEXT;
		} else if (ch < 128 && (esp_ascii_isalnum((int)ch) || ch == '#') && t->nname < sizeof(t->name)) {
			t->name[t->nname++] = (char)ch;
		} else {
			flush_entity(t);
			html(t, ch); /* fiber-ok: once, for the state is IN_TEXT now */
		}
		return;
	case TAG_NAME:
		if (t->nname == 3 && memcmp(t->name, "!--", 3) == 0) {
			t->state = IN_COMMENT;
			t->nname = ch == '-';
			return;
		}
		if (ch < 128 && (esp_ascii_isalnum((int)ch) || ch == '/' || ch == '!' || ch == '-') &&
			t->nname < sizeof(t->name)) {
			t->name[t->nname++] = (char)ch;
			return;
		}
		end_tag_name(t);
		/* fall through */
	case IN_TAG:
		if (ch == '>')
			t->state = IN_TEXT;
		return;
	default: /* IN_COMMENT: nname counts dashes */
		if (ch == '>' && t->nname >= 2)
			t->state = IN_TEXT;
		t->nname = ch == '-' ? t->nname + (t->nname < 2) : 0;
		return;
	}
}

/* utf8 -> plain -> out. */
static esp_status finish(esp_text *t, esp_buf *out)
{
	esp_str s = esp_buf_str(&t->utf8);
	esp_status st = t->raw.err ? t->raw.err : t->utf8.err;

	esp_buf_reset(&t->plain);
	if (t->how & (ESP_TEXT_HTML | ESP_TEXT_SPACE)) {
		while (s.len) {
			uint32_t ch = 0xfffd;
			int n = esp_utf8_next(s, &ch);

			n = n > 0 ? n : 1;
			if (t->how & ESP_TEXT_HTML)
				html(t, ch);
			else
				put(t, ch);
			s.ptr += n;
			s.len -= (size_t)n;
		}
		s = esp_buf_str(&t->plain);
	}
	if (t->how & ESP_TEXT_FOLD)
		esp_fold_unicode(s, out);
	else
		esp_buf_add_str(out, s);
	return st ? st : t->plain.err ? t->plain.err : out->err;
}

esp_status esp_text_feed(esp_text *t, esp_str in, esp_buf *out)
{
	if (in.len > PIECE)
		return ESP_EINVAL;
	esp_buf_reset(&t->raw);
	esp_buf_reset(&t->utf8);
	if (t->encoding == ESP_MIME_BASE64)
		esp_base64_feed(&t->base64, in, &t->raw);
	else if (t->encoding == ESP_MIME_QP)
		esp_qp_feed(&t->qp, in, &t->raw);
	else
		return esp_charset_feed(&t->charset, in, &t->utf8), finish(t, out);
	esp_charset_feed(&t->charset, esp_buf_str(&t->raw), &t->utf8);
	return finish(t, out);
}

esp_status esp_text_end(esp_text *t, esp_buf *out)
{
	esp_status st;

	esp_buf_reset(&t->raw);
	esp_buf_reset(&t->utf8);
	if (t->encoding == ESP_MIME_QP)
		esp_qp_end(&t->qp, &t->raw);
	esp_charset_feed(&t->charset, esp_buf_str(&t->raw), &t->utf8);
	esp_charset_end(&t->charset, &t->utf8);
	st = finish(t, out);
	if (st == ESP_OK && (t->how & ESP_TEXT_HTML) && t->state == IN_ENTITY) {
		esp_buf_reset(&t->utf8);
		esp_buf_reset(&t->plain);
		flush_entity(t);
		if (t->how & ESP_TEXT_FOLD)
			esp_fold_unicode(esp_buf_str(&t->plain), out);
		else
			esp_buf_add_str(out, esp_buf_str(&t->plain));
	}
	return st ? st : out->err;
}

esp_status esp_text_fold_header(esp_str value, esp_buf *out)
{
	esp_buf decoded;
	esp_status st;

	esp_buf_init(&decoded, value.len * 4 + 64);
	st = esp_header_decode(value, &decoded);
	if (st == ESP_OK)
		st = esp_fold_unicode(esp_buf_str(&decoded), out);
	esp_buf_free(&decoded);
	return st;
}

esp_status esp_text_fold_key(esp_str utf8, esp_buf *out)
{
	return esp_fold_unicode(utf8, out);
}

/* Feeds a body piece by piece and looks for the key in the folded text, keeping what could be its start. */
static int body_contains(const esp_mime_part *part, esp_str key, esp_buf *window)
{
	esp_str body = part->body;
	esp_text t;
	esp_status st = esp_text_open_part(&t, part, ESP_TEXT_FOLD);
	int found = 0;

	esp_buf_reset(window);
	while (st == ESP_OK && !found) {
		esp_str piece = esp_str_of(body.ptr, body.len < 16384 ? body.len : 16384);
		bool last = body.len == 0;

		st = last ? esp_text_end(&t, window) : esp_text_feed(&t, piece, window);
		body.ptr += piece.len;
		body.len -= piece.len;
		found = window->len >= key.len && memmem(window->data, window->len, key.ptr, key.len) != NULL;
		if (last)
			break;
		if (window->len >= key.len) {
			memmove(window->data, window->data + window->len - (key.len - 1), key.len - 1);
			window->len = key.len - 1;
		}
	}
	esp_text_close(&t);
	return st != ESP_OK ? st : found;
}

/* "name: value", folded. */
static esp_status field_fold(const esp_header_field *f, esp_buf *out)
{
	esp_fold_unicode(f->name, out);
	if (f->name.len)
		esp_buf_add_z(out, ": ");
	if (esp_text_fold_header(f->value, out) != ESP_OK)
		return out->err ? out->err : ESP_ENOMEM;
	return out->err;
}

static int header_contains(esp_str header, esp_str key, esp_buf *window)
{
	esp_header h = esp_header_of(header);
	esp_header_field f;

	while (esp_header_next(&h, &f) == ESP_OK) {
		esp_buf_reset(window);
		if (field_fold(&f, window) != ESP_OK)
			return window->err ? window->err : ESP_ENOMEM;
		if (window->len >= key.len && memmem(window->data, window->len, key.ptr, key.len))
			return 1;
	}
	return 0;
}

int esp_text_contains(const esp_mime *m, esp_str key, bool body_only)
{
	esp_buf window;
	uint32_t i;
	int rc = 0;

	if (key.len == 0)
		return 1;
	esp_buf_init(&window, m->message.len * 20 + key.len + (1u << 21));
	for (i = 0; i < m->n && rc == 0; i++) {
		const esp_mime_part *part = &m->part[i];

		if (i > 0 || !body_only)
			rc = header_contains(part->header, key, &window);
		if (rc == 0 && (part->flags & ESP_MIME_TEXT))
			rc = body_contains(part, key, &window);
	}
	esp_buf_free(&window);
	return rc;
}

/* --- everything at once ------------------------------------------------------------------------------ */

static esp_status header_collect(esp_str header, char end, esp_buf *out)
{
	esp_header h = esp_header_of(header);
	esp_header_field f;
	esp_status st = ESP_OK;

	while (st == ESP_OK && esp_header_next(&h, &f) == ESP_OK) {
		st = field_fold(&f, out);
		if (st == ESP_OK)
			st = esp_buf_add_char(out, end);
	}
	return st;
}

static esp_status body_collect(const esp_mime_part *part, char end, esp_buf *out)
{
	esp_str body = part->body;
	esp_text t;
	esp_status st = esp_text_open_part(&t, part, ESP_TEXT_FOLD);

	while (st == ESP_OK && body.len) {
		size_t n = body.len < 16384 ? body.len : 16384;

		st = esp_text_feed(&t, esp_str_of(body.ptr, n), out);
		body.ptr += n;
		body.len -= n;
	}
	if (st == ESP_OK)
		st = esp_text_end(&t, out);
	esp_text_close(&t);
	return st == ESP_OK ? esp_buf_add_char(out, end) : st;
}

esp_status esp_text_collect(const esp_mime *m, uint32_t which, char end, esp_buf *out)
{
	esp_status st = out->err;

	for (uint32_t i = 0; i < m->n && st == ESP_OK; i++) {
		const esp_mime_part *part = &m->part[i];

		if (which & (i ? ESP_TEXT_BODY : ESP_TEXT_OWN_HEADER))
			st = header_collect(part->header, end, out);
		if (st == ESP_OK && (which & ESP_TEXT_BODY) && (part->flags & ESP_MIME_TEXT))
			st = body_collect(part, end, out);
	}
	return st;
}
