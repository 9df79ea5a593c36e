/* core/module/sessions.c - connections and transactions under snapshots: what core/net and core/mail are lent.
 *
 * A connection holds the generation that serves it (its session is that module's); every call of session() runs under
 * the worker's current snapshot, or under the one its open transaction pinned.  When another generation serves the
 * role, the session moves at its next command boundary, or at once when it is parked.
 * Thread: the connection's worker.
 */
#include <stdlib.h>

#include "core/base/assert.h"
#include "core/base/map.h"
#include "core/base/str.h"
#include "core/module/modules-priv.h"
#include "core/module/object.h"
#include "core/module/sessions.h"
#include "core/net/conn.h"

/* ---- objects --------------------------------------------------------------------------------------------- */

static esp_str key_of(const void *const *key)
{
	return str_make(key, sizeof *key);
}

static void on_conn_end(void *arg)
{
	object_end(arg);
}

struct object *object_of(const void *key, uint32_t scope)
{
	struct module_here *h = module_here();
	struct object *o = map_get(&h->objects, key_of(&key));

	if (o || !scope)
		return o;
	o = calloc(1, sizeof *o);
	if (!o)
		return NULL;
	o->key = key;
	o->scope = scope;
	if (map_put(&h->objects, key_of(&o->key), o) != ESP_OK) {
		free(o);
		return NULL;
	}
	if (scope == ESP_SLOT_CONN) {
		esp_arena *arena = ((const esp_conn *)key)->arena;

		if (mem_api.defer(arena, on_conn_end, (void *)(uintptr_t)key) != ESP_OK) {
			object_end(key);
			return NULL;
		}
	}
	return o;
}

void object_end(const void *key)
{
	struct object *o = map_delete(&module_here()->objects, key_of(&key));

	if (!o)
		return;
	slots_end(&o->slots, o->scope);
	free(o);
}

/* ---- connections ------------------------------------------------------------------------------------------ */

static int on_find(void *arg, struct conn *c, esp_str role, esp_module **ret_module, const esp_protocol **ret_protocol)
{
	const struct role_entry *r = snapshot_role(snapshot_here(), role);

	(void)arg;
	(void)c;
	if (!r || r->by->left_out)
		return ESP_ENOENT;
	owner_take(&r->by->core.owner, OWNER_CONN);
	*ret_module = &r->by->core.pub;
	*ret_protocol = r->protocol;
	return ESP_OK;
}

static void on_drop(void *arg, struct conn *c, esp_module *module)
{
	(void)arg;
	(void)c;
	owner_drop(owner_of(module), OWNER_CONN);
}

static void *on_begin(void *arg, struct conn *c, esp_module *module)
{
	const struct object *o = object_of(conn_pub(c), 0);

	(void)arg;
	(void)module;
	return snapshot_enter(snapshot_pin(o && o->pin ? o->pin : snapshot_here()));
}

static void on_end(void *arg, struct conn *c, esp_module *module, void *pin)
{
	(void)arg;
	(void)c;
	(void)module;
	exclusive_leave(fiber_self());
	snapshot_unpin(snapshot_enter(pin));
}

/* Move the session to whoever serves its role now.  Refusals leave it where it is: it stays until it ends. */
static void hand_over(struct conn *c, const struct snapshot *s)
{
	const struct role_entry *r = snapshot_role(s, conn_role(c));
	const esp_module *now = conn_module(c);
	const struct object *o = object_of(conn_pub(c), 0);

	if (!r || !now || r->by->left_out || &r->by->core.pub == now || (o && o->pin))
		return;
	owner_take(&r->by->core.owner, OWNER_CONN);
	if (conn_handover(c, &r->by->core.pub, r->protocol) != ESP_OK)
		owner_drop(&r->by->core.owner, OWNER_CONN);
}

static void on_park(void *arg, struct conn *c)
{
	(void)arg;
	hand_over(c, snapshot_here());
}

static void on_parked(void *arg, struct conn *c)
{
	hand_over(c, arg);
}

void modules_adopted(const struct snapshot *s)
{
	struct net *n = atomic_load(&s->modules->net);

	if (n)
		conn_each_parked(n, on_parked, (void *)(uintptr_t)s);
}

static void on_goodbye(void *arg, struct conn *c)
{
	const struct generation *g = arg;

	if (conn_module(c) == &g->core.pub)
		conn_wake(c, ESP_CONN_DRAIN);
}

void sessions_say_goodbye(const struct generation *g)
{
	struct net *n = atomic_load(&g->modules->net);

	if (n)
		conn_each_parked(n, on_goodbye, (void *)(uintptr_t)g);
}

static int on_serve(void *arg, esp_module *self, const char *role, const esp_protocol *protocol)
{
	(void)arg;
	return registry_serve(generation_of(self), role, protocol);
}

const struct conn_host *modules_conn_host(void)
{
	static const struct conn_host host = { .find = on_find, .drop = on_drop, .begin = on_begin, .end = on_end,
	                                       .on_park = on_park, .serve = on_serve };

	return &host;
}

void modules_set_net(struct modules *m, struct net *n)
{
	MAGIC_CHECK(m, MODULES_MAGIC);
	atomic_store(&m->net, n);
}

/* ---- transactions ----------------------------------------------------------------------------------------- */

void *modules_pin(void *arg, esp_conn *c)
{
	struct object *o = object_of(c, ESP_SLOT_CONN);

	(void)arg;
	if (!o || o->pin)
		return NULL;
	o->pin = snapshot_pin(snapshot_now());
	return o->pin;
}

void modules_unpin(void *arg, esp_conn *c, void *pin)
{
	struct object *o = object_of(c, 0);

	(void)arg;
	if (o && o->pin == pin)
		o->pin = NULL;
	snapshot_unpin(pin);
}

uint64_t modules_settings(esp_str domain)
{
	const struct snapshot *s = snapshot_now();

	return s ? domain_table_find(&s->domains, domain) : 0;
}

void modules_slots_end(void *arg, void *object, uint32_t scope)
{
	(void)arg;
	(void)scope;
	object_end(object);
}
