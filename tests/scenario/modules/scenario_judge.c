/* scenario_judge - a spam filter as somebody else would write it, with settings for single domains.
 *
 * The message says what comes out: "X-Score: N" is its score, which is compared with `reject` and `junk` of the
 * recipients' domain; "X-Do: WORD" is what the hook does (fail, sleep, accept, defer, quarantine, discard,
 * virus).  Each message it let pass has X-Judged, with the threshold that counted.  At RCPT it defers
 * whoever is called "greyed" and holds what is for "held".  With `early`, "X-Early: WORD" is what it says at HEADERS,
 * before others do (accept, quarantine, spam: a tag).
 */
#include <esp/hook.h>
#include <esp/host.h>
#include <esp/mail.h>

#include <stdio.h>
#include <stdlib.h>

struct judge { esp_core core; const esp_cfg *cfg; };

static esp_str field(esp_str header, const char *name)
{
	size_t n = strlen(name);

	for (const char *p = header.ptr, *end = p + header.len; p < end;) {
		const char *lf = memchr(p, '\n', (size_t)(end - p));

		if (!lf)
			break;
		if ((size_t)(lf - p) > n + 1 && memcmp(p, name, n) == 0)
			return (esp_str){ p + n, (size_t)(lf - p) - n - 1 };
		p = lf + 1;
	}
	return (esp_str){ NULL, 0 };
}

static esp_status add_header(esp_answer *answer, esp_arena *arena, long long reject)
{
	esp_str *header = esp_alloc(arena, sizeof *header);
	char *text = esp_alloc(arena, 64);

	if (!header || !text)
		return ESP_ENOMEM;
	*header = (esp_str){ text, (size_t)snprintf(text, 64, "X-Judged: %lld", reject) };
	answer->headers = header;
	answer->nheaders = 1;
	return ESP_OK;
}

static esp_verdict on_word(const struct judge *j, esp_str word, esp_answer *answer)
{
	if (esp_str_eq(word, ESP_STR("fail")))
		return ESP_VERDICT_FAIL;
	if (esp_str_eq(word, ESP_STR("sleep")))
		return j->core.fiber->sleep_until(j->core.loop->now() + 30 * ESP_SEC) == ESP_OK ? ESP_VERDICT_CONTINUE
																						: ESP_VERDICT_FAIL;
	answer->reason = word;
	if (esp_str_eq(word, ESP_STR("accept")))
		return ESP_VERDICT_ACCEPT;
	if (esp_str_eq(word, ESP_STR("defer")))
		return ESP_VERDICT_DEFER;
	if (esp_str_eq(word, ESP_STR("quarantine")))
		return ESP_VERDICT_QUARANTINE;
	if (esp_str_eq(word, ESP_STR("discard")))
		return ESP_VERDICT_DISCARD;
	answer->found = ESP_FOUND_VIRUS;
	answer->name = ESP_STR("Eicar-Test-Signature");
	return ESP_VERDICT_REJECT;
}

static esp_verdict on_message(esp_module *self, const esp_message_args *args, esp_answer *answer)
{
	const struct judge *j = self->state;
	const esp_cfg *cfg = j->core.cfg->of_domain(j->cfg, args->txn->groups[args->group].domain);
	long long reject = j->core.cfg->integer(cfg, "reject"), junk = j->core.cfg->integer(cfg, "junk");
	esp_str header = { args->message->content.ptr, args->message->header_len };
	esp_str word = field(header, "X-Do: "), score = field(header, "X-Score: ");

	if (word.len)
		return on_word(j, word, answer);
	if (score.len == 0)
		return ESP_VERDICT_CONTINUE;
	answer->has_score = 1;
	answer->score = strtod(score.ptr, NULL);
	if (add_header(answer, args->txn->arena, reject) != ESP_OK)
		return ESP_VERDICT_FAIL;
	if (answer->score < (double)junk)
		return ESP_VERDICT_CONTINUE;
	answer->found = ESP_FOUND_SPAM;
	answer->name = ESP_STR("LOTTERY");
	answer->reason = ESP_STR("it looks like a lottery");
	if (answer->score >= (double)reject) {
		answer->text = ESP_STR("no spam, please");
		return ESP_VERDICT_REJECT;
	}
	answer->folder = ESP_STR("Junk");
	return ESP_VERDICT_CONTINUE;
}

static esp_verdict on_rcpt(esp_module *self, const esp_rcpt_args *args, esp_answer *answer)
{
	(void)self;
	if (args->recipient.len > 7 && memcmp(args->recipient.ptr, "greyed@", 7) == 0) {
		answer->reason = ESP_STR("seen for the first time");
		return ESP_VERDICT_DEFER;
	}
	if (args->to.len < 5 || memcmp(args->to.ptr, "held@", 5) != 0)
		return ESP_VERDICT_CONTINUE;
	answer->reason = ESP_STR("somebody looks first");
	return ESP_VERDICT_QUARANTINE;
}

static esp_verdict on_headers(esp_module *self, const esp_headers_args *args, esp_answer *answer)
{
	static const esp_str spam = ESP_STR_INIT("spam");
	esp_str word = field(args->headers, "X-Early: ");

	(void)self;
	if (esp_str_eq(word, ESP_STR("accept")))
		return ESP_VERDICT_ACCEPT;
	if (esp_str_eq(word, ESP_STR("quarantine")))
		return ESP_VERDICT_QUARANTINE;
	if (esp_str_eq(word, ESP_STR("spam"))) {
		answer->tags = &spam;
		answer->ntags = 1;
	}
	return ESP_VERDICT_CONTINUE;
}

static esp_status on_check(esp_module *self, const esp_cfg *cfg, esp_err *err)
{
	const esp_config_api *c = self->host->core("esp.config/1", 0);

	if (c->integer(cfg, "junk") <= c->integer(cfg, "reject"))
		return ESP_OK;
	c->error(cfg, "junk", err, "what is rejected from %lld on cannot be filed from %lld on",
		(long long)c->integer(cfg, "reject"), (long long)c->integer(cfg, "junk"));
	return ESP_ECONFIG;
}

static esp_status on_init(esp_module *self, const esp_cfg *cfg, esp_err *err)
{
	static const esp_hook all[] = {
		{ .size = sizeof all[0],
			.point = ESP_AT_MESSAGE,
			.priority = ESP_PRIO_NORMAL,
			.run = { .message = on_message } },
		{ .size = sizeof all[0], .point = ESP_AT_RCPT, .priority = ESP_PRIO_NORMAL, .run = { .rcpt = on_rcpt } },
	};
	static const esp_hook early = { .size = sizeof early, .point = ESP_AT_HEADERS, .priority = ESP_PRIO_EARLY,
		.run = { .headers = on_headers } };
	const esp_hook_api *hooks = self->host->core("esp.hook/1", 0);
	struct judge *j = esp_alloc(self->host->arena(self), sizeof *j);
	esp_status st = j ? ESP_OK : ESP_ENOMEM;

	(void)err;
	if (!j)
		return st;
	esp_core_init(&j->core, self);
	j->cfg = cfg;
	self->state = j;
	for (size_t i = 0; st == ESP_OK && i < sizeof all / sizeof all[0]; i++)
		st = hooks->add(self, &all[i]);
	if (st == ESP_OK && j->core.cfg->boolean(cfg, "early"))
		st = hooks->add(self, &early);
	return st;
}

static const esp_cfg_item config[] = {
	{ .name = "reject", .type = ESP_CFG_INT, .def_int = 15, .flags = ESP_CFG_PER_DOMAIN, .help = "Rejects from here." },
	{ .name = "junk", .type = ESP_CFG_INT, .def_int = 6, .flags = ESP_CFG_PER_DOMAIN, .help = "Files from here." },
	{ .name = "early", .type = ESP_CFG_BOOL, .help = "Looks at the header, too." },
	{ .name = "note", .type = ESP_CFG_STRING, .help = "Nothing." },
	{ .name = NULL }
};
static const esp_module_ops ops = { .size = sizeof ops, .check = on_check, .init = on_init };

ESP_MODULE(.name = "scenario_judge", .version = "1.0", .summary = "Judges by a score and the domain's settings",
	.license = "MIT", .config = config, .ops = &ops);
