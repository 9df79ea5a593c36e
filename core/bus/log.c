/* core/bus/log.c - levels, formatting and the queue to the observer (see log.h).
 *
 * Threads: any may write.  A line is formatted into a buffer of its thread (formatting never suspends), copied into
 * one block and queued; the observer, or the caller while nobody is attached, writes it under the sink's mutex.
 * Errors: none reach the writer of a line; what could not be kept is counted.
 */
#include "core/bus/log.h"
#include "core/bus/line.h"
#include "core/bus/log-sink.h"
#include "core/bus/metric.h"
#include "core/bus/fifo.h"
#include "core/loop/worker.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { LINE_RESERVE = 32, QUEUE_DEPTH = 16384, DRAIN_BATCH = 512 };

/* Levels by module: immutable, replaced as a whole; the old ones stay until the process ends (a few hundred bytes
 * per change of the administrator), because a writer on any thread may be reading them. */
struct levels {
	int32_t level;
	uint32_t n;
	struct levels *older;
	struct { char *module; int32_t level; } of[];
};

static struct {
	pthread_mutex_t lock;                 /* sink; never taken by a writer while attached */
	struct log_sink sink;
	_Atomic bool json;
	_Atomic(struct levels *) levels;
	struct fifo *queue;
	_Atomic(struct worker *) observer;
	_Atomic bool woken;                   /* a drain was sent and did not start yet */
	struct mail_node node;                /* the observer's mailbox while woken */
	_Atomic uint64_t dropped;
	uint64_t told;                        /* drops reported so far; under lock */
	_Atomic uint32_t metric_dropped;
} logger = { .lock = PTHREAD_MUTEX_INITIALIZER, .sink = { .fd = 2 } };

_Atomic int32_t log_level_max = ESP_LOG_INFO;

static _Thread_local _Alignas(struct log_record) char line_buffer[sizeof(struct log_record) + LOG_LINE_MAX];

static const struct { const char *name; int32_t level; } names[] = {
	{ "error", ESP_LOG_ERROR }, { "warning", ESP_LOG_WARNING }, { "notice", ESP_LOG_NOTICE },
	{ "info", ESP_LOG_INFO }, { "debug", ESP_LOG_DEBUG },
};

int32_t log_level_of(const char *name)
{
	for (size_t i = 0; name && i < sizeof names / sizeof names[0]; i++)
		if (strcmp(names[i].name, name) == 0)
			return names[i].level;
	return 0;
}

const char *log_level_name(int32_t level)
{
	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
		if (level <= names[i].level)
			return names[i].name;
	return "debug";
}

bool log_enabled_for(int32_t level, const char *who)
{
	const struct levels *l = atomic_load_explicit(&logger.levels, memory_order_acquire);

	if (!l)
		return level <= ESP_LOG_INFO;
	for (uint32_t i = 0; who && i < l->n; i++)
		if (strcmp(l->of[i].module, who) == 0)
			return level <= l->of[i].level;
	return level <= l->level;
}

/* --- formatting -------------------------------------------------------------------------------------- */

static esp_str cstr(const char *s)
{
	return (esp_str){ s, s ? strlen(s) : 0 };
}

/* Keys of our own that a field must not repeat: a second "time" would make the object ambiguous. */
static bool key_taken(const char *key)
{
	static const char *const own[] = { "time", "level", "module", "msg", "cut" };

	for (size_t i = 0; key && i < sizeof own / sizeof own[0]; i++)
		if (strcmp(own[i], key) == 0)
			return true;
	return false;
}

/* One field, whole or not at all. */
static bool put_field(struct line *l, const esp_field *f, bool json)
{
	size_t start = l->len;

	line_puts(l, json ? ",\"" : " ");
	if (key_taken(f->key))
		line_puts(l, "field.");
	line_key(l, f->key);
	line_puts(l, json ? "\":" : "=");
	line_field(l, f, json);
	if (l->cut)
		l->len = start;
	return !l->cut;
}

static void put_head(struct line *l, int32_t level, const char *who, const char *text, bool json, uint32_t *ret_stamp)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	line_puts(l, json ? "{\"time\":\"" : "");
	line_time(l, now.tv_sec, now.tv_nsec);
	*ret_stamp = (uint32_t)l->len;
	if (json) {
		line_puts(l, "\",\"level\":\"");
		line_puts(l, log_level_name(level));
		line_puts(l, "\",\"module\":");
		line_json(l, cstr(who ? who : "core"));
		line_puts(l, ",\"msg\":");
		line_json(l, cstr(text));
	} else {
		*ret_stamp += 1;
		line_puts(l, " ");
		line_puts(l, log_level_name(level));
		line_puts(l, " ");
		line_key(l, who ? who : "core");
		line_puts(l, ": ");
		for (const char *p = text ? text : ""; *p && p - (text ? text : p) < LINE_VALUE_MAX; p++)
			line_put(l, (unsigned char)*p < 0x20 || *p == 0x7f ? " " : p, 1);
	}
}

static struct log_record *format(int32_t level, const char *who, const char *text, const esp_field *fields, uint32_t n,
                                 uint32_t field_size)
{
	struct log_record *r = (struct log_record *)(void *)line_buffer;
	struct line l = line_on(r->bytes, LOG_LINE_MAX - LINE_RESERVE);
	bool json = atomic_load_explicit(&logger.json, memory_order_relaxed), cut = false;

	put_head(&l, level, who, text, json, &r->stamp);
	for (uint32_t i = 0; i < n && !cut; i++) {
		esp_field f = line_field_at(fields, i, field_size);

		cut = !put_field(&l, &f, json);
	}
	l.cap = LOG_LINE_MAX;   /* the reserve is for what closes the line */
	l.cut = false;
	if (cut)
		line_puts(&l, json ? ",\"cut\":true" : " cut=true");
	line_puts(&l, json ? "}" : "");
	r->level = level;
	r->len = (uint32_t)l.len;
	return r;
}

/* --- writing ----------------------------------------------------------------------------------------- */

static int64_t seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec;
}

/* For who wrote. */
static void unlock(void)
{
	log_sink_flush(&logger.sink);
	pthread_mutex_unlock(&logger.lock);
}

/* Under the lock.  The line buffer is free: what it held was written or copied. */
static void write_summary(const struct log_summary *s)
{
	const esp_field f[] = { log_cstr("line", s->text), ESP_FINT("count", s->count) };

	if (s->count)
		log_sink_write(
			&logger.sink, format(ESP_LOG_NOTICE, "core/bus", "identical lines were left out", f, 2, sizeof f[0]));
}

/* Under the lock. */
static void write_record(const struct log_record *r, int64_t now)
{
	struct log_summary s;
	bool admitted = log_sink_admit(&logger.sink, r, now, &s);

	if (admitted)
		log_sink_write(&logger.sink, r);
	write_summary(&s);
}

static void write_directly(const struct log_record *r)
{
	pthread_mutex_lock(&logger.lock);
	write_record(r, seconds());
	unlock();
}

static void on_drain(struct mail_node *n);

static void wake(struct worker *observer)
{
	if (atomic_exchange_explicit(&logger.woken, true, memory_order_acq_rel))
		return;
	logger.node.fn = on_drain;
	worker_send(observer, &logger.node);
}

static bool drain(uint32_t max)
{
	int64_t now = seconds();
	struct log_record *r;
	uint32_t n = 0;

	pthread_mutex_lock(&logger.lock);
	while (n < max && (r = fifo_take(logger.queue)) != NULL) {
		write_record(r, now);
		free(r);
		n++;
	}
	unlock();
	return n == max;
}

static void on_drain(struct mail_node *n)
{
	struct worker *observer = atomic_load(&logger.observer);

	(void)n;
	/* before taking: a line put meanwhile wakes again */
	atomic_exchange_explicit(&logger.woken, false, memory_order_acq_rel);
	if (drain(DRAIN_BATCH) && observer)
		wake(observer);               /* let the others on this loop run in between */
}

static void drop(void)
{
	esp_metric m = { atomic_load_explicit(&logger.metric_dropped, memory_order_relaxed) };

	atomic_fetch_add_explicit(&logger.dropped, 1, memory_order_relaxed);
	if (m.v)
		metric_add(m, 1);
}

void log_write_sized(int32_t level, const char *who, const char *text, const esp_field *fields, uint32_t n,
                     uint32_t field_size)
{
	struct worker *observer = atomic_load_explicit(&logger.observer, memory_order_acquire);
	struct log_record *r, *copy;

	if (!log_enabled(level, who))
		return;
	r = format(level, who, text, fields, n, field_size);
	if (!observer) {
		write_directly(r);
		return;
	}
	copy = malloc(sizeof *copy + r->len);
	if (!copy) {
		drop();
		return;
	}
	memcpy(copy, r, sizeof *r + r->len);
	if (!fifo_put(logger.queue, copy)) {
		free(copy);
		drop();
		return;
	}
	wake(observer);
}

void log_write(int32_t level, const char *who, const char *text, const esp_field *fields, uint32_t n)
{
	log_write_sized(level, who, text, fields, n, sizeof *fields);
}

/* --- life -------------------------------------------------------------------------------------------- */

static struct levels *levels_new(const struct log_config *c)
{
	struct levels *l = calloc(1, sizeof *l + c->nlevels * sizeof l->of[0]);

	if (!l)
		return NULL;
	l->level = c->level ? c->level : ESP_LOG_INFO;
	for (; l->n < c->nlevels; l->n++) {
		l->of[l->n].level = c->levels[l->n].level;
		l->of[l->n].module = strdup(c->levels[l->n].module);
		if (!l->of[l->n].module)
			break;
	}
	return l;
}

static int32_t levels_max(const struct levels *l)
{
	int32_t max = l->level;

	for (uint32_t i = 0; i < l->n; i++)
		if (l->of[i].level > max)
			max = l->of[i].level;
	return max;
}

static void levels_free(struct levels *l)
{
	for (uint32_t i = 0; l && i < l->n; i++)
		free(l->of[i].module);
	free(l);
}

static bool levels_equal(const struct levels *a, const struct levels *b)
{
	if (!a || a->level != b->level || a->n != b->n)
		return false;
	for (uint32_t i = 0; i < a->n; i++)
		if (a->of[i].level != b->of[i].level || strcmp(a->of[i].module, b->of[i].module) != 0)
			return false;
	return true;
}

/* Under the lock.  A reload that changes no level leaves nothing behind. */
static void levels_set(struct levels *l)
{
	struct levels *now = atomic_load(&logger.levels);

	if (levels_equal(now, l)) {
		levels_free(l);
		return;
	}
	l->older = now;
	atomic_store_explicit(&logger.levels, l, memory_order_release);
	atomic_store(&log_level_max, levels_max(l));
}

esp_status log_open(const struct log_config *c, esp_err *err)
{
	struct log_sink *fresh = malloc(sizeof *fresh);
	struct levels *l = levels_new(c);
	esp_status st = fresh && l ? log_sink_open(fresh, c->target, c->path, err) : ESP_ENOMEM;

	if (st == ESP_OK && !logger.queue && (logger.queue = fifo_new(QUEUE_DEPTH)) == NULL) {
		log_sink_close(fresh);
		st = ESP_ENOMEM;
	}
	if (st != ESP_OK) {
		levels_free(l);
		free(fresh);
		return st;
	}
	atomic_store(&logger.metric_dropped, metric_must(ESP_COUNTER, "esp_log_dropped_lines_total", "",
	                                                 "Log lines lost because the queue was full.").v);
	pthread_mutex_lock(&logger.lock);
	log_sink_close(&logger.sink);
	logger.sink = *fresh;
	atomic_store(&logger.json, c->json);
	levels_set(l);
	pthread_mutex_unlock(&logger.lock);
	free(fresh);
	return ESP_OK;
}

esp_status log_check(const struct log_config *c, esp_err *err)
{
	struct log_sink *probe = malloc(sizeof *probe);
	esp_status st = probe ? log_sink_open(probe, c->target, c->path, err) : ESP_ENOMEM;

	if (st == ESP_OK)
		log_sink_close(probe);
	free(probe);
	return st;
}

esp_status log_reopen(esp_err *err)
{
	esp_status st;

	pthread_mutex_lock(&logger.lock);
	st = log_sink_reopen(&logger.sink, err);
	pthread_mutex_unlock(&logger.lock);
	return st;
}

esp_status log_attach(struct worker *observer)
{
	if (!logger.queue && (logger.queue = fifo_new(QUEUE_DEPTH)) == NULL)
		return ESP_ENOMEM;
	atomic_store(&logger.woken, false);
	atomic_store_explicit(&logger.observer, observer, memory_order_release);
	return ESP_OK;
}

void log_detach(void)
{
	atomic_store_explicit(&logger.observer, NULL, memory_order_release);
	if (logger.queue)
		while (drain(DRAIN_BATCH))
			;
}

/* Under the lock: how many lines were lost since it was last said. */
static void tell(uint64_t total, uint64_t *told, const char *text)
{
	const esp_field f = ESP_FINT("count", (int64_t)(total - *told));

	if (total != *told)
		log_sink_write(&logger.sink, format(ESP_LOG_WARNING, "core/bus", text, &f, 1, sizeof f));
	*told = total;
}

void log_tick(void)
{
	struct worker *observer = atomic_load(&logger.observer);
	struct log_summary s;

	pthread_mutex_lock(&logger.lock);
	while (log_sink_expire(&logger.sink, seconds(), &s))
		write_summary(&s);
	tell(atomic_load(&logger.dropped), &logger.told, "log lines were dropped");
	tell(logger.sink.lost, &logger.sink.told, "log lines could not be written");
	unlock();
	if (observer && logger.queue && !fifo_empty(logger.queue))
		wake(observer);
}

void log_close(void)
{
	struct log_summary s;
	struct levels *l;

	log_detach();
	pthread_mutex_lock(&logger.lock);
	while (log_sink_expire(&logger.sink, INT64_MAX, &s))
		write_summary(&s);
	log_sink_close(&logger.sink);
	logger.sink.fd = 2;
	logger.sink.target = LOG_TO_STDERR;
	unlock();
	/* nobody else writes any more */
	l = atomic_exchange(&logger.levels, NULL);
	atomic_store(&log_level_max, ESP_LOG_INFO);
	while (l) {
		struct levels *older = l->older;

		levels_free(l);
		l = older;
	}
	fifo_free(logger.queue);
	logger.queue = NULL;
}

/* --- esp.log/1 --------------------------------------------------------------------------------------- */

static int32_t api_enabled(const esp_module *self, int32_t level)
{
	return log_enabled(level, self ? self->name : "core");
}

static void api_write(const esp_module *self, int32_t level, const char *text, const esp_field *fields, uint32_t n,
                      uint32_t field_size)
{
	log_write_sized(level, self ? self->name : "core", text, fields, n, field_size);
}

const esp_log_api log_api = {
	.size = sizeof(esp_log_api),
	.enabled = api_enabled,
	.write = api_write,
};
