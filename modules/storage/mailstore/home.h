/* home - what lives on one worker: views of the mailboxes at home there, and accounts known to exist. */
#ifndef ESP_STORAGE_MAILSTORE_HOME_H
#define ESP_STORAGE_MAILSTORE_HOME_H

#include "store.h"

/*! \brief [worker] Was this account seen here within account_ttl? */
int home_knows(const struct mailstore *m, esp_id account);
void home_note(const struct mailstore *m, esp_id account);
/*! \brief [any] The worker a mailbox is at home on. */
uint32_t home_index(const struct mailstore *m, esp_id mailbox);

#endif
