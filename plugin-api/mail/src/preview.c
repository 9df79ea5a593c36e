/* preview.c - the first words of a message (RFC 8970; esp/mail/imap_write.h).  Looks at 32 KiB of one part at most. */
#include <esp/mail/imap_write.h>
#include <esp/mail/text.h>
#include <esp/mail/utf8.h>

#define LOOK_AT 32768u
#define STEP    256u

/* The first text/plain that is no attachment, else the first other text. */
static const esp_mime_part *pick(const esp_mime *m)
{
	const esp_mime_part *other = NULL;
	uint32_t i;

	for (i = 0; i < m->n; i++) {
		const esp_mime_part *part = &m->part[i];

		if (!(part->flags & ESP_MIME_TEXT) || part->body.len == 0 ||
		    esp_str_is(esp_token_parse(part->disposition, NULL), "attachment"))
			continue;
		if (esp_str_is(part->subtype, "plain"))
			return part;
		if (!other)
			other = part;
	}
	return other;
}

/* How many characters begin in [from, from+n) of valid UTF-8. */
static size_t characters(const char *from, size_t n)
{
	size_t chars = 0;

	while (n--)
		chars += ((unsigned char)*from++ & 0xc0) != 0x80;
	return chars;
}

esp_status esp_mime_preview(const esp_mime *m, uint32_t chars, esp_buf *out)
{
	const esp_mime_part *part = pick(m);
	esp_buf text;
	esp_text t;
	esp_str s;
	size_t at = 0, have = 0;
	esp_status st;

	if (!part)
		return ESP_OK;
	esp_buf_init(&text, LOOK_AT * 8);
	st = esp_text_open_part(&t, part, ESP_TEXT_SPACE);
	while (st == ESP_OK && at < part->body.len && at < LOOK_AT && have < chars) {
		size_t n = part->body.len - at < STEP ? part->body.len - at : STEP, before = text.len;

		st = esp_text_feed(&t, esp_str_of(part->body.ptr + at, n), &text);
		have += characters(text.data + before, text.len - before);
		at += n;
	}
	if (st == ESP_OK && at == part->body.len)
		st = esp_text_end(&t, &text);
	esp_text_close(&t);
	for (s = esp_buf_str(&text); st == ESP_OK && s.len && chars; chars--) {
		uint32_t ch;
		int n = esp_utf8_next(s, &ch);

		n = n > 0 ? n : 1;
		st = esp_buf_add(out, s.ptr, (size_t)n);
		s.ptr += n;
		s.len -= (size_t)n;
	}
	esp_buf_free(&text);
	return st;
}
