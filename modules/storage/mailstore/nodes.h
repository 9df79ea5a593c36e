/* nodes - servers that share a database tell each other which mailboxes changed. */
#ifndef ESP_STORAGE_MAILSTORE_NODES_H
#define ESP_STORAGE_MAILSTORE_NODES_H

#include "store.h"

/*! \brief [control] every 0: this server keeps to itself. */
ESP_CHECKED esp_status nodes_new(struct mailstore *m, esp_nsec every);
/*! \brief [worker 0] */
ESP_CHECKED esp_status nodes_start(const struct mailstore *m);
/*! \brief [any] A change of this mailbox was committed here. */
void nodes_tell(const struct mailstore *m, esp_id mailbox, uint64_t modseq);
/*! \brief [worker 0] The fiber ends soon. */
void nodes_drain(const struct mailstore *m);
/*! \brief [control] After the fiber's end. */
void nodes_free(const struct mailstore *m);

/* home.c */
/*! \brief [any] A mailbox was changed, here or elsewhere: its view, if there is one, and whoever waits for it. */
void view_hint(const struct mailstore *m, esp_id mailbox, uint64_t modseq);

#endif
