/* abi_leak - leaves a timer, a watcher and (when asked) a fiber that ignores its cancel behind. */
#include "abi.h"

#include <sys/eventfd.h>

static void on_timer(void *arg)
{
	(void)arg;
}

static void on_watch(void *arg, uint32_t events)
{
	(void)arg;
	(void)events;
}

static void fiber(void *arg)
{
	const struct abi *a = (const struct abi *)arg;

	while (a->core.fiber->sleep_until(a->core.loop->clock() + 3600 * ESP_SEC) == ESP_OK)
		;
}

static esp_status on_init(esp_module *self, const esp_cfg *cfg, esp_err *err)
{
	struct abi *a = abi_new(self);

	(void)err;
	if (!a)
		return ESP_ENOMEM;
	a->value = a->core.cfg->boolean(cfg, "fiber");
	return ESP_OK;
}

static esp_status on_worker_start(esp_module *self, esp_worker *w)
{
	struct abi *a = (struct abi *)self->state;
	int fd;

	if (a->core.loop->index(w) != 0)
		return ESP_OK;
	fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (fd < 0 || !a->core.loop->after(self, 3600 * ESP_SEC, on_timer, NULL) ||
	    !a->core.loop->watch(self, fd, ESP_READ, on_watch, NULL))
		return ESP_ENOMEM;
	return a->value ? a->core.fiber->spawn(self, 0, "abi_leak forgotten", fiber, a, NULL) : ESP_OK;
}

static const esp_cfg_item config[] = {
	{ .name = "fiber", .type = ESP_CFG_BOOL, .help = "leave a fiber too" },
	{ .name = NULL }
};
static const esp_module_ops ops = { .size = sizeof ops, .init = on_init, .worker_start = on_worker_start };
ESP_MODULE(.name = "abi_leak", .version = "1.0", .summary = "leaves things behind", .license = "MIT",
           .config = config, .ops = &ops);
