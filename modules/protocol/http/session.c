/* session - one client: its requests one after the other, parked between them and while a head is not whole.
 *
 * Called by the core in a fiber of the connection's worker whenever a whole line is buffered.  A slow head therefore
 * holds no fiber; a body is read in the handler's.  Between two requests, and within a head, a session can be frozen
 * into a blob and go on in a new generation.
 */
#include "http.h"

#include <stdlib.h>

static struct session *session_new(esp_module *self, esp_conn *c)
{
	struct session *s = calloc(1, sizeof *s);

	if (!s)
		return NULL;
	s->magic = SESSION_MAGIC;
	s->http = self->state;
	s->conn = c;
	c->session = s;
	s->http->metric->add(s->http->connections, 1);
	return s;
}

static void session_free(struct session *s)
{
	s->http->metric->add(s->http->connections, -1);
	s->conn->session = NULL;
	s->magic = 0;
	reader_free(&s->reader);
	free(s->request);
	free(s);
}

/* --- lines ----------------------------------------------------------------------------------------------- */

static esp_status refuse(struct session *s, struct fault f)
{
	request_refuse(s, f);
	return ESP_ECLOSED;
}

/* One line of the core's reader.  ESP_OK: go on; ESP_EAGAIN: a request was answered, and the next one begins with a new
 * call, under the snapshot of that moment. */
static esp_status take(struct session *s, esp_status st, esp_str line)
{
	struct fault f;

	if (!s->head_began)
		s->head_began = s->http->core.loop->now();
	if (st == ESP_E2BIG)
		return refuse(s, reader_too_long(&s->reader));
	if (st == ESP_EPROTO)
		return refuse(s, (struct fault){ 400, "a bare CR, LF or NUL in the head: lines end in CRLF" });
	if (st != ESP_OK)
		return st;
	switch (reader_line(&s->reader, &s->http->limits, line, &f)) {
	case READER_MORE: return ESP_OK;
	case READER_BAD: return refuse(s, f);
	default: break;
	}
	s->conn->api->set_idle(s->conn, s->http->idle);
	st = request_run(s);
	reader_reset(&s->reader);
	s->head_began = 0;
	return st == ESP_OK ? ESP_EAGAIN : st;
}

static esp_status run_lines(struct session *s)
{
	esp_status st = ESP_OK;
	esp_str line;

	while (st == ESP_OK) {
		st = s->conn->api->line(s->conn, &line);
		if (st != ESP_EAGAIN)
			st = take(s, st, line);
	}
	return st == ESP_EAGAIN ? ESP_OK : st;
}

/* --- the session ----------------------------------------------------------------------------------------- */

/* Once a connection, and once more in each generation: the limits may be others. */
static void shape(struct session *s)
{
	if (!s->shaped)
		s->conn->api->set_max_line(s->conn, s->http->limits.head);
	s->shaped = 1;
}

static esp_status admit(struct session *s, esp_point point)
{
	esp_connect_args args = { .size = sizeof args, .conn = s->conn };
	esp_outcome o;

	s->http->hook->run(point, &args, s->conn->arena, &o);
	if (o.verdict < ESP_VERDICT_DEFER)
		return ESP_OK;
	return refuse(s, o.verdict >= ESP_VERDICT_REJECT ? (struct fault){ 403, "you may not connect here" }
	                                                 : (struct fault){ 503, "not now, try again later" });
}

/* Only who is in the middle of a request waits for a word. */
static esp_status leave(struct session *s, uint32_t code, const char *text)
{
	int under_way = reader_is_under_way(&s->reader) || s->conn->api->peek(s->conn).len;

	return under_way ? refuse(s, (struct fault){ code, text }) : ESP_ECLOSED;
}

static esp_status converse(struct session *s, uint32_t why)
{
	esp_status st = ESP_OK;

	shape(s);
	if (why & ESP_CONN_OVERLOAD)
		return leave(s, 503, "too many connections, try again later");
	if (why & ESP_CONN_OPENED) {
		st = admit(s, ESP_AT_CONNECT);
		if (st == ESP_OK && s->conn->api->info(s->conn)->encrypted)
			st = admit(s, ESP_AT_TLS);
	}
	s->last |= (why & (ESP_CONN_DRAIN | ESP_CONN_EOF)) != 0;   /* the answer says so */
	if (st == ESP_OK && why & (ESP_CONN_INPUT | ESP_CONN_RESUMED | ESP_CONN_DRAIN | ESP_CONN_EOF))
		st = run_lines(s);
	if (st != ESP_OK)
		return st;
	if (why & ESP_CONN_EOF)
		return ESP_ECLOSED;            /* half a request: nobody waits for an answer to it */
	if (why & ESP_CONN_DRAIN)
		return leave(s, 503, "this server is going down, try again");
	return why & ESP_CONN_TIMEOUT ? leave(s, 408, "the request came too slowly") : ESP_OK;
}

/* Before it is parked: keep what a half-read head needs and nothing else, and wait no longer than it may take. */
static void rest(struct session *s)
{
	const struct http *h = s->http;
	esp_nsec left = h->idle;

	free(s->request);
	s->request = NULL;
	if (reader_is_under_way(&s->reader)) {
		left = s->head_began + h->head_time - h->core.loop->clock();
	} else {
		reader_free(&s->reader);
		if (!s->requests)
			left = h->head_time;   /* who connects has something to ask */
	}
	s->conn->api->set_idle(s->conn, left > ESP_MSEC ? left : ESP_MSEC);
}

static esp_status on_session(esp_module *self, esp_conn *c, uint32_t why)
{
	struct session *s = c->session;
	esp_status st;

	if (!s && !(s = session_new(self, c)))
		return ESP_ENOMEM;
	if (s->magic != SESSION_MAGIC)
		abort();
	st = converse(s, why);
	if (st == ESP_OK)
		rest(s);
	return st;
}

static void on_closed(esp_module *self, esp_conn *c)
{
	(void)self;
	if (c->session)
		session_free(c->session);
}

/* --- handover -------------------------------------------------------------------------------------------- */

#define HANDOVER_VERSION 1u
struct frozen { uint32_t requests, len; esp_nsec head_began; uint8_t blanks, pad[7]; };   /* the head's lines follow */

static esp_status on_freeze(esp_module *self, esp_conn *c, void *out, size_t cap, size_t *ret_len)
{
	struct session *s = c->session;
	struct frozen f = { .requests = s->requests, .len = s->reader.len, .head_began = s->head_began,
		.blanks = s->reader.blanks };

	(void)self;
	if (s->last || cap < sizeof f + f.len)
		return ESP_EBUSY;
	memcpy(out, &f, sizeof f);
	if (f.len)
		memcpy((char *)out + sizeof f, s->reader.text, f.len);
	*ret_len = sizeof f + f.len;
	session_free(s);
	return ESP_OK;
}

static esp_status on_thaw(esp_module *self, esp_conn *c, const void *blob, size_t len)
{
	struct frozen f;
	struct session *s;

	if (len < sizeof f)
		return ESP_EPROTO;
	memcpy(&f, blob, sizeof f);
	if (f.len != len - sizeof f)
		return ESP_EPROTO;
	s = session_new(self, c);
	if (!s)
		return ESP_ENOMEM;
	s->requests = f.requests;
	s->head_began = f.head_began;
	/* the limits may be narrower now: then it stays where it was */
	if (reader_restore(&s->reader, &s->http->limits, (esp_str){ (const char *)blob + sizeof f, f.len }) != ESP_OK) {
		session_free(s);
		return ESP_EPROTO;
	}
	s->reader.blanks = f.blanks;
	return ESP_OK;
}

const esp_protocol http_protocol = {
	.size = sizeof http_protocol, .alpn = "http/1.1", .handover = HANDOVER_VERSION, .max_line = 16384,
	.session = on_session, .closed = on_closed, .freeze = on_freeze, .thaw = on_thaw,
};
