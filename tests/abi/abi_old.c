/* abi_old - a module as the headers of ABI 1.0 built it: tables that end where they ended then, an old minor.
 *
 * It must load, be asked and hear events on every later 1.x; the sizes here never change.
 */
#include "abi.h"

#include <esp/event.h>

#define TO(type, member) (offsetof(type, member) + sizeof(((type *)0)->member))

static uint32_t heard;

static esp_verdict on_helo(esp_module *self, const void *args, esp_answer *answer)
{
	(void)self;
	(void)args;
	answer->smtp_code = 510 + __atomic_load_n(&heard, __ATOMIC_RELAXED);
	return ESP_VERDICT_REJECT;
}

static void on_events(esp_module *self, const esp_event *const *events, uint32_t n)
{
	(void)self;
	(void)events;
	__atomic_add_fetch(&heard, n ? 1 : 0, __ATOMIC_RELAXED);
}

static esp_status on_init(esp_module *self, const esp_cfg *cfg, esp_err *err)
{
	const esp_hook_api *hooks = (const esp_hook_api *)self->host->core("esp.hook/1", 0);
	const esp_event_api *event = (const esp_event_api *)self->host->core("esp.event/1", 0);
	const esp_hook h = { .size = TO(esp_hook, run), .point = ESP_AT_HELO, .run = { .any = on_helo } };
	const esp_subscription sub = {
		.size = TO(esp_subscription, on_events), .pattern = "module.*", .on_events = on_events
	};
	esp_status st;

	(void)cfg;
	(void)err;
	if (!abi_new(self))
		return ESP_ENOMEM;
	st = hooks ? hooks->add(self, &h) : ESP_EUNAVAIL;
	return st == ESP_OK ? event->subscribe(self, &sub) : st;
}

static const esp_module_ops ops = { .size = offsetof(esp_module_ops, worker_drain), .init = on_init };

ESP_EXPORT extern const esp_module_desc esp_module_descriptor;
const esp_module_desc esp_module_descriptor = {
	.magic = ESP_MODULE_MAGIC, .size = TO(esp_module_desc, ops), .abi_major = 1, .abi_minor = 0,
	.need_size = TO(esp_need, optional), .offer_size = TO(esp_offer, minor), .cfg_item_size = TO(esp_cfg_item, help),
	.name = "abi_old", .version = "1.0", .ops = &ops,
};
