/* core/base/memory.c - see memory.h. */
#include "core/base/memory.h"

#include <malloc.h>

/* glibc's own first value.  Set, it stays; else every large block that is freed raises it, up to 32 MiB. */
#define OWN_MAPPING (128 << 10)

void memory_settle(uint32_t loops)
{
	(void)mallopt(M_ARENA_MAX, (int)loops);
	(void)mallopt(M_MMAP_THRESHOLD, OWN_MAPPING);
}

void memory_trim(void)
{
	(void)malloc_trim(0);
}
