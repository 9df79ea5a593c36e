/* sweep - what time removes: held messages and traces whose time is over, in bounded steps.
 *
 * Thread: one fiber of worker 0.
 */
#include "accept.h"
#include "modules/common/breathe.h"

static void sweeper(void *arg)
{
	struct accept *a = arg;
	esp_arena *arena = a->core.mem->arena_new(a->self, "expiry", 0);
	esp_status st = arena ? ESP_OK : ESP_ENOMEM;

	while (st != ESP_ECANCELED && st != ESP_ENOMEM && !a->draining) {
		esp_nsec pause = a->keep ? quarantine_expire(a, arena) : SWEEP_EVERY, traces;

		a->core.mem->arena_reset(arena);
		traces = record_expire(a, arena);
		a->core.mem->arena_reset(arena);
		st = breathe_wait(&a->core, &a->wake, traces < pause ? traces : pause, &a->draining);
	}
	if (arena)
		a->core.mem->arena_free(arena);
}

esp_status sweep_start(struct accept *a)
{
	return a->core.fiber->spawn(a->self, 0, "expiry", sweeper, a, NULL);
}

void sweep_drain(struct accept *a)
{
	a->draining = 1;
	a->core.fiber->signal(&a->wake);
}
