/* esp/mail/text.h - text of MIME parts for people and for search: decoded, converted, stripped of HTML, folded.
 *
 * Incremental: any split of the input gives the same output.  May use 15 KiB of stack for some charsets
 * (esp/mail/charset.h).  Pure. [any]
 */
#ifndef ESP_MAIL_TEXT_H
#define ESP_MAIL_TEXT_H

#include <esp/mail/charset.h>
#include <esp/mail/encoding.h>
#include <esp/mail/mime.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { /* how */
	ESP_TEXT_HTML = 1u << 0,    /* tags, comments, scripts and styles out; common entities decoded */
	ESP_TEXT_SPACE = 1u << 1,   /* runs of white space and controls become one space; none at the start */
	ESP_TEXT_FOLD = 1u << 2     /* i;unicode-casemap */
};

/*! \brief A running decode.  Private; made by open, ended by close. */
typedef struct {
	uint32_t encoding, how;
	esp_base64 base64;
	esp_qp qp;
	esp_charset charset;
	uint32_t state, skip, space, started; /* HTML and white space */
	uint32_t nname;
	char name[12];
	esp_buf raw, utf8, plain;
} esp_text;

/*! \brief Prepares to decode a body of that transfer encoding (ESP_MIME_...) and charset; an unknown charset is read
 *  as UTF-8.  ESP_OK or ESP_ENOMEM. */
ESP_EXPORT ESP_CHECKED esp_status esp_text_open(esp_text *t, uint32_t encoding, esp_str charset, uint32_t how);
/*! \brief The same for a part: its encoding, charset, and HTML when it is. */
ESP_EXPORT ESP_CHECKED esp_status esp_text_open_part(esp_text *t, const esp_mime_part *part, uint32_t how);
/*! \brief Appends what `in` (at most 64 KiB at once) means. */
ESP_EXPORT esp_status esp_text_feed(esp_text *t, esp_str in, esp_buf *out);
/*! \brief Appends what was held back. */
ESP_EXPORT esp_status esp_text_end(esp_text *t, esp_buf *out);
/*! \brief Gives its memory back. */
ESP_EXPORT void esp_text_close(esp_text *t);

/*! \brief Appends a header value decoded and folded, ready to be searched in. */
ESP_EXPORT esp_status esp_text_fold_header(esp_str value, esp_buf *out);
/*! \brief Appends a search key folded the same way. */
ESP_EXPORT esp_status esp_text_fold_key(esp_str utf8, esp_buf *out);
/*! \brief Does the whole text of the message - all headers, all text parts - contain the folded key?  `body_only`:
 *  without the message's own header (IMAP BODY instead of TEXT).  1, 0 or a negative error. */
ESP_EXPORT int esp_text_contains(const esp_mime *m, esp_str folded_key, bool body_only);
enum { /* which */
	ESP_TEXT_OWN_HEADER = 1u << 0, /* the message's own header */
	ESP_TEXT_BODY = 1u << 1        /* headers of parts and all text parts: what IMAP BODY searches */
};
/*! \brief Appends what esp_text_contains() looks in, for an index: fields as "name: value", then the text of parts, all
 *  folded, each ended by `end`.  ESP_E2BIG: out->max was reached, the start was written. */
ESP_EXPORT esp_status esp_text_collect(const esp_mime *m, uint32_t which, char end, esp_buf *out);

/*! \brief Appends an id as text, "0190163d-8694-739b-aea5-966c26f8ad91" (RFC 9562 4). */
ESP_EXPORT esp_status esp_uuid_write(esp_id id, esp_buf *out);
/*! \brief Reads that text, any case, or its 32 digits without dashes. ESP_OK or ESP_EPROTO. */
ESP_EXPORT ESP_CHECKED esp_status esp_uuid_parse(esp_str text, esp_id *ret);
/*! \brief A version 7 id from milliseconds since 1970 and ten random bytes (RFC 9562 5.7). */
ESP_EXPORT esp_id esp_uuid_v7(uint64_t unix_msec, const uint8_t random[10]);

#ifdef __cplusplus
}
#endif
#endif
