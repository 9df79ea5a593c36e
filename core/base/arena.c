/* core/base/arena.c - bump allocator with one lifetime and a hard cap (see arena.h). */
#include "core/base/arena.h"

#include "core/base/assert.h"
#include "core/base/sanitize.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define ARENA_MAGIC 0x41524e41u
#define ARENA_ALIGN ((size_t)16)
#define ARENA_FIRST ((size_t)1024)      /* head and first blocks together */
#define ARENA_SMALL ((size_t)208)       /* first chunk behind a small head */
#define ARENA_CHUNK_MAX ((size_t)65536) /* chunks double up to here; larger blocks get their own */
#define ARENA_GAP SANITIZE_GAP          /* poisoned bytes behind each block; 0 without ASan */

struct arena_chunk { struct arena_chunk *next; size_t size, used; };

struct arena_defer { struct arena_defer *next; void (*fn)(void *); void *arg; };

struct arena {
	struct esp_arena pub;
	uint32_t magic;
	size_t cap, used, held;
	const char *label;
	void *user;
	struct arena_defer *defers;
	struct arena_chunk *chunks; /* newest first; the last is the one inside the head's malloc */
	struct arena_chunk first;
};

_Static_assert(offsetof(struct arena, pub) == 0, "the public head comes first");

static struct arena *arena_of(const esp_arena *a)
{
	struct arena *self = (struct arena *)(uintptr_t)a;

	MAGIC_CHECK(self, ARENA_MAGIC);
	return self;
}

static size_t round_up(size_t n)
{
	return (n + ARENA_ALIGN - 1) & ~(ARENA_ALIGN - 1);
}

static char *chunk_base(const struct arena_chunk *c)
{
	return (char *)(uintptr_t)c + round_up(sizeof(*c));
}

/* The first chunk's header sits at the end of struct arena, its bytes follow. */
static char *chunk_bytes(const struct arena *a, const struct arena_chunk *c)
{
	return c == &a->first ? (char *)(uintptr_t)a + round_up(sizeof(*a)) : chunk_base(c);
}

esp_arena *arena_new(const esp_mem_api *api, const char *label, size_t cap)
{
	return arena_new_small(api, label, ARENA_FIRST, cap);
}

esp_arena *arena_new_small(const esp_mem_api *api, const char *label, size_t first, size_t cap)
{
	struct arena *a;

	if (first < round_up(sizeof(*a)))
		first = round_up(sizeof(*a));
	a = calloc(1, first);
	if (!a)
		return NULL;
	a->pub.api = api;
	a->magic = ARENA_MAGIC;
	a->cap = cap ? cap : ARENA_CAP_DEFAULT;
	a->label = label ? label : "";
	a->held = first;
	a->first.size = first - round_up(sizeof(*a));
	a->chunks = &a->first;
	sanitize_poison(chunk_bytes(a, &a->first), a->first.size);
	return &a->pub;
}

static struct arena_chunk *chunk_add(struct arena *a, size_t need)
{
	size_t size = a->chunks != &a->first ? a->chunks->size * 2 : a->first.size < ARENA_FIRST / 2 ? ARENA_SMALL : 4096;
	struct arena_chunk *c;

	if (size > ARENA_CHUNK_MAX)
		size = ARENA_CHUNK_MAX;
	if (size < need)
		size = need;
	c = malloc(round_up(sizeof(*c)) + size);
	if (!c)
		return NULL;
	*c = (struct arena_chunk){ .size = size };
	a->held += size;
	sanitize_poison(chunk_base(c), size);
	if (need > ARENA_CHUNK_MAX / 2 && a->chunks != &a->first) {
		/* a block of its own: keep bumping in the current chunk */
		c->next = a->chunks->next;
		a->chunks->next = c;
	} else {
		c->next = a->chunks;
		a->chunks = c;
	}
	return c;
}

void *arena_alloc(esp_arena *pub, size_t n)
{
	struct arena *a = arena_of(pub);
	struct arena_chunk *c = a->chunks;
	size_t take;
	char *p;

	if (n > a->cap)
		return NULL;
	take = round_up(n ? n : 1) + ARENA_GAP;
	if (take - ARENA_GAP > a->cap - a->used)
		return NULL;
	if (take > c->size - c->used) {
		c = chunk_add(a, take);
		if (!c)
			return NULL;
	}
	p = chunk_bytes(a, c) + c->used;
	c->used += take;
	a->used += take - ARENA_GAP;
	sanitize_unpoison(p, n);
	memset(p, 0, n);
	return p;
}

char *arena_dup(esp_arena *a, const void *p, size_t n)
{
	char *copy = n < SIZE_MAX ? arena_alloc(a, n + 1) : NULL;

	if (copy && n)
		memcpy(copy, p, n);
	return copy;
}

char *arena_printf(esp_arena *a, size_t *ret_len, const char *fmt, ...)
{
	char small[256], *p;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(small, sizeof(small), fmt, ap);
	va_end(ap);
	if (n < 0)
		return NULL;
	p = arena_alloc(a, (size_t)n + 1);
	if (!p)
		return NULL;
	if ((size_t)n < sizeof(small)) {
		memcpy(p, small, (size_t)n);
	} else {
		va_start(ap, fmt);
		vsnprintf(p, (size_t)n + 1, fmt, ap);
		va_end(ap);
	}
	if (ret_len)
		*ret_len = (size_t)n;
	return p;
}

esp_status arena_defer(esp_arena *a, void (*fn)(void *), void *arg)
{
	struct arena_defer *d = arena_alloc(a, sizeof(*d));

	if (!d)
		return ESP_ENOMEM;
	*d = (struct arena_defer){ .next = arena_of(a)->defers, .fn = fn, .arg = arg };
	arena_of(a)->defers = d;
	return ESP_OK;
}

/* Run what was deferred; a deferred function may defer again. */
static void run_defers(struct arena *a)
{
	struct arena_defer *d;

	while ((d = a->defers)) {
		a->defers = d->next;
		d->fn(d->arg);
	}
}

static void free_chunks(struct arena *a)
{
	struct arena_chunk *c = a->chunks, *next;

	for (; c != &a->first; c = next) {
		next = c->next;
		sanitize_unpoison(chunk_base(c), c->size);
		free(c);
	}
	a->chunks = &a->first;
}

void arena_reset(esp_arena *pub)
{
	struct arena *a = arena_of(pub);

	run_defers(a);
	free_chunks(a);
	a->first.used = 0;
	a->used = 0;
	a->held = a->first.size + round_up(sizeof(*a));
	sanitize_poison(chunk_bytes(a, &a->first), a->first.size);
}

void arena_free(esp_arena *pub)
{
	struct arena *a;

	if (!pub)
		return;
	a = arena_of(pub);
	run_defers(a);
	free_chunks(a);
	sanitize_unpoison(chunk_bytes(a, &a->first), a->first.size);
	MAGIC_CLEAR(a);
	free(a);
}

size_t arena_used(const esp_arena *a) { return arena_of(a)->used; }
size_t arena_held(const esp_arena *a) { return arena_of(a)->held; }
const char *arena_label(const esp_arena *a) { return arena_of(a)->label; }
void arena_set_user(esp_arena *a, void *user) { arena_of(a)->user = user; }
void *arena_user(const esp_arena *a) { return arena_of(a)->user; }
