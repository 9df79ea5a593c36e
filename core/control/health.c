/* core/control/health.c - see health.h. */
#include "core/control/health.h"

#include "core/control/server-priv.h"
#include "core/loop/loop.h"
#include "core/module/modules.h"

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
