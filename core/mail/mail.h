/* core/mail/mail.h - transactions as the rest of the core sees them, and what must be lent to them.
 *
 * A transaction pins the snapshot it began with: the calls of session() that carry it on (MAIL, RCPT, DATA may come in
 * different packets) run under that snapshot, and a reload reaches the connection at its next transaction.
 */
#ifndef CORE_MAIL_MAIL_H
#define CORE_MAIL_MAIL_H

#include "core/bus/trace.h"

#include <esp/slot.h>

/*! \brief Lent by core/module and core/bus; set once before the first transaction. */
struct mail_host {
	void *arg;
	/*! [worker] Make the running fiber's snapshot the one of every call on this connection until unpin(). */
	void *(*pin)(void *arg, esp_conn *c);
	void (*unpin)(void *arg, esp_conn *c, void *pin);
	/*! [worker] Suspends.  Run the chain of a point of the running fiber's snapshot, and note who was asked. */
	void (*run)(esp_point point, const void *args, esp_arena *arena, struct trace *trace, esp_outcome *ret);
	/*! [worker] Which domains have equal settings in the running fiber's snapshot: the same number; 0: the modules'
	 *  own. */
	uint64_t (*settings)(esp_str domain);
	/*! [worker] The object ends: slots of it (ESP_SLOT_TXN, ESP_SLOT_MESSAGE) run their destructors. */
	void (*slots_end)(void *arg, void *object, uint32_t scope);
};

void mail_set_host(const struct mail_host *host);
/*! \brief [control, start of the process] The events filter.* and what they found. */
ESP_CHECKED esp_status mail_declare(void);
extern const esp_mail_api mail_api;

#endif
