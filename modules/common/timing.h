/* timing - histograms of how long disks and databases take: one set of bounds, so that they can be compared.
 *
 * Thread: any; one that measures calls esp_loop_api.clock() before and after.
 */
#ifndef ESP_COMMON_TIMING_H
#define ESP_COMMON_TIMING_H

#include <esp/metric.h>

static inline esp_status timing_declare(const esp_metric_api *m, esp_module *self, const char *name, const char *labels,
	const char *help, esp_metric *ret)
{
	static const double bounds[] = { 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1,
		5 };

	return m->declare(self, ESP_HISTOGRAM, name, labels, help, bounds, sizeof bounds / sizeof bounds[0], ret);
}

static inline void timing_observe(const esp_metric_api *m, esp_metric seconds, esp_nsec took)
{
	m->observe(seconds, (double)took / (double)ESP_SEC);
}

/*! \brief What every provider of esp.sql/1 measures. */
struct timing_sql { esp_metric batch, commit; };

static inline esp_status timing_declare_sql(const esp_metric_api *m, esp_module *self, const char *labels,
	struct timing_sql *ret)
{
	esp_status st = timing_declare(m, self, "esp_sql_batch_seconds", labels,
		"Time of the transactions of one COMMIT, from BEGIN to its answer", &ret->batch);

	return st != ESP_OK ? st : timing_declare(m, self, "esp_sql_commit_seconds", labels,
		"Time of COMMITs, the database's sync included", &ret->commit);
}

/*! \brief A COMMIT was answered at `now`: asked for at `ready`, of a batch that began at `began`. */
static inline void timing_observe_sql(const esp_metric_api *m, const struct timing_sql *t, esp_nsec began,
	esp_nsec ready, esp_nsec now)
{
	timing_observe(m, t->batch, now - began);
	timing_observe(m, t->commit, now - ready);
}

#endif
