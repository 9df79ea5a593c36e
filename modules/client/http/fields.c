/* fields - header fields: which ones a caller may send, and what those of a server must look like.
 *
 * Curl reads the answers; what it forgives, and what another reader of the same connection might understand in another
 * way, is refused here before it comes to that: two lengths, a length that is no number, a length beside chunks, a name
 * with a blank in it.
 */
#include "http.h"

#include <string.h>
#include <strings.h>

static int is_one_of(esp_str name, const char *const *list)
{
	for (; *list; list++)
		if (name.len == strlen(*list) && strncasecmp(name.ptr, *list, name.len) == 0)
			return 1;
	return 0;
}

int fields_harmless(esp_str name)
{
	static const char *const list[] = { "Accept", "Accept-Language", "Content-Type", "Content-Language", "User-Agent",
		NULL };

	return is_one_of(name, list);
}

static int is_token(esp_str s)
{
	for (size_t i = 0; i < s.len; i++) {
		char c = s.ptr[i];
		if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')
				|| (c && strchr("!#$%&'*+-.^_`|~", c))))
			return 0;
	}
	return s.len != 0;
}

static int is_field_value(esp_str s)
{
	for (size_t i = 0; i < s.len; i++)
		if ((s.ptr[i] >= 0 && s.ptr[i] < ' ' && s.ptr[i] != '\t') || s.ptr[i] == 0x7f)
			return 0;
	return s.len <= 8192;
}

const esp_httpc_header *fields_at(const esp_httpc_request *rq, uint32_t i)
{
	return (const esp_httpc_header *)(const void *)((const char *)rq->header + (size_t)i * rq->header_size);
}

esp_status fields_check(const esp_httpc_request *rq, esp_err *err)
{
	static const char *const framing[] = { "Host", "Content-Length", "Transfer-Encoding", "TE", "Trailer", "Connection",
		"Keep-Alive", "Proxy-Connection", "Proxy-Authorization", "Upgrade", "Expect", "Accept-Encoding", NULL };

	if (rq->method.len > 32 || (rq->method.len && !is_token(rq->method)) ||
		esp_str_eq(rq->method, ESP_STR("CONNECT"))) {
		say(err, "it is no method of HTTP");
		return ESP_EINVAL;
	}
	if (rq->nheaders > 64 || (rq->nheaders && rq->header_size < sizeof(esp_httpc_header))) {
		say(err, "more than 64 header fields, or no header_size");
		return ESP_EINVAL;
	}
	for (uint32_t i = 0; i < rq->nheaders; i++) {
		const esp_httpc_header *h = fields_at(rq, i);
		if (!is_token(h->name) || h->name.len > 128 || !is_field_value(h->value) || is_one_of(h->name, framing)) {
			say(err, "the header field \"%.*s\" cannot be sent: its name, or a byte in it, or it belongs to HTTP",
				h->name.len > 60 ? 60 : ESP_FMT(h->name));
			return ESP_EINVAL;
		}
	}
	return ESP_OK;
}

static esp_str trimmed(const char *p, size_t n)
{
	while (n && (p[n - 1] == ' ' || p[n - 1] == '\t' || p[n - 1] == '\r' || p[n - 1] == '\n'))
		n--;
	while (n && (*p == ' ' || *p == '\t')) {
		p++;
		n--;
	}
	return (esp_str){ p, n };
}

static const char *take_length(struct framing *f, esp_str value)
{
	uint64_t length = 0;

	for (size_t i = 0; i < value.len; i++) {
		if (value.ptr[i] < '0' || value.ptr[i] > '9')
			return "a Content-Length that is no number";
		length = length * 10 + (uint64_t)(value.ptr[i] - '0');
	}
	if (value.len == 0 || value.len > 18)
		return "a Content-Length that is no number, or beyond all measure";
	if (f->has_length && length != f->length)
		return "two Content-Lengths";
	f->has_length = 1;
	f->length = length;
	return f->chunked ? "a Content-Length beside Transfer-Encoding" : NULL;
}

const char *fields_take(struct framing *f, const char *line, size_t n)
{
	const char *colon = memchr(line, ':', n);
	esp_str name = { line, colon ? (size_t)(colon - line) : 0 }, value;

	if (n > 5 && memcmp(line, "HTTP/", 5) == 0) {
		memset(f, 0, sizeof *f);
		return n > 12 && memcmp(line + 8, " 101", 4) == 0 ? "another protocol, which nobody asked for" : NULL;
	}
	f->whole |= n && n <= 2 && line[n - 1] == '\n';
	if (n <= 2 || *line == ' ' || *line == '\t')      /* its end; or a line goes on */
		return NULL;
	if (!is_token(name))
		return "a line without a name in front";
	value = trimmed(colon + 1, n - name.len - 1);
	if (memchr(value.ptr, 0, value.len) || memchr(value.ptr, '\r', value.len))
		return "a NUL or CR within a line";
	if (f->whole)          /* behind the body: these change nothing */
		return NULL;
	if (name.len == 14 && strncasecmp(name.ptr, "Content-Length", 14) == 0)
		return take_length(f, value);
	if (name.len != 17 || strncasecmp(name.ptr, "Transfer-Encoding", 17) != 0)
		return NULL;
	if (value.len != 7 || strncasecmp(value.ptr, "chunked", 7) != 0 || f->chunked)
		return "a Transfer-Encoding other than chunked";
	f->chunked = 1;
	return f->has_length ? "a Content-Length beside Transfer-Encoding" : NULL;
}
