/* tests/perf/bench_fiber.c - what fibers cost: ns per switch, yield, spawn + run + finish, wait for a descriptor.
 *
 * Prints one line per figure, best of five rounds (the machine may be shared).  Never asserts a time.
 */
#include "core/base/clock.h"
#include "core/loop/fiber-switch.h"
#include "core/loop/loop.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define ROUNDS 5
#define N 1000000

static double best;

static void take(esp_nsec start, double per)
{
	double ns = (double)(clock_monotonic() - start) / per;

	if (best == 0 || ns < best)
		best = ns;
}

static void print(const char *what)
{
	printf("%-34s %8.1f ns\n", what, best);
	best = 0;
}

static void check(esp_status st)
{
	if (st != ESP_OK)
		abort();
}

static volatile int ping_stop;
static void ping(void *arg)
{
	struct fiber *f = fiber_self();

	(void)arg;
	while (!ping_stop)
		fiber_switch(&f->ctx, &f->worker->sched, 0);
}

/* The bare switch, both ways, without queue or state. */
static void bench_switch(void)
{
	struct worker *w = loop_control();
	struct fiber *f;
	int i, r;

	check(fiber_spawn(NULL, 0, "ping", ping, NULL, &f));
	list_remove(&f->link);
	w->current = f;
	fiber_switch(&w->sched, &f->ctx, 0);
	for (r = 0; r < ROUNDS; r++) {
		esp_nsec start = clock_monotonic();

		for (i = 0; i < N; i++)
			fiber_switch(&w->sched, &f->ctx, 0);
		take(start, 2.0 * N);
	}
	ping_stop = 1;
	w->current = NULL;
	list_append(&w->run_queue, &f->link);
	while (w->nfibers)
		worker_turn(w, 0);
	print("switch, one direction");
}

static void yielder(void *arg)
{
	int i, r;

	(void)arg;
	for (r = 0; r < ROUNDS; r++) {
		esp_nsec start = clock_monotonic();

		for (i = 0; i < N; i++)
			check(fiber_yield());
		take(start, N);
	}
}

static void empty(void *arg)
{
	(void)arg;
}

static void bench_spawn(void)
{
	struct worker *w = loop_control();
	int i, j, r;

	for (r = 0; r < ROUNDS; r++) {
		esp_nsec start = clock_monotonic();

		for (i = 0; i < N / 200; i++) {
			for (j = 0; j < 200; j++)
				check(fiber_spawn(NULL, 0, "spawned", empty, NULL, NULL));
			worker_turn(w, 0);
		}
		take(start, N);
	}
	print("spawn + run + finish (pooled)");
}

static void fd_waiter(void *arg)
{
	int *p = arg, i, r;

	for (r = 0; r < ROUNDS; r++) {
		esp_nsec start = clock_monotonic();

		for (i = 0; i < N / 10; i++)
			check(fiber_wait_fd(p[1], ESP_WRITE, NULL));
		take(start, N / 10);
	}
}

static void run(void (*fn)(void *), void *arg, const char *what)
{
	check(fiber_spawn(NULL, 0, what, fn, arg, NULL));
	while (loop_control()->nfibers)
		worker_turn(loop_control(), 1);
	print(what);
}

int main(void)
{
	struct loop_config c = { .workers = 1, .no_observer = 1 };
	esp_err err = ESP_ERR_INIT;
	int p[2];

	if (loop_init(&c, &err) != ESP_OK || pipe(p) != 0) {
		fprintf(stderr, "%s\n", err.text);
		return 1;
	}
	bench_switch();
	run(yielder, NULL, "yield (2 switches + queue + loop)");
	bench_spawn();
	run(fd_waiter, p, "wait_fd, ready (one loop turn)");
	loop_free();
	return 0;
}
