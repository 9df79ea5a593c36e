/* threads - the algorithms of THREAD (RFC 5256 3): messages in, a tree out.  Pure; [any] thread. */
#ifndef ESP_STORAGE_MAILSTORE_THREADS_H
#define ESP_STORAGE_MAILSTORE_THREADS_H

#include "store.h"

/*! \brief A message, in the order of sequence numbers. */
struct thread_item { uint32_t uid, reply; esp_time sent; esp_str subject, id, parents; };

/*! \brief Both: the tree is in `a`, node 0 its root.  ESP_ENOMEM. */
ESP_CHECKED esp_status threads_by_references(
	esp_arena *a, const struct thread_item *item, uint32_t n, const esp_thread_node **ret, uint32_t *ret_n);
ESP_CHECKED esp_status threads_by_subject(
	esp_arena *a, const struct thread_item *item, uint32_t n, const esp_thread_node **ret, uint32_t *ret_n);

#endif
