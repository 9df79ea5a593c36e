/* target - see target.h. */
#include "head.h"
#include "target.h"

#include <strings.h>

#define BAD(why) ((struct fault){ 400, why })

/* The character at s[*at], decoded; *at is then behind it.  -1: bad. */
static int next_char(esp_str s, size_t *at)
{
	int high, low;

	if (s.ptr[*at] != '%')
		return (unsigned char)s.ptr[(*at)++];
	if (s.len - *at < 3)
		return -1;
	high = scan_hex(s.ptr[*at + 1]);
	low = scan_hex(s.ptr[*at + 2]);
	*at += 3;
	return high < 0 || low < 0 || (high | low) == 0 ? -1 : high << 4 | low;
}

esp_status target_decode(esp_str s, int form, esp_buf *out)
{
	for (size_t at = 0; at < s.len;) {
		int plus = form && s.ptr[at] == '+', c = next_char(s, &at);

		if (c < 0)
			return ESP_EPROTO;
		if (esp_buf_add_char(out, plus ? ' ' : (char)c) != ESP_OK)
			return out->err;
	}
	return ESP_OK;
}

static int is_encoded_well(esp_str s)
{
	for (size_t at = 0; at < s.len;)
		if (next_char(s, &at) < 0)
			return 0;
	return 1;
}

/* --- the target ------------------------------------------------------------------------------------------ */

/* "http://host:port/path" becomes the path and the host; RFC 9112 3.2.2. */
static struct fault read_absolute(struct head *h, esp_str *rest)
{
	size_t scheme = rest->len >= 7 && strncasecmp(rest->ptr, "http://", 7) == 0   ? 7
	              : rest->len >= 8 && strncasecmp(rest->ptr, "https://", 8) == 0 ? 8 : 0;
	size_t n = scheme;

	if (!scheme)
		return BAD("the target begins with /");
	while (n < rest->len && rest->ptr[n] != '/' && rest->ptr[n] != '?')
		n++;
	h->host = (esp_str){ rest->ptr + scheme, n - scheme };
	if (h->host.len == 0)
		return BAD("the target names no host");
	*rest = n < rest->len && rest->ptr[n] == '/' ? (esp_str){ rest->ptr + n, rest->len - n } : (esp_str){ NULL, 0 };
	return rest->len ? FAULT_NONE : BAD("the target has no path");
}

/* "." and "..", however encoded: what they lead to differs between programs. */
static int is_dots(esp_str segment)
{
	size_t n = 0, at = 0;

	while (at < segment.len) {
		if (next_char(segment, &at) != '.' || ++n > 2)
			return 0;
	}
	return n > 0;
}

static struct fault check_path(esp_str path)
{
	size_t begin = 1;

	if (!is_encoded_well(path))
		return BAD("a % in the path is not followed by two hexadecimal digits, or encodes NUL");
	for (size_t i = 1; i <= path.len; i++)
		if (i == path.len || path.ptr[i] == '/') {
			if (is_dots((esp_str){ path.ptr + begin, i - begin }))
				return BAD("a segment . or .. in the path: send the path it leads to");
			begin = i + 1;
		}
	return FAULT_NONE;
}

struct fault target_read(struct head *h)
{
	esp_str rest = h->target;
	const char *mark;
	struct fault f;

	if (esp_str_eq(rest, ESP_STR("*"))) {
		h->path = rest;
		return esp_str_eq(h->method, ESP_STR("OPTIONS")) ? FAULT_NONE : BAD("the target * is for OPTIONS alone");
	}
	if (memchr(rest.ptr, '#', rest.len))
		return BAD("a # in the target: fragments are not sent");
	if (rest.ptr[0] != '/') {
		f = read_absolute(h, &rest);
		if (f.code)
			return f;
	}
	mark = memchr(rest.ptr, '?', rest.len);
	h->path = (esp_str){ rest.ptr, mark ? (size_t)(mark - rest.ptr) : rest.len };
	h->query = mark ? (esp_str){ mark + 1, rest.len - h->path.len - 1 } : (esp_str){ "", 0 };
	return check_path(h->path);
}

/* Does the encoded text say `name`? */
static int says(esp_str text, const char *name)
{
	size_t at = 0;

	for (; *name; name++) {
		int plus = at < text.len && text.ptr[at] == '+', c = at < text.len ? next_char(text, &at) : -1;

		if ((plus ? ' ' : c) != (unsigned char)*name)
			return 0;
	}
	return at == text.len;
}

int target_query(esp_str query, const char *name, esp_str *ret)
{
	while (query.len) {
		const char *amp = memchr(query.ptr, '&', query.len), *is;
		size_t n = amp ? (size_t)(amp - query.ptr) : query.len;

		is = memchr(query.ptr, '=', n);
		if (says((esp_str){ query.ptr, is ? (size_t)(is - query.ptr) : n }, name)) {
			*ret = is ? (esp_str){ is + 1, n - (size_t)(is - query.ptr) - 1 } : (esp_str){ "", 0 };
			return 1;
		}
		n += amp != NULL;
		query.ptr += n;
		query.len -= n;
	}
	return 0;
}

/* --- patterns -------------------------------------------------------------------------------------------- */

enum kind { LITERAL, PARAM, REST, NONE };
#define SEGMENTS 32u

static size_t segment_len(const char *p) { return strcspn(p, "/"); }

static enum kind kind_of(const char *segment, size_t n)
{
	return n < 3 || segment[0] != '{' ? LITERAL : segment[n - 2] == '*' ? REST : PARAM;
}

static int is_good_segment(const char *p, size_t n, int last)
{
	enum kind kind = kind_of(p, n);
	size_t name = kind == LITERAL ? n : kind == PARAM ? n - 2 : n - 3;

	if (kind != LITERAL && (p[n - 1] != '}' || name == 0))
		return 0;
	for (size_t i = 0; i < name; i++) {
		char c = p[i + (kind != LITERAL)];

		if ((unsigned char)c <= 0x20 || (unsigned char)c >= 0x7f || strchr("{}%?#\"\\", c))
			return 0;
	}
	return kind != REST || last;
}

int pattern_is_good(const char *pattern)
{
	uint32_t segments = 0, params = 0;

	if (!pattern || pattern[0] != '/' || strnlen(pattern, TARGET_PATTERN + 1) > TARGET_PATTERN)
		return 0;
	for (const char *p = pattern; *p;) {
		size_t n = segment_len(++p);

		if (!is_good_segment(p, n, p[n] == '\0') || ++segments > SEGMENTS)
			return 0;
		params += kind_of(p, n) != LITERAL;
		p += n;
	}
	return params <= TARGET_PARAMS;
}

static int literal_is(const char *p, size_t n, esp_str segment)
{
	size_t at = 0;

	for (size_t i = 0; i < n; i++)
		if (at >= segment.len || next_char(segment, &at) != (unsigned char)p[i])
			return 0;
	return at == segment.len;
}

int pattern_match(const char *pattern, esp_str path, struct match *ret)
{
	const char *p = pattern;

	*ret = (struct match){ .rank = 0 };
	for (uint32_t i = 0; i < SEGMENTS; i++) {
		size_t n = segment_len(++p);
		enum kind kind = kind_of(p, n);
		const char *slash;
		esp_str segment;

		if (path.len == 0)                   /* `path` is at the "/" before its segment */
			return 0;
		slash = kind == REST ? NULL : memchr(path.ptr + 1, '/', path.len - 1);
		segment = (esp_str){ path.ptr + 1, slash ? (size_t)(slash - path.ptr) - 1 : path.len - 1 };
		if (kind == LITERAL ? !literal_is(p, n, segment) : segment.len == 0)
			return 0;
		ret->rank |= (uint64_t)kind << 2 * (SEGMENTS - 1 - i);
		if (kind != LITERAL) {
			ret->params[ret->nparams].name = (esp_str){ p + 1, n - 2 - (kind == REST) };
			ret->params[ret->nparams++].value = segment;
		}
		path.ptr += segment.len + 1;
		path.len -= segment.len + 1;
		p += n;
		if (!*p)
			return path.len == 0;
	}
	return 0;
}
