/* smtp_reply.c - the one writer of SMTP replies, and the client's reader of them (esp/mail/smtp.h).  Pure. */
#include <esp/mail/smtp.h>
#include <esp/mail/utf8.h>

#define LINE_MAX_ 510u /* RFC 5321 4.5.3.1.5: 512 with CRLF */

static void add_text(esp_buf *out, esp_str line, size_t room, bool utf8)
{
	while (line.len && room) {
		uint32_t ch;
		int n = esp_utf8_next(line, &ch);
		unsigned char b = (unsigned char)*line.ptr;

		if (n > 1 && utf8) {
			if ((size_t)n > room)
				return;
			esp_buf_add(out, line.ptr, (size_t)n);
		} else {
			n = n > 1 ? n : 1;
			esp_buf_add_char(out, b >= 0x80 ? '?' : b < 32 || b == 127 ? ' ' : (char)b);
		}
		line.ptr += n;
		line.len -= (size_t)n;
		room -= n > 1 && utf8 ? (size_t)n : 1;
	}
}

static esp_status write_reply(esp_buf *out, uint32_t code, const char *enhanced, esp_str text, bool utf8)
{
	if (code < 200 || code > 599)
		return ESP_EINVAL;
	for (;;) {
		const char *nl = text.len ? memchr(text.ptr, '\n', text.len) : NULL;
		esp_str line = nl ? esp_str_of(text.ptr, (size_t)(nl - text.ptr)) : text;
		size_t head = 4;

		esp_buf_add_u64(out, code);
		esp_buf_add_char(out, nl ? '-' : ' ');
		if (enhanced) {
			esp_buf_add_z(out, enhanced);
			esp_buf_add_char(out, ' ');
			head += strlen(enhanced) + 1;
		}
		if (line.len && line.ptr[line.len - 1] == '\r')
			line.len--;
		add_text(out, line, LINE_MAX_ - head, utf8);
		esp_buf_add_z(out, "\r\n");
		if (!nl)
			return out->err;
		text.len -= (size_t)(nl + 1 - text.ptr);
		text.ptr = nl + 1;
	}
}

esp_status esp_smtp_reply(esp_buf *out, uint32_t code, const char *enhanced, esp_str text)
{
	return write_reply(out, code, enhanced, text, false);
}

esp_status esp_smtp_reply_utf8(esp_buf *out, uint32_t code, const char *enhanced, esp_str text)
{
	return write_reply(out, code, enhanced, text, true);
}

/* class "." subject "." detail (RFC 3463), followed by a space or the end. */
static void take_enhanced(esp_cursor *c, esp_smtp_reply_line *ret)
{
	const char *from = c->p;
	uint64_t n;
	int i;

	for (i = 0; i < 3; i++) {
		if ((i && !esp_cursor_accept(c, '.')) || !esp_cursor_number(c, 999, &n) ||
		    (i == 0 && n != ret->code / 100))
			goto none;
	}
	ret->enhanced = esp_cursor_since(c, from);
	if (c->p == c->end || esp_cursor_accept(c, ' '))
		return;
none:
	c->p = from;
	ret->enhanced = esp_str_of(from, 0);
}

esp_status esp_smtp_reply_parse(esp_str line, esp_smtp_reply_line *ret)
{
	esp_cursor c = esp_cursor_of(line);
	int i;

	memset(ret, 0, sizeof(*ret));
	for (i = 0; i < 3; i++) {
		int b = esp_cursor_next(&c);

		if (!esp_ascii_isdigit(b))
			return ESP_EPROTO;
		ret->code = ret->code * 10 + (uint32_t)(b - '0');
	}
	if (ret->code < 200 || ret->code > 599)
		return ESP_EPROTO;
	if (esp_cursor_accept(&c, '-'))
		ret->more = 1;
	else if (c.p < c.end && !esp_cursor_accept(&c, ' '))
		return ESP_EPROTO;
	take_enhanced(&c, ret);
	ret->text = esp_cursor_rest(&c);
	return ESP_OK;
}
