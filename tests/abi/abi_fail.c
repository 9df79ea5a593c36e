/* abi_fail - fails in the step that its configuration names; "point": adds a hook where nobody asks.  A live change to
 * such a step is refused, so that a new generation gets there; "commit" is accepted at first, refused when it counts.
 */
#include "abi.h"

static const char steps[] = "none|check|init|start|worker_start|reconfigure|commit|point";
enum { NONE, CHECK, INIT, START, WORKER_START, RECONFIGURE, COMMIT, POINT };

static int32_t step_of(const esp_module *self, const esp_cfg *cfg)
{
	const esp_config_api *api = (const esp_config_api *)self->host->core("esp.config/1", 0);

	return api->choice(cfg, "step");
}

static esp_status on_check(esp_module *self, const esp_cfg *cfg, esp_err *err)
{
	return step_of(self, cfg) == CHECK ? ABI_ERR(err, "check does not want to") : ESP_OK;
}

static esp_verdict on_deliver(esp_module *self, const void *args, esp_answer *answer)
{
	(void)self;
	(void)args;
	(void)answer;
	return ESP_VERDICT_CONTINUE;
}

static esp_status on_init(esp_module *self, const esp_cfg *cfg, esp_err *err)
{
	struct abi *a = abi_new(self);

	if (!a)
		return ESP_ENOMEM;
	a->value = step_of(self, cfg);
	if (a->value == POINT)
		return abi_hook(self, ESP_AT_DELIVER, 0, on_deliver);
	return a->value == INIT ? ABI_ERR(err, "init does not want to") : ESP_OK;
}

static esp_status on_start(esp_module *self, esp_err *err)
{
	const struct abi *a = (const struct abi *)self->state;

	return a->value == START ? ABI_ERR(err, "start does not want to") : ESP_OK;
}

static esp_status on_worker_start(esp_module *self, esp_worker *w)
{
	const struct abi *a = (const struct abi *)self->state;

	return a->value == WORKER_START && a->core.loop->index(w) + 1 == a->core.loop->workers() ? ESP_EIO : ESP_OK;
}

static esp_status on_reconfigure(esp_module *self, const esp_cfg *next, int32_t commit, esp_err *err)
{
	struct abi *a = (struct abi *)self->state;
	int32_t step = step_of(self, next);

	if (step == COMMIT ? commit : step != NONE)
		return ABI_ERR(err, "reconfigure does not want to");
	if (commit)
		a->value = step;
	return ESP_OK;
}

static const esp_cfg_item config[] = { { .name = "step",
										   .type = ESP_CFG_ENUM,
										   .flags = ESP_CFG_LIVE,
										   .def_str = "none",
										   .choices = steps,
										   .help = "where to fail" },
	{ .name = "salt", .type = ESP_CFG_INT, .help = "changes nothing but the configuration" }, { .name = NULL } };
static const esp_module_ops ops = {
	.size = sizeof ops, .check = on_check, .init = on_init, .start = on_start,
	.worker_start = on_worker_start, .reconfigure = on_reconfigure
};
ESP_MODULE(.name = "abi_fail", .version = "1.0", .summary = "fails where it is told to", .license = "MIT",
           .config = config, .ops = &ops);
