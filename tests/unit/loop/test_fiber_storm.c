/* tests/unit/loop/test_fiber_storm.c - everything at once, at random, on several workers; what must hold is counted. */
#include "tests/unit/loop/loop_test.h"

#include "core/loop/stack.h"

#include <unistd.h>

#define SHARED 8

struct arena_of_one { esp_fmutex mutex; esp_fcond cond; int holders; };
static _Thread_local struct arena_of_one locks[SHARED]; /* one set per worker thread */
static struct owner storm_owner;
static atomic_uint lives, bad, locked, timed_out, canceled;

static unsigned next_random(unsigned *seed)
{
	*seed = *seed * 1103515245u + 12345u;
	return *seed >> 16;
}

static void count(esp_status st)
{
	if (st == ESP_ETIMEDOUT)
		atomic_fetch_add(&timed_out, 1);
	else if (st == ESP_ECANCELED)
		atomic_fetch_add(&canceled, 1);
	else if (st != ESP_OK)
		atomic_fetch_add(&bad, 1);
}

static void use_lock(unsigned *seed)
{
	struct arena_of_one *l = &locks[next_random(seed) % SHARED];
	esp_status st = fiber_lock(&l->mutex);

	count(st);
	if (st != ESP_OK)
		return;
	if (l->holders++ != 0)
		atomic_fetch_add(&bad, 1);
	atomic_fetch_add(&locked, 1);
	count(fiber_yield());
	if (--l->holders != 0)
		atomic_fetch_add(&bad, 1);
	fiber_signal(&l->cond);
	fiber_unlock(&l->mutex);
}

static int32_t job(void *arg)
{
	return *(int32_t *)arg + 1;
}

static void use_pool(unsigned *seed)
{
	int32_t n = (int32_t)next_random(seed), ret = 0;
	esp_status st = lane_run(pool_shared("misc"), &storm_owner, job, &n, &ret);

	if (st == ESP_EBUSY)
		return;
	count(st);
	if (st == ESP_OK && ret != n + 1)
		atomic_fetch_add(&bad, 1);
}

static void leaf(void *arg)
{
	unsigned seed = (unsigned)(uintptr_t)arg;

	atomic_fetch_add(&lives, 1);
	fiber_set_deadline(clock_monotonic() + next_random(&seed) % 2000 * ESP_USEC);
	count(fiber_sleep_until(clock_monotonic() + next_random(&seed) % 2000 * ESP_USEC));
	use_lock(&seed);
}

static void use_child(unsigned *seed)
{
	struct fiber *f;

	if (fiber_spawn(&storm_owner, ESP_FIBER_JOINABLE, "leaf", leaf, (void *)(uintptr_t)next_random(seed), &f) != ESP_OK)
		return;
	if (next_random(seed) % 2)
		count(fiber_yield());
	if (next_random(seed) % 3 == 0)
		fiber_cancel(f);
	fiber_join(f);
}

static void use_cond(unsigned *seed)
{
	fiber_set_deadline(clock_monotonic() + ESP_MSEC);
	count(fiber_wait(&locks[next_random(seed) % SHARED].cond));
	fiber_set_deadline(0);
}

static void trunk(void *arg)
{
	unsigned seed = (unsigned)(uintptr_t)arg;
	int i;

	atomic_fetch_add(&lives, 1);
	for (i = 0; i < 12 && !fiber_canceled(); i++) {
		switch (next_random(&seed) % 6) {
		case 0: use_lock(&seed); break;
		case 1: use_pool(&seed); break;
		case 2: use_child(&seed); break;
		case 3: use_cond(&seed); break;
		case 4: fiber_shield(1); count(fiber_yield()); fiber_shield(0); break;
		default: count(fiber_sleep_until(clock_monotonic() + next_random(&seed) % 500 * ESP_USEC));
		}
	}
}

Test(fiber_storm, locks_exclude_joins_return_and_nothing_is_left_behind, .timeout = 120)
{
	int i, n = STORM(8000);
	uint32_t k;

	owner_init(&storm_owner, "storm#1");
	loop_test_init(3);
	for (i = 0; i < n; i++)
		while (worker_post_fiber(loop_worker((uint32_t)i % 3), &storm_owner, "trunk", trunk, (void *)(uintptr_t)i) ==
			   ESP_EBUSY)
			usleep(100);
	while (owner_total(&storm_owner)) {
		worker_turn(loop_control(), 0);
		usleep(1000);
	}
	cr_assert_eq(atomic_load(&bad), 0);
	cr_assert_geq(atomic_load(&lives), (unsigned)n);
	cr_assert_gt(atomic_load(&locked), 0);
	cr_assert_gt(atomic_load(&timed_out), 0);
	cr_assert_gt(atomic_load(&canceled), 0);
	for (k = 0; k < 3; k++)
		cr_assert_eq(loop_worker(k)->nfibers, 0);
	loop_test_end();
	cr_assert_eq(fiber_live(), 0);
	owner_fini(&storm_owner);
}

Test(fiber_storm, a_sudden_end_cancels_everything_and_every_fiber_leaves, .timeout = 120)
{
	int i, n = STORM(3000);

	owner_init(&storm_owner, "storm#2");
	loop_test_init(3);
	for (i = 0; i < n; i++)
		if (worker_post_fiber(loop_worker((uint32_t)i % 3), &storm_owner, "trunk", trunk, (void *)(uintptr_t)i) !=
			ESP_OK)
			break;
	usleep(5000);
	loop_test_end();
	cr_assert_eq(fiber_live(), 0);
	cr_assert_eq(owner_total(&storm_owner), 0);
	cr_assert_eq(atomic_load(&bad), 0);
}

static void deep_once(void *arg)
{
	volatile char frame[4000];

	frame[0] = frame[3999] = *(char *)arg;
}

Test(fiber_storm, trimmed_stacks_live_again)
{
	static char c = 'x';
	struct worker *w;
	int i, round;

	loop_test_init(0);
	w = loop_control();
	for (round = 0; round < 3; round++) {
		for (i = 0; i < 200; i++)
			cr_assert_eq(fiber_spawn(NULL, 0, "deep", deep_once, &c, NULL), ESP_OK);
		while (w->nfibers)
			worker_turn(w, 0);
		cr_assert_eq(stack_trim(w->stacks, INT64_MAX), 200);
		cr_assert_eq(stack_trim(w->stacks, INT64_MAX), 0);
	}
	loop_free();
}
