/* refresh - bring a view up to the database: from scratch, or by what changed since. */
#ifndef ESP_STORAGE_MAILSTORE_REFRESH_H
#define ESP_STORAGE_MAILSTORE_REFRESH_H

#include "view.h"

/*! \brief [worker, fiber] ESP_SUSPENDS.  The version now, built on `old` (may be NULL); *ret is a new
 *  reference, the same version when nothing changed.
 *  ESP_ENOENT: no such mailbox (any more). */
ESP_CHECKED esp_status view_refresh(
	const struct mailstore *m, esp_id mailbox, const esp_view *old, const esp_view **ret);
/*! \brief The same from scratch, for the first use of a mailbox. */
ESP_CHECKED esp_status view_load(const struct mailstore *m, esp_id mailbox, const esp_view **ret);

#endif
