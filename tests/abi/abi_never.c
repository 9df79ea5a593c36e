/* abi_never - a hook that never answers by itself: it waits for a wake-up that nobody sends. */
#include "abi.h"

static esp_verdict on_helo(esp_module *self, const void *args, esp_answer *answer)
{
	const struct abi *a = (const struct abi *)self->state;

	(void)args;
	(void)answer;
	while (a->core.fiber->suspend() == ESP_OK)
		;
	return ESP_VERDICT_REJECT;
}

static esp_status on_init(esp_module *self, const esp_cfg *cfg, esp_err *err)
{
	(void)cfg;
	(void)err;
	return abi_new(self) ? abi_hook(self, ESP_AT_HELO, 50 * ESP_MSEC, on_helo) : ESP_ENOMEM;
}

static const esp_module_ops ops = { .size = sizeof ops, .init = on_init };
ESP_MODULE(.name = "abi_never", .version = "1.0", .summary = "never answers", .license = "MIT", .ops = &ops);
