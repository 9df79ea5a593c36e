/* body - what follows the head: so many bytes, or chunks until the empty one (RFC 9112 6, 7).
 *
 * In the handler's fiber.  The core's reader splits the lines around chunks, so that here as well no bare CR or LF and
 * no NUL comes through; scan.c judges them.
 */
#include "http.h"

#define CHUNK_LINE    256u         /* length and extensions of a chunk; a field of the trailer */
#define TRAILER_MAX   64u          /* fields */
#define OVERHEAD_FREE (16u << 10)  /* bytes of lines around chunks, beside as many as the body has */
#define SKIP_MAX      (64u << 10)
#define SKIP_TIME     (2 * ESP_SEC)
#define SLOW          2048         /* bytes a second that a client has to send */

static esp_status failed(struct request *r, uint32_t code, const char *text, esp_status st)
{
	r->body.fault = (struct fault){ code, text };
	r->keep = 0;
	return st;
}

/* What a wait for the client came to. */
static esp_status waited(struct request *r, esp_status st)
{
	switch (st) {
	case ESP_OK: return ESP_OK;
	case ESP_ETIMEDOUT: return failed(r, 408, "the body came too slowly", st);
	case ESP_E2BIG: return failed(r, 400, "a line between chunks is too long", ESP_EPROTO);
	case ESP_EPROTO: return failed(r, 400, "a bare CR, LF or NUL between chunks", st);
	default:
		r->keep = 0;
		r->answer.failed |= st == ESP_ECLOSED;
		return st;
	}
}

static esp_status read_line(struct request *r, esp_str *ret)
{
	esp_status st = waited(r, r->session->conn->api->read_line(r->session->conn, ret));

	r->body.overhead += ret->len + 2;
	if (st == ESP_OK && r->body.overhead > OVERHEAD_FREE + r->body.taken)
		return failed(r, 400, "more is sent around the chunks than in them", ESP_EPROTO);
	return st;
}

static esp_status read_trailer(struct request *r)
{
	struct fault f;
	esp_str line;
	esp_status st;

	for (uint32_t n = 0; n <= TRAILER_MAX; n++) {
		st = read_line(r, &line);
		if (st != ESP_OK)
			return st;
		if (line.len == 0) {
			r->body.done = 1;
			r->session->conn->api->set_max_line(r->session->conn, r->http->limits.head);
			return ESP_OK;
		}
		f = scan_field(line);
		if (f.code)
			return failed(r, f.code, f.text, ESP_EPROTO);
	}
	return failed(r, 431, "too many fields behind the body", ESP_EPROTO);
}

static esp_status next_chunk(struct request *r)
{
	struct fault f;
	esp_str line;
	esp_status st;

	if (r->body.begun) {
		st = read_line(r, &line);
		if (st == ESP_OK && line.len)
			return failed(r, 400, "a chunk is longer than it says", ESP_EPROTO);
		if (st != ESP_OK)
			return st;
	}
	r->body.begun = 1;
	r->session->conn->api->set_max_line(r->session->conn, CHUNK_LINE);
	st = read_line(r, &line);
	if (st != ESP_OK)
		return st;
	f = scan_chunk_size(line, &r->body.left);
	if (f.code)
		return failed(r, f.code, f.text, ESP_EPROTO);
	return r->body.left ? ESP_OK : read_trailer(r);
}

static esp_status too_large(struct request *r)
{
	return failed(r, 413, "the body is larger than may be sent here", ESP_E2BIG);
}

/* The first read: is anything coming, and does the client wait for a word? */
static esp_status begin(struct request *r)
{
	struct body *b = &r->body;

	if (!r->head.chunked) {
		b->begun = 1;
		b->left = r->head.length;
		b->done = b->left == 0;
	}
	if (b->done || !r->head.expects || r->session->conn->api->peek(r->session->conn).len)
		return ESP_OK;
	return waited(r, answer_continue(r));
}

esp_status body_read(esp_http_request *pub, size_t max, esp_str *ret)
{
	struct request *r = request_of(pub);
	struct body *b = &r->body;
	uint64_t limit = r->pub.route ? r->pub.route->max_body : 0;
	esp_status st = ESP_OK;

	*ret = (esp_str){ "", 0 };
	if (b->fault.code)
		return ESP_EPROTO;
	if (b->done || !max)
		return b->done ? ESP_OK : ESP_EINVAL;
	r->http->core.host->give_back();
	if (!b->begun)
		st = begin(r);
	if (st == ESP_OK && r->head.chunked && !b->left && !b->done)
		st = next_chunk(r);
	if (st != ESP_OK || b->done)
		return st;
	if (b->left > limit || b->taken > limit - b->left)
		return too_large(r);
	st = waited(r, r->session->conn->api->read(r->session->conn, b->left < max ? (size_t)b->left : max, ret));
	if (st != ESP_OK)
		return st;
	b->left -= ret->len;
	b->taken += ret->len;
	b->done = !r->head.chunked && !b->left;
	(void)r->http->core.fiber->set_deadline(r->http->core.fiber->deadline() + (esp_nsec)ret->len * ESP_SEC / SLOW);
	return ESP_OK;
}

esp_status body_whole(esp_http_request *pub, esp_str *ret)
{
	struct request *r = request_of(pub);
	struct body *b = &r->body;
	esp_str piece;
	esp_status st;

	if (b->whole.max)
		return ESP_EINVAL;
	esp_buf_init(&b->whole, (size_t)(pub->route ? pub->route->max_body : 0) + 1);
	do {
		st = body_read(pub, 64 << 10, &piece);
		if (st == ESP_OK)
			st = intake_grow(&r->http->intake, &b->counted, b->whole.len + piece.len);
		if (st == ESP_OK && piece.len)
			st = esp_buf_add_str(&b->whole, piece);
	} while (st == ESP_OK && piece.len);
	*ret = b->whole.len ? esp_buf_str(&b->whole) : (esp_str){ "", 0 };
	return st;
}

int body_is_short(const struct request *r)
{
	const struct body *b = &r->body;

	if (b->done || !head_has_body(&r->head))
		return 1;
	if (b->fault.code || r->head.chunked || (r->head.expects && !b->begun))
		return 0;                  /* whether the client still sends it, it alone knows */
	return (b->begun ? b->left : r->head.length) <= SKIP_MAX;
}

esp_status body_skip(struct request *r)
{
	const esp_core *core = &r->http->core;
	uint64_t left = r->body.begun ? r->body.left : r->head.length;
	esp_status st = ESP_OK;
	esp_str piece;

	if (r->body.done || !head_has_body(&r->head))
		return ESP_OK;
	(void)core->fiber->set_deadline(core->loop->clock() + SKIP_TIME);
	while (st == ESP_OK && left) {
		st = r->session->conn->api->read(r->session->conn, (size_t)left, &piece);
		left -= st == ESP_OK ? piece.len : 0;
	}
	(void)core->fiber->set_deadline(0);
	return st;
}

void body_end(struct request *r)
{
	esp_buf_free(&r->body.whole);
	intake_end(&r->http->intake, &r->body.counted);
}
