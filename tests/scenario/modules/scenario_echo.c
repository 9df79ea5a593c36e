/* scenario_echo - the smallest protocol that scenario tests of the core need: lines in, lines out.
 *
 * Serves the role "echo".  Greets with `greeting`.  Commands: "ECHO text", "GREETING" (of the generation in force),
 * "HELO name" (runs the helo hooks: the verdict's number), "SLEEP ms" ("sleeping" first), "EVENT text" (publishes
 * scenario.said), "QUIT".  Sessions are handed over at a reload.  Offers the commands `echo say WORD ...`,
 * `echo count N` and `echo flood`.
 */
#include <esp/command.h>
#include <esp/conn.h>
#include <esp/event.h>
#include <esp/hook.h>
#include <esp/host.h>
#include <stdio.h>
#include <stdlib.h>

struct echo {
	esp_core core;
	const esp_hook_api *hooks;
	const esp_event_api *events;
	esp_event_id said;
	esp_str greeting;
};

static esp_status reply(esp_conn *c, esp_str text)
{
	esp_status st = esp_conn_write(c, text);

	return st == ESP_OK ? esp_conn_write(c, ESP_STR("\r\n")) : st;
}

static int begins(esp_str line, const char *word)
{
	size_t n = strlen(word);

	return line.len >= n && memcmp(line.ptr, word, n) == 0;
}

static esp_str rest_of(esp_str line, size_t n)
{
	return line.len > n ? (esp_str){ line.ptr + n + 1, line.len - n - 1 } : (esp_str){ NULL, 0 };
}

static esp_status run_helo(struct echo *e, esp_conn *c, esp_str name)
{
	esp_helo_args args = { .size = sizeof(args), .conn = c, .name = name };
	esp_outcome outcome = { .size = sizeof(outcome) };
	char text[32];

	e->hooks->run(ESP_AT_HELO, &args, c->arena, &outcome);
	return reply(c, (esp_str){ text, (size_t)snprintf(text, sizeof(text), "verdict %u", outcome.verdict) });
}

static esp_status sleep_ms(struct echo *e, esp_conn *c, esp_str number)
{
	char text[16] = "";
	esp_status st = reply(c, ESP_STR("sleeping"));

	if (st == ESP_OK)
		st = c->api->flush(c);
	if (st != ESP_OK)
		return st;
	memcpy(text, number.ptr, number.len < sizeof(text) - 1 ? number.len : sizeof(text) - 1);
	st = e->core.fiber->sleep_until(e->core.loop->clock() + atoi(text) * ESP_MSEC);
	return st == ESP_OK ? reply(c, ESP_STR("slept")) : st;
}

static esp_status command(struct echo *e, esp_module *self, esp_conn *c, esp_str line)
{
	if (begins(line, "ECHO"))
		return reply(c, rest_of(line, 4));
	if (begins(line, "GREETING"))
		return reply(c, e->greeting);
	if (begins(line, "HELO"))
		return run_helo(e, c, rest_of(line, 4));
	if (begins(line, "SLEEP"))
		return sleep_ms(e, c, rest_of(line, 5));
	if (begins(line, "EVENT")) {
		esp_field text = ESP_FSTR("text", rest_of(line, 5));

		e->events->publish(self, e->said, &text, 1, sizeof(text));
		return reply(c, ESP_STR("said"));
	}
	if (begins(line, "QUIT")) {
		(void)!reply(c, ESP_STR("bye"));
		return ESP_ECLOSED;
	}
	return reply(c, ESP_STR("what?"));
}

static esp_status session(esp_module *self, esp_conn *c, uint32_t why)
{
	struct echo *e = self->state;
	esp_status st = ESP_OK;
	esp_str line;

	if (why & ESP_CONN_OPENED)
		st = reply(c, e->greeting);
	while (st == ESP_OK && (st = c->api->line(c, &line)) == ESP_OK)
		st = command(e, self, c, line);
	if (st != ESP_OK && st != ESP_EAGAIN)
		return st;
	if (why & (ESP_CONN_DRAIN | ESP_CONN_TIMEOUT | ESP_CONN_OVERLOAD)) {
		(void)!reply(c, ESP_STR("closing"));
		return ESP_ECLOSED;
	}
	return why & ESP_CONN_EOF ? ESP_ECLOSED : ESP_OK;
}

static esp_status freeze(esp_module *self, esp_conn *c, void *out, size_t cap, size_t *ret_len)
{
	(void)self;
	(void)c;
	(void)out;
	(void)cap;
	*ret_len = 0;
	return ESP_OK;
}

static esp_status thaw(esp_module *self, esp_conn *c, const void *blob, size_t len)
{
	(void)self;
	(void)c;
	(void)blob;
	return len == 0 ? ESP_OK : ESP_EPROTO;
}

/* "echo say a b" answers {"said":["a","b"]}; words are JSON-clean letters in the tests. */
static esp_status run_say(esp_module *self, esp_command_call *call)
{
	esp_status st = call->write(call, ESP_STR("{\"said\":["));

	(void)self;
	for (uint32_t i = 0; i < call->argc && st == ESP_OK; i++) {
		if (esp_str_eq(call->argv[i], ESP_STR("fail"))) {
			memcpy(call->err->text, "asked to fail", sizeof("asked to fail"));
			return ESP_EINVAL;
		}
		st = call->write(call, i ? ESP_STR(",\"") : ESP_STR("\""));
		if (st == ESP_OK)
			st = call->write(call, call->argv[i]);
		if (st == ESP_OK)
			st = call->write(call, ESP_STR("\""));
	}
	if (st == ESP_OK && call->input.len)
		st = call->write(call, ESP_STR("],\"input\":[\"yes\""));
	return st == ESP_OK ? call->write(call, ESP_STR("]}")) : st;
}

static const esp_command say = {
	.size = sizeof(say), .words = "echo say", .usage = "[WORD ...]", .help = "Says the words again.", .run = run_say
};

/* "echo count N" takes N steps of 10 ms, and says so in the log when nobody waits for the end. */
static esp_status run_count(esp_module *self, esp_command_call *call)
{
	const struct echo *e = self->state;
	esp_progress p = { .size = sizeof(p), .step = ESP_STR("counting"), .unit = ESP_STR("steps") };
	esp_status st = ESP_OK;

	for (size_t i = 0; call->argc && i < call->argv[0].len; i++)
		p.total = p.total * 10 + (uint64_t)(call->argv[0].ptr[i] - '0');
	for (; st == ESP_OK && p.done < p.total; p.done++) {
		st = call->progress(call, &p);
		if (st == ESP_OK)
			st = e->core.fiber->sleep_until(e->core.loop->now() + 10 * ESP_MSEC);
	}
	if (st == ESP_ECLOSED)
		esp_log_text(e->core.log, self, ESP_LOG_NOTICE, "nobody waits for the count");
	return st == ESP_OK ? call->write(call, ESP_STR("{\"counted\":true}")) : st;
}

static const esp_command count = {
	.size = sizeof(count), .words = "echo count", .usage = "N", .help = "Counts slowly.", .run = run_count
};

/* "echo flood" answers 4 MiB: more than any socket takes at once. */
static esp_status run_flood(esp_module *self, esp_command_call *call)
{
	const struct echo *e = self->state;
	esp_status st = call->write(call, ESP_STR("[\"\""));

	esp_log_text(e->core.log, self, ESP_LOG_NOTICE, "flood begins");
	for (int i = 0; i < 1 << 16 && st == ESP_OK; i++)
		st = call->write(call, ESP_STR(",\"0123456789012345678901234567890123456789012345678901234567890\""));
	return st == ESP_OK ? call->write(call, ESP_STR("]")) : st;
}

static const esp_command flood = {
	.size = sizeof(flood), .words = "echo flood", .usage = "", .help = "Answers four megabytes.", .run = run_flood
};

static esp_status declare(struct echo *e, esp_module *self)
{
	static const esp_event_field fields[] = { { .key = "text", .type = ESP_F_STR, .help = "what was said" } };
	static const esp_protocol protocol = {
		.size = sizeof(protocol), .handover = 1, .session = session, .freeze = freeze, .thaw = thaw
	};
	const esp_listen_api *listen = self->host->core("esp.listen/1", 0);
	esp_status st = e->events->declare(self, "scenario.said", "somebody said something", fields, 1, sizeof(fields[0]),
	                                   &e->said);

	if (st == ESP_OK)
		st = listen->serve(self, "echo", &protocol);
	if (st == ESP_OK)
		st = self->host->contribute(self, "esp.command/1", &say);
	if (st == ESP_OK)
		st = self->host->contribute(self, "esp.command/1", &count);
	return st == ESP_OK ? self->host->contribute(self, "esp.command/1", &flood) : st;
}

static esp_status on_init(esp_module *self, const esp_cfg *cfg, esp_err *err)
{
	struct echo *e = esp_alloc(self->host->arena(self), sizeof(*e));

	(void)err;
	if (!e)
		return ESP_ENOMEM;
	self->state = e;
	esp_core_init(&e->core, self);
	e->hooks = self->host->core("esp.hook/1", 0);
	e->events = self->host->core("esp.event/1", 0);
	e->greeting = esp_strdup_in(self->host->arena(self), e->core.cfg->string(cfg, "greeting"));
	return e->greeting.ptr ? declare(e, self) : ESP_ENOMEM;
}

static const esp_cfg_item config[] = {
	{ .name = "greeting", .type = ESP_CFG_STRING, .min = 1, .max = 100, .def_str = "hello", .help = "First line." },
	{ .name = NULL }
};
static const esp_module_ops ops = { .size = sizeof(ops), .init = on_init };
ESP_MODULE(.name = "scenario_echo", .version = "1.0", .summary = "lines in, lines out (tests)", .license = "MIT",
           .config = config, .ops = &ops);
