/* fold.c - casemaps of comparators: RFC 4790 9.2 and RFC 5051 (esp/mail/encoding.h).  Pure; no memory of its own. */
#include <esp/mail/encoding.h>
#include <esp/mail/utf8.h>
#include <unicase.h>
#include <uninorm.h>

/* As much as there is room for, like everything here that meets the limit of `out`. */
static void add_upper(esp_str ascii, esp_buf *out)
{
	size_t left = out->max - out->len, n = ascii.len < left ? ascii.len : left;
	char *to = esp_buf_room(out, n);

	for (size_t i = 0; to && i < n; i++)
		to[i] = (char)esp_ascii_upper((unsigned char)ascii.ptr[i]);
	if (to)
		out->len += n;
	if (n < ascii.len)
		(void)esp_buf_room(out, 1);
}

esp_status esp_fold_ascii(esp_str s, esp_buf *out)
{
	add_upper(s, out);
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

static size_t add_character(esp_str s, esp_buf *out)
{
	uint32_t ch;
	int n = esp_utf8_next(s, &ch);

	if (n > 0)
		add_decomposed(uc_totitle(ch), out);
	else
		esp_utf8_add(out, 0xfffd);
	return n > 0 ? (size_t)n : 1;
}

esp_status esp_fold_unicode(esp_str s, esp_buf *out)
{
	while (s.len && !out->err) {
		size_t n = esp_ascii_run(s);

		if (n)
			add_upper(esp_str_of(s.ptr, n), out);
		else
			n = add_character(s, out);
		s.ptr += n;
		s.len -= n;
	}
	return out->err;
}
