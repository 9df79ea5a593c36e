/* core/mail/events.c - filter.matched, filter.error, spam.detected and virus.detected.
 *
 * Each is published once a call, as soon as its chain is done.  A shadow hook decides nothing, so nobody hears of what
 * it found; that it fails is told all the same.  delivery/accept keeps all but filter.matched durably with the message.
 * Thread: the transaction's worker.
 */
#include "core/mail/events.h"

#include "core/base/assert.h"
#include "core/base/str.h"
#include "core/bus/event.h"
#include "core/bus/verdict.h"
#include "core/mail/mail.h"

#include <stdio.h>

enum { SCORE_FIELD = 6 };

static esp_event_id matched, failed, found[ESP_FOUND_VIRUS + 1];

esp_status mail_declare(void)
{
	static const esp_event_field fields[] = {
		{ .key = "message", .type = ESP_F_ID, .help = "id of the message" },
		{ .key = "from", .type = ESP_F_STR, .help = "envelope sender" },
		{ .key = "recipients", .type = ESP_F_INT, .help = "how many it has, so far" },
		{ .key = "filter", .type = ESP_F_STR, .help = "the hook's module, its name in esp.conf" },
		{ .key = "point", .type = ESP_F_STR, .help = "hook point" },
		{ .key = "verdict", .type = ESP_F_STR, .help = "what the hook said; filter.error: its failure policy" },
		{ .key = "score", .type = ESP_F_STR, .help = "the hook's own, as \"7.5\"; empty: it gave none" },
		{ .key = "name", .type = ESP_F_STR, .help = "of what was found" },
		{ .key = "reason", .type = ESP_F_STR, .help = "why, as in the trace" },
	};
	static const struct { const char *name, *help; esp_event_id *ret; } all[] = {
		{ "filter.matched", "A hook said more than that a message may go on, or filed it into a folder", &matched },
		{ "filter.error", "A hook failed, was late or said what its point does not allow", &failed },
		{ "spam.detected", "A hook took a message for spam", &found[ESP_FOUND_SPAM] },
		{ "virus.detected", "A hook found a virus in a message", &found[ESP_FOUND_VIRUS] },
	};
	esp_status st = ESP_OK;

	for (size_t i = 0; st == ESP_OK && i < ARRAY_LEN(all); i++)
		st = event_declare(all[i].name, all[i].help, fields, ARRAY_LEN(fields), sizeof fields[0], all[i].ret);
	return st;
}

static void tell(const esp_txn *t, const esp_trace_call *c, esp_event_id id)
{
	char score[32] = "";
	esp_field fields[] = { ESP_FID("message", t->message->id), ESP_FSTR("from", t->from),
		ESP_FINT("recipients", t->nrcpt), ESP_FSTR("filter", str_of(c->module)),
		ESP_FSTR("point", str_of(point_of(c->point)->name)), ESP_FSTR("verdict", str_of(verdict_name(c->verdict))),
		ESP_FSTR("score", ((esp_str){ NULL, 0 })), ESP_FSTR("name", c->name), ESP_FSTR("reason", c->reason) };

	if (!event_wanted(id))
		return;
	if (c->flags & ESP_TRACE_SCORE)
		snprintf(score, sizeof score, "%.6g", c->score);
	fields[SCORE_FIELD].s = str_of(score);
	event_publish("core/mail", id, fields, ARRAY_LEN(fields), sizeof fields[0]);
}

void events_of_trace(const esp_txn *t, uint32_t first)
{
	for (uint32_t i = first; i < t->trace->ncalls; i++) {
		const esp_trace_call *c = &t->trace->calls[i];

		if (c->flags & ESP_TRACE_FAILED)
			tell(t, c, failed);
		else if (c->flags & ESP_TRACE_SHADOW)
			continue;
		else if (c->verdict != ESP_VERDICT_CONTINUE || c->flags & ESP_TRACE_SCORE || c->folder.len || c->found)
			tell(t, c, matched);
		if (c->found && !(c->flags & (ESP_TRACE_FAILED | ESP_TRACE_SHADOW)))
			tell(t, c, found[c->found]);
	}
}
