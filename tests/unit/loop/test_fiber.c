/* tests/unit/loop/test_fiber.c - lives, cancellation, deadlines, tickets, locks. */
#include "tests/unit/loop/loop_test.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

static char order[64];
static void note(char c)
{
	size_t n = strlen(order);

	cr_assert_lt(n, sizeof(order) - 1);
	order[n] = c;
	order[n + 1] = 0;
}

static void child_b(void *arg)
{
	(void)arg;
	note('b');
}

static void spawns_later(void *arg)
{
	(void)arg;
	cr_assert_eq(fiber_spawn(NULL, 0, "b", child_b, NULL, NULL), ESP_OK);
	note('a');
	cr_assert_eq(fiber_yield(), ESP_OK);
	note('c');
}

Test(fiber, starts_a_spawned_fiber_only_after_the_spawner_gives_way)
{
	loop_test(spawns_later, NULL);
	cr_assert_str_eq(order, "abc");
}

static void joinable(void *arg)
{
	cr_assert_eq(fiber_sleep_until(clock_monotonic() + 5 * ESP_MSEC), ESP_OK);
	*(int *)arg = 42;
}

static void joins(void *arg)
{
	int result[3] = { 0 };
	struct fiber *f[3];
	int i;

	(void)arg;
	for (i = 0; i < 3; i++)
		cr_assert_eq(fiber_spawn(NULL, ESP_FIBER_JOINABLE, "child", joinable, &result[i], &f[i]), ESP_OK);
	for (i = 2; i >= 0; i--) {
		fiber_join(f[i]);
		cr_assert_eq(result[i], 42);
	}
	cr_assert_eq(fiber_live(), 1);
}

Test(fiber, joins_children_in_any_order_and_frees_them)
{
	loop_test(joins, NULL);
	cr_assert_eq(fiber_live(), 0);
}

static void join_is_shielded_body(void *arg)
{
	struct fiber *f;
	int result = 0;

	(void)arg;
	fiber_set_deadline(clock_monotonic() + ESP_MSEC);
	cr_assert_eq(fiber_spawn(NULL, ESP_FIBER_JOINABLE, "child", joinable, &result, &f), ESP_OK);
	fiber_cancel(fiber_self());
	fiber_join(f);
	cr_assert_eq(result, 42, "join returned before the child had ended");
	cr_assert_eq(fiber_yield(), ESP_ECANCELED);
}

Test(fiber, join_waits_for_the_child_in_spite_of_cancel_and_deadline)
{
	loop_test(join_is_shielded_body, NULL);
}

static esp_status sleeper_status;
static void sleeper(void *arg)
{
	(void)arg;
	errno = 77;
	sleeper_status = fiber_sleep_until(clock_monotonic() + 10 * ESP_SEC);
	cr_assert_eq(errno, 77);
}

static void cancels(void *arg)
{
	struct fiber *f;

	(void)arg;
	cr_assert_eq(fiber_spawn(NULL, ESP_FIBER_JOINABLE, "sleeper", sleeper, NULL, &f), ESP_OK);
	cr_assert_eq(fiber_yield(), ESP_OK);
	errno = 5;
	fiber_cancel(f);
	fiber_join(f);
	cr_assert_eq(sleeper_status, ESP_ECANCELED);
}

Test(fiber, a_cancelled_sleeper_returns_at_once_and_keeps_errno)
{
	esp_nsec start = clock_monotonic();

	loop_test(cancels, NULL);
	cr_assert_lt(clock_monotonic() - start, 5 * ESP_SEC);
}

static esp_ticket ticket;
static void waker(void *arg)
{
	(void)arg;
	fiber_wake(ticket);
	fiber_wake(ticket);
}

static void deadline_body(void *arg)
{
	esp_nsec start = clock_monotonic(), was;

	(void)arg;
	was = fiber_set_deadline(start + 20 * ESP_MSEC);
	cr_assert_eq(was, 0);
	cr_assert_eq(fiber_sleep_until(start + ESP_SEC), ESP_ETIMEDOUT);
	cr_assert_geq(clock_monotonic() - start, 20 * ESP_MSEC);
	cr_assert_eq(fiber_yield(), ESP_ETIMEDOUT, "after the deadline every suspension says so");
	cr_assert_eq(fiber_set_deadline(0), start + 20 * ESP_MSEC);
	cr_assert_eq(fiber_sleep_until(clock_monotonic() + 2 * ESP_MSEC), ESP_OK);
}

Test(fiber, a_deadline_ends_a_sleep_and_can_be_lifted) { loop_test(deadline_body, NULL); }

static void earlier_body(void *arg)
{
	esp_nsec start = clock_monotonic();

	(void)arg;
	fiber_set_deadline(start + 100 * ESP_SEC);
	ticket = fiber_ticket();
	cr_assert_eq(fiber_spawn(NULL, 0, "waker", waker, NULL, NULL), ESP_OK);
	cr_assert_eq(fiber_suspend(), ESP_OK); /* leaves its far deadline in the heap */
	cr_assert_eq(fiber_sleep_until(clock_monotonic() + 5 * ESP_MSEC), ESP_OK);
	cr_assert_lt(clock_monotonic() - start, 50 * ESP_SEC);
}

Test(fiber, a_near_wake_up_is_not_hidden_by_a_far_deadline, .timeout = 20) { loop_test(earlier_body, NULL); }

static void shield_body(void *arg)
{
	esp_nsec start = clock_monotonic();

	(void)arg;
	fiber_set_deadline(start + ESP_MSEC);
	fiber_cancel(fiber_self());
	fiber_shield(1);
	fiber_shield(1);
	fiber_shield(0);
	cr_assert_eq(fiber_sleep_until(start + 10 * ESP_MSEC), ESP_OK);
	cr_assert_geq(clock_monotonic() - start, 10 * ESP_MSEC);
	fiber_shield(0);
	cr_assert_eq(fiber_yield(), ESP_ECANCELED);
	cr_assert(fiber_canceled());
}

Test(fiber, a_shield_keeps_cancel_and_deadline_away_and_nests) { loop_test(shield_body, NULL); }

static void fd_body(void *arg)
{
	uint32_t events = 0;
	int p[2];

	(void)arg;
	cr_assert_eq(pipe(p), 0);
	cr_assert_eq(fiber_wait_fd(p[1], ESP_WRITE, &events), ESP_OK);
	cr_assert_eq(events, ESP_WRITE);
	fiber_set_deadline(clock_monotonic() + 5 * ESP_MSEC);
	cr_assert_eq(fiber_wait_fd(p[0], ESP_READ, &events), ESP_ETIMEDOUT);
	cr_assert_eq(events, 0);
	fiber_set_deadline(0);
	cr_assert_eq(write(p[1], "x", 1), 1);
	cr_assert_eq(fiber_wait_fd(p[0], ESP_READ, NULL), ESP_OK);
	cr_assert_eq(fiber_wait_fd(-1, ESP_READ, NULL), ESP_EINVAL);
	close(p[0]);
	close(p[1]);
}

Test(fiber, waits_for_a_descriptor_with_a_deadline) { loop_test(fd_body, NULL); }

static void fd_reuse_body(void *arg)
{
	int i, p[2];

	(void)arg;
	for (i = 0; i < 50; i++) { /* the same numbers again and again */
		cr_assert_eq(pipe(p), 0);
		cr_assert_eq(write(p[1], "x", 1), 1);
		fiber_set_deadline(clock_monotonic() + ESP_SEC);
		cr_assert_eq(fiber_wait_fd(p[0], ESP_READ, NULL), ESP_OK);
		close(p[0]);
		close(p[1]);
	}
}

Test(fiber, sees_readiness_of_a_reused_descriptor_number) { loop_test(fd_reuse_body, NULL); }

static void ticket_body(void *arg)
{
	esp_ticket old;

	(void)arg;
	ticket = fiber_ticket();
	fiber_wake(ticket); /* between ticket() and suspend() */
	cr_assert_eq(fiber_suspend(), ESP_OK);
	old = ticket;
	ticket = fiber_ticket();
	cr_assert_eq(fiber_spawn(NULL, 0, "waker", waker, NULL, NULL), ESP_OK);
	cr_assert_eq(fiber_suspend(), ESP_OK);
	fiber_wake(old);
	fiber_wake(ticket);
	fiber_wake((esp_ticket){ 0, 0 });
	fiber_wake((esp_ticket){ UINT64_MAX, 1 });
	fiber_set_deadline(clock_monotonic() + 5 * ESP_MSEC);
	cr_assert_eq(fiber_suspend(), ESP_ETIMEDOUT, "a late wake must not count");
	old = fiber_ticket(); /* its answer was seen without a suspension */
	ticket = fiber_ticket();
	fiber_wake(old);
	cr_assert_eq(fiber_suspend(), ESP_ETIMEDOUT, "a wake must not count for a newer ticket");
}

Test(fiber, a_wake_is_never_lost_and_never_counts_late) { loop_test(ticket_body, NULL); }

static esp_fmutex mutex;
static int inside, entered;
static void locker(void *arg)
{
	(void)arg;
	cr_assert_eq(fiber_lock(&mutex), ESP_OK);
	cr_assert_eq(inside++, 0);
	cr_assert_eq(fiber_yield(), ESP_OK);
	inside--;
	entered++;
	fiber_unlock(&mutex);
}

static void impatient(void *arg)
{
	(void)arg;
	fiber_set_deadline(clock_monotonic() + 3 * ESP_MSEC);
	cr_assert_eq(fiber_lock(&mutex), ESP_ETIMEDOUT);
	note('t');
}

static void lock_body(void *arg)
{
	int i;

	(void)arg;
	cr_assert_eq(fiber_lock(&mutex), ESP_OK);
	for (i = 0; i < 5; i++)
		cr_assert_eq(fiber_spawn(NULL, 0, "locker", locker, NULL, NULL), ESP_OK);
	cr_assert_eq(fiber_spawn(NULL, 0, "impatient", impatient, NULL, NULL), ESP_OK);
	cr_assert_eq(fiber_spawn(NULL, 0, "locker", locker, NULL, NULL), ESP_OK);
	cr_assert_eq(fiber_sleep_until(clock_monotonic() + 10 * ESP_MSEC), ESP_OK);
	cr_assert_eq(entered, 0);
	fiber_unlock(&mutex);
}

Test(fiber, a_lock_admits_one_at_a_time_and_a_timed_out_waiter_leaves_the_queue)
{
	loop_test(lock_body, NULL);
	cr_assert_eq(entered, 6);
	cr_assert_str_eq(order, "t");
}

static esp_fcond cond;
static void cond_waiter(void *arg)
{
	cr_assert_eq(fiber_wait(&cond), ESP_OK);
	note(*(char *)arg);
}

static void cond_body(void *arg)
{
	static char names[] = "123";
	int i;

	(void)arg;
	for (i = 0; i < 3; i++)
		cr_assert_eq(fiber_spawn(NULL, 0, "waiter", cond_waiter, &names[i], NULL), ESP_OK);
	cr_assert_eq(fiber_yield(), ESP_OK);
	fiber_signal(&cond);
	cr_assert_eq(fiber_yield(), ESP_OK);
	cr_assert_str_eq(order, "1");
	fiber_broadcast(&cond);
	fiber_signal(&cond);
}

Test(fiber, signal_wakes_the_first_waiter_and_broadcast_all)
{
	loop_test(cond_body, NULL);
	cr_assert_str_eq(order, "123");
}

static void canceled_waits(void *arg)
{
	(void)arg;
	fiber_cancel(fiber_self());
	cr_assert_eq(fiber_wait(&cond), ESP_ECANCELED);
	cr_assert_eq(fiber_wait_fd(0, ESP_READ, NULL), ESP_ECANCELED);
	cr_assert_eq(fiber_suspend(), ESP_ECANCELED);
	fiber_broadcast(&cond); /* nobody may be left in the queue */
	cr_assert_eq(fiber_sleep_until(clock_monotonic() + ESP_SEC), ESP_ECANCELED);
}

Test(fiber, every_suspension_of_a_cancelled_fiber_returns_at_once) { loop_test(canceled_waits, NULL); }

static struct owner held_owner;
static void release(void *arg)
{
	note(*(char *)arg);
	cr_assert_eq(owner_count(&held_owner, OWNER_FIBER), 1, "the owner is counted until all holds are gone");
	cr_assert_null(fiber_self(), "holds are released on the scheduler's stack");
}

static void holds_body(void *arg)
{
	static char names[] = "xyz";
	int i;

	(void)arg;
	for (i = 0; i < 3; i++)
		cr_assert_eq(fiber_hold(fiber_self(), release, &names[i]), ESP_OK);
	for (; i < FIBER_HOLDS; i++)
		cr_assert_eq(fiber_hold(fiber_self(), release, &names[0]), ESP_OK);
	cr_assert_eq(fiber_hold(fiber_self(), release, NULL), ESP_EBUSY);
	fiber_self()->nholds = 3;
	note('f');
}

Test(fiber, releases_holds_newest_first_after_the_function_returned)
{
	owner_init(&held_owner, "module#1");
	loop_test_init(0);
	cr_assert_eq(fiber_spawn(&held_owner, 0, "holder", holds_body, NULL, NULL), ESP_OK);
	cr_assert_eq(owner_total(&held_owner), 1);
	worker_turn(loop_control(), 0);
	cr_assert_str_eq(order, "fzyx");
	cr_assert_eq(owner_total(&held_owner), 0);
	owner_fini(&held_owner);
	loop_free();
}

static int pinned;
static void *pin(struct worker *w, void *inherit)
{
	(void)w;
	pinned++;
	return inherit ? inherit : &pinned;
}
static void unpin(struct worker *w, void *snapshot)
{
	(void)w;
	cr_assert_eq(snapshot, &pinned);
	pinned--;
}
static void snapshot_child(void *arg)
{
	(void)arg;
	cr_assert_eq(fiber_self()->snapshot, &pinned);
	cr_assert_eq(pinned, 2);
}
static void snapshot_body(void *arg)
{
	struct fiber *f;

	(void)arg;
	cr_assert_eq(pinned, 1);
	cr_assert_eq(fiber_spawn(NULL, ESP_FIBER_JOINABLE, "child", snapshot_child, NULL, &f), ESP_OK);
	fiber_join(f);
	cr_assert_eq(pinned, 1);
}

Test(fiber, inherits_and_releases_its_snapshot)
{
	fiber_set_hooks(&(struct fiber_hooks){ pin, unpin });
	loop_test(snapshot_body, NULL);
	cr_assert_eq(pinned, 0);
}

static void big_body(void *arg)
{
	(void)arg;
	cr_assert_eq(fiber_self()->ctx.size, (size_t)512 << 10);
}

Test(fiber, gives_big_stacks_to_those_who_ask)
{
	loop_test_init(0);
	cr_assert_eq(fiber_spawn(NULL, ESP_FIBER_BIG, "big", big_body, NULL, NULL), ESP_OK);
	worker_turn(loop_control(), 0);
	cr_assert_eq(fiber_live(), 0);
	loop_free();
}

static void nothing(void *arg)
{
	(void)arg;
}

Test(fiber, refuses_above_the_cap_and_keeps_a_tenth_for_children)
{
	struct worker *w;
	int i;

	loop_test_init(0);
	w = loop_control();
	fiber_set_cap(20);
	w->kind = WORKER_MAIL; /* as a session's loop */
	for (i = 0; i < 18; i++)
		cr_assert_eq(fiber_spawn(NULL, 0, "session", nothing, NULL, NULL), ESP_OK);
	cr_assert_eq(fiber_spawn(NULL, 0, "session", nothing, NULL, NULL), ESP_EBUSY);
	cr_assert_eq(fiber_spawn(NULL, FIBER_RESERVED, "view", nothing, NULL, NULL), ESP_OK);
	cr_assert_eq(fiber_spawn(NULL, FIBER_RESERVED, "view", nothing, NULL, NULL), ESP_OK);
	cr_assert_eq(fiber_spawn(NULL, FIBER_RESERVED, "view", nothing, NULL, NULL), ESP_EBUSY);
	w->kind = WORKER_CONTROL;
	worker_turn(w, 0);
	cr_assert_eq(fiber_live(), 0);
	loop_free();
}

static void sleeps_long(void *arg)
{
	(void)arg;
	while (fiber_sleep_until(clock_monotonic() + ESP_SEC) == ESP_OK)
		;
}

Test(fiber, two_thousand_at_once_all_end_when_cancelled)
{
	struct worker *w;
	uint32_t i, n = 2000;

	loop_test_init(0);
	w = loop_control();
	for (i = 0; i < n; i++)
		cr_assert_eq(fiber_spawn(NULL, 0, "many", sleeps_long, NULL, NULL), ESP_OK);
	for (i = 0; i < 10; i++)
		worker_turn(w, 0);
	cr_assert_eq(fiber_live(), n);
	worker_stop(w, clock_monotonic() + 5 * ESP_SEC);
	worker_run(w);
	cr_assert_eq(fiber_live(), 0);
	loop_free();
}
