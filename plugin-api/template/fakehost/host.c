/* host.c - esp_host of the fake host, and the life of a generation. */
#include "internal.h"

#include <esp/health.h>

struct world *fake;

void broken(const char *fmt, ...)
{
	va_list ap;

	fputs("fakehost: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	abort();
}

void full(uint32_t n, const char *what)
{
	if (n >= MAX)
		broken("more than %d %s", MAX, what);
}

/* --- esp_host -------------------------------------------------------------------------------------------------- */

static int32_t yes(void) { return 1; }
static const esp_health_api fake_health = { .size = sizeof fake_health, .live = yes, .ready = yes };

static const void *host_core(const char *id, uint32_t min_minor)
{
	static const struct { const char *id; const void *table; } tables[] = {
		{ "esp.mem/1", &fake_mem }, { "esp.config/1", &fake_config }, { "esp.log/1", &fake_log },
		{ "esp.fiber/1", &fake_fiber }, { "esp.loop/1", &fake_loop }, { "esp.pool/1", &fake_pool },
		{ "esp.hook/1", &fake_hook }, { "esp.event/1", &fake_event }, { "esp.metric/1", &fake_metric },
		{ "esp.slot/1", &fake_slot }, { "esp.listen/1", &fake_listen }, { "esp.conn/1", &fake_conn },
		{ "esp.topic/1", &fake_topic }, { "esp.health/1", &fake_health }
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
	for (uint32_t i = 0; i < fake->nservices; i++)
		if (strcmp(fake->services[i].id, id) == 0) {
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
	struct fakehost *h = of(self);

	while (o && o->id && strcmp(o->id, id) != 0)
		o++;
	if (!o || !o->id || table->size < sizeof *table)
		broken("provide(%s): not among what the module provides, or without a size", id);
	full(h->nprovided, "services");
	h->provided[h->nprovided].id = id;
	h->provided[h->nprovided++].table = table;
	return ESP_OK;
}

const esp_service *fakehost_provided(const struct fakehost *h, const char *id)
{
	for (uint32_t i = 0; i < h->nprovided; i++)
		if (strcmp(h->provided[i].id, id) == 0)
			return h->provided[i].table;
	broken("the module does not provide %s", id);
}

static const esp_service *host_service(esp_module *self, esp_binding b)
{
	(void)self;
	if (!fake_fiber.current())
		broken("service() outside a fiber");
	return b.v ? fake->services[b.v - 1].table : NULL;
}

static void host_quiesce(void) { }

static esp_status host_call(esp_module *by, const char *point, esp_status (*fn)(esp_module *by, void *arg), void *arg)
{
	(void)point;
	return fn(by, arg);
}

static esp_arena *host_arena(const esp_module *self) { return arena_pub(of(self)->own); }
static void host_hold(esp_module *self) { of(self)->holds++; }
static void host_release(esp_module *self) { of(self)->holds--; }
static const char *host_data_dir(void) { return "/nonexistent"; }
static esp_str host_hostname(void) { return ESP_STR("mx.example.test"); }

static esp_status host_contribute(esp_module *self, const char *point, const void *data)
{
	struct fakehost *h = of(self);

	if (!point || !data)
		return ESP_EINVAL;
	full(h->nitems, "contributions");
	h->items[h->nitems++] = (struct item){ self, point, data };
	return ESP_OK;
}

void fakehost_contribute(struct fakehost *h, const char *point, const void *item)
{
	if (host_contribute(&h->module, point, item) != ESP_OK)
		broken("a contribution needs a point and an item");
}

static int32_t host_contributions(const char *point, int32_t (*each)(void *, esp_module *, const void *), void *arg)
{
	const struct fakehost *h = fake->current;
	int32_t stop = 0;

	for (uint32_t i = 0; i < h->nitems && !stop; i++)
		if (strcmp(h->items[i].point, point) == 0)
			stop = each(arg, h->items[i].by, h->items[i].data);
	return stop;
}

static void host_leave(esp_module *self, uint32_t version, const void *blob, size_t len)
{
	struct fakehost *h = of(self);

	free(h->left.blob);
	h->left.blob = malloc(len + 1);
	if (!h->left.blob)
		abort();
	memcpy(h->left.blob, blob, len);
	h->left.len = len;
	h->left.version = version;
}

static const void *host_take(esp_module *self, uint32_t version, size_t *ret_len)
{
	const struct fakehost *h = of(self);

	if (!h->inherited.blob || h->inherited.version != version)
		return NULL;
	*ret_len = h->inherited.len;
	return h->inherited.blob;
}

const esp_host fake_host = { .size = sizeof fake_host, .abi_major = ESP_ABI_MAJOR, .abi_minor = ESP_ABI_MINOR,
	.version = "fake", .core = host_core, .bind = host_bind, .provide = host_provide, .service = host_service,
	.quiesce = host_quiesce, .contribute = host_contribute, .contributions = host_contributions, .arena = host_arena,
	.hold = host_hold, .release = host_release, .data_dir = host_data_dir, .hostname = host_hostname,
	.leave = host_leave, .take = host_take, .give_back = host_quiesce, .call = host_call };

/* --- life ------------------------------------------------------------------------------------------------------ */

static struct fakehost *generation(va_list ap)
{
	struct fakehost *h = calloc(1, sizeof *h);

	if (!h)
		abort();
	h->err.size = sizeof h->err;
	for (const char *s = va_arg(ap, const char *); s; s = va_arg(ap, const char *)) {
		full(h->nsettings, "settings");
		h->settings[h->nsettings++] = s;
	}
	h->module.host = &fake_host;
	h->module.name = esp_module_descriptor.name;
	h->own = arena_make(NULL, "module");
	settings_check(h);
	return h;
}

struct fakehost *fakehost_new_with(int none, ...)
{
	va_list ap;

	if (fake)
		broken("one at a time: fakehost_stop() first");
	fake = calloc(1, sizeof *fake);
	if (!fake)
		abort();
	fake->now = ESP_SEC;
	fake->txn = arena_make(NULL, "transaction");
	va_start(ap, none);
	fake->current = generation(ap);
	va_end(ap);
	return fake->current;
}

void fakehost_service(struct fakehost *h, const char *id, esp_service *service)
{
	(void)h;
	full(fake->nservices, "services");
	fake->services[fake->nservices].id = id;
	fake->services[fake->nservices++].table = service;
}

struct starting { struct fakehost *h; esp_status st; };

static void start(void *arg)
{
	struct starting *s = arg;
	struct fakehost *h = s->h;
	const esp_module_ops *ops = esp_module_descriptor.ops;

	s->st = ops->check ? ops->check(&h->module, h->cfg[0], &h->err) : ESP_OK;
	if (s->st == ESP_OK && ops->init)
		s->st = ops->init(&h->module, h->cfg[0], &h->err);
	h->inited = s->st == ESP_OK;
	if (s->st == ESP_OK && ops->start)
		s->st = ops->start(&h->module, &h->err);
	if (s->st == ESP_OK && ops->worker_start)
		s->st = ops->worker_start(&h->module, fake_loop.worker(0));
	h->started = s->st == ESP_OK;
}

void fakehost_call(struct fakehost *h, void (*fn)(void *arg), void *arg)
{
	(void)h;
	in_fiber("call", fn, arg);
}

esp_status fakehost_start(struct fakehost *h)
{
	struct starting s = { h, ESP_OK };

	in_fiber("start", start, &s);
	return s.st;
}

/* drain() and worker_drain(); what has begun ends, if it does so by itself and in no time. */
static void drain(void *arg)
{
	struct fakehost *h = arg;
	const esp_module_ops *ops = esp_module_descriptor.ops;

	if (h->started && ops->drain)
		ops->drain(&h->module, fake->now + 60 * ESP_SEC);
	if (h->started && ops->worker_drain)
		ops->worker_drain(&h->module, fake_loop.worker(0));
}

static void stop(void *arg)
{
	struct fakehost *h = arg;
	const esp_module_ops *ops = esp_module_descriptor.ops;

	if (h->started && ops->worker_stop)
		ops->worker_stop(&h->module, fake_loop.worker(0));
	slots_end(NULL, h);
	if (h->inited && ops->stop)
		ops->stop(&h->module);
}

static void no_leftovers(struct fakehost *h)
{
	if (timer_left(&h->module))
		broken("a timer is left behind");
	if (fiber_left(&h->module, 1))
		broken("the fiber \"%s\" is JOINABLE, but nobody joined it", fiber_left(&h->module, 1));
	if (h->holds)
		broken("%d holds are left behind", h->holds);
	if (arena_left(h))
		broken("the arena \"%s\" is left behind", arena_left(h));
}

static void end(struct fakehost *h)
{
	in_fiber("drain", drain, h);
	while (step(fake->now))
		;
	if (conn_left(h))
		broken("a connection is left behind: fakehost_hangup() first");
	if (fiber_left(&h->module, 0))
		broken("the fiber \"%s\" is left behind: end it in worker_drain()", fiber_left(&h->module, 0));
	in_fiber("stop", stop, h);
	no_leftovers(h);
	fake_mem.arena_free(arena_pub(h->own));
	settings_free(h);
	free(h->left.blob);
	free(h->inherited.blob);
	free(h);
}

void fakehost_stop(struct fakehost *h)
{
	end(h);
	fake_mem.arena_free(arena_pub(fake->txn));
	free(fake);
	fake = NULL;
}

static void pass_on(struct fakehost *from, struct fakehost *to)
{
	to->inherited.blob = from->left.blob;
	to->inherited.len = from->left.len;
	to->inherited.version = from->left.version;
	from->left.blob = NULL;
}

struct fakehost *fakehost_next(struct fakehost *h, ...)
{
	struct fakehost *next;
	va_list ap;

	if (esp_module_descriptor.flags & ESP_MODULE_EXCLUSIVE)
		broken("fakehost_next() of an EXCLUSIVE module, which never runs beside another generation");
	va_start(ap, h);
	next = generation(ap);
	va_end(ap);
	pass_on(h, next);
	fake->current = next;
	if (fakehost_start(next) != ESP_OK)
		broken("the next generation does not start: %s", next->err.text);
	conns_handover(h, next);
	end(h);
	return next;
}

const esp_err *fakehost_err(const struct fakehost *h) { return &h->err; }
esp_module *fakehost_module(struct fakehost *h) { return &h->module; }
