/* core/control/health.c - see health.h. */
#include "core/control/health.h"

#include <stdatomic.h>

#include "core/base/clock.h"
#include "core/control/server-priv.h"
#include "core/loop/loop.h"
#include "core/module/modules.h"

/* What other threads are told.  Older than that, the control thread itself does not move. */
#define STALE (10 * ESP_SEC)
static struct { _Atomic esp_nsec at; atomic_bool live, ready; } published;

const char *health_state_name(enum health_state s)
{
	static const char *const names[] = { "starting", "serving", "stopping" };

	return names[s];
}

void health_get(const struct server *s, struct health *ret)
{
	*ret = (struct health){ .state = s->state, .workers = loop_workers(), .stalls = loop_stalls() };
	for (uint32_t i = 0; loop_by_number(i) != NULL; i++)
		ret->stalled += server_worker_stuck(s, i);
	ret->live = ret->stalled == 0;
	ret->ready = ret->live && s->state == HEALTH_SERVING && modules_down(s->modules, NULL, NULL) == 0;
}

void health_publish(const struct server *s)
{
	struct health h;

	health_get(s, &h);
	atomic_store(&published.live, h.live);
	atomic_store(&published.ready, h.ready);
	atomic_store(&published.at, clock_monotonic());
}

/* --- esp.health/1 --------------------------------------------------------------------------------------------- */

static bool is_fresh(void)
{
	return clock_monotonic() - atomic_load(&published.at) < STALE;
}

static int32_t live(void)
{
	return atomic_load(&published.live) && is_fresh();
}

static int32_t ready(void)
{
	return atomic_load(&published.ready) && is_fresh();
}

const esp_health_api health_api = { .size = sizeof(health_api), .live = live, .ready = ready };
