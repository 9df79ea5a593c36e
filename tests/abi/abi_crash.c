/* abi_crash - writes through a bad pointer where its configuration says: at HELO, or in a step of its life. */
#include "abi.h"

static const char places[] = "helo|check|init|reconfigure|drain|worker_drain|worker_stop|stop|never";
enum { AT_HELO, AT_CHECK, AT_INIT, AT_RECONFIGURE, AT_DRAIN, AT_WORKER_DRAIN, AT_WORKER_STOP, AT_STOP };

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

static void crash_at(const esp_module *self, int64_t place)
{
	if (((const struct abi *)self->state)->value == place)
		crash(0);
}

static esp_status on_worker_start(esp_module *self, esp_worker *w)
{
	(void)self;
	(void)w;
	return ESP_OK;   /* without it there is nothing to drain or stop on workers */
}

static esp_status on_reconfigure(esp_module *self, const esp_cfg *next, int32_t commit, esp_err *err)
{
	(void)next;
	(void)commit;
	(void)err;
	crash_at(self, AT_RECONFIGURE);
	return ESP_OK;
}

static void on_drain(esp_module *self, esp_nsec deadline)
{
	(void)deadline;
	crash_at(self, AT_DRAIN);
}

static int arrived;

/* On every worker, at the same moment: it is one crash all the same. */
static void crash_together(const esp_module *self, int64_t place)
{
	const struct abi *a = (const struct abi *)self->state;

	if (a->value != place)
		return;
	(void)__atomic_add_fetch(&arrived, 1, __ATOMIC_SEQ_CST);
	while (__atomic_load_n(&arrived, __ATOMIC_SEQ_CST) < (int)a->core.loop->workers())
		;
	crash(0);
}

static void on_worker_drain(esp_module *self, esp_worker *w)
{
	(void)w;
	crash_together(self, AT_WORKER_DRAIN);
}

static void on_worker_stop(esp_module *self, esp_worker *w)
{
	(void)w;
	crash_together(self, AT_WORKER_STOP);
}

static void on_stop(esp_module *self)
{
	crash_at(self, AT_STOP);
}

static const esp_cfg_item config[] = {
	{ .name = "at", .type = ESP_CFG_ENUM, .def_str = "helo", .choices = places, .help = "where to crash" },
	{ .name = "salt", .type = ESP_CFG_INT, .flags = ESP_CFG_LIVE, .help = "changes nothing but the configuration" },
	{ .name = NULL }
};
static const esp_module_ops ops = {
	.size = sizeof ops, .check = on_check, .init = on_init, .worker_start = on_worker_start,
	.reconfigure = on_reconfigure, .drain = on_drain, .worker_drain = on_worker_drain, .worker_stop = on_worker_stop,
	.stop = on_stop
};
ESP_MODULE(.name = "abi_crash", .version = "1.0", .summary = "crashes", .license = "MIT", .config = config,
	.ops = &ops);
