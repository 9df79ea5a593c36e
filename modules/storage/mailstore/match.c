/* match - see match.h.  All memory is freed before a function returns; nothing suspends. */
#include "match.h"

#include <esp/mail/charset.h>
#include <esp/mail/encoding.h>
#include <esp/mail/mime.h>

#define NEEDLE_MAX (64u << 10)
#define FIELD_MAX  (4u * ESP_HEADER_FIELD_MAX)
#define PIECE      (16u << 10)     /* encoded bytes decoded at a time */
#define PIECE_MAX  (256u << 10)    /* what they may become */

static int holds(esp_str hay, esp_str needle)
{
	return needle.len == 0 || (hay.len >= needle.len && memmem(hay.ptr, hay.len, needle.ptr, needle.len) != NULL);
}

esp_status match_fold(esp_arena *a, esp_str text, esp_str *ret)
{
	esp_buf b;
	esp_status st;

	esp_buf_init(&b, NEEDLE_MAX);
	st = esp_fold_unicode(text, &b);
	if (st == ESP_OK) {
		*ret = esp_strdup_in(a, esp_buf_str(&b));
		st = ret->ptr ? ESP_OK : ESP_ENOMEM;
	}
	esp_buf_free(&b);
	return st;
}

/* --- headers ------------------------------------------------------------------------------------------------------- */

/* A value too long to decode within the bound does not match; only lack of memory is an error. */
static esp_status match_value(esp_buf *decoded, esp_buf *folded, esp_str value, esp_str needle, int *ret)
{
	esp_buf_reset(decoded);
	esp_buf_reset(folded);
	if (esp_header_decode(value, decoded) == ESP_OK)
		(void)esp_fold_unicode(esp_buf_str(decoded), folded);
	*ret = holds(esp_buf_str(folded), needle);
	return decoded->err == ESP_ENOMEM || folded->err == ESP_ENOMEM ? ESP_ENOMEM : ESP_OK;
}

/* `name` empty: every field, and its name counts as text. */
static esp_status match_fields(esp_str header, esp_str name, esp_str needle, int *ret)
{
	esp_header h = esp_header_of(header);
	esp_header_field f;
	esp_buf decoded, folded;
	esp_status st = ESP_OK;

	esp_buf_init(&decoded, FIELD_MAX);
	esp_buf_init(&folded, FIELD_MAX);
	*ret = 0;
	while (st == ESP_OK && !*ret && esp_header_next(&h, &f) == ESP_OK)
		if (name.len == 0 || esp_str_ieq(f.name, name))
			st = match_value(&decoded, &folded, name.len ? f.value : f.raw, needle, ret);
	esp_buf_free(&decoded);
	esp_buf_free(&folded);
	return st;
}

esp_status match_header(esp_str content, esp_str name, esp_str needle, int *ret)
{
	return match_fields((esp_str){ content.ptr, esp_header_length(content) }, name, needle, ret);
}

/* --- bodies -------------------------------------------------------------------------------------------------------- */

/* A text part on its way: encoded -> bytes -> UTF-8 -> folded. */
struct text {
	uint32_t encoding;
	esp_base64 base64;
	esp_qp qp;
	esp_charset charset;
	esp_buf bytes, utf8, folded;
	esp_str needle;
	int found;
};

static esp_status text_open(struct text *t, const esp_mime_part *part, esp_str needle)
{
	esp_buf name;
	esp_status st;

	memset(t, 0, sizeof *t);
	t->needle = needle;
	t->encoding = esp_mime_encoding(part);
	esp_buf_init(&t->bytes, PIECE_MAX);
	esp_buf_init(&t->utf8, PIECE_MAX);
	esp_buf_init(&t->folded, 4 * (size_t)PIECE_MAX + needle.len);
	esp_buf_init(&name, 128);
	st = esp_params_get(esp_mime_params(part), "charset", &name);
	st = esp_charset_open(&t->charset, st == ESP_OK ? esp_buf_str(&name) : (esp_str){ NULL, 0 });
	if (st == ESP_ENOENT)      /* a charset nobody knows: what is UTF-8 in it can be found */
		st = esp_charset_open(&t->charset, ESP_STR("utf-8"));
	esp_buf_free(&name);
	return st;
}

/* Search what was folded; its end is kept in front of the next piece, so that a match across the border is seen. */
static esp_status text_look(struct text *t)
{
	size_t keep;
	esp_status st = esp_fold_unicode(esp_buf_str(&t->utf8), &t->folded);

	esp_buf_reset(&t->utf8);
	if (st != ESP_OK)
		return st;
	t->found = holds(esp_buf_str(&t->folded), t->needle);
	keep = t->folded.len < t->needle.len ? t->folded.len : t->needle.len;
	if (keep)
		memmove(t->folded.data, t->folded.data + t->folded.len - keep, keep);
	esp_buf_cut(&t->folded, keep);
	return ESP_OK;
}

static esp_status text_feed(struct text *t, esp_str piece)
{
	esp_status st = ESP_OK;

	if (t->encoding == ESP_MIME_BASE64)
		st = esp_base64_feed(&t->base64, piece, &t->bytes);
	else if (t->encoding == ESP_MIME_QP)
		st = esp_qp_feed(&t->qp, piece, &t->bytes);
	if (st == ESP_OK && t->encoding != ESP_MIME_BASE64 && t->encoding != ESP_MIME_QP)
		st = esp_charset_feed(&t->charset, piece, &t->utf8);
	else if (st == ESP_OK)
		st = esp_charset_feed(&t->charset, esp_buf_str(&t->bytes), &t->utf8);
	esp_buf_reset(&t->bytes);
	return st == ESP_OK ? text_look(t) : st;
}

static esp_status text_end(struct text *t)
{
	esp_status st = t->encoding == ESP_MIME_QP ? esp_qp_end(&t->qp, &t->bytes) : ESP_OK;

	if (st == ESP_OK)
		st = esp_charset_feed(&t->charset, esp_buf_str(&t->bytes), &t->utf8);
	if (st == ESP_OK)
		st = esp_charset_end(&t->charset, &t->utf8);
	return st == ESP_OK ? text_look(t) : st;
}

static void text_close(struct text *t)
{
	esp_charset_close(&t->charset);
	esp_buf_free(&t->bytes);
	esp_buf_free(&t->utf8);
	esp_buf_free(&t->folded);
}

static esp_status match_part(const esp_mime_part *part, esp_str needle, int *ret)
{
	struct text t;
	esp_status st = text_open(&t, part, needle);

	for (size_t at = 0; st == ESP_OK && !t.found && at < part->body.len; at += PIECE) {
		size_t left = part->body.len - at;
		st = text_feed(&t, (esp_str){ part->body.ptr + at, left < PIECE ? left : PIECE });
	}
	if (st == ESP_OK && !t.found)
		st = text_end(&t);
	*ret = t.found;
	text_close(&t);
	return st == ESP_ENOMEM ? st : ESP_OK;   /* a part that cannot be read does not match */
}

/* Text parts, and the headers of messages inside. */
esp_status match_text(esp_str content, esp_str needle, int header, int *ret)
{
	esp_mime mime;
	esp_status st;

	*ret = needle.len == 0;
	if (*ret)
		return ESP_OK;
	st = esp_mime_parse(content, &mime);
	if (st != ESP_OK)
		return st;
	for (uint32_t i = 0; st == ESP_OK && !*ret && i < mime.n; i++) {
		const esp_mime_part *p = &mime.part[i];
		int inner = i > 0 && mime.part[p->parent].flags & ESP_MIME_MESSAGE;
		if (inner || (i == 0 && header))
			st = match_fields(p->header, (esp_str){ NULL, 0 }, needle, ret);
		if (st == ESP_OK && !*ret && p->flags & ESP_MIME_TEXT)
			st = match_part(p, needle, ret);
	}
	esp_mime_free(&mime);
	return st;
}
