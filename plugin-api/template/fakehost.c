/* fakehost.c - see fakehost.h.  One thread, one module; one static pointer, because host functions carry no context. */
/* long: one file, so that the test of a module has to copy nothing else */
#include "fakehost.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

extern const esp_module_desc esp_module_descriptor;

enum { MAX = 64 };

struct chunk { struct chunk *next; void (*fn)(void *); void *arg; };   /* fn NULL: memory, behind the chunk */
struct arena { esp_arena pub; struct arena *next; struct chunk *chunks; size_t used, cap; const char *label; };
struct rc { uint32_t count, nchildren; void **children; uint64_t pad; };
struct esp_cfg { const esp_cfg_item *items; char prefix[64]; };
struct esp_timer { void (*cb)(void *); void *arg; esp_nsec at; };
struct slot { const void *object; esp_slot slot; void *data; void (*dtor)(void *); };

static struct fakehost {
	esp_module module;
	const char *settings[MAX];
	uint32_t nsettings;
	esp_err err;
	esp_nsec now;
	struct arena *arenas, *own, *txn;
	struct esp_cfg cfg[MAX];
	uint32_t ncfg;
	struct { const char *id; esp_service *table; } services[MAX];
	uint32_t nservices;
	esp_hook hooks[MAX];
	uint32_t nhooks;
	struct { const char *name; int64_t n; } events[MAX], metrics[MAX];
	uint32_t nevents, nmetrics;
	struct slot slots[MAX];
	uint32_t nslots, nkinds;
	struct { size_t bytes; void (*dtor)(void *); } kinds[MAX];
	struct esp_timer *timers[MAX];
	struct { esp_module *by; const char *point; const void *data; } items[MAX];
	uint32_t nitems;
	int holds;
	uint64_t conns;
	int inited, started;
} *host;

__attribute__((noreturn, format(printf, 1, 2))) static void broken(const char *fmt, ...)
{
	va_list ap;

	fputs("fakehost: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	abort();
}

static void full(uint32_t n, const char *what)
{
	if (n >= MAX)
		broken("more than %d %s", MAX, what);
}

/* --- memory -------------------------------------------------------------------------------------------------- */

static const esp_mem_api mem;

static esp_arena *arena_new(esp_module *self, const char *label, size_t cap)
{
	struct arena *a = calloc(1, sizeof *a);

	(void)self;
	if (!a)
		abort();
	a->pub.api = &mem;
	a->label = label;
	a->cap = cap ? cap : (size_t)64 << 20;
	a->next = host->arenas;
	host->arenas = a;
	return &a->pub;
}

static void arena_reset(esp_arena *pub)
{
	struct arena *a = (struct arena *)pub;

	while (a->chunks) {
		struct chunk *c = a->chunks;

		a->chunks = c->next;
		if (c->fn)
			c->fn(c->arg);
		free(c);
	}
	a->used = 0;
}

static void arena_free(esp_arena *pub)
{
	struct arena **at = &host->arenas;

	arena_reset(pub);
	while (*at && *at != (struct arena *)pub)
		at = &(*at)->next;
	if (!*at)
		broken("an arena is freed twice");
	*at = (*at)->next;
	free(pub);
}

static struct chunk *chunk_new(struct arena *a, size_t n)
{
	struct chunk *c = n > a->cap - a->used ? NULL : calloc(1, ((sizeof *c + 15) & ~(size_t)15) + n);

	if (c) {
		a->used += n;
		c->next = a->chunks;
		a->chunks = c;
	}
	return c;
}

static void *mem_alloc(esp_arena *a, size_t n)
{
	struct chunk *c = chunk_new((struct arena *)a, n);

	return c ? (char *)c + ((sizeof *c + 15) & ~(size_t)15) : NULL;
}

static esp_status mem_defer(esp_arena *a, void (*fn)(void *), void *arg)
{
	struct chunk *c = chunk_new((struct arena *)a, 0);

	if (!c)
		return ESP_ENOMEM;
	c->fn = fn;
	c->arg = arg;
	return ESP_OK;
}

static size_t mem_used(const esp_arena *a)
{
	return ((const struct arena *)a)->used;
}

static void *rc_new(size_t bytes, uint32_t children)
{
	struct rc *r = calloc(1, sizeof *r + bytes);

	if (!r)
		return NULL;
	r->count = 1;
	r->nchildren = children;
	r->children = children ? calloc(children, sizeof *r->children) : NULL;
	return r + 1;
}

static void rc_set_child(void *p, uint32_t i, void *child) { ((struct rc *)p - 1)->children[i] = child; }
static void *rc_child(const void *p, uint32_t i) { return ((const struct rc *)p - 1)->children[i]; }

static void *rc_ref(void *p)
{
	((struct rc *)p - 1)->count++;
	return p;
}

static void rc_unref(void *p)
{
	struct rc *r = p ? (struct rc *)p - 1 : NULL;

	if (!r || --r->count)
		return;
	for (uint32_t i = 0; i < r->nchildren; i++)
		rc_unref(r->children[i]);   /* depth: as deep as the module nests, no further than it built itself */
	free(r->children);
	free(r);
}

static const esp_mem_api mem = { .size = sizeof mem,
	.arena_new = arena_new,
	.arena_free = arena_free,
	.arena_reset = arena_reset,
	.alloc = mem_alloc,
	.defer = mem_defer,
	.used = mem_used,
	.rc_new = rc_new,
	.rc_set_child = rc_set_child,
	.rc_child = rc_child,
	.rc_ref = rc_ref,
	.rc_unref = rc_unref };

/* --- configuration ------------------------------------------------------------------------------------------- */

static const esp_cfg_item *item(const esp_cfg *c, const char *key)
{
	for (const esp_cfg_item *i = c->items; i && i->name; i++)
		if (strcmp(i->name, key) == 0)
			return i;
	broken("the module asks for \"%s%s\", which its schema does not declare", c->prefix, key);
}

static const char *setting(const esp_cfg *c, const char *key)
{
	char name[160];

	snprintf(name, sizeof name, "%s%s=", c->prefix, key);
	for (uint32_t i = 0; i < host->nsettings; i++)
		if (strncmp(host->settings[i], name, strlen(name)) == 0)
			return host->settings[i] + strlen(name);
	return NULL;
}

static int64_t number(const esp_cfg_item *i, const char *text)
{
	static const struct { const char *unit; int64_t factor; } units[] = {
		{ "", 1 }, { "KiB", 1 << 10 }, { "MiB", 1 << 20 }, { "GiB", 1 << 30 }, { "ms", ESP_MSEC }, { "s", ESP_SEC },
		{ "m", 60 * ESP_SEC }, { "h", 3600 * ESP_SEC }, { "d", 86400 * ESP_SEC }
	};
	char *end;
	int64_t v = strtoll(text, &end, 10);

	end += strspn(end, " ");
	for (size_t u = 0; u < sizeof units / sizeof units[0]; u++)
		if (end != text && strcmp(end, units[u].unit) == 0) {
			v *= units[u].factor;
			if ((i->min || i->max) && (v < i->min || v > i->max))
				broken("%s=%s is out of bounds", i->name, text);
			return v;
		}
	broken("%s=%s is no number", i->name, text);
}

static int32_t cfg_boolean(const esp_cfg *c, const char *key)
{
	const char *s = setting(c, key);

	return s ? strcmp(s, "true") == 0 : item(c, key)->def_int != 0;
}

static int64_t cfg_integer(const esp_cfg *c, const char *key)
{
	const esp_cfg_item *i = item(c, key);
	const char *s = setting(c, key);

	return s ? number(i, s) : i->def_int;
}

static esp_str cfg_string(const esp_cfg *c, const char *key)
{
	const esp_cfg_item *i = item(c, key);
	const char *s = setting(c, key);

	s = s ? s : i->def_str;
	return (esp_str){ s, s ? strlen(s) : 0 };
}

static int32_t cfg_choice(const esp_cfg *c, const char *key)
{
	const esp_cfg_item *i = item(c, key);
	esp_str v = cfg_string(c, key);
	int32_t n = 0;

	for (const char *p = i->choices; p && *p; p += strcspn(p, "|"), p += *p == '|', n++)
		if (v.len == strcspn(p, "|") && memcmp(p, v.ptr, v.len) == 0)
			return n;
	if (v.ptr)
		broken("%s=%s is not one of %s", key, v.ptr, i->choices);
	return -1;
}

static int32_t cfg_is_set(const esp_cfg *c, const char *key)
{
	return item(c, key) && setting(c, key);
}

static uint32_t cfg_count(const esp_cfg *c, const char *key)
{
	const char *s = item(c, key)->type == ESP_CFG_STRINGS ? setting(c, key) : NULL;
	uint32_t n = s && *s;

	for (; s && *s; s++)
		n += *s == ',';
	return n;
}

static esp_str cfg_string_at(const esp_cfg *c, const char *key, uint32_t i)
{
	const char *s = setting(c, key);

	if (i >= cfg_count(c, key))
		broken("%s has no entry %u", key, i);
	for (; i; i--)
		s += strcspn(s, ",") + 1;
	return (esp_str){ s, strcspn(s, ",") };
}

static const esp_cfg *cfg_group(const esp_cfg *c, const char *key)
{
	struct esp_cfg *g = &host->cfg[host->ncfg];

	full(host->ncfg++, "reads of groups");
	g->items = item(c, key)->children;
	if (snprintf(g->prefix, sizeof g->prefix, "%s%s.", c->prefix, key) >= (int)sizeof g->prefix)
		broken("%s is nested too deep", key);
	return g;
}

static const esp_cfg *cfg_at(const esp_cfg *c, const char *key, uint32_t i, esp_str *ret_name)
{
	(void)c;
	(void)ret_name;
	broken("%s has no entry %u: lists of groups are empty here", key, i);
}

static void cfg_error(const esp_cfg *c, const char *key, esp_err *err, const char *fmt, ...)
{
	va_list ap;

	(void)c;
	(void)key;
	va_start(ap, fmt);
	vsnprintf(err->text, sizeof err->text, fmt, ap);
	va_end(ap);
}

static const esp_config_api config = { .size = sizeof config,
	.boolean = cfg_boolean,
	.integer = cfg_integer,
	.string = cfg_string,
	.choice = cfg_choice,
	.is_set = cfg_is_set,
	.count = cfg_count,
	.string_at = cfg_string_at,
	.group = cfg_group,
	.at = cfg_at,
	.error = cfg_error };

static void check_settings(void)
{
	const esp_cfg *c = &host->cfg[0];

	for (uint32_t i = 0; i < host->nsettings; i++) {
		char key[64];
		size_t n = strcspn(host->settings[i], "=.");

		if (n >= sizeof key)
			broken("the setting %s is too long", host->settings[i]);
		memcpy(key, host->settings[i], n);
		key[n] = '\0';
		(void)item(c, key);
	}
	for (const esp_cfg_item *i = c->items; i && i->name; i++) {
		if ((i->flags & ESP_CFG_REQUIRED) && !setting(c, i->name))
			broken("%s is required", i->name);
		if (i->type == ESP_CFG_INT || i->type == ESP_CFG_SIZE || i->type == ESP_CFG_TIME)
			(void)cfg_integer(c, i->name);
		if (i->type == ESP_CFG_ENUM)
			(void)cfg_choice(c, i->name);
	}
}

/* --- log, fibers, loop, pool --------------------------------------------------------------------------------- */

static int32_t log_enabled(const esp_module *self, int32_t level)
{
	(void)self;
	return level <= ESP_LOG_WARNING || getenv("FAKEHOST_LOG") != NULL;
}

static void log_write(
	const esp_module *self, int32_t level, const char *text, const esp_field *fields, uint32_t n, uint32_t field_size)
{
	fprintf(stderr, "%s: %d %s", self->name, level, text);
	for (uint32_t i = 0; i < n; i++) {
		const esp_field *f = (const esp_field *)(const void *)((const char *)fields + (size_t)i * field_size);

		if (f->type == ESP_F_STR)
			fprintf(stderr, " %s=%.*s", f->key, ESP_FMT(f->s));
		else
			fprintf(stderr, " %s=%lld", f->key, (long long)f->i);
	}
	fputc('\n', stderr);
}

static const esp_log_api log_api = { .size = sizeof log_api, .enabled = log_enabled, .write = log_write };

static esp_status fiber_spawn(
	esp_module *self, uint32_t flags, const char *name, void (*fn)(void *), void *arg, esp_fiber **ret)
{
	(void)self;
	(void)flags;
	(void)name;
	if (ret)
		*ret = NULL;
	fn(arg);
	return ESP_OK;
}

static esp_fiber *fiber_current(void) { return NULL; }
static void fiber_ignore(esp_fiber *f) { (void)f; }
static int32_t fiber_canceled(void) { return 0; }
static esp_nsec fiber_set_deadline(esp_nsec d) { (void)d; return 0; }
static esp_nsec fiber_deadline(void) { return 0; }
static void fiber_flag(int32_t on) { (void)on; }
static esp_status fiber_yield(void) { return ESP_OK; }
static esp_status fiber_lock(esp_fmutex *m) { (void)m; return ESP_OK; }
static void fiber_unlock(esp_fmutex *m) { (void)m; }

static esp_status fiber_sleep_until(esp_nsec when)
{
	if (when > host->now)
		fakehost_sleep(host, when - host->now);
	return ESP_OK;
}

static esp_status fiber_wait_fd(int fd, uint32_t events, uint32_t *ret)
{
	(void)events;
	(void)ret;
	broken("wait_fd(%d): there is no I/O here; test that part against a running server", fd);
}

static esp_ticket fiber_ticket(void) { return (esp_ticket){ 0, 0 }; }
static esp_status fiber_suspend(void) { broken("suspend(): nobody else runs who could wake this fiber"); }
static void fiber_wake(esp_ticket t) { (void)t; }
static esp_status fiber_wait(esp_fcond *c) { (void)c; broken("wait(): nobody else runs who could signal"); }
static void fiber_signal(esp_fcond *c) { (void)c; }

static const esp_fiber_api fiber = { .size = sizeof fiber,
	.spawn = fiber_spawn,
	.current = fiber_current,
	.join = fiber_ignore,
	.cancel = fiber_ignore,
	.canceled = fiber_canceled,
	.set_deadline = fiber_set_deadline,
	.deadline = fiber_deadline,
	.shield = fiber_flag,
	.nosuspend = fiber_flag,
	.sleep_until = fiber_sleep_until,
	.yield = fiber_yield,
	.lock = fiber_lock,
	.unlock = fiber_unlock,
	.wait_fd = fiber_wait_fd,
	.ticket = fiber_ticket,
	.suspend = fiber_suspend,
	.wake = fiber_wake,
	.wait = fiber_wait,
	.signal = fiber_signal,
	.broadcast = fiber_signal };

static esp_worker *loop_here(void) { return NULL; }
static uint32_t loop_workers(void) { return 1; }
static esp_worker *loop_worker(uint32_t i) { (void)i; return NULL; }
static uint32_t loop_index(const esp_worker *w) { (void)w; return 0; }
static esp_nsec loop_now(void) { return host->now; }

static esp_time loop_wall(int64_t *ret_nsec)
{
	if (ret_nsec)
		*ret_nsec = host->now % ESP_SEC;
	return 1767225600 + host->now / ESP_SEC;      /* 2026-01-01 */
}

static esp_timer *loop_after(esp_module *self, esp_nsec delay, void (*cb)(void *), void *arg)
{
	struct esp_timer *t = calloc(1, sizeof *t);

	(void)self;
	for (uint32_t i = 0; t && i < MAX; i++)
		if (!host->timers[i]) {
			*t = (struct esp_timer){ cb, arg, host->now + delay };
			host->timers[i] = t;
			return t;
		}
	broken("more than %d timers", MAX);
}

static void loop_untimer(esp_timer *t)
{
	for (uint32_t i = 0; i < MAX; i++)
		if (host->timers[i] == t) {
			host->timers[i] = NULL;
			free(t);
			return;
		}
}

static esp_status loop_post(esp_module *self, esp_worker *w, void (*fn)(void *), void *arg)
{
	(void)self;
	(void)w;
	fn(arg);
	return ESP_OK;
}

static esp_status loop_post_fiber(esp_module *self, esp_worker *w, const char *name, void (*fn)(void *), void *arg)
{
	(void)name;
	return loop_post(self, w, fn, arg);
}

static esp_watch *loop_watch(esp_module *self, int fd, uint32_t events, void (*cb)(void *, uint32_t), void *arg)
{
	(void)self;
	(void)events;
	(void)cb;
	(void)arg;
	broken("watch(%d): there is no I/O here; test that part against a running server", fd);
}

static const esp_loop_api loop = { .size = sizeof loop,
	.here = loop_here,
	.workers = loop_workers,
	.worker = loop_worker,
	.index = loop_index,
	.now = loop_now,
	.clock = loop_now,
	.wall = loop_wall,
	.after = loop_after,
	.untimer = loop_untimer,
	.post = loop_post,
	.post_fiber = loop_post_fiber,
	.watch = loop_watch };

static esp_lane *pool_lane(const char *name) { (void)name; return (esp_lane *)host; }

static esp_lane *pool_open(esp_module *self, const char *name, uint32_t width, uint32_t queue)
{
	(void)self;
	(void)width;
	(void)queue;
	return pool_lane(name);
}

static esp_status pool_run(esp_module *self, esp_lane *l, int32_t (*fn)(void *), void *arg, int32_t *ret)
{
	int32_t v = fn(arg);

	(void)self;
	(void)l;
	if (ret)
		*ret = v;
	return ESP_OK;
}

static esp_status pool_submit(esp_module *self, esp_lane *l, void (*fn)(void *), void *arg)
{
	(void)self;
	(void)l;
	fn(arg);
	return ESP_OK;
}

static const esp_pool_api pool = {
	.size = sizeof pool, .lane = pool_lane, .open = pool_open, .run = pool_run, .submit = pool_submit
};

/* --- hooks, events, metrics, slots --------------------------------------------------------------------------- */

static esp_status hook_add(esp_module *self, const esp_hook *h)
{
	(void)self;
	full(host->nhooks, "hooks");
	if (!h->run.any || !h->point || h->point >= ESP_AT_COUNT)
		return ESP_EINVAL;
	host->hooks[host->nhooks++] = *h;
	return ESP_OK;
}

static void hook_run(esp_point point, const void *args, esp_arena *arena, esp_outcome *ret)
{
	(void)arena;
	*ret = (esp_outcome){ .size = sizeof *ret };
	ret->verdict = fakehost_run(host, point, args, &ret->answer);
}

static const esp_hook_api hook = { .size = sizeof hook, .add = hook_add, .run = hook_run };

static esp_status event_declare(esp_module *self, const char *name, const char *help, const esp_event_field *fields,
	uint32_t n, uint32_t field_size, esp_event_id *ret)
{
	(void)self;
	(void)help;
	(void)fields;
	(void)n;
	(void)field_size;
	full(host->nevents, "events");
	host->events[host->nevents].name = name;
	ret->v = host->nevents++;
	return ESP_OK;
}

static esp_status event_subscribe(esp_module *self, const esp_subscription *s)
{
	(void)self;
	return s->on_events ? ESP_OK : ESP_EINVAL;
}

static int32_t event_wanted(esp_event_id id) { (void)id; return 1; }

static void event_publish(esp_module *self, esp_event_id id, const esp_field *fields, uint32_t n, uint32_t field_size)
{
	(void)self;
	(void)fields;
	(void)n;
	(void)field_size;
	if (id.v >= host->nevents)
		broken("an event that was never declared is published");
	host->events[id.v].n++;
}

static const esp_event_api event = {
	.size = sizeof event, .declare = event_declare, .subscribe = event_subscribe, .wanted = event_wanted,
	.publish = event_publish
};

static esp_status metric_declare(esp_module *self, uint32_t type, const char *name, const char *labels,
	const char *help, const double *bounds, uint32_t nbounds, esp_metric *ret)
{
	(void)self;
	(void)type;
	(void)labels;
	(void)help;
	(void)bounds;
	(void)nbounds;
	full(host->nmetrics, "metrics");
	host->metrics[host->nmetrics].name = name;
	ret->v = host->nmetrics++;
	return ESP_OK;
}

static void metric_add(esp_metric m, int64_t n) { host->metrics[m.v % MAX].n += n; }
static void metric_set(esp_metric m, int64_t value) { host->metrics[m.v % MAX].n = value; }
static void metric_observe(esp_metric m, double value) { (void)value; host->metrics[m.v % MAX].n++; }
static void metric_render(void (*sink)(void *, esp_str), void *arg) { (void)sink; (void)arg; }

static const esp_metric_api metric = {
	.size = sizeof metric, .declare = metric_declare, .add = metric_add, .set = metric_set, .observe = metric_observe,
	.render = metric_render
};

static esp_status slot_reserve(esp_module *self, uint32_t scope, size_t bytes, void (*dtor)(void *), esp_slot *ret)
{
	(void)self;
	full(host->nkinds, "kinds of slots");
	host->kinds[host->nkinds].bytes = bytes;
	host->kinds[host->nkinds].dtor = dtor;
	*ret = (esp_slot){ scope, host->nkinds++ };
	return ESP_OK;
}

static void *slot_get(const void *object, esp_slot s)
{
	for (uint32_t i = 0; i < host->nslots; i++)
		if (host->slots[i].object == object && host->slots[i].slot.index == s.index)
			return host->slots[i].data;
	return NULL;
}

static void *slot_make(void *object, esp_slot s)
{
	void *data = slot_get(object, s);

	if (data)
		return data;
	full(host->nslots, "slots in use");
	data = calloc(1, host->kinds[s.index].bytes);
	host->slots[host->nslots++] = (struct slot){ object, s, data, host->kinds[s.index].dtor };
	return data;
}

static const esp_slot_api slot = { .size = sizeof slot, .reserve = slot_reserve, .get = slot_get, .make = slot_make };

/* --- the host ------------------------------------------------------------------------------------------------ */

static const void *host_core(const char *id, uint32_t min_minor)
{
	static const struct { const char *id; const void *table; } tables[] = {
		{ "esp.mem/1", &mem }, { "esp.config/1", &config }, { "esp.log/1", &log_api }, { "esp.fiber/1", &fiber },
		{ "esp.loop/1", &loop }, { "esp.pool/1", &pool }, { "esp.hook/1", &hook }, { "esp.event/1", &event },
		{ "esp.metric/1", &metric }, { "esp.slot/1", &slot }
	};

	(void)min_minor;
	for (size_t i = 0; i < sizeof tables / sizeof tables[0]; i++)
		if (strcmp(tables[i].id, id) == 0)
			return tables[i].table;
	broken("the module asks for %s, which the fake host does not have", id);
}

static esp_status host_bind(esp_module *self, const char *id, esp_binding *ret)
{
	const esp_need *n = esp_module_descriptor.needs;

	(void)self;
	while (n && n->id && strcmp(n->id, id) != 0)
		n++;
	if (!n || !n->id)
		broken("bind(%s): not among the module's needs", id);
	for (uint32_t i = 0; i < host->nservices; i++)
		if (strcmp(host->services[i].id, id) == 0) {
			ret->v = i + 1;
			return ESP_OK;
		}
	if (!n->optional)
		broken("the module needs %s: give it a double with fakehost_service()", id);
	ret->v = 0;
	return ESP_OK;
}

static esp_status host_provide(esp_module *self, const char *id, const esp_service *table)
{
	const esp_offer *o = esp_module_descriptor.provides;

	(void)self;
	while (o && o->id && strcmp(o->id, id) != 0)
		o++;
	if (!o || !o->id || table->size < sizeof *table)
		broken("provide(%s): not among what the module provides, or without a size", id);
	return ESP_OK;
}

static const esp_service *host_service(esp_module *self, esp_binding b)
{
	(void)self;
	return b.v ? host->services[b.v - 1].table : NULL;
}

static void host_quiesce(void) { }
static esp_arena *host_arena(const esp_module *self) { (void)self; return &host->own->pub; }
static void host_hold(esp_module *self) { (void)self; host->holds++; }
static void host_release(esp_module *self) { (void)self; host->holds--; }
static const char *host_data_dir(void) { return "/nonexistent"; }
static esp_str host_hostname(void) { return ESP_STR("mx.example.test"); }

static esp_status host_contribute(esp_module *self, const char *point, const void *data)
{
	if (!point || !data)
		return ESP_EINVAL;
	full(host->nitems, "contributions");
	host->items[host->nitems].by = self;
	host->items[host->nitems].point = point;
	host->items[host->nitems++].data = data;
	return ESP_OK;
}

static int32_t host_contributions(const char *point, int32_t (*each)(void *, esp_module *, const void *), void *arg)
{
	int32_t stop = 0;

	for (uint32_t i = 0; i < host->nitems && !stop; i++)
		if (strcmp(host->items[i].point, point) == 0)
			stop = each(arg, host->items[i].by, host->items[i].data);
	return stop;
}

static void host_leave(esp_module *self, uint32_t version, const void *blob, size_t len)
{
	(void)self;
	(void)version;
	(void)blob;
	(void)len;
}

static const void *host_take(esp_module *self, uint32_t version, size_t *ret_len)
{
	(void)self;
	(void)version;
	*ret_len = 0;
	return NULL;
}

static const esp_host table = { .size = sizeof table,
	.abi_major = ESP_ABI_MAJOR,
	.abi_minor = ESP_ABI_MINOR,
	.version = "fake",
	.core = host_core,
	.bind = host_bind,
	.provide = host_provide,
	.service = host_service,
	.quiesce = host_quiesce,
	.contribute = host_contribute,
	.contributions = host_contributions,
	.arena = host_arena,
	.hold = host_hold,
	.release = host_release,
	.data_dir = host_data_dir,
	.hostname = host_hostname,
	.leave = host_leave,
	.take = host_take, .give_back = host_quiesce };

struct fakehost *fakehost_new_with(int none, ...)
{
	va_list ap;

	if (host)
		broken("one at a time: fakehost_stop() first");
	host = calloc(1, sizeof *host);
	if (!host)
		abort();
	host->err.size = sizeof host->err;
	host->now = ESP_SEC;
	va_start(ap, none);
	for (const char *s = va_arg(ap, const char *); s; s = va_arg(ap, const char *)) {
		full(host->nsettings, "settings");
		host->settings[host->nsettings++] = s;
	}
	va_end(ap);
	host->module.host = &table;
	host->module.name = esp_module_descriptor.name;
	host->own = (struct arena *)arena_new(&host->module, "module", 0);
	host->txn = (struct arena *)arena_new(&host->module, "transaction", 0);
	host->cfg[host->ncfg++].items = esp_module_descriptor.config;
	check_settings();
	return host;
}

void fakehost_service(struct fakehost *h, const char *id, esp_service *service)
{
	full(h->nservices, "services");
	h->services[h->nservices].id = id;
	h->services[h->nservices++].table = service;
}

esp_status fakehost_start(struct fakehost *h)
{
	const esp_module_ops *ops = esp_module_descriptor.ops;
	esp_status st = ops->check ? ops->check(&h->module, &h->cfg[0], &h->err) : ESP_OK;

	if (st == ESP_OK && ops->init)
		st = ops->init(&h->module, &h->cfg[0], &h->err);
	h->inited = st == ESP_OK;
	if (st == ESP_OK && ops->start)
		st = ops->start(&h->module, &h->err);
	if (st == ESP_OK && ops->worker_start)
		st = ops->worker_start(&h->module, NULL);
	h->started = st == ESP_OK;
	return st;
}

void fakehost_stop(struct fakehost *h)
{
	const esp_module_ops *ops = esp_module_descriptor.ops;

	for (uint32_t i = 0; i < h->nslots; i++) {
		if (h->slots[i].dtor)
			h->slots[i].dtor(h->slots[i].data);
		free(h->slots[i].data);
	}
	if (h->started && ops->drain)
		ops->drain(&h->module, h->now);
	if (h->started && ops->worker_stop)
		ops->worker_stop(&h->module, NULL);
	if (h->inited && ops->stop)
		ops->stop(&h->module);
	for (uint32_t i = 0; i < MAX; i++)
		if (h->timers[i])
			broken("a timer is left behind");
	if (h->holds)
		broken("%d holds are left behind", h->holds);
	arena_free(&h->txn->pub);
	arena_free(&h->own->pub);
	if (h->arenas)
		broken("the arena \"%s\" is left behind", h->arenas->label);
	free(h);
	host = NULL;
}

const esp_err *fakehost_err(const struct fakehost *h) { return &h->err; }
esp_module *fakehost_module(struct fakehost *h) { return &h->module; }

static esp_verdict one(struct fakehost *h, const esp_hook *k, const void *args, esp_answer *ret)
{
	esp_verdict v;

	*ret = (esp_answer){ .size = sizeof *ret };
	v = k->run.any(&h->module, args, ret);
	return v != ESP_VERDICT_FAIL ? v : k->on_fail ? k->on_fail : ESP_VERDICT_DEFER;
}

esp_verdict fakehost_run(struct fakehost *h, esp_point point, const void *args, esp_answer *ret)
{
	esp_verdict strictest = ESP_VERDICT_CONTINUE;
	int done = 0;

	*ret = (esp_answer){ .size = sizeof *ret };
	for (int32_t priority = 0; priority <= 1000 && !done; priority++)
		for (uint32_t i = 0; i < h->nhooks && !done; i++) {
			esp_answer a;
			esp_verdict v;

			if (h->hooks[i].point != point || h->hooks[i].priority != priority)
				continue;
			v = one(h, &h->hooks[i], args, &a);
			if (v >= strictest) {
				strictest = v;
				*ret = a;
			}
			done = v == ESP_VERDICT_ACCEPT || v >= ESP_VERDICT_DEFER;
		}
	return strictest;
}

/* The objects of a transaction are gone: what the module kept on them goes too. */
static void end_slots(struct fakehost *h, const void *object)
{
	for (uint32_t i = 0; i < h->nslots; i++) {
		struct slot s = h->slots[i];

		if (s.object != object)
			continue;
		h->slots[i--] = h->slots[--h->nslots];
		if (s.dtor)
			s.dtor(s.data);
		free(s.data);
	}
}

/* The points of a transaction in their order, until one says no; the answer is the last point's. */
static esp_verdict run_transaction(struct fakehost *h, esp_txn *t, esp_str content, esp_answer *ret)
{
	esp_mail_args mail = { .size = sizeof mail, .conn = t->conn, .txn = t, .from = t->from };
	esp_rcpt_args rcpt = { .size = sizeof rcpt, .conn = t->conn, .txn = t, .to = t->rcpt[0]->address };
	esp_data_args data = { .size = sizeof data, .conn = t->conn, .txn = t };
	esp_headers_args headers = { .size = sizeof headers, .conn = t->conn, .txn = t };
	esp_message_args message = { .size = sizeof message, .conn = t->conn, .txn = t, .message = t->message };
	const struct { esp_point point; const void *args; } steps[] = { { ESP_AT_MAIL, &mail }, { ESP_AT_RCPT, &rcpt },
		{ ESP_AT_DATA, &data }, { ESP_AT_HEADERS, &headers }, { ESP_AT_MESSAGE, &message } };
	esp_verdict v = ESP_VERDICT_CONTINUE;

	headers.headers = (esp_str){ content.ptr, t->message->header_len };
	for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
		if (steps[i].point == ESP_AT_RCPT)
			t->nrcpt = 0;                                /* joins the envelope when its chain has let it */
		if (steps[i].point == ESP_AT_MESSAGE)
			t->message->content = content;
		v = fakehost_run(h, steps[i].point, steps[i].args, ret);
		t->nrcpt = steps[i].point != ESP_AT_MAIL;
		if (v == ESP_VERDICT_DEFER || v == ESP_VERDICT_REJECT)
			break;
	}
	return v;
}

static const esp_conn_info *conn_info(const esp_conn *c)
{
	static const esp_conn_info info = { .size = sizeof info, .role = ESP_STR_INIT("mx"), .listener = ESP_STR_INIT("mx"),
		.peer = ESP_STR_INIT("192.0.2.1"), .local = ESP_STR_INIT("192.0.2.25"), .peer_port = 40000, .local_port = 25 };

	(void)c;
	return &info;
}

esp_verdict fakehost_message(struct fakehost *h, const char *content, esp_answer *ret)
{
	const char *body = strstr(content, "\r\n\r\n");
	esp_str all = { content, strlen(content) };
	const esp_conn_api api = { .size = sizeof api, .info = conn_info };
	esp_conn c = { .api = &api, .arena = &h->txn->pub, .id = ++h->conns };
	esp_message m = { .size = sizeof m };
	esp_rcpt rcpt = { .size = sizeof rcpt, .target = ESP_RCPT_LOCAL, .address = ESP_STR("user@example.test") };
	esp_rcpt *rcpts[] = { &rcpt };
	esp_txn t = { .size = sizeof t,
		.conn = &c,
		.arena = &h->txn->pub,
		.message = &m,
		.helo = ESP_STR("mail.example.org"),
		.from = ESP_STR("sender@example.org"),
		.rcpt = rcpts,
		.began = h->now };
	esp_verdict v;

	m.id.b[15] = (uint8_t)h->conns;
	m.header_len = body ? (size_t)(body - content) + 4 : all.len;
	v = run_transaction(h, &t, all, ret);
	end_slots(h, &m);
	end_slots(h, &t);
	end_slots(h, &c);
	return v;
}

void fakehost_contribute(struct fakehost *h, const char *point, const void *item)
{
	if (host_contribute(&h->module, point, item) != ESP_OK)
		broken("a contribution needs a point and an item");
}

static esp_status command_write(esp_command_call *call, esp_str json)
{
	char **out = call->out;
	size_t have = strlen(*out);
	char *more = esp_alloc(call->arena, have + json.len + 1);

	if (!more)
		return ESP_ENOMEM;
	memcpy(more, *out, have);
	memcpy(more + have, json.ptr, json.len);
	*out = more;
	return ESP_OK;
}

/* Somebody always waits for the answer. */
static esp_status command_progress(esp_command_call *call, const esp_progress *p)
{
	(void)call;
	if (!p->step.len || (p->total && p->done > p->total))
		broken("progress without a step, or beyond its total");
	return ESP_OK;
}

/* The arguments behind the command's own words, or NULL when it is another command. */
static const char *command_rest(const struct fakehost *h, uint32_t i, const char *line)
{
	const char *words;

	if (strcmp(h->items[i].point, "esp.command/1") != 0)
		return NULL;
	words = ((const esp_command *)h->items[i].data)->words;
	if (strncmp(line, words, strlen(words)) != 0)
		return NULL;
	line += strlen(words);
	return *line && *line != ' ' ? NULL : line;
}

esp_status fakehost_command(struct fakehost *h, const char *line, const char **ret_json)
{
	char *out = esp_alloc(&h->txn->pub, 1);
	esp_str argv[MAX];
	esp_command_call call = { .size = sizeof call, .argv = argv, .arena = &h->txn->pub, .out = &out,
		.write = command_write, .err = &h->err, .progress = command_progress };
	esp_status st;
	const char *rest = NULL;
	uint32_t i = 0;

	while (i < h->nitems && !(rest = command_rest(h, i, line)))
		i++;
	if (!rest)
		broken("no command \"%s\" was contributed", line);
	for (rest += strspn(rest, " "); *rest; rest += strspn(rest, " ")) {
		full(call.argc, "words in a command");
		argv[call.argc++] = (esp_str){ rest, strcspn(rest, " ") };
		rest += strcspn(rest, " ");
	}
	st = ((const esp_command *)h->items[i].data)->run(h->items[i].by, &call);
	*ret_json = out;
	return st;
}

void fakehost_sleep(struct fakehost *h, esp_nsec time)
{
	esp_nsec until = h->now + time;

	for (;;) {
		struct esp_timer *next = NULL;

		for (uint32_t i = 0; i < MAX; i++)
			if (h->timers[i] && h->timers[i]->at <= until && (!next || h->timers[i]->at < next->at))
				next = h->timers[i];
		if (!next)
			break;
		h->now = next->at > h->now ? next->at : h->now;
		next->cb(next->arg);
		loop_untimer(next);
	}
	h->now = until;
}

int64_t fakehost_events(const struct fakehost *h, const char *name)
{
	for (uint32_t i = 0; i < h->nevents; i++)
		if (strcmp(h->events[i].name, name) == 0)
			return h->events[i].n;
	return -1;
}

int64_t fakehost_metric(const struct fakehost *h, const char *name)
{
	int64_t sum = -1;

	for (uint32_t i = 0; i < h->nmetrics; i++)
		if (strcmp(h->metrics[i].name, name) == 0)
			sum = (sum < 0 ? 0 : sum) + h->metrics[i].n;
	return sum;
}
