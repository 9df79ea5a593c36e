/* abi_sleep - blocks the loop of its worker for 300 ms at HELO, then says nothing. */
#include "abi.h"

#include <unistd.h>

static esp_verdict on_helo(esp_module *self, const void *args, esp_answer *answer)
{
	(void)self;
	(void)args;
	(void)answer;
	(void)usleep(300 * 1000);
	return ESP_VERDICT_CONTINUE;
}

static esp_status on_init(esp_module *self, const esp_cfg *cfg, esp_err *err)
{
	(void)cfg;
	(void)err;
	return abi_hook(self, ESP_AT_HELO, 0, on_helo);
}

static const esp_module_ops ops = { .size = sizeof ops, .init = on_init };
ESP_MODULE(.name = "abi_sleep", .version = "1.0", .summary = "sleeps on the loop", .license = "MIT", .ops = &ops);
