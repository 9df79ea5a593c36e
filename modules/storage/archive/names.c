/* names - mailbox names as directories and files of other programs.  Pure.
 *
 * Ours are UTF-8 with "/" between components.  Maildir++ writes ".A.B" in modified UTF-7; a "." within a component,
 * which it cannot hold, is written as "&AC4-", which readers of IMAP names show right.  What comes from outside is
 * taken as liberally as it was written and made a valid name.
 */
#include "foreign.h"

#include <esp/mail/cursor.h>
#include <esp/mail/encoding.h>
#include <esp/mail/utf8.h>

#include <string.h>

/* --- to others ---------------------------------------------------------------------------------------------------- */

esp_status names_to_maildir(esp_str mailbox, esp_buf *out)
{
	char memory[FOREIGN_NAME * 3 + 1];
	esp_buf utf7;

	if (esp_str_eq(mailbox, ESP_STR("INBOX")))
		return ESP_OK;
	esp_buf_init_fixed(&utf7, memory, sizeof memory);
	if (mailbox.len > FOREIGN_NAME || esp_utf8_to_utf7(mailbox, &utf7) != ESP_OK)
		return ESP_EINVAL;
	(void)esp_buf_add_char(out, '.');
	for (size_t i = 0; i < utf7.len; i++) {
		char c = memory[i];
		int dot = c == '.' || (c == '~' && (i == 0 || memory[i - 1] == '/'));
		if (dot)
			(void)esp_buf_add_z(out, c == '.' ? "&AC4-" : "&AH4-");
		else
			(void)esp_buf_add_char(out, c == '/' ? '.' : c);
	}
	return out->err ? ESP_E2BIG : ESP_OK;
}

esp_status names_to_path(esp_str mailbox, esp_buf *out)
{
	for (size_t i = 0; i < mailbox.len; i++) {
		unsigned char c = (unsigned char)mailbox.ptr[i];
		int first = i == 0 || mailbox.ptr[i - 1] == '/';
		int safe = c >= 0x80 || (c > 0x20 && c < 0x7f && !strchr("%\\:*?\"<>|", c) && !(first && c == '.')) ||
			(c == ' ' && !first);
		(void)(safe ? esp_buf_add_char(out, (char)c) : esp_buf_addf(out, "%%%02X", c));
	}
	return out->err ? ESP_E2BIG : ESP_OK;
}

/* --- from others -------------------------------------------------------------------------------------------------- */

/* "AC4" of "&AC4-": UTF-16 in base64, any of it. */
static int take_base64(esp_str in, esp_buf *out)
{
	static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,";
	uint32_t bits = 0, have = 0, high = 0;

	for (size_t i = 0; i < in.len; i++) {
		const char *at = in.ptr[i] ? strchr(alphabet, in.ptr[i]) : NULL;
		if (!at)
			return 0;
		bits = (bits << 6 | (uint32_t)(at - alphabet)) & 0xffffff;
		have += 6;
		if (have < 16)
			continue;
		have -= 16;
		uint32_t unit = bits >> have & 0xffff;
		if (unit >= 0xd800 && unit < 0xdc00) {
			high = unit;
			continue;
		}
		if (unit >= 0xdc00 && unit < 0xe000)
			unit = high ? 0x10000 + ((high - 0xd800) << 10) + (unit - 0xdc00) : 0xfffd;
		(void)esp_utf8_add(out, unit == '/' ? '_' : unit);   /* a "/" within a component of theirs is none of ours */
		high = 0;
	}
	return in.len >= 3;
}

/* Modified UTF-7, or UTF-8 that a newer program wrote, or whatever it is. */
static void take_component(esp_str in, esp_buf *out)
{
	for (size_t i = 0; i < in.len; i++) {
		const char *end = in.ptr[i] == '&' ? memchr(in.ptr + i, '-', in.len - i) : NULL;
		size_t n = end ? (size_t)(end - in.ptr) - i - 1 : 0, from = out->len;
		if (end && n == 0) {
			(void)esp_buf_add_char(out, '&');
			i++;
		} else if (end && take_base64((esp_str){ in.ptr + i + 1, n }, out)) {
			i += n + 1;
		} else {
			esp_buf_cut(out, from);
			(void)esp_buf_add_char(out, in.ptr[i]);
		}
	}
}

/* Valid for us: UTF-8 without controls, no empty component, no "." or "..". */
static esp_status add_clean(esp_str component, esp_buf *out)
{
	size_t start = out->len;

	for (size_t i = 0; i < component.len;) {
		uint32_t c = 0;
		int n = esp_utf8_next((esp_str){ component.ptr + i, component.len - i }, &c);
		if (n <= 0 || c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0x2028 || c == 0x2029 || c == 0xfeff || c == '/')
			(void)esp_buf_add_char(out, '_');
		else
			(void)esp_buf_add(out, component.ptr + i, (size_t)n);
		i += n > 0 ? (size_t)n : 1;
	}
	if (out->len == start || esp_str_eq(esp_buf_since(out, start), ESP_STR(".")) ||
	    esp_str_eq(esp_buf_since(out, start), ESP_STR(".."))) {
		esp_buf_cut(out, start);
		(void)esp_buf_add_char(out, '_');
	}
	return out->err ? ESP_E2BIG : ESP_OK;
}

/* Components between separators, each in modified UTF-7 or whatever it is. */
static esp_status split(esp_str name, char separator, esp_buf *out)
{
	char memory[FOREIGN_NAME * 3 + 1];
	esp_status st = ESP_OK;

	if (name.len > FOREIGN_NAME)
		return ESP_E2BIG;
	for (size_t i = 0, from = 0; st == ESP_OK && i <= name.len; i++) {
		esp_buf plain;
		if (i < name.len && (!separator || name.ptr[i] != separator))
			continue;
		esp_buf_init_fixed(&plain, memory, sizeof memory);
		take_component((esp_str){ name.ptr + from, i - from }, &plain);
		if (from)
			(void)esp_buf_add_char(out, '/');
		st = plain.err ? ESP_E2BIG : add_clean(esp_buf_str(&plain), out);
		from = i + 1;
	}
	return st;
}

esp_status names_of_maildir(esp_str directory, esp_buf *out)
{
	if (directory.len && directory.ptr[0] == '.')
		return split((esp_str){ directory.ptr + 1, directory.len - 1 }, '.', out);
	return split(directory, '/', out);
}

esp_status names_of_imap(esp_str name, char separator, esp_buf *out) { return split(name, separator, out); }

static void unescape(esp_str in, esp_buf *out)
{
	for (size_t i = 0; i < in.len; i++) {
		int hi = i + 2 < in.len && in.ptr[i] == '%' ? esp_ascii_hex(in.ptr[i + 1]) : -1;
		int lo = hi >= 0 ? esp_ascii_hex(in.ptr[i + 2]) : -1;
		(void)esp_buf_add_char(out, lo >= 0 ? (char)(hi << 4 | lo) : in.ptr[i]);
		i += lo >= 0 ? 2 : 0;
	}
}

static esp_str without(esp_str s, const char *suffix)
{
	size_t n = strlen(suffix);

	return s.len > n && esp_str_is((esp_str){ s.ptr + s.len - n, n }, suffix) ? (esp_str){ s.ptr, s.len - n } : s;
}

esp_status names_of_path(esp_str path, esp_buf *out)
{
	char memory[FOREIGN_NAME * 3 + 1];
	esp_status st = ESP_OK;

	if (path.len > FOREIGN_NAME)
		return ESP_E2BIG;
	for (size_t i = 0, from = 0; st == ESP_OK && i <= path.len; i++) {
		esp_str part = { path.ptr + from, i - from };
		esp_buf plain;
		if (i < path.len && path.ptr[i] != '/')
			continue;
		part = i < path.len ? without(part, ".sbd") : without(without(part, ".mbox"), ".mbx");
		esp_buf_init_fixed(&plain, memory, sizeof memory);
		unescape(part, &plain);
		if (from)
			(void)esp_buf_add_char(out, '/');
		st = plain.err ? ESP_E2BIG : add_clean(esp_buf_str(&plain), out);
		from = i + 1;
	}
	return st;
}
