/* core/mail/mail.h - transactions as the rest of the core sees them, and what must be lent to them.
 *
 * A transaction pins the snapshot it began with: the calls of session() that carry it on (MAIL, RCPT, DATA may come in
 * different packets) run under that snapshot, and a reload reaches the connection at its next transaction.
 */
#ifndef CORE_MAIL_MAIL_H
#define CORE_MAIL_MAIL_H

#include <esp/mail.h>
#include <esp/slot.h>

/*! \brief Lent by core/module and core/bus; set once before the first transaction. */
struct mail_host {
	void *arg;
	/*! [worker] Make the running fiber's snapshot the one of every call on this connection until unpin(). */
	void *(*pin)(void *arg, esp_conn *c);
	void (*unpin)(void *arg, esp_conn *c, void *pin);
	/*! [worker] Suspends.  Run the chain of a point of the running fiber's snapshot. */
	void (*run)(esp_point point, const void *args, esp_arena *arena, esp_outcome *ret);
	/*! [worker] The object ends: slots of it (ESP_SLOT_TXN, ESP_SLOT_MESSAGE) run their destructors. */
	void (*slots_end)(void *arg, void *object, uint32_t scope);
};

void mail_set_host(const struct mail_host *host);
extern const esp_mail_api mail_api;

#endif
