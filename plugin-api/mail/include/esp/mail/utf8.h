/* esp/mail/utf8.h - the one UTF-8 validator (RFC 3629: no overlong forms, no surrogates, at most U+10FFFF). Pure.
 * [any] */
#ifndef ESP_MAIL_UTF8_H
#define ESP_MAIL_UTF8_H

#include <esp/mail/buf.h>
#include <esp/mail/cursor.h>

#ifdef __cplusplus
extern "C" {
#endif

/*! \brief One character at the start of `s`.  \return its bytes (1..4) and *ret_ch, 0 when `s` is a prefix of a
 *  character that may still become complete (or empty), -1 when it is invalid (skip one byte). */
ESP_EXPORT int esp_utf8_next(esp_str s, uint32_t *ret_ch);
/*! \brief Is all of `s` valid UTF-8? */
ESP_EXPORT bool esp_utf8_valid(esp_str s);
/*! \brief How many bytes at the start of `s` are whole valid characters. */
ESP_EXPORT size_t esp_utf8_run(esp_str s);
/*! \brief Is every byte below 128? */
ESP_EXPORT bool esp_ascii_valid(esp_str s);
/*! \brief How many bytes at the start of `s` are below 128: whole characters, nearly all of most mail. */
ESP_EXPORT size_t esp_ascii_run(esp_str s);
/*! \brief Appends one character; an invalid one as U+FFFD. */
ESP_EXPORT esp_status esp_utf8_add(esp_buf *out, uint32_t ch);
/*! \brief Appends `s` with every invalid byte replaced by U+FFFD. */
ESP_EXPORT esp_status esp_utf8_clean(esp_str s, esp_buf *out);

#ifdef __cplusplus
}
#endif
#endif
