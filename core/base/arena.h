/* core/base/arena.h - bump allocator with one lifetime and a hard cap.
 *
 * What dies together is allocated together: per generation, connection, transaction, message.  One thread at
 * a time.  arena_free() runs the deferred functions (newest first), then gives every chunk back.  Memory is
 * zeroed and 16-aligned; under ASan the gaps between blocks and the unused tail of a chunk are poisoned.
 * A NULL from arena_alloc() means the cap is reached (or malloc failed): the caller fails its session.
 *
 * `struct esp_arena` (esp/mem.h) is the public head; core/module fills `pub.api` by passing its table.
 */
#ifndef CORE_BASE_ARENA_H
#define CORE_BASE_ARENA_H

#include <esp/mem.h>

#define ARENA_CAP_DEFAULT ((size_t)64 << 20)

/*! \brief New arena of at most `cap` bytes handed out (0: 64 MiB).  The head costs one 1 KiB malloc that also
 *  holds the first block.  `label` is borrowed for life (a literal).  NULL: no memory. */
esp_arena *arena_new(const esp_mem_api *api, const char *label, size_t cap);
/*! \brief The same with `first` bytes for the head (96) and the first blocks; for what exists in thousands.  Its
 *  chunks begin at 208 bytes. */
esp_arena *arena_new_small(const esp_mem_api *api, const char *label, size_t first, size_t cap);
/*! \brief Deferred functions, newest first; then all memory.  NULL is fine. */
void arena_free(esp_arena *a);
/*! \brief The same but the arena stays usable and keeps its first chunk. */
void arena_reset(esp_arena *a);
void *arena_alloc(esp_arena *a, size_t n) __attribute__((alloc_size(2)));
/*! \brief Copy of n bytes plus a NUL. */
char *arena_dup(esp_arena *a, const void *p, size_t n);
/*! \brief Formatted into the arena; ret_len may be NULL.  NULL at the cap. */
char *arena_printf(esp_arena *a, size_t *ret_len, const char *fmt, ...) ESP_PRINTF(3, 4);
/*! \brief fn(arg) when the arena dies or is reset.  ESP_ENOMEM: fn was not taken. */
ESP_CHECKED esp_status arena_defer(esp_arena *a, void (*fn)(void *arg), void *arg);
/*! \brief Bytes handed out, rounding included. */
size_t arena_used(const esp_arena *a);
/*! \brief Bytes held from malloc. */
size_t arena_held(const esp_arena *a);
const char *arena_label(const esp_arena *a);
/*! \brief Opaque word for the owner of the arena (core/module counts it on a generation). */
void arena_set_user(esp_arena *a, void *user);
void *arena_user(const esp_arena *a);

#endif
