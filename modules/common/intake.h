/* intake - bounds what all messages that are still coming hold in memory together.
 *
 * A few hundred clients that send half of a large message and wait would take the machine otherwise.  What a small
 * message needs does not count, so that ordinary mail goes on meanwhile.
 */
#ifndef ESP_COMMON_INTAKE_H
#define ESP_COMMON_INTAKE_H

#include <esp/abi.h>

#include <stdatomic.h>

#define INTAKE_RATE 500u           /* bytes a second: slower senders are silent ones */
#define INTAKE_FREE (128u << 10)   /* bytes of each message that do not count */

/*! \brief One a module; zero but for `max`. */
struct intake { uint64_t max; _Atomic uint64_t held; };

/*! \brief [worker] A message has grown to `len` bytes; *counted (0 at first) is what it holds.
 *  ESP_EBUSY: no room now. */
ESP_CHECKED esp_status intake_grow(struct intake *in, uint64_t *counted, uint64_t len);
/*! \brief Until when the next bytes of a message must be there: `idle` after it began, and later the more has come.
 *  Who sends a byte now and then does not keep a fiber and its memory for days. */
static inline esp_nsec intake_deadline(esp_nsec began, esp_nsec idle, uint64_t bytes)
{
	return began + idle + (esp_nsec)(bytes / INTAKE_RATE) * ESP_SEC;
}
/*! \brief [worker] It is gone. */
void intake_end(struct intake *in, uint64_t *counted);

#endif
