/* The bounded queue between threads. */
#include "bustest.h"
#include "core/bus/fifo.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>

Test(fifo, is_full_at_its_depth_and_keeps_order)
{
	struct fifo *q = fifo_new(4);
	int items[5];

	cr_assert_eq(fifo_depth(q), 4);
	for (int lap = 0; lap < 3; lap++) {
		for (int i = 0; i < 4; i++)
			cr_assert(fifo_put(q, &items[i]));
		cr_expect(!fifo_put(q, &items[4]));
		for (int i = 0; i < 4; i++) {
			cr_expect(!fifo_empty(q));
			cr_expect_eq(fifo_take(q), &items[i]);
		}
		cr_expect_null(fifo_take(q));
		cr_expect(fifo_empty(q));
	}
	fifo_free(q);
}

enum { PUTTERS = 3, TAKERS = 2, EACH = 20000 };
struct party { struct fifo *q; uintptr_t who; _Atomic int *left; bool in_order; };

static void *put_all(void *arg)
{
	struct party *p = arg;

	for (uintptr_t i = 1; i <= EACH; i++)
		while (!fifo_put(p->q, (void *)(p->who << 32 | i)))
			sched_yield();
	return NULL;
}

static void *take_all(void *arg)
{
	struct party *t = arg;
	uintptr_t last[PUTTERS] = { 0 };

	while (atomic_load(t->left) > 0) {
		uintptr_t v = (uintptr_t)fifo_take(t->q);

		if (!v) {
			sched_yield();
			continue;
		}
		t->in_order &= last[v >> 32] < (v & 0xffffffff);
		last[v >> 32] = v & 0xffffffff;
		atomic_fetch_sub(t->left, 1);
	}
	return NULL;
}

static void contend(uint32_t depth, int takers)
{
	_Atomic int left = PUTTERS * EACH;
	struct fifo *q = fifo_new(depth);
	struct party args[PUTTERS + TAKERS];
	pthread_t threads[PUTTERS + TAKERS];

	for (int i = 0; i < PUTTERS + takers; i++) {
		args[i] = (struct party){ q, (uintptr_t)i, &left, true };
		cr_assert_eq(pthread_create(&threads[i], NULL, i < PUTTERS ? put_all : take_all, &args[i]), 0);
	}
	for (int i = 0; i < PUTTERS + takers; i++) {
		pthread_join(threads[i], NULL);
		cr_expect(args[i].in_order);
	}
	cr_expect_eq(atomic_load(&left), 0, "each item is taken once");
	cr_expect(fifo_empty(q));
	fifo_free(q);
}

Test(fifo, loses_nothing_and_keeps_each_threads_order_under_contention)
{
	contend(64, 1);
	contend(64, TAKERS);
	contend(2, TAKERS);   /* each place is used again at once */
}

static long resident_kib(void)
{
	FILE *f = fopen("/proc/self/statm", "re");
	long size, resident;

	cr_assert(f && fscanf(f, "%ld %ld", &size, &resident) == 2);
	(void)fclose(f);
	return resident * 4;
}

Test(fifo, takes_memory_for_what_waits_and_not_for_what_ever_passed)
{
	enum { DEPTH = 1 << 20 };   /* 16 MiB if each place were used once */
	struct fifo *q = fifo_new(DEPTH);
	long before = resident_kib();
	int item;

	for (int i = 0; i < DEPTH; i++) {
		cr_assert(fifo_put(q, &item));
		cr_assert_eq(fifo_take(q), &item);
	}
	cr_expect_lt(resident_kib() - before, 4096);
	fifo_free(q);
}
