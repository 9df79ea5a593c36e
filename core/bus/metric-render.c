/* core/bus/metric-render.c - the registry as Prometheus text 0.0.4 and as docs/metrics.md (see metric.h).
 *
 * Thread: observer, control or a lane.  Holds the registry's mutex while it runs, so sink() must not declare a metric;
 * adding goes on meanwhile, and a histogram's count is computed from its buckets so that both always agree.
 */
#include "core/bus/line.h"
#include "core/bus/metric-priv.h"

#include <string.h>

struct output {
	void (*sink)(void *arg, esp_str piece);
	void *arg;
	struct line line;
};

static void flush(struct output *o)
{
	if (o->line.len)
		o->sink(o->arg, line_str(&o->line));
	o->line.len = 0;
	o->line.cut = false;
}

/* Help texts: backslash and line feed are escaped; in the document a '|' would end the cell. */
static void put_help(struct line *l, const char *help, bool document)
{
	for (const char *p = help; *p; p++) {
		if (*p == '\n')
			line_puts(l, document ? " " : "\\n");
		else if (*p == '\\' && !document)
			line_puts(l, "\\\\");
		else if (*p == '|' && document)
			line_puts(l, "\\|");
		else
			line_put(l, p, 1);
	}
}

static void put_sample(struct output *o, const struct metric_series *s, const char *suffix, const char *le)
{
	struct line *l = &o->line;

	line_puts(l, s->family->name);
	line_puts(l, suffix);
	if (*s->labels || le) {
		line_puts(l, "{");
		line_puts(l, s->labels);
		if (le) {
			line_puts(l, *s->labels ? ",le=\"" : "le=\"");
			line_puts(l, le);
			line_puts(l, "\"");
		}
		line_puts(l, "}");
	}
	line_puts(l, " ");
}

static void put_histogram(struct output *o, const struct metric_series *s)
{
	uint64_t count = 0;
	char le[40];

	for (uint32_t i = 0; i <= s->nbounds; i++) {
		struct line b = line_on(le, sizeof le - 1);

		if (i < s->nbounds)
			line_double(&b, s->bounds[i]);
		else
			line_puts(&b, "+Inf");
		le[b.len] = '\0';
		count += metric_sum(s->cell + i);
		put_sample(o, s, "_bucket", le);
		line_int(&o->line, (int64_t)count);
		line_puts(&o->line, "\n");
		flush(o);
	}
	put_sample(o, s, "_sum", NULL);
	line_double(&o->line, metric_sum_double(s->cell + s->nbounds + 1));
	line_puts(&o->line, "\n");
	put_sample(o, s, "_count", NULL);
	line_int(&o->line, (int64_t)count);
	line_puts(&o->line, "\n");
	flush(o);
}

static void put_series(struct output *o, const struct metric_series *s)
{
	if (s->family->type == ESP_HISTOGRAM) {
		put_histogram(o, s);
		return;
	}
	put_sample(o, s, "", NULL);
	if (s->family->nanoseconds)
		line_double(&o->line, (double)metric_sum(s->cell) / 1e9);
	else if (s->family->type == ESP_COUNTER)
		line_int(&o->line, (int64_t)metric_sum(s->cell));
	else
		line_int(&o->line, atomic_load_explicit(&s->gauge, memory_order_relaxed));
	line_puts(&o->line, "\n");
	flush(o);
}

static const char *type_name(uint32_t type)
{
	return type == ESP_COUNTER ? "counter" : type == ESP_GAUGE ? "gauge" : "histogram";
}

static void (*_Atomic on_render)(void);

void metric_on_render(void (*measure)(void))
{
	atomic_store(&on_render, measure);
}

void metric_render(void (*sink)(void *arg, esp_str piece), void *arg)
{
	char buf[3072];
	struct output o = { sink, arg, line_on(buf, sizeof buf) };
	void (*measure)(void) = atomic_load(&on_render);

	if (measure)
		measure();

	for (const struct metric_family *f = metric_lock(); f; f = f->next) {
		if (!f->first)
			continue;
		line_puts(&o.line, "# HELP ");
		line_puts(&o.line, f->name);
		line_puts(&o.line, " ");
		put_help(&o.line, f->help, false);
		flush(&o);
		line_puts(&o.line, "\n# TYPE ");
		line_puts(&o.line, f->name);
		line_puts(&o.line, " ");
		line_puts(&o.line, type_name(f->type));
		line_puts(&o.line, "\n");
		flush(&o);
		for (const struct metric_series *s = f->first; s; s = s->next)
			put_series(&o, s);
	}
	metric_unlock();
}

/* Label names of a series, without their values. */
static void put_label_names(struct line *l, const char *labels)
{
	bool in_value = false, in_key = true;

	for (const char *p = labels; *p; p++) {
		if (in_value && *p == '\\' && p[1])
			p++;
		else if (*p == '"')
			in_value = !in_value;
		else if (!in_value && *p == '=')
			in_key = false;
		else if (!in_value && *p == ',') {
			line_puts(l, ", ");
			in_key = true;
		} else if (!in_value && in_key)
			line_put(l, p, 1);
	}
}

void metric_document(void (*sink)(void *arg, esp_str piece), void *arg)
{
	char buf[3072];
	struct output o = { sink, arg, line_on(buf, sizeof buf) };

	line_puts(&o.line, "# Metrics\n\nGenerated from the declarations; served in Prometheus text format.\n\n"
	                   "| name | type | labels | meaning |\n|---|---|---|---|\n");
	flush(&o);
	for (const struct metric_family *f = metric_lock(); f; f = f->next) {
		if (!f->first)
			continue;
		line_puts(&o.line, "| `");
		line_puts(&o.line, f->name);
		line_puts(&o.line, "` | ");
		line_puts(&o.line, type_name(f->type));
		line_puts(&o.line, " | ");
		put_label_names(&o.line, f->first->labels);
		line_puts(&o.line, " | ");
		put_help(&o.line, f->help, true);
		flush(&o);
		line_puts(&o.line, " |\n");
	}
	flush(&o);
	metric_unlock();
}
