/* core/base/str.h - borrowed bytes: compare, search, split, convert.  Locale-free ASCII; no allocation. */
#ifndef CORE_BASE_STR_H
#define CORE_BASE_STR_H

#include <esp/abi.h>
#include <string.h>

#define STR_NONE ((size_t)-1)

static inline esp_str str_of(const char *z) { return (esp_str){ z, z ? strlen(z) : 0 }; }
static inline esp_str str_make(const void *p, size_t n) { return (esp_str){ p, n }; }
static inline int str_eq(esp_str a, esp_str b)
{
	return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}
static inline int str_eqz(esp_str a, const char *z) { return str_eq(a, str_of(z)); }
static inline int ascii_lower(int c) { return c >= 'A' && c <= 'Z' ? c + 32 : c; }
static inline int ascii_upper(int c) { return c >= 'a' && c <= 'z' ? c - 32 : c; }

int str_eq_nocase(esp_str a, esp_str b);
int str_cmp(esp_str a, esp_str b);
int str_starts(esp_str s, esp_str prefix);
int str_starts_nocase(esp_str s, esp_str prefix);
int str_ends(esp_str s, esp_str suffix);
size_t str_find(esp_str s, esp_str needle);  /* index or STR_NONE */
size_t str_chr(esp_str s, char c);
esp_str str_trim(esp_str s);                 /* blanks and tabs, CR, LF at both ends */
esp_str str_sub(esp_str s, size_t from, size_t len); /* clipped to s */
/*! \brief Cut the next part up to `sep` off *rest; 0 when nothing is left (*rest.ptr becomes NULL). */
int str_split(esp_str *rest, char sep, esp_str *ret_part);
/*! \brief Whole string as a number.  ESP_EINVAL: not a number; ESP_E2BIG: out of range. */
ESP_CHECKED esp_status str_u64(esp_str s, uint64_t *ret);
ESP_CHECKED esp_status str_i64(esp_str s, int64_t *ret);
/*! \brief NUL-terminated copy into a fixed buffer; ESP_E2BIG (and an empty string) when it does not fit. */
ESP_CHECKED esp_status str_copy(char *dst, size_t cap, esp_str s);
/*! \brief The same but cut to fit, for labels. */
void str_copy_cut(char *dst, size_t cap, esp_str s);

#endif
