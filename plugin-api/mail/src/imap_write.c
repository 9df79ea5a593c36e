/* imap_write.c - strings, names, flags and sets as IMAP sends them (esp/mail/imap_write.h).  Pure. */
#include <esp/mail/encoding.h>
#include <esp/mail/imap_write.h>

#define QUOTED_MAX 1000u

static void add_literal(esp_buf *out, esp_str s)
{
	size_t i;
	char *to;

	esp_buf_addf(out, "{%zu}\r\n", s.len);
	to = esp_buf_room(out, s.len);
	if (!to)
		return;
	for (i = 0; i < s.len; i++)
		to[i] = s.ptr[i] ? s.ptr[i] : ' ';
	out->len += s.len;
}

static void add_quoted(esp_buf *out, esp_str s)
{
	size_t i;

	esp_buf_add_char(out, '"');
	for (i = 0; i < s.len; i++) {
		if (s.ptr[i] == '"' || s.ptr[i] == '\\')
			esp_buf_add_char(out, '\\');
		esp_buf_add_char(out, s.ptr[i]);
	}
	esp_buf_add_char(out, '"');
}

esp_status esp_imap_add_string(esp_buf *out, esp_str s)
{
	size_t i = 0;

	while (i < s.len && s.ptr[i] >= 32 && s.ptr[i] < 127)
		i++;
	if (i == s.len && s.len <= QUOTED_MAX)
		add_quoted(out, s);
	else
		add_literal(out, s);
	return out->err;
}

esp_status esp_imap_add_nstring(esp_buf *out, esp_str s)
{
	return s.ptr ? esp_imap_add_string(out, s) : esp_buf_add(out, "NIL", 3);
}

static bool is_atom_char(unsigned char b)
{
	return b > 32 && b < 127 && !strchr("(){%*\"\\", b);
}

esp_status esp_imap_add_astring(esp_buf *out, esp_str s)
{
	size_t i = 0;

	while (i < s.len && is_atom_char((unsigned char)s.ptr[i]))
		i++;
	if (i == s.len && s.len && s.len <= QUOTED_MAX && !esp_str_is(s, "NIL"))
		return esp_buf_add_str(out, s);
	return esp_imap_add_string(out, s);
}

esp_status esp_imap_add_mailbox(esp_buf *out, esp_str name, bool utf8)
{
	esp_buf coded;
	size_t i;

	if (utf8) {
		for (i = 0; i < name.len; i++)
			if ((unsigned char)name.ptr[i] < 32 || name.ptr[i] == 127)
				return esp_imap_add_string(out, name);
		add_quoted(out, name);
		return out->err;
	}
	esp_buf_init(&coded, name.len * 8 + 16);
	if (esp_utf8_to_utf7(name, &coded) == ESP_OK)
		esp_imap_add_astring(out, esp_buf_str(&coded));
	else
		esp_imap_add_string(out, name);
	esp_buf_free(&coded);
	return out->err;
}

esp_status esp_imap_add_text(esp_buf *out, esp_str text)
{
	size_t i;

	if (text.len > 500)
		text.len = 500;
	for (i = 0; i < text.len; i++) {
		unsigned char b = (unsigned char)text.ptr[i];

		esp_buf_add_char(out, b < 32 || b == 127 ? ' ' : b > 127 ? '?' : (char)b);
	}
	if (text.len == 0) /* resp-text needs at least one TEXT-CHAR */
		esp_buf_add_char(out, '-');
	return out->err;
}

static bool is_flag(esp_str s)
{
	size_t i;

	if (s.len && s.ptr[0] == '\\') {
		s.ptr++;
		s.len--;
		if (s.len == 1 && s.ptr[0] == '*')
			return true;
	}
	for (i = 0; i < s.len; i++)
		if (!is_atom_char((unsigned char)s.ptr[i]) || s.ptr[i] == ']')
			return false;
	return s.len > 0;
}

esp_status esp_imap_add_flags(esp_buf *out, const esp_str *names, size_t n)
{
	bool first = true;
	size_t i;

	esp_buf_add_char(out, '(');
	for (i = 0; i < n; i++) {
		if (!is_flag(names[i]))
			continue;
		if (!first)
			esp_buf_add_char(out, ' ');
		esp_buf_add_str(out, names[i]);
		first = false;
	}
	return esp_buf_add_char(out, ')');
}

esp_status esp_imap_add_set(esp_buf *out, const uint32_t *ascending, size_t n)
{
	size_t i, k;

	for (i = 0; i < n; i = k) {
		for (k = i + 1; k < n && ascending[k] == ascending[k - 1] + 1; k++)
			;
		if (i)
			esp_buf_add_char(out, ',');
		esp_buf_add_u64(out, ascending[i]);
		if (k - i > 1) {
			esp_buf_add_char(out, ':');
			esp_buf_add_u64(out, ascending[k - 1]);
		}
	}
	return out->err;
}
