/* tests/unit/loop/test_pool.c - lanes: outcome, bounds, abandoning, counting, order. */
#include "tests/unit/loop/loop_test.h"

#include <unistd.h>

static struct module_core module;
static atomic_int ran, began;

static int32_t doubled(void *arg)
{
	cr_assert_null(worker_here(), "jobs run on lane threads");
	atomic_fetch_add(&ran, 1);
	return *(int *)arg * 2;
}

static int32_t slow(void *arg)
{
	atomic_fetch_add(&began, 1);
	usleep((useconds_t)(uintptr_t)arg);
	atomic_fetch_add(&ran, 1);
	return 7;
}

static void runs(void *arg)
{
	esp_lane *l = loop_pool_api.lane("sync");
	int n = 21;
	int32_t ret = 0;

	(void)arg;
	cr_assert_not_null(l);
	cr_assert_null(loop_pool_api.lane("other"));
	cr_assert_eq(loop_pool_api.run(&module.pub, l, doubled, &n, &ret), ESP_OK);
	cr_assert_eq(ret, 42);
	cr_assert_eq(owner_count(&module.owner, OWNER_JOB), 0);
}

Test(pool, runs_a_job_elsewhere_and_returns_what_it_returned)
{
	owner_init(&module.owner, "x#1");
	loop_test(runs, NULL);
}

static void shielded(void *arg)
{
	struct lane *l = arg;
	int32_t ret = 0;

	fiber_set_deadline(clock_monotonic() + 300 * ESP_MSEC); /* begins before, ends after it */
	cr_assert_eq(lane_run(l, NULL, slow, (void *)(uintptr_t)500000, &ret), ESP_OK, "its outcome must be known");
	cr_assert_eq(ret, 7);
	cr_assert_eq(fiber_yield(), ESP_ETIMEDOUT);
}

static void abandoned(void *arg)
{
	struct lane *l = arg;

	fiber_set_deadline(clock_monotonic() + 10 * ESP_MSEC);
	cr_assert_eq(lane_run(l, &module.owner, slow, (void *)0, NULL), ESP_ETIMEDOUT);
	cr_assert_eq(owner_count(&module.owner, OWNER_JOB), 0);
}

static void busy_lane(void *arg)
{
	struct lane *l = lane_open(NULL, "one", 1, 1);
	struct fiber *f, *g;

	(void)arg;
	cr_assert_not_null(l);
	cr_assert_eq(fiber_spawn(NULL, ESP_FIBER_JOINABLE, "running", shielded, l, &f), ESP_OK);
	while (!atomic_load(&began))
		cr_assert_eq(fiber_yield(), ESP_OK);
	cr_assert_eq(fiber_spawn(NULL, ESP_FIBER_JOINABLE, "queued", abandoned, l, &g), ESP_OK);
	cr_assert_eq(fiber_yield(), ESP_OK);
	cr_assert_eq(lane_run(l, &module.owner, slow, NULL, NULL), ESP_EBUSY, "one may wait, not two");
	fiber_join(g);
	fiber_join(f);
	lane_close(l);
	cr_assert_eq(atomic_load(&ran), 1, "an abandoned job never runs");
}

Test(pool, waits_for_a_running_job_and_abandons_a_queued_one)
{
	owner_init(&module.owner, "x#1");
	loop_test(busy_lane, NULL);
	cr_assert_eq(owner_total(&module.owner), 0);
}

static unsigned last;
static void ordered(void *arg)
{
	unsigned n = (unsigned)(uintptr_t)arg;

	cr_assert_eq(n, last + 1);
	last = n;
}

Test(pool, a_lane_of_width_one_keeps_the_order)
{
	struct lane *l;
	unsigned i;

	owner_init(&module.owner, "x#1");
	loop_test_init(0);
	l = lane_open(&module.owner, "ordered", 1, 1000);
	for (i = 1; i <= 500; i++)
		cr_assert_eq(lane_submit(l, &module.owner, ordered, (void *)(uintptr_t)i), ESP_OK);
	lane_close_owned(&module.owner);
	loop_free();
	cr_assert_eq(last, 500, "closing a lane runs what was queued");
	cr_assert_eq(owner_total(&module.owner), 0);
}

Test(pool, refuses_silly_lanes)
{
	loop_test_init(0);
	cr_assert_null(loop_pool_api.open(NULL, "x", 0, 10));
	cr_assert_null(loop_pool_api.open(NULL, "x", 65, 10));
	cr_assert_null(loop_pool_api.open(NULL, "x", 1, 0));
	loop_free();
}

static void storm_one(void *arg)
{
	struct lane *l = pool_shared("misc");
	unsigned seed = (unsigned)(uintptr_t)arg;
	int i;

	for (i = 0; i < 20; i++) {
		esp_status st;
		int32_t ret = 0;

		seed = seed * 1103515245u + 12345u;
		fiber_set_deadline(clock_monotonic() + (seed >> 16) % 3000 * ESP_USEC);
		st = lane_run(l, &module.owner, slow, (void *)(uintptr_t)((seed >> 20) % 300), &ret);
		cr_assert(st == ESP_ETIMEDOUT || (st == ESP_OK && ret == 7), "%d", st);
		fiber_set_deadline(0);
	}
}

Test(pool, a_storm_of_jobs_with_short_deadlines_leaves_nothing_behind)
{
	int i;

	owner_init(&module.owner, "x#1");
	loop_test_init(2);
	for (i = 0; i < STORM(400); i++)
		cr_assert_eq(worker_post_fiber(loop_worker((uint32_t)i % 2), &module.owner, "storm", storm_one,
		                               (void *)(uintptr_t)i), ESP_OK);
	while (owner_total(&module.owner)) {
		worker_turn(loop_control(), 0);
		usleep(1000);
	}
	loop_test_end();
}

/* --- a job that hangs ------------------------------------------------------------------------------------------- */

static struct loop_stall stalled[2];
static int told[2];

static void on_stall(const struct loop_stall *s)
{
	if (s->worker)
		return;              /* it is watched as closely as that here, and the machine is busy */
	stalled[s->over] = *s;
	told[s->over]++;
}

static void hang(void *arg)
{
	(void)arg;
	usleep(400000);
}

Test(pool, the_watchdog_names_the_lane_and_the_module_whose_job_hangs)
{
	loop_on_stall(on_stall);
	owner_init(&module.owner, "x#1");
	loop_test_init_stall(1, ESP_MSEC);            /* a job may take 200 times as long */
	cr_assert_eq(lane_submit(pool_shared("sync"), &module.owner, hang, NULL), ESP_OK);
	while (!told[1])
		worker_turn(loop_control(), 1);
	cr_assert_eq(told[0], 1, "told of %d times", told[0]);
	cr_assert_eq(told[1], 1);
	for (int over = 0; over < 2; over++) {
		cr_assert_str_eq(stalled[over].name, "sync");
		cr_assert_str_eq(stalled[over].module, "x#1");
		cr_assert_geq(stalled[over].nsec, over ? 390 * ESP_MSEC : 200 * ESP_MSEC);
	}
	loop_test_end();
}
