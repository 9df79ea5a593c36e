/* names - what a mailbox may be called.
 *
 * UTF-8, "/" between components, no control characters, no empty component, no "." or "..": a name is also a
 * folder on disk.  "INBOX" is one mailbox however it is written, also as the first component of others.
 */
#include "store.h"

#include <esp/mail/cursor.h>
#include <esp/mail/utf8.h>

#define INBOX "INBOX"

static esp_status check_characters(esp_str name)
{
	for (size_t i = 0; i < name.len; ) {
		uint32_t c = 0;
		int n = esp_utf8_next((esp_str){ name.ptr + i, name.len - i }, &c);
		if (n <= 0 || c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0x2028 || c == 0x2029 || c == 0xfeff)
			return ESP_EINVAL;
		i += (size_t)n;
	}
	return ESP_OK;
}

static esp_status check_components(esp_str name)
{
	uint32_t depth = 0;

	for (size_t at = 0; at <= name.len; depth++) {
		const char *slash = at < name.len ? memchr(name.ptr + at, '/', name.len - at) : NULL;
		size_t n = slash ? (size_t)(slash - (name.ptr + at)) : name.len - at;
		if (n == 0 || (n == 1 && name.ptr[at] == '.') || (n == 2 && memcmp(name.ptr + at, "..", 2) == 0))
			return ESP_EINVAL;
		at += n + 1;
	}
	return depth > NAME_DEPTH ? ESP_E2BIG : ESP_OK;
}

esp_status name_canonical(esp_str name, char buf[NAME_MAX_BYTES + 1], esp_str *ret)
{
	esp_status st;

	if (name.len > 1 && name.ptr[name.len - 1] == '/')   /* CREATE "a/": RFC 3501 6.3.3 */
		name.len--;
	if (name.len > NAME_MAX_BYTES)
		return ESP_E2BIG;
	st = check_characters(name);
	if (st == ESP_OK)
		st = check_components(name);
	if (st != ESP_OK)
		return st;
	memcpy(buf, name.ptr, name.len);
	buf[name.len] = '\0';
	if (name.len >= 5 && esp_str_ieq((esp_str){ buf, 5 }, ESP_STR(INBOX)) && (name.len == 5 || buf[5] == '/'))
		memcpy(buf, INBOX, 5);
	*ret = (esp_str){ buf, name.len };
	return ESP_OK;
}

int name_is_inbox(esp_str name) { return esp_str_eq(name, ESP_STR(INBOX)); }

int name_below(esp_str name, esp_str parent)
{
	return name.len > parent.len && memcmp(name.ptr, parent.ptr, parent.len) == 0 && name.ptr[parent.len] == '/';
}

esp_str name_parent(esp_str name)
{
	size_t n = name.len;

	while (n > 0 && name.ptr[n - 1] != '/')
		n--;
	return (esp_str){ name.ptr, n ? n - 1 : 0 };
}

static int under_inbox(esp_str name)
{
	return name_is_inbox(name) || (name.len > 5 && name_below(name, ESP_STR(INBOX)));
}

/* "/" sorts before every other byte, so what is below a mailbox stands right behind it. */
int name_compare(esp_str a, esp_str b)
{
	size_t n = a.len < b.len ? a.len : b.len;
	int inbox = under_inbox(b) - under_inbox(a);

	if (inbox)
		return inbox;
	for (size_t i = 0; i < n; i++) {
		int x = a.ptr[i] == '/' ? 0 : (unsigned char)a.ptr[i], y = b.ptr[i] == '/' ? 0 : (unsigned char)b.ptr[i];
		if (x != y)
			return x - y;
	}
	return a.len < b.len ? -1 : a.len > b.len;
}

int special_use_valid(esp_str use)
{
	static const char *const known[] = { "\\Archive", "\\Drafts", "\\Junk", "\\Sent", "\\Trash" };

	for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
		if (esp_str_is(use, known[i]))
			return 1;
	return 0;
}
