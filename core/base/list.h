/* core/base/list.h - intrusive doubly linked ring; a zeroed or list_init()ed node is "not in a list". */
#ifndef CORE_BASE_LIST_H
#define CORE_BASE_LIST_H

#include "core/base/assert.h"

#include <stddef.h>

struct list { struct list *next, *prev; };

static inline void list_init(struct list *l) { l->next = l->prev = l; }
static inline int list_empty(const struct list *head) { return head->next == head; }
static inline int list_linked(const struct list *node) { return node->next != NULL && node->next != node; }
static inline void list_append(struct list *head, struct list *node)
{
	ESP_ASSERT(!list_linked(node));
	node->prev = head->prev;
	node->next = head;
	head->prev->next = node;
	head->prev = node;
}
static inline void list_prepend(struct list *head, struct list *node)
{
	list_append(head->next, node); /* in front of the first */
}
/*! \brief Take out; harmless when it is in no list. */
static inline void list_remove(struct list *node)
{
	if (list_linked(node)) {
		node->prev->next = node->next;
		node->next->prev = node->prev;
	}
	list_init(node);
}
static inline struct list *list_first(const struct list *head) { return list_empty(head) ? NULL : head->next; }
static inline struct list *list_pop(struct list *head)
{
	struct list *node = list_first(head);

	if (node)
		list_remove(node);
	return node;
}
/*! \brief Move everything from `from` to the end of `to`. */
static inline void list_splice(struct list *to, struct list *from)
{
	if (list_empty(from))
		return;
	from->next->prev = to->prev;
	from->prev->next = to;
	to->prev->next = from->next;
	to->prev = from->prev;
	list_init(from);
}

#define list_entry(node, type, member) container_of(node, type, member)
#define list_for(node, head) for (struct list *node = (head)->next; node != (head); node = node->next)
/*! \brief The body may remove `node`. */
#define list_for_safe(node, head) \
	for (struct list *node = (head)->next, *node##_next = node->next; node != (head); \
	     node = node##_next, node##_next = node->next)

#endif
