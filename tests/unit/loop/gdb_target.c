/* tests/unit/loop/gdb_target.c - parks a few fibers in well-named functions, then waits (argument "abort": dies) for
 * gdb_fibers.sh to look at them. */
#include "core/base/clock.h"
#include "core/loop/loop.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

__attribute__((noinline)) static esp_status waits_for_the_moon(void)
{
	esp_status st = fiber_sleep_until(clock_monotonic() + 3600 * ESP_SEC);

	__asm__ volatile("" ::: "memory"); /* no tail call: the frame must be there */
	return st;
}

static void moon_gazer(void *arg)
{
	(void)arg;
	breadcrumb_enter("filter_moon", "message");
	if (waits_for_the_moon() != ESP_OK)
		exit(1);
}

static void lock_waiter(void *arg)
{
	if (fiber_lock(arg) != ESP_OK)
		exit(1);
	if (fiber_suspend() != ESP_OK)
		exit(1);
}

int main(int argc, char **argv)
{
	static esp_fmutex mutex;
	struct loop_config c = { .workers = 1, .no_observer = 1 };
	esp_err err = ESP_ERR_INIT;
	int i;

	if (loop_init(&c, &err) != ESP_OK)
		return 1;
	if (fiber_spawn(NULL, 0, "moon", moon_gazer, NULL, NULL) != ESP_OK)
		return 1;
	for (i = 0; i < 2; i++)
		if (fiber_spawn(NULL, 0, "locker", lock_waiter, &mutex, NULL) != ESP_OK)
			return 1;
	worker_turn(loop_control(), 0);
	puts("ready");
	fflush(stdout);
	if (argc > 1 && strcmp(argv[1], "abort") == 0)
		abort();
	sleep(60);
	return 0;
}
