/* answer - the one writer of answers: their heads, whole bodies, streams, gzip.
 *
 * In the handler's fiber.  Before it waits for the client it gives back what the handler has of other modules, and
 * while it waits the time of the handler stands still: the core ends a client that takes nothing.
 */
#include "http.h"
#include "negotiate.h"

#include <esp/mail/date.h>

#include <stdio.h>

#define FIELDS_MAX  (8u << 10)
#define HEAD_MAX    (FIELDS_MAX + 1024u)
#define GZIP_LEAST  1024u          /* shorter bodies fit into one packet anyway */
#define GZIP_STEP   (64u << 10)
#define STREAMS_MAX 64u            /* a quarter of a MiB each */

static const char *phrase(uint32_t status)
{
	static const struct { uint32_t status; const char *phrase; } table[] = {
		{ 200, "OK" }, { 201, "Created" }, { 202, "Accepted" }, { 204, "No Content" }, { 206, "Partial Content" },
		{ 301, "Moved Permanently" }, { 302, "Found" }, { 303, "See Other" }, { 304, "Not Modified" },
		{ 307, "Temporary Redirect" }, { 308, "Permanent Redirect" }, { 400, "Bad Request" }, { 401, "Unauthorized" },
		{ 403, "Forbidden" }, { 404, "Not Found" }, { 405, "Method Not Allowed" }, { 406, "Not Acceptable" },
		{ 408, "Request Timeout" }, { 409, "Conflict" }, { 410, "Gone" }, { 411, "Length Required" },
		{ 412, "Precondition Failed" }, { 413, "Content Too Large" }, { 414, "URI Too Long" },
		{ 415, "Unsupported Media Type" }, { 417, "Expectation Failed" }, { 422, "Unprocessable Content" },
		{ 428, "Precondition Required" }, { 429, "Too Many Requests" }, { 431, "Request Header Fields Too Large" },
		{ 500, "Internal Server Error" }, { 501, "Not Implemented" }, { 502, "Bad Gateway" },
		{ 503, "Service Unavailable" }, { 504, "Gateway Timeout" }, { 505, "HTTP Version Not Supported" },
		{ 507, "Insufficient Storage" },
	};

	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
		if (table[i].status == status)
			return table[i].phrase;
	return "Status";
}

struct fault answer_fault(esp_status st)
{
	static const struct { esp_status st; struct fault fault; } table[] = {
		{ ESP_ENOENT, { 404, "it does not exist, or you may not see it" } },
		{ ESP_EACCES, { 403, "you may not do that" } },
		{ ESP_EINVAL, { 400, "a value is wrong or out of range" } },
		{ ESP_EUSAGE, { 400, "that is not how this is used" } },
		{ ESP_EPROTO, { 400, "the body cannot be read" } },
		{ ESP_E2BIG, { 413, "that is larger than may be sent here" } },
		{ ESP_EEXIST, { 409, "it exists already" } },
		{ ESP_ECONFLICT, { 409, "somebody else changed it meanwhile: read it again" } },
		{ ESP_EQUOTA, { 507, "the quota is used up" } },
		{ ESP_ENOSPC, { 507, "no space here now, try again later" } },
		{ ESP_EBUSY, { 503, "busy, try again later" } },
		{ ESP_ENOMEM, { 503, "no memory now, try again later" } },
		{ ESP_ETIMEDOUT, { 503, "this took too long, try again later" } },
		{ ESP_ECANCELED, { 503, "this server is going down, try again" } },
		{ ESP_EUNAVAIL, { 503, "not available now, try again later" } },
		{ ESP_EUNKNOWN, { 503, "whether it was done is not known: look before you try again" } },
	};

	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
		if (table[i].st == st)
			return table[i].fault;
	return (struct fault){ 500, "a local error: the log of this server says more" };
}

/* --- fields of the handler ------------------------------------------------------------------------------- */

esp_status answer_set(esp_http_request *pub, const char *name, esp_str value)
{
	static const char *const ours[] = { "Date", "Server", "Connection", "Content-Length", "Transfer-Encoding", "ETag" };
	struct request *r = request_of(pub);
	struct answer *a = &r->answer;
	esp_str n = { name, strlen(name) };
	size_t before = a->fields.len;

	if (a->status || !scan_is_token(n) || !scan_is_value(value))
		return ESP_EINVAL;
	for (size_t i = 0; i < sizeof ours / sizeof ours[0]; i++)
		if (scan_same(n, ours[i]))
			return ESP_EINVAL;
	if (!a->fields.max)
		esp_buf_init(&a->fields, FIELDS_MAX);
	(void)esp_buf_add_str(&a->fields, n);
	(void)esp_buf_add_z(&a->fields, ": ");
	(void)esp_buf_add_str(&a->fields, value);
	if (esp_buf_add_z(&a->fields, "\r\n") != ESP_OK) {
		esp_status st = a->fields.err;

		esp_buf_cut(&a->fields, before);
		return st;
	}
	a->encoded |= scan_same(n, "Content-Encoding") != 0;
	a->cached |= scan_same(n, "Cache-Control") != 0;
	a->typed |= scan_same(n, "Content-Type") != 0;
	return ESP_OK;
}

/* --- the connection -------------------------------------------------------------------------------------- */

static esp_status put(struct request *r, const void *data, size_t n)
{
	const esp_core *core = &r->http->core;
	esp_status st;

	if (r->answer.failed)
		return ESP_ECLOSED;
	(void)core->fiber->set_deadline(0);
	st = r->session->conn->api->write(r->session->conn, data, n);
	request_step(r);
	if (st == ESP_OK || st == ESP_ECANCELED)
		return st;
	r->answer.failed = 1;
	r->keep = 0;
	return ESP_ECLOSED;
}

static esp_status put_str(struct request *r, esp_str s) { return put(r, s.ptr, s.len); }

esp_status answer_continue(struct request *r)
{
	static const char text[] = "HTTP/1.1 100 Continue\r\n\r\n";

	return put(r, text, sizeof text - 1);
}

esp_status answer_flush(esp_http_request *pub)
{
	struct request *r = request_of(pub);
	esp_status st = ESP_OK;

	if (r->answer.gzip)
		st = answer_write(pub, (esp_str){ NULL, 0 });
	r->http->core.host->give_back();
	if (st != ESP_OK || r->answer.failed)
		return r->answer.failed ? ESP_ECLOSED : st;
	(void)r->http->core.fiber->set_deadline(0);
	st = r->session->conn->api->flush(r->session->conn);
	request_step(r);
	if (st == ESP_OK || st == ESP_ECANCELED)
		return st;
	r->answer.failed = 1;
	return ESP_ECLOSED;
}

/* --- the head -------------------------------------------------------------------------------------------- */

static void add_date(const struct request *r, esp_buf *b)
{
	static const char days[] = "SunMonTueWedThuFriSat", months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
	esp_civil t = esp_civil_of(r->http->core.loop->wall(NULL));

	(void)esp_buf_addf(b, "Date: %.3s, %02d %.3s %04d %02d:%02d:%02d GMT\r\n", days + t.weekday % 7 * 3, t.day,
		months + (t.month + 11) % 12 * 3, t.year, t.hour, t.minute, t.second);
}

static void add_connection(struct request *r, esp_buf *b)
{
	if (!body_is_short(r))
		r->keep = 0;
	if (!r->keep)
		(void)esp_buf_add_z(b, "Connection: close\r\n");
	else if (r->head.minor == 0)
		(void)esp_buf_add_z(b, "Connection: keep-alive\r\n");
}

/* What a cache, a browser or a proxy may do with it. */
static void add_rules(const struct request *r, esp_buf *b, int gzip_possible)
{
	const struct answer *a = &r->answer;

	if (gzip_possible)
		(void)esp_buf_add_z(b, "Vary: Accept-Encoding\r\n");
	if (!a->cached && r->pub.route && r->pub.route->access != ESP_HTTP_OPEN)
		(void)esp_buf_add_z(b, "Cache-Control: no-store\r\n");
	(void)esp_buf_add_z(b, "X-Content-Type-Options: nosniff\r\n");
}

enum length { LENGTH_CHUNKED = -1, LENGTH_NONE = -2 };

/* length: bytes of the body as it is sent, or one of the above. */
static esp_status put_head(struct request *r, uint32_t status, const char *type, int64_t length, int gzip, int possible)
{
	struct answer *a = &r->answer;
	char room[HEAD_MAX / 8];
	esp_buf b;
	esp_status st;

	a->status = status;
	a->empty = status == 204 || status == 304 || esp_str_eq(r->head.method, ESP_STR("HEAD"));
	if (a->fields.len || a->tag[0])
		esp_buf_init(&b, HEAD_MAX);
	else
		esp_buf_init_fixed(&b, room, sizeof room);
	(void)esp_buf_addf(&b, "HTTP/1.1 %u %s\r\n", status, phrase(status));
	add_date(r, &b);
	(void)esp_buf_add_z(&b, "Server: ESP\r\n");
	if (type && status != 204 && status != 304 && !a->typed)
		(void)esp_buf_addf(&b, "Content-Type: %s\r\n", type);
	if (a->tag[0])                     /* weak: the same for what is compressed and what is not */
		(void)esp_buf_addf(&b, "ETag: W/\"%s\"\r\n", a->tag);
	if (gzip)
		(void)esp_buf_add_z(&b, "Content-Encoding: gzip\r\n");
	if (length >= 0 && status != 204 && status != 304)
		(void)esp_buf_addf(&b, "Content-Length: %lld\r\n", (long long)length);
	else if (length == LENGTH_CHUNKED && a->chunked && status != 204 && status != 304)
		(void)esp_buf_add_z(&b, "Transfer-Encoding: chunked\r\n");
	add_rules(r, &b, possible);
	add_connection(r, &b);
	(void)esp_buf_add(&b, a->fields.data, a->fields.len);
	st = esp_buf_add_z(&b, "\r\n");
	if (st == ESP_OK)
		st = put_str(r, esp_buf_str(&b));
	esp_buf_free(&b);
	return st;
}

static int may_compress(const struct request *r, uint32_t status, const char *type)
{
	return r->http->compress && !r->answer.encoded && type && status != 204 && status != 304 && status != 206 &&
	       negotiate_is_text((esp_str){ type, strlen(type) });
}

static int takes_gzip(const struct request *r)
{
	return negotiate_takes_gzip(head_value(&r->head, "Accept-Encoding"));
}

/* --- whole answers --------------------------------------------------------------------------------------- */

/* In steps, so that the others of this worker go on meanwhile.  Not ESP_OK: it is sent as it is. */
static esp_status compress(struct request *r, esp_str body, esp_buf *out)
{
	struct gzip *g = gzip_new();
	esp_status st = g ? ESP_OK : ESP_ENOMEM;

	while (st == ESP_OK && body.len) {
		esp_str step = { body.ptr, body.len < GZIP_STEP ? body.len : GZIP_STEP };

		body.ptr += step.len;
		body.len -= step.len;
		st = gzip_feed(g, step, body.len ? GZIP_MORE : GZIP_END, out);
		if (st == ESP_OK && body.len)
			st = r->http->core.fiber->yield();
	}
	gzip_free(g);
	return st;
}

static int is_head(uint32_t status, const char *type)
{
	size_t n = type ? strlen(type) : 0;

	return status >= 200 && status <= 599 && n <= 200 && scan_is_value((esp_str){ type, n });
}

esp_status answer_reply(esp_http_request *pub, uint32_t status, const char *type, esp_str body)
{
	struct request *r = request_of(pub);
	struct answer *a = &r->answer;
	int possible = may_compress(r, status, type) && body.len >= GZIP_LEAST, gzip = possible && takes_gzip(r);
	int64_t length;
	esp_buf packed;
	esp_status st;

	if (a->status || !is_head(status, type))
		return ESP_EINVAL;
	r->http->core.host->give_back();
	esp_buf_init(&packed, body.len + GZIP_STEP);
	if (gzip && !esp_str_eq(r->head.method, ESP_STR("HEAD")) && compress(r, body, &packed) == ESP_OK)
		body = esp_buf_str(&packed);
	else if (gzip && !esp_str_eq(r->head.method, ESP_STR("HEAD")))
		gzip = 0;
	length = gzip && esp_str_eq(r->head.method, ESP_STR("HEAD")) ? LENGTH_NONE : (int64_t)body.len;
	st = put_head(r, status, type, length, gzip, possible);
	if (st == ESP_OK && !a->empty && body.len) {
		st = put_str(r, body);
		a->bytes = st == ESP_OK ? body.len : 0;
	}
	esp_buf_free(&packed);
	a->whole = 1;
	return st;
}

esp_status answer_fail(esp_http_request *pub, uint32_t status, const char *text)
{
	char line[400];
	int n = snprintf(line, sizeof line, "%u %s: %s\n", status, phrase(status), text ? text : "");

	return answer_reply(pub, status, "text/plain; charset=utf-8",
		(esp_str){ line, n < 0 ? 0 : (size_t)n < sizeof line ? (size_t)n : sizeof line - 1 });
}

esp_status answer_etag(esp_http_request *pub, esp_str tag)
{
	struct request *r = request_of(pub);
	esp_status st;

	if (r->answer.status || !negotiate_is_tag(tag))
		return ESP_EINVAL;
	(void)snprintf(r->answer.tag, sizeof r->answer.tag, "%.*s", ESP_FMT(tag));
	if (!is_get(r) || !negotiate_has(head_value(&r->head, "If-None-Match"), tag))
		return ESP_OK;
	st = answer_reply(pub, 304, NULL, (esp_str){ "", 0 });
	return st == ESP_OK ? ESP_EEXIST : st;
}

/* --- streams --------------------------------------------------------------------------------------------- */

esp_status answer_begin(esp_http_request *pub, uint32_t status, const char *type)
{
	struct request *r = request_of(pub);
	struct answer *a = &r->answer;
	int possible = may_compress(r, status, type);
	int gzip = possible && takes_gzip(r) && !esp_str_eq(r->head.method, ESP_STR("HEAD"));

	if (a->status || !is_head(status, type) || status == 204 || status == 304)
		return ESP_EINVAL;
	a->chunked = r->head.minor == 1;
	if (!a->chunked)
		r->keep = 0;                   /* the end of the connection is the end of the body */
	if (gzip) {
		if (atomic_fetch_add(&r->http->streams, 1) < STREAMS_MAX)
			a->gzip = gzip_new();
		if (!a->gzip)
			atomic_fetch_sub(&r->http->streams, 1);
	}
	return put_head(r, status, type, LENGTH_CHUNKED, a->gzip != NULL, possible);
}

static esp_status put_chunk(struct request *r, esp_str piece)
{
	struct answer *a = &r->answer;
	char size[24];
	int n;
	esp_status st = ESP_OK;

	if (!piece.len)                    /* an empty chunk would be the end */
		return ESP_OK;
	if (a->chunked) {
		n = snprintf(size, sizeof size, "%zx\r\n", piece.len);
		st = put(r, size, (size_t)n);
	}
	if (st == ESP_OK)
		st = put_str(r, piece);
	if (st == ESP_OK && a->chunked)
		st = put(r, "\r\n", 2);
	a->bytes += st == ESP_OK ? piece.len : 0;
	return st;
}

static esp_status put_packed(struct request *r, esp_str piece, enum gzip_how how)
{
	esp_buf packed;
	esp_status st;

	esp_buf_init(&packed, piece.len + GZIP_STEP);
	st = gzip_feed(r->answer.gzip, piece, how, &packed);
	if (st == ESP_OK)
		st = put_chunk(r, esp_buf_str(&packed));
	esp_buf_free(&packed);
	return st;
}

esp_status answer_write(esp_http_request *pub, esp_str piece)
{
	struct request *r = request_of(pub);
	struct answer *a = &r->answer;
	esp_status st = ESP_OK;

	if (!a->status || a->whole)
		return ESP_EINVAL;
	if (a->empty)
		return ESP_OK;
	r->http->core.host->give_back();
	if (a->gzip && !piece.len)
		return put_packed(r, piece, GZIP_FLUSH);
	while (st == ESP_OK && piece.len) {
		esp_str step = { piece.ptr, piece.len < GZIP_STEP ? piece.len : GZIP_STEP };

		st = a->gzip ? put_packed(r, step, GZIP_MORE) : put_chunk(r, step);
		piece.ptr += step.len;
		piece.len -= step.len;
		if (st == ESP_OK && piece.len)
			st = r->http->core.fiber->yield();
	}
	return st;
}

esp_status answer_end(struct request *r)
{
	struct answer *a = &r->answer;
	esp_status st = a->gzip ? put_packed(r, (esp_str){ NULL, 0 }, GZIP_END) : ESP_OK;

	if (st == ESP_OK && a->chunked && !a->empty)
		st = put(r, "0\r\n\r\n", 5);
	a->whole = 1;
	return st;
}

void answer_free(struct request *r)
{
	if (r->answer.gzip) {
		gzip_free(r->answer.gzip);
		atomic_fetch_sub(&r->http->streams, 1);
	}
	esp_buf_free(&r->answer.fields);
}
