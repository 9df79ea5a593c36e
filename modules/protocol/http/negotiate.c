/* negotiate - see negotiate.h. */
#include "negotiate.h"

#include <strings.h>

/* The weight behind a coding: "q=0", "q=0.000" say never; anything else that is well formed says yes. */
static int is_refused(esp_str params)
{
	esp_str p = scan_trim(params);

	if (p.len < 3 || (p.ptr[0] != 'q' && p.ptr[0] != 'Q') || p.ptr[1] != '=')
		return 0;
	for (size_t i = 2; i < p.len; i++)
		if (p.ptr[i] != '0' && p.ptr[i] != '.')
			return 0;
	return 1;
}

int negotiate_takes_gzip(esp_str accept)
{
	int star = 0;
	esp_str word;

	while (scan_list(&accept, &word)) {
		const char *semicolon = memchr(word.ptr, ';', word.len);
		esp_str coding = scan_trim((esp_str){ word.ptr, semicolon ? (size_t)(semicolon - word.ptr) : word.len });
		esp_str params = semicolon ? (esp_str){ semicolon + 1, (size_t)(word.ptr + word.len - semicolon - 1) }
		                           : (esp_str){ NULL, 0 };

		if (scan_same(coding, "gzip") || scan_same(coding, "x-gzip"))
			return !is_refused(params);
		if (scan_same(coding, "*"))
			star = !is_refused(params);
	}
	return star;
}

static int begins(esp_str s, const char *with)
{
	size_t n = strlen(with);

	return s.len >= n && strncasecmp(s.ptr, with, n) == 0;
}

static int ends(esp_str s, const char *with)
{
	size_t n = strlen(with);

	return s.len >= n && strncasecmp(s.ptr + s.len - n, with, n) == 0;
}

int negotiate_is_text(esp_str type)
{
	const char *semicolon = type.len ? memchr(type.ptr, ';', type.len) : NULL;
	esp_str bare = scan_trim((esp_str){ type.ptr, semicolon ? (size_t)(semicolon - type.ptr) : type.len });

	/* pieces of text/event-stream are waited for one by one */
	return (begins(bare, "text/") && !scan_same(bare, "text/event-stream")) || begins(bare, "application/json") ||
		   begins(bare, "application/javascript") || begins(bare, "application/xml") ||
		   begins(bare, "application/yaml") || ends(bare, "+json") || ends(bare, "+xml");
}

int negotiate_is_tag(esp_str tag)
{
	for (size_t i = 0; i < tag.len; i++)
		if ((unsigned char)tag.ptr[i] <= 0x20 || (unsigned char)tag.ptr[i] >= 0x7f || tag.ptr[i] == '"')
			return 0;
	return tag.len > 0 && tag.len <= 200;
}

/* A tag may have commas in it, so this is no list of scan_list(). */
int negotiate_has(esp_str list, esp_str tag)
{
	esp_str s = scan_trim(list);

	if (esp_str_eq(s, ESP_STR("*")))
		return 1;
	while (s.len) {
		const char *open = memchr(s.ptr, '"', s.len), *close;

		if (!open)
			return 0;
		s.len -= (size_t)(open + 1 - s.ptr);
		s.ptr = open + 1;
		close = s.len ? memchr(s.ptr, '"', s.len) : NULL;
		if (!close)
			return 0;
		if (esp_str_eq((esp_str){ s.ptr, (size_t)(close - s.ptr) }, tag))
			return 1;
		s.len -= (size_t)(close + 1 - s.ptr);
		s.ptr = close + 1;
	}
	return 0;
}
