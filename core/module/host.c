/* core/module/host.c - the tables behind esp_host and esp.mem/1; see host.h. */
#include "core/module/host.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/arena.h"
#include "core/base/assert.h"
#include "core/base/rc.h"
#include "core/base/str.h"
#include "core/bus/chain.h"
#include "core/bus/event.h"
#include "core/bus/log.h"
#include "core/bus/metric.h"
#include "core/loop/breadcrumb.h"
#include "core/loop/loop.h"
#include "core/module/modules-priv.h"

/* ---- core interfaces ------------------------------------------------------------------------------------ */

enum { OFFERS_MAX = 32 };
struct core_interface { const char *id; uint32_t minor; const void *table; };

static struct core_interface more[OFFERS_MAX];
static atomic_uint nmore;

esp_status host_offer(const char *id, uint32_t minor, const void *table)
{
	uint32_t n = atomic_load(&nmore);

	if (host_core(id, NULL))
		return ESP_EEXIST;
	if (n == OFFERS_MAX)
		return ESP_EBUSY;
	more[n] = (struct core_interface){ id, minor, table };
	atomic_store_explicit(&nmore, n + 1, memory_order_release);
	return ESP_OK;
}

const void *host_core(const char *id, uint32_t *ret_minor)
{
	const struct core_interface own[] = {
		{ "esp.mem/1", 0, &mem_api }, { "esp.config/1", 0, config_api() }, { "esp.log/1", 0, &log_api },
		{ "esp.fiber/1", 0, &loop_fiber_api }, { "esp.loop/1", 0, &loop_loop_api }, { "esp.pool/1", 0, &loop_pool_api },
		{ "esp.hook/1", 0, &hook_api }, { "esp.event/1", 0, &event_api }, { "esp.metric/1", 0, &metric_api },
		{ "esp.slot/1", 0, &slot_api }
	};
	uint32_t n = atomic_load_explicit(&nmore, memory_order_acquire);

	for (size_t i = 0; i < ARRAY_LEN(own) + n; i++) {
		const struct core_interface *c = i < ARRAY_LEN(own) ? &own[i] : &more[i - ARRAY_LEN(own)];

		if (!strcmp(c->id, id)) {
			if (ret_minor)
				*ret_minor = c->minor;
			return c->table;
		}
	}
	return NULL;
}

static const void *on_core(const char *id, uint32_t min_minor)
{
	uint32_t minor = 0;
	const void *table = id ? host_core(id, &minor) : NULL;

	return table && minor >= min_minor ? table : NULL;
}

/* ---- services, contributions ----------------------------------------------------------------------------- */

static struct generation *checked(const esp_module *self)
{
	struct generation *g = generation_of(self);

	MAGIC_CHECK(g, GENERATION_MAGIC);
	return g;
}

static esp_status on_bind(esp_module *self, const char *id, esp_binding *ret)
{
	return registry_bind(checked(self), id, ret);
}

static esp_status on_provide(esp_module *self, const char *id, const esp_service *table)
{
	return registry_provide(checked(self), id, table);
}

static esp_status on_contribute(esp_module *self, const char *point, const void *item)
{
	return registry_contribute(checked(self), point, item);
}

static const esp_service *on_service(esp_module *self, esp_binding b)
{
	const struct snapshot *s = snapshot_now();
	const struct service_entry *e;

	ESP_ASSERT(fiber_self());
	(void)checked(self);
	if (!s || b.v >= s->nservices)
		return NULL;
	e = &s->services[b.v];
	return e->exclusive ? exclusive_service(&modules_self->exclusive, b.v) : e->table;
}

static void on_give_back(void)
{
	struct fiber *f = fiber_self();

	ESP_ASSERT(f);
	exclusive_leave(f);
}

static void on_quiesce(void)
{
	struct fiber *f = fiber_self();

	ESP_ASSERT(f);
	exclusive_leave(f);
	if (snapshot_now() != snapshot_here() && !(snapshot_now() && atomic_load(&snapshot_now()->building)))
		snapshot_unpin(snapshot_enter(snapshot_pin(snapshot_here())));
}

static int32_t on_contributions(
	const char *point, int32_t (*each)(void *arg, esp_module *by, const void *item), void *arg)
{
	return snapshot_contributions(snapshot_now(), point, each, arg);
}

static esp_status on_call(esp_module *by, const char *point, esp_status (*fn)(esp_module *by, void *arg), void *arg)
{
	struct breadcrumb was = breadcrumb_enter(checked(by)->name, point);
	esp_status st = fn(by, arg);

	breadcrumb_leave(was);
	return st;
}

/* ---- the generation's own -------------------------------------------------------------------------------- */

static esp_arena *on_arena(const esp_module *self)
{
	return checked(self)->arena;
}

static void on_hold(esp_module *self)
{
	owner_take(&checked(self)->core.owner, OWNER_OBJECT);
}

static void on_release(esp_module *self)
{
	owner_drop(&checked(self)->core.owner, OWNER_OBJECT);
}

static const char *on_data_dir(void)
{
	return modules_self->state_dir;
}

static esp_str on_hostname(void)
{
	return str_of(modules_self->hostname);
}

static void on_leave(esp_module *self, uint32_t version, const void *blob, size_t len)
{
	struct generation *g = checked(self);
	void *copy = malloc(len ? len : 1);

	if (!copy)
		return;   /* a blob is a help, never a must */
	if (len)
		memcpy(copy, blob, len);
	free(g->left);
	g->left = copy;
	g->left_len = len;
	g->left_version = version;
	generation_left(g);
}

static const void *on_take(esp_module *self, uint32_t version, size_t *ret_len)
{
	const struct generation *g = checked(self);

	if (!g->inherited || g->inherited_version != version)
		return NULL;
	*ret_len = g->inherited_len;
	return g->inherited;
}

const esp_host host_table = {
	.size = sizeof(esp_host), .abi_major = ESP_ABI_MAJOR, .abi_minor = ESP_ABI_MINOR, .version = "0.1.0",
	.core = on_core, .bind = on_bind, .provide = on_provide, .service = on_service, .quiesce = on_quiesce,
	.contribute = on_contribute, .contributions = on_contributions, .arena = on_arena, .hold = on_hold,
	.release = on_release, .data_dir = on_data_dir, .hostname = on_hostname, .leave = on_leave, .take = on_take,
	.give_back = on_give_back, .call = on_call
};

/* ---- esp.mem/1 -------------------------------------------------------------------------------------------- */

/* An arena that a module made counts on its generation: its deferred functions are code of the module. */
static atomic_uint *arenas_of(struct generation *g, const char *label)
{
	static const char others[] = "(others)";
	const char *free_place;

	for (size_t i = 0; i < ARENA_LABELS; i++) {
		struct arena_count *c = &g->arenas[i];

		free_place = NULL;
		if (i + 1 == ARENA_LABELS)
			label = others;
		if (atomic_load_explicit(&c->label, memory_order_relaxed) == label ||
			atomic_compare_exchange_strong(&c->label, &free_place, label) || free_place == label)
			return &c->n;
	}
	return NULL;
}

static esp_arena *on_arena_new(esp_module *self, const char *label, size_t cap)
{
	esp_arena *a = arena_new(&mem_api, label, cap);

	if (a && self) {
		atomic_fetch_add_explicit(arenas_of(generation_of(self), arena_label(a)), 1, memory_order_relaxed);
		owner_take(owner_of(self), OWNER_ARENA);
		arena_set_user(a, self);
	}
	return a;
}

static void on_arena_free(esp_arena *a)
{
	esp_module *self = a ? arena_user(a) : NULL;
	atomic_uint *n = self ? arenas_of(generation_of(self), arena_label(a)) : NULL;

	arena_free(a);
	if (!self)
		return;
	atomic_fetch_sub_explicit(n, 1, memory_order_relaxed);
	owner_drop(owner_of(self), OWNER_ARENA);
}

const esp_mem_api mem_api = {
	.size = sizeof(esp_mem_api), .arena_new = on_arena_new, .arena_free = on_arena_free, .arena_reset = arena_reset,
	.alloc = arena_alloc, .defer = arena_defer, .used = arena_used, .rc_new = rc_new, .rc_set_child = rc_set_child,
	.rc_child = rc_child, .rc_ref = rc_ref, .rc_unref = rc_unref
};
