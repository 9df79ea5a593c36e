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
#include <esp/loop.h>

/*! \brief [fiber] ESP_SUSPENDS.  Give back every service, see the newest configuration, let others have their turn.
 *  ESP_ECANCELED: leave. */
static inline esp_status breathe(const esp_core *core)
{
	core->host->quiesce();
	return core->fiber->yield();
}

/*! \brief [fiber] ESP_SUSPENDS.  Wait until `*stop`, at most `span`, and see the newest configuration every second: a
 *  fiber that sleeps under an old one keeps what was replaced since.  Who sets `*stop` signals `c`; a signal that comes
 *  when a second has just ended finds nobody, so it is the flag that counts.  ESP_OK: stopped; ESP_ETIMEDOUT;
 *  ESP_ECANCELED. */
static inline esp_status breathe_wait(const esp_core *core, esp_fcond *c, esp_nsec span, const int *stop)
{
	esp_nsec now = core->loop->now(), until = now + span;
	esp_status st = ESP_OK;

	for (; st != ESP_ECANCELED && !*stop && now < until; now = core->loop->now()) {
		core->host->quiesce();
		(void)core->fiber->set_deadline(until - now < ESP_SEC ? until : now + ESP_SEC);
		st = core->fiber->wait(c);
		(void)core->fiber->set_deadline(0);
	}
	core->host->quiesce();
	return st == ESP_ECANCELED ? st : *stop ? ESP_OK : ESP_ETIMEDOUT;
}

#endif
