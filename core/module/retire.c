/* core/module/retire.c - the end of generations that no new work sees: drain, wait, cancel, stop, unmap.
 *
 * Each has a fiber of its own on the control loop, so they end independently and in their own time.
 */
#include <string.h>

#include "core/base/assert.h"
#include "core/base/clock.h"
#include "core/base/memory.h"
#include "core/bus/event.h"
#include "core/bus/log.h"
#include "core/loop/loop.h"
#include "core/loop/pool.h"
#include "core/module/loops.h"
#include "core/module/modules-priv.h"

#define REMIND (60 * ESP_SEC)
#define STEP   (3 * ESP_SEC)            /* worker_stop() or stop() that takes longer is named */

void generation_left(struct generation *g)
{
	struct generation *next = snapshot_find(g->modules->current, g->name);

	if (!next || next->number <= g->number || next->inherited || generation_is_exclusive(g))
		return;         /* while g itself is being started, its predecessor is in force */
	next->inherited = g->left;
	next->inherited_len = g->left_len;
	next->inherited_version = g->left_version;
	g->left = NULL;
}

static bool unreferenced(const struct generation *g)
{
	return g->snapshots == 0;
}

/* What can be stopped: an exclusive generation is not pinned by snapshots, only its memory is. */
static bool done(const struct generation *g)
{
	return (g->snapshots == 0 || generation_is_exclusive(g)) && generation_idle(g);
}

static void say(const struct generation *g, const char *text)
{
	char counts[160];

	owner_describe(&g->core.owner, counts, sizeof counts);
	log_line(ESP_LOG_WARNING, g->name, text, ESP_FINT("generation", (int64_t)g->number), log_cstr("counts", counts),
	         ESP_FINT("snapshots", g->snapshots), log_cstr("step", g->step ? g->step : "none"),
	         ESP_FNSEC("since", g->step ? clock_monotonic() - g->step_since : 0));
}

/* A parked session that nobody would take over: it is told to leave in its protocol's words. */
static int on_goodbye(struct generation *g, struct worker *w, esp_err *said)
{
	(void)w;
	(void)said;
	sessions_say_goodbye(g);
	return ESP_OK;
}

static void force(struct generation *g)
{
	esp_nsec remind = clock_monotonic() + REMIND;

	say(g, "has not drained by its deadline: its fibers are cancelled, its sessions are told to leave");
	generation_name_left(g);
	(void)loops_run(g, LOOPS_MAIL, "goodbye", on_goodbye, 0);   /* fiber-ok: without memory they are cut below */
	generation_cancel(g, 0);
	for (;;) {
		esp_nsec soon = clock_monotonic() + ESP_SEC;

		if (generation_wait(done, g, &soon))
			break;
		generation_cancel(g, 0);
		if (clock_monotonic() >= remind) {
			say(g, "still does not end and stays mapped");
			generation_name_left(g);
			remind = clock_monotonic() + REMIND;
		}
	}
}

static void on_trim_end(void *arg)
{
	(void)arg;
	memory_trim_end();
}

static void on_trim(void *arg)
{
	struct worker *w;

	(void)arg;
	memory_trim();
	for (uint32_t i = 0; (w = loop_by_number(i)); i++)
		if (worker_post(w, NULL, on_trim_end, NULL) != ESP_OK)
			return;               /* they are busy: after the next reload */
}

/* What the last of the old generations held goes back to the system, and not into what the next ones leave unused. */
static void give_back(const struct modules *m)
{
	if (m->stopping || !list_empty(&m->draining))
		return;
	if (lane_submit(pool_shared("misc"), NULL, on_trim, NULL) != ESP_OK)
		log_line(ESP_LOG_DEBUG, "core/module", "memory is given back after the next reload: the lane is full");
}

/* What it did not free stays counted for ever, and with it the image. */
static void stop(struct generation *g)
{
	esp_nsec remind = 0;

	for (;;) {
		esp_nsec now = clock_monotonic();
		struct ending e = { .work = now + ESP_SEC, .step = STEP, .last = now + ESP_SEC + STEP };

		if (generation_stop(g, &e))
			return;
		if (clock_monotonic() < remind)
			continue;
		say(g, "does not stop and stays mapped");
		generation_name_left(g);
		remind = clock_monotonic() + REMIND;
	}
}

static int on_nothing(struct generation *g, struct worker *w, esp_err *said)
{
	(void)g;
	(void)w;
	(void)said;
	return ESP_OK;
}

static void on_retire(void *arg)
{
	struct generation *g = arg;
	struct modules *m = g->modules;

	snapshot_unpin(snapshot_enter(NULL));   /* it would wait for itself */
	fiber_shield(1);
	if (g->state == GEN_ACTIVE)
		(void)generation_drain(g, g->drain_until, g->drain_until);   /* fiber-ok: what hangs is work, too */
	if (g->state > GEN_NEW && g->state < GEN_STOPPED && !g->kept && !generation_wait(done, g, &g->drain_until))
		force(g);
	if (g->state > GEN_NEW || g->kept)
		stop(g);
	else
		(void)loops_run(g, LOOPS_ALL, "end", on_nothing, 0);   /* fiber-ok: the watchdog has read its name */
	(void)generation_wait(unreferenced, g, NULL);   /* fiber-ok: without a deadline it is so */
	if (m->current && g->state == GEN_STOPPED)
		log_line(ESP_LOG_DEBUG, g->name, "generation ended", ESP_FINT("generation", (int64_t)g->number));
	list_remove(&g->link);
	generation_free(g);
	modules_count(m);
	give_back(m);
}

void generation_retire(struct generation *g)
{
	list_append(&g->modules->draining, &g->link);
	g->drain_until = clock_monotonic() + g->drain_time;
	if (fiber_spawn(NULL, FIBER_RESERVED, "retire", on_retire, g, NULL) != ESP_OK)
		say(g, "no fiber is free: stays mapped");
}
