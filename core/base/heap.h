/* core/base/heap.h - binary heap of intrusive nodes ordered by an int64 key; a node knows its place, so it can
 * be removed in O(log n).  Equal keys leave in no promised order.  One thread at a time. */
#ifndef CORE_BASE_HEAP_H
#define CORE_BASE_HEAP_H

#include <esp/abi.h>

struct heap_node { int64_t key; size_t index; }; /* index is 1-based; 0: in no heap */
struct heap { struct heap_node **nodes; size_t count, cap; };

void heap_init(struct heap *h);
void heap_free(struct heap *h); /* nodes are the caller's */
/*! \brief Room for n nodes in all: inserting up to there cannot fail. */
ESP_CHECKED esp_status heap_reserve(struct heap *h, size_t n);
ESP_CHECKED esp_status heap_insert(struct heap *h, struct heap_node *n, int64_t key);
/*! \brief Harmless when it is in no heap. */
void heap_remove(struct heap *h, struct heap_node *n);
/*! \brief Change the key of a node in the heap. */
void heap_update(struct heap *h, struct heap_node *n, int64_t key);
static inline struct heap_node *heap_min(const struct heap *h) { return h->count ? h->nodes[0] : NULL; }
static inline int heap_linked(const struct heap_node *n) { return n->index != 0; }

#endif
