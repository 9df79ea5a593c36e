/* esp/mail/encoding.h - base64 and quoted-printable (RFC 2045 6.7, 6.8), modified UTF-7 (RFC 3501 5.1.3),
 * and the casemaps of comparators (RFC 4790, RFC 5051).
 *
 * Incremental readers start with all zeros and give the same bytes for any split of the input.  Pure. [any]
 */
#ifndef ESP_MAIL_ENCODING_H
#define ESP_MAIL_ENCODING_H

#include <esp/mail/buf.h>
#include <esp/mail/cursor.h>

#ifdef __cplusplus
extern "C" {
#endif

/*! \brief Base64 reader.  Lenient as mail needs it: bytes outside the alphabet are passed over, padding ends a
 *  quantum and reading goes on (concatenated pieces). `bad` counts what was passed over beyond white space. */
typedef struct { uint32_t bits, nbits; uint32_t bad, reserved; } esp_base64;
ESP_EXPORT esp_status esp_base64_feed(esp_base64 *d, esp_str in, esp_buf *out);
/*! \brief All of `in`, exactly as RFC 4648 4 writes it: no other bytes, padding in place, unused bits zero.
 *  ESP_EPROTO else. */
ESP_EXPORT ESP_CHECKED esp_status esp_base64_decode(esp_str in, esp_buf *out);
/*! \brief Appends `bytes` in base64; `columns` 0: one line, else CRLF behind every so many (76) and the last. */
ESP_EXPORT esp_status esp_base64_encode(esp_str bytes, uint32_t columns, esp_buf *out);

/*! \brief Quoted-printable reader.  White space before a line end goes, soft breaks join, a '=' that is no escape
 *  stays. */
typedef struct { uint32_t state, held; char hold[128]; } esp_qp;
ESP_EXPORT esp_status esp_qp_feed(esp_qp *d, esp_str in, esp_buf *out);
ESP_EXPORT esp_status esp_qp_end(esp_qp *d, esp_buf *out);
/*! \brief Appends text as quoted-printable; CRLF (or LF) is a line end, lines of at most 76. */
ESP_EXPORT esp_status esp_qp_encode(esp_str text, esp_buf *out);

/*! \brief Appends a mailbox name of modified UTF-7 as UTF-8.  Strict: one name has one spelling.  ESP_EPROTO. */
ESP_EXPORT ESP_CHECKED esp_status esp_utf7_to_utf8(esp_str name, esp_buf *out);
/*! \brief Appends valid UTF-8 as modified UTF-7.  ESP_EPROTO. */
ESP_EXPORT ESP_CHECKED esp_status esp_utf8_to_utf7(esp_str name, esp_buf *out);

/*! \brief Appends ASCII letters in upper case (i;ascii-casemap). */
ESP_EXPORT esp_status esp_fold_ascii(esp_str s, esp_buf *out);
/*! \brief Appends title case, fully decomposed (i;unicode-casemap, RFC 5051); invalid bytes as U+FFFD.  Works per
 *  character, so pieces cut between characters fold to the same. */
ESP_EXPORT esp_status esp_fold_unicode(esp_str utf8, esp_buf *out);

#ifdef __cplusplus
}
#endif
#endif
