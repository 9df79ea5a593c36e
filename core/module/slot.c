/* core/module/slot.c - "esp.slot/1": a module's own data on connections, transactions, messages and workers.
 *
 * A number per (scope, generation, reservation) indexes the vector of the object, which grows with the first make().
 * Vectors are found by the object's address in a table of the loop (object.h), so core/net and core/mail know nothing
 * of slots.  Data counts as an object of its generation until the object ends, so a number is free again when its
 * generation is gone; a worker never ends, so what hangs on it does not count and ends behind worker_stop().  Entries
 * are written on control during init(), before any worker can know the number.
 */
#include "core/module/registry.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/assert.h"
#include "core/module/modules-priv.h"
#include "core/module/object.h"

enum { SCOPES = ESP_SLOT_WORKER + 1, SLOT_BYTES_MAX = 1 << 20 };

struct slot { struct generation *by; size_t bytes; void (*dtor)(void *data); };

static struct slot slots[SCOPES][SLOTS_MAX];

static esp_status on_reserve(esp_module *self, uint32_t scope, size_t bytes, void (*dtor)(void *data), esp_slot *ret)
{
	struct generation *g = generation_of(self);

	MAGIC_CHECK(g, GENERATION_MAGIC);
	if (g->state != GEN_CHECKED || scope < ESP_SLOT_CONN || scope >= SCOPES || !bytes || bytes > SLOT_BYTES_MAX)
		return ESP_EINVAL;
	for (uint32_t i = 0; i < SLOTS_MAX; i++)
		if (!slots[scope][i].by) {
			slots[scope][i] = (struct slot){ g, bytes, dtor };
			*ret = (esp_slot){ scope, i };
			return ESP_OK;
		}
	return ESP_EBUSY;
}

static struct slots *vector_of(const void *object, esp_slot s, bool create)
{
	struct module_here *h = module_here();
	struct object *o;

	ESP_ASSERT(h && object && s.scope >= ESP_SLOT_CONN && s.scope < SCOPES && s.index < SLOTS_MAX);
	if (s.scope == ESP_SLOT_WORKER) {
		ESP_ASSERT(object == h->worker);
		return &h->slots;
	}
	o = object_of(object, create ? s.scope : 0);
	return o ? &o->slots : NULL;
}

static void *on_get(const void *object, esp_slot s)
{
	const struct slots *v = vector_of(object, s, false);

	return v && s.index < v->n ? v->items[s.index] : NULL;
}

static bool reach(struct slots *v, uint32_t index)
{
	uint32_t n = index + 1;
	void **items;

	if (index < v->n)
		return true;
	items = realloc(v->items, n * sizeof *items);
	if (!items)
		return false;
	memset(items + v->n, 0, (n - v->n) * sizeof *items);
	v->items = items;
	v->n = n;
	return true;
}

static void *on_make(void *object, esp_slot s)
{
	struct slots *v = vector_of(object, s, true);
	const struct slot *slot = &slots[s.scope][s.index];

	ESP_ASSERT(slot->by);
	if (!v || !reach(v, s.index))
		return NULL;
	if (!v->items[s.index]) {
		v->items[s.index] = calloc(1, slot->bytes);
		if (v->items[s.index] && s.scope != ESP_SLOT_WORKER)
			owner_take(&slot->by->core.owner, OWNER_OBJECT);
	}
	return v->items[s.index];
}

static void end_one(struct slots *v, uint32_t scope, uint32_t i)
{
	const struct slot *slot = &slots[scope][i];
	void *data = v->items[i];

	if (!data)
		return;
	v->items[i] = NULL;
	if (slot->dtor)
		slot->dtor(data);
	free(data);
	if (scope != ESP_SLOT_WORKER)
		owner_drop(&slot->by->core.owner, OWNER_OBJECT);
}

void slots_end(struct slots *v, uint32_t scope)
{
	for (uint32_t i = 0; i < v->n; i++)
		end_one(v, scope, i);
	free(v->items);
	*v = (struct slots){ NULL, 0 };
}

void slots_end_of(struct slots *v, uint32_t scope, const struct generation *g)
{
	for (uint32_t i = 0; i < v->n; i++)
		if (v->items[i] && slots[scope][i].by == g)   /* without data here, its entry is control's to change */
			end_one(v, scope, i);
}

void slots_forget(const struct generation *g)
{
	for (uint32_t s = 0; s < SCOPES; s++)
		for (uint32_t i = 0; i < SLOTS_MAX; i++)
			if (slots[s][i].by == g)
				slots[s][i] = (struct slot){ NULL, 0, NULL };
}

uint32_t slots_count(const struct generation *g)
{
	uint32_t n = 0;

	for (uint32_t s = 0; s < SCOPES; s++)
		for (uint32_t i = 0; i < SLOTS_MAX; i++)
			n += slots[s][i].by == g;
	return n;
}

const esp_slot_api slot_api = { .size = sizeof(esp_slot_api), .reserve = on_reserve, .get = on_get, .make = on_make };
