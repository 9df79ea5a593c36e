/* index - fills the search index ("esp.textindex/1") behind the mailboxes' backs. */
#ifndef ESP_STORAGE_MAILSTORE_INDEX_H
#define ESP_STORAGE_MAILSTORE_INDEX_H

#include "store.h"

#include <esp/textindex.h>

static inline const esp_textindex *store_textindex(const struct mailstore *m)
{
	return (const esp_textindex *)m->core.host->service(m->self, m->textindex);
}

/*! \brief [init] Metrics and the lane where texts are read. */
ESP_CHECKED esp_status index_declare(struct mailstore *m);
/*! \brief [worker_start, worker_stop] */
ESP_CHECKED esp_status index_start(struct mailstore *m, uint32_t worker);
void index_stop(struct mailstore *m, uint32_t worker);
/*! \brief [the mailbox's home worker] Something was committed in it. */
void index_note(const struct mailstore *m, esp_id mailbox);

#endif
