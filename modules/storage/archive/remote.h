/* remote - another IMAP server, as a client sees it (RFC 3501): what import needs of it.
 *
 * The server may be anybody's: what it sends is bounded in size (response.h, remote_expect()) and in time, it takes
 * no more than its turn, and nothing it says is believed beyond its own mail.
 */
#ifndef ESP_STORAGE_ARCHIVE_REMOTE_H
#define ESP_STORAGE_ARCHIVE_REMOTE_H

#include "response.h"

#include <esp/dial.h>

struct remote {
	struct task *t;
	const esp_dial_api *api;
	esp_dial *dial;
	char in[16384];
	esp_str ahead;                 /* read, and not looked at: of in[] */
	uint32_t tag;
	struct response got;           /* the one at hand */
	uint64_t budget;               /* bytes that may still come for this command */
	esp_nsec silence, began;       /* how long it may take; when the response at hand began */
	char why[200];                 /* what the server said to the last command that it refused */
};

enum { REMOTE_IMPLICIT, REMOTE_STARTTLS, REMOTE_PLAIN };
struct remote_place { char host[256], port[8]; int tls; uint32_t flags; const char *ca; esp_nsec silence; };

/*! \brief [worker] ESP_SUSPENDS.  Connect, encrypt, log in.  remote_close() in any case. */
ESP_CHECKED esp_status remote_open(
	struct remote *r, struct task *t, const struct remote_place *p, esp_str user, esp_str password);
void remote_close(struct remote *r);
/*! \brief Send a command (without tag and line end). */
ESP_CHECKED esp_status remote_send(struct remote *r, const char *fmt, ...) ESP_PRINTF(2, 3);
/*! \brief Beside RESPONSE_TEXT, the answer to the last command may have so many bytes. */
void remote_expect(struct remote *r, uint64_t bytes);
/*! \brief The next untagged response in r->got.text; ESP_ENOENT: the command is through.  ESP_EACCES: it was refused
 *  (r->why).  ESP_ECLOSED: it said goodbye (r->why), or nothing more.  ESP_ETIMEDOUT, ESP_E2BIG: it is not worth
 *  waiting for. */
ESP_CHECKED esp_status remote_next(struct remote *r);
/*! \brief All of it, passed over. */
ESP_CHECKED esp_status remote_rest(struct remote *r);
/*! \brief What became of the conversation, for people. */
const char *remote_reason(const struct remote *r, esp_status st);
/*! \brief A string of ours as a quoted string; ESP_EINVAL when it cannot be one. */
ESP_CHECKED esp_status remote_quote(esp_str s, char *out, size_t cap);

#endif
