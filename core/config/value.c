/* core/config/value.c - readers and writers of values, and near misses.
 *
 * Pure functions over a bounded text; any thread; nothing is allocated.
 */
#include "core/config/value.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

struct unit { const char *name; int64_t factor; };

static const struct unit size_units[] = {
	{ "TiB", INT64_C(1) << 40 }, { "GiB", INT64_C(1) << 30 }, { "MiB", INT64_C(1) << 20 },
	{ "KiB", INT64_C(1) << 10 }, { "B", 1 }, { NULL, 0 }
};
static const struct unit time_units[] = {
	{ "w", 7 * 86400 * ESP_SEC }, { "d", 86400 * ESP_SEC }, { "h", 3600 * ESP_SEC }, { "m", 60 * ESP_SEC },
	{ "s", ESP_SEC }, { "ms", ESP_MSEC }, { "us", ESP_USEC }, { "ns", 1 }, { NULL, 0 }
};

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* Digits from *at on; ESP_EINVAL when there are none. */
static int read_digits(esp_str text, size_t *at, int64_t *ret)
{
	int64_t n = 0;
	size_t start = *at;

	while (*at < text.len && is_digit(text.ptr[*at])) {
		if (__builtin_mul_overflow(n, 10, &n) || __builtin_add_overflow(n, text.ptr[*at] - '0', &n))
			return ESP_E2BIG;
		(*at)++;
	}
	if (*at == start)
		return ESP_EINVAL;
	*ret = n;
	return 0;
}

static int read_unit(esp_str text, const struct unit *units, int64_t bare, int64_t *ret)
{
	size_t at = 0;
	int64_t n;
	int rc = read_digits(text, &at, &n);

	if (rc)
		return rc;
	if (at == text.len) {
		if (!bare && n)
			return ESP_EPROTO;
		*ret = n;
		return 0;
	}
	if (text.ptr[at] == ' ')
		at++;
	for (const struct unit *u = units; u->name; u++) {
		if (strlen(u->name) != text.len - at || memcmp(u->name, text.ptr + at, text.len - at) != 0)
			continue;
		return __builtin_mul_overflow(n, u->factor, ret) ? ESP_E2BIG : 0;
	}
	return ESP_EPROTO;
}

int value_size(esp_str text, int64_t *ret)
{
	return read_unit(text, size_units, 1, ret);
}

int value_time(esp_str text, int64_t *ret)
{
	return read_unit(text, time_units, 0, ret);
}

int value_integer(esp_str text, int64_t *ret)
{
	size_t at = text.len && text.ptr[0] == '-' ? 1 : 0;
	bool negative = at == 1;
	int64_t n;
	int rc = read_digits(text, &at, &n);

	if (rc)
		return rc;
	if (at != text.len)
		return ESP_EINVAL;
	*ret = negative ? -n : n;
	return 0;
}

int value_decimal(esp_str text, int64_t *ret)
{
	size_t at = text.len && text.ptr[0] == '-' ? 1 : 0, places;
	bool negative = at == 1;
	int64_t whole, part = 0;
	int rc = read_digits(text, &at, &whole);

	if (rc)
		return rc;
	if (at < text.len) {
		size_t dot = at++;

		if (text.ptr[dot] != '.' || read_digits(text, &at, &part) || at != text.len || at - dot - 1 > 3)
			return ESP_EINVAL;
		for (places = at - dot - 1; places < 3; places++)
			part *= 10;
	}
	if (__builtin_mul_overflow(whole, 1000, &whole) || __builtin_add_overflow(whole, part, &whole))
		return ESP_E2BIG;
	*ret = negative ? -whole : whole;
	return 0;
}

int value_decimal_of(double real, int64_t *ret)
{
	double thousandths = real * 1000;

	if (!(thousandths > -1e15 && thousandths < 1e15))
		return ESP_E2BIG;
	*ret = (int64_t)(thousandths + (real < 0 ? -0.5 : 0.5));
	/* a double has 15 digits: what is further off than that was written with more places */
	return thousandths - (double)*ret < 1e-3 && (double)*ret - thousandths < 1e-3 ? 0 : ESP_EINVAL;
}

int value_boolean(esp_str text, int64_t *ret)
{
	static const char *const words[] = { "false", "true", "no", "yes", "off", "on", "0", "1" };

	for (unsigned i = 0; i < sizeof words / sizeof words[0]; i++) {
		if (strlen(words[i]) == text.len && strncasecmp(words[i], text.ptr, text.len) == 0) {
			*ret = i & 1;
			return 0;
		}
	}
	return ESP_EINVAL;
}

static const char *unit_text(char buf[VALUE_TEXT], const struct unit *units, const char *space, int64_t n)
{
	const struct unit *u = units;

	while (u[1].name && (n == 0 || n % u->factor != 0))
		u++;
	if (n == 0)
		snprintf(buf, VALUE_TEXT, "0");
	else
		snprintf(buf, VALUE_TEXT, "%" PRId64 "%s%s", n / u->factor, space, u->name);
	return buf;
}

const char *value_size_text(char buf[VALUE_TEXT], int64_t bytes)
{
	return unit_text(buf, size_units, " ", bytes);
}

const char *value_time_text(char buf[VALUE_TEXT], int64_t ns)
{
	return unit_text(buf, time_units, "", ns);
}

static const char *decimal_text(char buf[VALUE_TEXT], int64_t n)
{
	uint64_t size = n < 0 ? -(uint64_t)n : (uint64_t)n;
	int end = snprintf(buf, VALUE_TEXT, "%s%" PRIu64 ".%03" PRIu64, n < 0 ? "-" : "", size / 1000, size % 1000);

	while (buf[end - 1] == '0' && buf[end - 2] != '.')
		buf[--end] = '\0';
	return buf;
}

const char *value_number_text(char buf[VALUE_TEXT], uint32_t type, int64_t n)
{
	switch (type) {
	case ESP_CFG_SIZE: return value_size_text(buf, n);
	case ESP_CFG_TIME: return value_time_text(buf, n);
	case ESP_CFG_DECIMAL: return decimal_text(buf, n);
	default: snprintf(buf, VALUE_TEXT, "%" PRId64, n); return buf;
	}
}

#define SUGGEST_MAX 64

static unsigned min3(unsigned a, unsigned b, unsigned c)
{
	unsigned m = a < b ? a : b;

	return m < c ? m : c;
}

unsigned suggest_distance(const char *a, const char *b)
{
	/* three rows of the matrix are enough: a transposition looks two rows back */
	unsigned rows[3][SUGGEST_MAX + 1];
	size_t la = strnlen(a, SUGGEST_MAX), lb = strnlen(b, SUGGEST_MAX);
	unsigned *prev2 = rows[0], *prev = rows[1], *cur = rows[2];

	for (size_t j = 0; j <= lb; j++)
		prev[j] = (unsigned)j;
	for (size_t i = 1; i <= la; i++) {
		cur[0] = (unsigned)i;
		for (size_t j = 1; j <= lb; j++) {
			int x = tolower((unsigned char)a[i - 1]), y = tolower((unsigned char)b[j - 1]);

			cur[j] = min3(prev[j] + 1, cur[j - 1] + 1, prev[j - 1] + (x != y));
			if (i > 1 && j > 1 && x == tolower((unsigned char)b[j - 2]) &&
			    y == tolower((unsigned char)a[i - 2]) && prev2[j - 2] + 1 < cur[j])
				cur[j] = prev2[j - 2] + 1;
		}
		unsigned *last = prev2;
		prev2 = prev;
		prev = cur;
		cur = last;
	}
	return prev[lb];
}

void suggest_offer(struct suggest *s, const char *candidate)
{
	unsigned d = suggest_distance(s->wanted, candidate);
	size_t len = strlen(s->wanted);
	unsigned limit = len <= 3 ? 1 : len <= 6 ? 2 : 3;

	if (d <= limit && d < s->distance) {
		s->best = candidate;
		s->distance = d;
	}
}
