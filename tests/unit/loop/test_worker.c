/* tests/unit/loop/test_worker.c - messages between threads, timers, watchers, owners, orderly end, watchdog. */
#include "tests/unit/loop/loop_test.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static atomic_uint hits;

static void hit(void *arg)
{
	cr_assert_eq(worker_here(), arg);
	cr_assert_null(fiber_self());
	atomic_fetch_add(&hits, 1);
}

static void wait_hits(unsigned n)
{
	esp_nsec until = clock_monotonic() + 20 * ESP_SEC;

	while (atomic_load(&hits) < n) {
		cr_assert_lt(clock_monotonic(), until, "only %u of %u", atomic_load(&hits), n);
		worker_turn(loop_control(), 0);
		usleep(200);
	}
}

Test(worker, runs_posts_on_its_own_thread)
{
	uint32_t i;

	loop_test_init(3);
	cr_assert_eq(loop_workers(), 3);
	for (i = 0; i < 3; i++)
		cr_assert_eq(worker_post(loop_worker(i), NULL, hit, loop_worker(i)), ESP_OK);
	cr_assert_eq(worker_post(loop_observer(), NULL, hit, loop_observer()), ESP_OK);
	cr_assert_eq(worker_post(loop_control(), NULL, hit, loop_control()), ESP_OK);
	wait_hits(5);
	cr_assert_null(loop_worker(3));
	loop_test_end();
}

static unsigned next_expected;
static void in_order(void *arg)
{
	cr_assert_eq((unsigned)(uintptr_t)arg, next_expected);
	next_expected++;
	atomic_fetch_add(&hits, 1);
}

Test(worker, keeps_the_order_of_one_sender_and_says_busy_when_full)
{
	unsigned i = 0, refused = 0, n = 20000;
	struct owner o;

	owner_init(&o, "sender#1");
	loop_test_init(1);
	while (i < n) {
		if (worker_post(loop_worker(0), &o, in_order, (void *)(uintptr_t)i) == ESP_OK)
			i++;
		else
			refused++;
		if (refused > 1000000)
			usleep(1);
	}
	wait_hits(n);
	loop_test_end();
	cr_assert_eq(owner_total(&o), 0);
}

Test(worker, a_full_mailbox_refuses_without_counting)
{
	struct loop_config c = { .workers = 1, .no_observer = 1, .mailbox = 16 };
	esp_err err = ESP_ERR_INIT;
	struct owner o;
	int i;

	owner_init(&o, "sender#1");
	cr_assert_eq(loop_init(&c, &err), ESP_OK);
	for (i = 0; i < 16; i++)
		cr_assert_eq(worker_post(loop_control(), &o, hit, loop_control()), ESP_OK);
	cr_assert_eq(worker_post(loop_control(), &o, hit, loop_control()), ESP_EBUSY);
	cr_assert_eq(owner_count(&o, OWNER_POST), 16);
	wait_hits(16);
	cr_assert_eq(owner_total(&o), 0);
	loop_free();
}

static void named(void *arg)
{
	(void)arg;
	cr_assert_not_null(fiber_self());
	cr_assert_str_eq(fiber_self()->name, "posted");
	cr_assert_eq(fiber_sleep_until(clock_monotonic() + ESP_MSEC), ESP_OK);
	atomic_fetch_add(&hits, 1);
}

Test(worker, posted_fibers_wait_for_a_place_when_the_cap_is_reached)
{
	struct owner o;
	int i;

	owner_init(&o, "poster#1");
	loop_test_init(2);
	fiber_set_cap(10);
	for (i = 0; i < 200; i++)
		cr_assert_eq(worker_post_fiber(loop_worker((uint32_t)i % 2), &o, "posted", named, NULL), ESP_OK);
	wait_hits(200);
	loop_test_end();
	cr_assert_eq(owner_total(&o), 0);
}

/* Two fibers of different workers hand a ticket to each other. */
struct rally { esp_ticket ticket[2]; atomic_int ready[2]; int rounds; };
static struct rally rally;
static void player(void *arg)
{
	int me = (int)(uintptr_t)arg, i;

	for (i = 0; i < rally.rounds; i++) {
		rally.ticket[me] = fiber_ticket();
		atomic_store(&rally.ready[me], i + 1);
		while (atomic_load(&rally.ready[!me]) < i + 1)
			cr_assert_eq(fiber_yield(), ESP_OK);
		fiber_wake(rally.ticket[!me]);
		cr_assert_eq(fiber_suspend(), ESP_OK);
	}
	atomic_fetch_add(&hits, 1);
}

Test(worker, wakes_cross_threads_without_loss)
{
	rally.rounds = STORM(5000);
	loop_test_init(2);
	cr_assert_eq(worker_post_fiber(loop_worker(0), NULL, "posted", player, (void *)0), ESP_OK);
	cr_assert_eq(worker_post_fiber(loop_worker(1), NULL, "posted", player, (void *)1), ESP_OK);
	wait_hits(2);
	loop_test_end();
}

struct fired { struct timer t; char c; };
static char order[16];
static void on_fire(struct timer *t)
{
	size_t n = strlen(order);

	order[n] = container_of(t, struct fired, t)->c;
	order[n + 1] = 0;
}

Test(worker, timers_fire_in_the_order_of_their_times_and_can_be_moved_and_stopped)
{
	struct fired t[5] = { { .c = 'a' }, { .c = 'b' }, { .c = 'c' }, { .c = 'd' }, { .c = 'e' } };
	esp_nsec start = clock_monotonic();
	int i;

	loop_test_init(0);
	for (i = 0; i < 5; i++)
		cr_assert_eq(timer_start(&t[i].t, NULL, "test", (5 - i) * 2 * ESP_MSEC, on_fire), ESP_OK);
	timer_stop(&t[2].t);
	timer_stop(&t[2].t);
	cr_assert_eq(timer_start(&t[4].t, NULL, "test", 30 * ESP_MSEC, on_fire), ESP_OK);
	while (strlen(order) < 4)
		worker_turn(loop_control(), 1);
	cr_assert_str_eq(order, "dbae");
	cr_assert_geq(clock_monotonic() - start, 30 * ESP_MSEC);
	cr_assert_not(timer_active(&t[4].t));
	loop_free();
}

static struct module_core module;
static int fired;

static void on_after(void *arg)
{
	(void)arg;
	fired++;
	cr_assert_eq(owner_count(&module.owner, OWNER_TIMER), 1, "counted until the callback has returned");
}

static void on_ready(void *arg, uint32_t events)
{
	esp_watch **w = arg;

	fired++;
	cr_assert(events & ESP_WRITE);
	loop_loop_api.unwatch(*w);
	cr_assert_eq(owner_count(&module.owner, OWNER_WATCH), 1, "counted until the callback has returned");
}

Test(worker, counts_a_modules_timers_and_watchers_until_their_callbacks_returned)
{
	esp_timer *t;
	esp_watch *w;
	int p[2];

	owner_init(&module.owner, "x#1");
	loop_test_init(0);
	cr_assert_not_null(loop_loop_api.after(&module.pub, ESP_MSEC, on_after, NULL));
	t = loop_loop_api.after(&module.pub, ESP_MSEC, on_after, NULL);
	loop_loop_api.untimer(t);
	cr_assert_eq(pipe(p), 0);
	w = loop_loop_api.watch(&module.pub, p[1], ESP_WRITE, on_ready, &w);
	cr_assert_not_null(w);
	while (owner_total(&module.owner))
		worker_turn(loop_control(), 1);
	cr_assert_eq(fired, 2);
	loop_free();
}

static void leaks(void *arg)
{
	int *p = arg;

	cr_assert_not_null(loop_loop_api.after(&module.pub, 100 * ESP_SEC, on_after, NULL));
	cr_assert_not_null(loop_loop_api.watch(&module.pub, p[0], ESP_READ, on_ready, NULL));
	cr_assert_eq(fiber_sleep_until(clock_monotonic() + 100 * ESP_SEC), ESP_ECANCELED);
}

static char listed[256];
static void list_item(const struct owned_item *i, void *arg)
{
	size_t n = strlen(listed);

	(void)arg;
	snprintf(listed + n, sizeof(listed) - n, "%s %s; ", owner_kind_name(i->kind), i->label);
}

Test(worker, lists_and_closes_what_an_owner_left_behind)
{
	char text[64];
	uint32_t fibers;
	int p[2];

	owner_init(&module.owner, "leaky#1");
	loop_test_init(0);
	cr_assert_eq(pipe(p), 0);
	cr_assert_eq(fiber_spawn(&module.owner, 0, "forgetful", leaks, p, NULL), ESP_OK);
	worker_turn(loop_control(), 0);
	owner_describe(&module.owner, text, sizeof(text));
	cr_assert_str_eq(text, "1 fiber, 1 timer, 1 watcher");
	worker_each_owned(loop_control(), &module.owner, list_item, NULL);
	cr_assert_str_eq(listed, "fiber forgetful; watcher forgetful; timer forgetful; ");
	cr_assert_eq(worker_close_owned(loop_control(), &module.owner, &fibers), 2);
	cr_assert_eq(fibers, 1);
	worker_turn(loop_control(), 0);
	cr_assert_eq(owner_total(&module.owner), 0);
	owner_fini(&module.owner);
	loop_free();
}

static void never_ends(void *arg)
{
	(void)arg;
	while (fiber_sleep_until(clock_monotonic() + 3600 * ESP_SEC) == ESP_OK)
		;
	atomic_fetch_add(&hits, 1);
}

Test(worker, ends_in_order_every_fiber_leaves_by_its_error_path)
{
	int i;

	loop_test_init(2);
	for (i = 0; i < 100; i++)
		cr_assert_eq(worker_post_fiber(loop_worker((uint32_t)i % 2), NULL, "idle", never_ends, NULL), ESP_OK);
	usleep(20000);
	loop_test_end();
	cr_assert_eq(atomic_load(&hits), 100);
	cr_assert_eq(fiber_live(), 0);
}

static int got_signal;
static void on_usr1(int signum)
{
	got_signal = signum;
}

Test(worker, signals_arrive_on_the_control_loop)
{
	loop_test_init(2);
	cr_assert_eq(loop_on_signal(SIGUSR1, on_usr1), ESP_OK);
	kill(getpid(), SIGUSR1);
	while (!got_signal)
		worker_turn(loop_control(), 1);
	cr_assert_eq(got_signal, SIGUSR1);
	cr_assert_eq(loop_on_signal(SIGUSR1, NULL), ESP_OK);
	loop_test_end();
}

static struct loop_stall stalled[2];
static int stall_seen, stall_over;
static void on_stall(const struct loop_stall *s)
{
	stalled[s->over] = *s;
	stall_seen += !s->over;
	stall_over += s->over;
}

static void hog(void *arg)
{
	struct breadcrumb was = breadcrumb_enter("filter_x", "message");

	(void)arg;
	usleep(300000);
	breadcrumb_leave(was);
	atomic_fetch_add(&hits, 1);
}

Test(worker, the_watchdog_names_the_fiber_the_module_and_the_point_that_stall)
{
	loop_on_stall(on_stall);
	loop_test_init(1);
	cr_assert_eq(worker_post_fiber(loop_worker(0), NULL, "slow one", hog, NULL), ESP_OK);
	while (!stall_over)
		worker_turn(loop_control(), 1);
	cr_assert_eq(stall_seen, 1);
	cr_assert_eq(loop_stalls(), 1);
	for (int over = 0; over < 2; over++) {
		const struct loop_stall *s = &stalled[over];

		cr_assert_eq(s->worker, loop_worker(0));
		cr_assert_str_eq(s->name, "worker-0");
		cr_assert_str_eq(s->module, "filter_x");
		cr_assert_str_eq(s->point, "message");
		cr_assert_str_eq(s->fiber, "slow one");
		cr_assert_geq(s->nsec, over ? 250 * ESP_MSEC : 50 * ESP_MSEC);
	}
	loop_test_end();
}
