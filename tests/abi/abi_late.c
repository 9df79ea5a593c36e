/* abi_late - a hook that answers REJECT 100 ms after its deadline of 50 ms: the answer must count for nothing. */
#include "abi.h"

static esp_verdict on_helo(esp_module *self, const void *args, esp_answer *answer)
{
	const struct abi *a = (const struct abi *)self->state;

	(void)args;
	(void)answer;
	a->core.fiber->shield(1);
	if (a->core.fiber->sleep_until(a->core.loop->clock() + 150 * ESP_MSEC) != ESP_OK)
		return ESP_VERDICT_FAIL;
	return ESP_VERDICT_REJECT;
}

static esp_status on_init(esp_module *self, const esp_cfg *cfg, esp_err *err)
{
	(void)cfg;
	(void)err;
	return abi_new(self) ? abi_hook(self, ESP_AT_HELO, 50 * ESP_MSEC, on_helo) : ESP_ENOMEM;
}

static const esp_module_ops ops = { .size = sizeof ops, .init = on_init };
ESP_MODULE(.name = "abi_late", .version = "1.0", .summary = "answers too late", .license = "MIT", .ops = &ops);
