/* esp/mail/dkim.h - DKIM's canonical forms (RFC 6376 3.4), as bytes to be hashed.  No crypto here.
 *
 * Incremental: any split of the input gives the same output.  Pure. [any]
 */
#ifndef ESP_MAIL_DKIM_H
#define ESP_MAIL_DKIM_H

#include <esp/mail/buf.h>
#include <esp/mail/cursor.h>

#ifdef __cplusplus
extern "C" {
#endif

/*! \brief Canonicalization (RFC 6376 3.4). */
enum { ESP_DKIM_SIMPLE = 0, ESP_DKIM_RELAXED = 1 };

/*! \brief A running body. Start with all zeros and `form`. */
typedef struct {
	uint32_t form;
	uint32_t cr, space, content, any;   /* private */
	uint64_t empty_lines;               /* private: line ends not yet written */
} esp_dkim_body;
/*! \brief Appends the canonical form of more body; line ends are CRLF (bare CR and LF are data).  Trailing empty lines
 *  are held back as a number, so output may exceed input: give a buffer that streams on (see *ret_used).
 *  \return ESP_OK; ESP_E2BIG when `out` is full: hash it, reset it, and go on behind the *ret_used bytes taken. */
ESP_EXPORT ESP_CHECKED esp_status esp_dkim_body_feed(esp_dkim_body *d, esp_str in, size_t *ret_used, esp_buf *out);
/*! \brief Appends what the end of the body adds (at most 3 bytes). */
ESP_EXPORT esp_status esp_dkim_body_end(esp_dkim_body *d, esp_buf *out);

/*! \brief Appends one whole field (name, colon, value, CRLF) in its form. ESP_EPROTO when there is no colon. */
ESP_EXPORT ESP_CHECKED esp_status esp_dkim_header(uint32_t form, esp_str raw, esp_buf *out);
/*! \brief Appends a DKIM-Signature field with the value of its b= tag emptied (RFC 6376 3.7), else unchanged. */
ESP_EXPORT esp_status esp_dkim_without_b(esp_str raw, esp_buf *out);

#ifdef __cplusplus
}
#endif
#endif
