/* abi_consumer - asks test.counter/1 at HELO and answers with its value as the reply code. */
#include "abi.h"
#include "abi_service.h"

static esp_verdict on_helo(esp_module *self, const void *args, esp_answer *answer)
{
	const struct abi *a = (const struct abi *)self->state;
	const test_counter *c = (const test_counter *)self->host->service(self, a->binding);
	int64_t v;

	(void)args;
	if (!c)
		return ESP_VERDICT_FAIL;
	v = c->value(c, a->value);
	if (v < 0)
		return ESP_VERDICT_FAIL;
	answer->smtp_code = (uint32_t)v;
	return ESP_VERDICT_REJECT;
}

static esp_status on_init(esp_module *self, const esp_cfg *cfg, esp_err *err)
{
	struct abi *a = abi_new(self);

	(void)err;
	if (!a || self->host->bind(self, "test.counter/1", &a->binding) != ESP_OK)
		return ESP_EUNAVAIL;
	a->value = a->core.cfg->integer(cfg, "nap");
	return abi_hook(self, ESP_AT_HELO, 0, on_helo);
}

static const esp_need needs[] = { { .id = "test.counter/1", .min_minor = 0, .optional = 0 }, { .id = NULL } };
static const esp_cfg_item config[] = {
	{ .name = "nap", .type = ESP_CFG_TIME, .help = "how long the service sleeps" },
	{ .name = NULL }
};
static const esp_module_ops ops = { .size = sizeof ops, .init = on_init };
ESP_MODULE(.name = "abi_consumer", .version = "1.0", .summary = "asks a counter", .license = "MIT",
           .needs = needs, .config = config, .ops = &ops);
