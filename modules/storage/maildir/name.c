/* name - paths of Maildir++ folders and messages.  Pure.
 *
 * A mailbox name becomes ".A.B" with "/" as "."; what a path or Maildir++ cannot hold (".", "/", control bytes, a
 * leading "~") is written as "&" modified UTF-7 does: readers that know IMAP names show it right.  ASCII stays as it
 * is.  A name whose directory would be longer than file systems allow is refused: CREATE and RENAME say so.
 */
#include "maildir.h"

#include <stdio.h>
#include <stdlib.h>

static int put(char *out, size_t *at, char c)
{
	if (*at + 1 >= MAILDIR_PATH)
		return 0;
	out[(*at)++] = c;
	out[*at] = '\0';
	return 1;
}

/* Account names: letters, digits and a few signs as they are, everything else as %XX; never a leading dot. */
static int put_account_part(char *out, size_t *at, esp_str part)
{
	static const char hex[] = "0123456789ABCDEF";

	for (size_t i = 0; i < part.len; i++) {
		unsigned char c = (unsigned char)part.ptr[i];
		int plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
					c == '-' || c == '+' || c == '=' || (c == '.' && i > 0) || c >= 0x80;
		if (plain ? !put(out, at, (char)c)
		          : !put(out, at, '%') || !put(out, at, hex[c >> 4]) || !put(out, at, hex[c & 15]))
			return 0;
	}
	return 1;
}

static int put_base64(char *out, size_t *at, const uint16_t *units, size_t n)
{
	static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,";
	uint32_t bits = 0;
	int have = 0;

	if (!put(out, at, '&'))
		return 0;
	for (size_t i = 0; i < n; i++) {
		bits = bits << 16 | units[i];
		for (have += 16; have >= 6; have -= 6)
			if (!put(out, at, alphabet[bits >> (have - 6) & 63]))
				return 0;
		bits &= (1u << have) - 1;
	}
	if (have && !put(out, at, alphabet[bits << (6 - have) & 63]))
		return 0;
	return put(out, at, '-');
}

/* One code point of valid UTF-8 (the mailbox engine checked it). */
static size_t decode(esp_str s, size_t i, uint32_t *ret)
{
	const unsigned char *p = (const unsigned char *)s.ptr + i;
	size_t len = p[0] < 0x80 ? 1 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;

	if (i + len > s.len)
		return 0;
	*ret = len == 1 ? p[0] : p[0] & (0xffu >> (len + 1));
	for (size_t k = 1; k < len; k++)
		*ret = *ret << 6 | (p[k] & 0x3f);
	return len;
}

static int put_component(char *out, size_t *at, esp_str part)
{
	for (size_t i = 0; i < part.len; ) {
		uint16_t units[64];
		size_t n = 0;
		uint32_t c;
		size_t len = decode(part, i, &c);
		if (len == 0)
			return 0;
		if (c >= 0x20 && c < 0x7f && c != '.' && c != '~' && c != '/') {
			if (!put(out, at, (char)c) || (c == '&' && !put(out, at, '-')))
				return 0;
			i += len;
			continue;
		}
		while (n < 62 && i < part.len && (len = decode(part, i, &c)) > 0 &&
			   (c < 0x20 || c >= 0x7f || c == '.' || c == '~' || c == '/')) {
			if (c >= 0x10000) {
				units[n++] = (uint16_t)(0xd800 + ((c - 0x10000) >> 10));
				units[n++] = (uint16_t)(0xdc00 + ((c - 0x10000) & 0x3ff));
			} else {
				units[n++] = (uint16_t)c;
			}
			i += len;
		}
		if (!put_base64(out, at, units, n))
			return 0;
	}
	return 1;
}

esp_status name_folder(esp_str account, esp_str folder, char out[MAILDIR_PATH])
{
	size_t at = 0, split = account.len, start = 0;

	while (split > 0 && account.ptr[split - 1] != '@')
		split--;
	if (split < 2 || split == account.len)
		return ESP_EINVAL;
	out[0] = '\0';
	if (!put_account_part(out, &at, (esp_str){ account.ptr + split, account.len - split }) || !put(out, &at, '/') ||
	    !put_account_part(out, &at, (esp_str){ account.ptr, split - 1 }))
		return ESP_E2BIG;
	if (esp_str_eq(folder, ESP_STR("INBOX")))
		return ESP_OK;
	if (!put(out, &at, '/'))
		return ESP_E2BIG;
	for (size_t i = 0; i <= folder.len; i++) {
		if (i < folder.len && folder.ptr[i] != '/')
			continue;
		if (i == start)
			return ESP_EINVAL;     /* "..", which leads out of the account */
		if (!put(out, &at, '.') || !put_component(out, &at, (esp_str){ folder.ptr + start, i - start }))
			return ESP_E2BIG;
		start = i + 1;
	}
	return strlen(strrchr(out, '/') + 1) <= FOLDER_NAME ? ESP_OK : ESP_E2BIG;
}

static int sextet(char c)
{
	return c >= 'A' && c <= 'Z' ? c - 'A' : c >= 'a' && c <= 'z' ? c - 'a' + 26 : c >= '0' && c <= '9' ? c - '0' + 52 :
		c == '+' ? 62 : c == ',' ? 63 : -1;
}

static int put_utf8(char *out, size_t *at, uint32_t c)
{
	int more = c < 0x80 ? 0 : c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
	static const unsigned char lead[] = { 0, 0xc0, 0xe0, 0xf0 };

	if (c < 0x20 || c == 0x7f || *at + 5 > MAILDIR_NAME)   /* no mailbox has such a name */
		return 0;
	out[(*at)++] = (char)(lead[more] | c >> (6 * more));
	while (more-- > 0)
		out[(*at)++] = (char)(0x80 | (c >> (6 * more) & 0x3f));
	return 1;
}

/* Behind "&"; returns what follows "-", or NULL. */
static const char *read_base64(const char *p, char *out, size_t *at)
{
	uint32_t bits = 0, high = 0;
	int have = 0, v;

	for (; (v = sextet(*p)) >= 0; p++) {
		bits = bits << 6 | (uint32_t)v;
		have += 6;
		if (have < 16)
			continue;
		have -= 16;
		uint32_t unit = bits >> have & 0xffff;
		bits &= (1u << have) - 1;
		if ((unit & 0xfc00) == 0xdc00 ? !high : high)
			return NULL;
		if ((unit & 0xfc00) == 0xd800) {
			high = unit;
			continue;
		}
		if (!put_utf8(out, at, high ? 0x10000 + ((high - 0xd800) << 10) + (unit - 0xdc00) : unit))
			return NULL;
		high = 0;
	}
	return *p == '-' && !high && !bits ? p + 1 : NULL;
}

esp_status name_folder_read(const char *dir, char out[MAILDIR_NAME])
{
	size_t at = 0;

	if (!*dir)
		return memcpy(out, "INBOX", sizeof "INBOX"), ESP_OK;
	for (const char *p = dir; *p; ) {
		unsigned char c = (unsigned char)*p++;
		if (c == '.') {
			if (*p == '.' || !*p || (at > 0 && !put_utf8(out, &at, '/')))
				return ESP_EINVAL;
		} else if (c == '&' && *p == '-') {
			p++;
			if (!put_utf8(out, &at, '&'))
				return ESP_EINVAL;
		} else if (c == '&') {
			p = read_base64(p, out, &at);
			if (!p)
				return ESP_EINVAL;
		} else if (c >= 0x80 || !put_utf8(out, &at, c)) {
			return ESP_EINVAL;
		}
	}
	out[at] = '\0';
	return *dir == '.' ? ESP_OK : ESP_EINVAL;
}

static int hex_digit(char c)
{
	return c >= '0' && c <= '9'   ? c - '0'
		   : c >= 'A' && c <= 'F' ? c - 'A' + 10
		   : c >= 'a' && c <= 'f' ? c - 'a' + 10
								  : -1;
}

static int read_account_part(const char *p, char *out, size_t *at)
{
	for (; *p; p++) {
		char c = *p;
		if (c == '%') {
			if (hex_digit(p[1]) < 0 || hex_digit(p[2]) < 0)
				return 0;
			c = (char)(hex_digit(p[1]) << 4 | hex_digit(p[2]));
			p += 2;
		}
		if (!c || !put(out, at, c))
			return 0;
	}
	return 1;
}

esp_status name_account_read(const char *domain, const char *local, char out[MAILDIR_PATH])
{
	char again[MAILDIR_PATH];
	size_t at = 0;

	if (!read_account_part(local, out, &at) || !put(out, &at, '@') || !read_account_part(domain, out, &at))
		return ESP_EINVAL;
	/* one spelling only: two directories are never one account */
	if (name_folder((esp_str){ out, at }, ESP_STR("INBOX"), again) != ESP_OK ||
	    strncmp(again, domain, strlen(domain)) != 0 || strcmp(again + strlen(domain) + 1, local) != 0)
		return ESP_EINVAL;
	return ESP_OK;
}

static const struct { uint32_t flag; char letter; } flag_letters[] = {
	{ 1u << 4, 'D' }, { 1u << 2, 'F' }, { 1u << 1, 'R' }, { 1u << 0, 'S' }, { 1u << 3, 'T' } };

/* Suffix letters in ASCII order, as Maildir readers want them. */
static void put_flags(char *out, uint32_t flags)
{
	size_t n = 0;

	for (size_t i = 0; i < sizeof flag_letters / sizeof flag_letters[0]; i++)
		if (flags & flag_letters[i].flag)
			out[n++] = flag_letters[i].letter;
	out[n] = '\0';
}

/* The first 48 bits of a UUIDv7 are milliseconds. */
static uint64_t id_seconds(esp_id id)
{
	uint64_t msec = 0;

	for (int i = 0; i < 6; i++)
		msec = msec << 8 | id.b[i];
	return msec / 1000;
}

esp_status name_message(
	esp_id id, uint64_t bytes, uint32_t uid, uint32_t flags, esp_str hostname, char out[MAILDIR_PATH])
{
	char hex[MAILDIR_HEX], letters[8];
	int n;

	file_hex(id, hex);
	put_flags(letters, flags);
	n = snprintf(out, MAILDIR_PATH, "%llu.%s.%.*s,S=%llu,U=%u:2,%s", (unsigned long long)id_seconds(id), hex,
	             (int)(hostname.len > 100 ? 100 : hostname.len), hostname.ptr ? hostname.ptr : "",
	             (unsigned long long)bytes, uid, letters);
	return n > 0 && (size_t)n < MAILDIR_PATH ? ESP_OK : ESP_E2BIG;
}

int name_in_folder(esp_str name)
{
	return name.len > 4 && name.len < FOLDER_NAME + 4 &&
		   (memcmp(name.ptr, "cur/", 4) == 0 || memcmp(name.ptr, "new/", 4) == 0) &&
		   !memchr(name.ptr + 4, '/', name.len - 4) && !memchr(name.ptr, '\0', name.len) && name.ptr[4] != '.';
}

static uint32_t read_flags(const char *name)
{
	const char *info = strstr(name, ":2,");
	uint32_t flags = 0;

	for (const char *p = info ? info + 3 : ""; *p; p++)
		for (size_t i = 0; i < sizeof flag_letters / sizeof flag_letters[0]; i++)
			if (*p == flag_letters[i].letter)
				flags |= flag_letters[i].flag;
	return flags;
}

esp_status name_id_read(const char *hex, esp_id *ret)
{
	for (size_t i = 0; i < sizeof ret->b; i++) {
		int a = hex_digit(hex[2 * i]), b = a < 0 ? -1 : hex_digit(hex[2 * i + 1]);
		if (b < 0)
			return ESP_EINVAL;
		ret->b[i] = (uint8_t)(a << 4 | b);
	}
	return ESP_OK;
}

esp_status name_message_read(const char *name, esp_blob_link *ret)
{
	const char *p = strchr(name, '.'), *u = strstr(name, ",U=");
	unsigned long long uid;
	char *end;
	esp_id id;

	ret->flags = read_flags(name);
	if (!p || !u || name_id_read(++p, &id) != ESP_OK)
		return ESP_EINVAL;
	uid = u[3] >= '1' && u[3] <= '9' ? strtoull(u + 3, &end, 10) : 0;
	if (p[2 * sizeof id.b] != '.' || uid == 0 || uid >= UINT32_MAX || (*end && *end != ':' && *end != ','))
		return ESP_EINVAL;
	ret->id = id;
	ret->uid = (uint32_t)uid;
	return ESP_OK;
}
