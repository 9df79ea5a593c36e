/* reply - the one writer of replies, and the one table from internal status to reply. */
#include "smtp.h"

#include <stdio.h>

#define REPLY_MAX 2000u

/* A mistake in the dialogue (500 to 504), a goodbye and a failed login (an event of its own) refuse no mail. */
static int refuses_mail(uint32_t code)
{
	return code >= 400 && code != 421 && code != 535 && code != 538 && (code < 500 || code > 504);
}

static void tell(struct session *s, uint32_t code, esp_str text)
{
	const struct smtp *smtp = s->smtp;
	esp_event_id id = smtp->refused[code >= 500];
	static const esp_id none;
	esp_field fields[] = { ESP_FID("message", s->txn ? s->txn->message->id : none),
		ESP_FSTR("peer", s->conn->api->info(s->conn)->peer), ESP_FSTR("helo", session_helo(s)),
		ESP_FSTR("user", session_user(s)), ESP_FSTR("from", s->said_from.len || !s->txn ? s->said_from : s->txn->from),
		ESP_FSTR("to", s->said_to), ESP_FINT("code", code), ESP_FSTR("why", text) };
	uint32_t skip = !s->txn;            /* before MAIL there is no message */

	if (smtp->event->wanted(id))
		smtp->event->publish(smtp->self, id, fields + skip, sizeof fields / sizeof fields[0] - skip, sizeof fields[0]);
}

/* --- why clients are told no ------------------------------------------------------------------------------ */

esp_status reply_declare(struct smtp *m)
{
	static const char *const reasons[REFUSALS] = { [REFUSAL_SYNTAX] = "syntax",
		[REFUSAL_NO_SUCH_USER] = "no_such_user", [REFUSAL_DISABLED] = "disabled", [REFUSAL_RELAY] = "relay",
		[REFUSAL_OVER_QUOTA] = "over_quota", [REFUSAL_SIZE] = "size", [REFUSAL_CONTENT] = "content",
		[REFUSAL_AUTH] = "auth", [REFUSAL_LIMIT] = "limit", [REFUSAL_FILTER] = "filter",
		[REFUSAL_TEMPORARY] = "temporary" };
	char labels[32];
	esp_status st = ESP_OK;

	for (uint32_t i = 0; st == ESP_OK && i < REFUSALS; i++) {
		(void)snprintf(labels, sizeof labels, "reason=\"%s\"", reasons[i]);
		st = m->metric->declare(m->self, ESP_COUNTER, "esp_smtp_refusals_total", labels,
			"Replies that said no: to a client, a command, a recipient or a message", NULL, 0, &m->refusals[i]);
	}
	return st;
}

/* Of our own replies: code and enhanced code tell.  `detail` is how that begins behind its class (RFC 3463).  REFUSALS:
 * it is none. */
static enum refusal reason_of(uint32_t code, const char *enhanced)
{
	static const struct { uint32_t low, high; const char *detail; enum refusal reason; } table[] = {
		{ 550, 550, "1.1", REFUSAL_NO_SUCH_USER }, { 550, 550, "2.1", REFUSAL_DISABLED },
		{ 550, 550, "3.2", REFUSAL_RELAY }, { 550, 550, "7.1", REFUSAL_RELAY },
		{ 452, 452, "2.2", REFUSAL_OVER_QUOTA }, { 400, 599, "3.4", REFUSAL_SIZE },
		{ 452, 452, "5.3", REFUSAL_LIMIT }, { 421, 421, "", REFUSALS },      /* goodbyes are no refusals */
		{ 500, 599, "7.", REFUSAL_AUTH }, { 400, 499, "", REFUSAL_TEMPORARY },
		{ 500, 504, "", REFUSAL_SYNTAX }, { 550, 599, "5.", REFUSAL_SYNTAX },
	};
	const char *detail = enhanced + 2;

	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
		if (code >= table[i].low && code <= table[i].high &&
			strncmp(detail, table[i].detail, strlen(table[i].detail)) == 0)
			return table[i].reason;
	return REFUSAL_CONTENT;
}

static void count(const struct session *s, enum refusal reason)
{
	if (reason < REFUSALS)
		s->smtp->metric->add(s->smtp->refusals[reason], 1);
}

/* --- replies ----------------------------------------------------------------------------------------------- */

static esp_status put_reply(struct session *s, uint32_t code, const char *enhanced, esp_str text)
{
	char room[REPLY_MAX];
	esp_buf buf;

	if (refuses_mail(code))
		tell(s, code, text);
	esp_buf_init_fixed(&buf, room, sizeof room);
	if (esp_smtp_reply(&buf, code, enhanced, text) != ESP_OK) {
		esp_buf_init_fixed(&buf, room, sizeof room);
		if (esp_smtp_reply(&buf, code, enhanced, ESP_STR("see the log of this server")) != ESP_OK)
			return ESP_EINVAL;
	}
	return esp_conn_write(s->conn, esp_buf_str(&buf));
}

esp_status reply_str(struct session *s, uint32_t code, const char *enhanced, esp_str text)
{
	if (code >= 400 && enhanced)
		count(s, reason_of(code, enhanced));
	return put_reply(s, code, enhanced, text);
}

esp_status reply(struct session *s, uint32_t code, const char *enhanced, const char *text)
{
	return reply_str(s, code, enhanced, (esp_str){ text, strlen(text) });
}

/* Counts one: after some the client waits for each reply, after too many (if this one `ends`) the session is over. */
static esp_status mistake(struct session *s, int ends)
{
	const struct smtp *smtp = s->smtp;
	esp_status st;

	s->errors++;
	if (s->conn->api->info(s->conn)->trusted)
		return ESP_OK;
	if (ends && s->errors >= smtp->hard_errors) {
		count(s, REFUSAL_LIMIT);
		st = reply(s, 421, "4.7.0", "too many errors, try again later");
		return st == ESP_OK ? ESP_ECLOSED : st;
	}
	return s->errors < smtp->soft_errors ? ESP_OK
		: smtp->core.fiber->sleep_until(smtp->core.loop->now() + ESP_SEC);
}

esp_status reply_error(struct session *s, uint32_t code, const char *enhanced, const char *text)
{
	esp_status st = mistake(s, 1);

	return st == ESP_OK ? reply(s, code, enhanced, text) : st;
}

esp_status reply_verdict(struct session *s, const esp_outcome *o, uint32_t code, const char *what)
{
	int reject = o->verdict == ESP_VERDICT_REJECT;
	const uint8_t *said = o->answer.enhanced;
	char enhanced[24];
	esp_str text = o->answer.text;

	if (said[0] == (reject ? 5 : 4))
		snprintf(enhanced, sizeof enhanced, "%u.%u.%u", said[0], said[1], said[2]);
	else
		snprintf(enhanced, sizeof enhanced, "%d.7.1", reject ? 5 : 4);
	if (text.len == 0)
		text = reject ? (esp_str){ what, strlen(what) } : ESP_STR("not now, try again later");
	count(s, REFUSAL_FILTER);
	return put_reply(s, code, enhanced, text);
}

/* Why a hook said no is kept with what else was said along the transaction. */
static void keep_trace(struct session *s)
{
	const esp_accept *accept;

	if (!s->txn)
		return;
	accept = (const esp_accept *)s->smtp->core.host->service(s->smtp->self, s->smtp->accept);
	if (accept && accept->service.size >= offsetof(esp_accept, refused) + sizeof accept->refused)
		accept->refused(accept, s->txn);
}

esp_status reply_outcome(struct session *s, const esp_outcome *o, const char *what)
{
	int reject = o->verdict == ESP_VERDICT_REJECT;
	uint32_t code = o->answer.smtp_code, low = reject ? 500 : 400;
	esp_status st = mistake(s, reject);   /* who is greylisted may ask for many recipients */

	if (code < low || code > low + 99)
		code = reject ? 550 : 451;
	s->smtp->metric->add(reject ? s->smtp->rejected : s->smtp->deferred, 1);
	keep_trace(s);
	return st == ESP_OK ? reply_verdict(s, o, code, what) : st;
}

#define DEFERRALS_RECENT (300 * ESP_SEC)

/* `why` is a literal: it lives as long as the struct, in this generation. */
static void note_deferral(struct smtp *m, const char *why)
{
	esp_nsec now = m->core.loop->clock(), last = atomic_exchange(&m->deferrals.last, now);

	if (!last || now - last > DEFERRALS_RECENT)
		atomic_store(&m->deferrals.times, 0);
	atomic_fetch_add(&m->deferrals.times, 1);
	atomic_store(&m->deferrals.why, why);
}

int32_t reply_attention(esp_module *self, char text[ESP_ATTENTION_ROOM])
{
	struct smtp *m = self->state;
	esp_nsec last = atomic_load(&m->deferrals.last), now = m->core.loop->clock();
	const char *why = atomic_load(&m->deferrals.why);

	if (!last || !why || now - last > DEFERRALS_RECENT)
		return 0;
	snprintf(text, ESP_ATTENTION_ROOM,
		"mail could not be taken and was deferred %u times, last %lld seconds ago: \"%s\"; "
		"the log says more",
		atomic_load(&m->deferrals.times), (long long)((now - last) / ESP_SEC), why);
	return 1;
}

esp_status reply_status(struct session *s, esp_status st)
{
	static const struct { esp_status st; uint32_t code; const char *enhanced, *text; int ours; } table[] = {
		{ ESP_EQUOTA, 452, "4.2.2", "the mailbox is full", 0 },
		{ ESP_ENOSPC, 452, "4.3.1", "no space here now, try again later", 1 },
		{ ESP_EBUSY, 451, "4.3.2", "busy, try again later", 1 },
		{ ESP_ENOMEM, 451, "4.3.0", "out of memory, try again later", 1 },
		{ ESP_EIO, 451, "4.3.0", "the store failed, try again later", 1 },
		{ ESP_ETIMEDOUT, 451, "4.3.0", "this took too long, try again later", 1 },
		{ ESP_EUNAVAIL, 451, "4.3.0", "not available now, try again later", 1 },
		{ ESP_EUNKNOWN, 451, "4.3.0", "the outcome is not known, try again later", 1 },
		{ ESP_E2BIG, 552, "5.3.4", "larger than this server takes", 0 },
		{ 0, 451, "4.3.0", "a local error, try again later", 1 },    /* any other */
	};
	size_t i = 0;

	while (i + 1 < sizeof table / sizeof table[0] && table[i].st != st)
		i++;
	s->smtp->metric->add(s->smtp->deferred, 1);
	if (table[i].ours)
		note_deferral(s->smtp, table[i].text);
	return reply(s, table[i].code, table[i].enhanced, table[i].text);
}
