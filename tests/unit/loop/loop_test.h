/* tests/unit/loop/loop_test.h - run code in fibers of a control loop, until nothing is left to do. */
#ifndef LOOP_TEST_H
#define LOOP_TEST_H

#include "core/base/clock.h"
#include "core/base/sanitize.h"
#include "core/loop/loop.h"
#include "core/loop/pool.h"

#include "tests/support/test.h"

/* Storms are smaller where a sanitizer makes them slow. */
#define STORM(n) ((SANITIZE_ADDRESS || SANITIZE_THREAD) ? (n) / 10 : (n))

static inline void loop_test_init_stall(uint32_t workers, esp_nsec stall)
{
	esp_err err = ESP_ERR_INIT;
	struct loop_config c = { .workers = workers, .grace = 2 * ESP_SEC, .stall = stall };

	if (!workers) {
		c.workers = 1;
		c.no_observer = 1;
	}
	cr_assert_eq(loop_init(&c, &err), ESP_OK, "%s", err.text);
	if (workers)
		cr_assert_eq(loop_start(&err), ESP_OK, "%s", err.text);
}

static inline void loop_test_init(uint32_t workers) { loop_test_init_stall(workers, 0); }

/* Run fn as a fiber of the control loop and turn the loop until every fiber has ended. */
static inline void loop_test_run(void (*fn)(void *), void *arg)
{
	struct worker *w = loop_control();

	cr_assert_eq(fiber_spawn(NULL, 0, "test", fn, arg, NULL), ESP_OK);
	while (w->nfibers)
		worker_turn(w, 1);
}

/* The same in a world without other threads. */
static inline void loop_test(void (*fn)(void *), void *arg)
{
	loop_test_init(0);
	loop_test_run(fn, arg);
	loop_free();
}

/* End a world with threads. */
static inline void loop_test_end(void)
{
	loop_quit();
	loop_run();
	loop_free();
}

#endif
