/* response - what an IMAP server answers (RFC 3501 7), as import reads it.  Pure.
 *
 * The server may be anybody's: every length is bounded before memory is taken, and what makes no sense is told apart
 * from what is about something else.
 */
#ifndef ESP_STORAGE_ARCHIVE_RESPONSE_H
#define ESP_STORAGE_ARCHIVE_RESPONSE_H

#include "foreign.h"

#include <esp/mail/cursor.h>

#define RESPONSE_TEXT ((size_t)64 << 20)   /* bytes of one beside its literals: SEARCH of millions of messages */

/*! \brief A response that comes in pieces. */
struct response {
	esp_buf text;                  /* so far; literals as they were sent */
	size_t start, words, literal;  /* of the line at hand; bytes that are in no literal; of a literal, yet to come */
};
void response_init(struct response *r);
/*! \brief Ready for the next one; keeps the memory. */
void response_reset(struct response *r);
void response_free(struct response *r);
/*! \brief Takes from *in what belongs to this response.  ESP_OK: r->text is all of it, without the last line end.
 *  ESP_EAGAIN: all is taken, more must come.  ESP_E2BIG: more than RESPONSE_TEXT, or a literal above FOREIGN_MAX. */
ESP_CHECKED esp_status response_feed(struct response *r, esp_str *in);

/* Elements.  0: it is not there. */
/*! \brief An atom, quoted string or literal; NIL is {NULL, 0}.  Quoted text without its escapes, in place: it is read
 *  once. */
int response_string(esp_cursor *c, esp_str *ret);
/*! \brief Take this word (any case) and the space behind it. */
int response_word(esp_cursor *c, const char *word);
/*! \brief Pass over one value, parentheses too. */
int response_skip(esp_cursor *c);

/* Whole responses.  1: it is one; 0: it is about something else; -1: it makes no sense. */
/*! \brief "* 5 FETCH (...)".  What was not said is 0. */
struct response_message { uint32_t uid; esp_time date; esp_str body; int has_body; struct marks *marks; };
int response_fetch(esp_str response, struct response_message *ret);
/*! \brief "* LIST (\HasNoChildren) "/" INBOX".  separator 0: the server has none. */
struct response_folder { esp_str name; char separator; int no_mail; };
int response_list(esp_str response, struct response_folder *ret);
/*! \brief "* SEARCH 1 2": what response_next_uid() reads from. */
int response_search(esp_str response, esp_cursor *ret);
int response_next_uid(esp_cursor *c, uint32_t *ret);
/*! \brief "* OK [UIDVALIDITY 5] ..." */
int response_uidvalidity(esp_str response, uint32_t *ret);

#endif
