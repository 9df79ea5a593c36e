/* filter_template - files messages that contain one of a list of words into a folder.
 *
 * The start of a module of your own: what it does is yours to replace, what is around it (life cycle, settings, a hook,
 * a counter, an event) is what most modules have.
 *
 * Runs at: message.  Thread: worker, in the hook's fiber.  Owns: struct filter, in the generation's arena.
 * Failure policy: the administrator's (default DEFER); it cannot fail but for memory.
 */
#define _GNU_SOURCE 1                      /* memmem */
#include <esp/host.h>
#include <esp/event.h>
#include <esp/hook.h>
#include <esp/mail.h>
#include <esp/metric.h>

/* A generation's state; hangs on self->state.  No statics: two generations may share this image. */
struct filter {
	esp_core core;
	const esp_event_api *event;
	const esp_metric_api *metric;
	esp_str folder;
	esp_str *words;
	uint32_t nwords;
	esp_event_id matched;
	esp_metric matches;
};

static const esp_str *find(const struct filter *f, esp_str content)
{
	for (uint32_t i = 0; i < f->nwords; i++)
		if (memmem(content.ptr, content.len, f->words[i].ptr, f->words[i].len))
			return &f->words[i];
	return NULL;
}

/* The answer's strings are copied when the hook returns: the transaction's arena is a good place for them. */
static esp_status add_header(esp_answer *answer, esp_arena *arena, esp_str word)
{
	static const char name[] = "X-Word-Found: ";
	size_t len = sizeof name - 1 + word.len;
	char *text = esp_alloc(arena, len);
	esp_str *header = esp_alloc(arena, sizeof *header);

	if (!text || !header)
		return ESP_ENOMEM;
	memcpy(text, name, sizeof name - 1);
	memcpy(text + sizeof name - 1, word.ptr, word.len);
	*header = (esp_str){ text, len };
	answer->headers = header;
	answer->nheaders = 1;
	return ESP_OK;
}

static esp_verdict on_message(esp_module *self, const esp_message_args *args, esp_answer *answer)
{
	const struct filter *f = self->state;
	const esp_str *word = find(f, args->message->content);

	if (!word)
		return ESP_VERDICT_CONTINUE;
	if (add_header(answer, args->txn->arena, *word) != ESP_OK)
		return ESP_VERDICT_FAIL;
	answer->folder = f->folder;
	answer->reason = *word;
	f->metric->add(f->matches, 1);
	f->event->publish(self, f->matched, (esp_field[]){ ESP_FID("message", args->message->id), ESP_FSTR("word", *word) },
		2, sizeof(esp_field));
	return ESP_VERDICT_CONTINUE;
}

/* Values that a schema cannot judge.  Pure: also run by `esp-server check`. */
static esp_status on_check(esp_module *self, const esp_cfg *cfg, esp_err *err)
{
	const esp_config_api *c = self->host->core("esp.config/1", 0);

	for (uint32_t i = 0; i < c->count(cfg, "words"); i++)
		if (!c->string_at(cfg, "words", i).len) {
			c->error(cfg, "words", err, "an empty word is in every message");
			return ESP_ECONFIG;
		}
	return ESP_OK;
}

static esp_status read_settings(struct filter *f, esp_arena *arena, const esp_cfg *cfg)
{
	f->folder = f->core.cfg->string(cfg, "folder");
	f->nwords = f->core.cfg->count(cfg, "words");
	f->words = esp_alloc_array(arena, f->nwords, sizeof *f->words);
	if (f->nwords && !f->words)
		return ESP_ENOMEM;
	for (uint32_t i = 0; i < f->nwords; i++)
		f->words[i] = f->core.cfg->string_at(cfg, "words", i);       /* the tree lives as long as we do */
	return ESP_OK;
}

static esp_status on_init(esp_module *self, const esp_cfg *cfg, esp_err *err)
{
	static const esp_event_field fields[] = {
		{ .key = "message", .type = ESP_F_ID, .help = "id of the message" },
		{ .key = "word", .type = ESP_F_STR, .help = "the word that was found" }
	};
	static const esp_hook hook = {
		.size = sizeof hook, .point = ESP_AT_MESSAGE, .priority = ESP_PRIO_NORMAL, .run = { .message = on_message }
	};
	esp_arena *arena = self->host->arena(self);
	struct filter *f = esp_alloc(arena, sizeof *f);
	const esp_hook_api *hooks = self->host->core("esp.hook/1", 0);
	esp_status st;

	(void)err;
	if (!f)
		return ESP_ENOMEM;
	esp_core_init(&f->core, self);
	f->event = self->host->core("esp.event/1", 0);
	f->metric = self->host->core("esp.metric/1", 0);
	st = read_settings(f, arena, cfg);
	if (st == ESP_OK)
		st = f->event->declare(
			self, "filter_template.matched", "A message contained a word", fields, 2, sizeof fields[0], &f->matched);
	if (st == ESP_OK)
		st = f->metric->declare(
			self, ESP_COUNTER, "esp_filter_template_matches_total", "", "Messages with a word", NULL, 0, &f->matches);
	if (st == ESP_OK)
		st = hooks->add(self, &hook);
	self->state = f;
	return st;
}

static const esp_cfg_item config[] = {
	{ .name = "words", .type = ESP_CFG_STRINGS, .flags = ESP_CFG_REQUIRED, .min = 1, .max = 100,
	  .help = "Messages that contain one of these are filed into the folder." },
	{ .name = "folder", .type = ESP_CFG_STRING, .min = 1, .max = 100, .def_str = "Junk", .help = "Where they go." },
	{ .name = NULL }
};
static const esp_module_ops ops = { .size = sizeof ops, .check = on_check, .init = on_init };

ESP_MODULE(.name = "filter_template", .version = "0.1", .summary = "Files messages that contain a word",
	.license = "MIT", .config = config, .ops = &ops);
