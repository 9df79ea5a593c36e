/* esp/mem.h - "esp.mem/1": arenas and shared immutable memory.
 *
 * What dies together is allocated together: an arena per generation, connection, transaction, message.
 * Sizes a peer chose are bounded before they are allocated; an arena refuses to grow beyond its cap.
 */
#ifndef ESP_MEM_H
#define ESP_MEM_H

#include <esp/abi.h>
#include <stdarg.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct esp_mem_api esp_mem_api;

/*! \brief Public head of an arena.  One thread at a time. */
struct esp_arena { const esp_mem_api *api; };

struct esp_mem_api {
	uint32_t size;
	/*! [any] A new arena that may hold up to `cap` bytes (0: 64 MiB).  Counted on the generation. */
	esp_arena *(*arena_new)(esp_module *self, const char *label, size_t cap);
	void (*arena_free)(esp_arena *a);   /* runs the deferred functions, newest first */
	void (*arena_reset)(esp_arena *a);  /* the same, and keeps one chunk for reuse */
	/*! Zeroed, aligned to 16.  NULL when the cap is reached. */
	void *(*alloc)(esp_arena *a, size_t n);
	/*! Run fn(arg) when the arena dies.  ESP_ENOMEM at the cap: fn was not taken. */
	ESP_CHECKED esp_status (*defer)(esp_arena *a, void (*fn)(void *arg), void *arg);
	size_t (*used)(const esp_arena *a);

	/*! [any] Shared immutable memory with an atomic count, born with one reference, zeroed, 16-aligned.
	 *  It may own `children` references to other such memory, given back when it dies.  Needs no code of
	 *  the module that made it, so it may outlive its generation. NULL: no memory. */
	void *(*rc_new)(size_t bytes, uint32_t children);
	void (*rc_set_child)(void *rc, uint32_t index, void *child); /* takes over the reference */
	void *(*rc_child)(const void *rc, uint32_t index);
	void *(*rc_ref)(void *rc);                                   /* returns rc */
	void (*rc_unref)(void *rc);                                  /* NULL is fine */
};

static inline void *esp_alloc(esp_arena *a, size_t n) { return a->api->alloc(a, n); }
static inline void *esp_alloc_array(esp_arena *a, size_t n, size_t item)
{
	size_t bytes;
	return __builtin_mul_overflow(n, item, &bytes) ? NULL : a->api->alloc(a, bytes);
}
/*! \brief Copy into the arena, NUL-terminated behind its length; ptr is NULL when the cap is reached. */
static inline esp_str esp_strdup_in(esp_arena *a, esp_str s)
{
	char *p = (char *)a->api->alloc(a, s.len + 1);
	esp_str copy;

	if (p && s.len)
		memcpy(p, s.ptr, s.len);
	copy.ptr = p;
	copy.len = p ? s.len : 0;
	return copy;
}

#ifdef __cplusplus
}
#endif
#endif
