/* filter_llm - asks a large language model what kind of message this is, and files it.
 *
 * Runs at: headers; message (mode "wait"), or behind delivery, following the event log (mode "after").  Thread: worker.
 * Owns: two tables (ledger.c), memory that its generations share (shared.c).
 * Failure policy: none of its own.  That mail is not categorised never refuses, defers or loses it; it is counted.
 *
 *	settings.c names.c    esp.conf                     text.c request.c    what is sent
 *	reply.c               what is believed of a reply   ask.c               a text in, a category out
 *	wait.c after.c        the two modes                message.c            one delivered message
 *	shared.c ledger.c     what outlives a reload       report.c             metrics, event, command
 */
#include "llm.h"

#include "modules/common/migrate.h"
#include "modules/common/why.h"

static esp_status on_check(esp_module *self, const esp_cfg *cfg, esp_err *err)
{
	return settings_check(self->host->core("esp.config/1", 0), cfg, err);
}

static esp_status bind_all(struct llm *m)
{
	const struct {
		const char *id;
		esp_binding *to;
	} list[] = { { "esp.httpclient/1", &m->http }, { "esp.sql/1", &m->sql }, { "esp.directory/1", &m->directory },
		{ "esp.mailstore/1", &m->mailstore }, { "esp.blob/1", &m->blob }, { "esp.eventlog/1", &m->eventlog } };
	esp_status st = ESP_OK;

	for (size_t i = 0; st == ESP_OK && i < sizeof list / sizeof list[0]; i++)
		st = m->core.host->bind(m->self, list[i].id, list[i].to);
	return st;
}

/* Fields of these names are ours alone, in either mode: those that came with the message are not stored. */
static esp_verdict on_headers(esp_module *self, const esp_headers_args *args, esp_answer *answer)
{
	static const esp_str forged[] = { ESP_STR_INIT("X-LLM-Category"), ESP_STR_INIT("X-LLM-Confidence") };

	(void)self;
	(void)args;
	answer->headers = forged;
	answer->nheaders = sizeof forged / sizeof forged[0];
	return ESP_VERDICT_CONTINUE;
}

/* Late: whoever finds spam and viruses has spoken.  Its own limit is `wait`; this one is for what cannot be helped. */
static esp_status add_hooks(struct llm *m)
{
	const esp_hook_api *hooks = m->core.host->core("esp.hook/1", 0);
	const esp_hook headers = { .size = sizeof headers, .point = ESP_AT_HEADERS, .priority = ESP_PRIO_NORMAL,
		.flags = ESP_HOOK_MUST_RUN, .run = { .headers = on_headers } };
	const esp_hook message = { .size = sizeof message, .point = ESP_AT_MESSAGE, .priority = ESP_PRIO_LATE,
		.timeout = m->settings.wait + 5 * ESP_SEC, .run = { .message = wait_on_message } };
	esp_status st = hooks->add(m->self, &headers);

	return st == ESP_OK && m->settings.mode == MODE_WAIT ? hooks->add(m->self, &message) : st;
}

static esp_status on_init(esp_module *self, const esp_cfg *cfg, esp_err *err)
{
	struct llm *m = esp_alloc(self->host->arena(self), sizeof *m);
	esp_status st;

	if (!m)
		return ESP_ENOMEM;
	esp_core_init(&m->core, self);
	m->self = self;
	m->crypto = self->host->core("esp.crypto/1", 0);
	m->lane = m->core.pool->lane("misc");
	self->state = m;
	lease_init(&m->lease, &m->core, self->name);
	st = settings_read(m, cfg, &m->settings);
	if (st == ESP_OK)
		st = bind_all(m);
	if (st == ESP_OK)
		st = self->host->contribute(self, "esp.sql.migrations/1", &ledger_migrations);
	if (st == ESP_OK)
		st = report_declare(m);
	if (st == ESP_OK)
		st = after_prepare(m);
	if (st == ESP_OK)
		st = add_hooks(m);
	if (st != ESP_OK)
		snprintf(err->text, sizeof err->text, "cannot register: %s", why(st));
	return st;
}

static esp_status on_start(esp_module *self, esp_err *err)
{
	struct llm *m = self->state;
	const esp_sql *sql = (const esp_sql *)self->host->service(self, m->sql);
	esp_status st = sql ? sql->migrate(sql, err) : ESP_EUNAVAIL;

	m->report.metric->set(m->report.behind, 0);     /* the generation before may have followed the log */
	return st == ESP_OK ? shared_take(m) : st;
}

static esp_status on_worker_start(esp_module *self, esp_worker *w)
{
	struct llm *m = self->state;

	if (m->core.loop->index(w) != 0 || migrate_only())
		return ESP_OK;
	return m->core.fiber->spawn(self, 0, "llm follower", after_follow, m, NULL);
}

static void on_worker_drain(esp_module *self, esp_worker *w)
{
	struct llm *m = self->state;

	if (m->core.loop->index(w) == 0)
		after_drain(m);
}

static void on_stop(esp_module *self) { shared_drop(self->state); }

static const esp_need needs[] = { { .id = "esp.httpclient/1" }, { .id = "esp.sql/1" }, { .id = "esp.directory/1" },
	{ .id = "esp.mailstore/1" }, { .id = "esp.blob/1", .min_minor = 1 }, { .id = "esp.eventlog/1", .min_minor = 1 },
	{ .id = NULL } };
static const esp_module_ops ops = { .size = sizeof ops, .check = on_check, .init = on_init, .start = on_start,
	.worker_start = on_worker_start, .worker_drain = on_worker_drain, .stop = on_stop };
ESP_MODULE(.name = "filter_llm", .version = "1.0",
	.summary = "Sorts mail into categories that a language model chooses", .license = "MIT", .needs = needs,
	.config = settings_items, .ops = &ops);
