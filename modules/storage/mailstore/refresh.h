/* refresh - bring a view up to the database: from scratch, or by what changed since. */
#ifndef ESP_STORAGE_MAILSTORE_REFRESH_H
#define ESP_STORAGE_MAILSTORE_REFRESH_H

#include "view.h"

/*! \brief [worker, fiber] ESP_SUSPENDS.  The version now, built on `old` (may be NULL); *ret is a new
 *  reference, the same version when nothing changed.
 *  ESP_ENOENT: no such mailbox (any more). */
ESP_CHECKED esp_status view_refresh(
	const struct mailstore *m, esp_id mailbox, const esp_view *old, const esp_view **ret);
/*! \brief [tx] The version as the account's lock holds it, built on `old`; a new reference.  NULL: `old` is too old
 *  and the mailbox must be loaded first. */
ESP_CHECKED esp_status view_under_lock(
	const struct op *op, esp_tx *tx, const struct box *b, const esp_view *old, const esp_view **ret);

#endif
