/* The bounded queue between threads. */
#include "bustest.h"
#include "core/bus/ring.h"

#include <pthread.h>
#include <sched.h>

Test(ring, is_full_at_its_depth_and_keeps_order)
{
	struct ring *r = ring_new(4);
	int items[5];

	cr_assert_eq(ring_depth(r), 4);
	for (int lap = 0; lap < 3; lap++) {
		for (int i = 0; i < 4; i++)
			cr_assert(ring_put(r, &items[i]));
		cr_expect(!ring_put(r, &items[4]));
		for (int i = 0; i < 4; i++)
			cr_expect_eq(ring_take(r), &items[i]);
		cr_expect_null(ring_take(r));
		cr_expect(ring_empty(r));
	}
	ring_free(r);
}

enum { PUTTERS = 3, EACH = 20000 };
struct put_arg { struct ring *r; uintptr_t who; };

static void *put_all(void *arg)
{
	struct put_arg *p = arg;

	for (uintptr_t i = 1; i <= EACH; i++)
		while (!ring_put(p->r, (void *)(p->who << 32 | i)))
			sched_yield();
	return NULL;
}

Test(ring, loses_nothing_and_keeps_each_threads_order_under_contention)
{
	struct ring *r = ring_new(64);
	struct put_arg args[PUTTERS];
	pthread_t threads[PUTTERS];
	uintptr_t last[PUTTERS] = { 0 };

	for (uintptr_t i = 0; i < PUTTERS; i++) {
		args[i] = (struct put_arg){ r, i };
		cr_assert_eq(pthread_create(&threads[i], NULL, put_all, &args[i]), 0);
	}
	for (int n = 0; n < PUTTERS * EACH; ) {
		uintptr_t v = (uintptr_t)ring_take(r);

		if (!v) {
			sched_yield();
			continue;
		}
		cr_assert_eq(v & 0xffffffff, ++last[v >> 32]);
		n++;
	}
	cr_expect(ring_empty(r));
	for (int i = 0; i < PUTTERS; i++)
		pthread_join(threads[i], NULL);
	ring_free(r);
}
