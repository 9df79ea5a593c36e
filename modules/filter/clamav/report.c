/* report - what others see of it: metrics, log, `esp-cli clamav status`, and a line of `esp-cli status`. */
#include "clamav.h"

#include "modules/common/json.h"
#include "modules/common/words.h"

#include <esp/attention.h>

#include <stdio.h>
#include <string.h>

#define GREETING (5 * ESP_SEC)       /* all servers together */

static const esp_str version = ESP_STR_INIT("zVERSION\0");
static const char *const results[RESULTS] = {
	[RESULT_CLEAN] = "clean", [RESULT_VIRUS] = "virus", [RESULT_TOO_LARGE] = "too_large", [RESULT_FAILED] = "failed"
};

esp_status report_declare(struct clamav *c)
{
	static const double bounds[] = { 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30 };
	const esp_metric_api *m = c->metric;
	char labels[32];
	esp_status st = ESP_OK;

	for (uint32_t r = 0; st == ESP_OK && r < RESULTS; r++) {
		(void)snprintf(labels, sizeof labels, "result=\"%s\"", results[r]);
		st = m->declare(c->self, ESP_COUNTER, "esp_clamav_scans_total", labels,
			"Messages by what clamd said of them; failed: no server could say", NULL, 0, &c->scans[r]);
	}
	if (st == ESP_OK)
		st = m->declare(c->self, ESP_HISTOGRAM, "esp_clamav_scan_seconds", "",
			"Time of a scan, waiting for room and other servers included", bounds, sizeof bounds / sizeof bounds[0],
			&c->seconds);
	if (st == ESP_OK)
		st = m->declare(c->self, ESP_COUNTER, "esp_clamav_bytes_total", "", "Bytes of the messages that were scanned",
			NULL, 0, &c->bytes);
	if (st == ESP_OK)
		st = m->declare(c->self, ESP_COUNTER, "esp_clamav_server_failures_total", "",
			"Questions that a server did not answer, or not as clamd does; another one was asked", NULL, 0,
			&c->failures);
	return st;
}

void report_scan(const struct clamav *c, enum result r, uint64_t bytes, esp_nsec took)
{
	c->metric->add(c->scans[r], 1);
	c->metric->add(c->bytes, (int64_t)bytes);
	c->metric->observe(c->seconds, (double)took / (double)ESP_SEC);
}

void report_server(struct clamav *c, uint32_t server, esp_status st, const esp_err *err)
{
	esp_str name = c->server[server].text, reason = { err->text, strnlen(err->text, sizeof err->text) };

	if (st != ESP_OK)
		c->metric->add(c->failures, 1);
	if (!failover_note(&c->failover, server, c->core.loop->clock(), st == ESP_OK))
		return;
	if (st == ESP_OK)
		esp_log(c->core.log, c->self, ESP_LOG_NOTICE, "a clamd answers again", ESP_FSTR("server", name));
	else
		esp_log(c->core.log, c->self, ESP_LOG_WARNING,
			"a clamd does not answer: check that it runs, and `servers` of filter_clamav", ESP_FSTR("server", name),
			ESP_FSTR("reason", reason));
}

static void on_greet(void *arg)
{
	struct clamav *c = arg;
	esp_status st = ESP_OK;

	(void)c->core.fiber->set_deadline(c->core.loop->clock() + GREETING);
	for (uint32_t i = 0; i < c->failover.n && st != ESP_ECANCELED; i++) {
		struct reply got = { .len = 0 };
		esp_err err = ESP_ERR_INIT;
		st = ask(c, i, version, &got, &err);
		if (st != ESP_ECANCELED)
			report_server(c, i, st, &err);
		if (st == ESP_OK)
			esp_log(c->core.log, c->self, ESP_LOG_INFO, "a clamd is there", ESP_FSTR("server", c->server[i].text),
				ESP_FSTR("version", ((esp_str){ got.text, got.len })));
	}
	c->greeter = NULL;
}

void report_greet(struct clamav *c)
{
	if (c->core.fiber->spawn(c->self, 0, "clamav greeting", on_greet, c, &c->greeter) != ESP_OK)
		c->greeter = NULL;           /* the first message will tell */
}

static esp_status on_status(esp_module *self, esp_command_call *call)
{
	struct clamav *c = self->state;
	struct json j;

	if (call->argc)
		return words_usage(call, "clamav status");
	json_begin(&j, call);
	json_open(&j, NULL, '[');
	for (uint32_t i = 0; i < c->failover.n; i++) {
		struct reply got = { .len = 0 };
		esp_err err = ESP_ERR_INIT;
		esp_nsec before = c->core.fiber->set_deadline(c->core.loop->clock() + GREETING);
		esp_status st = ask(c, i, version, &got, &err);
		(void)c->core.fiber->set_deadline(before);
		if (st == ESP_ECANCELED)
			return st;
		report_server(c, i, st, &err);
		json_open(&j, NULL, '{');
		json_str(&j, "server", c->server[i].text);
		json_bool(&j, "answers", st == ESP_OK);
		json_str(&j, "says", st == ESP_OK ? (esp_str){ got.text, got.len }
		                                  : (esp_str){ err.text, strnlen(err.text, sizeof err.text) });
		json_close(&j, '}');
	}
	json_close(&j, ']');
	return json_end(&j);
}

static int32_t tell(esp_module *self, char text[ESP_ATTENTION_ROOM])
{
	struct clamav *c = self->state;

	for (uint32_t i = 0; i < c->failover.n; i++)
		if (!failover_is_down(&c->failover, i))
			return 0;
	(void)snprintf(text, ESP_ATTENTION_ROOM,
		"%s: no clamd answers, messages get its failure policy: see `esp-cli clamav status`", self->name);
	return 1;
}

esp_status report_contribute(const struct clamav *c)
{
	static const esp_command status = { .size = sizeof status, .words = "clamav status", .usage = "",
		.help = "Ask every clamd for its version and that of its signatures", .run = on_status };
	static const esp_attention attention = { .size = sizeof attention, .tell = tell };
	esp_status st = c->core.host->contribute(c->self, "esp.command/1", &status);

	return st == ESP_OK ? c->core.host->contribute(c->self, "esp.attention/1", &attention) : st;
}
