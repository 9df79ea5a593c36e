/* abi_crash - writes through a bad pointer where its configuration says: at HELO, in check() or in init(). */
#include "abi.h"

enum { AT_HELO, AT_CHECK, AT_INIT };

static void crash(uint32_t salt)
{
	volatile uintptr_t nowhere = 16 + salt;

	*(volatile uint32_t *)nowhere = 1;
}

static int32_t where(const esp_module *self, const esp_cfg *cfg)
{
	const esp_config_api *api = (const esp_config_api *)self->host->core("esp.config/1", 0);

	return api->choice(cfg, "at");
}

static esp_verdict on_helo(esp_module *self, const void *args, esp_answer *answer)
{
	const struct abi *a = (const struct abi *)self->state;

	(void)args;
	if (a->value == AT_HELO)
		crash(answer->smtp_code);
	return ESP_VERDICT_CONTINUE;
}

static esp_status on_check(esp_module *self, const esp_cfg *cfg, esp_err *err)
{
	if (where(self, cfg) == AT_CHECK)
		crash(err->line);
	return ESP_OK;
}

static esp_status on_init(esp_module *self, const esp_cfg *cfg, esp_err *err)
{
	struct abi *a = abi_new(self);

	if (!a)
		return ESP_ENOMEM;
	a->value = where(self, cfg);
	if (a->value == AT_INIT)
		crash(err->line);
	return abi_hook(self, ESP_AT_HELO, 0, on_helo);
}

static const esp_cfg_item config[] = { { .name = "at",
										   .type = ESP_CFG_ENUM,
										   .def_str = "helo",
										   .choices = "helo|check|init|never",
										   .help = "where to crash" },
	{ .name = NULL } };
static const esp_module_ops ops = { .size = sizeof ops, .check = on_check, .init = on_init };
ESP_MODULE(.name = "abi_crash", .version = "1.0", .summary = "crashes", .license = "MIT", .config = config,
	.ops = &ops);
