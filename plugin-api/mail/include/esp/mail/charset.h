/* esp/mail/charset.h - charsets of mail to UTF-8.
 *
 * A closed list of about 50 charsets with their aliases (R-E9: glibc knows hundreds, some with holes); UTF-8,
 * US-ASCII and Latin-1 are converted here, the rest by glibc's iconv.  Invalid bytes become U+FFFD, one for each
 * byte that starts nothing.  The first use of a charset loads its gconv module, and ISO-2022 and UTF-7 need 15 KiB
 * of stack: convert on a pool lane or in a fiber with a large stack.  [any]
 */
#ifndef ESP_MAIL_CHARSET_H
#define ESP_MAIL_CHARSET_H

#include <esp/mail/buf.h>
#include <esp/mail/cursor.h>

#ifdef __cplusplus
extern "C" {
#endif

/*! \brief iconv's name of an allowed charset, or NULL.  An empty name is US-ASCII. Static. */
ESP_EXPORT const char *esp_charset_name(esp_str name);

/*! \brief An incremental conversion.  Private; made by open, ended by close. */
typedef struct { void *iconv; uint32_t kind, npending; char pending[16]; } esp_charset;

/*! \brief Prepares conversion from `name`.  ESP_ENOENT when it is not on the list, ESP_ENOMEM. */
ESP_EXPORT ESP_CHECKED esp_status esp_charset_open(esp_charset *cs, esp_str name);
/*! \brief Appends `in` as UTF-8; a character cut at the end waits for the next call. */
ESP_EXPORT esp_status esp_charset_feed(esp_charset *cs, esp_str in, esp_buf *out);
/*! \brief Appends U+FFFD for a character that never became complete. */
ESP_EXPORT esp_status esp_charset_end(esp_charset *cs, esp_buf *out);
/*! \brief Gives back iconv's memory. */
ESP_EXPORT void esp_charset_close(esp_charset *cs);
/*! \brief The three at once. ESP_ENOENT (nothing appended), ESP_ENOMEM or out->err. */
ESP_EXPORT esp_status esp_charset_to_utf8(esp_str name, esp_str bytes, esp_buf *out);

#ifdef __cplusplus
}
#endif
#endif
