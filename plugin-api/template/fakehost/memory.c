/* memory.c - esp.mem/1 of the fake host: a malloc for each block, so that AddressSanitizer sees its bounds. */
#include "internal.h"

struct chunk { struct chunk *next; void (*fn)(void *); void *arg; };   /* fn NULL: memory, behind the chunk */
struct arena {
	esp_arena pub;
	struct arena *next;
	struct chunk *chunks;
	size_t used, cap;
	const char *label;
	esp_module *by;
};
struct rc { uint32_t count, nchildren; void **children; };

enum { HEAD = (sizeof(struct chunk) + 15) & ~(size_t)15, RC_HEAD = (sizeof(struct rc) + 15) & ~(size_t)15 };

static esp_arena *arena_new(esp_module *self, const char *label, size_t cap)
{
	struct arena *a = calloc(1, sizeof *a);

	if (!a)
		abort();
	*a = (struct arena){ .pub = { &fake_mem }, .next = fake->arenas, .label = label, .by = self,
		.cap = cap ? cap : (size_t)64 << 20 };
	fake->arenas = a;
	return &a->pub;
}

struct arena *arena_make(esp_module *self, const char *label)
{
	return (struct arena *)arena_new(self, label, 0);
}

esp_arena *arena_pub(struct arena *a) { return &a->pub; }

const char *arena_left(const struct fakehost *h)
{
	for (const struct arena *a = fake->arenas; a; a = a->next)
		if (a->by == &h->module)
			return a->label;
	return NULL;
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
	struct arena **at = &fake->arenas;

	if (!pub)
		return;
	while (*at && *at != (struct arena *)pub)
		at = &(*at)->next;
	if (!*at)
		broken("an arena is freed twice, or was never one");
	arena_reset(pub);
	*at = (*at)->next;
	free(pub);
}

static struct chunk *chunk_new(struct arena *a, size_t n)
{
	struct chunk *c = n > a->cap - a->used ? NULL : calloc(1, HEAD + n);

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

	return c ? (char *)c + HEAD : NULL;
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

static struct rc *rc_of(const void *p) { return (struct rc *)(void *)((char *)(uintptr_t)p - RC_HEAD); }

static void *rc_new(size_t bytes, uint32_t children)
{
	struct rc *r = calloc(1, RC_HEAD + bytes);

	if (!r)
		return NULL;
	r->count = 1;
	r->nchildren = children;
	r->children = children ? calloc(children, sizeof *r->children) : NULL;
	return (char *)r + RC_HEAD;
}

static void rc_unref(void *p)
{
	struct rc *r = p ? rc_of(p) : NULL;

	if (!r || --r->count)
		return;
	for (uint32_t i = 0; i < r->nchildren; i++)
		rc_unref(r->children[i]);   /* depth: as deep as the module nests, no further than it built itself */
	free(r->children);
	free(r);
}

static void rc_set_child(void *p, uint32_t i, void *child)
{
	rc_unref(rc_of(p)->children[i]);
	rc_of(p)->children[i] = child;
}

static void *rc_child(const void *p, uint32_t i) { return rc_of(p)->children[i]; }

static void *rc_ref(void *p)
{
	rc_of(p)->count++;
	return p;
}

const esp_mem_api fake_mem = { .size = sizeof fake_mem, .arena_new = arena_new, .arena_free = arena_free,
	.arena_reset = arena_reset, .alloc = mem_alloc, .defer = mem_defer, .used = mem_used, .rc_new = rc_new,
	.rc_set_child = rc_set_child, .rc_child = rc_child, .rc_ref = rc_ref, .rc_unref = rc_unref };
