/* abi_hang - does not come back from the step of its end that its configuration names: it suspends for ever, or keeps
 * the loop busy for so long ("block").  "fiber": drain() leaves a fiber that ends when it is cancelled; "deaf": one
 * that ends a second after that.  "none": it only says when it is stopped.  It needs test.counter/1 where somebody
 * provides it.  Built a second time as abi_hang_swap with the flag EXCLUSIVE.
 */
#include "abi.h"

#include <esp/log.h>
#include <unistd.h>

static const char steps[] = "none|fiber|deaf|drain|worker_drain|worker_stop|stop";
enum { NONE, FIBER, DEAF, DRAIN, WORKER_DRAIN, WORKER_STOP, STOP };

struct hang { struct abi abi; esp_nsec block; int32_t started; };

static void hang_in(const esp_module *self, int64_t step)
{
	const struct hang *h = (const struct hang *)self->state;

	if (h->abi.value != step || !h->started)   /* a rehearsal only stops */
		return;
	if (h->block) {
		(void)usleep((useconds_t)(h->block / ESP_USEC));
		return;
	}
	h->abi.core.fiber->shield(1);
	while (h->abi.core.fiber->suspend() == ESP_OK)
		;
	h->abi.core.fiber->shield(0);
}

/* Its work goes on: what ends it is the deadline. */
static void works(void *arg)
{
	const struct hang *h = (const struct hang *)arg;

	while (h->abi.core.fiber->sleep_until(h->abi.core.loop->clock() + ESP_SEC) == ESP_OK)
		;
	if (h->abi.value != DEAF)
		return;
	h->abi.core.fiber->shield(1);
	(void)!h->abi.core.fiber->sleep_until(h->abi.core.loop->clock() + ESP_SEC);
	h->abi.core.fiber->shield(0);
}

static esp_status on_init(esp_module *self, const esp_cfg *cfg, esp_err *err)
{
	struct hang *h = (struct hang *)esp_alloc(self->host->arena(self), sizeof *h);

	(void)err;
	if (!h)
		return ESP_ENOMEM;
	self->state = h;
	esp_core_init(&h->abi.core, self);
	h->abi.value = h->abi.core.cfg->choice(cfg, "step");
	h->block = h->abi.core.cfg->integer(cfg, "block");
	return ESP_OK;
}

static esp_status on_start(esp_module *self, esp_err *err)
{
	(void)err;
	((struct hang *)self->state)->started = 1;
	return ESP_OK;
}

static esp_status on_worker_start(esp_module *self, esp_worker *w)
{
	(void)self;
	(void)w;
	return ESP_OK;   /* without it there is nothing to drain or stop on workers */
}

static void on_drain(esp_module *self, esp_nsec deadline)
{
	struct hang *h = (struct hang *)self->state;

	(void)deadline;
	if (h->abi.value == FIBER || h->abi.value == DEAF)
		(void)!h->abi.core.fiber->spawn(self, 0, "abi_hang works", works, h, NULL);
	hang_in(self, DRAIN);
}

static void on_worker_drain(esp_module *self, esp_worker *w)
{
	(void)w;
	hang_in(self, WORKER_DRAIN);
}

static void on_worker_stop(esp_module *self, esp_worker *w)
{
	(void)w;
	hang_in(self, WORKER_STOP);
}

static void on_stop(esp_module *self)
{
	const esp_log_api *log = (const esp_log_api *)self->host->core("esp.log/1", 0);

	hang_in(self, STOP);
	esp_log_text(log, self, ESP_LOG_NOTICE, "has its orderly stop");
}

static const esp_cfg_item config[] = {
	{ .name = "step", .type = ESP_CFG_ENUM, .def_str = "none", .choices = steps, .help = "where to hang" },
	{ .name = "salt", .type = ESP_CFG_INT, .help = "changes nothing but the configuration" },
	{ .name = "block", .type = ESP_CFG_TIME, .max = 10 * ESP_SEC, .help = "how long to keep the loop; 0: suspend" },
	{ .name = NULL }
};
static const esp_module_ops ops = {
	.size = sizeof ops, .init = on_init, .start = on_start, .worker_start = on_worker_start, .drain = on_drain,
	.worker_drain = on_worker_drain, .worker_stop = on_worker_stop, .stop = on_stop
};
static const esp_need needs[] = { { .id = "test.counter/1", .min_minor = 0, .optional = 1 }, { .id = NULL } };
#ifdef HANG_EXCLUSIVE
#define NAME "abi_hang_swap"
enum { FLAGS = ESP_MODULE_EXCLUSIVE };
#else
#define NAME "abi_hang"
enum { FLAGS = 0 };
#endif
ESP_MODULE(.name = NAME, .version = "1.0", .summary = "does not come to its end", .license = "MIT", .flags = FLAGS,
           .needs = needs, .config = config, .ops = &ops);
