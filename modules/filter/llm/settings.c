/* settings - esp.conf, checked and read. */
#define _GNU_SOURCE 1                      /* memrchr */
#include "llm.h"

#include <strings.h>

#define DAYS (86400 * ESP_SEC)

static const esp_cfg_item category_items[] = {
	{ .name = "name", .type = ESP_CFG_STRING, .flags = ESP_CFG_REQUIRED, .min = 1, .max = NAME_LEN_MAX,
		.help = "What the model answers and headers, metrics and events say: a to z, digits, - and _." },
	{ .name = "description", .type = ESP_CFG_STRING, .flags = ESP_CFG_REQUIRED, .min = 1, .max = 1000,
		.help = "What belongs there, for the model." },
	{ .name = "examples", .type = ESP_CFG_STRINGS, .max = EXAMPLES_MAX,
		.help = "Subjects or sentences that belong there, for the model; each at most 500 bytes." },
	{ .name = "folder", .type = ESP_CFG_STRING, .max = 250,
		.help = "Where such mail goes, made when it is needed; unset: it stays in INBOX." },
	{ .name = "keyword", .type = ESP_CFG_STRING, .max = 64,
		.help = "IMAP keyword such mail gets with mode \"after\", such as \"$Promotions\"; unset: none." },
	{ .name = "priority", .type = ESP_CFG_INT, .def_int = 50, .min = 0, .max = 1000,
		.help = "Where several categories fit, the lowest wins." },
	{ .name = NULL }
};

const esp_cfg_item settings_items[] = {
	{ .name = "api",
		.type = ESP_CFG_ENUM,
		.choices = "openai|anthropic|ollama",
		.def_str = "openai",
		.help =
			"Which interface `url` has: chat completions as of OpenAI (also llama.cpp, vLLM, LM Studio, Mistral ...), "
			"messages as of Anthropic, chat as of Ollama." },
	{ .name = "url",
		.type = ESP_CFG_STRING,
		.flags = ESP_CFG_REQUIRED,
		.min = 1,
		.max = 2000,
		.help =
			"All of it, as in \"https://api.openai.com/v1/chat/completions\", "
			"\"https://api.anthropic.com/v1/messages\", \"http://127.0.0.1:11434/api/chat\". Mail is sent there and "
			"nowhere else: redirects are not followed." },
	{ .name = "unencrypted",
		.type = ESP_CFG_BOOL,
		.def_int = 0,
		.help = "Allow http:// to another machine: everybody between can read the mail and the key." },
	{ .name = "api_key",
		.type = ESP_CFG_STRING,
		.flags = ESP_CFG_SECRET,
		.max = 1000,
		.help = "The key of the service; unset: none is sent." },
	{ .name = "profile",
		.type = ESP_CFG_STRING,
		.max = 200,
		.help = "A profile of client_http, for a service whose certificate is from an authority of your own." },
	{ .name = "model",
		.type = ESP_CFG_STRING,
		.flags = ESP_CFG_REQUIRED,
		.min = 1,
		.max = 200,
		.help = "The model, as the service calls it." },
	{ .name = "structured",
		.type = ESP_CFG_BOOL,
		.def_int = 1,
		.help =
			"Ask the service to hold the model to the form of the answer; false: for services and models that refuse "
			"such a request." },
	{ .name = "reasoning",
		.type = ESP_CFG_BOOL,
		.def_int = 0,
		.help = "The model thinks before it answers: it gets room for that (up to 4,096 tokens instead of 100), and no "
				"temperature." },
	{ .name = "mode",
		.type = ESP_CFG_ENUM,
		.choices = "after|wait",
		.def_str = "after",
		.help = "after: mail is delivered at once and moved when the answer is there; no headers are added, it is "
				"stored already. wait: delivery waits for the answer, at most `wait`; headers are added; then it goes "
				"on without." },
	{ .name = "wait",
		.type = ESP_CFG_TIME,
		.def_int = 5 * ESP_SEC,
		.min = 100 * ESP_MSEC,
		.max = 60 * ESP_SEC,
		.help = "How long delivery may wait in mode \"wait\"." },
	{ .name = "timeout",
		.type = ESP_CFG_TIME,
		.def_int = 30 * ESP_SEC,
		.min = 100 * ESP_MSEC,
		.max = 600 * ESP_SEC,
		.help = "How long one request may take in mode \"after\"." },
	{ .name = "categories",
		.type = ESP_CFG_LIST,
		.children = category_items,
		.help = "The categories, 2 to 32; unset: primary (INBOX), updates, social, forums, promotions (folders of that "
				"name)." },
	{ .name = "threshold",
		.type = ESP_CFG_DECIMAL,
		.def_int = 700,
		.min = 0,
		.max = SURE,
		.help = "How sure the model must be, from 0 to 1, for mail to leave INBOX or get its keyword." },
	{ .name = "text",
		.type = ESP_CFG_SIZE,
		.def_int = 4096,
		.min = TEXT_MIN,
		.max = TEXT_MAX,
		.help = "Bytes of each message that are shown: sender, subject, and the beginning of its decoded text." },
	{ .name = "domains",
		.type = ESP_CFG_STRINGS,
		.max = 10000,
		.help = "Domains whose accounts' mail is categorised; unset: all." },
	{ .name = "except",
		.type = ESP_CFG_STRINGS,
		.max = 10000,
		.help = "Addresses of accounts whose mail is never shown to the service." },
	{ .name = "concurrency",
		.type = ESP_CFG_INT,
		.def_int = 4,
		.min = 1,
		.max = CONCURRENCY_MAX,
		.help = "Requests of this server at once." },
	{ .name = "requests_per_day",
		.type = ESP_CFG_INT,
		.def_int = 0,
		.min = 0,
		.max = 100000000,
		.help =
			"Requests a day (UTC), of all servers on one database; what comes then is not categorised. 0: no limit." },
	{ .name = "tokens_per_day",
		.type = ESP_CFG_INT,
		.def_int = 0,
		.min = 0,
		.max = 1000000000000,
		.help = "The same for tokens, as the service counts them in its replies." },
	{ .name = "cache",
		.type = ESP_CFG_INT,
		.def_int = 4096,
		.min = 0,
		.max = 1048576,
		.help = "Answers that are remembered (24 bytes each), for mail with the same sender, subject and text." },
	{ .name = "cache_ttl",
		.type = ESP_CFG_TIME,
		.def_int = DAYS,
		.min = 60 * ESP_SEC,
		.max = 30 * DAYS,
		.help = "How long." },
	{ .name = "max_age",
		.type = ESP_CFG_TIME,
		.def_int = DAYS,
		.min = 60 * ESP_SEC,
		.max = 30 * DAYS,
		.help =
			"Mode \"after\": mail that could not be categorised for so long, because the service or this server was "
			"away, stays where it is." },
	{ .name = NULL }
};

/* --- checking ------------------------------------------------------------------------------------------------ */

static esp_status wrong(const esp_config_api *c, const esp_cfg *cfg, const char *key, esp_err *err, const char *why)
{
	esp_str value = c->string(cfg, key);

	c->error(cfg, key, err, "%s \"%.*s\": %s", key, value.len > 100 ? 100 : ESP_FMT(value), why);
	return ESP_ECONFIG;
}

/* A line of the instructions: what it says is the administrator's own business, but it is one line of text. */
static const char *line_fault(esp_str s, size_t most)
{
	if (s.len > most)
		return "it is too long";
	for (size_t i = 0; i < s.len; i++)
		if ((unsigned char)s.ptr[i] < ' ' || s.ptr[i] == 0x7f)
			return "it has a line break or another control";
	return NULL;
}

static esp_status check_category(const esp_config_api *c, const esp_cfg *cfg, uint32_t i, esp_err *err)
{
	const esp_cfg *g = c->at(cfg, "categories", i, NULL);
	esp_str name = c->string(g, "name");
	const char *why = name_fault(name);

	if (why)
		return wrong(c, g, "name", err, why);
	for (uint32_t k = 0; k < i; k++)
		if (esp_str_eq(c->string(c->at(cfg, "categories", k, NULL), "name"), name))
			return wrong(c, g, "name", err, "another category has that name");
	if ((why = line_fault(c->string(g, "description"), 1000)))
		return wrong(c, g, "description", err, why);
	if ((why = folder_fault(c->string(g, "folder"))))
		return wrong(c, g, "folder", err, why);
	if ((why = keyword_fault(c->string(g, "keyword"))))
		return wrong(c, g, "keyword", err, why);
	for (uint32_t k = 0; k < c->count(g, "examples"); k++)
		if ((why = line_fault(c->string_at(g, "examples", k), 500))) {
			c->error(g, "examples", err, "example %u of %.*s: %s", k + 1, ESP_FMT(name), why);
			return ESP_ECONFIG;
		}
	return ESP_OK;
}

static const char *key_fault(esp_str key)
{
	for (size_t i = 0; i < key.len; i++)
		if (key.ptr[i] <= ' ' || key.ptr[i] > '~')
			return "a space, control or letter that is not ASCII is in it";
	return NULL;
}

static esp_status check_lists(const esp_config_api *c, const esp_cfg *cfg, esp_err *err)
{
	for (uint32_t i = 0; i < c->count(cfg, "domains"); i++) {
		esp_str s = c->string_at(cfg, "domains", i);
		if (!s.len || memchr(s.ptr, '@', s.len)) {
			c->error(cfg, "domains", err, "\"%.*s\" is no domain: write \"example.org\"", ESP_FMT(s));
			return ESP_ECONFIG;
		}
	}
	for (uint32_t i = 0; i < c->count(cfg, "except"); i++) {
		esp_str s = c->string_at(cfg, "except", i);
		if (!memchr(s.ptr ? s.ptr : "", '@', s.len)) {
			c->error(cfg, "except", err, "\"%.*s\" is no address: write \"user@example.org\"", ESP_FMT(s));
			return ESP_ECONFIG;
		}
	}
	return ESP_OK;
}

esp_status settings_check(const esp_config_api *c, const esp_cfg *cfg, esp_err *err)
{
	const char *why = url_fault(c->string(cfg, "url"), c->boolean(cfg, "unencrypted"));
	uint32_t n = c->count(cfg, "categories");
	esp_status st;

	if (why)
		return wrong(c, cfg, "url", err, why);
	if ((why = key_fault(c->string(cfg, "api_key")))) {
		c->error(cfg, "api_key", err, "api_key: %s", why);           /* and not what it is */
		return ESP_ECONFIG;
	}
	if ((why = line_fault(c->string(cfg, "model"), 200)))
		return wrong(c, cfg, "model", err, why);
	if (n == 1 || n > CATEGORIES_MAX) {
		c->error(cfg, "categories", err, "%u categories: name 2 to %u, or none for the usual five", n, CATEGORIES_MAX);
		return ESP_ECONFIG;
	}
	st = check_lists(c, cfg, err);
	for (uint32_t i = 0; st == ESP_OK && i < n; i++)
		st = check_category(c, cfg, i, err);
	return st;
}

/* --- reading ------------------------------------------------------------------------------------------------- */

static esp_status read_strings(
	const struct llm *m, const esp_cfg *cfg, const char *key, const esp_str **ret, uint32_t *ret_n)
{
	uint32_t n = m->core.cfg->count(cfg, key);
	esp_str *list = esp_alloc_array(m->core.host->arena(m->self), n + 1u, sizeof *list);

	for (uint32_t i = 0; list && i < n; i++)
		list[i] = m->core.cfg->string_at(cfg, key, i);
	*ret = list;
	*ret_n = n;
	return list ? ESP_OK : ESP_ENOMEM;
}

/* Those of equal priority stay in the order of esp.conf. */
static void sort(struct category *list, uint32_t n)
{
	for (uint32_t i = 1; i < n; i++) {
		struct category c = list[i];
		uint32_t k = i;
		for (; k && list[k - 1].priority > c.priority; k--)
			list[k] = list[k - 1];
		list[k] = c;
	}
}

static esp_status read_categories(const struct llm *m, const esp_cfg *cfg, struct prompt *p)
{
	const esp_config_api *c = m->core.cfg;
	uint32_t n = c->count(cfg, "categories");
	struct category *list = esp_alloc_array(m->core.host->arena(m->self), n + 1u, sizeof *list);
	esp_status st = list ? ESP_OK : ESP_ENOMEM;

	for (uint32_t i = 0; st == ESP_OK && i < n; i++) {
		const esp_cfg *g = c->at(cfg, "categories", i, NULL);
		list[i] = (struct category){ .name = c->string(g, "name"), .description = c->string(g, "description"),
			.folder = c->string(g, "folder"), .keyword = c->string(g, "keyword"),
			.priority = c->integer(g, "priority") };
		st = read_strings(m, g, "examples", &list[i].example, &list[i].nexamples);
	}
	if (st != ESP_OK)
		return st;
	sort(list, n);
	for (uint32_t i = 0; i < n; i++)
		if (list[i].folder.len == 5 && strncasecmp(list[i].folder.ptr, "inbox", 5) == 0)
			list[i].folder = (esp_str){ NULL, 0 };
	p->category = n ? list : default_categories;
	p->ncategories = n ? n : ndefault_categories;
	return ESP_OK;
}

/* Whatever changes the answer to the same text: the whole request but the text, and who is asked. */
static esp_status make_print(const struct llm *m, struct settings *s)
{
	esp_hash *h = m->crypto->hash_new(ESP_HASH_SHA256);
	esp_buf request;
	esp_status st;

	esp_buf_init(&request, REQUEST_ROOM);
	st = h ? prompt_write(&s->prompt, (esp_str){ NULL, 0 }, "----------------", &request) : ESP_ENOMEM;
	if (h) {
		m->crypto->hash_update(h, request.data, request.len);
		m->crypto->hash_update(h, s->url.ptr, s->url.len);
		m->crypto->hash_finish(h, s->print);
	}
	esp_buf_free(&request);
	return st;
}

esp_status settings_read(struct llm *m, const esp_cfg *cfg, struct settings *ret)
{
	const esp_config_api *c = m->core.cfg;
	esp_status st;

	*ret = (struct settings){
		.prompt = { .api = (enum api)c->choice(cfg, "api"), .structured = c->boolean(cfg, "structured"),
			.reasoning = c->boolean(cfg, "reasoning"), .model = c->string(cfg, "model") },
		.mode = (enum mode)c->choice(cfg, "mode"),
		.url = c->string(cfg, "url"), .key = c->string(cfg, "api_key"), .profile = c->string(cfg, "profile"),
		.threshold = (uint32_t)c->integer(cfg, "threshold"), .concurrency = (uint32_t)c->integer(cfg, "concurrency"),
		.text = (size_t)c->integer(cfg, "text"), .timeout = c->integer(cfg, "timeout"), .wait = c->integer(cfg, "wait"),
		.max_age = c->integer(cfg, "max_age") / ESP_SEC, .cache_ttl = c->integer(cfg, "cache_ttl") / ESP_SEC,
		.cache = (uint32_t)c->integer(cfg, "cache"), .requests = (uint64_t)c->integer(cfg, "requests_per_day"),
		.tokens = (uint64_t)c->integer(cfg, "tokens_per_day"),
	};
	st = read_categories(m, cfg, &ret->prompt);
	if (st == ESP_OK)
		st = read_strings(m, cfg, "domains", &ret->domain, &ret->ndomains);
	if (st == ESP_OK)
		st = read_strings(m, cfg, "except", &ret->except, &ret->nexcept);
	return st == ESP_OK ? make_print(m, ret) : st;
}

/* --- whose mail ---------------------------------------------------------------------------------------------- */

static int is_in(const esp_str *list, uint32_t n, esp_str s)
{
	for (uint32_t i = 0; i < n; i++)
		if (list[i].len == s.len && strncasecmp(list[i].ptr, s.ptr, s.len) == 0)
			return 1;
	return 0;
}

esp_status settings_allow(struct llm *m, const struct settings *s, esp_arena *arena, esp_id account, esp_str *ret_login)
{
	const esp_directory *d = (const esp_directory *)m->core.host->service(m->self, m->directory);
	esp_account a = { .size = sizeof a };
	esp_status st = d ? d->account_by_id(d, arena, account, &a) : ESP_EUNAVAIL;
	const char *at;
	esp_str domain;

	if (st != ESP_OK)
		return st;
	at = memrchr(a.address.ptr, '@', a.address.len);
	domain = at ? (esp_str){ at + 1, a.address.len - (size_t)(at + 1 - a.address.ptr) } : (esp_str){ NULL, 0 };
	if (ret_login)
		*ret_login = a.address;
	return (s->ndomains && !is_in(s->domain, s->ndomains, domain)) || is_in(s->except, s->nexcept, a.address)
		? ESP_EACCES : ESP_OK;
}
