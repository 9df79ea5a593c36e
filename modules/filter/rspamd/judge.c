/* judge - from what rspamd says to what becomes of the message. */
#include "rspamd.h"

#include <esp/mail/buf.h>
#include <esp/mail/header.h>

#include <stdarg.h>
#include <stdio.h>
#include <strings.h>

#define LINE 998u                  /* RFC 5322 2.1.1 */

#define HEADERS (2 * REPLY_FIELDS + 5)

struct paper { esp_arena *arena; esp_str *header; uint32_t n; int failed; };

static void put(struct paper *p, esp_str header)
{
	if (header.ptr && p->n < HEADERS)
		p->header[p->n++] = header;
	else
		p->failed = 1;
}

static void put_text(struct paper *p, const char *fmt, ...) ESP_PRINTF(2, 3);
static void put_text(struct paper *p, const char *fmt, ...)
{
	char text[1024];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	put(p, n > 0 && (size_t)n < sizeof text ? esp_strdup_in(p->arena, (esp_str){ text, (size_t)n })
											: (esp_str){ NULL, 0 });
}

static int is_name(esp_str s)
{
	for (size_t i = 0; i < s.len; i++)
		if (s.ptr[i] <= ' ' || s.ptr[i] >= 0x7f || s.ptr[i] == ':')
			return 0;
	return s.len != 0;
}

/* Only spaces behind a line break would make an empty line, which older readers take for the end of the header. */
static int is_blank(esp_str s, size_t from)
{
	while (from < s.len && (s.ptr[from] == ' ' || s.ptr[from] == '\t'))
		from++;
	return from == s.len || s.ptr[from] == '\r' || s.ptr[from] == '\n';
}

/* The value as a field can have it: folded where it was folded, other controls as spaces.  0: a line is too long. */
static size_t fold(char *out, esp_str value, size_t column)
{
	size_t n = 0;

	for (size_t i = 0; i < value.len; i++) {
		unsigned char c = (unsigned char)value.ptr[i];
		if (c == '\r' && i + 1 < value.len && value.ptr[i + 1] == '\n')
			continue;
		if (c == '\n' && i + 1 < value.len && (value.ptr[i + 1] == ' ' || value.ptr[i + 1] == '\t') &&
			!is_blank(value, i + 1)) {
			out[n++] = '\r';
			out[n++] = '\n';
			column = 0;
			continue;
		}
		out[n++] = (char)((c < ' ' && c != '\t') || c == 0x7f ? ' ' : c);
		if (++column > LINE)
			return 0;
	}
	return n;
}

/* A field as rspamd wants it in front; one that cannot stand in a header is left out. */
static void put_field(struct paper *p, esp_str name, esp_str value)
{
	char *text = esp_alloc(p->arena, name.len + 2 + 2 * value.len + 1);
	size_t n;

	if (!text) {
		p->failed = 1;
		return;
	}
	if (!is_name(name))
		return;
	memcpy(text, name.ptr, name.len);
	memcpy(text + name.len, ": ", 2);
	n = fold(text + name.len + 2, value, name.len + 2);
	if (n)
		put(p, (esp_str){ text, name.len + 2 + n });
}

static void put_milter(struct paper *p, const struct reply *r)
{
	for (uint32_t i = 0; i < r->nremove; i++) {
		if (!is_name(r->remove[i].name))
			continue;
		if (r->remove[i].which == 0)
			put_text(p, "%.*s", ESP_FMT(r->remove[i].name));
		else
			put_text(p, "%.*s %d", ESP_FMT(r->remove[i].name), r->remove[i].which);
	}
	for (uint32_t i = 0; i < r->nadd; i++)
		put_field(p, r->add[i].name, r->add[i].value);
}

/* Symbols by weight: "A(4.00), B(-0.10)". */
static size_t list_symbols(const struct reply *r, char *out, size_t room)
{
	size_t n = 0;

	out[0] = '\0';
	for (uint32_t i = 0; i < r->nsymbols; i++) {
		int k = !is_name(r->symbol[i].name) ? 0
											: snprintf(out + n, room - n, "%s%.*s(%.2f)", n ? ", " : "",
												  ESP_FMT(r->symbol[i].name), r->symbol[i].score);
		if (k < 0 || (size_t)k >= room - n) {
			out[n] = '\0';
			break;
		}
		n += (size_t)k;
	}
	return n;
}

static double required(const struct settings *s, const struct reply *r)
{
	return s->by_thresholds ? s->reject : r->required;
}

static void put_own(struct paper *p, const struct settings *s, const struct reply *r, int spam)
{
	char symbols[700];

	list_symbols(r, symbols, sizeof symbols);
	put_text(p, "X-Spam-Flag: %s", spam ? "YES" : "NO");
	put_text(p, "X-Spam-Score: %.2f", r->score);
	put_text(p, "X-Spam-Status: %s, score=%.2f required=%.2f\r\n\tsymbols=[%s]", spam ? "Yes" : "No", r->score,
		required(s, r), symbols);
}

static void put_subject(struct paper *p, esp_str subject)
{
	esp_buf b;

	esp_buf_init(&b, 16384);
	if (esp_header_write(&b, "Subject", subject) == ESP_OK && b.len > 2) {
		esp_str text = esp_buf_str(&b);
		text.len -= 2;
		put(p, ESP_STR("Subject"));
		put(p, esp_strdup_in(p->arena, text));
	}
	esp_buf_free(&b);
}

/* --- the verdict ---------------------------------------------------------------------------------------------- */

/* What rspamd wants done, or what its score means here. */
static enum action action_of(const struct settings *s, const struct reply *r)
{
	if (!s->by_thresholds)
		return r->no_action ? ACTION_NONE : r->action == ACTION_REJECT ? r->on_reject : r->action;
	return r->score >= s->reject ? ACTION_REJECT : r->score >= s->quarantine ? ACTION_ADD_HEADER : ACTION_NONE;
}

static int is_spam(enum action a)
{
	return a == ACTION_ADD_HEADER || a == ACTION_SUBJECT || a == ACTION_QUARANTINE || a == ACTION_DISCARD ||
		a == ACTION_REJECT;
}

static esp_verdict refuse(esp_answer *answer, esp_str message, int for_now)
{
	static const uint8_t later[4] = { 4, 7, 1 }, never[4] = { 5, 7, 1 };

	memcpy(answer->enhanced, for_now ? later : never, sizeof answer->enhanced);
	answer->smtp_code = for_now ? 451 : 554;
	answer->text = message.len ? message : for_now ? ESP_STR("not now, try again later")
												   : ESP_STR("this looks like spam");
	return for_now ? ESP_VERDICT_DEFER : ESP_VERDICT_REJECT;
}

static esp_verdict put_away(const struct settings *s, esp_answer *answer)
{
	if (s->quarantine_means == QUARANTINE_HOLD)
		return ESP_VERDICT_QUARANTINE;
	answer->folder = s->folder;
	return ESP_VERDICT_CONTINUE;
}

static esp_verdict verdict_of(const struct settings *s, enum action action, esp_str message, esp_answer *answer)
{
	switch (action) {
	case ACTION_GREYLIST: case ACTION_SOFT_REJECT: return refuse(answer, message, 1);
	case ACTION_ADD_HEADER: case ACTION_SUBJECT: case ACTION_QUARANTINE: return put_away(s, answer);
	case ACTION_DISCARD: return ESP_VERDICT_DISCARD;
	case ACTION_REJECT: return refuse(answer, message, 0);
	case ACTION_OTHER: return ESP_VERDICT_FAIL;            /* it decides, and nobody knows what it means */
	default: return ESP_VERDICT_CONTINUE;
	}
}

static esp_str reason_of(esp_arena *arena, const struct settings *s, enum action action, const struct reply *r)
{
	char symbols[380], text[500];
	int n;

	list_symbols(r, symbols, sizeof symbols);
	n = snprintf(
		text, sizeof text, "%s, score %.2f of %.2f: %s", action_name(action), r->score, required(s, r), symbols);
	return esp_strdup_in(arena, (esp_str){ text, n < (int)sizeof text ? (size_t)n : sizeof text - 1 });
}

static int paper_begin(struct paper *p, esp_arena *arena)
{
	*p = (struct paper){ .arena = arena, .header = esp_alloc_array(arena, HEADERS, sizeof(esp_str)) };
	return p->header != NULL;
}

static esp_verdict finish(const struct paper *p, esp_verdict v, esp_answer *answer)
{
	if (p->failed)
		return ESP_VERDICT_FAIL;
	answer->headers = p->header;
	answer->nheaders = p->n;
	return v;
}

esp_verdict judge(const struct settings *s, esp_arena *arena, const struct reply *r, esp_answer *answer)
{
	static const esp_str spam_tag = ESP_STR_INIT("spam");
	enum action action = action_of(s, r);
	int spam = is_spam(action);
	struct paper p;
	esp_str message;

	if (!paper_begin(&p, arena))
		return ESP_VERDICT_FAIL;
	if (r->skipped && !spam)
		return finish(&p, verdict_of(s, action, (esp_str){ NULL, 0 }, answer), answer);
	answer->score = r->score;
	answer->has_score = 1;
	answer->reason = reason_of(arena, s, action, r);
	message = esp_strdup_in(arena, r->message);        /* the reply ends before the answer */
	if (!answer->reason.ptr || !message.ptr)
		return ESP_VERDICT_FAIL;
	if (spam) {
		answer->found = ESP_FOUND_SPAM;
		answer->name = (esp_str){ action_name(action), strlen(action_name(action)) };
		answer->tags = &spam_tag;
		answer->ntags = 1;
	}
	if (action == ACTION_SUBJECT && s->rewrite_subject && r->subject.len)
		put_subject(&p, r->subject);
	put_milter(&p, r);
	if (s->add_headers)
		put_own(&p, s, r, spam);
	return finish(&p, verdict_of(s, action, message, answer), answer);
}

esp_verdict judge_large(const struct settings *s, esp_arena *arena, esp_answer *answer)
{
	struct paper p;
	esp_verdict v = ESP_VERDICT_CONTINUE;

	if (!paper_begin(&p, arena))
		return ESP_VERDICT_FAIL;
	answer->reason = ESP_STR("larger than what is looked at for spam");
	if (s->above == ABOVE_DEFER || s->above == ABOVE_REJECT)
		v = refuse(answer, answer->reason, s->above == ABOVE_DEFER);
	else if (s->above == ABOVE_QUARANTINE)
		v = put_away(s, answer);
	if (s->add_headers)
		put_text(&p, "X-Spam-Status: No, not looked at: too large");
	return finish(&p, v, answer);
}

/* --- the verdicts of others ------------------------------------------------------------------------------------- */

/* rspamd, SpamAssassin, amavis, Exim ("X-Spam_bar") and spamd, and what takes after them. */
static int is_foreign(esp_str name)
{
	return is_name(name) && name.len <= LINE &&
		((name.len >= 6 && strncasecmp(name.ptr, "X-Spam", 6) == 0) ||
			(name.len >= 8 && strncasecmp(name.ptr, "X-Rspamd", 8) == 0));
}

static int is_listed(const esp_answer *answer, esp_str name)
{
	for (uint32_t i = 0; i < answer->nheaders; i++)
		if (answer->headers[i].len == name.len && strncasecmp(answer->headers[i].ptr, name.ptr, name.len) == 0)
			return 1;
	return 0;
}

esp_verdict judge_foreign(esp_str header, esp_arena *arena, esp_answer *answer)
{
	esp_header h = esp_header_of(header);
	esp_header_field f;
	esp_str *name = NULL;

	while (esp_header_next(&h, &f) == ESP_OK) {
		if (!is_foreign(f.name) || is_listed(answer, f.name))
			continue;
		if (answer->nheaders == FOREIGN_MOST)
			return refuse(answer, ESP_STR("too many kinds of X-Spam fields"), 0);
		if (!name)
			answer->headers = name = esp_alloc_array(arena, FOREIGN_MOST, sizeof *name);
		if (!name || !(name[answer->nheaders] = esp_strdup_in(arena, f.name)).ptr)
			return ESP_VERDICT_FAIL;
		answer->nheaders++;
	}
	return ESP_VERDICT_CONTINUE;
}
