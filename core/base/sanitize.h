/* core/base/sanitize.h - which sanitizer is on, and marking memory that nobody may touch.
 *
 * gcc 12 has no __has_feature: its own macros are tested first and clang's test is nested.
 */
#ifndef CORE_BASE_SANITIZE_H
#define CORE_BASE_SANITIZE_H

#include <stddef.h>

#if defined(__SANITIZE_ADDRESS__)
#define SANITIZE_ADDRESS 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZE_ADDRESS 1
#endif
#endif
#if defined(__SANITIZE_THREAD__)
#define SANITIZE_THREAD 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define SANITIZE_THREAD 1
#endif
#endif
#ifndef SANITIZE_ADDRESS
#define SANITIZE_ADDRESS 0
#endif
#ifndef SANITIZE_THREAD
#define SANITIZE_THREAD 0
#endif

#if SANITIZE_ADDRESS
#include <sanitizer/asan_interface.h>
#define SANITIZE_GAP ((size_t)16)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wpragmas"
#pragma GCC diagnostic ignored "-Wunknown-warning-option"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized" /* the bytes are marked, not read */
static inline void sanitize_poison(const void *p, size_t n) { __asan_poison_memory_region(p, n); }
static inline void sanitize_unpoison(const void *p, size_t n) { __asan_unpoison_memory_region(p, n); }
#pragma GCC diagnostic pop
#else
#define SANITIZE_GAP ((size_t)0)
static inline void sanitize_poison(const void *p, size_t n) { (void)p; (void)n; }
static inline void sanitize_unpoison(const void *p, size_t n) { (void)p; (void)n; }
#endif

#endif
