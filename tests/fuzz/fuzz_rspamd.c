/* fuzz_rspamd - what a filter service answers: no crash, no read beyond the end, and only answers that core/bus takes.
 *
 * The first byte chooses the settings; the rest is the reply.  It is also read as the body of an event, as an address
 * of esp.conf and as the header of a message.
 */
#include "modules/common/httpjson.h"
#include "modules/filter/rspamd/lesson.h"
#include "modules/filter/rspamd/rspamd.h"

#include "core/base/arena.h"
#include "core/bus/verdict.h"

#include <json-c/json.h>
#include <math.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const esp_mem_api mem = { .size = sizeof mem, .arena_free = arena_free, .alloc = arena_alloc };

static void must(int condition)
{
	if (!condition)
		abort();
}

static void check_reply(const struct reply *r)
{
	must(r->action < ACTIONS && fabs(r->score) <= REPLY_SCORE && r->required >= 0 && r->required <= REPLY_SCORE);
	must(r->on_reject == ACTION_REJECT || r->on_reject == ACTION_DISCARD || r->on_reject == ACTION_QUARANTINE);
	must(r->nsymbols <= REPLY_SYMBOLS && r->nadd <= REPLY_FIELDS && r->nremove <= REPLY_FIELDS);
	must(r->message.len <= REPLY_MESSAGE && r->subject.len <= REPLY_VALUE);
	for (uint32_t i = 1; i < r->nsymbols; i++)
		must(fabs(r->symbol[i - 1].score) >= fabs(r->symbol[i].score));
	for (uint32_t i = 0; i < r->nadd; i++)
		must(r->add[i].name.len && r->add[i].name.len <= REPLY_NAME && r->add[i].value.len <= REPLY_VALUE);
	for (uint32_t i = 0; i < r->nremove; i++)
		must(abs(r->remove[i].which) <= REPLY_WHICH);
}

static void check_answer(esp_verdict v, const esp_answer *a)
{
	must(v == ESP_VERDICT_FAIL || (verdict_allowed(ESP_AT_MESSAGE, v) && answer_fault(a) == NULL));
	must((v == ESP_VERDICT_REJECT) == (a->smtp_code / 100 == 5) &&
		 (v == ESP_VERDICT_DEFER) == (a->smtp_code / 100 == 4));
	must(!a->has_score || isfinite(a->score));
}

static void read_reply(uint8_t how, esp_str text)
{
	struct settings s = { .by_thresholds = how & 1, .add_headers = how & 2, .rewrite_subject = how & 4, .reject = 15,
		.quarantine = 6, .quarantine_means = how & 8 ? QUARANTINE_HOLD : QUARANTINE_JUNK, .folder = ESP_STR("Junk") };
	struct json_object *json = httpjson_read(text);
	esp_arena *arena = arena_new(&mem, "fuzz", 1 << 20);
	esp_answer answer = { .size = sizeof answer };
	esp_err err = ESP_ERR_INIT;
	struct reply r;

	must(arena != NULL);
	if (json && reply_read(json, &r, &err) == ESP_OK) {
		check_reply(&r);
		esp_verdict v = judge(&s, arena, &r, &answer);
		check_answer(v, &answer);
		must((v == ESP_VERDICT_FAIL) == (r.action == ACTION_OTHER && !r.no_action && !s.by_thresholds));
	} else if (json) {
		must(err.text[0] != '\0');
	}
	json_object_put(json);
	arena_free(arena);
}

static void look_for_foreign(esp_str header)
{
	esp_arena *arena = arena_new(&mem, "fuzz", 1 << 20);
	esp_answer answer = { .size = sizeof answer };
	esp_verdict v;

	must(arena != NULL);
	v = judge_foreign(header, arena, &answer);
	must((v == ESP_VERDICT_CONTINUE || v == ESP_VERDICT_REJECT) && answer_fault(&answer) == NULL);
	arena_free(arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct moved m;
	char *exact;

	if (!size)
		return 0;
	exact = malloc(size);
	must(exact != NULL);
	memcpy(exact, data + 1, size - 1);
	exact = realloc(exact, size - 1 ? size - 1 : 1);      /* exactly: a sanitizer sees a read behind it */
	must(exact != NULL);
	read_reply(data[0], (esp_str){ exact, size - 1 });
	if (moved_read((esp_str){ exact, size - 1 }, &m) == ESP_OK)
		must(m.first && m.first <= m.last);
	look_for_foreign((esp_str){ exact, size - 1 });
	(void)url_fault((esp_str){ exact, size - 1 });
	free(exact);
	return 0;
}
