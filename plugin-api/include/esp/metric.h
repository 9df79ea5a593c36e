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

enum { ESP_COUNTER = 1, ESP_GAUGE, ESP_HISTOGRAM };
typedef struct { uint32_t v; } esp_metric;

typedef struct esp_metric_api {
	uint32_t size;
	/*! [control, init] Declare one time series.  labels: "" or `code="250",dir="in"`.  The same name and labels
	 *  declared again (another generation) is the same series.  bounds: histogram upper bounds, ascending. */
	ESP_CHECKED esp_status (*declare)(esp_module *self, uint32_t type, const char *name, const char *labels,
	                                  const char *help, const double *bounds, uint32_t nbounds, esp_metric *ret);
	void (*add)(esp_metric m, int64_t n);          /* [any] counter, gauge */
	void (*set)(esp_metric m, int64_t value);      /* [any] gauge */
	void (*observe)(esp_metric m, double value);   /* [any] histogram */
	/*! [observer, control] Every series, summed, as Prometheus text; calls sink with pieces. */
	void (*render)(void (*sink)(void *arg, esp_str piece), void *arg);
} esp_metric_api;

#ifdef __cplusplus
}
#endif
#endif
