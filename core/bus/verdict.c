/* core/bus/verdict.c - the lattice of verdicts and the merging of answers (see verdict.h). */
#include "core/bus/verdict.h"

#include <math.h>

#define A (1u << 1)
#define Q (1u << 2)
#define D (1u << 3)
#define F (1u << 4)
#define R (1u << 5)

static const struct point points[ESP_AT_COUNT] = {
	[ESP_AT_CONNECT] = { "connect", A | F | R, "esp_connect_args", "a client connected, before the greeting", NULL },
	[ESP_AT_TLS] = { "tls", F | R, "esp_connect_args", "a TLS handshake was completed", NULL },
	[ESP_AT_HELO] = { "helo", A | F | R, "esp_helo_args", "EHLO, HELO or LHLO was said", NULL },
	[ESP_AT_AUTH] = { "auth", A | F | R, "esp_auth_args", "an authentication succeeded or failed", NULL },
	[ESP_AT_MAIL] = { "mail", A | Q | F | R, "esp_mail_args", "MAIL FROM opened a transaction", NULL },
	[ESP_AT_RCPT] = { "rcpt", A | Q | D | F | R, "esp_rcpt_args", "RCPT TO; concerns this recipient only", NULL },
	[ESP_AT_DATA] = { "data", A | F | R, "esp_data_args", "DATA or the first BDAT was said", NULL },
	[ESP_AT_HEADERS] = { "headers", A | Q | D | F | R, "esp_headers_args", "the header block is complete", NULL },
	[ESP_AT_MESSAGE] = { "message", A | Q | D | F | R, "esp_message_args",
	                     "the whole message is here; once per group of recipients", NULL },
	[ESP_AT_ROUTE] = { "route", A | F | R, "-", "a queued recipient needs a next hop", "the queue" },
	[ESP_AT_ATTEMPT] = { "attempt", F | R, "-", "a delivery attempt is about to start", "the queue" },
	[ESP_AT_DELIVER] = { "deliver", A | Q | D | F | R, "-", "a message is about to be filed into a mailbox",
	                     "the queue" },
	[ESP_AT_BOUNCE] = { "bounce", D | F | R, "-", "a bounce is about to be made", "the queue" },
	[ESP_AT_IMAP_COMMAND] = { "imap-command", F | R, "esp_command_args", "an IMAP command is about to run", NULL },
	[ESP_AT_HTTP_REQUEST] = { "http-request", F | R, "esp_command_args", "an HTTP request is about to run", NULL },
};

#undef A
#undef Q
#undef D
#undef F
#undef R

static const char *const verdict_names[] = { "continue", "accept", "quarantine", "discard", "defer", "reject", "fail" };

const struct point *point_of(esp_point p)
{
	return p < ESP_AT_COUNT && points[p].name ? &points[p] : NULL;
}

esp_point point_by_name(esp_str name)
{
	for (esp_point p = 1; p < ESP_AT_COUNT; p++)
		if (esp_str_eq(name, (esp_str){ points[p].name, strlen(points[p].name) }))
			return p;
	return 0;
}

bool verdict_allowed(esp_point p, esp_verdict v)
{
	const struct point *at = point_of(p);

	return at && (v == ESP_VERDICT_CONTINUE || (at->allowed & verdict_bit(v)) != 0);
}

const char *verdict_name(esp_verdict v)
{
	int i = verdict_index(v);

	return i < 0 ? "unknown" : verdict_names[i];
}

int32_t verdict_by_name(esp_str name)
{
	for (int32_t i = 0; i < 6; i++)
		if (esp_str_eq(name, (esp_str){ verdict_names[i], strlen(verdict_names[i]) }))
			return i * 10;
	return -1;
}

/* --- answers ----------------------------------------------------------------------------------------- */

/* Behind the name of a field that is to be left out: nothing, or a space and which one, 1 to 9999, perhaps below 0. */
static bool which_ok(esp_str s)
{
	size_t first = s.len > 1 && s.ptr[1] == '-' ? 2 : 1;

	if (s.len == 0)
		return true;
	if (s.ptr[0] != ' ' || s.len == first || s.len > first + 4 || s.ptr[first] == '0')
		return false;
	for (size_t i = first; i < s.len; i++)
		if (s.ptr[i] < '0' || s.ptr[i] > '9')
			return false;
	return true;
}

/* A header field that goes in front of a message: name, colon, no NUL, a line break only as folding (RFC 5322 2.2).
 * Without a colon it names one that is to be left out. */
static bool header_ok(esp_str h)
{
	size_t i = 0;

	if (h.len > ANSWER_HEADER_BYTES)
		return false;
	while (i < h.len && (unsigned char)h.ptr[i] > 0x20 && (unsigned char)h.ptr[i] < 0x7f && h.ptr[i] != ':')
		i++;
	if (i == 0)
		return false;
	if (i == h.len || h.ptr[i] != ':')
		return which_ok((esp_str){ h.ptr + i, h.len - i });
	for (; i < h.len; i++) {
		if (h.ptr[i] == '\0' || h.ptr[i] == '\n')
			return false;
		if (h.ptr[i] != '\r')
			continue;
		if (h.len - i < 3 || h.ptr[i + 1] != '\n' || (h.ptr[i + 2] != ' ' && h.ptr[i + 2] != '\t'))
			return false;
		i += 2;
	}
	return true;
}

const char *answer_fault(const esp_answer *a)
{
	if (a->nheaders > ANSWER_HEADERS_MAX || (a->nheaders && !a->headers))
		return "too many headers";
	if (a->ntags > ANSWER_TAGS_MAX || (a->ntags && !a->tags))
		return "too many tags";
	if (a->found > ESP_FOUND_VIRUS)
		return "something found that is unknown to this server";
	for (uint32_t i = 0; i < a->nheaders; i++)
		if (!header_ok(a->headers[i]))
			return "a malformed header";
	return NULL;
}

void answer_for_failure(esp_answer *a, esp_verdict policy, const char *why)
{
	*a = (esp_answer){ .size = sizeof *a, .reason = { why, strlen(why) } };
	if (policy == ESP_VERDICT_DEFER) {
		memcpy(a->enhanced, (const uint8_t[4]){ 4, 3, 0 }, sizeof a->enhanced);
		a->text = ESP_STR("a check could not be made, try again later");
	} else if (policy == ESP_VERDICT_REJECT) {
		memcpy(a->enhanced, (const uint8_t[4]){ 5, 3, 0 }, sizeof a->enhanced);
		a->text = ESP_STR("a check could not be made");
	}
}

esp_status answer_line(esp_arena *arena, esp_str s, esp_str *ret)
{
	if (s.len > ANSWER_TEXT_MAX)
		s.len = ANSWER_TEXT_MAX;
	*ret = (esp_str){ NULL, 0 };
	if (s.len == 0)
		return ESP_OK;
	*ret = esp_strdup_in(arena, s);
	if (!ret->ptr)
		return ESP_ENOMEM;
	for (char *p = (char *)(uintptr_t)ret->ptr; p < ret->ptr + ret->len; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			*p = ' ';
	return ESP_OK;
}

/* Behind `n` strings append `more` copies; the array is replaced, never changed in place. */
static esp_status append_strings(
	esp_arena *arena, const esp_str **list, uint32_t *n, const esp_str *more, uint32_t nmore)
{
	esp_str *all;

	if (nmore == 0)
		return ESP_OK;
	all = esp_alloc_array(arena, (size_t)*n + nmore, sizeof *all);
	if (!all)
		return ESP_ENOMEM;
	if (*n)
		memcpy(all, *list, *n * sizeof *all);
	for (uint32_t i = 0; i < nmore; i++) {
		all[*n + i] = esp_strdup_in(arena, more[i]);
		if (!all[*n + i].ptr)
			return ESP_ENOMEM;
	}
	*list = all;
	*n += nmore;
	return ESP_OK;
}

/* The first digit of the reply that a verdict stands for. */
static uint32_t reply_class(esp_verdict v)
{
	return v == ESP_VERDICT_REJECT ? 5 : v == ESP_VERDICT_DEFER ? 4 : 2;
}

static esp_status take_reply(esp_outcome *o, esp_verdict v, const esp_answer *a, const char *by, esp_arena *arena)
{
	esp_answer *to = &o->answer;
	esp_str text, reason;

	if (answer_line(arena, a->text, &text) != ESP_OK || answer_line(arena, a->reason, &reason) != ESP_OK)
		return ESP_ENOMEM;
	to->text = text;
	to->reason = reason;
	to->folder = (esp_str){ NULL, 0 };
	to->smtp_code = a->smtp_code / 100 == reply_class(v) ? a->smtp_code : 0;
	memset(to->enhanced, 0, sizeof to->enhanced);
	if (a->enhanced[0] == reply_class(v))
		memcpy(to->enhanced, a->enhanced, sizeof to->enhanced);
	o->verdict = v;
	o->by = by;
	return ESP_OK;
}

esp_status outcome_merge(esp_outcome *o, esp_verdict v, const esp_answer *a, const char *by, esp_arena *arena)
{
	esp_answer *to = &o->answer;

	if (v > o->verdict && take_reply(o, v, a, by, arena) != ESP_OK)
		return ESP_ENOMEM;
	if (a->has_score && isfinite(a->score)) {
		to->score += a->score;
		to->has_score = 1;
	}
	if (a->found > to->found) {
		if (answer_line(arena, a->name, &to->name) != ESP_OK)
			return ESP_ENOMEM;
		to->found = a->found;
	}
	if (append_strings(arena, &to->headers, &to->nheaders, a->headers, a->nheaders) != ESP_OK ||
	    append_strings(arena, &to->tags, &to->ntags, a->tags, a->ntags) != ESP_OK)
		return ESP_ENOMEM;
	if (v == ESP_VERDICT_CONTINUE && o->verdict == ESP_VERDICT_CONTINUE && a->folder.len)
		return answer_line(arena, a->folder, &to->folder);
	return ESP_OK;
}
