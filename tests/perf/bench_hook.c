/* tests/perf/bench_hook.c - what asking hooks costs, publishing an event, adding to a metric.
 *
 *	make tests/perf/bench_hook && tests/perf/bench_hook
 *
 * Prints ns per operation, the best of 400 short rounds (other work on the machine then counts little).  A call is one
 * hook that returns CONTINUE, with its breadcrumb, deadline, verdict check and counters.
 */
#include "core/base/arena.h"
#include "core/base/clock.h"
#include "core/bus/bus.h"
#include "core/loop/loop.h"

#include <stdio.h>
#include <stdlib.h>

enum { HOOKS = 10, ROUNDS = 400, RUNS = 5000 };

static esp_verdict on_hook(esp_module *self, const void *args, esp_answer *answer)
{
	(void)args;
	(void)answer;
	return self->state ? ESP_VERDICT_REJECT : ESP_VERDICT_CONTINUE;
}

static esp_nsec best_of(void (*round)(void *arg), void *arg)
{
	esp_nsec best = INT64_MAX;

	for (int i = 0; i < ROUNDS; i++) {
		esp_nsec start = clock_monotonic(), took;

		round(arg);
		took = clock_monotonic() - start;
		best = took < best ? took : best;
	}
	return best;
}

struct bench { struct chain *chain, *one, *none; esp_arena *arena; esp_metric counter; esp_event_id event; };

/* With a trace: as a mail transaction has it, in an arena that ends with the message. */
static void run_chain(const struct chain *c, esp_arena *arena, bool traced)
{
	struct trace trace;
	esp_outcome o;

	for (int i = 0; i < RUNS; i++) {
		if (traced) {
			arena_reset(arena);
			trace_begin(&trace, arena);
		}
		chain_run(c, NULL, arena, traced ? &trace : NULL, &o);
		if (o.verdict != ESP_VERDICT_CONTINUE)
			abort();
	}
}

static void on_ten(void *arg) { run_chain(((struct bench *)arg)->chain, ((struct bench *)arg)->arena, false); }
static void on_ten_traced(void *arg) { run_chain(((struct bench *)arg)->chain, ((struct bench *)arg)->arena, true); }
static void on_one(void *arg) { run_chain(((struct bench *)arg)->one, ((struct bench *)arg)->arena, false); }
static void on_none(void *arg) { run_chain(((struct bench *)arg)->none, ((struct bench *)arg)->arena, false); }
static void on_none_traced(void *arg) { run_chain(((struct bench *)arg)->none, ((struct bench *)arg)->arena, true); }

static void on_count(void *arg)
{
	for (int i = 0; i < RUNS; i++)
		metric_add(((struct bench *)arg)->counter, 1);
}

static void on_unwanted(void *arg)
{
	for (int i = 0; i < RUNS; i++)
		event_publish("bench", ((struct bench *)arg)->event, NULL, 0, sizeof(esp_field));
}

static struct chain *build(struct module_core *modules, uint32_t n)
{
	struct chain_member members[HOOKS];
	esp_err err = ESP_ERR_INIT;
	struct chain *c;

	for (uint32_t i = 0; i < n; i++)
		members[i] = (struct chain_member){ .module = &modules[i].pub, .instance = "bench" };
	if (chain_build(ESP_AT_MESSAGE, members, n, &c, &err) != ESP_OK)
		abort();
	return c;
}

static void on_bench(void *arg)
{
	static const esp_hook h = { .size = sizeof h, .point = ESP_AT_MESSAGE, .run = { .any = on_hook } };
	static const esp_mem_api mem = { .size = sizeof mem, .alloc = arena_alloc };
	static struct module_core modules[HOOKS];
	struct bench b = { .arena = arena_new(&mem, "bench", 0) };

	(void)arg;
	for (int i = 0; i < HOOKS; i++)
		if (hooks_add(&modules[i].pub, &h) != ESP_OK)
			abort();
	b.chain = build(modules, HOOKS);
	b.one = build(modules, 1);
	b.none = build(modules, 0);
	b.counter = metric_must(ESP_COUNTER, "esp_bench_total", "", "bench");
	if (event_declare("bench.done", "", NULL, 0, 0, &b.event) != ESP_OK)
		abort();
	printf("hook call, one of ten in a chain     %6.1f ns\n", (double)best_of(on_ten, &b) / RUNS / HOOKS);
	printf("chain of ten hooks                   %6.1f ns\n", (double)best_of(on_ten, &b) / RUNS);
	printf("chain of ten hooks, with its trace   %6.1f ns\n", (double)best_of(on_ten_traced, &b) / RUNS);
	printf("chain of one hook                    %6.1f ns\n", (double)best_of(on_one, &b) / RUNS);
	printf("chain of no hook                     %6.1f ns\n", (double)best_of(on_none, &b) / RUNS);
	printf("chain of no hook, with its trace     %6.1f ns\n", (double)best_of(on_none_traced, &b) / RUNS);
	printf("metric add                           %6.1f ns\n", (double)best_of(on_count, &b) / RUNS);
	printf("publish what nobody wants            %6.1f ns\n", (double)best_of(on_unwanted, &b) / RUNS);
	chain_free(b.chain);
	chain_free(b.one);
	chain_free(b.none);
	arena_free(b.arena);
	loop_quit();
}

int main(void)
{
	const struct loop_config config = { .workers = 1, .no_observer = 1, .stall = 3600 * ESP_SEC };
	esp_err err = ESP_ERR_INIT;

	if (loop_init(&config, &err) != ESP_OK || loop_start(&err) != ESP_OK ||
	    worker_post_fiber(loop_control(), NULL, "bench", on_bench, NULL) != ESP_OK) {
		fprintf(stderr, "%s\n", err.text);
		return 1;
	}
	loop_run();
	loop_free();
	bus_free();
	return 0;
}
