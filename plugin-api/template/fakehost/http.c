/* http.c - a request for a route that the module contributes (esp/http.h), answered as the server would. */
#include "internal.h"

#include <esp/http.h>

#include <strings.h>

enum { PARAMS = 8, OUT_MAX = 1 << 20 };

/* One request; the esp_http_request that the handler gets is its first member. */
struct request {
	esp_http_request pub;
	struct fakehost *h;
	esp_str fields, body;           /* lines of the head; what is left of the body */
	esp_identity who;
	struct { esp_str name, value; } params[PARAMS];
	uint32_t nparams, status;
	int streaming;
	char *out;
	size_t out_len;
	esp_status result;
};

static struct request *request_of(const esp_http_request *r) { return (struct request *)(uintptr_t)r; }

/* Where `what` is in it, or NULL; all text here ends in NUL somewhere behind. */
static const char *find_in(esp_str s, const char *what)
{
	const char *at = s.len ? strstr(s.ptr, what) : NULL;

	return at && at + strlen(what) <= s.ptr + s.len ? at : NULL;
}

/* Up to `stop`, which is passed over. */
static esp_str word(esp_str *rest, const char *stop)
{
	const char *end = find_in(*rest, stop);
	esp_str w = { rest->ptr, end ? (size_t)(end - rest->ptr) : rest->len };
	size_t n = w.len + (end ? strlen(stop) : 0);

	rest->ptr += n;
	rest->len -= n;
	return w;
}

static esp_str decoded(const struct request *r, esp_str s, int form)
{
	char *p = (char *)r->pub.arena->api->alloc(r->pub.arena, s.len + 1), *start = p;
	unsigned code;

	for (size_t i = 0; i < s.len; i++) {
		if (s.ptr[i] == '%' && s.len - i > 2 && sscanf(s.ptr + i + 1, "%2x", &code) == 1) {
			*p++ = (char)code;
			i += 2;
		} else {
			*p++ = form && s.ptr[i] == '+' ? ' ' : s.ptr[i];
		}
	}
	return (esp_str){ start, (size_t)(p - start) };
}

/* Does the path fit?  Fills the parameters. */
static int matches(struct request *r, const char *pattern)
{
	esp_str rest = { pattern, strlen(pattern) }, path = r->pub.path;

	r->nparams = 0;
	while (rest.len && path.len) {
		esp_str want = word(&rest, "/"), have;

		if (want.len > 3 && want.ptr[want.len - 2] == '*') {
			r->params[r->nparams].name = (esp_str){ want.ptr + 1, want.len - 3 };
			r->params[r->nparams++].value = decoded(r, path, 0);
			return 1;
		}
		have = word(&path, "/");
		if (want.len > 2 && want.ptr[0] == '{' && have.len && r->nparams < PARAMS) {
			r->params[r->nparams].name = (esp_str){ want.ptr + 1, want.len - 2 };
			r->params[r->nparams++].value = decoded(r, have, 0);
		} else if (!esp_str_eq(want, have)) {
			return 0;
		}
	}
	return !rest.len && !path.len;
}

/* --- esp_http ----------------------------------------------------------------------------------------------------- */

static esp_str on_param(const esp_http_request *pub, const char *name)
{
	const struct request *r = request_of(pub);

	for (uint32_t i = 0; i < r->nparams; i++)
		if (esp_str_eq(r->params[i].name, (esp_str){ name, strlen(name) }))
			return r->params[i].value;
	return (esp_str){ NULL, 0 };
}

static esp_str on_header(esp_http_request *pub, const char *name)
{
	esp_str rest = request_of(pub)->fields;

	while (rest.len) {
		esp_str value = word(&rest, "\r\n"), key = word(&value, ": ");

		if (key.len == strlen(name) && strncasecmp(key.ptr, name, key.len) == 0)
			return value;
	}
	return (esp_str){ NULL, 0 };
}

static esp_status on_query(esp_http_request *pub, const char *name, esp_str *ret)
{
	esp_str rest = pub->query;

	while (rest.len) {
		esp_str value = word(&rest, "&"), key = word(&value, "=");

		if (!esp_str_eq(decoded(request_of(pub), key, 1), (esp_str){ name, strlen(name) }))
			continue;
		*ret = decoded(request_of(pub), value, 1);
		return ESP_OK;
	}
	return ESP_ENOENT;
}

static esp_status on_read(esp_http_request *pub, size_t max, esp_str *ret)
{
	struct request *r = request_of(pub);

	if (pub->length > pub->route->max_body)
		return ESP_E2BIG;
	*ret = (esp_str){ r->body.ptr, r->body.len < max ? r->body.len : max };
	r->body.ptr += ret->len;
	r->body.len -= ret->len;
	return ESP_OK;
}

static esp_status on_body(esp_http_request *pub, esp_str *ret) { return on_read(pub, SIZE_MAX, ret); }

static esp_status on_set(esp_http_request *pub, const char *name, esp_str value)
{
	static const char *const ours[] = { "date", "server", "connection", "content-length", "transfer-encoding", "etag" };

	for (size_t i = 0; i < sizeof ours / sizeof ours[0]; i++)
		if (strcasecmp(name, ours[i]) == 0)
			return ESP_EINVAL;
	return request_of(pub)->status || memchr(value.ptr ? value.ptr : "", '\n', value.len) ? ESP_EINVAL : ESP_OK;
}

static esp_status put(struct request *r, esp_str piece)
{
	if (r->out_len + piece.len > OUT_MAX)
		broken("a route answered with more than %d bytes", OUT_MAX);
	if (piece.len)
		memcpy(r->out + r->out_len, piece.ptr, piece.len);
	r->out_len += piece.len;
	return ESP_OK;
}

static esp_status on_begin(esp_http_request *pub, uint32_t status, const char *type)
{
	struct request *r = request_of(pub);

	(void)type;
	if (r->status || status < 200 || status > 599)
		return ESP_EINVAL;
	r->status = status;
	r->streaming = 1;
	return ESP_OK;
}

static esp_status on_reply(esp_http_request *pub, uint32_t status, const char *type, esp_str body)
{
	esp_status st = on_begin(pub, status, type);

	request_of(pub)->streaming = 0;
	return st == ESP_OK ? put(request_of(pub), body) : st;
}

static esp_status on_fail(esp_http_request *pub, uint32_t status, const char *text)
{
	return on_reply(pub, status, NULL, (esp_str){ text, strlen(text) });
}

static esp_status on_write(esp_http_request *pub, esp_str piece)
{
	return request_of(pub)->streaming ? put(request_of(pub), piece) : ESP_EINVAL;
}

static esp_status on_flush(esp_http_request *pub) { (void)pub; return ESP_OK; }

static esp_status on_etag(esp_http_request *pub, esp_str tag)
{
	esp_str known = on_header(pub, "If-None-Match");
	esp_str text = esp_strdup_in(pub->arena, tag);

	if (!tag.len || !known.len || !find_in(known, text.ptr))
		return tag.len ? ESP_OK : ESP_EINVAL;
	return on_reply(pub, 304, NULL, ESP_STR("")) == ESP_OK ? ESP_EEXIST : ESP_EINVAL;
}

static const esp_http fake_http = { .service = { .size = sizeof fake_http }, .param = on_param, .header = on_header,
	.query = on_query, .read = on_read, .body = on_body, .set = on_set, .etag = on_etag, .reply = on_reply,
	.fail = on_fail, .begin = on_begin, .write = on_write, .flush = on_flush };

/* --- the request -------------------------------------------------------------------------------------------------- */

static const esp_http_route *find(struct request *r)
{
	const esp_http_route *found = NULL;

	for (uint32_t i = 0; i < r->h->nitems && !found; i++) {
		const esp_http_route *route = (const esp_http_route *)r->h->items[i].data;

		if (strcmp(r->h->items[i].point, ESP_HTTP_ROUTE) == 0 && matches(r, route->path) &&
			esp_str_eq(r->pub.method, (esp_str){ route->method, strlen(route->method) }))
			found = route;
	}
	return found;
}

static void run(void *arg)
{
	struct request *r = (struct request *)arg;

	r->result = r->pub.route->handle(&r->h->module, &r->pub);
}

/* The server's own words for what a handler returns. */
static uint32_t status_of(esp_status st)
{
	return st == ESP_ENOENT ? 404 : st == ESP_EACCES ? 403 : st == ESP_EINVAL || st == ESP_EPROTO ? 400
		: st == ESP_E2BIG ? 413 : st == ESP_EEXIST || st == ESP_ECONFLICT ? 409
		: st == ESP_EBUSY || st == ESP_EUNAVAIL || st == ESP_ETIMEDOUT || st == ESP_ENOMEM ? 503 : 500;
}

uint32_t fakehost_request(struct fakehost *h, const char *text, const char **ret_body)
{
	struct arena *keep = fake->txn;
	esp_str head = { text, strlen(text) }, line, target;
	struct request r = { .h = h };

	r.pub.size = sizeof r.pub;
	r.pub.http = &fake_http;
	r.pub.arena = arena_pub(keep);
	r.out = (char *)malloc(OUT_MAX);
	if (!r.out)
		abort();
	r.body = head;
	head = word(&r.body, "\r\n\r\n");
	line = word(&head, "\r\n");
	r.fields = head;
	r.pub.method = word(&line, " ");
	target = word(&line, " ");
	r.pub.path = word(&target, "?");
	r.pub.query = target;
	r.pub.length = r.body.len;
	r.who.size = sizeof r.who;
	r.who.login = on_header(&r.pub, "User");
	r.pub.route = find(&r);
	if (r.pub.route && r.pub.route->access == ESP_HTTP_ACCOUNT && r.who.login.len)
		r.pub.who = &r.who;
	if (!r.pub.route || (r.pub.route->access == ESP_HTTP_ACCOUNT && !r.pub.who) || !r.pub.route->access) {
		r.status = !r.pub.route ? 404 : !r.pub.route->access ? 403 : 401;
	} else {
		in_fiber("http", run, &r);
		if (!r.status && r.result == ESP_OK)
			broken("the route %s returned ESP_OK and gave no answer", r.pub.route->path);
		if (!r.status)
			r.status = status_of(r.result);
	}
	line = esp_strdup_in(arena_pub(keep), (esp_str){ r.out, r.out_len });
	free(r.out);
	if (ret_body)
		*ret_body = line.ptr;
	return r.status;
}
