/* utf7.c - modified UTF-7 of IMAP mailbox names, RFC 3501 5.1.3 (esp/mail/encoding.h).
 *
 * Strict both ways: printable ASCII never inside a shift, no two shifts in a row, unused bits zero, surrogates in
 * pairs.  So one name has exactly one spelling and no check can be passed with another.  Pure.
 */
#include <esp/mail/encoding.h>
#include <esp/mail/utf8.h>

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,";

/* One UTF-16 unit of a shift. */
static bool add_unit(uint32_t unit, uint32_t *high, esp_buf *out)
{
	if (*high) {
		if (unit < 0xdc00 || unit > 0xdfff)
			return false;
		esp_utf8_add(out, 0x10000 + ((*high - 0xd800) << 10) + (unit - 0xdc00));
		*high = 0;
		return true;
	}
	if (unit >= 0xd800 && unit <= 0xdbff) {
		*high = unit;
		return true;
	}
	if ((unit >= 0xdc00 && unit <= 0xdfff) || (unit >= 0x20 && unit <= 0x7e))
		return false;
	esp_utf8_add(out, unit);
	return true;
}

/* Behind '&': base64 up to '-'. */
static bool take_shift(esp_cursor *c, esp_buf *out)
{
	uint32_t bits = 0, nbits = 0, high = 0, units = 0;
	int b;

	while ((b = esp_cursor_next(c)) >= 0 && b != '-') {
		const char *at = b ? strchr(alphabet, b) : NULL;

		if (!at)
			return false;
		bits = bits << 6 | (uint32_t)(at - alphabet);
		nbits += 6;
		if (nbits >= 16) {
			nbits -= 16;
			if (!add_unit(bits >> nbits & 0xffff, &high, out))
				return false;
			units++;
			bits &= (1u << nbits) - 1;
		}
	}
	return b == '-' && units > 0 && !high && nbits < 6 && bits == 0;
}

esp_status esp_utf7_to_utf8(esp_str name, esp_buf *out)
{
	esp_cursor c = esp_cursor_of(name);
	bool after_shift = false;
	int b;

	while ((b = esp_cursor_next(&c)) >= 0) {
		if (b < 0x20 || b > 0x7e)
			return ESP_EPROTO;
		if (b != '&') {
			esp_buf_add_char(out, (char)b);
			after_shift = false;
		} else if (esp_cursor_accept(&c, '-')) {
			esp_buf_add_char(out, '&');
			after_shift = false;
		} else {
			if (after_shift || !take_shift(&c, out))
				return ESP_EPROTO;
			after_shift = true;
		}
	}
	return out->err;
}

static void put_unit(uint32_t unit, uint32_t *bits, uint32_t *nbits, esp_buf *out)
{
	*bits = *bits << 16 | unit;
	*nbits += 16;
	while (*nbits >= 6) {
		*nbits -= 6;
		esp_buf_add_char(out, alphabet[*bits >> *nbits & 63]);
	}
	*bits &= (1u << *nbits) - 1;
}

esp_status esp_utf8_to_utf7(esp_str name, esp_buf *out)
{
	uint32_t bits = 0, nbits = 0;
	bool shifted = false;

	while (name.len) {
		uint32_t ch;
		int n = esp_utf8_next(name, &ch);
		bool direct;

		if (n <= 0)
			return ESP_EPROTO;
		name.ptr += n;
		name.len -= (size_t)n;
		direct = ch >= 0x20 && ch <= 0x7e;
		if (shifted && direct) {
			if (nbits)
				esp_buf_add_char(out, alphabet[bits << (6 - nbits) & 63]);
			esp_buf_add_char(out, '-');
			bits = nbits = 0;
			shifted = false;
		}
		if (direct) {
			esp_buf_add_char(out, (char)ch);
			if (ch == '&')
				esp_buf_add_char(out, '-');
			continue;
		}
		if (!shifted)
			esp_buf_add_char(out, '&');
		shifted = true;
		if (ch >= 0x10000)
			put_unit(0xd800 + ((ch - 0x10000) >> 10), &bits, &nbits, out);
		put_unit(ch >= 0x10000 ? 0xdc00 + ((ch - 0x10000) & 0x3ff) : ch, &bits, &nbits, out);
	}
	if (shifted) {
		if (nbits)
			esp_buf_add_char(out, alphabet[bits << (6 - nbits) & 63]);
		esp_buf_add_char(out, '-');
	}
	return out->err;
}
