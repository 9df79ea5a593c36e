/* core/base/heap.c - binary heap with back-index (see heap.h). */
#include "core/base/heap.h"

#include "core/base/assert.h"

#include <stdlib.h>

void heap_init(struct heap *h)
{
	*h = (struct heap){ 0 };
}

void heap_free(struct heap *h)
{
	free(h->nodes);
	heap_init(h);
}

esp_status heap_reserve(struct heap *h, size_t n)
{
	struct heap_node **nodes;

	if (n <= h->cap)
		return ESP_OK;
	nodes = realloc(h->nodes, n * sizeof(*nodes));
	if (!nodes)
		return ESP_ENOMEM;
	h->nodes = nodes;
	h->cap = n;
	return ESP_OK;
}

static void place(struct heap *h, size_t i, struct heap_node *n)
{
	h->nodes[i] = n;
	n->index = i + 1;
}

static void sift_up(struct heap *h, size_t i, struct heap_node *n)
{
	while (i > 0 && h->nodes[(i - 1) / 2]->key > n->key) {
		place(h, i, h->nodes[(i - 1) / 2]);
		i = (i - 1) / 2;
	}
	place(h, i, n);
}

static void sift_down(struct heap *h, size_t i, struct heap_node *n)
{
	for (;;) {
		size_t child = 2 * i + 1;

		if (child >= h->count)
			break;
		if (child + 1 < h->count && h->nodes[child + 1]->key < h->nodes[child]->key)
			child++;
		if (h->nodes[child]->key >= n->key)
			break;
		place(h, i, h->nodes[child]);
		i = child;
	}
	place(h, i, n);
}

esp_status heap_insert(struct heap *h, struct heap_node *n, int64_t key)
{
	ESP_ASSERT(n->index == 0);
	if (h->count == h->cap && heap_reserve(h, h->cap ? h->cap * 2 : 16) != ESP_OK)
		return ESP_ENOMEM;
	n->key = key;
	sift_up(h, h->count++, n);
	return ESP_OK;
}

void heap_remove(struct heap *h, struct heap_node *n)
{
	struct heap_node *last;
	size_t i;

	if (n->index == 0)
		return;
	i = n->index - 1;
	ESP_ASSERT(i < h->count && h->nodes[i] == n);
	last = h->nodes[--h->count];
	n->index = 0;
	if (last == n)
		return;
	place(h, i, last);
	heap_update(h, last, last->key);
}

void heap_update(struct heap *h, struct heap_node *n, int64_t key)
{
	size_t i = n->index - 1;

	ESP_ASSERT(n->index != 0 && i < h->count);
	n->key = key;
	if (i > 0 && h->nodes[(i - 1) / 2]->key > key)
		sift_up(h, i, n);
	else
		sift_down(h, i, n);
}
