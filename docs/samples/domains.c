/* filter_too_large - rejects messages above a size that may be another one for each domain. */
#include <esp/hook.h>
#include <esp/host.h>
#include <esp/mail.h>

struct filter { esp_core core; const esp_cfg *cfg; };

static esp_verdict on_message(esp_module *self, const esp_message_args *args, esp_answer *answer)
{
	const struct filter *f = self->state;
	const esp_cfg *cfg = f->core.cfg->of_domain(f->cfg, args->txn->groups[args->group].domain);

	if ((int64_t)args->message->content.len <= f->core.cfg->integer(cfg, "max"))
		return ESP_VERDICT_CONTINUE;
	answer->text = answer->reason = ESP_STR("larger than these recipients take");
	return ESP_VERDICT_REJECT;
}

static esp_status on_init(esp_module *self, const esp_cfg *cfg, esp_err *err)
{
	static const esp_hook hook = {
		.size = sizeof hook, .point = ESP_AT_MESSAGE, .priority = ESP_PRIO_EARLY, .run = { .message = on_message }
	};
	struct filter *f = esp_alloc(self->host->arena(self), sizeof *f);
	const esp_hook_api *hooks = self->host->core("esp.hook/1", 0);

	(void)err;
	if (!f)
		return ESP_ENOMEM;
	esp_core_init(&f->core, self);
	f->cfg = cfg;                      /* lives as long as this generation */
	self->state = f;
	return hooks->add(self, &hook);
}

static const esp_cfg_item config[] = {
	{ .name = "max", .type = ESP_CFG_SIZE, .def_int = 10 << 20, .flags = ESP_CFG_PER_DOMAIN, .help = "Largest message." },
	{ .name = NULL }
};
static const esp_module_ops ops = { .size = sizeof ops, .init = on_init };

ESP_MODULE(.name = "filter_too_large", .version = "1.0", .summary = "Rejects large messages, by domain", .license = "MIT",
	.config = config, .ops = &ops);
