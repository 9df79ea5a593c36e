/* report - what is told: metrics, the event, `esp-cli llm status`, and what an operator should look at. */
#include "llm.h"

#include "modules/common/json.h"

#include <esp/attention.h>

static const char *const result_names[RESULTS] = { "categorised", "unsure", "spam", "filed", "off", "old", "budget",
	"busy", "resting", "wrong", "refused", "failed" };
static const char *const request_names[REQUESTS] = { "ok", "wrong", "refused", "later", "failed" };

/* --- metrics ------------------------------------------------------------------------------------------------- */

static esp_status declare_counters(struct llm *m, const char *name, const char *label, const char *help,
	const char *const *values, uint32_t n, esp_metric *ret)
{
	esp_status st = ESP_OK;
	char labels[96];

	for (uint32_t i = 0; st == ESP_OK && i < n; i++) {
		snprintf(labels, sizeof labels, "%s=\"%s\"", label, values[i]);
		st = m->report.metric->declare(m->self, ESP_COUNTER, name, labels, help, NULL, 0, &ret[i]);
	}
	return st;
}

/* The names are esp.conf's: no peer makes any. */
static esp_status declare_categories(struct llm *m)
{
	const struct prompt *p = &m->settings.prompt;
	esp_status st = ESP_OK;
	char labels[96];

	for (uint32_t i = 0; st == ESP_OK && i < p->ncategories; i++) {
		snprintf(labels, sizeof labels, "category=\"%.*s\"", ESP_FMT(p->category[i].name));
		st = m->report.metric->declare(m->self, ESP_COUNTER, "esp_llm_categories_total", labels,
			"Messages by the category that the model gave them, sure or not", NULL, 0, &m->report.category[i]);
	}
	return st;
}

static esp_status declare_metrics(struct llm *m)
{
	static const double seconds[] = { 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60 };
	struct report *r = &m->report;
	esp_status st = declare_counters(m, "esp_llm_messages_total", "result", "Messages by what became of them",
		result_names, RESULTS, r->messages);

	if (st == ESP_OK)
		st = declare_counters(m, "esp_llm_requests_total", "result", "Requests to the LLM service by what came of them",
			request_names, REQUESTS, r->requests);
	if (st == ESP_OK)
		st = declare_categories(m);
	if (st == ESP_OK)
		st = r->metric->declare(m->self, ESP_COUNTER, "esp_llm_tokens_total", "",
			"Tokens, as the service counts them in its replies", NULL, 0, &r->tokens);
	if (st == ESP_OK)
		st = r->metric->declare(m->self, ESP_COUNTER, "esp_llm_cached_total", "",
			"Messages whose answer was remembered: no request", NULL, 0, &r->cached);
	if (st == ESP_OK)
		st = r->metric->declare(m->self, ESP_COUNTER, "esp_llm_moved_total", "",
			"Messages that were moved out of INBOX", NULL, 0, &r->moved);
	if (st == ESP_OK)
		st = r->metric->declare(m->self, ESP_GAUGE, "esp_llm_behind_events", "",
			"Events of the log that have not been looked at", NULL, 0, &r->behind);
	if (st == ESP_OK)
		st = r->metric->declare(m->self, ESP_HISTOGRAM, "esp_llm_request_seconds", "", "Time of a request", seconds,
			sizeof seconds / sizeof seconds[0], &r->seconds);
	return st;
}

/* --- events -------------------------------------------------------------------------------------------------- */

static esp_status declare_event(struct llm *m)
{
	static const esp_event_field fields[] = {
		{ .key = "message", .type = ESP_F_ID, .help = "id of the message" },
		{ .key = "user", .type = ESP_F_STR, .help = "address of the account; empty before delivery" },
		{ .key = "category", .type = ESP_F_STR, .help = "a name of filter_llm's categories" },
		{ .key = "confidence", .type = ESP_F_INT, .help = "how sure the model is, in thousandths" },
		{ .key = "folder", .type = ESP_F_STR, .help = "where it was moved to or is filed; empty: it stays" },
	};

	return m->report.event->declare(m->self, "message.categorised", "A model said what kind of message this is", fields,
		sizeof fields / sizeof fields[0], sizeof fields[0], &m->report.categorised);
}

void report_category(struct llm *m, const struct settings *s, esp_id message, esp_str account, const struct verdict *v,
	esp_str folder)
{
	const esp_field fields[] = { ESP_FID("message", message), ESP_FSTR("user", account),
		ESP_FSTR("category", s->prompt.category[v->category].name), ESP_FINT("confidence", v->confidence),
		ESP_FSTR("folder", folder) };

	m->report.metric->add(m->report.category[v->category], 1);
	if (m->report.event->wanted(m->report.categorised))
		m->report.event->publish(
			m->self, m->report.categorised, fields, sizeof fields / sizeof fields[0], sizeof fields[0]);
}

void report_result(struct llm *m, enum result r) { m->report.metric->add(m->report.messages[r], 1); }

void report_behind(struct llm *m, int64_t position, int64_t end)
{
	atomic_store(&m->shared->follows, 1);
	atomic_store(&m->shared->position, position);
	atomic_store(&m->shared->end, end);
	m->report.metric->set(m->report.behind, end > position ? end - position : 0);
}

/* --- for people ---------------------------------------------------------------------------------------------- */

static esp_status on_status(esp_module *self, esp_command_call *call)
{
	struct llm *m = self->state;
	const struct settings *s = &m->settings;
	struct shared *sh = m->shared;
	esp_nsec rests = atomic_load(&sh->rest_until) - m->core.loop->clock();
	int64_t behind = atomic_load(&sh->end) - atomic_load(&sh->position);
	struct json j;

	if (call->argc) {
		snprintf(call->err->text, sizeof call->err->text, "usage: llm status");
		return ESP_EUSAGE;
	}
	budget_day(sh, m->core.loop->wall(NULL));
	json_begin(&j, call);
	json_open(&j, NULL, '{');
	json_cstr(&j, "mode", s->mode == MODE_WAIT ? "wait" : "after");
	json_str(&j, "url", s->url);
	json_str(&j, "model", s->prompt.model);
	json_int(&j, "categories", s->prompt.ncategories);
	json_int(&j, "running", atomic_load(&sh->running));
	json_int(&j, "failures", atomic_load(&sh->failures));
	json_int(&j, "rests_seconds", rests > 0 ? (rests + ESP_SEC - 1) / ESP_SEC : 0);
	json_int(&j, "requests_today", (int64_t)atomic_load(&sh->requests));
	json_int(&j, "requests_per_day", (int64_t)s->requests);
	json_int(&j, "tokens_today", (int64_t)atomic_load(&sh->tokens));
	json_int(&j, "tokens_per_day", (int64_t)s->tokens);
	json_bool(&j, "follows", atomic_load(&sh->follows));
	json_int(&j, "behind_events", s->mode == MODE_AFTER && behind > 0 ? behind : 0);
	json_close(&j, '}');
	return json_end(&j);
}

static const esp_command status_command = { .size = sizeof status_command, .words = "llm status",
	.help = "Does the LLM service answer, and what is left of today's budget", .run = on_status };

static int32_t on_attention(esp_module *self, char text[ESP_ATTENTION_ROOM])
{
	struct llm *m = self->state;

	if (atomic_load(&m->shared->failures) >= 3)
		snprintf(text, ESP_ATTENTION_ROOM,
			"%s: the LLM service has not answered %u times in a row, mail is not categorised; "
			"the log says why, esp-cli llm status when it is asked again",
			self->name, atomic_load(&m->shared->failures));
	else if (budget_spent(m->shared, &m->settings))
		snprintf(text, ESP_ATTENTION_ROOM,
			"%s: today's budget of requests or tokens is spent, mail is not categorised until "
			"midnight (UTC); raise requests_per_day or tokens_per_day if that is too early",
			self->name);
	else
		return 0;
	return 1;
}

static const esp_attention attention = { .size = sizeof attention, .tell = on_attention };

esp_status report_declare(struct llm *m)
{
	esp_status st;

	m->report.event = m->core.host->core("esp.event/1", 0);
	m->report.metric = m->core.host->core("esp.metric/1", 0);
	st = declare_metrics(m);
	if (st == ESP_OK)
		st = declare_event(m);
	if (st == ESP_OK)
		st = m->core.host->contribute(m->self, "esp.command/1", &status_command);
	if (st == ESP_OK)
		st = m->core.host->contribute(m->self, "esp.attention/1", &attention);
	return st;
}
