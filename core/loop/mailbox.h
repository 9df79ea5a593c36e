/* core/loop/mailbox.h - messages from any thread to one worker.
 *
 * Two ways in: a bounded ring of (fn, arg) for posts, which may be full (ESP_EBUSY), and a chain of nodes that
 * the sender owns, which never fails (wakes, job completions, adoption of a snapshot).  One consumer.
 */
#ifndef CORE_LOOP_MAILBOX_H
#define CORE_LOOP_MAILBOX_H

#include <esp/abi.h>
#include <stdatomic.h>

struct owner;

/*! \brief Embedded in what is sent; belongs to the mailbox until fn was called. */
struct mail_node { struct mail_node *next; void (*fn)(struct mail_node *n); };

struct mail_post {
	void (*fn)(void *arg);
	void *arg;
	struct owner *owner;
	const char *fiber_name; /* not NULL: run it in a new fiber; a malloc'ed copy */
};

struct mail_cell { atomic_size_t turn; struct mail_post post; };
struct mailbox {
	struct mail_cell *cells;
	size_t mask;
	_Alignas(64) atomic_size_t head; /* next to write */
	_Alignas(64) size_t tail;        /* next to read; consumer only */
	_Alignas(64) _Atomic(struct mail_node *) chain;
};

/*! \brief size: power of two. */
ESP_CHECKED esp_status mailbox_init(struct mailbox *m, size_t size);
void mailbox_fini(struct mailbox *m);
ESP_CHECKED esp_status mailbox_push(struct mailbox *m, const struct mail_post *post); /* [any] ESP_EBUSY */
int mailbox_pop(struct mailbox *m, struct mail_post *ret);                            /* consumer */
void mailbox_send(struct mailbox *m, struct mail_node *n);                            /* [any] never fails */
struct mail_node *mailbox_take(struct mailbox *m);                                    /* consumer: all, oldest first */

#endif
