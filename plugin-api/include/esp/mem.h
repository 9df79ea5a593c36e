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

/*! \brief Public head of an arena.  No locks inside: it is used by one thread at a time, whichever that is. */
struct esp_arena { const esp_mem_api *api; };

struct esp_mem_api {
	uint32_t size;
	/*! [any] A new arena that may hold up to `cap` bytes (0: 64 MiB).  Counted on the generation until it is freed.
	 *  `label` names it when it is left behind; borrowed as long as the arena lives (a literal).  NULL: no memory. */
	esp_arena *(*arena_new)(esp_module *self, const char *label, size_t cap);
	/*! [any] Frees an arena of arena_new() (never one that was lent: conn->arena, txn->arena, host->arena()), after it
	 *  ran what was deferred, newest first, on this thread.  NULL is fine. */
	void (*arena_free)(esp_arena *a);
	/*! [any] The same, but the arena stays and keeps one chunk for reuse. */
	void (*arena_reset)(esp_arena *a);
	/*! [any] `n` bytes, zeroed, aligned to 16; n = 0 is one block as well.  NULL at the cap, or no memory. */
	void *(*alloc)(esp_arena *a, size_t n);
	/*! [any] Run fn(arg) when the arena dies, on the thread that ends it: conn->arena and txn->arena on their worker,
	 *  host->arena() on the control thread behind stop(), one of arena_new() where it is freed or reset.  fn must not
	 *  suspend nor allocate from this arena.  Not on conn->arena, which may outlive your generation: use the
	 *  destructor of an ESP_SLOT_CONN (esp/slot.h).  ESP_ENOMEM at the cap: fn was not taken. */
	ESP_CHECKED esp_status (*defer)(esp_arena *a, void (*fn)(void *arg), void *arg);
	/*! [any] Bytes handed out so far (each rounded up to 16): what the cap is compared with. */
	size_t (*used)(const esp_arena *a);

	/*! [any] Shared memory with an atomic count, born with one reference, zeroed, 16-aligned: written by its maker
	 *  before others see it, then only read (or changed by atomics of the module's own).  It may own `children`
	 *  references (at most 4,096) to other such memory, given back when it dies.  Needs no code of the module that made
	 *  it and counts on nobody, so it may outlive its generation.  NULL: no memory, too many children. */
	void *(*rc_new)(size_t bytes, uint32_t children);
	void (*rc_set_child)(void *rc, uint32_t index, void *child); /* takes over the reference; the one before ends */
	void *(*rc_child)(const void *rc, uint32_t index);           /* borrowed; NULL: none was set */
	void *(*rc_ref)(void *rc);                                   /* returns rc */
	void (*rc_unref)(void *rc);                                  /* NULL is fine */
};

/*! \brief Zeroed memory, or an array of it, that lives as long as the arena.  NULL at its cap. */
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
