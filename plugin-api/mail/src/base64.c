/* base64.c - RFC 2045 6.8 and RFC 4648 4 (esp/mail/encoding.h).  Pure. */
#include <esp/mail/encoding.h>

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static int value_of(int ch)
{
	if (ch >= 'A' && ch <= 'Z')
		return ch - 'A';
	if (ch >= 'a' && ch <= 'z')
		return ch - 'a' + 26;
	if (ch >= '0' && ch <= '9')
		return ch - '0' + 52;
	return ch == '+' ? 62 : ch == '/' ? 63 : -1;
}

esp_status esp_base64_feed(esp_base64 *d, esp_str in, esp_buf *out)
{
	size_t i;

	for (i = 0; i < in.len; i++) {
		int b = (unsigned char)in.ptr[i], v = value_of(b);

		if (b == '=') {
			d->bits = d->nbits = 0;
			continue;
		}
		if (v < 0) {
			if (b != '\r' && b != '\n' && b != ' ' && b != '\t')
				d->bad++;
			continue;
		}
		d->bits = (d->bits << 6 | (uint32_t)v) & 0xffff;
		d->nbits += 6;
		if (d->nbits >= 8) {
			d->nbits -= 8;
			esp_buf_add_char(out, (char)(d->bits >> d->nbits & 0xff));
		}
	}
	return out->err;
}

esp_status esp_base64_decode(esp_str in, esp_buf *out)
{
	size_t i, pad = 0;
	esp_base64 d = { 0 };

	if (in.len % 4)
		return ESP_EPROTO;
	while (pad < 2 && in.len > pad && in.ptr[in.len - 1 - pad] == '=')
		pad++;
	for (i = 0; i < in.len - pad; i++)
		if (value_of((unsigned char)in.ptr[i]) < 0)
			return ESP_EPROTO;
	in.len -= pad;
	if (in.len && pad && (value_of((unsigned char)in.ptr[in.len - 1]) & (pad == 1 ? 3 : 15)))
		return ESP_EPROTO;
	return esp_base64_feed(&d, in, out);
}

esp_status esp_base64_encode(esp_str bytes, uint32_t columns, esp_buf *out)
{
	const unsigned char *p = (const unsigned char *)bytes.ptr;
	uint32_t column = 0;
	size_t i;

	for (i = 0; i < bytes.len; i += 3) {
		size_t n = bytes.len - i < 3 ? bytes.len - i : 3;
		uint32_t v = (uint32_t)p[i] << 16 | (n > 1 ? (uint32_t)p[i + 1] << 8 : 0) | (n > 2 ? p[i + 2] : 0u);
		char q[4] = { alphabet[v >> 18], alphabet[v >> 12 & 63], n > 1 ? alphabet[v >> 6 & 63] : '=',
			      n > 2 ? alphabet[v & 63] : '=' };

		if (columns && column + 4 > columns) {
			esp_buf_add(out, "\r\n", 2);
			column = 0;
		}
		esp_buf_add(out, q, 4);
		column += 4;
	}
	if (columns && column)
		esp_buf_add(out, "\r\n", 2);
	return out->err;
}
