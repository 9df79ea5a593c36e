/* abi_leak - leaves a timer, a watcher and (when asked) a fiber, or an arena, behind.  The fiber ends at its cancel:
 * worker_drain() is what a better module would do (`drains`). */
#include "abi.h"

#include <sys/eventfd.h>

struct leak { struct abi abi; esp_fiber *fiber; int32_t drains; esp_arena *arena; };

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
	const struct abi *a = &((const struct leak *)arg)->abi;

	while (a->core.fiber->sleep_until(a->core.loop->clock() + 3600 * ESP_SEC) == ESP_OK)
		;
}

static esp_status on_init(esp_module *self, const esp_cfg *cfg, esp_err *err)
{
	struct leak *l = (struct leak *)esp_alloc(self->host->arena(self), sizeof *l);

	(void)err;
	if (!l)
		return ESP_ENOMEM;
	self->state = l;
	esp_core_init(&l->abi.core, self);
	l->abi.value = l->abi.core.cfg->boolean(cfg, "fiber");
	l->drains = l->abi.core.cfg->boolean(cfg, "drains");
	if (l->abi.core.cfg->boolean(cfg, "arena") &&
	    !(l->arena = l->abi.core.mem->arena_new(self, "abi_leak arena", 0)))
		return ESP_ENOMEM;
	return self->host->contribute(self, "abi_leak.arena", &l->arena);   /* for the test, which ends it after all */
}

static esp_status on_worker_start(esp_module *self, esp_worker *w)
{
	struct leak *l = (struct leak *)self->state;
	const struct abi *a = &l->abi;
	int fd;

	if (a->core.loop->index(w) != 0)
		return ESP_OK;
	fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (fd < 0 || !a->core.loop->after(self, 3600 * ESP_SEC, on_timer, NULL) ||
	    !a->core.loop->watch(self, fd, ESP_READ, on_watch, NULL))
		return ESP_ENOMEM;
	return a->value ? a->core.fiber->spawn(self, 0, "abi_leak forgotten", fiber, l, &l->fiber) : ESP_OK;
}

static void on_worker_drain(esp_module *self, esp_worker *w)
{
	struct leak *l = (struct leak *)self->state;

	if (l->drains && l->fiber && l->abi.core.loop->index(w) == 0)
		l->abi.core.fiber->cancel(l->fiber);
}

static const esp_cfg_item config[] = {
	{ .name = "fiber", .type = ESP_CFG_BOOL, .help = "leave a fiber too" },
	{ .name = "drains", .type = ESP_CFG_BOOL, .help = "end the fiber in worker_drain()" },
	{ .name = "arena", .type = ESP_CFG_BOOL, .help = "leave an arena too" },
	{ .name = NULL }
};
static const esp_module_ops ops = { .size = sizeof ops, .init = on_init, .worker_start = on_worker_start,
	.worker_drain = on_worker_drain };
ESP_MODULE(.name = "abi_leak", .version = "1.0", .summary = "leaves things behind", .license = "MIT",
           .config = config, .ops = &ops);
