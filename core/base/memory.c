/* core/base/memory.c - see memory.h. */
#include "core/base/memory.h"

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* glibc's own first value.  Set, it stays; else every large block that is freed raises it, up to 32 MiB. */
#define OWN_MAPPING (128 << 10)
/* An arena's free end is kept up to this, not given to the kernel and faulted in again with each message. */
#define KEPT_END    (1 << 20)

void memory_settle(uint32_t loops)
{
	(void)mallopt(M_ARENA_MAX, (int)loops);
	(void)mallopt(M_MMAP_THRESHOLD, OWN_MAPPING);
	(void)mallopt(M_TRIM_THRESHOLD, KEPT_END);
}

void memory_heap(uint64_t *ret_used, uint64_t *ret_held)
{
	struct mallinfo2 m = mallinfo2();

	*ret_used = m.uordblks + m.hblkhd;
	*ret_held = m.arena + m.hblkhd;
}

uint64_t memory_resident(void)
{
	FILE *f = fopen("/proc/self/statm", "re");
	unsigned long pages = 0, resident = 0;

	if (f && fscanf(f, "%lu %lu", &pages, &resident) != 2)
		resident = 0;
	if (f)
		fclose(f);
	return (uint64_t)resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

void memory_trim(void)
{
	(void)malloc_trim(0);
}

/* The end of an arena is cut by the free() that reaches it, of a block larger than what free() keeps for itself. */
void memory_trim_end(void)
{
	void *volatile last = malloc(OWN_MAPPING - 1024);

	(void)mallopt(M_TRIM_THRESHOLD, 0);
	free(last);
	(void)mallopt(M_TRIM_THRESHOLD, KEPT_END);
}
