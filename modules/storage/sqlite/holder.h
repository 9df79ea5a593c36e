/* holder - which other program has a database locked. */
#ifndef ESP_STORAGE_SQLITE_HOLDER_H
#define ESP_STORAGE_SQLITE_HOLDER_H

#include <stddef.h>

/*! \brief [any] "process 4711, sqlite3" of the program that writes to, or has for itself, the database at `path`; reads
 *  /proc.  Returns 0 and leaves `out` alone when that cannot be seen. */
int holder_find(const char *path, char *out, size_t size);

#endif
