/* utf8.c - UTF-8 validation and writing (esp/mail/utf8.h).  Pure; owns nothing. */
#include <esp/mail/utf8.h>

#include <string.h>

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

size_t esp_ascii_run(esp_str s)
{
	uint64_t eight;
	size_t i = 0;

	for (; s.len - i >= sizeof eight; i += sizeof eight) {
		memcpy(&eight, s.ptr + i, sizeof eight);
		if (eight & UINT64_C(0x8080808080808080))
			break;
	}
	while (i < s.len && (unsigned char)s.ptr[i] < 0x80)
		i++;
	return i;
}

bool esp_ascii_valid(esp_str s) { return esp_ascii_run(s) == s.len; }

size_t esp_utf8_run(esp_str s)
{
	size_t i = 0;
	uint32_t ch;
	int n;

	do {
		i += esp_ascii_run((esp_str){ s.ptr + i, s.len - i });
		n = esp_utf8_next((esp_str){ s.ptr + i, s.len - i }, &ch);
		i += n > 0 ? (size_t)n : 0;
	} while (n > 0);
	return i;
}

bool esp_utf8_valid(esp_str s)
{
	return esp_utf8_run(s) == s.len;
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
	while (s.len) {
		size_t n = esp_utf8_run(s);

		esp_buf_add(out, s.ptr, n);
		s.ptr += n;
		s.len -= n;
		if (s.len) {
			esp_buf_add_z(out, "\xef\xbf\xbd");
			s.ptr++;
			s.len--;
		}
	}
	return out->err;
}
