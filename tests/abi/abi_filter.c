/* abi_filter - a well-behaved filter for the reload tests: rejects HELO with the code its configuration says.
 *
 * Built several times with another FILTER_VARIANT, so that the file changes and nothing else; the variant is the text
 * of the answer.  `code` is LIVE; `note` asks for a new generation.
 */
#include "abi.h"

static esp_verdict on_helo(esp_module *self, const void *args, esp_answer *answer)
{
	const struct abi *a = (const struct abi *)self->state;

	(void)args;
	if ((a->nap ? a->core.fiber->sleep_until(a->core.loop->clock() + a->nap) : a->core.fiber->yield()) != ESP_OK)
		return ESP_VERDICT_FAIL;
	answer->smtp_code = (uint32_t)__atomic_load_n(&a->value, __ATOMIC_RELAXED);
	answer->text = ESP_STR(FILTER_VARIANT);
	return ESP_VERDICT_REJECT;
}

static esp_status on_init(esp_module *self, const esp_cfg *cfg, esp_err *err)
{
	struct abi *a = abi_new(self);

	(void)err;
	if (!a)
		return ESP_ENOMEM;
	a->value = a->core.cfg->integer(cfg, "code");
	a->nap = a->core.cfg->integer(cfg, "nap");
	return abi_hook(self, ESP_AT_HELO, 0, on_helo);
}

static esp_status on_reconfigure(esp_module *self, const esp_cfg *next, int32_t commit, esp_err *err)
{
	struct abi *a = (struct abi *)self->state;

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
	{ .name = "note", .type = ESP_CFG_STRING, .help = "changes nothing but the configuration" }, { .name = NULL } };
static const esp_module_ops ops = { .size = sizeof ops, .init = on_init, .reconfigure = on_reconfigure };
ESP_MODULE(.name = "abi_filter", .version = FILTER_VARIANT, .summary = "rejects HELO", .license = "MIT",
           .config = config, .ops = &ops);
