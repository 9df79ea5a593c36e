/* scan - one message and the servers: who is asked, in which time, what comes back.
 *
 * A connection a scan (docs/decisions/a-connection-per-scan.md).  The message goes as one chunk of INSTREAM: a server
 * whose StreamMaxLength is smaller says so before it has it all.  It is written in steps, the other fibers of the
 * worker run between them.
 */
#include "clamav.h"

#include <stdio.h>
#include <string.h>

#define STEP     (128u << 10)
#define PATIENCE (30 * ESP_SEC)      /* without a deadline of the hook */

static esp_status fail(esp_err *err, esp_status st, const char *text)
{
	(void)snprintf(err->text, sizeof err->text, "%s", text);
	return st;
}

static esp_status explain(esp_err *err, esp_status st)
{
	switch (st) {
	case ESP_OK:
	case ESP_ECANCELED: return st;
	case ESP_ETIMEDOUT: return fail(err, st, "it did not answer in time");
	case ESP_ECLOSED: return fail(err, st, "it ended the connection before it had answered");
	case ESP_E2BIG: return fail(err, st, "its answer does not end");
	case ESP_EPROTO: return fail(err, st, "what it answers is not of clamd");
	default: return fail(err, st, "the connection failed");
	}
}

static esp_status open_server(const struct clamav *c, uint32_t server, esp_dial **ret, esp_err *err)
{
	const esp_fiber_api *fiber = c->core.fiber;
	esp_nsec before = fiber->deadline(), own = c->core.loop->clock() + c->connect_timeout;
	esp_status st;

	(void)fiber->set_deadline(before && before < own ? before : own);
	st = c->dial->open(c->server[server].host, c->server[server].port, ret, err);
	(void)fiber->set_deadline(before);
	return err->text[0] ? st : explain(err, st);
}

static esp_status read_reply(const struct clamav *c, esp_dial *d, struct reply *ret)
{
	char piece[512];
	size_t n = 0;
	esp_status st;

	do {
		st = c->dial->read(d, piece, sizeof piece, &n);
		if (st == ESP_OK)
			st = reply_add(ret, piece, n);
	} while (st == ESP_EAGAIN);
	return st;
}

static esp_status send_message(const struct clamav *c, esp_dial *d, esp_str content)
{
	static const char end[4];
	const uint32_t n = (uint32_t)content.len;
	const unsigned char head[] = { 'z', 'I', 'N', 'S', 'T', 'R', 'E', 'A', 'M', 0, (unsigned char)(n >> 24),
		(unsigned char)(n >> 16), (unsigned char)(n >> 8), (unsigned char)n };
	esp_status st = c->dial->write(d, head, n ? sizeof head : sizeof head - 4);

	for (size_t at = 0; st == ESP_OK && at < content.len; at += STEP) {
		st = c->dial->write(d, content.ptr + at, content.len - at < STEP ? content.len - at : STEP);
		if (st == ESP_OK)
			st = c->core.fiber->yield();
	}
	return st == ESP_OK ? c->dial->write(d, end, sizeof end) : st;
}

/* What one server says.  It may say "too large" and hang up before it has all; but it cannot know that all is well. */
static esp_status ask_about(
	const struct clamav *c, uint32_t server, esp_str content, struct reply *got, enum result *ret, esp_err *err)
{
	esp_dial *d = NULL;
	esp_str name;
	esp_status st = open_server(c, server, &d, err), sent;
	enum reply_kind kind;

	if (st != ESP_OK)
		return st;
	sent = send_message(c, d, content);
	st = sent == ESP_OK || sent == ESP_ECLOSED ? read_reply(c, d, got) : sent;
	c->dial->close(d);
	if (st != ESP_OK)
		return explain(err, st);
	kind = reply_read((esp_str){ got->text, got->len }, &name);
	if (kind == REPLY_ERROR) {
		(void)snprintf(
			err->text, sizeof err->text, "it says \"%.*s\"", (int)(got->len > 200 ? 200 : got->len), got->text);
		return ESP_EUNAVAIL;
	}
	if (kind == REPLY_GARBAGE || (kind == REPLY_CLEAN && sent != ESP_OK))
		return explain(err, ESP_EPROTO);
	*ret = kind == REPLY_CLEAN ? RESULT_CLEAN : kind == REPLY_VIRUS ? RESULT_VIRUS : RESULT_TOO_LARGE;
	return ESP_OK;
}

/* Each server has an equal share of the time that is left: a silent one leaves some for the next. */
static enum result ask_all(struct clamav *c, esp_str content, char name[NAME_MOST + 1])
{
	const esp_fiber_api *fiber = c->core.fiber;
	esp_nsec before = fiber->deadline(), now = c->core.loop->clock(), until = before ? before : now + PATIENCE;
	enum result result = RESULT_FAILED;
	struct failover_turn turn;
	esp_status st = ESP_EUNAVAIL;
	uint32_t i;

	failover_begin(&turn, &c->failover, now);
	while (result == RESULT_FAILED && st != ESP_ECANCELED && (now = c->core.loop->clock()) < until &&
		failover_next(&turn, &i)) {
		struct reply got = { .len = 0 };
		esp_err err = ESP_ERR_INIT;
		esp_str found;
		(void)fiber->set_deadline(now + (until - now) / (turn.n - turn.next + 1));
		st = ask_about(c, i, content, &got, &result, &err);
		(void)fiber->set_deadline(before);
		if (st != ESP_ECANCELED)
			report_server(c, i, st, &err);
		if (result == RESULT_VIRUS && reply_read((esp_str){ got.text, got.len }, &found) == REPLY_VIRUS)
			reply_clean_name(found, name);
	}
	return result;
}

static esp_status take_place(const struct clamav *c, struct desk *d)
{
	esp_status st = ESP_OK;

	while (st == ESP_OK && d->busy >= c->most)
		st = c->core.fiber->wait(&d->room);
	if (st == ESP_OK)
		d->busy++;
	else if (d->busy < c->most)
		c->core.fiber->signal(&d->room);     /* it was for somebody who still waits */
	return st;
}

enum result scan(struct clamav *c, esp_str content, char name[NAME_MOST + 1])
{
	struct desk *d = &c->desk[c->core.loop->index(c->core.loop->here())];
	esp_nsec began = c->core.loop->clock();
	enum result result = RESULT_FAILED;

	if (take_place(c, d) == ESP_OK) {
		result = ask_all(c, content, name);
		d->busy--;
		c->core.fiber->signal(&d->room);
	}
	report_scan(c, result, content.len, c->core.loop->clock() - began);
	return result;
}

esp_status ask(const struct clamav *c, uint32_t server, esp_str command, struct reply *ret, esp_err *err)
{
	esp_dial *d = NULL;
	esp_status st = open_server(c, server, &d, err);

	if (st != ESP_OK)
		return st;
	st = c->dial->write(d, command.ptr, command.len);
	if (st == ESP_OK)
		st = read_reply(c, d, ret);
	c->dial->close(d);
	return explain(err, st);
}
