/* remote - another IMAP server, as a client sees it (RFC 3501): what import needs of it.
 *
 * The server may be anybody's: a response is bounded (a line of 64 KiB, SEARCH and LIST apart; a literal of
 * FOREIGN_MAX), and nothing it says is believed beyond its own mail.
 */
#ifndef ESP_STORAGE_ARCHIVE_REMOTE_H
#define ESP_STORAGE_ARCHIVE_REMOTE_H

#include "foreign.h"

#include <esp/dial.h>
#include <esp/mail/cursor.h>

struct remote {
	struct task *t;
	const esp_dial_api *api;
	esp_dial *dial;
	char in[16384];                /* read ahead */
	size_t at, n;
	uint32_t tag;
	esp_buf line;                  /* the response at hand: text, literals as they were sent */
	char why[200];                 /* what the server said to the last command that it refused */
};

enum { REMOTE_IMPLICIT, REMOTE_STARTTLS, REMOTE_PLAIN };
struct remote_place { char host[256], port[8]; int tls; uint32_t flags; const char *ca; };

/*! \brief [worker] ESP_SUSPENDS.  Connect, encrypt, log in.  remote_close() in any case. */
ESP_CHECKED esp_status remote_open(
	struct remote *r, struct task *t, const struct remote_place *p, esp_str user, esp_str password);
void remote_close(struct remote *r);
/*! \brief Send a command (without tag and line end). */
ESP_CHECKED esp_status remote_send(struct remote *r, const char *fmt, ...) ESP_PRINTF(2, 3);
/*! \brief The next untagged response in r->line; ESP_ENOENT: the command is through.  ESP_EACCES: it was refused
 *  (r->why). */
ESP_CHECKED esp_status remote_next(struct remote *r);
/*! \brief All of it, passed over. */
ESP_CHECKED esp_status remote_rest(struct remote *r);
/*! \brief A string of ours as a quoted string; ESP_EINVAL when it cannot be one. */
ESP_CHECKED esp_status remote_quote(esp_str s, char *out, size_t cap);

/* pure: reading a response */
/*! \brief An atom, quoted string or literal; NIL is {NULL, 0}.  Quoted text without its escapes, in place. */
int remote_string(esp_cursor *c, esp_str *ret);
/*! \brief Take this word (any case) and the space behind it. */
int remote_word(esp_cursor *c, const char *word);
/*! \brief Pass over one value, parentheses too. */
int remote_skip(esp_cursor *c);

/*! \brief "* 5 FETCH (...)".  What was not said is 0. */
struct remote_message { uint32_t uid; esp_time date; esp_str body; int has_body; struct marks *marks; };
int remote_fetch(esp_str response, struct remote_message *ret);

#endif
