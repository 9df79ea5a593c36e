/* core/bus/metric.h - one registry of counters, gauges and histograms ("esp.metric/1").
 *
 * Counters and histograms live in cells of the adding thread (a block per thread, on cache lines of its own) and are
 * summed when read: adding is a plain load and store, no atomics between cores.  A thread that ends leaves its block,
 * with its sums, to the next one that starts.  Gauges have one shared cell.
 * Series are never removed: a counter survives reload and does not jump back.  Declaring takes a mutex (control
 * thread); adding never does.
 */
#ifndef CORE_BUS_METRIC_H
#define CORE_BUS_METRIC_H

#include <esp/metric.h>
#include <stdatomic.h>
#include <stdbool.h>

enum {
	METRIC_SERIES_MAX = 10000,
	METRIC_BOUNDS_MAX = 64,
	METRIC_CELL_BITS = 10,               /* cells per chunk: 8 KiB */
	METRIC_CHUNKS_MAX = 256,
	METRIC_INDEX_MASK = (1 << 28) - 1    /* esp_metric.v = type << 28 | index */
};

struct metric_cells {                    /* one thread's */
	_Atomic(_Atomic uint64_t *) chunk[METRIC_CHUNKS_MAX];
	struct metric_cells *next;           /* all blocks, guarded by the registry's mutex */
	bool in_use;
};

extern _Thread_local struct metric_cells *metric_mine;
/*! \brief The slow half of metric_cell(): this thread's first use of a chunk.  NULL: no memory. */
_Atomic uint64_t *metric_cell_first(uint32_t index);

/*! \brief This thread's cell, or NULL when there is no memory for it. */
static inline _Atomic uint64_t *metric_cell(uint32_t index)
{
	_Atomic uint64_t *chunk = metric_mine ? atomic_load_explicit(&metric_mine->chunk[index >> METRIC_CELL_BITS],
	                                                             memory_order_relaxed) : NULL;

	if (__builtin_expect(chunk == NULL, 0))
		return metric_cell_first(index);
	return &chunk[index & ((1u << METRIC_CELL_BITS) - 1)];
}

/*! \brief [any] One more; returns this thread's count before.  `m` is a declared counter. */
static inline uint64_t metric_count(esp_metric m)
{
	_Atomic uint64_t *cell = metric_cell(m.v & METRIC_INDEX_MASK);
	uint64_t before;

	if (__builtin_expect(cell == NULL, 0))
		return 0;
	before = atomic_load_explicit(cell, memory_order_relaxed);
	atomic_store_explicit(cell, before + 1, memory_order_relaxed);
	return before;
}

/*! \brief [any] The same for a counter that may not have been declared (the registry was full). */
static inline void metric_count_if(esp_metric m)
{
	if (__builtin_expect(m.v != 0, 1))
		metric_count(m);
}

/*! \brief [control] As esp_metric_api.declare.  ESP_EINVAL: name, labels or bounds are malformed (a counter's name
 *  ends in _total, the others' does not).  ESP_ECONFLICT: declared before as something else.  ESP_EBUSY: too many. */
ESP_CHECKED esp_status metric_declare(uint32_t type, const char *name, const char *labels, const char *help,
                                      const double *bounds, uint32_t nbounds, esp_metric *ret);
/*! \brief Shorthand for the core's own: a counter or gauge that cannot be declared aborts (a bug). */
esp_metric metric_must(uint32_t type, const char *name, const char *labels, const char *help);

/*! \brief The same for a counter of seconds that is given nanoseconds. */
esp_metric metric_must_seconds(const char *name, const char *labels, const char *help);

void metric_add(esp_metric m, int64_t n);
void metric_set(esp_metric m, int64_t value);
void metric_observe(esp_metric m, double value);
/*! \brief Sum over all threads (counter, gauge) or number of observations (histogram). */
int64_t metric_value(esp_metric m);
/*! \brief [control] From now on metric_render() calls it first, on its thread: for gauges that cost something to
 *  measure.  There is one, the core's. */
void metric_on_render(void (*measure)(void));
/*! \brief Prometheus text format 0.0.4. */
void metric_render(void (*sink)(void *arg, esp_str piece), void *arg);
/*! \brief docs/metrics.md: every family with type, labels and help, sorted by name. */
void metric_document(void (*sink)(void *arg, esp_str piece), void *arg);

extern const esp_metric_api metric_api;

#endif
