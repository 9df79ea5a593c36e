/* esp/mail/smtp.h - SMTP as bytes (RFC 5321): commands, paths, replies, the dot.
 *
 * Readers take one complete line without its CRLF and give spans of it.  Writers own the line endings: no CR
 * or LF of the caller's text gets through.  Pure. [any]
 *
 * Tolerances, beyond RFC 5321: keywords in any case; spaces after the colon of MAIL FROM: and RCPT TO:; space
 * and tab at the end of a line; source routes (read and dropped, as 4.1.1.3 and appendix F.2 ask); '_' in
 * domains; a path without < > only with ESP_SMTP_NO_BRACKETS.
 */
#ifndef ESP_MAIL_SMTP_H
#define ESP_MAIL_SMTP_H

#include <esp/mail/address.h>

#ifdef __cplusplus
extern "C" {
#endif

/*! \brief Verbs we know by number; what a session offers is its own affair. */
enum {
	ESP_SMTP_UNKNOWN = 0, ESP_SMTP_HELO, ESP_SMTP_EHLO, ESP_SMTP_LHLO, ESP_SMTP_MAIL, ESP_SMTP_RCPT, ESP_SMTP_DATA,
	ESP_SMTP_BDAT, ESP_SMTP_RSET, ESP_SMTP_NOOP, ESP_SMTP_QUIT, ESP_SMTP_VRFY, ESP_SMTP_EXPN, ESP_SMTP_HELP,
	ESP_SMTP_STARTTLS, ESP_SMTP_AUTH, ESP_SMTP_ETRN, ESP_SMTP_XCLIENT, ESP_SMTP_XFORWARD
};

/*! \brief One command line: `name` as written, `args` behind one space (empty when there are none). */
typedef struct { uint32_t verb, reserved; esp_str name, args; } esp_smtp_command;

/*! \brief Reads a command line.  ESP_EPROTO: empty, a verb that is not letters, or NUL, CR, LF in the line. */
ESP_EXPORT ESP_CHECKED esp_status esp_smtp_command_parse(esp_str line, esp_smtp_command *ret);

#define ESP_SMTP_PARAMS_MAX 16u
/*! \brief An ESMTP parameter; `has_value` tells `KEY=` apart from `KEY`. */
typedef struct { esp_str key, value; uint32_t has_value, reserved; } esp_smtp_param;

enum { ESP_SMTP_FROM = 1, ESP_SMTP_TO = 2 };   /* which path */
enum { /* esp_smtp_path_parse `how`, with ESP_ADDRESS_SMTPUTF8 */
	ESP_SMTP_NO_BRACKETS = 1u << 8             /* MAIL FROM:a@b */
};
enum { /* esp_smtp_path.flags */
	ESP_SMTP_PATH_NULL = 1u << 0,              /* <>, only in MAIL */
	ESP_SMTP_PATH_POSTMASTER = 1u << 1,        /* <postmaster> without domain, only in RCPT */
	ESP_SMTP_PATH_ROUTED = 1u << 2             /* a source route was dropped */
};
/*! \brief MAIL's reverse-path or RCPT's forward-path with its parameters; spans of the line. */
typedef struct {
	esp_address address;       /* both parts empty for the null path */
	esp_str text;              /* local@domain as written, without brackets and route */
	uint32_t flags, nparams;
	esp_smtp_param params[ESP_SMTP_PARAMS_MAX];
} esp_smtp_path;

/*! \brief Reads the arguments of MAIL or RCPT ("FROM:<a@b> SIZE=10").  *ret_why: a static sentence for the reply.
 *  \return ESP_OK; ESP_EPROTO (501 5.5.4: not FROM:/TO:, a bad or repeated parameter); ESP_EINVAL (501 5.1.3 or
 *  5.1.7: the address); ESP_E2BIG (a limit: path, parameters). */
ESP_EXPORT ESP_CHECKED esp_status esp_smtp_path_parse(esp_str args, uint32_t which, uint32_t how, esp_smtp_path *ret,
						      const char **ret_why);
/*! \brief The parameter with this key (any case), or NULL. */
ESP_EXPORT const esp_smtp_param *esp_smtp_param_find(const esp_smtp_path *path, const char *key);
/*! \brief Is `text` a name for HELO or EHLO (domain or address literal)? */
ESP_EXPORT bool esp_smtp_helo_valid(esp_str text);

/*! \brief Appends `bytes` as xtext (RFC 3461 4). */
ESP_EXPORT esp_status esp_xtext_encode(esp_str bytes, esp_buf *out);
/*! \brief Appends what xtext means; ESP_EPROTO when it is none (only upper-case hex, RFC 3461). */
ESP_EXPORT ESP_CHECKED esp_status esp_xtext_decode(esp_str xtext, esp_buf *out);

/*! \brief Appends a reply: every '\n' in `text` starts another line of it; CR, controls and non-ASCII become a
 *  space or '?'; lines are cut to 512 bytes.  `code` 200..599; `enhanced` "2.1.0" or NULL.
 *  \return out->err, or ESP_EINVAL for another code. */
ESP_EXPORT esp_status esp_smtp_reply(esp_buf *out, uint32_t code, const char *enhanced, esp_str text);
/*! \brief The same, with UTF-8 kept (RFC 6531 3.7.4.2, after a MAIL with SMTPUTF8). */
ESP_EXPORT esp_status esp_smtp_reply_utf8(esp_buf *out, uint32_t code, const char *enhanced, esp_str text);

/*! \brief One line of a server's reply, as a client reads it. */
typedef struct { uint32_t code, more; esp_str enhanced, text; } esp_smtp_reply_line;
/*! \brief Reads a reply line without CRLF.  ESP_EPROTO when it is none. */
ESP_EXPORT ESP_CHECKED esp_status esp_smtp_reply_parse(esp_str line, esp_smtp_reply_line *ret);

enum { /* esp_smtp_undot.seen */
	ESP_DOT_BARE_CR = 1u << 0, ESP_DOT_BARE_LF = 1u << 1, ESP_DOT_NUL = 1u << 2, ESP_DOT_8BIT = 1u << 3
};
/*! \brief Reader of DATA: takes the stuffed dots out and finds the end, which only CRLF . CRLF is (R-A1).
 *  Start with all zeros.  `normalise`: bare LF is written as CRLF and bare CR as a space, but neither ever ends
 *  a line as far as the dot is concerned. */
typedef struct {
	uint32_t state, seen;
	uint32_t normalise, reserved;
	uint64_t bytes;            /* written so far */
	uint64_t line, longest;    /* length of this line, and of the longest, without CRLF */
} esp_smtp_undot;
/*! \brief Reads up to `in.len` bytes and appends what they mean (at most 2 * in.len + 2 bytes).
 *  \return ESP_OK at the end of data, *ret_used bytes were taken and the rest belongs to the next command;
 *  ESP_EAGAIN: all taken, more is needed; or out->err. */
ESP_EXPORT ESP_CHECKED esp_status esp_smtp_undot_feed(esp_smtp_undot *d, esp_str in, size_t *ret_used, esp_buf *out);

/*! \brief Writer of DATA: CRLF lines, dots stuffed, stray CR and LF become a space.  Start with all zeros. */
typedef struct { uint32_t state, reserved; } esp_smtp_stuff;
/*! \brief Appends `in` stuffed (at most 2 * in.len + 2 bytes). */
ESP_EXPORT esp_status esp_smtp_stuff_feed(esp_smtp_stuff *d, esp_str in, esp_buf *out);
/*! \brief Ends the last line if need be and appends ".\r\n". */
ESP_EXPORT esp_status esp_smtp_stuff_end(esp_smtp_stuff *d, esp_buf *out);

#ifdef __cplusplus
}
#endif
#endif
