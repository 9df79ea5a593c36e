/* core/control/server-facts.c - the events server.started and server.stopped, and the metric of restarts.
 *
 * Thread: control.  A crash publishes nothing: the next server.started, with another process number, tells of it.
 */
#include <unistd.h>

#include "config.h"
#include "core/base/clock.h"
#include "core/base/str.h"
#include "core/bus/event.h"
#include "core/bus/log.h"
#include "core/bus/metric.h"
#include "core/control/server-priv.h"
#include "core/loop/loop.h"

int server_facts_declare(struct server *s)
{
	static const esp_event_field started[] = {
		{ .key = "version", .type = ESP_F_STR, .help = "version of ESP" },
		{ .key = "pid", .type = ESP_F_INT, .help = "the server process" },
		{ .key = "workers", .type = ESP_F_INT, .help = "worker threads" },
		{ .key = "took", .type = ESP_F_NSEC, .help = "from the start of the process until it served" },
	};
	static const esp_event_field stopped[] = {
		{ .key = "version", .type = ESP_F_STR, .help = "version of ESP" },
		{ .key = "pid", .type = ESP_F_INT, .help = "the server process" },
		{ .key = "uptime", .type = ESP_F_NSEC, .help = "since the process started" },
		{ .key = "connections", .type = ESP_F_INT, .help = "connections that were open" },
	};
	int status;

	metric_add(metric_must(ESP_COUNTER, "esp_restarts_total", "",
				   "Server processes that ended by themselves (a crash, SIGKILL) and were replaced, since the "
				   "supervisor started."),
		s->restarts);
	status =
		event_declare("server.started", "A server process serves", started, 4, sizeof started[0], &s->fact_started);

	if (!status)
		status = event_declare("server.stopped",
			"A server process was told to end: it finishes what has begun and takes "
			"nothing new",
			stopped, 4, sizeof stopped[0], &s->fact_stopped);
	return status;
}

void server_facts_started(const struct server *s)
{
	esp_field fields[] = { ESP_FSTR("version", str_of(PACKAGE_VERSION)), ESP_FINT("pid", getpid()),
	                       ESP_FINT("workers", loop_workers()), ESP_FNSEC("took", clock_monotonic() - s->started) };

	event_publish(NULL, s->fact_started, fields, 4, sizeof fields[0]);
}

void server_facts_stopped(const struct server *s)
{
	esp_field fields[] = { ESP_FSTR("version", str_of(PACKAGE_VERSION)), ESP_FINT("pid", getpid()),
	                       ESP_FNSEC("uptime", clock_monotonic() - s->started),
	                       ESP_FINT("connections", net_count(s->net)) };

	event_publish(NULL, s->fact_stopped, fields, 4, sizeof fields[0]);
}
