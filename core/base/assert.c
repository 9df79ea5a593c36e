/* core/base/assert.c - the report of a broken contract. */
#include "core/base/assert.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void assert_fail(const char *file, int line, const char *func, const char *fmt, ...)
{
	char text[512];
	va_list ap;
	int n = snprintf(text, sizeof(text), "PANIC %s:%d %s(): ", file, line, func);
	size_t used = n < 0 ? 0 : (size_t)n < sizeof(text) ? (size_t)n : sizeof(text) - 1;

	va_start(ap, fmt);
	vsnprintf(text + used, sizeof(text) - used, fmt, ap);
	va_end(ap);
	used = strlen(text);
	if (used == sizeof(text) - 1)
		used--;
	text[used++] = '\n';
	if (write(STDERR_FILENO, text, used) < 0)
		abort(); /* nobody can read it; the core file still tells */
	abort();
}
