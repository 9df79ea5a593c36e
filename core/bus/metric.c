/* core/bus/metric.c - registry of series and the cells of each thread (see metric.h).
 *
 * Threads: declare on control (a mutex makes it any); add, set and observe anywhere, lock-free.
 * Everything here lives as long as the process.
 */
#include "core/base/status.h"
#include "core/bus/line.h"
#include "core/bus/metric-priv.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static struct {
	pthread_mutex_t lock;
	pthread_once_t once;
	pthread_key_t key;                    /* its destructor gives a block back when the thread ends */
	struct metric_cells *blocks;
	struct metric_family *families;
	uint32_t nseries, ncells;
	_Atomic(struct metric_series *) series[METRIC_SERIES_MAX];
} registry = { .lock = PTHREAD_MUTEX_INITIALIZER, .once = PTHREAD_ONCE_INIT };

_Thread_local struct metric_cells *metric_mine;

/* --- cells ------------------------------------------------------------------------------------------- */

static void on_thread_end(void *arg)
{
	struct metric_cells *mine = arg;

	pthread_mutex_lock(&registry.lock);
	mine->in_use = false;
	pthread_mutex_unlock(&registry.lock);
	metric_mine = NULL;
}

static void make_key(void)
{
	if (pthread_key_create(&registry.key, on_thread_end) != 0)
		abort();
}

static struct metric_cells *block_claim(void)
{
	struct metric_cells *b;

	pthread_once(&registry.once, make_key);
	pthread_mutex_lock(&registry.lock);
	for (b = registry.blocks; b && b->in_use; b = b->next)
		;
	if (!b && (b = aligned_alloc(64, (sizeof *b + 63) / 64 * 64)) != NULL) {
		memset(b, 0, sizeof *b);
		b->next = registry.blocks;
		registry.blocks = b;
	}
	if (b)
		b->in_use = true;
	pthread_mutex_unlock(&registry.lock);
	if (b)
		pthread_setspecific(registry.key, b);
	return b;
}

_Atomic uint64_t *metric_cell_first(uint32_t index)
{
	uint32_t n = index >> METRIC_CELL_BITS;
	_Atomic uint64_t *chunk;

	if (n >= METRIC_CHUNKS_MAX)
		return NULL;
	if (!metric_mine && (metric_mine = block_claim()) == NULL)
		return NULL;
	chunk = atomic_load_explicit(&metric_mine->chunk[n], memory_order_relaxed);
	if (!chunk) {
		chunk = aligned_alloc(64, sizeof *chunk << METRIC_CELL_BITS);
		if (!chunk)
			return NULL;
		memset((void *)chunk, 0, sizeof *chunk << METRIC_CELL_BITS);
		atomic_store_explicit(&metric_mine->chunk[n], chunk, memory_order_release);
	}
	return &chunk[index & ((1u << METRIC_CELL_BITS) - 1)];
}

uint64_t metric_sum(uint32_t cell)
{
	uint64_t sum = 0;

	for (const struct metric_cells *b = registry.blocks; b; b = b->next) {
		_Atomic uint64_t *chunk = atomic_load_explicit(&b->chunk[cell >> METRIC_CELL_BITS], memory_order_acquire);

		if (chunk)
			sum += atomic_load_explicit(&chunk[cell & ((1u << METRIC_CELL_BITS) - 1)], memory_order_relaxed);
	}
	return sum;
}

double metric_sum_double(uint32_t cell)
{
	double sum = 0;

	for (const struct metric_cells *b = registry.blocks; b; b = b->next) {
		_Atomic uint64_t *chunk = atomic_load_explicit(&b->chunk[cell >> METRIC_CELL_BITS], memory_order_acquire);
		uint64_t bits;
		double part;

		if (!chunk)
			continue;
		bits = atomic_load_explicit(&chunk[cell & ((1u << METRIC_CELL_BITS) - 1)], memory_order_relaxed);
		memcpy(&part, &bits, sizeof part);
		sum += part;
	}
	return sum;
}

struct metric_family *metric_lock(void)
{
	pthread_mutex_lock(&registry.lock);
	return registry.families;
}

void metric_unlock(void)
{
	pthread_mutex_unlock(&registry.lock);
}

/* --- declaring --------------------------------------------------------------------------------------- */

static bool name_char(char c, bool first, bool colon)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (colon && c == ':') ||
	       (!first && c >= '0' && c <= '9');
}

static bool ends_with(const char *s, const char *suffix)
{
	size_t n = strlen(s), m = strlen(suffix);

	return n >= m && strcmp(s + n - m, suffix) == 0;
}

static bool name_ok(uint32_t type, const char *name)
{
	bool total;

	if (!name || !*name || strnlen(name, 201) > 200)
		return false;
	for (const char *p = name; *p; p++)
		if (!name_char(*p, p == name, true))
			return false;
	total = ends_with(name, "_total");
	if (type == ESP_COUNTER)
		return total;
	return !total && !ends_with(name, "_bucket") && !ends_with(name, "_sum") && !ends_with(name, "_count");
}

/* The end of key="value" at p, or NULL.  In a value only \\, \" and \n may follow a backslash. */
static const char *label_end(const char *p, size_t *ret_key)
{
	const char *key = p;

	while (name_char(*p, p == key, false))
		p++;
	*ret_key = (size_t)(p - key);
	if (p == key || (p - key >= 2 && key[0] == '_' && key[1] == '_') || p[0] != '=' || p[1] != '"')
		return NULL;
	for (p += 2; *p != '"'; p++) {
		size_t n = line_utf8((const unsigned char *)p, strnlen(p, 4));

		if (n == 0 || (unsigned char)*p < 0x20)
			return NULL;
		if (*p == '\\' && *++p != '\\' && *p != '"' && *p != 'n')
			return NULL;
		if (n > 1)
			p += n - 1;
	}
	return p + 1;
}

static bool label_repeats(const char *labels, const char *key, size_t keylen)
{
	size_t n;

	for (const char *p = labels; p < key; ) {
		const char *end = label_end(p, &n);

		if (n == keylen && memcmp(p, key, n) == 0)
			return true;
		if (!end)
			break;
		p = end + 1;
	}
	return false;
}

static bool labels_ok(uint32_t type, const char *labels)
{
	if (strnlen(labels, 1001) > 1000)
		return false;
	for (const char *p = labels, *end; *p; p = end + (*end == ',')) {
		size_t n;

		end = label_end(p, &n);
		if (!end || (*end != '\0' && (*end != ',' || end[1] == '\0')) || label_repeats(labels, p, n))
			return false;
		if (type == ESP_HISTOGRAM && n == 2 && memcmp(p, "le", 2) == 0)
			return false;
	}
	return true;
}

static bool bounds_ok(uint32_t type, const double *bounds, uint32_t n)
{
	if (type != ESP_HISTOGRAM)
		return n == 0;
	if (n == 0 || n > METRIC_BOUNDS_MAX || !bounds)
		return false;
	for (uint32_t i = 0; i < n; i++)
		if (!isfinite(bounds[i]) || (i && bounds[i] <= bounds[i - 1]))
			return false;
	return true;
}

static esp_metric handle(uint32_t type, uint32_t index)
{
	return (esp_metric){ type << 28 | index };
}

/* Which number stands in the handle: counters name their cell, the others their place in series[]. */
static esp_metric series_handle(const struct metric_series *s, uint32_t index)
{
	return handle(s->family->type, s->family->type == ESP_COUNTER ? s->cell : index);
}

static struct metric_family *family_get(uint32_t type, const char *name, const char *help)
{
	struct metric_family **at = &registry.families, *f;

	while (*at && strcmp((*at)->name, name) < 0)
		at = &(*at)->next;
	if (*at && strcmp((*at)->name, name) == 0)
		return *at;
	f = calloc(1, sizeof *f);
	if (!f)
		return NULL;
	f->name = strdup(name);
	f->help = strdup(help ? help : "");
	f->type = type;
	if (!f->name || !f->help) {
		free(f->name);
		free(f->help);
		free(f);
		return NULL;
	}
	f->next = *at;
	return *at = f;
}

/* Cells of one series never straddle two chunks.  UINT32_MAX: none left. */
static uint32_t cells_take(uint32_t n)
{
	uint32_t size = 1u << METRIC_CELL_BITS, at = registry.ncells;

	if (at % size + n > size)
		at = (at / size + 1) * size;
	if (at + n > METRIC_CHUNKS_MAX * size)
		return UINT32_MAX;
	registry.ncells = at + n;
	return at;
}

static struct metric_series *series_new(struct metric_family *f, const char *labels, const double *bounds, uint32_t n)
{
	struct metric_series *s = calloc(1, sizeof *s);
	uint32_t cells = f->type == ESP_GAUGE ? 0 : f->type == ESP_COUNTER ? 1 : n + 2;

	if (!s)
		return NULL;
	s->family = f;
	s->nbounds = n;
	s->labels = strdup(labels);
	s->bounds = n ? malloc(n * sizeof *bounds) : NULL;
	s->cell = s->labels && (n == 0 || s->bounds) ? cells_take(cells) : UINT32_MAX;
	if (s->cell == UINT32_MAX) {
		free(s->labels);
		free(s->bounds);
		free(s);
		return NULL;
	}
	if (n)
		memcpy(s->bounds, bounds, n * sizeof *bounds);
	if (f->last)
		f->last->next = s;
	else
		f->first = s;
	f->last = s;
	return s;
}

static esp_status declare_locked(uint32_t type, const char *name, const char *labels, const char *help,
                                 const double *bounds, uint32_t nbounds, esp_metric *ret)
{
	struct metric_family *f = family_get(type, name, help);
	struct metric_series *s;

	if (!f)
		return ESP_ENOMEM;
	if (f->type != type)
		return ESP_ECONFLICT;
	for (uint32_t i = 0; i < registry.nseries; i++) {
		s = atomic_load_explicit(&registry.series[i], memory_order_relaxed);
		if (s->family != f)
			continue;
		if (s->nbounds != nbounds || (nbounds && memcmp(s->bounds, bounds, nbounds * sizeof *bounds) != 0))
			return ESP_ECONFLICT;   /* buckets of one family must add up */
		if (strcmp(s->labels, labels) == 0) {
			*ret = series_handle(s, i);
			return ESP_OK;
		}
	}
	if (registry.nseries == METRIC_SERIES_MAX)
		return ESP_EBUSY;
	s = series_new(f, labels, bounds, nbounds);
	if (!s)
		return ESP_ENOMEM;
	atomic_store_explicit(&registry.series[registry.nseries], s, memory_order_release);
	*ret = series_handle(s, registry.nseries++);
	return ESP_OK;
}

esp_status metric_declare(uint32_t type, const char *name, const char *labels, const char *help,
                          const double *bounds, uint32_t nbounds, esp_metric *ret)
{
	esp_status st;

	if (!labels)
		labels = "";
	if (type < ESP_COUNTER || type > ESP_HISTOGRAM || !ret || !name_ok(type, name) || !labels_ok(type, labels) ||
	    !bounds_ok(type, bounds, nbounds))
		return err_refuse(ESP_EINVAL, "the metric %s is not valid: counters, and only they, end in _total; labels are "
			"key=\"value\"; bounds ascend and are a histogram's", name ? name : "without a name");
	pthread_mutex_lock(&registry.lock);
	st = declare_locked(type, name, labels, help, bounds, nbounds, ret);
	pthread_mutex_unlock(&registry.lock);
	return st;
}

esp_metric metric_must(uint32_t type, const char *name, const char *labels, const char *help)
{
	esp_metric m = { 0 };

	if (metric_declare(type, name, labels, help, NULL, 0, &m) != ESP_OK)
		abort();
	return m;
}

esp_metric metric_must_seconds(const char *name, const char *labels, const char *help)
{
	esp_metric m = metric_must(ESP_COUNTER, name, labels, help);

	for (struct metric_family *f = metric_lock(); f; f = f->next)
		if (strcmp(f->name, name) == 0)
			f->nanoseconds = true;
	metric_unlock();
	return m;
}

/* --- adding ------------------------------------------------------------------------------------------ */

static struct metric_series *series_of(esp_metric m, uint32_t type)
{
	uint32_t index = m.v & METRIC_INDEX_MASK;

	if (m.v >> 28 != type || index >= METRIC_SERIES_MAX)
		return NULL;
	return atomic_load_explicit(&registry.series[index], memory_order_acquire);
}

static void cell_add(uint32_t index, uint64_t n)
{
	_Atomic uint64_t *cell = metric_cell(index);

	if (cell)
		atomic_store_explicit(cell, atomic_load_explicit(cell, memory_order_relaxed) + n, memory_order_relaxed);
}

static void cell_add_double(uint32_t index, double n)
{
	_Atomic uint64_t *cell = metric_cell(index);
	uint64_t bits;
	double sum;

	if (!cell)
		return;
	bits = atomic_load_explicit(cell, memory_order_relaxed);
	memcpy(&sum, &bits, sizeof sum);
	sum += n;
	memcpy(&bits, &sum, sizeof bits);
	atomic_store_explicit(cell, bits, memory_order_relaxed);
}

void metric_add(esp_metric m, int64_t n)
{
	struct metric_series *s;

	if (m.v >> 28 == ESP_COUNTER) {
		if (n > 0)   /* a counter never goes down */
			cell_add(m.v & METRIC_INDEX_MASK, (uint64_t)n);
	} else if ((s = series_of(m, ESP_GAUGE)) != NULL) {
		atomic_fetch_add_explicit(&s->gauge, n, memory_order_relaxed);
	}
}

void metric_set(esp_metric m, int64_t value)
{
	struct metric_series *s = series_of(m, ESP_GAUGE);

	if (s)
		atomic_store_explicit(&s->gauge, value, memory_order_relaxed);
}

void metric_observe(esp_metric m, double value)
{
	struct metric_series *s = series_of(m, ESP_HISTOGRAM);
	uint32_t i = 0;

	if (!s || !isfinite(value))
		return;
	while (i < s->nbounds && value > s->bounds[i])
		i++;
	cell_add(s->cell + i, 1);
	cell_add_double(s->cell + s->nbounds + 1, value);
}

int64_t metric_value(esp_metric m)
{
	struct metric_series *s;
	uint64_t sum = 0;

	if (m.v >> 28 == ESP_GAUGE) {
		s = series_of(m, ESP_GAUGE);
		return s ? atomic_load_explicit(&s->gauge, memory_order_relaxed) : 0;
	}
	s = series_of(m, ESP_HISTOGRAM);
	pthread_mutex_lock(&registry.lock);
	if (s)
		for (uint32_t i = 0; i <= s->nbounds; i++)
			sum += metric_sum(s->cell + i);
	else if (m.v >> 28 == ESP_COUNTER)
		sum = metric_sum(m.v & METRIC_INDEX_MASK);
	pthread_mutex_unlock(&registry.lock);
	return (int64_t)sum;
}

/* --- esp.metric/1 ------------------------------------------------------------------------------------ */

static esp_status api_declare(esp_module *self, uint32_t type, const char *name, const char *labels, const char *help,
                              const double *bounds, uint32_t nbounds, esp_metric *ret)
{
	(void)self;   /* series outlive who declared them */
	return metric_declare(type, name, labels, help, bounds, nbounds, ret);
}

const esp_metric_api metric_api = {
	.size = sizeof(esp_metric_api),
	.declare = api_declare,
	.add = metric_add,
	.set = metric_set,
	.observe = metric_observe,
	.render = metric_render,
};
