/* core/loop/owner.c - host-side counts per generation (see owner.h). */
#include "core/loop/owner.h"

#include "core/base/assert.h"
#include "core/base/str.h"

#include <stdio.h>

#define OWNER_MAGIC 0x4f574e52u

static const char *const kind_names[OWNER_KINDS] = { "fiber", "job", "timer", "watcher", "post", "object", "arena",
	"connection" };

void owner_init(struct owner *o, const char *name)
{
	int i;

	o->magic = OWNER_MAGIC;
	str_copy_cut(o->name, sizeof(o->name), str_of(name));
	for (i = 0; i < OWNER_KINDS; i++)
		atomic_init(&o->count[i], 0);
	atomic_init(&o->total, 0);
}

void owner_fini(struct owner *o)
{
	MAGIC_CHECK(o, OWNER_MAGIC);
	ESP_ASSERT(owner_total(o) == 0);
	MAGIC_CLEAR(o);
}

void owner_take(struct owner *o, enum owner_kind kind)
{
	if (!o)
		return;
	MAGIC_CHECK(o, OWNER_MAGIC);
	atomic_fetch_add_explicit(&o->total, 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&o->count[kind], 1, memory_order_relaxed);
}

void owner_drop(struct owner *o, enum owner_kind kind)
{
	uint32_t before;

	if (!o)
		return;
	MAGIC_CHECK(o, OWNER_MAGIC);
	before = atomic_fetch_sub_explicit(&o->count[kind], 1, memory_order_relaxed);
	ESP_ASSERT(before > 0);
	/* release: what the dropper did is visible to whoever sees zero and unmaps */
	before = atomic_fetch_sub_explicit(&o->total, 1, memory_order_release);
	ESP_ASSERT(before > 0);
}

uint32_t owner_total(const struct owner *o)
{
	return atomic_load_explicit(&o->total, memory_order_acquire);
}

uint32_t owner_count(const struct owner *o, enum owner_kind kind)
{
	return atomic_load_explicit(&o->count[kind], memory_order_relaxed);
}

const char *owner_kind_name(enum owner_kind kind)
{
	return (unsigned)kind < OWNER_KINDS ? kind_names[kind] : "?";
}

void owner_describe(const struct owner *o, char *buf, size_t cap)
{
	size_t at = 0;
	int i;

	if (cap)
		buf[0] = 0;
	for (i = 0; i < OWNER_KINDS && at < cap; i++) {
		uint32_t n = owner_count(o, (enum owner_kind)i);
		int len;

		if (!n)
			continue;
		len = snprintf(buf + at, cap - at, "%s%u %s%s", at ? ", " : "", n, kind_names[i], n == 1 ? "" : "s");
		at += len > 0 ? (size_t)len : 0;
	}
	if (at == 0)
		str_copy_cut(buf, cap, ESP_STR("nothing"));
}
