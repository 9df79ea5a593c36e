/* core/bus/event.c - declared events, their schemas and docs/events.md (see event.h).
 *
 * Types are added under a mutex and never change or go away before event_free(), so a publisher on any thread reads
 * them without a lock.
 */
#include "core/base/status.h"
#include "core/bus/event-priv.h"
#include "core/bus/line.h"
#include "core/bus/log.h"
#include "core/bus/metric.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static struct {
	pthread_mutex_t lock;
	_Atomic uint32_t n;
	_Atomic(struct event_type *) types[EVENT_MAX];
	esp_metric wrong, lost;
} catalog = { .lock = PTHREAD_MUTEX_INITIALIZER };

_Atomic uint64_t event_interest[EVENT_MAX];

struct event_type *event_type_of(esp_event_id id)
{
	return id.v - 1u < EVENT_MAX ? atomic_load_explicit(&catalog.types[id.v - 1], memory_order_acquire) : NULL;
}

uint32_t event_types(void)
{
	return atomic_load_explicit(&catalog.n, memory_order_acquire);
}

/* --- names and patterns ------------------------------------------------------------------------------ */

/* Lower-case words of letters, digits and '_' joined by dots; with `pattern` the last word may be "*". */
static bool dotted_ok(const char *name, bool pattern)
{
	bool word = false;

	if (!name || strnlen(name, 65) > 64)
		return false;
	for (const char *p = name; *p; p++) {
		if (*p == '*' && pattern && !word && p[1] == '\0')
			return true;
		if (*p == '.' && !word)
			return false;
		if (*p != '.' && !((*p >= 'a' && *p <= 'z') || *p == '_' || *p == '-' || (word && *p >= '0' && *p <= '9')))
			return false;
		word = *p != '.';
	}
	return word;
}

bool event_pattern_ok(const char *pattern)
{
	return dotted_ok(pattern, true);
}

bool event_matches(const char *pattern, const char *name)
{
	size_t n = strlen(pattern);

	if (n && pattern[n - 1] == '*')   /* "*" or "prefix.*": the dot belongs to the prefix */
		return strncmp(pattern, name, n - 1) == 0;
	return strcmp(pattern, name) == 0;
}

/* --- declaring --------------------------------------------------------------------------------------- */

static esp_event_field field_at(const esp_event_field *fields, uint32_t i, uint32_t size)
{
	esp_event_field f = { 0 };

	memcpy(&f, (const char *)fields + (size_t)i * size, size < sizeof f ? size : sizeof f);
	return f;
}

static bool fields_ok(const esp_event_field *fields, uint32_t n, uint32_t size)
{
	if (n > EVENT_FIELDS_MAX || (n && (!fields || size < offsetof(esp_event_field, help))))
		return false;
	for (uint32_t i = 0; i < n; i++) {
		esp_event_field f = field_at(fields, i, size);

		if (!f.key || !*f.key || strnlen(f.key, 65) > 64 || f.type < ESP_F_STR || f.type > ESP_F_BOOL)
			return false;
		for (uint32_t j = 0; j < i; j++)
			if (strcmp(field_at(fields, j, size).key, f.key) == 0)
				return false;
	}
	return true;
}

static bool same_schema(const struct event_type *t, const esp_event_field *fields, uint32_t n, uint32_t size)
{
	if (t->nfields != n)
		return false;
	for (uint32_t i = 0; i < n; i++) {
		esp_event_field f = field_at(fields, i, size);

		if (t->fields[i].type != f.type || strcmp(t->fields[i].key, f.key) != 0)
			return false;
	}
	return true;
}

static void type_free(struct event_type *t)
{
	for (uint32_t i = 0; t->fields && i < t->nfields; i++) {
		free(t->fields[i].key);
		free(t->fields[i].help);
	}
	free(t->fields);
	free(t->name);
	free(t->help);
	free(t);
}

static struct event_type *type_new(
	const char *name, const char *help, const esp_event_field *fields, uint32_t n, uint32_t size)
{
	struct event_type *t = calloc(1, sizeof *t);
	bool ok;

	if (!t)
		return NULL;
	t->name = strdup(name);
	t->help = strdup(help ? help : "");
	t->fields = calloc(n ? n : 1, sizeof *t->fields);
	ok = t->name && t->help && t->fields;
	for (; ok && t->nfields < n; t->nfields++) {
		esp_event_field f = field_at(fields, t->nfields, size);
		struct event_type_field *to = &t->fields[t->nfields];

		to->type = f.type;
		to->key = strdup(f.key);
		to->help = strdup(f.help ? f.help : "");
		ok = to->key && to->help;
	}
	if (!ok) {
		t->nfields = t->fields ? n : 0;
		type_free(t);
		return NULL;
	}
	return t;
}

static esp_status declare_locked(
	const char *name, const char *help, const esp_event_field *fields, uint32_t n, uint32_t size, esp_event_id *ret)
{
	uint32_t count = event_types();
	struct event_type *t;

	for (uint32_t i = 0; i < count; i++) {
		t = atomic_load_explicit(&catalog.types[i], memory_order_relaxed);
		if (strcmp(t->name, name) != 0)
			continue;
		if (!same_schema(t, fields, n, size))
			return ESP_ECONFLICT;
		ret->v = i + 1;
		return ESP_OK;
	}
	if (count == EVENT_MAX)
		return ESP_EBUSY;
	t = type_new(name, help, fields, n, size);
	if (!t)
		return ESP_ENOMEM;
	atomic_store_explicit(&catalog.types[count], t, memory_order_release);
	atomic_store_explicit(&catalog.n, count + 1, memory_order_release);
	ret->v = count + 1;
	event_subscribers_match(count + 1, t->name);
	return ESP_OK;
}

esp_status event_declare(const char *name, const char *help, const esp_event_field *fields, uint32_t n,
                         uint32_t field_size, esp_event_id *ret)
{
	esp_status st;

	if (!ret || !dotted_ok(name, false) || !fields_ok(fields, n, field_size))
		return err_refuse(ESP_EINVAL,
			"the event %s is not valid: words of a-z 0-9 _ - with dots between, and fields with key "
			"and type",
			name ? name : "without a name");
	pthread_mutex_lock(&catalog.lock);
	if (!catalog.wrong.v) {
		catalog.wrong = metric_must(ESP_COUNTER, "esp_event_wrong_fields_total", "",
		                            "Fields left out of events because they were not declared so.");
		catalog.lost = metric_must(ESP_COUNTER, "esp_event_lost_total", "", "Events lost because there was no memory.");
	}
	st = declare_locked(name, help, fields, n, field_size, ret);
	pthread_mutex_unlock(&catalog.lock);
	return st;
}

void event_publish(const char *source, esp_event_id id, const esp_field *fields, uint32_t n, uint32_t field_size)
{
	struct event_type *t;
	struct event_block *b;
	uint64_t interest;
	uint32_t wrong;

	if (!event_wanted(id) || (t = event_type_of(id)) == NULL)
		return;
	b = event_block_new(t, id.v, source, fields, n, field_size, &wrong);
	if (wrong) {
		metric_add(catalog.wrong, wrong);
		if (!atomic_exchange_explicit(&t->complained, true, memory_order_relaxed))
			log_line(ESP_LOG_WARNING, source ? source : "core", "event has fields it was not declared with",
			         log_cstr("event", t->name));
	}
	if (!b) {
		metric_add(catalog.lost, 1);
		return;
	}
	interest = atomic_load_explicit(&event_interest[id.v - 1], memory_order_acquire);
	event_queue(b, interest);
}

void event_types_free(void)
{
	uint32_t n = event_types();

	atomic_store(&catalog.n, 0);
	for (uint32_t i = 0; i < n; i++) {
		atomic_store(&event_interest[i], 0);
		type_free(atomic_exchange(&catalog.types[i], NULL));
	}
}

/* --- docs/events.md ---------------------------------------------------------------------------------- */

static const char *const type_names[] = { "", "string", "integer", "duration", "id", "boolean" };

static int by_name(const void *a, const void *b)
{
	return strcmp((*(struct event_type *const *)a)->name, (*(struct event_type *const *)b)->name);
}

static void put(void (*sink)(void *arg, esp_str piece), void *arg, const char *s)
{
	sink(arg, (esp_str){ s, strlen(s) });
}

static void document_one(const struct event_type *t, void (*sink)(void *arg, esp_str piece), void *arg)
{
	const char *const parts[] = { "\n## ", t->name, "\n\n", t->help, "\n" };

	for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
		put(sink, arg, parts[i]);
	if (t->nfields)
		put(sink, arg, "\n| field | type | meaning |\n|---|---|---|\n");
	for (uint32_t i = 0; i < t->nfields; i++) {
		const char *const row[] = { "| `", t->fields[i].key, "` | ", type_names[t->fields[i].type], " | ",
			t->fields[i].help, " |\n" };

		for (size_t j = 0; j < sizeof row / sizeof row[0]; j++)
			put(sink, arg, row[j]);
	}
}

void event_document(void (*sink)(void *arg, esp_str piece), void *arg)
{
	uint32_t n = event_types();
	struct event_type **sorted = calloc(n ? n : 1, sizeof(struct event_type *));

	put(sink, arg,
		"# Events\n\nGenerated from the declarations.  Names are in the past tense; a subscription is a name, "
		"`prefix.*` or `*`.\n");
	if (!sorted)
		return;
	for (uint32_t i = 0; i < n; i++)
		sorted[i] = atomic_load_explicit(&catalog.types[i], memory_order_acquire);
	qsort(sorted, n, sizeof(struct event_type *), by_name);
	for (uint32_t i = 0; i < n; i++)
		document_one(sorted[i], sink, arg);
	free(sorted);
}

/* --- esp.event/1 ------------------------------------------------------------------------------------- */

static esp_status api_declare(esp_module *self, const char *name, const char *help, const esp_event_field *fields,
	uint32_t n, uint32_t field_size, esp_event_id *ret)
{
	(void)self;
	return event_declare(name, help, fields, n, field_size, ret);
}

static int32_t api_wanted(esp_event_id id)
{
	return event_wanted(id);
}

static void api_publish(esp_module *self, esp_event_id id, const esp_field *fields, uint32_t n, uint32_t field_size)
{
	event_publish(self ? self->name : NULL, id, fields, n, field_size);
}

const esp_event_api event_api = {
	.size = sizeof(esp_event_api),
	.declare = api_declare,
	.subscribe = event_subscribe,
	.wanted = api_wanted,
	.publish = api_publish,
};
