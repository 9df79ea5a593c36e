/* tests/unit/loop/test_fiber_rules.c - the rules of docs/fibers.md, by number.  Rules 3, 4, 8, 9, 12, 13 and 15 are
 * about code that others write: contrib/check-fibers finds breaches (tests/unit/loop/check_fibers.sh proves that it
 * does).  Rule 5 on a TLS session is in tests/unit/net/test_tls.c. */
#include "tests/unit/loop/loop_test.h"

#include "core/loop/fiber-depth.h"
#include "core/loop/watchdog.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* Run fn in a child; its stderr into text; returns its wait status. */
static int in_child(void (*fn)(void), char *text, size_t cap)
{
	int p[2], status = 0;
	size_t n = 0;
	ssize_t got;
	pid_t pid;

	cr_assert_eq(pipe(p), 0);
	pid = fork();
	cr_assert_geq(pid, 0);
	if (pid == 0) {
		dup2(p[1], STDERR_FILENO);
		close(p[0]);
		close(p[1]);
		fn();
		_exit(0);
	}
	close(p[1]);
	while (n < cap - 1 && (got = read(p[0], text + n, cap - 1 - n)) > 0)
		n += (size_t)got;
	text[n] = 0;
	close(p[0]);
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	return status;
}

static void assert_aborts(void (*fn)(void), const char *why)
{
	static char text[4096];
	int status = in_child(fn, text, sizeof(text));

	cr_assert_neq(status, 0);
	cr_assert_not_null(strstr(text, why), "%.600s", text);
}

static void suspends_in_nosuspend(void *arg)
{
	(void)arg;
	fiber_nosuspend(1);
	if (fiber_yield() != ESP_OK)
		fiber_nosuspend(0);
}

static void rule_1(void)
{
	loop_test(suspends_in_nosuspend, NULL);
}

Test(fiber_rules, rule_01_a_suspension_inside_nosuspend_aborts_with_both_names)
{
	assert_aborts(rule_1, "yield() suspends fiber 'test'");
}

static struct fiber *parked;
static esp_ticket parked_ticket;
static int resumed;
static void parks(void *arg)
{
	(void)arg;
	parked = fiber_self();
	parked_ticket = fiber_ticket();
	cr_assert_eq(fiber_suspend(), ESP_OK);
	resumed = 1;
}

static void wakes_in_callback(struct timer *t)
{
	(void)t;
	fiber_wake(parked_ticket);
	cr_assert_eq(resumed, 0, "the fiber ran inside the callback");
	cr_assert_eq(parked->state, FIBER_READY);
}

Test(fiber_rules, rule_02_loop_callbacks_never_resume_a_fiber_directly)
{
	struct timer t = { .worker = NULL };

	loop_test_init(0);
	cr_assert_eq(fiber_spawn(NULL, 0, "parked", parks, NULL, NULL), ESP_OK);
	cr_assert_eq(timer_start(&t, NULL, "waker", ESP_MSEC, wakes_in_callback), ESP_OK);
	while (loop_control()->nfibers)
		worker_turn(loop_control(), 1);
	cr_assert_eq(resumed, 1);
	loop_free();
}

static void many_ready(void *arg)
{
	(void)arg;
	resumed++;
}

Test(fiber_rules, rule_02_one_turn_resumes_at_most_the_budget)
{
	esp_nsec start;
	int i;

	loop_test_init(0);
	watchdog_stop(); /* its timer must not be what wakes the loop */
	for (i = 0; i < WORKER_RUN_BUDGET + 10; i++)
		cr_assert_eq(fiber_spawn(NULL, 0, "ready", many_ready, NULL, NULL), ESP_OK);
	start = clock_monotonic();
	worker_turn(loop_control(), 1);
	cr_assert_eq(resumed, WORKER_RUN_BUDGET);
	cr_assert_lt(clock_monotonic() - start, 900 * ESP_MSEC, "slept until the stacks' trim while fibers were ready");
	worker_turn(loop_control(), 0);
	cr_assert_eq(resumed, WORKER_RUN_BUDGET + 10);
	loop_free();
}

static esp_fmutex writers;
static char written[64];
static void writes(void *arg)
{
	const char *line = arg;

	cr_assert_eq(fiber_lock(&writers), ESP_OK);
	for (; *line; line++) { /* a record in pieces, with suspensions between */
		size_t n = strlen(written);

		written[n] = *line;
		written[n + 1] = 0;
		cr_assert_eq(fiber_yield(), ESP_OK);
	}
	fiber_unlock(&writers);
}

static void two_writers(void *arg)
{
	static char lines[3][8] = { "hello ", "world ", "again" };
	int i;

	(void)arg;
	for (i = 0; i < 3; i++)
		cr_assert_eq(fiber_spawn(NULL, 0, "writer", writes, lines[i], NULL), ESP_OK);
}

Test(fiber_rules, rule_05_writers_of_one_session_queue)
{
	loop_test(two_writers, NULL);
	cr_assert_str_eq(written, "hello world again");
}

static atomic_int job_began;
static int32_t job_writes(void *arg)
{
	atomic_store(&job_began, 1);
	usleep(50000);
	*(int *)arg = 99; /* on the fiber's stack */
	return 0;
}

static void offloads(void *arg)
{
	int on_stack = 0;

	(void)arg;
	cr_assert_eq(lane_run(pool_shared("misc"), NULL, job_writes, &on_stack, NULL), ESP_OK);
	cr_assert_eq(on_stack, 99, "the fiber left while its job was running");
	cr_assert_eq(fiber_yield(), ESP_ECANCELED);
}

static void cancels_during_job(void *arg)
{
	struct fiber *f;

	(void)arg;
	cr_assert_eq(fiber_spawn(NULL, ESP_FIBER_JOINABLE, "offloads", offloads, NULL, &f), ESP_OK);
	while (!atomic_load(&job_began))
		cr_assert_eq(fiber_yield(), ESP_OK);
	fiber_cancel(f);
	fiber_join(f);
}

Test(fiber_rules, rule_06_a_running_job_shields_the_fiber_whose_stack_it_uses) { loop_test(cancels_during_job, NULL); }

static atomic_int stayed;
static void stays(void *arg)
{
	int i, mark = (int)(uintptr_t)arg + 1000;
	long tid = syscall(SYS_gettid);

	for (i = 0; i < 50; i++) {
		errno = mark;
		cr_assert_eq(i % 5 ? fiber_yield() : fiber_sleep_until(clock_monotonic() + 100 * ESP_USEC), ESP_OK);
		cr_assert_eq(errno, mark);
		cr_assert_eq(syscall(SYS_gettid), tid, "a fiber never migrates");
	}
	atomic_fetch_add(&stayed, 1);
}

Test(fiber_rules, rule_07_errno_and_thread_survive_every_suspension)
{
	int i;

	loop_test_init(2);
	for (i = 0; i < 40; i++)
		cr_assert_eq(
			worker_post_fiber(loop_worker((uint32_t)i % 2), NULL, "stays", stays, (void *)(uintptr_t)i), ESP_OK);
	while (atomic_load(&stayed) < 40) {
		worker_turn(loop_control(), 0);
		usleep(500);
	}
	loop_test_end();
}

static void waits_on_fd(void *arg)
{
	cr_assert_eq(fiber_wait_fd(*(int *)arg, ESP_READ, NULL), ESP_ECANCELED);
}

static void cancels_then_closes(void *arg)
{
	struct fiber *f;
	int p[2], q[2];

	(void)arg;
	cr_assert_eq(pipe(p), 0);
	cr_assert_eq(fiber_spawn(NULL, ESP_FIBER_JOINABLE, "waits", waits_on_fd, &p[0], &f), ESP_OK);
	cr_assert_eq(fiber_yield(), ESP_OK);
	fiber_cancel(f);
	fiber_join(f);
	close(p[0]);
	close(p[1]);
	cr_assert_eq(pipe(q), 0); /* takes the same numbers */
	cr_assert_eq(write(q[1], "x", 1), 1);
	cr_assert_eq(fiber_wait_fd(q[0], ESP_READ, NULL), ESP_OK);
	close(q[0]);
	close(q[1]);
}

Test(fiber_rules, rule_10_cancel_first_and_close_after_the_waiter_left) { loop_test(cancels_then_closes, NULL); }

static esp_ticket ended_ticket;
static void takes_ticket_and_ends(void *arg)
{
	(void)arg;
	ended_ticket = fiber_ticket();
}

static void next_life(void *arg)
{
	(void)arg;
	cr_assert_eq(fiber_ticket().fiber, ended_ticket.fiber, "the pool is LIFO: the same slot lives again");
	fiber_wake(ended_ticket);
	fiber_set_deadline(clock_monotonic() + 3 * ESP_MSEC);
	cr_assert_eq(fiber_suspend(), ESP_ETIMEDOUT, "a wake for the former life reached this one");
}

static void two_lives(void *arg)
{
	(void)arg;
	cr_assert_eq(fiber_spawn(NULL, 0, "first", takes_ticket_and_ends, NULL, NULL), ESP_OK);
	cr_assert_eq(fiber_yield(), ESP_OK);
	cr_assert_eq(fiber_spawn(NULL, 0, "second", next_life, NULL, NULL), ESP_OK);
}

Test(fiber_rules, rule_11_fibers_are_woken_by_number_so_late_is_harmless) { loop_test(two_lives, NULL); }

static struct { int others, pipe[2]; } shared;
static void changes_it(void *arg)
{
	(void)arg;
	while (fiber_yield() == ESP_OK)
		shared.others++;
}

static esp_status sleeps_until_now(void) { return fiber_sleep_until(clock_monotonic()); }
static esp_status sleeps_until_the_past(void) { return fiber_sleep_until(1); }
static esp_status waits_for_what_is_there(void) { return fiber_wait_fd(shared.pipe[1], ESP_WRITE, NULL); }
static int32_t job_does_nothing(void *arg) { return arg != NULL; }
static esp_status runs_a_job(void) { return lane_run(pool_shared("misc"), NULL, job_does_nothing, NULL, NULL); }

/* What was read before any of them may be wrong behind it, also where there was nothing to wait for. */
static void looks_again(void *arg)
{
	static const struct { const char *name; esp_status (*suspends)(void); } calls[] = { { "yield", fiber_yield },
		{ "sleep until now", sleeps_until_now }, { "sleep until the past", sleeps_until_the_past },
		{ "wait_fd", waits_for_what_is_there }, { "run", runs_a_job } };
	struct fiber *other;

	(void)arg;
	cr_assert_eq(pipe(shared.pipe), 0);
	cr_assert_eq(fiber_spawn(NULL, ESP_FIBER_JOINABLE, "changes it", changes_it, NULL, &other), ESP_OK);
	cr_assert_eq(fiber_yield(), ESP_OK);
	for (size_t i = 0; i < ARRAY_LEN(calls); i++) {
		int before = shared.others;

		cr_assert_eq(calls[i].suspends(), ESP_OK);
		cr_assert_gt(shared.others, before, "nobody ran during %s", calls[i].name);
	}
	fiber_cancel(other);
	fiber_join(other);
	close(shared.pipe[0]);
	close(shared.pipe[1]);
}

Test(fiber_rules, rule_12_others_run_at_every_suspension) { loop_test(looks_again, NULL); }

static void polls_flag(void *arg)
{
	uint64_t rounds = 0;

	(void)arg;
	fiber_cancel(fiber_self());
	while (!fiber_canceled())
		cr_assert_lt(rounds++, 10);
	cr_assert_eq(rounds, 0);
}

Test(fiber_rules, rule_13_loops_without_suspensions_can_poll_the_flag) { loop_test(polls_flag, NULL); }

static int spins, fair_timer;
static void on_fair(struct timer *t)
{
	(void)t;
	fair_timer = 1;
}

static void always_ready(void *arg)
{
	(void)arg;
	while (!fair_timer) {
		cr_assert_lt(spins++, 50000000, "the loop never came round to its timer");
		cr_assert_eq(fiber_yield(), ESP_OK);
	}
}

Test(fiber_rules, rule_14_fibers_that_always_find_data_do_not_starve_the_loop)
{
	struct timer t = { .worker = NULL };
	int i;

	loop_test_init(0);
	cr_assert_eq(timer_start(&t, NULL, "fair", 2 * ESP_MSEC, on_fair), ESP_OK);
	for (i = 0; i < 3; i++)
		cr_assert_eq(fiber_spawn(NULL, 0, "greedy", always_ready, NULL, NULL), ESP_OK);
	while (loop_control()->nfibers)
		worker_turn(loop_control(), 1);
	cr_assert_eq(fair_timer, 1);
	loop_free();
}

/* --- stack overflow and depth --------------------------------------------------------------------------------- */

static volatile int bottomless = 1;
__attribute__((noinline)) static int recurse(int n)
{
	volatile char frame[2000];

	frame[0] = (char)n;
	if (bottomless)
		n += recurse(n + 1);
	return n + frame[0];
}

static void overflows(void *arg)
{
	breadcrumb_enter("filter_deep", "message");
	resumed = recurse(*(int *)arg);
}

static void overflow_child(void)
{
	static int zero;

	loop_test_init(0);
	loop_install_crash_handlers(NULL);
	cr_assert_eq(fiber_spawn(NULL, 0, "deep thinker", overflows, &zero, NULL), ESP_OK);
	worker_turn(loop_control(), 0);
}

Test(fiber_stack, an_overflow_is_reported_with_the_name_of_the_fiber)
{
	static char text[65536];
	int status = in_child(overflow_child, text, sizeof(text));

	cr_assert_neq(status, 0);
	cr_assert_not_null(strstr(text, "STACK OVERFLOW, fiber deep thinker"), "%.600s", text);
	cr_assert_not_null(strstr(text, "module filter_deep, at message"), "%.600s", text);
}

static void callback_child(void)
{
	loop_test_init(0);
	cr_assert_eq(fiber_yield(), ESP_OK);                   /* where the loop's callbacks run: in no fiber */
}

Test(fiber_rules, a_callback_of_the_loop_that_suspends_aborts)
{
	assert_aborts(callback_child, "yield() suspends, but it was called outside a fiber");
}

static void keeps_its_lock(void *arg)
{
	static esp_fmutex lock;

	(void)arg;
	if (fiber_lock(&lock) != ESP_OK)
		_exit(0);
}

static void lock_child(void)
{
	loop_test(keeps_its_lock, NULL);
}

Test(fiber_rules, a_fiber_that_ends_with_a_lock_aborts)
{
	assert_aborts(lock_child, "fiber 'test' ended while it holds 1 lock(s)");
}

static void null_child(void)
{
	loop_test_init(0);
	loop_install_crash_handlers(NULL);
	breadcrumb_enter("filter_null", "rcpt");
	*(volatile int *)(uintptr_t)(resumed + 8) = 1;
}

#if !SANITIZE_ADDRESS && !SANITIZE_THREAD
Test(fiber_stack, a_crash_outside_fibers_names_thread_and_module)
{
	static char text[65536];
	int status = in_child(null_child, text, sizeof(text));

	cr_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
	cr_assert_not_null(
		strstr(text, "CRASH SIGSEGV at 0x8 in thread control, module filter_null, at rcpt"), "%.600s", text);
	cr_assert_null(strstr(text, "STACK OVERFLOW"));
}
#else
Test(fiber_stack, a_crash_outside_fibers_ends_the_process)
{
	static char text[65536];

	cr_assert_neq(in_child(null_child, text, sizeof(text)), 0);
}
#endif

static void shallow(void *arg)
{
	char text[128];

	snprintf(text, sizeof(text), "%f %s", 3.14, (char *)arg);
}

__attribute__((noinline)) static void deep(void *arg)
{
	volatile char frame[3900];

	frame[0] = frame[sizeof(frame) - 1] = 1;
	__asm__ volatile("" : : "r"(frame) : "memory");
	if (*(int *)arg > 0) {
		int less = *(int *)arg - 1;

		deep(&less);
	}
	frame[0] = 2;
}

static size_t depth_of(void (*fn)(void *), void *arg)
{
	struct fiber *f;
	size_t depth;

	loop_test_init(0);
	cr_assert_eq(fiber_spawn(NULL, 0, "painted", fn, arg, &f), ESP_OK);
	fiber_stack_paint(f);
	worker_turn(loop_control(), 0);
	depth = fiber_stack_depth(f);
	loop_free();
	return depth;
}

Test(fiber_stack, depth_is_measured_and_ordinary_code_stays_below_64_KiB)
{
	static char x[] = "x";
	int frames = 8;
	size_t d = depth_of(deep, &frames);

#if !SANITIZE_ADDRESS /* whose frames may live on its own stack */
	cr_assert_geq(d, (size_t)9 * 3900);
#endif
	cr_assert_lt(depth_of(shallow, x), (size_t)64 << 10);
	cr_assert_lt(d, (size_t)64 << 10);
}

static void live(const char *name, void (*fn)(void *), void *arg)
{
	cr_assert_eq(fiber_spawn(NULL, 0, name, fn, arg, NULL), ESP_OK);
	worker_turn(loop_control(), 0);
}

Test(fiber_stack, while_measured_the_deepest_life_of_each_name_is_kept)
{
	static struct fiber_depth d[FIBER_DEPTHS];
	static char x[] = "x";
	int one = 1, eight = 8;

	loop_test_init(0);
	live("deep", deep, &eight);
	cr_assert_eq(fiber_depths(d), 0u, "it is off");
	fiber_depth_measure(true);
	live("deep", deep, &eight);
	live("deep", deep, &one);
	live("flat", shallow, x);
	cr_assert_eq(fiber_depths(d), 2u);
	cr_assert_str_eq(d[0].name, "deep");
	cr_assert_eq(d[0].lives, 2u);
	cr_assert_eq(d[0].size, fiber_stack_size());
#if !SANITIZE_ADDRESS
	cr_assert_geq(d[0].deepest, (size_t)9 * 3900);
#endif
	cr_assert_str_eq(d[1].name, "flat");
	cr_assert_eq(d[1].lives, 1u);
	cr_assert_lt(d[1].deepest, (size_t)64 << 10);
	fiber_depth_measure(false);
	live("flat", shallow, x);
	cr_assert_eq(fiber_depths(d), 2u);
	cr_assert_eq(d[1].lives, 1u);
	fiber_depth_measure(true);
	cr_assert_eq(fiber_depths(d), 0u, "a new measurement forgets the one before");
	loop_free();
}
