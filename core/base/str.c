/* core/base/str.c - borrowed bytes (see str.h). */
#include "core/base/str.h"

int str_eq_nocase(esp_str a, esp_str b)
{
	size_t i;

	if (a.len != b.len)
		return 0;
	for (i = 0; i < a.len; i++)
		if (ascii_lower((unsigned char)a.ptr[i]) != ascii_lower((unsigned char)b.ptr[i]))
			return 0;
	return 1;
}

int str_cmp(esp_str a, esp_str b)
{
	size_t n = a.len < b.len ? a.len : b.len;
	int c = n ? memcmp(a.ptr, b.ptr, n) : 0;

	return c ? c : (a.len > b.len) - (a.len < b.len);
}

int str_starts(esp_str s, esp_str prefix)
{
	return s.len >= prefix.len && str_eq(str_make(s.ptr, prefix.len), prefix);
}

int str_starts_nocase(esp_str s, esp_str prefix)
{
	return s.len >= prefix.len && str_eq_nocase(str_make(s.ptr, prefix.len), prefix);
}

int str_ends(esp_str s, esp_str suffix)
{
	return s.len >= suffix.len && (suffix.len == 0 || memcmp(s.ptr + s.len - suffix.len, suffix.ptr, suffix.len) == 0);
}

size_t str_find(esp_str s, esp_str needle)
{
	const char *p;

	if (needle.len == 0)
		return 0;
	if (s.len < needle.len)
		return STR_NONE;
	p = memmem(s.ptr, s.len, needle.ptr, needle.len);
	return p ? (size_t)(p - s.ptr) : STR_NONE;
}

size_t str_chr(esp_str s, char c)
{
	const char *p = s.len ? memchr(s.ptr, c, s.len) : NULL;

	return p ? (size_t)(p - s.ptr) : STR_NONE;
}

static int is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

esp_str str_trim(esp_str s)
{
	while (s.len && is_space(s.ptr[0])) {
		s.ptr++;
		s.len--;
	}
	while (s.len && is_space(s.ptr[s.len - 1]))
		s.len--;
	return s;
}

esp_str str_sub(esp_str s, size_t from, size_t len)
{
	if (from >= s.len)
		return str_make(s.ptr, 0);
	if (len > s.len - from)
		len = s.len - from;
	return str_make(s.ptr + from, len);
}

int str_split(esp_str *rest, char sep, esp_str *ret_part)
{
	size_t at;

	if (!rest->ptr)
		return 0;
	at = str_chr(*rest, sep);
	if (at == STR_NONE) {
		*ret_part = *rest;
		*rest = str_make(NULL, 0);
	} else {
		*ret_part = str_make(rest->ptr, at);
		*rest = str_make(rest->ptr + at + 1, rest->len - at - 1);
	}
	return 1;
}

esp_status str_u64(esp_str s, uint64_t *ret)
{
	uint64_t v = 0;
	size_t i;

	if (s.len == 0)
		return ESP_EINVAL;
	for (i = 0; i < s.len; i++) {
		if (s.ptr[i] < '0' || s.ptr[i] > '9')
			return ESP_EINVAL;
		if (__builtin_mul_overflow(v, (uint64_t)10, &v) ||
		    __builtin_add_overflow(v, (uint64_t)(s.ptr[i] - '0'), &v))
			return ESP_E2BIG;
	}
	*ret = v;
	return ESP_OK;
}

esp_status str_i64(esp_str s, int64_t *ret)
{
	int negative = s.len && s.ptr[0] == '-';
	uint64_t v;
	esp_status st = str_u64(negative ? str_sub(s, 1, s.len) : s, &v);

	if (st != ESP_OK)
		return st;
	if (v > (uint64_t)INT64_MAX + (uint64_t)negative)
		return ESP_E2BIG;
	*ret = negative ? (int64_t)(0 - v) : (int64_t)v;
	return ESP_OK;
}

esp_status str_copy(char *dst, size_t cap, esp_str s)
{
	if (cap == 0 || s.len > cap - 1) {
		if (cap)
			dst[0] = 0;
		return ESP_E2BIG;
	}
	if (s.len)
		memcpy(dst, s.ptr, s.len);
	dst[s.len] = 0;
	return ESP_OK;
}

void str_copy_cut(char *dst, size_t cap, esp_str s)
{
	size_t n = cap ? (s.len < cap - 1 ? s.len : cap - 1) : 0;

	if (!cap)
		return;
	if (n)
		memcpy(dst, s.ptr, n);
	dst[n] = 0;
}
