/* text - what of a message is shown to the model: sender, subject, and the first part that has something to read.
 *
 * Plain text before HTML, no attachments.  Everything is decoded to UTF-8, runs of white space and controls are one
 * space, so the message has no line that could look like a line of ours.
 */
#include "prompt.h"

#include <esp/mail/text.h>

#define FIELD_MAX   300u
#define PIECE       4096u
#define DECODED_MAX (8u * PIECE)          /* of one piece: a byte becomes at most three */

/* At most n bytes, whole characters. */
static esp_str prefix(esp_str s, size_t n)
{
	if (s.len <= n)
		return s;
	while (n && ((unsigned char)s.ptr[n] & 0xc0) == 0x80)
		n--;
	return (esp_str){ s.ptr, n };
}

static size_t room(const esp_buf *out, size_t cap) { return out->len < cap ? cap - out->len : 0; }

static void add_field(esp_str raw, const char *name, size_t cap, esp_buf *out)
{
	esp_header_field f;
	esp_buf value;
	size_t left;

	esp_buf_init(&value, ESP_HEADER_FIELD_MAX * 3);
	if (esp_header_find(raw, name, 0, &f) == ESP_OK)
		(void)esp_header_decode(f.value, &value);           /* cut where it is too long or memory ends */
	(void)esp_buf_addf(out, "%s: ", name);
	left = room(out, cap);
	(void)esp_buf_add_str(out, prefix(esp_buf_str(&value), left < FIELD_MAX ? left : FIELD_MAX));
	(void)esp_buf_add_char(out, '\n');
	esp_buf_free(&value);
}

/* One piece of what was decoded.  0: there is no more room. */
static int add_piece(esp_buf *piece, size_t cap, esp_buf *out)
{
	esp_str fits = prefix(esp_buf_str(piece), room(out, cap));
	int whole = fits.len == piece->len;

	(void)esp_buf_add_str(out, fits);
	esp_buf_reset(piece);
	return whole && out->len < cap;
}

/* 1: it had something to read. */
static int add_part(const esp_mime_part *part, size_t cap, esp_buf *out)
{
	esp_text t;
	esp_buf piece;
	size_t before = out->len;
	int more = 1;

	if (esp_text_open_part(&t, part, ESP_TEXT_SPACE) != ESP_OK)
		return 0;
	esp_buf_init(&piece, DECODED_MAX);
	for (size_t i = 0; more && i < part->body.len; i += PIECE) {
		size_t n = part->body.len - i < PIECE ? part->body.len - i : PIECE;
		(void)esp_text_feed(&t, (esp_str){ part->body.ptr + i, n }, &piece);
		more = add_piece(&piece, cap, out);
	}
	if (more) {
		(void)esp_text_end(&t, &piece);
		(void)add_piece(&piece, cap, out);
	}
	esp_buf_free(&piece);
	esp_text_close(&t);
	return out->len > before;
}

static int is_attachment(const esp_mime_part *part)
{
	return part->disposition.len && esp_str_is(esp_token_parse(part->disposition, NULL), "attachment");
}

static void add_body(const esp_mime *m, size_t cap, esp_buf *out)
{
	static const char *const subtypes[] = { "plain", "html" };

	for (size_t k = 0; k < sizeof subtypes / sizeof subtypes[0]; k++)
		for (uint32_t i = 0; i < m->n; i++) {
			const esp_mime_part *part = &m->part[i];
			if ((part->flags & ESP_MIME_TEXT) && esp_str_is(part->subtype, subtypes[k]) && !is_attachment(part) &&
				add_part(part, cap, out))
				return;
		}
}

esp_status text_prepare(esp_str raw, size_t cap, esp_buf *out)
{
	esp_mime m;
	esp_status st;

	if (raw.len > MESSAGE_LOOKED_AT)
		raw.len = MESSAGE_LOOKED_AT;
	st = esp_mime_parse(raw, &m);
	if (st != ESP_OK)
		return st;
	add_field(raw, "From", cap, out);
	add_field(raw, "Subject", cap, out);
	(void)esp_buf_add_char(out, '\n');
	add_body(&m, cap, out);
	esp_mime_free(&m);
	return out->err;
}
