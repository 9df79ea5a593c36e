/* core/base/clock.c - time (see clock.h).  Civil dates by arithmetic: no locale, no time zone files. */
#include "core/base/clock.h"

#include "core/base/str.h"

#include <stdio.h>
#include <time.h>

static esp_nsec read_clock(clockid_t id)
{
	struct timespec ts;

	clock_gettime(id, &ts);
	return (esp_nsec)ts.tv_sec * ESP_SEC + ts.tv_nsec;
}

esp_nsec clock_monotonic(void)
{
	return read_clock(CLOCK_MONOTONIC);
}

esp_nsec clock_coarse(void)
{
	return read_clock(CLOCK_MONOTONIC_COARSE);
}

esp_time clock_wall(int64_t *ret_nsec)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	if (ret_nsec)
		*ret_nsec = ts.tv_nsec;
	return ts.tv_sec;
}

/* Days since 1970-01-01 of a proleptic Gregorian date; years start in March so that leap days come last. */
static int64_t days_from_civil(int64_t y, int64_t m, int64_t d)
{
	int64_t era, yoe, doy;

	y -= m <= 2;
	era = (y >= 0 ? y : y - 399) / 400;
	yoe = y - era * 400;
	doy = (153 * (m + (m > 2 ? -3 : 9)) + 2) / 5 + d - 1;
	return era * 146097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719468;
}

static void civil_from_days(int64_t days, int64_t *ret_y, int *ret_m, int *ret_d)
{
	int64_t z = days + 719468, era = (z >= 0 ? z : z - 146096) / 146097;
	int64_t doe = z - era * 146097;
	int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
	int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100), mp = (5 * doy + 2) / 153;

	*ret_d = (int)(doy - (153 * mp + 2) / 5 + 1);
	*ret_m = (int)(mp < 10 ? mp + 3 : mp - 9);
	*ret_y = yoe + era * 400 + (*ret_m <= 2);
}

size_t clock_text(char *buf, esp_time sec, int64_t nsec)
{
	int64_t days = sec / 86400, rest = sec % 86400, year;
	int month, day, n;

	if (rest < 0) {
		rest += 86400;
		days--;
	}
	civil_from_days(days, &year, &month, &day);
	if (year < 0 || year > 9999) { /* RFC 3339 has four digits; never a longer text than the buffer */
		year = year < 0 ? 0 : 9999;
		month = day = 1;
	}
	n = snprintf(buf, CLOCK_TEXT_MAX, "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ", (int)year, month, day,
	             (int)(rest / 3600), (int)(rest / 60 % 60), (int)(rest % 60), (int)(nsec / 1000000 % 1000));
	return n > 0 && n < CLOCK_TEXT_MAX ? (size_t)n : 0;
}

/* Exactly n digits at *at. */
static int take_digits(esp_str s, size_t *at, int n, int64_t *ret)
{
	int64_t v = 0;

	for (; n > 0; n--, (*at)++) {
		if (*at >= s.len || s.ptr[*at] < '0' || s.ptr[*at] > '9')
			return 0;
		v = v * 10 + (s.ptr[*at] - '0');
	}
	*ret = v;
	return 1;
}

static int take_char(esp_str s, size_t *at, char c)
{
	if (*at >= s.len || ascii_upper((unsigned char)s.ptr[*at]) != c)
		return 0;
	(*at)++;
	return 1;
}

static int take_fraction(esp_str s, size_t *at, int64_t *ret_nsec)
{
	int64_t scale = 100000000;
	size_t start = *at;

	for (*ret_nsec = 0; *at < s.len && s.ptr[*at] >= '0' && s.ptr[*at] <= '9'; (*at)++, scale /= 10)
		*ret_nsec += (s.ptr[*at] - '0') * scale;
	return *at > start && *at - start <= 9;
}

/* "Z", "+hh:mm", "-hh:mm": seconds east of UTC. */
static int take_offset(esp_str s, size_t *at, int64_t *ret)
{
	int64_t h, m;
	int sign;

	*ret = 0;
	if (take_char(s, at, 'Z'))
		return 1;
	sign = take_char(s, at, '-') ? -1 : take_char(s, at, '+') ? 1 : 0;
	if (!sign || !take_digits(s, at, 2, &h) || !take_char(s, at, ':') || !take_digits(s, at, 2, &m) || h > 23 || m > 59)
		return 0;
	*ret = sign * (h * 3600 + m * 60);
	return 1;
}

static int month_length(int64_t y, int64_t m)
{
	static const int length[] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
	int leap = (y % 4 == 0 && y % 100 != 0) || y % 400 == 0;

	return length[m - 1] + (m == 2 && leap);
}

esp_status clock_parse(esp_str s, esp_time *ret_sec, int64_t *ret_nsec)
{
	int64_t y, mo, d, h, mi, sec, offset, nsec = 0;
	size_t at = 0;

	if (!take_digits(s, &at, 4, &y) || !take_char(s, &at, '-') || !take_digits(s, &at, 2, &mo) ||
	    !take_char(s, &at, '-') || !take_digits(s, &at, 2, &d) || !take_char(s, &at, 'T') ||
	    !take_digits(s, &at, 2, &h) || !take_char(s, &at, ':') || !take_digits(s, &at, 2, &mi) ||
	    !take_char(s, &at, ':') || !take_digits(s, &at, 2, &sec))
		return ESP_EINVAL;
	if (take_char(s, &at, '.') && !take_fraction(s, &at, &nsec))
		return ESP_EINVAL;
	if (!take_offset(s, &at, &offset) || at != s.len)
		return ESP_EINVAL;
	if (mo < 1 || mo > 12 || d < 1 || d > month_length(y, mo) || h > 23 || mi > 59 || sec > 60)
		return ESP_EINVAL;
	*ret_sec = days_from_civil(y, mo, d) * 86400 + h * 3600 + mi * 60 + (sec > 59 ? 59 : sec) - offset;
	if (ret_nsec)
		*ret_nsec = nsec;
	return ESP_OK;
}
