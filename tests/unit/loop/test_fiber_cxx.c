/* tests/unit/loop/test_fiber_cxx.c - C++ exception state belongs to the fiber, not to the thread. */
#include "tests/unit/loop/loop_test.h"

int cxx_scenario(int id, void (*suspend)(void));

static int wrong, ended;

static void give_way(void)
{
	cr_assert_eq(fiber_yield(), ESP_OK);
}

static void throws(void *arg)
{
	int i;

	for (i = 0; i < 20; i++)
		wrong += cxx_scenario((int)(uintptr_t)arg * 100 + i, give_way);
	ended++;
}

Test(fiber_cxx, a_suspension_inside_a_catch_block_keeps_the_right_exception)
{
	int i;

	loop_test_init(0); /* looks for __cxa_get_globals */
	for (i = 0; i < 50; i++)
		cr_assert_eq(fiber_spawn(NULL, 0, "throws", throws, (void *)(uintptr_t)i, NULL), ESP_OK);
	while (loop_control()->nfibers)
		worker_turn(loop_control(), 1);
	cr_assert_eq(ended, 50);
	cr_assert_eq(wrong, 0, "%d wrong exceptions", wrong);
	loop_free();
}
