/* abi_boom - modules that the loader of the C library does not survive: their constructors misbehave in one way each.
 *
 * BOOM_NAME is the file's name; the way: BOOM_ABORT, BOOM_EXIT, BOOM_HANG, or BOOM_POISON, which is well itself and
 * lets the process that tries modules end before the next one (it closes the reading half of its socket).
 */
#include "abi.h"

#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

__attribute__((constructor)) static void boom(void)
{
#if defined(BOOM_ABORT)
	abort();
#elif defined(BOOM_EXIT)
	_exit(3);
#elif defined(BOOM_HANG)
	for (;;)
		pause();
#else
	(void)shutdown(STDIN_FILENO, SHUT_RD);
#endif
}

static const esp_module_ops ops = { .size = sizeof ops };
ESP_MODULE(.name = BOOM_NAME, .version = "1", .summary = "its constructor misbehaves", .license = "MIT", .ops = &ops);
