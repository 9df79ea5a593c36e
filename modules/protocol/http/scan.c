/* scan - see scan.h. */
#include "scan.h"

#include <strings.h>

#define BAD(why) ((struct fault){ 400, why })

static int is_digit(char c) { return c >= '0' && c <= '9'; }
static int is_alpha(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

static int is_tchar(char c)
{
	return is_alpha(c) || is_digit(c) || (c && strchr("!#$%&'*+-.^_`|~", c));
}

static int is_visible(char c) { return (unsigned char)c > 0x20 && (unsigned char)c < 0x7f; }

int scan_is_token(esp_str s)
{
	for (size_t i = 0; i < s.len; i++)
		if (!is_tchar(s.ptr[i]))
			return 0;
	return s.len > 0;
}

int scan_is_value(esp_str s)
{
	for (size_t i = 0; i < s.len; i++) {
		unsigned char c = (unsigned char)s.ptr[i];

		if ((c < 0x20 && c != '\t') || c == 0x7f)
			return 0;
	}
	return 1;
}

esp_str scan_trim(esp_str s)
{
	while (s.len && (s.ptr[0] == ' ' || s.ptr[0] == '\t')) {
		s.ptr++;
		s.len--;
	}
	while (s.len && (s.ptr[s.len - 1] == ' ' || s.ptr[s.len - 1] == '\t'))
		s.len--;
	return s;
}

int scan_same(esp_str a, const char *b)
{
	return a.len == strlen(b) && (a.len == 0 || strncasecmp(a.ptr, b, a.len) == 0);
}

int scan_list(esp_str *rest, esp_str *ret)
{
	while (rest->len) {
		const char *comma = memchr(rest->ptr, ',', rest->len);
		size_t n = comma ? (size_t)(comma - rest->ptr) : rest->len;

		*ret = scan_trim((esp_str){ rest->ptr, n });
		n += comma != NULL;
		rest->ptr += n;
		rest->len -= n;
		if (ret->len)
			return 1;
	}
	return 0;
}

esp_status scan_number(esp_str text, uint64_t *ret)
{
	uint64_t n = 0;

	if (text.len == 0 || text.len > 18)     /* 10^18 is far below 2^63 */
		return ESP_EPROTO;
	for (size_t i = 0; i < text.len; i++) {
		if (!is_digit(text.ptr[i]))
			return ESP_EPROTO;
		n = n * 10 + (uint64_t)(text.ptr[i] - '0');
	}
	*ret = n;
	return ESP_OK;
}

static int is_known_method(esp_str m)
{
	static const char *const known[] = { "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS" };

	for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
		if (esp_str_eq(m, (esp_str){ known[i], strlen(known[i]) }))
			return 1;
	return 0;
}

/* "HTTP/1.1" */
static struct fault scan_version(esp_str v, uint32_t *ret_minor)
{
	if (v.len != 8 || memcmp(v.ptr, "HTTP/", 5) != 0 || !is_digit(v.ptr[5]) || v.ptr[6] != '.' || !is_digit(v.ptr[7]))
		return BAD("the first line must end in HTTP/1.1");
	*ret_minor = (uint32_t)(v.ptr[7] - '0');
	return v.ptr[5] == '1' && *ret_minor <= 1 ? FAULT_NONE
		: (struct fault){ 505, "speak HTTP/1.1 here; a proxy in front may speak HTTP/2" };
}

struct fault scan_request_line(esp_str line, struct request_line *ret)
{
	const char *end = line.len ? line.ptr + line.len : line.ptr;
	const char *blank = line.len ? memchr(line.ptr, ' ', line.len) : NULL;
	const char *second = blank ? memchr(blank + 1, ' ', (size_t)(end - blank - 1)) : NULL;
	struct fault f;

	if (!second)
		return BAD("a request begins with: METHOD TARGET HTTP/1.1");
	ret->method = (esp_str){ line.ptr, (size_t)(blank - line.ptr) };
	ret->target = (esp_str){ blank + 1, (size_t)(second - blank - 1) };
	if (!scan_is_token(ret->method))
		return BAD("the method is no token");
	if (ret->target.len == 0)
		return BAD("there is no target");
	for (size_t i = 0; i < ret->target.len; i++)
		if (!is_visible(ret->target.ptr[i]))
			return BAD("a blank, control character or other than ASCII in the target: encode it with %XX");
	f = scan_version((esp_str){ second + 1, (size_t)(end - second - 1) }, &ret->minor);
	if (f.code)
		return f;
	if (is_known_method(ret->method))
		return FAULT_NONE;
	return (struct fault){ 501, "no such method here; there are GET, HEAD, POST, PUT, PATCH, DELETE and OPTIONS" };
}

struct fault scan_field(esp_str line)
{
	const char *colon = line.len ? memchr(line.ptr, ':', line.len) : NULL;
	size_t n = colon ? (size_t)(colon - line.ptr) : 0;

	if (line.len && (line.ptr[0] == ' ' || line.ptr[0] == '\t'))
		return BAD("a folded field: write each field on one line");
	if (!colon)
		return BAD("a field without a colon");
	if (!scan_is_token((esp_str){ line.ptr, n }))
		return BAD("the name of a field is no token; no blank may stand before its colon");
	return scan_is_value((esp_str){ colon + 1, line.len - n - 1 }) ? FAULT_NONE : BAD("a control character in a field");
}

int scan_hex(char c)
{
	if (is_digit(c))
		return c - '0';
	c = (char)(c | 0x20);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

struct fault scan_chunk_size(esp_str line, uint64_t *ret)
{
	size_t i = 0;
	uint64_t n = 0;

	for (; i < line.len && scan_hex(line.ptr[i]) >= 0; i++) {
		if (i == 15)                   /* 2^60 */
			return BAD("a chunk is too large");
		n = n << 4 | (uint64_t)scan_hex(line.ptr[i]);
	}
	if (i == 0)
		return BAD("a chunk begins with its length in hexadecimal digits");
	if (i < line.len && line.ptr[i] != ';')
		return BAD("only an extension that begins with ; may follow the length of a chunk");
	if (!scan_is_value((esp_str){ line.ptr + i, line.len - i }))
		return BAD("a control character in the extension of a chunk");
	*ret = n;
	return FAULT_NONE;
}
