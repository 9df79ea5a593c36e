/* fold.c - casemaps of comparators: RFC 4790 9.2 and RFC 5051 (esp/mail/encoding.h).  Pure; no memory of its own. */
#include <esp/mail/encoding.h>
#include <esp/mail/utf8.h>
#include <unicase.h>
#include <uninorm.h>

esp_status esp_fold_ascii(esp_str s, esp_buf *out)
{
	size_t i;

	for (i = 0; i < s.len; i++)
		esp_buf_add_char(out, (char)esp_ascii_upper((unsigned char)s.ptr[i]));
	return out->err;
}

/* Full compatibility decomposition of one character, with a stack instead of recursion. */
static void add_decomposed(uint32_t ch, esp_buf *out)
{
	ucs4_t stack[4 * UC_DECOMPOSITION_MAX_LENGTH];
	size_t n = 0;

	stack[n++] = ch;
	while (n) {
		ucs4_t parts[UC_DECOMPOSITION_MAX_LENGTH];
		ucs4_t top = stack[--n];
		int tag, k = uc_decomposition(top, &tag, parts);

		if (k <= 0 || n + (size_t)k > sizeof(stack) / sizeof(*stack)) {
			esp_utf8_add(out, top);
			continue;
		}
		while (k > 0)
			stack[n++] = parts[--k];
	}
}

esp_status esp_fold_unicode(esp_str s, esp_buf *out)
{
	while (s.len && !out->err) {
		uint32_t ch;
		int n = esp_utf8_next(s, &ch);

		if (n <= 0) {
			esp_utf8_add(out, 0xfffd);
			n = 1;
		} else if (ch < 0x80) {
			esp_buf_add_char(out, (char)esp_ascii_upper((int)ch));
		} else {
			add_decomposed(uc_totitle(ch), out);
		}
		s.ptr += n;
		s.len -= (size_t)n;
	}
	return out->err;
}
