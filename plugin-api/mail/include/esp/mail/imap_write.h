/* esp/mail/imap_write.h - what an IMAP server sends (RFC 3501 9, RFC 9051 9): strings, sets, ENVELOPE, BODYSTRUCTURE.
 *
 * Writers append ready-to-send bytes; the form (atom, quoted, literal) is theirs to choose, so no caller's bytes can
 * leave the place they were put.  NUL, which no string may hold, becomes a space.  Pure. [any]
 */
#ifndef ESP_MAIL_IMAP_WRITE_H
#define ESP_MAIL_IMAP_WRITE_H

#include <esp/mail/mime.h>

#ifdef __cplusplus
extern "C" {
#endif

/*! \brief Appends a string: quoted when it is printable ASCII of at most 1,000 bytes, else a literal. */
ESP_EXPORT esp_status esp_imap_add_string(esp_buf *out, esp_str s);
/*! \brief NIL for a NULL pointer, else a string. */
ESP_EXPORT esp_status esp_imap_add_nstring(esp_buf *out, esp_str s);
/*! \brief An atom where the grammar allows one (ASTRING-CHAR, not NIL), else a string. */
ESP_EXPORT esp_status esp_imap_add_astring(esp_buf *out, esp_str s);
/*! \brief A UTF-8 mailbox name: modified UTF-7 unless `utf8` (ENABLE UTF8=ACCEPT, IMAP4rev2: quoted UTF-8), as an
 *  astring. */
ESP_EXPORT esp_status esp_imap_add_mailbox(esp_buf *out, esp_str name, bool utf8);
/*! \brief Response text behind OK, NO, BAD: CR, LF, NUL and controls become a space, at most 500 bytes. */
ESP_EXPORT esp_status esp_imap_add_text(esp_buf *out, esp_str text);
/*! \brief "(\\Seen \\Deleted $Fwd)" from flag names; names that are no flag are left out. */
ESP_EXPORT esp_status esp_imap_add_flags(esp_buf *out, const esp_str *names, size_t n);
/*! \brief Appends ascending numbers as a set, "1:3,7". Nothing for n 0. */
ESP_EXPORT esp_status esp_imap_add_set(esp_buf *out, const uint32_t *ascending, size_t n);

/*! \brief Appends "(date subject from ... message-id)" of a header block (RFC 3501 7.4.2). */
ESP_EXPORT esp_status esp_imap_add_envelope(esp_buf *out, esp_str header);
/*! \brief Appends BODY (`extended` false) or BODYSTRUCTURE of the part and all below it. */
ESP_EXPORT esp_status esp_imap_add_structure(esp_buf *out, const esp_mime *m, uint32_t part, bool extended);
/*! \brief Appends about `chars` characters of readable text (RFC 8970: 200), from the first text part; UTF-8, one
 *  line. */
ESP_EXPORT esp_status esp_mime_preview(const esp_mime *m, uint32_t chars, esp_buf *out);

#ifdef __cplusplus
}
#endif
#endif
