/* tests/unit/control/test_health.c - who is alive, and who is ready for clients. */
#include "core/control/health.h"

#include "core/control/server-priv.h"
#include "tests/unit/loop/loop_test.h"

static struct server s;

static struct health look(enum health_state state)
{
	struct health h;

	s.state = state;
	health_get(&s, &h);
	return h;
}

Test(health, a_server_is_ready_only_while_it_serves)
{
	loop_test_init(2);
	cr_assert_not(look(HEALTH_STARTING).ready);
	cr_assert(look(HEALTH_SERVING).ready);
	cr_assert_not(look(HEALTH_STOPPING).ready);
	cr_assert(look(HEALTH_STARTING).live, "it is alive all the time");
	cr_assert(look(HEALTH_STOPPING).live);
	cr_assert_eq(look(HEALTH_SERVING).workers, 2u);
	cr_assert_eq(look(HEALTH_SERVING).stalls, 0u);
	loop_test_end();
}

Test(health, a_loop_that_has_not_moved_for_ten_seconds_makes_it_neither_live_nor_ready)
{
	uint32_t loops = 0;

	loop_test_init(2);
	while (loop_by_number(loops))
		loops++;
	cr_assert_eq(loops, 4u, "control, observer and two workers");
	for (uint32_t i = 0; i < loops; i++) {
		s.stuck_since[i] = clock_monotonic() - 9 * ESP_SEC;
		cr_assert(look(HEALTH_SERVING).ready, "loop %u is only slow", i);
		s.stuck_since[i] = clock_monotonic() - 11 * ESP_SEC;
		cr_assert_eq(look(HEALTH_SERVING).stalled, 1u, "loop %u", i);
		cr_assert_not(look(HEALTH_SERVING).live);
		cr_assert_not(look(HEALTH_SERVING).ready);
		s.stuck_since[i] = 0;
		cr_assert(look(HEALTH_SERVING).ready, "it moves again");
	}
	for (uint32_t i = 0; i < loops; i++)
		s.stuck_since[i] = clock_monotonic() - 11 * ESP_SEC;
	cr_assert_eq(look(HEALTH_SERVING).stalled, loops);
	loop_test_end();
}

Test(health, every_state_has_a_name_of_its_own)
{
	cr_assert_str_eq(health_state_name(HEALTH_STARTING), "starting");
	cr_assert_str_eq(health_state_name(HEALTH_SERVING), "serving");
	cr_assert_str_eq(health_state_name(HEALTH_STOPPING), "stopping");
}
