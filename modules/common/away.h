/* away - a command's long work, away from the control thread.
 *
 * The work runs in a fiber of worker 0, where mail services may be called; the command's own fiber looks at it some
 * times a second, passes on how far it is, and tells it to stop when its client is gone or the server stops.  Who
 * embeds the struct has it in memory of the command: that fiber leaves last.
 */
#ifndef ESP_COMMON_AWAY_H
#define ESP_COMMON_AWAY_H

#include <esp/command.h>
#include <esp/fiber.h>
#include <esp/host.h>
#include <esp/loop.h>

#include <stdatomic.h>

/*! \brief Zero-initialise; the caller fills run, and a unit when it is always the same. */
struct away {
	esp_status (*run)(struct away *a);  /* [worker 0] its status */
	_Atomic(const char *) step, unit;   /* constants; step NULL: nothing to show yet */
	atomic_ullong done, total;
	atomic_int cancel, finished;        /* cancel: nobody waits for the answer */
	esp_status status;
};

/*! \brief [control] ESP_SUSPENDS.  Run it to its end; its status. */
ESP_CHECKED esp_status away_run(
	struct away *a, const esp_core *core, esp_module *self, esp_command_call *call, const char *name);

#endif
