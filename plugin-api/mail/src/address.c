/* address.c - mailboxes in the strict grammar of SMTP (esp/mail/address.h).
 *
 * Pure; results are spans of the input.  ESP_EPROTO: syntax; ESP_E2BIG: a length limit.
 */
#include <esp/mail/address.h>
#include <esp/mail/utf8.h>
#include <stdlib.h>
#include <unicase.h>
#include <uninorm.h>

static bool is_atext(int ch)
{
	return esp_ascii_isalnum(ch) || (ch > 0 && ch < 128 && strchr("!#$%&'*+-/=?^_`{|}~", ch));
}

/* Takes one atext or, when welcome, one UTF-8 character. */
static bool take_char(esp_cursor *c, uint32_t how)
{
	uint32_t ch;
	int n;

	if (is_atext(esp_cursor_peek(c))) {
		c->p++;
		return true;
	}
	if (esp_cursor_peek(c) < 0x80 || !(how & ESP_ADDRESS_SMTPUTF8))
		return false;
	n = esp_utf8_next(esp_cursor_rest(c), &ch);
	if (n <= 0 || (ch >= 0x80 && ch < 0xa0))
		return false;
	c->p += n;
	return true;
}

/* Dot-string of RFC 5321: atoms with single dots between them. */
static bool scan_dot_string(esp_cursor *c, uint32_t how)
{
	for (;;) {
		if (!take_char(c, how))
			return false;
		while (take_char(c, how))
			;
		if (!esp_cursor_accept(c, '.'))
			return true;
	}
}

/* Quoted-string of RFC 5321: printable ASCII, space, escapes of printable ASCII, UTF-8 when welcome. */
static bool scan_quoted(esp_cursor *c, uint32_t how)
{
	uint32_t ch;
	int n;

	if (!esp_cursor_accept(c, '"'))
		return false;
	for (;;) {
		int b = esp_cursor_peek(c);

		if (b == '"') {
			c->p++;
			return true;
		}
		if (b == '\\') {
			c->p++;
			b = esp_cursor_next(c);
			if (b < 32 || b > 126)
				return false;
		} else if (b >= 32 && b <= 126) {
			c->p++;
		} else if (b >= 0x80 && (how & ESP_ADDRESS_SMTPUTF8)) {
			n = esp_utf8_next(esp_cursor_rest(c), &ch);
			if (n <= 0)
				return false;
			c->p += n;
		} else {
			return false;
		}
	}
}

static esp_status scan_domain(esp_cursor *c, uint32_t how, esp_address *ret)
{
	const char *from = c->p;

	if (esp_cursor_peek(c) == '[') {
		while (c->p < c->end && *c->p != ']')
			c->p++;
		if (!esp_cursor_accept(c, ']'))
			return ESP_EPROTO;
		ret->domain = esp_cursor_since(c, from);
		ret->flags |= ESP_ADDRESS_IS_LITERAL;
		return esp_domain_literal_check(ret->domain);
	}
	for (;;) {
		int b = esp_cursor_peek(c);

		if (!esp_ascii_isalnum(b) && b != '-' && b != '.' && b != '_' && b < 0x80)
			break;
		c->p++;
	}
	ret->domain = esp_cursor_since(c, from);
	return esp_domain_check(ret->domain, how);
}

esp_status esp_address_scan(esp_cursor *c, uint32_t how, esp_address *ret)
{
	const char *from = c->p;
	esp_status st;

	memset(ret, 0, sizeof(*ret));
	if (esp_cursor_peek(c) == '"') {
		if (!scan_quoted(c, how))
			return ESP_EPROTO;
		ret->flags |= ESP_ADDRESS_IS_QUOTED;
	} else if (!scan_dot_string(c, how)) {
		return ESP_EPROTO;
	}
	ret->local = esp_cursor_since(c, from);
	ret->domain = esp_str_of(c->p, 0);
	if (ret->local.len > ESP_LOCAL_MAX)
		return ESP_E2BIG;
	if (esp_cursor_accept(c, '@')) {
		st = scan_domain(c, how, ret);
		if (st != ESP_OK)
			return st;
	} else if (!(how & ESP_ADDRESS_BARE_LOCAL)) {
		return ESP_EPROTO;
	}
	if (esp_cursor_since(c, from).len > ESP_ADDRESS_MAX)
		return ESP_E2BIG;
	if (!esp_ascii_valid(esp_cursor_since(c, from)))
		ret->flags |= ESP_ADDRESS_IS_UTF8;
	return ESP_OK;
}

esp_status esp_address_parse(esp_str text, uint32_t how, esp_address *ret)
{
	esp_cursor c = esp_cursor_of(text);
	esp_status st = esp_address_scan(&c, how, ret);

	return st == ESP_OK && c.p != c.end ? ESP_EPROTO : st;
}

esp_status esp_address_local(const esp_address *a, esp_buf *out)
{
	esp_cursor c = esp_cursor_of(a->local);
	int b;

	if (!(a->flags & ESP_ADDRESS_IS_QUOTED))
		return esp_buf_add_str(out, a->local);
	(void)esp_cursor_next(&c);
	while ((b = esp_cursor_next(&c)) >= 0 && b != '"') {
		if (b == '\\')
			b = esp_cursor_next(&c);
		if (b >= 0)
			esp_buf_add_char(out, (char)b);
	}
	return out->err;
}

esp_status esp_local_write(esp_str meaning, esp_buf *out)
{
	esp_cursor c = esp_cursor_of(meaning);
	size_t i;

	if (scan_dot_string(&c, ESP_ADDRESS_SMTPUTF8) && c.p == c.end)
		return esp_buf_add_str(out, meaning);
	for (i = 0; i < meaning.len; i++)
		if (meaning.ptr[i] == '\r' || meaning.ptr[i] == '\n' || meaning.ptr[i] == 0)
			return ESP_EINVAL;
	esp_buf_add_char(out, '"');
	for (i = 0; i < meaning.len; i++) {
		if (meaning.ptr[i] == '"' || meaning.ptr[i] == '\\')
			esp_buf_add_char(out, '\\');
		esp_buf_add_char(out, meaning.ptr[i]);
	}
	return esp_buf_add_char(out, '"');
}

/* NFC, and lower case when asked.  ASCII, the common case, needs no library. */
static esp_status fold_local(esp_str s, uint32_t how, esp_buf *out)
{
	uint8_t *folded;
	size_t i, n = 0;

	if (esp_ascii_valid(s)) {
		for (i = 0; i < s.len; i++)
			esp_buf_add_char(out, (char)(how & ESP_CANONICAL_FOLD_LOCAL ?
						     esp_ascii_lower((unsigned char)s.ptr[i]) : s.ptr[i]));
		return out->err;
	}
	if (!esp_utf8_valid(s))
		return ESP_EPROTO;
	if (how & ESP_CANONICAL_FOLD_LOCAL)
		folded = u8_tolower((const uint8_t *)s.ptr, s.len, NULL, UNINORM_NFC, NULL, &n);
	else
		folded = u8_normalize(UNINORM_NFC, (const uint8_t *)s.ptr, s.len, NULL, &n);
	if (!folded)
		return ESP_ENOMEM;
	esp_buf_add(out, folded, n);
	free(folded);
	return out->err;
}

esp_status esp_address_canonical(const esp_address *a, uint32_t how, esp_buf *out)
{
	char meaning_mem[ESP_LOCAL_MAX + 1], folded_mem[ESP_ADDRESS_ROOM];
	esp_buf meaning, folded;
	esp_status st;

	esp_buf_init_fixed(&meaning, meaning_mem, sizeof(meaning_mem));
	esp_buf_init_fixed(&folded, folded_mem, sizeof(folded_mem));
	st = esp_address_local(a, &meaning);
	if (st == ESP_OK)
		st = fold_local(esp_buf_str(&meaning), how, &folded);
	if (st == ESP_OK)
		st = esp_local_write(esp_buf_str(&folded), out);
	if (st == ESP_OK && a->domain.len) {
		esp_buf_add_char(out, '@');
		st = esp_domain_to_ascii(a->domain, out);
	}
	return st != ESP_OK ? st : out->err;
}

bool esp_local_split(esp_str local, char separator, esp_str *ret_user, esp_str *ret_detail)
{
	const char *at = local.len > 1 ? memchr(local.ptr + 1, separator, local.len - 1) : NULL;

	*ret_user = local;
	*ret_detail = esp_str_of(local.len ? local.ptr + local.len : "", 0);
	if (!at)
		return false;
	ret_user->len = (size_t)(at - local.ptr);
	ret_detail->ptr = at + 1;
	ret_detail->len = local.len - ret_user->len - 1;
	return true;
}
