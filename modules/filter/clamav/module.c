/* filter_clamav - has clamd look for viruses in every message.
 *
 * Runs at: message, also for mail that another filter accepted (MUST_RUN).  Thread: worker, in the hook's fiber.
 * Owns: no connection beyond a scan.  Failure policy: the administrator's (default DEFER): no server that answers, or
 * none that answers as clamd does, is FAIL.
 */
#include "clamav.h"

#include "modules/common/why.h"

#include <stdio.h>
#include <string.h>

static const esp_str default_server = ESP_STR_INIT("/run/clamav/clamd.ctl");

/* What holds for the recipients of this group. */
static void settings_for(const struct clamav *c, const esp_message_args *args, struct settings *ret)
{
	const esp_config_api *g = c->core.cfg;
	const esp_cfg *cfg = g->of_domain(c->cfg, args->txn->groups[args->group].domain);

	*ret = (struct settings){ .remedy = (uint32_t)g->choice(cfg, "on_virus"),
		.too_large = (uint32_t)g->choice(cfg, "too_large"), .max_size = (uint64_t)g->integer(cfg, "max_size") };
}

static void look(struct clamav *c, const esp_message *m, struct finding *f)
{
	f->result = scan(c, m->content, f->name);    /* may suspend */
	f->known = 1;
	if (f->result != RESULT_VIRUS)
		return;
	(void)snprintf(f->text, sizeof f->text, "virus found: %s", f->name);
	f->header_str.len = (size_t)snprintf(f->header, sizeof f->header, "X-Virus-Found: %s", f->name);
	f->header_str.ptr = f->header;
	esp_log(c->core.log, c->self, ESP_LOG_NOTICE, "virus found",
		ESP_FSTR("virus", ((esp_str){ f->name, strlen(f->name) })), ESP_FID("message", m->id));
}

static esp_verdict have_virus(const struct settings *s, const struct finding *f, esp_answer *answer)
{
	static const esp_str tag = ESP_STR_INIT("virus");
	static const esp_verdict verdict[] = { [REMEDY_REJECT] = ESP_VERDICT_REJECT,
		[REMEDY_QUARANTINE] = ESP_VERDICT_QUARANTINE, [REMEDY_DISCARD] = ESP_VERDICT_DISCARD };

	answer->smtp_code = 550;
	memcpy(answer->enhanced, (const uint8_t[4]){ 5, 7, 1, 0 }, sizeof answer->enhanced);
	answer->text = (esp_str){ f->text, strlen(f->text) };
	answer->reason = answer->name = (esp_str){ f->name, strlen(f->name) };
	answer->found = ESP_FOUND_VIRUS;
	answer->headers = &f->header_str;
	answer->nheaders = 1;
	answer->tags = &tag;
	answer->ntags = 1;
	return verdict[s->remedy];
}

static esp_verdict have_too_large(const struct settings *s, esp_answer *answer)
{
	static const esp_str tag = ESP_STR_INIT("unscanned"), header = ESP_STR_INIT("X-Virus-Scanned: no, too large");
	static const esp_verdict verdict[] = { [POLICY_ACCEPT] = ESP_VERDICT_CONTINUE,
		[POLICY_QUARANTINE] = ESP_VERDICT_QUARANTINE, [POLICY_DEFER] = ESP_VERDICT_DEFER,
		[POLICY_REJECT] = ESP_VERDICT_REJECT };

	answer->smtp_code = s->too_large == POLICY_REJECT ? 552 : 451;
	memcpy(answer->enhanced, (const uint8_t[4]){ s->too_large == POLICY_REJECT ? 5 : 4, 3, 4, 0 },
		sizeof answer->enhanced);
	answer->text = ESP_STR("message is larger than what is scanned for viruses here");
	answer->reason = ESP_STR("too large to be scanned for viruses");
	answer->headers = &header;
	answer->nheaders = 1;
	answer->tags = &tag;
	answer->ntags = 1;
	return verdict[s->too_large];
}

static esp_verdict on_message(esp_module *self, const esp_message_args *args, esp_answer *answer)
{
	struct clamav *c = self->state;
	struct settings s;
	struct finding *f;

	settings_for(c, args, &s);
	if (args->message->content.len > s.max_size) {
		c->metric->add(c->scans[RESULT_TOO_LARGE], 1);
		return have_too_large(&s, answer);
	}
	f = c->slot->make(args->message, c->finding);
	if (!f)
		return ESP_VERDICT_FAIL;
	if (!f->known)
		look(c, args->message, f);
	switch (f->result) {
	case RESULT_CLEAN: return ESP_VERDICT_CONTINUE;
	case RESULT_VIRUS: return have_virus(&s, f, answer);
	case RESULT_TOO_LARGE: return have_too_large(&s, answer);
	default: return ESP_VERDICT_FAIL;
	}
}

/* --- settings ---------------------------------------------------------------------------------------------------- */

/* Into `ret`, of FAILOVER_MOST, or only looked at. */
static esp_status read_servers(
	const esp_config_api *c, const esp_cfg *cfg, struct server *ret, uint32_t *ret_n, esp_err *err)
{
	struct server one;

	*ret_n = c->count(cfg, "servers");
	for (uint32_t i = 0; i < *ret_n; i++) {
		esp_str s = c->string_at(cfg, "servers", i);
		const char *wrong = server_parse(s, &one);
		for (uint32_t k = 0; !wrong && k < i; k++)
			if (esp_str_eq(s, c->string_at(cfg, "servers", k)))
				wrong = "it is there twice";
		if (wrong) {
			c->error(cfg, "servers", err, "\"%.*s\": %s", ESP_FMT(s), wrong);
			return ESP_ECONFIG;
		}
		if (ret)
			ret[i] = one;
	}
	if (*ret_n == 0) {
		*ret_n = 1;
		(void)server_parse(default_server, ret ? ret : &one);
	}
	return ESP_OK;
}

static esp_status on_check(esp_module *self, const esp_cfg *cfg, esp_err *err)
{
	uint32_t n;

	return read_servers(self->host->core("esp.config/1", 0), cfg, NULL, &n, err);
}

static esp_status read_settings(struct clamav *c, const esp_cfg *cfg, esp_err *err)
{
	const esp_config_api *g = c->core.cfg;
	uint32_t workers = c->core.loop->workers();

	c->cfg = cfg;
	c->most = (uint32_t)g->integer(cfg, "scans");
	c->connect_timeout = g->integer(cfg, "connect_timeout");
	c->server = esp_alloc_array(c->core.host->arena(c->self), FAILOVER_MOST, sizeof *c->server);
	c->desk = esp_alloc_array(c->core.host->arena(c->self), workers ? workers : 1, sizeof *c->desk);
	if (!c->server || !c->desk)
		return ESP_ENOMEM;
	return read_servers(g, cfg, c->server, &c->failover.n, err);
}

/* --- life -------------------------------------------------------------------------------------------------------- */

static esp_status add_hook(esp_module *self)
{
	const esp_hook_api *hooks = self->host->core("esp.hook/1", 0);
	const esp_hook hook = { .size = sizeof hook, .point = ESP_AT_MESSAGE, .priority = ESP_PRIO_LATE,
		.flags = ESP_HOOK_MUST_RUN, .run = { .message = on_message } };

	return hooks->add(self, &hook);
}

static esp_status on_init(esp_module *self, const esp_cfg *cfg, esp_err *err)
{
	struct clamav *c = esp_alloc(self->host->arena(self), sizeof *c);
	esp_status st;

	if (!c)
		return ESP_ENOMEM;
	esp_core_init(&c->core, self);
	c->self = self;
	c->dial = self->host->core("esp.dial/1", 0);
	c->metric = self->host->core("esp.metric/1", 0);
	c->slot = self->host->core("esp.slot/1", 0);
	if (!c->dial) {
		(void)snprintf(err->text, sizeof err->text, "this server has no esp.dial/1: it is older than filter_clamav");
		return ESP_EUNAVAIL;
	}
	self->state = c;
	st = read_settings(c, cfg, err);
	if (st == ESP_ECONFIG)
		return st;
	if (st == ESP_OK)
		st = c->slot->reserve(self, ESP_SLOT_MESSAGE, sizeof(struct finding), NULL, &c->finding);
	if (st == ESP_OK)
		st = report_declare(c);
	if (st == ESP_OK)
		st = report_contribute(c);
	if (st == ESP_OK)
		st = add_hook(self);
	if (st != ESP_OK)
		(void)snprintf(err->text, sizeof err->text, "cannot register: %s", why(st));
	return st;
}

static esp_status on_start(esp_module *self, esp_err *err)
{
	(void)err;
	report_greet(self->state);
	return ESP_OK;
}

static void on_drain(esp_module *self, esp_nsec deadline)
{
	struct clamav *c = self->state;

	(void)deadline;
	if (c->greeter)
		c->core.fiber->cancel(c->greeter);
}

static const esp_cfg_item config[] = {
	{ .name = "servers",
		.type = ESP_CFG_STRINGS,
		.max = FAILOVER_MOST,
		.help = "Where clamd is: \"/run/clamav/clamd.ctl\" (used when unset), \"scan.example.org:3310\". Asked in this "
				"order; one that fails is left alone for a while." },
	{ .name = "on_virus",
		.type = ESP_CFG_ENUM,
		.flags = ESP_CFG_PER_DOMAIN,
		.choices = "reject|quarantine|discard",
		.def_str = "reject",
		.help = "What becomes of a message with a virus in it; discard says 250 and keeps nothing." },
	{ .name = "max_size",
		.type = ESP_CFG_SIZE,
		.flags = ESP_CFG_PER_DOMAIN,
		.def_int = 25 << 20,
		.min = 1 << 10,
		.max = 1 << 30,
		.help =
			"A larger message is not scanned; not above StreamMaxLength, MaxScanSize and MaxFileSize of clamd.conf." },
	{ .name = "too_large",
		.type = ESP_CFG_ENUM,
		.flags = ESP_CFG_PER_DOMAIN,
		.choices = "accept|quarantine|defer|reject",
		.def_str = "quarantine",
		.help = "What becomes of a message that is too large to be scanned, here or by clamd; accept adds "
				"X-Virus-Scanned to it." },
	{ .name = "scans",
		.type = ESP_CFG_INT,
		.def_int = 8,
		.min = 1,
		.max = 1000,
		.help = "Scans of each worker at once; more wait. All workers together should not be far above MaxThreads of "
				"clamd.conf." },
	{ .name = "connect_timeout",
		.type = ESP_CFG_TIME,
		.def_int = 3 * ESP_SEC,
		.min = 10 * ESP_MSEC,
		.max = 60 * ESP_SEC,
		.help = "How long connecting to one server may take." },
	{ .name = NULL }
};
static const esp_module_ops ops = {
	.size = sizeof ops, .check = on_check, .init = on_init, .start = on_start, .drain = on_drain
};
ESP_MODULE(.name = "filter_clamav", .version = "1.0", .summary = "Has clamd look for viruses in every message",
	.license = "MIT", .config = config, .ops = &ops);
