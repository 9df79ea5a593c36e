/* core/loop/mailbox.c - messages from any thread to one worker (see mailbox.h).
 *
 * The ring is Vyukov's bounded queue.  A cell's turn is kept relative to its index, so that zeroed memory is a
 * valid empty ring and untouched pages cost nothing.
 */
#include "core/loop/mailbox.h"

#include "core/base/assert.h"

#include <stdlib.h>

esp_status mailbox_init(struct mailbox *m, size_t size)
{
	ESP_ASSERT(size >= 2 && (size & (size - 1)) == 0);
	m->cells = calloc(size, sizeof(*m->cells));
	if (!m->cells)
		return ESP_ENOMEM;
	m->mask = size - 1;
	m->tail = 0;
	atomic_init(&m->head, 0);
	atomic_init(&m->chain, NULL);
	return ESP_OK;
}

void mailbox_fini(struct mailbox *m)
{
	free(m->cells);
	m->cells = NULL;
}

esp_status mailbox_push(struct mailbox *m, const struct mail_post *post)
{
	size_t pos = atomic_load_explicit(&m->head, memory_order_relaxed);

	for (;;) {
		struct mail_cell *c = &m->cells[pos & m->mask];
		size_t lap = pos & ~m->mask, turn = atomic_load_explicit(&c->turn, memory_order_acquire);

		if (turn == lap) {
			if (atomic_compare_exchange_weak_explicit(&m->head, &pos, pos + 1, memory_order_relaxed,
			                                          memory_order_relaxed)) {
				c->post = *post;
				atomic_store_explicit(&c->turn, lap + 1, memory_order_release);
				return ESP_OK;
			}
		} else if ((ptrdiff_t)(turn - lap) < 0) {
			return ESP_EBUSY;
		} else {
			pos = atomic_load_explicit(&m->head, memory_order_relaxed);
		}
	}
}

int mailbox_pop(struct mailbox *m, struct mail_post *ret)
{
	size_t pos = m->tail, lap = pos & ~m->mask;
	struct mail_cell *c = &m->cells[pos & m->mask];

	if (atomic_load_explicit(&c->turn, memory_order_acquire) != lap + 1)
		return 0;
	*ret = c->post;
	m->tail = pos + 1;
	atomic_store_explicit(&c->turn, lap + m->mask + 1, memory_order_release);
	return 1;
}

void mailbox_send(struct mailbox *m, struct mail_node *n)
{
	struct mail_node *first = atomic_load_explicit(&m->chain, memory_order_relaxed);

	do
		n->next = first;
	while (!atomic_compare_exchange_weak_explicit(&m->chain, &first, n, memory_order_release, memory_order_relaxed));
}

struct mail_node *mailbox_take(struct mailbox *m)
{
	struct mail_node *n, *next, *oldest = NULL;

	if (!atomic_load_explicit(&m->chain, memory_order_relaxed))
		return NULL;
	for (n = atomic_exchange_explicit(&m->chain, NULL, memory_order_acquire); n; n = next) {
		next = n->next;
		n->next = oldest;
		oldest = n;
	}
	return oldest;
}
