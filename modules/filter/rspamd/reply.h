/* reply - what rspamd says of a message, read from the JSON of /checkv2.  Pure.
 *
 * What decides (action, scores) must be there and be what it should; what only adorns (symbols, milter section,
 * messages) is left out where it is not.  Everything is bounded, whatever the size of the reply.
 */
#ifndef ESP_FILTER_RSPAMD_REPLY_H
#define ESP_FILTER_RSPAMD_REPLY_H

#include <esp/abi.h>

struct json_object;

#define REPLY_SYMBOLS 8u           /* those that count most */
#define REPLY_FIELDS  16u          /* of milter.add_headers, and of milter.remove_headers */
#define REPLY_NAME    64u          /* bytes of a symbol's or field's name */
#define REPLY_VALUE   4096u        /* bytes of a field's value */
#define REPLY_MESSAGE 512u         /* bytes of the text for the peer */
#define REPLY_SCORE   1e6          /* no score is larger */
#define REPLY_WHICH   9999         /* as in esp_answer.headers */

enum action { ACTION_NONE = 0, ACTION_GREYLIST, ACTION_ADD_HEADER, ACTION_SUBJECT, ACTION_SOFT_REJECT,
	ACTION_QUARANTINE, ACTION_DISCARD, ACTION_REJECT,
	ACTION_OTHER,                  /* one that rspamd's administrator made */
	ACTIONS };

/*! \brief Strings are the JSON value's: they end with it. */
struct reply {
	enum action action;
	int skipped;                   /* rspamd did not look at it: by its own settings */
	int no_action;                 /* milter: nothing is to be done, whatever the action */
	enum action on_reject;         /* milter: what is done for ACTION_REJECT: it, ACTION_DISCARD or ACTION_QUARANTINE */
	double score, required;        /* required: 0, it did not say */
	esp_str message;               /* for the peer; may be empty, and hold any bytes, as all of these */
	esp_str subject;               /* ACTION_SUBJECT */
	struct { esp_str name; double score; } symbol[REPLY_SYMBOLS];
	struct { esp_str name, value; } add[REPLY_FIELDS];
	struct { esp_str name; int which; } remove[REPLY_FIELDS];
	uint32_t nsymbols, nadd, nremove;
};

/*! \brief ESP_EPROTO and the reason: it decides nothing. */
ESP_CHECKED esp_status reply_read(const struct json_object *json, struct reply *ret, esp_err *err);
/*! \brief "add header", as rspamd calls it. */
const char *action_name(enum action action);

#endif
