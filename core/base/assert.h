/* core/base/assert.h - cheap checks that stay on in production.
 *
 * A broken contract inside the process is a defect: it ends in an abort with one line on stderr (file, line,
 * function, condition), written with write(2) so that it also works in a full process.  Never for anything a
 * peer, a disk or an administrator can cause.
 */
#ifndef CORE_BASE_ASSERT_H
#define CORE_BASE_ASSERT_H

#include <stdint.h>

/*! \brief Write the report and abort.  [any], also on a fiber. */
__attribute__((noreturn, cold, format(printf, 4, 5)))
void assert_fail(const char *file, int line, const char *func, const char *fmt, ...);

#define ESP_ASSERT(cond) \
	do { \
		if (__builtin_expect(!(cond), 0)) \
			assert_fail(__FILE__, __LINE__, __func__, "assertion failed: %s", #cond); \
	} while (0)
#define ESP_PANIC(...) assert_fail(__FILE__, __LINE__, __func__, __VA_ARGS__)

/*! \brief Long-lived structs carry `uint32_t magic`; accessors check it, the destructor clears it. */
#define MAGIC_SET(p, m) ((p)->magic = (m))
#define MAGIC_CLEAR(p) ((p)->magic = 0)
#define MAGIC_OK(p, m) ((p) != NULL && (p)->magic == (m))
#define MAGIC_CHECK(p, m) \
	do { \
		if (__builtin_expect(!MAGIC_OK(p, m), 0)) \
			assert_fail(__FILE__, __LINE__, __func__, "bad magic in %s: wild or freed pointer, wanted " #m, #p); \
	} while (0)

#define container_of(ptr, type, member) ((type *)(void *)((char *)(ptr) - offsetof(type, member)))
#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

#endif
