/* away.c - see away.h. */
#include "away.h"

#include <string.h>

#define LOOK_FIRST (5 * ESP_MSEC)
#define LOOK_MOST  (200 * ESP_MSEC)

static void work(void *arg)            /* worker 0 */
{
	struct away *a = arg;

	a->status = a->run(a);
	atomic_store_explicit(&a->finished, 1, memory_order_release);
}

static esp_status show(struct away *a, esp_command_call *call)
{
	const char *step = atomic_load(&a->step), *unit = atomic_load(&a->unit);
	esp_progress p = { .size = sizeof p, .done = atomic_load(&a->done), .total = atomic_load(&a->total) };

	if (!ESP_HAS(call, progress) || !step)
		return ESP_OK;
	p.step = (esp_str){ step, strlen(step) };
	p.unit = (esp_str){ unit, unit ? strlen(unit) : 0 };
	if (p.total && p.done > p.total)
		p.done = p.total;
	return call->progress(call, &p);
}

static void attend(struct away *a, const esp_core *core, esp_command_call *call)
{
	esp_nsec look = LOOK_FIRST;
	int shielded = 0;

	while (!atomic_load_explicit(&a->finished, memory_order_acquire)) {
		esp_status st = core->fiber->sleep_until(core->loop->clock() + look);
		if (st == ESP_OK)
			st = show(a, call);
		if (st != ESP_OK)
			atomic_store(&a->cancel, 1);
		if (st != ESP_OK && !shielded) {   /* the work is still at it: wait for its end all the same */
			core->fiber->shield(1);
			shielded = 1;
		}
		look = look * 2 < LOOK_MOST ? look * 2 : LOOK_MOST;
	}
	if (shielded)
		core->fiber->shield(0);
}

esp_status away_run(
	struct away *a, const esp_core *core, esp_module *self, esp_command_call *call, const char *name)
{
	esp_status st = core->loop->post_fiber(self, core->loop->worker(0), name, work, a);

	if (st != ESP_OK)
		return st;
	attend(a, core, call);
	return a->status;
}
