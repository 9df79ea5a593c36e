/* abi_verdict - answers DISCARD at HELO, where it is forbidden. */
#include "abi.h"

static esp_verdict on_helo(esp_module *self, const void *args, esp_answer *answer)
{
	(void)self;
	(void)args;
	(void)answer;
	return ESP_VERDICT_DISCARD;
}

static esp_status on_init(esp_module *self, const esp_cfg *cfg, esp_err *err)
{
	(void)cfg;
	(void)err;
	return abi_hook(self, ESP_AT_HELO, 0, on_helo);
}

static const esp_module_ops ops = { .size = sizeof ops, .init = on_init };
ESP_MODULE(.name = "abi_verdict", .version = "1.0", .summary = "a forbidden verdict", .license = "MIT", .ops = &ops);
