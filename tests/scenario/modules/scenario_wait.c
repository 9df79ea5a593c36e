/* scenario_wait - a filter that takes its time: each message waits for `time` in a hook.  For tests/perf/filters.py. */
#include <esp/hook.h>
#include <esp/host.h>
#include <esp/mail.h>

struct waiter { esp_core core; esp_nsec time; };

static esp_verdict on_message(esp_module *self, const esp_message_args *args, esp_answer *answer)
{
	const struct waiter *w = self->state;
	esp_status st = w->core.fiber->sleep_until(w->core.loop->now() + w->time);     /* 0: lets the others run once */

	(void)args;
	(void)answer;
	return st == ESP_OK ? ESP_VERDICT_CONTINUE : ESP_VERDICT_FAIL;
}

static esp_status on_init(esp_module *self, const esp_cfg *cfg, esp_err *err)
{
	const esp_hook_api *hooks = (const esp_hook_api *)self->host->core("esp.hook/1", 0);
	const esp_hook hook = { .size = sizeof hook, .point = ESP_AT_MESSAGE, .priority = ESP_PRIO_NORMAL,
		.timeout = 120 * ESP_SEC, .run.message = on_message };
	struct waiter *w = esp_alloc(self->host->arena(self), sizeof *w);

	(void)err;
	if (!w)
		return ESP_ENOMEM;
	esp_core_init(&w->core, self);
	w->time = w->core.cfg->integer(cfg, "time");
	self->state = w;
	return hooks->add(self, &hook);
}

static const esp_cfg_item config[] = {
	{ .name = "time", .type = ESP_CFG_TIME, .max = 60 * ESP_SEC, .help = "How long each message waits." },
	{ .name = NULL }
};
static const esp_module_ops ops = { .size = sizeof ops, .init = on_init };
ESP_MODULE(.name = "scenario_wait", .version = "1.0", .summary = "Lets messages wait", .license = "MIT",
	.config = config, .ops = &ops);
