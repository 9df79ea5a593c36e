/* held - a view inside a transaction.
 *
 * What a command needs to know of its messages (UIDs, flags, modseqs) is in memory already: the version that the node
 * has is brought up to the state under the account's lock by the few entries of the log that are newer, and is exact
 * then.  A version that is too old to be followed is loaded anew in the fiber, and the transaction runs again.
 */
#include "refresh.h"

#define STALE_TRIES 8

static void forget(const struct mailstore *m, const esp_view **v)
{
	m->core.mem->rc_unref((void *)(uintptr_t)*v);
	*v = NULL;
}

esp_status held_take(struct held *h, const struct op *op, esp_tx *tx, const struct box *b)
{
	esp_status st;

	forget(op->m, &h->now);            /* of a run before this one */
	h->stale = 0;
	st = view_under_lock(op, tx, b, h->known, &h->now);
	if (st != ESP_OK || h->now)
		return st;
	h->stale = 1;
	return ESP_EAGAIN;                 /* of no provider: rolled back and given back */
}

esp_status held_run(struct held *h, const esp_actor *actor, struct op *op, esp_id mailbox,
	esp_status (*fn)(esp_tx *tx, void *arg), void *arg)
{
	const esp_mailstore *s = &op->m->table;
	esp_status st = h->known ? ESP_OK : view_sync_to(s, actor, mailbox, 0, &h->known);

	for (int i = 0; st == ESP_OK && i < STALE_TRIES; i++) {
		h->stale = 0;
		st = op_run(op, &mailbox, 1, fn, arg);
		if (!h->stale)
			return st;
		forget(op->m, &h->known);
		st = view_sync(s, actor, mailbox, &h->known);
	}
	return st == ESP_OK ? ESP_EBUSY : st;
}

void held_end(struct held *h, const struct mailstore *m)
{
	forget(m, &h->known);
	forget(m, &h->now);
}
