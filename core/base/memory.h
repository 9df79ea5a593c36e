/* core/base/memory.h - how the C library's allocator is to behave in a server that lives for months.
 *
 * Generations of modules come and go and take memory of every size with them, threads of lanes come and go too.  Left
 * alone, glibc keeps an arena for each thread that ever ran beside others, puts ever larger blocks between small ones
 * and gives back only what lies at the end of an arena: what the process holds creeps up although nothing leaks. */
#ifndef CORE_BASE_MEMORY_H
#define CORE_BASE_MEMORY_H

#include <stdint.h>

/*! \brief Few arenas, large blocks in mappings of their own.  Before the first other thread is started.
 * \param loops  threads that always run; each has an arena, those of the lanes share them. */
void memory_settle(uint32_t loops);
/*! \brief Bytes that the program has in use, and bytes of address space that the allocator holds for it.  Thread:
 * any; holds up other threads' malloc for microseconds. */
void memory_heap(uint64_t *ret_used, uint64_t *ret_held);
/*! \brief Bytes of this process that are in RAM; 0: the system does not say.  Thread: any. */
uint64_t memory_resident(void);
/*! \brief Give free pages back to the system.  Holds up other threads' malloc for as long as it looks through an
 * arena's free blocks (milliseconds): for after a reload, not for every day.  Thread: any; a lane is best. */
void memory_trim(void);
/*! \brief The free end of the arena that this thread uses, which memory_trim() leaves alone.  Thread: any. */
void memory_trim_end(void);

#endif
