/* refresh - bring a view up to the database: from scratch, or by what changed since. */
#ifndef ESP_STORAGE_MAILSTORE_REFRESH_H
#define ESP_STORAGE_MAILSTORE_REFRESH_H

#include "view.h"

/*! \brief [worker, fiber] ESP_SUSPENDS.  The version now, built on `old` (may be NULL); *ret is a new
 *  reference, the same version when nothing changed.
 *  ESP_ENOENT: no such mailbox (any more). */
ESP_CHECKED esp_status view_refresh(
	const struct mailstore *m, esp_id mailbox, const esp_view *old, const esp_view **ret);
/*! \brief The view that a transaction works with: begun before it, followed under its lock. */
struct held { const esp_view *known, *now; int stale; };   /* references */
/*! \brief [fiber] Run fn(tx, arg) with a held view; it begins with held_take().  `arg` begins with the op. */
ESP_CHECKED esp_status held_run(struct held *h, const esp_actor *actor, struct op *op, esp_id mailbox,
	esp_status (*fn)(esp_tx *tx, void *arg), void *arg);
/*! \brief [tx] h->now is the mailbox as the account's lock holds it. */
ESP_CHECKED esp_status held_take(struct held *h, const struct op *op, esp_tx *tx, const struct box *b);
void held_end(struct held *h, const struct mailstore *m);

/*! \brief [tx] The version as the account's lock holds it, built on `old`; a new reference.  NULL: `old` is too old
 *  and the mailbox must be loaded first. */
ESP_CHECKED esp_status view_under_lock(
	const struct op *op, esp_tx *tx, const struct box *b, const esp_view *old, const esp_view **ret);

#endif
