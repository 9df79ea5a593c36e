/* core/bus/bus.c - starting and stopping the bus, and its minute timer on the observer (see bus.h). */
#include "core/bus/bus.h"
#include "core/base/str.h"
#include "core/bus/line.h"
#include "core/loop/loop.h"
#include "core/loop/timer.h"
#include "core/loop/worker.h"

#include <string.h>

static struct timer minute;   /* the observer's */
static struct worker *observer;

const void *bus_api(const char *id)
{
	static const struct { const char *id; const void *table; } tables[] = {
		{ "esp.hook/1", &hook_api }, { "esp.event/1", &event_api }, { "esp.metric/1", &metric_api },
		{ "esp.log/1", &log_api },
	};

	for (size_t i = 0; id && i < sizeof tables / sizeof tables[0]; i++)
		if (strcmp(tables[i].id, id) == 0)
			return tables[i].table;
	return NULL;
}

static void on_minute(struct timer *t)
{
	event_tick();
	log_tick();
	if (timer_start(t, NULL, "bus minute", 60 * ESP_SEC, on_minute) != ESP_OK)
		log_line(ESP_LOG_WARNING, "core/bus", "no memory for the timer: drops are not reported any more");
}

static void on_start(void *arg)
{
	(void)arg;
	on_minute(&minute);
}

static void on_stop(void *arg)
{
	(void)arg;
	timer_stop(&minute);
}

static int stall_metric(const char *module, const char *point, esp_metric *ret)
{
	char labels[192];
	struct line l = line_on(labels, sizeof labels - 1);

	line_puts(&l, "module=\"");
	line_key(&l, module);
	line_puts(&l, "\",point=\"");
	line_key(&l, point);
	line_puts(&l, "\"");
	labels[l.len] = '\0';
	return metric_declare(ESP_COUNTER, "esp_loop_stalls_total", labels,
		"Times a worker did not move, or a lane's job took long, by what it ran.", NULL, 0, ret);
}

/* By instance, not by generation: "maildir#3" is one of maildir. */
static void stall_count(const struct loop_stall *s)
{
	char instance[sizeof s->module];
	esp_metric m;

	str_copy_cut(instance, sizeof instance, str_of(s->module));
	instance[strcspn(instance, "#")] = '\0';
	if (stall_metric(instance[0] ? instance : "core", s->point[0] ? s->point : "none", &m) == ESP_OK)
		metric_add(m, 1);
}

esp_status bus_start(struct worker *on)
{
	esp_status st = log_attach(on);
	esp_metric none;

	if (st == ESP_OK)
		st = event_start(on);
	if (st == ESP_OK)
		st = stall_metric("core", "none", &none);   /* there before the first stall, for graphs and documents */
	if (st == ESP_OK)
		st = worker_post(on, NULL, on_start, NULL);
	if (st == ESP_OK) {
		observer = on;
		loop_on_stall(bus_on_stall);
	}
	return st;
}

void bus_stop(esp_nsec deadline)
{
	if (!observer)
		return;
	if (worker_post(observer, NULL, on_stop, NULL) != ESP_OK)
		log_line(ESP_LOG_WARNING, "core/bus", "the observer does not take messages");
	event_stop(deadline);
	loop_on_stall(NULL);
	log_detach();
	observer = NULL;
}

void bus_on_stall(const struct loop_stall *s)
{
	const char *text = s->worker ? s->over ? "a worker moves again" : "a worker does not move"
								 : s->over ? "a lane's job is done" : "a lane's job takes long";

	log_line(s->over ? ESP_LOG_NOTICE : ESP_LOG_WARNING, "core/loop", text,
		log_cstr(s->worker ? "worker" : "lane", s->name), ESP_FNSEC("busy", s->nsec),
		log_cstr("by", s->module[0] ? s->module : "core"), log_cstr("point", s->point), log_cstr("fiber", s->fiber));
	if (!s->over)
		stall_count(s);
}

void bus_free(void)
{
	event_free();
	log_close();
}

void bus_forget(esp_module *self, esp_nsec deadline)
{
	hooks_forget(self);
	event_forget(self, deadline);
}
