/* lesson - what a move of messages teaches, read from the event that tells of it.  Pure. */
#ifndef ESP_FILTER_RSPAMD_LESSON_H
#define ESP_FILTER_RSPAMD_LESSON_H

#include <esp/abi.h>

enum lesson { LESSON_SPAM = 0, LESSON_HAM, LESSONS, LESSON_NONE = LESSONS };

/*! \brief Of "message.moved" and "message.copied": UIDs first to last of mailbox `to` are the messages. */
struct moved { esp_id account, from, to; uint32_t first, last; };

/*! \brief Reads the event's body.  ESP_EPROTO: it says not all of that. */
ESP_CHECKED esp_status moved_read(esp_str body, struct moved *ret);
/*! \brief By the special use (RFC 6154) of both mailboxes: into Junk is spam, out of it is none, but into Trash says
 *  nothing. */
enum lesson lesson_of(esp_str from_use, esp_str to_use);

#endif
