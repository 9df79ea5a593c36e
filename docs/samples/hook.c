/* filter_strict_helo - refuses clients that greet with a bare IP address.  The smallest useful module. */
#include <esp/host.h>
#include <esp/hook.h>

static esp_verdict on_helo(esp_module *self, const esp_helo_args *args, esp_answer *answer)
{
	(void)self;
	if (!args->name.len || args->name.ptr[0] < '0' || args->name.ptr[0] > '9')
		return ESP_VERDICT_CONTINUE;
	answer->smtp_code = 550;
	answer->text = ESP_STR("say your name, not your address");
	return ESP_VERDICT_REJECT;
}

static esp_status on_init(esp_module *self, const esp_cfg *cfg, esp_err *err)
{
	static const esp_hook hook = {
		.size = sizeof hook, .point = ESP_AT_HELO, .priority = ESP_PRIO_EARLY, .run = { .helo = on_helo }
	};
	const esp_hook_api *hooks = self->host->core("esp.hook/1", 0);

	(void)cfg;
	(void)err;
	return hooks->add(self, &hook);
}

static const esp_module_ops ops = { .size = sizeof ops, .init = on_init };

ESP_MODULE(.name = "filter_strict_helo", .version = "1.0", .summary = "Refuses IP addresses in HELO", .license = "MIT",
	.ops = &ops);
