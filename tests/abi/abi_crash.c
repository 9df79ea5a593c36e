/* abi_crash - writes through a bad pointer at HELO. */
#include "abi.h"

static esp_verdict on_helo(esp_module *self, const void *args, esp_answer *answer)
{
	volatile uintptr_t nowhere = 16 + answer->smtp_code;

	(void)self;
	(void)args;
	*(volatile uint32_t *)nowhere = 1;
	return ESP_VERDICT_CONTINUE;
}

static esp_status on_init(esp_module *self, const esp_cfg *cfg, esp_err *err)
{
	(void)cfg;
	(void)err;
	return abi_hook(self, ESP_AT_HELO, 0, on_helo);
}

static const esp_module_ops ops = { .size = sizeof ops, .init = on_init };
ESP_MODULE(.name = "abi_crash", .version = "1.0", .summary = "crashes", .license = "MIT", .ops = &ops);
