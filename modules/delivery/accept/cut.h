/* cut - header fields of a message that its stored copy lacks, because a hook said so. */
#ifndef ESP_DELIVERY_ACCEPT_CUT_H
#define ESP_DELIVERY_ACCEPT_CUT_H

#include <esp/hook.h>
#include <esp/mem.h>

/*! \brief Spans of the message, ascending. */
struct cut { size_t offset, len; };
struct cuts { const struct cut *cut; uint32_t n; };

/*! \brief Does this element of esp_answer.headers name a field to leave out?  (Else it is one to put in front.) */
static inline int is_cut(esp_str header) { return !memchr(header.ptr, ':', header.len); }
/*! \brief [any] What the answer leaves out of `content`; in the arena.  ESP_ENOMEM. */
ESP_CHECKED esp_status cuts_find(esp_arena *arena, esp_str content, const esp_answer *answer, struct cuts *ret);
int cuts_equal(const struct cuts *a, const struct cuts *b);
/*! \brief [any] The message without them, malloc()ed; NULL: no memory. */
char *cuts_apply(esp_str content, const struct cuts *cuts, size_t *ret_len);

#endif
