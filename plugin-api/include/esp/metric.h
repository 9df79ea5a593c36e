/* esp/metric.h - "esp.metric/1": one registry of counters, gauges and histograms.
 *
 * Cells are per thread and summed when read: adding is a plain store, no atomics between cores.
 * Names follow Prometheus: esp_<noun>_<unit>_total; base units (seconds, bytes).  Labels are fixed at
 * declaration; never a label whose values a peer can choose.
 */
#ifndef ESP_METRIC_H
#define ESP_METRIC_H

#include <esp/abi.h>

#ifdef __cplusplus
extern "C" {
#endif

/*! \brief Types, and a declared series. */
enum { ESP_COUNTER = 1, ESP_GAUGE, ESP_HISTOGRAM };
typedef struct { uint32_t v; } esp_metric;

typedef struct esp_metric_api {
	uint32_t size;
	/*! [control, in init() or a fiber of it later] Declare one time series.  labels: "" or `code="250",dir="in"`.  The
	 *  same name and labels declared again (another generation) is the same series and goes on counting.  bounds: a
	 *  histogram's upper bounds, ascending, without +Inf; NULL and 0 for the others.  All strings are copied.
	 *  ESP_EINVAL: no name of a metric (only counters, and all of them, end in _total), bad labels or bounds;
	 *  ESP_ECONFLICT: declared with another type or bounds; ESP_EBUSY: too many series. */
	ESP_CHECKED esp_status (*declare)(esp_module *self, uint32_t type, const char *name, const char *labels,
	                                  const char *help, const double *bounds, uint32_t nbounds, esp_metric *ret);
	void (*add)(esp_metric m, int64_t n);          /* [any] counter (below 0 is ignored), gauge; never waits */
	void (*set)(esp_metric m, int64_t value);      /* [any] gauge: one value for the process, the last one wins */
	void (*observe)(esp_metric m, double value);   /* [any] histogram, in the base unit of its name */
	/*! [observer, control, lane] Every series, summed, as Prometheus text (0.0.4).  Calls sink with pieces, borrowed
	 *  for the call; sink must not suspend.  Takes milliseconds for thousands of series: from a worker, pool->run(). */
	void (*render)(void (*sink)(void *arg, esp_str piece), void *arg);
} esp_metric_api;

#ifdef __cplusplus
}
#endif
#endif
