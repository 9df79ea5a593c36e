/* core/base/clock.h - monotonic and wall time, and RFC 3339 text (UTC). */
#ifndef CORE_BASE_CLOCK_H
#define CORE_BASE_CLOCK_H

#include <esp/abi.h>

#define CLOCK_TEXT_MAX 32 /* "2026-11-22T08:06:22.123Z" and a NUL */

/*! \brief Exact CLOCK_MONOTONIC.  [any] */
esp_nsec clock_monotonic(void);
/*! \brief CLOCK_MONOTONIC_COARSE: a few ns, 1 to 4 ms old. */
esp_nsec clock_coarse(void);
/*! \brief Wall clock; *ret_nsec (may be NULL) gets the nanoseconds within the second. */
esp_time clock_wall(int64_t *ret_nsec);
/*! \brief RFC 3339 in UTC with milliseconds into buf[CLOCK_TEXT_MAX]; returns the length. */
size_t clock_text(char *buf, esp_time sec, int64_t nsec);
/*! \brief RFC 3339 with Z or an offset, optional fraction.  ESP_EINVAL otherwise. */
ESP_CHECKED esp_status clock_parse(esp_str text, esp_time *ret_sec, int64_t *ret_nsec);
/*! \brief The earlier of two deadlines, 0 meaning none. */
static inline esp_nsec clock_earlier(esp_nsec a, esp_nsec b)
{
	return a == 0 ? b : b == 0 ? a : a < b ? a : b;
}

#endif
