/* abi_filter - a well-behaved filter for the reload tests: rejects HELO with the code its configuration says.
 *
 * Built several times with another FILTER_VARIANT, so that the file changes and nothing else; the variant is the text
 * of the answer, with the note behind it.  `code` is LIVE; `note` asks for a new generation.  With `probe` only that
 * name and that recipient are rejected: mail goes on beside it.
 */
#include "abi.h"

#include <stdio.h>

struct filter {
	struct abi abi;
	esp_str probe, text;
};

static esp_verdict refuse(const struct filter *f, esp_str what, esp_answer *answer)
{
	const struct abi *a = &f->abi;

	if (f->probe.len && !esp_str_eq(what, f->probe))
		return ESP_VERDICT_CONTINUE;
	if ((a->nap ? a->core.fiber->sleep_until(a->core.loop->clock() + a->nap) : a->core.fiber->yield()) != ESP_OK)
		return ESP_VERDICT_FAIL;
	answer->smtp_code = (uint32_t)__atomic_load_n(&a->value, __ATOMIC_RELAXED);
	answer->text = f->text;
	return ESP_VERDICT_REJECT;
}

static esp_verdict on_helo(esp_module *self, const void *args, esp_answer *answer)
{
	return refuse((const struct filter *)self->state, ((const esp_helo_args *)args)->name, answer);
}

static esp_verdict on_rcpt(esp_module *self, const void *args, esp_answer *answer)
{
	return refuse((const struct filter *)self->state, ((const esp_rcpt_args *)args)->to, answer);
}

static esp_status on_init(esp_module *self, const esp_cfg *cfg, esp_err *err)
{
	esp_arena *arena = self->host->arena(self);
	struct filter *f = esp_alloc(arena, sizeof *f);
	char text[64];
	esp_str note;
	esp_status st;

	(void)err;
	if (!f)
		return ESP_ENOMEM;
	self->state = f;
	esp_core_init(&f->abi.core, self);
	f->abi.value = f->abi.core.cfg->integer(cfg, "code");
	f->abi.nap = f->abi.core.cfg->integer(cfg, "nap");
	f->probe = esp_strdup_in(arena, f->abi.core.cfg->string(cfg, "probe"));
	note = f->abi.core.cfg->string(cfg, "note");
	snprintf(text, sizeof text, FILTER_VARIANT "%s%.*s", note.len ? " " : "", ESP_FMT(note));
	f->text = esp_strdup_in(arena, (esp_str){ text, strlen(text) });
	if (!f->text.ptr)
		return ESP_ENOMEM;
	st = abi_hook(self, ESP_AT_HELO, 0, on_helo);
	return st == ESP_OK && f->probe.len ? abi_hook(self, ESP_AT_RCPT, 0, on_rcpt) : st;
}

static esp_status on_reconfigure(esp_module *self, const esp_cfg *next, int32_t commit, esp_err *err)
{
	struct abi *a = &((struct filter *)self->state)->abi;

	if (a->core.cfg->integer(next, "code") == 555)
		return ABI_ERR(err, "555 is not for live changes");
	if (commit)
		__atomic_store_n(&a->value, a->core.cfg->integer(next, "code"), __ATOMIC_RELAXED);
	return ESP_OK;
}

static const esp_cfg_item config[] = { { .name = "code",
										   .type = ESP_CFG_INT,
										   .flags = ESP_CFG_LIVE,
										   .min = 500,
										   .max = 599,
										   .def_int = 550,
										   .help = "reply code" },
	{ .name = "nap", .type = ESP_CFG_TIME, .help = "think before answering" },
	{ .name = "probe", .type = ESP_CFG_STRING, .help = "the only name and recipient to reject" },
	{ .name = "note", .type = ESP_CFG_STRING, .help = "changes the text of the answer" }, { .name = NULL } };
static const esp_module_ops ops = { .size = sizeof ops, .init = on_init, .reconfigure = on_reconfigure };
ESP_MODULE(.name = "abi_filter", .version = FILTER_VARIANT, .summary = "rejects HELO", .license = "MIT",
           .config = config, .ops = &ops);
