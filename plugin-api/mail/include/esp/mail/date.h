/* esp/mail/date.h - dates of header fields and of IMAP (RFC 5322 3.3 and 4.3, RFC 3501 9).
 *
 * Times are seconds UTC; `zone` is minutes east of it.  Years 1900 to 9999.  No locale, no time zone database.  Pure.
 * [any]
 */
#ifndef ESP_MAIL_DATE_H
#define ESP_MAIL_DATE_H

#include <esp/mail/buf.h>
#include <esp/mail/cursor.h>

#ifdef __cplusplus
extern "C" {
#endif

/*! \brief Reads Date: as it is found: RFC 5322, obsolete zones and years, missing weekday, seconds or zone, asctime,
 *  ISO 8601, comments.  ESP_EPROTO when there is no day, month and year in it.  The zone may be NULL. */
ESP_EXPORT ESP_CHECKED esp_status esp_date_parse(esp_str text, esp_time *ret_time, int32_t *ret_zone);
/*! \brief Appends "Mon, 02 Jan 2006 15:04:05 +0000". ESP_EINVAL outside the years. */
ESP_EXPORT esp_status esp_date_write(esp_time t, int32_t zone, esp_buf *out);

/*! \brief Reads the inside of an IMAP date-time, " 2-Jan-2006 15:04:05 +0000", strictly. */
ESP_EXPORT ESP_CHECKED esp_status esp_imap_datetime_parse(esp_str text, esp_time *ret_time, int32_t *ret_zone);
/*! \brief Appends an IMAP date-time with its quotes. */
ESP_EXPORT esp_status esp_imap_datetime_write(esp_time t, int32_t zone, esp_buf *out);
/*! \brief Reads an IMAP date, "2-Jan-2006" (quotes already off): midnight UTC of that day. */
ESP_EXPORT ESP_CHECKED esp_status esp_imap_date_parse(esp_str text, esp_time *ret_day);

/*! \brief Seconds for a civil date and time UTC (proleptic Gregorian).  False when there is no such day or second. */
ESP_EXPORT bool esp_civil_to_time(
	int32_t year, int32_t month, int32_t day, int32_t hour, int32_t minute, int32_t second, esp_time *ret);
/*! \brief A civil date and time. */
typedef struct { int32_t year, month, day, hour, minute, second, weekday; } esp_civil;
ESP_EXPORT esp_civil esp_civil_of(esp_time t);

#ifdef __cplusplus
}
#endif
#endif
