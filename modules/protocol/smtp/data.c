/* data - DATA: the bytes as they come, the chains, delivery, the one reply.
 *
 * Only CRLF.CRLF ends the message; a bare CR or LF anywhere in it is refused after its end and the connection closed,
 * so that no other server can see two messages where we saw one.  A message that is refused early is read to its end,
 * but no further than twice the limit.  While the client sends, no service is held: a slow one must not keep the store
 * from being replaced.
 */
#include "smtp.h"

#include <esp/mail/header.h>

#include <stdio.h>
#include <stdlib.h>

#define STEP 8192u
#define OUT_MAX (2 * STEP + 2)     /* what STEP bytes can become */

struct data {
	struct session *s;
	esp_buf body;              /* up to the size limit, and room for the next step */
	uint64_t counted;          /* of it, in smtp->intake */
	esp_smtp_undot undot;
	char *spare;               /* OUT_MAX */
	uint64_t seen;             /* bytes from the client */
	esp_nsec began;
	esp_status store;          /* first failure to keep it; then the rest is thrown away */
	int headers_done;
	size_t line, scanned;      /* of the header: where its last line begins, how far there is no line end */
	esp_outcome headers;
};

/* Goes on where the last call stopped, so that a header that never ends costs a look at each byte and no more.
 * Returns the header's length with its blank line, or 0 while that is not there. */
static size_t header_end(struct data *d, esp_str all)
{
	const char *lf;

	while (d->scanned < all.len && (lf = memchr(all.ptr + d->scanned, '\n', all.len - d->scanned)) != NULL) {
		size_t end = (size_t)(lf - all.ptr) + 1, n = end - d->line;
		int blank = n == 1 || (n == 2 && all.ptr[d->line] == '\r');
		d->line = d->scanned = end;
		if (blank)
			return end;
	}
	d->scanned = all.len;
	return 0;
}

/* The HEADERS chain runs once, as soon as the blank line is there. */
static void look_for_headers(struct data *d)
{
	esp_str all = esp_buf_str(&d->body);
	size_t len;

	if (d->headers_done || d->store != ESP_OK || all.len == 0)
		return;
	len = header_end(d, all);
	if (len == 0)
		return;
	d->headers_done = 1;
	d->s->smtp->mail->headers(d->s->txn, (esp_str){ all.ptr, len }, &d->headers);
	d->s->smtp->core.host->give_back();
}

/* Straight behind what is there; when that is full or refused, somewhere else, and forgotten. */
static esp_status feed(struct data *d, esp_str in, size_t *ret_used)
{
	char *room = d->store == ESP_OK ? esp_buf_room(&d->body, OUT_MAX) : NULL;
	esp_buf out;
	esp_status st;

	if (d->store == ESP_OK && !room)
		d->store = d->body.err;
	esp_buf_init_fixed(&out, room ? room : d->spare, OUT_MAX);
	st = esp_smtp_undot_feed(&d->undot, in, ret_used, &out);
	if (st != ESP_OK && st != ESP_EAGAIN)
		return ESP_EIO;
	if (d->store == ESP_OK && out.len > d->s->smtp->max_size - d->body.len)
		d->store = ESP_E2BIG;
	if (d->store == ESP_OK)
		d->store = intake_grow(&d->s->smtp->intake, &d->counted, d->body.len + out.len);
	if (d->store == ESP_OK)
		d->body.len += out.len;
	look_for_headers(d);
	return st;
}

static esp_status wait_for_more(struct data *d, esp_str *ret)
{
	const struct smtp *smtp = d->s->smtp;
	esp_nsec was = smtp->core.fiber->set_deadline(intake_deadline(d->began, smtp->idle, d->seen));
	esp_status st = d->s->conn->api->read(d->s->conn, 1, ret);

	smtp->core.fiber->set_deadline(was);
	return st;
}

/* ESP_OK: the end was seen.  ESP_E2BIG: more than twice the limit. */
static esp_status receive(struct data *d)
{
	const esp_conn_api *conn = d->s->conn->api;
	esp_str in;
	size_t used;
	esp_status st = ESP_EAGAIN;

	while (st == ESP_EAGAIN) {
		in = conn->peek(d->s->conn);
		if (in.len == 0) {
			st = wait_for_more(d, &in);
			if (st != ESP_OK)
				return st;
			st = feed(d, in, &used);
			d->seen++;
			continue;
		}
		if (in.len > STEP)
			in.len = STEP;
		st = feed(d, in, &used);
		conn->consume(d->s->conn, used);
		d->seen += used;
		if (d->seen > 2 * d->s->smtp->max_size + STEP)
			return ESP_E2BIG;
	}
	return st;
}

static uint32_t count_hops(esp_str headers)
{
	esp_header h = esp_header_of(headers);
	esp_header_field f;
	uint32_t n = 0;

	while (esp_header_next(&h, &f) == ESP_OK)
		n += f.name.len == 8 && strncasecmp(f.name.ptr, "Received", 8) == 0;
	return n;
}

/* What is wrong with the bytes themselves; 0 when nothing. */
static uint32_t judge_bytes(struct data *d, esp_str content, const char **ret_enhanced, const char **ret_text)
{
	size_t header_len = esp_header_length(content);
	esp_status st;

	*ret_enhanced = "5.6.0";
	if (d->undot.seen & ESP_DOT_NUL) {
		*ret_text = "a NUL in the message";
		return 554;
	}
	st = esp_header_check((esp_str){ content.ptr, header_len });
	if (st != ESP_OK) {
		*ret_text = st == ESP_E2BIG ? "the header is too large" : "the header is malformed";
		return 554;
	}
	if (count_hops((esp_str){ content.ptr, header_len }) > d->s->smtp->max_hops) {
		*ret_enhanced = "5.4.6";
		*ret_text = "too many hops: the message loops";
		return 554;
	}
	d->s->txn->message->header_len = header_len;
	return 0;
}

static esp_status accepted(struct session *s)
{
	char text[64];
	const uint8_t *b = s->txn->message->id.b;

	snprintf(text, sizeof text, "accepted as %02x%02x%02x%02x%02x%02x%02x%02x%02x%02x%02x%02x%02x%02x%02x%02x", b[0],
		b[1], b[2], b[3], b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15]);
	s->idle_talk = 0;
	return reply(s, 250, "2.0.0", text);
}

/* Also what is discarded: its trace is kept before the client hears of it. */
static esp_status deliver(struct data *d, esp_metric count)
{
	struct session *s = d->s;
	const esp_host *host = s->smtp->core.host;
	const esp_accept *accept = (const esp_accept *)host->service(s->smtp->self, s->smtp->accept);
	esp_err err = ESP_ERR_INIT;
	esp_str trace;
	esp_status st = accept ? trace_received(s, &trace) : ESP_EUNAVAIL;

	if (st == ESP_OK)
		st = accept->deliver(accept, s->txn, esp_buf_str(&d->body), trace, &err);
	if (st != ESP_OK) {
		esp_log(s->smtp->core.log, s->smtp->self, ESP_LOG_WARNING, "a message was deferred",
			ESP_FSTR("why", ((esp_str){ err.text, strlen(err.text) })), ESP_FSTR("from", s->txn->from),
			ESP_FINT("status", st));
		return reply_status(s, st);
	}
	s->smtp->metric->add(count, 1);
	return accepted(s);
}

static esp_status judge(struct data *d)
{
	struct session *s = d->s;
	const char *enhanced, *text;
	esp_outcome o;
	esp_str content;
	uint32_t code;

	if (d->store != ESP_OK)
		return reply_status(s, d->store);
	content = esp_buf_str(&d->body);
	code = judge_bytes(d, content, &enhanced, &text);
	if (code) {
		s->smtp->metric->add(s->smtp->rejected, 1);
		return reply_error(s, code, enhanced, text);
	}
	if (!d->headers_done)
		s->smtp->mail->headers(s->txn, (esp_str){ content.ptr, s->txn->message->header_len }, &d->headers);
	if (d->headers.verdict >= ESP_VERDICT_DEFER)
		return reply_outcome(s, &d->headers, "the message is not welcome");
	s->smtp->mail->message(s->txn, content, &o);
	if (o.verdict >= ESP_VERDICT_DEFER)
		return reply_outcome(s, &o, "the message is not welcome");
	return deliver(d, o.verdict == ESP_VERDICT_DISCARD ? s->smtp->discarded : s->smtp->accepted);
}

static esp_status finish(struct data *d, esp_status st)
{
	struct session *s = d->s;

	if (st == ESP_E2BIG) {
		st = reply(s, 421, "4.3.4", "far larger than this server takes");
		return st == ESP_OK ? ESP_ECLOSED : st;
	}
	if (st != ESP_OK)
		return st;                     /* the client went, or fell silent: nothing is stored */
	if (d->undot.seen & (ESP_DOT_BARE_CR | ESP_DOT_BARE_LF) && !s->smtp->bare_newline_ok) {
		s->smtp->metric->add(s->smtp->rejected, 1);
		st = reply(s, 550, "5.6.0", "a bare CR or LF in the message (RFC 5321 2.3.8)");
		return st == ESP_OK ? ESP_ECLOSED : st;
	}
	return judge(d);
}

static esp_status receive_and_finish(struct session *s)
{
	struct data d = { .s = s, .began = s->smtp->core.loop->clock(),
		.undot = { .normalise = (uint32_t)s->smtp->bare_newline_ok } };
	esp_status st;

	d.headers.size = sizeof d.headers;
	d.spare = malloc(OUT_MAX);
	if (!d.spare)
		return reply_status(s, ESP_ENOMEM);
	esp_buf_init(&d.body, s->smtp->max_size + OUT_MAX);
	st = reply(s, 354, NULL, "end with <CRLF>.<CRLF>");
	s->smtp->core.host->give_back();
	if (st == ESP_OK)
		st = receive(&d);
	st = finish(&d, st);
	esp_buf_free(&d.body);
	intake_end(&s->smtp->intake, &d.counted);
	free(d.spare);
	return st;
}

esp_status command_data(struct session *s, esp_str args)
{
	esp_outcome o;
	esp_status st;

	if (args.len)
		return reply_error(s, 501, "5.5.4", "DATA has no arguments");
	if (!s->txn)
		return reply_error(s, 503, "5.5.1", "MAIL and RCPT come first");
	if (s->txn->nrcpt == 0)
		return reply_error(s, 554, "5.5.1", "no valid recipients");
	s->smtp->mail->data(s->txn, &o);
	st = o.verdict >= ESP_VERDICT_DEFER ? reply_outcome(s, &o, "no message is welcome") : receive_and_finish(s);
	session_reset(s);                  /* the one exit: nothing reaches the next message */
	return st;
}
