/* abi_cycle - provides one service and needs the other: two of them wait for each other.  CYCLE_NAME, CYCLE_GIVES and
 * CYCLE_WANTS come from the build; alone, it is a module whose service is missing. */
#include "abi.h"

static const esp_need needs[] = { { .id = CYCLE_WANTS, .min_minor = 0, .optional = 0 }, { .id = NULL } };
static const esp_offer provides[] = { { .id = CYCLE_GIVES, .minor = 0 }, { .id = NULL } };

static esp_status on_init(esp_module *self, const esp_cfg *cfg, esp_err *err)
{
	struct abi *a = abi_new(self);
	esp_service *table = a ? (esp_service *)esp_alloc(self->host->arena(self), sizeof *table) : NULL;

	(void)cfg;
	(void)err;
	if (!table)
		return ESP_ENOMEM;
	*table = (esp_service){ .size = sizeof *table, .minor = 0, .provider = self };
	return self->host->bind(self, CYCLE_WANTS, &a->binding) == ESP_OK ? self->host->provide(self, CYCLE_GIVES, table)
	                                                                 : ESP_EUNAVAIL;
}

static const esp_module_ops ops = { .size = sizeof ops, .init = on_init };
ESP_MODULE(.name = CYCLE_NAME, .version = "1.0", .summary = "a cycle", .license = "MIT",
           .needs = needs, .provides = provides, .ops = &ops);
