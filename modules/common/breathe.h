/* breathe - what a long piece of work does between two of its parts.
 *
 * A fiber keeps the services it asked for until its function ends, and an EXCLUSIVE provider (sqlite, maildir,
 * mailstore) is not replaced while anybody keeps one.  Whoever walks over accounts, messages or rows therefore breathes
 * after each bounded part: what it had from a provider is void then, and asked for anew.
 */
#ifndef ESP_COMMON_BREATHE_H
#define ESP_COMMON_BREATHE_H

#include <esp/fiber.h>
#include <esp/host.h>

/*! \brief [fiber] ESP_SUSPENDS.  Give back every service, see the newest configuration, let others have their turn.
 *  ESP_ECANCELED: leave. */
static inline esp_status breathe(const esp_core *core)
{
	core->host->quiesce();
	return core->fiber->yield();
}

#endif
