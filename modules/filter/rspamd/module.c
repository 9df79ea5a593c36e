/* filter_rspamd - asks rspamd what it thinks of a message, and teaches it what users think.
 *
 * Runs at: message, once a group of recipients, and headers.
 * Thread: worker, in the hook's fiber; learning: one fiber of worker 0.
 * Owns: nothing beyond its settings and how its addresses have been doing.
 * Failure policy: the administrator's (default DEFER): rspamd away, slow or talking nonsense at every address are FAIL.
 */
#include "rspamd.h"

#include <esp/attention.h>

#include "modules/common/why.h"

#include <json-c/json.h>
#include <stdio.h>

#define TIMEOUT_LAST (600 * ESP_SEC)
#define LOCAL        ESP_STR("http://127.0.0.1:11333")

void settings_for(const struct rspamd *r, const esp_message_args *args, struct settings *ret)
{
	const esp_config_api *c = r->core.cfg;
	const esp_cfg *cfg = c->of_domain(r->cfg, args->txn->groups[args->group].domain);

	*ret = (struct settings){
		.by_thresholds = c->choice(cfg, "decide_by") == 1,
		.add_headers = c->boolean(cfg, "headers"),
		.rewrite_subject = c->boolean(cfg, "rewrite_subject"),
		.skip_authenticated = c->boolean(cfg, "skip_authenticated"),
		.reject = (double)c->integer(cfg, "reject_score") / 1000,
		.quarantine = (double)c->integer(cfg, "quarantine_score") / 1000,
		.quarantine_means = (enum quarantine)c->choice(cfg, "quarantine"),
		.folder = c->string(cfg, "folder"),
		.max_size = (uint64_t)c->integer(cfg, "max_size"),
		.above = (enum above)c->choice(cfg, "above_max_size"),
		.id = c->string(cfg, "settings_id"),
	};
}

static esp_verdict too_large(struct rspamd *r, const struct settings *s, const esp_message_args *args,
	esp_answer *answer)
{
	uint32_t times = seldom_due(&r->large, r->core.loop->now());

	r->metric->add(r->too_large, 1);
	if (times)
		esp_log(r->core.log, r->self, ESP_LOG_NOTICE, "messages above max_size are not looked at",
			ESP_FINT("messages", times), ESP_FINT("bytes", (int64_t)args->message->content.len));
	return judge_large(s, args->txn->arena, answer);
}

/* In a line of its own: the chain's says that there was no verdict, not what to do about it. */
static void tell_other(struct rspamd *r)
{
	uint32_t times = seldom_due(&r->other, r->core.loop->now());

	if (times)
		esp_log(r->core.log, r->self, ESP_LOG_WARNING,
			"rspamd wants an action of your own done, which is none that ESP knows: set decide_by = \"thresholds\"",
			ESP_FINT("messages", times));
}

static esp_verdict on_message(esp_module *self, const esp_message_args *args, esp_answer *answer)
{
	struct rspamd *r = self->state;
	struct settings s;
	struct json_object *json = NULL;
	esp_nsec began = r->core.loop->clock();
	esp_verdict v = ESP_VERDICT_FAIL;
	struct reply reply;
	esp_arena *arena;

	settings_for(r, args, &s);
	if (s.skip_authenticated && args->txn->authenticated)
		return ESP_VERDICT_CONTINUE;
	if (args->message->content.len > s.max_size)
		return too_large(r, &s, args, answer);
	arena = r->core.mem->arena_new(self, "rspamd request", REPLY_ARENA);
	if (arena && ask(r, &s, args, arena, &json, &reply) == ESP_OK) {       /* may suspend */
		r->metric->observe(r->seconds, (double)(r->core.loop->clock() - began) / (double)ESP_SEC);
		r->metric->add(r->action[reply.action], 1);
		if (reply.skipped)
			r->metric->add(r->skipped, 1);
		v = judge(&s, args->txn->arena, &reply, answer);
		if (v == ESP_VERDICT_FAIL && reply.action == ACTION_OTHER)
			tell_other(r);
		json_object_put(json);
	}
	r->core.mem->arena_free(arena);
	return v;
}

/* Whatever rspamd says, and if it says nothing: a rule of the mailbox's owner must not read them as ours. */
static esp_verdict on_headers(esp_module *self, const esp_headers_args *args, esp_answer *answer)
{
	(void)self;
	return judge_foreign(args->headers, args->txn->arena, answer);
}

/* --- settings ------------------------------------------------------------------------------------------------- */

static int bad_url(const esp_config_api *c, const esp_cfg *cfg, const char *key, esp_str url, esp_err *err)
{
	const char *fault = url_fault(url);

	if (fault)
		c->error(cfg, key, err, "\"%.*s\" is no address of rspamd: %s; write \"http://127.0.0.1:11333\"",
			url.len > 100 ? 100 : ESP_FMT(url), fault);
	return fault != NULL;
}

static esp_status on_check(esp_module *self, const esp_cfg *cfg, esp_err *err)
{
	const esp_config_api *c = (const esp_config_api *)self->host->core("esp.config/1", 0);
	const esp_cfg *learn = c->group(cfg, "learn");
	esp_str url = c->string(learn, "url");

	for (uint32_t i = 0; i < c->count(cfg, "servers"); i++)
		if (bad_url(c, cfg, "servers", c->string_at(cfg, "servers", i), err))
			return ESP_ECONFIG;
	if (url.len && bad_url(c, learn, "url", url, err))
		return ESP_ECONFIG;
	if (!url.len && (c->is_set(learn, "password") || c->is_set(learn, "rate") || c->is_set(learn, "profile"))) {
		c->error(cfg, "learn", err,
			"learn without a url learns nothing: set learn.url to the address of rspamd's controller");
		return ESP_ECONFIG;
	}
	if (c->integer(cfg, "quarantine_score") > c->integer(cfg, "reject_score")) {
		c->error(cfg, "quarantine_score", err,
			"quarantine_score is above reject_score: what is refused would never be put away");
		return ESP_ECONFIG;
	}
	if (c->string(cfg, "folder").len == 0) {
		c->error(cfg, "folder", err, "folder is empty: name the mailbox, as \"Junk\"");
		return ESP_ECONFIG;
	}
	return ESP_OK;
}

static esp_status read_servers(struct rspamd *r, const esp_cfg *cfg)
{
	const esp_config_api *c = r->core.cfg;
	esp_arena *arena = r->core.host->arena(r->self);
	uint32_t n = c->count(cfg, "servers");

	r->servers.n = n ? n : 1;
	r->url[0] = n ? (esp_str){ NULL, 0 } : url_with(arena, LOCAL, "/checkv2");
	for (uint32_t i = 0; i < n; i++)
		r->url[i] = url_with(arena, c->string_at(cfg, "servers", i), "/checkv2");
	for (uint32_t i = 0; i < r->servers.n; i++)
		if (!r->url[i].ptr)
			return ESP_ENOMEM;
	r->password = c->string(cfg, "password");
	r->profile = c->string(cfg, "profile");
	r->timeout = c->integer(cfg, "timeout");
	return ESP_OK;
}

/* --- registering ---------------------------------------------------------------------------------------------- */

static esp_status declare_some(struct rspamd *r, const char *name, const char *label, const char *const *value,
	uint32_t n, const char *help, esp_metric *ret)
{
	char labels[64];
	esp_status st = ESP_OK;

	for (uint32_t i = 0; st == ESP_OK && i < n; i++) {
		(void)snprintf(labels, sizeof labels, "%s=\"%s\"", label, value[i]);
		st = r->metric->declare(r->self, ESP_COUNTER, name, labels, help, NULL, 0, &ret[i]);
	}
	return st;
}

static esp_status declare_metrics(struct rspamd *r)
{
	static const double bounds[] = { 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30 };
	static const char *const kinds[TROUBLES] = { "unreachable", "timeout", "refused", "status", "nonsense", "here" };
	const char *actions[ACTIONS];
	const esp_metric_api *m = r->metric;
	esp_status st = m->declare(r->self, ESP_HISTOGRAM, "esp_rspamd_scan_seconds", "",
		"How long rspamd took for a message, all addresses that were tried included", bounds,
		sizeof bounds / sizeof bounds[0], &r->seconds);

	for (int i = 0; i < ACTIONS; i++)
		actions[i] = action_name((enum action)i);
	if (st == ESP_OK)
		st = declare_some(
			r, "esp_rspamd_actions_total", "action", actions, ACTIONS, "Messages by rspamd's action", r->action);
	if (st == ESP_OK)
		st = declare_some(r, "esp_rspamd_errors_total", "kind", kinds, TROUBLES,
			"Questions to an address of rspamd that gave no verdict", r->trouble);
	if (st == ESP_OK)
		st = m->declare(r->self, ESP_COUNTER, "esp_rspamd_skipped_total", "",
			"Messages that rspamd did not look at, by its own settings", NULL, 0, &r->skipped);
	if (st == ESP_OK)
		st = m->declare(r->self, ESP_COUNTER, "esp_rspamd_too_large_total", "",
			"Messages above max_size, which rspamd is not asked about", NULL, 0, &r->too_large);
	if (st == ESP_OK)
		st = m->declare(r->self, ESP_GAUGE, "esp_rspamd_servers_down", "",
			"Addresses of rspamd that are left alone for a while because they failed", NULL, 0, &r->down);
	return st;
}

static int32_t tell(esp_module *self, char text[ESP_ATTENTION_ROOM])
{
	struct rspamd *r = self->state;

	for (uint32_t i = 0; i < r->servers.n; i++)
		if (!failover_is_down(&r->servers, i))
			return 0;
	(void)snprintf(text, ESP_ATTENTION_ROOM, "no address of rspamd (%s) gives verdicts: the failure policy answers for"
		" mail; see that it runs, and the log for the reason", self->name);
	return 1;
}
static const esp_attention attention = { .size = sizeof attention, .tell = tell };

static esp_status add_hooks(struct rspamd *r)
{
	const esp_hook_api *hooks = (const esp_hook_api *)r->core.host->core("esp.hook/1", 0);
	esp_nsec all = (r->timeout + ESP_SEC) * r->servers.n + 2 * ESP_SEC;
	const esp_hook message = { .size = sizeof message, .point = ESP_AT_MESSAGE, .priority = ESP_PRIO_NORMAL,
		.timeout = all < TIMEOUT_LAST ? all : TIMEOUT_LAST, .run.message = on_message };
	const esp_hook headers = { .size = sizeof headers, .point = ESP_AT_HEADERS, .priority = ESP_PRIO_NORMAL,
		.flags = ESP_HOOK_MUST_RUN, .run.headers = on_headers };
	esp_status st = hooks->add(r->self, &message);

	return st == ESP_OK ? hooks->add(r->self, &headers) : st;
}

static esp_status on_init(esp_module *self, const esp_cfg *cfg, esp_err *err)
{
	struct rspamd *r = esp_alloc(self->host->arena(self), sizeof *r);
	esp_status st;

	if (!r)
		return ESP_ENOMEM;
	esp_core_init(&r->core, self);
	r->self = self;
	r->metric = (const esp_metric_api *)self->host->core("esp.metric/1", 0);
	r->slot = (const esp_slot_api *)self->host->core("esp.slot/1", 0);
	self->state = r;
	r->cfg = cfg;
	r->learn_size = (uint64_t)r->core.cfg->integer(cfg, "max_size");
	st = read_servers(r, cfg);
	if (st == ESP_OK)
		st = declare_metrics(r);
	if (st == ESP_OK)
		st = hostname_init(r);
	if (st == ESP_OK)
		st = self->host->bind(self, "esp.httpclient/1", &r->http);
	if (st == ESP_OK)
		st = self->host->contribute(self, "esp.attention/1", &attention);
	if (st == ESP_OK)
		st = add_hooks(r);
	if (st == ESP_OK)
		st = learner_tables(r);
	if (st == ESP_OK && r->core.cfg->string(r->core.cfg->group(cfg, "learn"), "url").len)
		st = learner_init(r, r->core.cfg->group(cfg, "learn"));
	if (st != ESP_OK)
		(void)snprintf(err->text, sizeof err->text, "cannot register: %s", why(st));
	return st;
}

static esp_status on_start(esp_module *self, esp_err *err)
{
	struct rspamd *r = self->state;
	const esp_sql *sql = (const esp_sql *)self->host->service(self, r->sql);
	esp_status st = sql ? sql->migrate(sql, err) : ESP_OK;

	r->metric->set(r->down, 0);            /* the generation before may have left another count */
	return st == ESP_OK && r->learner ? learner_start(r, err) : st;
}

static esp_status on_worker_start(esp_module *self, esp_worker *w)
{
	struct rspamd *r = self->state;

	return r->learner && r->core.loop->index(w) == 0 ? learner_begin(r) : ESP_OK;
}

static void on_worker_drain(esp_module *self, esp_worker *w)
{
	struct rspamd *r = self->state;

	if (r->learner && r->core.loop->index(w) == 0)
		learner_drain(r);
}

static const esp_cfg_item learn_items[] = {
	{ .name = "url", .type = ESP_CFG_STRING, .max = 1000,
		.help = "Address of rspamd's controller, as \"http://127.0.0.1:11334\"; unset: nothing is learned." },
	{ .name = "password", .type = ESP_CFG_STRING, .flags = ESP_CFG_SECRET, .max = 200,
		.help = "The controller's password (its enable_password)." },
	{ .name = "profile", .type = ESP_CFG_STRING, .max = 100,
		.help = "Of client_http's profiles: authority and certificate for https." },
	{ .name = "rate", .type = ESP_CFG_INT, .def_int = 10, .min = 1, .max = 1000,
		.help = "Messages a second at most." },
	{ .name = NULL }
};
static const esp_cfg_item config[] = {
	{ .name = "servers",
		.type = ESP_CFG_STRINGS,
		.min = 1,
		.max = FAILOVER_MOST,
		.help =
			"Addresses of rspamd's normal worker or proxy, in order: who does not answer is left alone for a while and "
			"the next one is asked. Unset: http://127.0.0.1:11333." },
	{ .name = "password",
		.type = ESP_CFG_STRING,
		.flags = ESP_CFG_SECRET,
		.max = 200,
		.help = "Sent as Password to those addresses, where they want one." },
	{ .name = "profile",
		.type = ESP_CFG_STRING,
		.max = 100,
		.help = "Of client_http's profiles: authority and certificate for https." },
	{ .name = "timeout",
		.type = ESP_CFG_TIME,
		.def_int = 10 * ESP_SEC,
		.min = 100 * ESP_MSEC,
		.max = 120 * ESP_SEC,
		.help = "How long one address may take. The hook's own timeout is enough for all of them, unless `hooks` says "
				"otherwise." },
	{ .name = "settings_id",
		.type = ESP_CFG_STRING,
		.flags = ESP_CFG_PER_DOMAIN,
		.max = 100,
		.help = "Name of the settings that rspamd is to use (Settings-ID)." },
	{ .name = "decide_by",
		.type = ESP_CFG_ENUM,
		.flags = ESP_CFG_PER_DOMAIN,
		.def_str = "action",
		.choices = "action|thresholds",
		.help = "Whether rspamd's action is done, or its score compared with reject_score and quarantine_score." },
	{ .name = "reject_score",
		.type = ESP_CFG_DECIMAL,
		.flags = ESP_CFG_PER_DOMAIN,
		.def_int = 15000,
		.min = 100,
		.max = 1000000,
		.help = "With thresholds: the score from which a message is refused." },
	{ .name = "quarantine_score",
		.type = ESP_CFG_DECIMAL,
		.flags = ESP_CFG_PER_DOMAIN,
		.def_int = 6000,
		.min = 100,
		.max = 1000000,
		.help = "With thresholds: the score from which a message is put away." },
	{ .name = "quarantine",
		.type = ESP_CFG_ENUM,
		.flags = ESP_CFG_PER_DOMAIN,
		.def_str = "junk",
		.choices = "junk|hold",
		.help = "Where a message is put away (add header, rewrite subject, quarantine): into `folder`, or held outside "
				"the mailboxes until an administrator decides." },
	{ .name = "folder",
		.type = ESP_CFG_STRING,
		.flags = ESP_CFG_PER_DOMAIN,
		.def_str = "Junk",
		.max = 200,
		.help = "The mailbox for it; made where there is none." },
	{ .name = "headers",
		.type = ESP_CFG_BOOL,
		.flags = ESP_CFG_PER_DOMAIN,
		.def_int = 1,
		.help = "Put X-Spam-Flag, X-Spam-Score and X-Spam-Status in front. Fields that came with the message and begin "
				"with X-Spam or X-Rspamd are left out in any case." },
	{ .name = "rewrite_subject",
		.type = ESP_CFG_BOOL,
		.flags = ESP_CFG_PER_DOMAIN,
		.def_int = 0,
		.help = "Take rspamd's new subject where it says so; this breaks signatures (DKIM)." },
	{ .name = "skip_authenticated",
		.type = ESP_CFG_BOOL,
		.flags = ESP_CFG_PER_DOMAIN,
		.def_int = 0,
		.help = "Do not ask about mail of those who logged in." },
	{ .name = "max_size",
		.type = ESP_CFG_SIZE,
		.flags = ESP_CFG_PER_DOMAIN,
		.def_int = 20 << 20,
		.min = 1024,
		.max = (int64_t)1 << 30,
		.help = "Larger messages are not looked at, nor learned." },
	{ .name = "above_max_size",
		.type = ESP_CFG_ENUM,
		.flags = ESP_CFG_PER_DOMAIN,
		.def_str = "continue",
		.choices = "continue|quarantine|defer|reject",
		.help = "What becomes of those." },
	{ .name = "learn",
		.type = ESP_CFG_GROUP,
		.children = learn_items,
		.help =
			"What users move into \\Junk is learned as spam, what they move out of it as ham, but not into \\Trash." },
	{ .name = NULL }
};
static const esp_need needs[] = { { .id = "esp.httpclient/1" }, { .id = "esp.dns/1", .optional = 1 },
	{ .id = "esp.sql/1", .optional = 1 }, { .id = "esp.eventlog/1", .optional = 1 },
	{ .id = "esp.mailstore/1", .optional = 1 }, { .id = "esp.blob/1", .optional = 1 },
	{ .id = "esp.directory/1", .optional = 1 }, { .id = NULL } };
static const esp_module_ops ops = { .size = sizeof ops, .check = on_check, .init = on_init, .start = on_start,
	.worker_start = on_worker_start, .worker_drain = on_worker_drain };
ESP_MODULE(.name = "filter_rspamd", .version = "1.0", .summary = "Asks rspamd about messages, and teaches it",
	.license = "MIT", .needs = needs, .config = config, .ops = &ops);
