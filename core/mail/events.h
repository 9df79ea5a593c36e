/* core/mail/events.h - the events of what hooks said along a transaction. */
#ifndef CORE_MAIL_EVENTS_H
#define CORE_MAIL_EVENTS_H

#include <esp/mail.h>

/*! \brief [worker] Publish what the calls of the trace from `first` on said: filter.matched, filter.error,
 *  spam.detected, virus.detected. */
void events_of_trace(const esp_txn *t, uint32_t first);

#endif
