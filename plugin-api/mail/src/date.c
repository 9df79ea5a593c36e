/* date.c - reading and writing dates (esp/mail/date.h).  Pure. */
#include "lex.h"
#include <esp/mail/date.h>

static const char months[12][4] = { "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov",
	"Dec" };
static const char days[7][4] = { "Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat" };
static const struct { const char *name; int32_t minutes; } zones[] = {
	{ "UT", 0 }, { "UTC", 0 }, { "GMT", 0 }, { "Z", 0 }, { "EST", -300 }, { "EDT", -240 }, { "CST", -360 },
	{ "CDT", -300 },
	{ "MST", -420 }, { "MDT", -360 }, { "PST", -480 }, { "PDT", -420 }, { "CET", 60 }, { "CEST", 120 }, { "MET", 60 },
	{ "MEST", 120 }, { "EET", 120 }, { "EEST", 180 }, { "WET", 0 }, { "WEST", 60 }, { "BST", 60 }, { "MSK", 180 },
	{ "JST", 540 },
	{ "HST", -600 }, { "AKST", -540 }, { "AKDT", -480 },
};

/* Days since 1970-01-01 (H. Hinnant's algorithm: the year starts in March). */
static int64_t days_of(int64_t y, int64_t m, int64_t d)
{
	int64_t era, yoe, doy;

	y -= m <= 2;
	era = (y >= 0 ? y : y - 399) / 400;
	yoe = y - era * 400;
	doy = (153 * (m + (m > 2 ? -3 : 9)) + 2) / 5 + d - 1;
	return era * 146097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719468;
}

static int32_t month_days(int32_t y, int32_t m)
{
	static const int32_t len[12] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };

	return m == 2 && ((y % 4 == 0 && y % 100) || y % 400 == 0) ? 29 : len[m - 1];
}

bool esp_civil_to_time(
	int32_t year, int32_t month, int32_t day, int32_t hour, int32_t minute, int32_t second, esp_time *ret)
{
	if (year < 1900 || year > 9999 || month < 1 || month > 12 || day < 1 || day > month_days(year, month) || hour < 0 ||
	    hour > 23 || minute < 0 || minute > 59 || second < 0 || second > 60)
		return false;
	*ret = days_of(year, month, day) * 86400 + hour * 3600 + minute * 60 + second;
	return true;
}

esp_civil esp_civil_of(esp_time t)
{
	int64_t z = t / 86400, s = t % 86400, era, doe, yoe, doy, mp;
	esp_civil c;

	if (s < 0) {
		s += 86400;
		z--;
	}
	c.weekday = (int32_t)(((z + 4) % 7 + 7) % 7);
	z += 719468;
	era = (z >= 0 ? z : z - 146096) / 146097;
	doe = z - era * 146097;
	yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
	doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
	mp = (5 * doy + 2) / 153;
	c.day = (int32_t)(doy - (153 * mp + 2) / 5 + 1);
	c.month = (int32_t)(mp < 10 ? mp + 3 : mp - 9);
	c.year = (int32_t)(yoe + era * 400 + (c.month <= 2));
	c.hour = (int32_t)(s / 3600);
	c.minute = (int32_t)(s / 60 % 60);
	c.second = (int32_t)(s % 60);
	return c;
}

struct found { int32_t year, month, day, hour, minute, second, zone; bool has_time, has_zone; };

static int32_t month_of(esp_str w)
{
	int32_t i;

	for (i = 0; w.len >= 3 && i < 12; i++)
		if (esp_str_is(esp_str_of(w.ptr, 3), months[i]))
			return i + 1;
	return 0;
}

static void take_word(esp_cursor *c, struct found *f)
{
	const char *from = c->p;
	esp_str w;
	size_t i;

	while (esp_ascii_isalpha(esp_cursor_peek(c)))
		c->p++;
	w = esp_cursor_since(c, from);
	if (f->month == 0 && month_of(w)) {
		f->month = month_of(w);
		return;
	}
	if (f->has_time && (esp_str_is(w, "PM") || esp_str_is(w, "AM"))) {
		if (f->hour <= 12)
			f->hour = f->hour % 12 + (esp_str_is(w, "PM") ? 12 : 0);
		return;
	}
	for (i = 0; i < sizeof(zones) / sizeof(*zones); i++)
		if (f->has_time && !f->has_zone && esp_str_is(w, zones[i].name)) {
			f->zone = zones[i].minutes;
			f->has_zone = true;
		}
}

/* "+0100", "-05:30", "+1": behind the sign. */
static void take_zone(esp_cursor *c, int sign, struct found *f)
{
	const char *from = c->p;
	uint64_t n = 0, m = 0;
	size_t digits;

	if (!esp_cursor_number(c, 9999, &n))
		return;
	digits = (size_t)(c->p - from);
	if (digits <= 2) {
		n *= 100;
		if (esp_cursor_accept(c, ':') && esp_cursor_number(c, 59, &m))
			n += m;
	}
	if (n / 100 <= 23 && n % 100 <= 59) {
		f->zone = sign * (int32_t)(n / 100 * 60 + n % 100);
		f->has_zone = true;
	}
}

static bool take_time(esp_cursor *c, uint64_t hour, struct found *f)
{
	uint64_t minute, second = 0;
	char sep = *c->p++;

	if (hour > 23 || !esp_cursor_number(c, 59, &minute))
		return false;
	if (esp_cursor_accept(c, sep) && !esp_cursor_number(c, 60, &second))
		return false;
	if (esp_ascii_isdigit(esp_cursor_peek_at(c, 1)) && (esp_cursor_accept(c, '.') || esp_cursor_accept(c, ',')))
		while (esp_ascii_isdigit(esp_cursor_peek(c)))
			c->p++;
	f->hour = (int32_t)hour;
	f->minute = (int32_t)minute;
	f->second = (int32_t)second;
	f->has_time = true;
	return true;
}

static int32_t full_year(uint64_t n, size_t digits)
{
	if (digits <= 2)
		return (int32_t)(n < 50 ? 2000 + n : 1900 + n);
	return (int32_t)(digits == 3 ? 1900 + n : n);
}

/* "-01-02" behind an ISO year. */
static bool take_iso(esp_cursor *c, uint64_t year, struct found *f)
{
	uint64_t month, day;

	c->p++;
	if (!esp_cursor_number(c, 12, &month) || !esp_cursor_accept(c, '-') || !esp_cursor_number(c, 31, &day))
		return false;
	f->year = (int32_t)year;
	f->month = (int32_t)month;
	f->day = (int32_t)day;
	if (esp_ascii_isdigit(esp_cursor_peek_at(c, 1)) && !esp_cursor_accept(c, 'T'))
		(void)esp_cursor_accept(c, 't');
	return true;
}

static bool take_number(esp_cursor *c, struct found *f)
{
	const char *from = c->p;
	uint64_t n;
	size_t digits;
	int b;

	if (!esp_cursor_number(c, 99999, &n))
		return false;
	digits = (size_t)(c->p - from);
	b = esp_cursor_peek(c);
	if (!f->has_time && digits <= 2 &&
		(b == ':' || (b == '.' && f->year && esp_ascii_isdigit(esp_cursor_peek_at(c, 1)))))
		return take_time(c, n, f);
	if (digits == 4 && b == '-' && !f->month && esp_ascii_isdigit(esp_cursor_peek_at(c, 1)))
		return take_iso(c, n, f);
	if (!f->day && digits <= 2)
		f->day = (int32_t)n;
	else if (!f->year)
		f->year = full_year(n, digits);
	return true;
}

esp_status esp_date_parse(esp_str text, esp_time *ret_time, int32_t *ret_zone)
{
	esp_cursor c = esp_cursor_of(text);
	struct found f = { 0 };

	for (;;) {
		int b;

		lex_skip_cfws(&c, NULL);
		b = esp_cursor_peek(&c);
		if (b < 0)
			break;
		if (esp_ascii_isalpha(b)) {
			take_word(&c, &f);
		} else if (esp_ascii_isdigit(b)) {
			if (!take_number(&c, &f))
				return ESP_EPROTO;
		} else {
			c.p++;
			if ((b == '+' || b == '-') && f.has_time && !f.has_zone && esp_ascii_isdigit(esp_cursor_peek(&c)))
				take_zone(&c, b == '-' ? -1 : 1, &f);
			else if ((b == '+' || b == '-') && f.has_zone && f.zone == 0 && c.p - text.ptr > 4 && c.p[-2] != ' ')
				take_zone(&c, b == '-' ? -1 : 1, &f); /* "GMT+0200" */
		}
	}
	if (!f.day || !f.month || !f.year ||
	    !esp_civil_to_time(f.year, f.month, f.day, f.hour, f.minute, f.second, ret_time))
		return ESP_EPROTO;
	*ret_time -= (esp_time)f.zone * 60;
	if (ret_zone)
		*ret_zone = f.zone;
	return ESP_OK;
}

static bool in_range(esp_time t, int32_t zone)
{
	return t >= -2208988800 && t < 253402300800 - 86400 && zone > -1440 && zone < 1440;
}

static void add_zone(int32_t zone, esp_buf *out)
{
	int32_t z = zone < 0 ? -zone : zone;

	esp_buf_addf(out, "%c%02d%02d", zone < 0 ? '-' : '+', z / 60, z % 60);
}

esp_status esp_date_write(esp_time t, int32_t zone, esp_buf *out)
{
	esp_civil c;

	if (!in_range(t, zone))
		return ESP_EINVAL;
	c = esp_civil_of(t + zone * 60);
	esp_buf_addf(out, "%s, %02d %s %04d %02d:%02d:%02d ", days[c.weekday], c.day, months[c.month - 1], c.year, c.hour,
		c.minute, c.second);
	add_zone(zone, out);
	return out->err;
}

esp_status esp_imap_datetime_write(esp_time t, int32_t zone, esp_buf *out)
{
	esp_civil c;

	if (!in_range(t, zone))
		return ESP_EINVAL;
	c = esp_civil_of(t + zone * 60);
	esp_buf_addf(out, "\"%2d-%s-%04d %02d:%02d:%02d ", c.day, months[c.month - 1], c.year, c.hour, c.minute, c.second);
	add_zone(zone, out);
	return esp_buf_add_char(out, '"');
}

/* Exactly `n` digits. */
static bool take_digits(esp_cursor *c, size_t n, int32_t *ret)
{
	esp_str s;
	uint64_t v;

	if (!esp_cursor_take(c, n, &s) || !esp_str_number(s, 9999, &v))
		return false;
	*ret = (int32_t)v;
	return true;
}

/* "-Jan-2006" behind the day. */
static bool take_month_year(esp_cursor *c, int32_t *ret_month, int32_t *ret_year)
{
	esp_str m;

	if (!esp_cursor_accept(c, '-') || !esp_cursor_take(c, 3, &m) || (*ret_month = month_of(m)) == 0)
		return false;
	return esp_cursor_accept(c, '-') && take_digits(c, 4, ret_year);
}

esp_status esp_imap_datetime_parse(esp_str text, esp_time *ret_time, int32_t *ret_zone)
{
	esp_cursor c = esp_cursor_of(text);
	int32_t year, month, day, hour, minute, second, zone;
	bool minus;

	if (!(esp_cursor_accept(&c, ' ') ? take_digits(&c, 1, &day) : take_digits(&c, 2, &day)) ||
	    !take_month_year(&c, &month, &year) || !esp_cursor_accept(&c, ' ') || !take_digits(&c, 2, &hour) ||
	    !esp_cursor_accept(&c, ':') || !take_digits(&c, 2, &minute) || !esp_cursor_accept(&c, ':') ||
	    !take_digits(&c, 2, &second) || !esp_cursor_accept(&c, ' '))
		return ESP_EPROTO;
	minus = esp_cursor_accept(&c, '-');
	if ((!minus && !esp_cursor_accept(&c, '+')) || !take_digits(&c, 4, &zone) || c.p != c.end || zone / 100 > 23 ||
	    zone % 100 > 59 || !esp_civil_to_time(year, month, day, hour, minute, second, ret_time))
		return ESP_EPROTO;
	zone = (zone / 100 * 60 + zone % 100) * (minus ? -1 : 1);
	*ret_time -= (esp_time)zone * 60;
	if (ret_zone)
		*ret_zone = zone;
	return ESP_OK;
}

esp_status esp_imap_date_parse(esp_str text, esp_time *ret_day)
{
	esp_cursor c = esp_cursor_of(text);
	int32_t year, month;
	uint64_t day;
	const char *from = c.p;

	if (!esp_cursor_number(&c, 31, &day) || c.p - from > 2 || !take_month_year(&c, &month, &year) || c.p != c.end ||
	    !esp_civil_to_time(year, month, (int32_t)day, 0, 0, 0, ret_day))
		return ESP_EPROTO;
	return ESP_OK;
}
