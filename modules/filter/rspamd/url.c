/* url - addresses of rspamd as they stand in esp.conf. */
#include "rspamd.h"

#include <stdlib.h>

/* Behind "//": a name or an address, in brackets if it has colons; a port. */
static const char *authority_fault(const char *p, size_t n)
{
	const char *end = p + n, *close = n && *p == '[' ? memchr(p, ']', n) : NULL;
	const char *from = close ? close + 1 : p, *colon = memchr(from, ':', (size_t)(end - from));
	char digits[6] = "";
	unsigned long port;

	if (memchr(p, '@', n))
		return "it names a user: use `password`";
	if (n == 0 || colon == p || (*p == '[' && !close) || (close && close + 1 != end && close[1] != ':'))
		return "it names no host";
	if (!colon)
		return NULL;
	if (colon + 1 == end || end - colon > 6)
		return "its port is none";
	memcpy(digits, colon + 1, (size_t)(end - colon) - 1);
	port = strspn(digits, "0123456789") == strlen(digits) ? strtoul(digits, NULL, 10) : 0;
	return port < 1 || port > 65535 ? "its port is none: 1 to 65535" : NULL;
}

const char *url_fault(esp_str url)
{
	size_t scheme = url.len > 7 && memcmp(url.ptr, "http://", 7) == 0 ? 7
		: url.len > 8 && memcmp(url.ptr, "https://", 8) == 0 ? 8 : 0, i = scheme;

	if (!scheme)
		return "it begins with neither http:// nor https://";
	for (size_t k = 0; k < url.len; k++)
		if (url.ptr[k] <= ' ' || url.ptr[k] >= 0x7f || strchr("?#\\", url.ptr[k]))
			return "it has a blank, or one of ? # \\, or no ASCII";
	while (i < url.len && url.ptr[i] != '/')
		i++;
	return url.len > 1000 ? "it is longer than 1,000 bytes" : authority_fault(url.ptr + scheme, i - scheme);
}

esp_str url_with(esp_arena *arena, esp_str url, const char *path)
{
	size_t n = strlen(path);
	char *text;

	while (url.len && url.ptr[url.len - 1] == '/')
		url.len--;
	text = esp_alloc(arena, url.len + n + 1);
	if (!text)
		return (esp_str){ NULL, 0 };
	memcpy(text, url.ptr, url.len);
	memcpy(text + url.len, path, n);
	return (esp_str){ text, url.len + n };
}
