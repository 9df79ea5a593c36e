/* utf8.c - UTF-8 validation and writing (esp/mail/utf8.h).  Pure; owns nothing. */
#include <esp/mail/utf8.h>

int esp_utf8_next(esp_str s, uint32_t *ret_ch)
{
	const unsigned char *p = (const unsigned char *)s.ptr;
	uint32_t ch, least;
	int n, i;

	if (s.len == 0)
		return 0;
	if (p[0] < 0x80) {
		*ret_ch = p[0];
		return 1;
	}
	if (p[0] >= 0xc2 && p[0] <= 0xdf) {
		n = 2; ch = p[0] & 0x1fu; least = 0x80;
	} else if ((p[0] & 0xf0) == 0xe0) {
		n = 3; ch = p[0] & 0x0fu; least = 0x800;
	} else if (p[0] >= 0xf0 && p[0] <= 0xf4) {
		n = 4; ch = p[0] & 0x07u; least = 0x10000;
	} else {
		return -1;
	}
	for (i = 1; i < n; i++) {
		if ((size_t)i >= s.len)
			return 0;
		if ((p[i] & 0xc0) != 0x80)
			return -1;
		/* the second byte alone tells overlong forms, surrogates and what lies above U+10FFFF */
		if (i == 1 && ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) ||
			       (p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f)))
			return -1;
		ch = ch << 6 | (p[i] & 0x3fu);
	}
	if (ch < least)
		return -1;
	*ret_ch = ch;
	return n;
}

bool esp_ascii_valid(esp_str s)
{
	unsigned char all = 0;
	size_t i;

	for (i = 0; i < s.len; i++)
		all |= (unsigned char)s.ptr[i];
	return all < 0x80;
}

bool esp_utf8_valid(esp_str s)
{
	uint32_t ch;
	int n;

	while (s.len) {
		n = esp_utf8_next(s, &ch);
		if (n <= 0)
			return false;
		s.ptr += n;
		s.len -= (size_t)n;
	}
	return true;
}

esp_status esp_utf8_add(esp_buf *out, uint32_t ch)
{
	char c[4];

	if (ch > 0x10ffff || (ch >= 0xd800 && ch <= 0xdfff))
		ch = 0xfffd;
	if (ch < 0x80)
		return esp_buf_add_char(out, (char)ch);
	if (ch < 0x800) {
		c[0] = (char)(0xc0 | ch >> 6);
		c[1] = (char)(0x80 | (ch & 0x3f));
		return esp_buf_add(out, c, 2);
	}
	if (ch < 0x10000) {
		c[0] = (char)(0xe0 | ch >> 12);
		c[1] = (char)(0x80 | (ch >> 6 & 0x3f));
		c[2] = (char)(0x80 | (ch & 0x3f));
		return esp_buf_add(out, c, 3);
	}
	c[0] = (char)(0xf0 | ch >> 18);
	c[1] = (char)(0x80 | (ch >> 12 & 0x3f));
	c[2] = (char)(0x80 | (ch >> 6 & 0x3f));
	c[3] = (char)(0x80 | (ch & 0x3f));
	return esp_buf_add(out, c, 4);
}

esp_status esp_utf8_clean(esp_str s, esp_buf *out)
{
	uint32_t ch;
	int n;

	while (s.len) {
		const char *from = s.ptr;

		while (s.len && (n = esp_utf8_next(s, &ch)) > 0) {
			s.ptr += n;
			s.len -= (size_t)n;
		}
		esp_buf_add(out, from, (size_t)(s.ptr - from));
		if (s.len) {
			esp_buf_add_z(out, "\xef\xbf\xbd");
			s.ptr++;
			s.len--;
		}
	}
	return out->err;
}
