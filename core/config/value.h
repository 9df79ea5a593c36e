/* core/config/value.h - how people write numbers, sizes and times, strictly, and how they are shown to them. */
#ifndef CORE_CONFIG_VALUE_H
#define CORE_CONFIG_VALUE_H

#include <esp/module.h>
#include <stdbool.h>

/*! \brief "35 MiB", "512 KiB", "100B", "4096": bytes.  One space or none before the unit.
 *  \return 0; ESP_EINVAL: not a number; ESP_E2BIG: beyond 2^63-1; ESP_EPROTO: unknown unit. */
ESP_CHECKED int value_size(esp_str text, int64_t *ret);
/*! \brief "250ms", "30s", "5m", "8h", "7d", "2w", "0": nanoseconds.  A number without a unit is ESP_EPROTO. */
ESP_CHECKED int value_time(esp_str text, int64_t *ret);
ESP_CHECKED int value_integer(esp_str text, int64_t *ret);
/*! \brief "15", "6.5", "-0.125": thousandths.  More than three places are ESP_EINVAL. */
ESP_CHECKED int value_decimal(esp_str text, int64_t *ret);
/*! \brief What libconfig read of one; the same bounds. */
ESP_CHECKED int value_decimal_of(double real, int64_t *ret);
/*! \brief true yes on 1, false no off 0, in any case. */
ESP_CHECKED int value_boolean(esp_str text, int64_t *ret);

#define VALUE_TEXT 32
/*! \brief The largest unit that shows the value exactly: "35 MiB", "90s". */
const char *value_size_text(char buf[VALUE_TEXT], int64_t bytes);
const char *value_time_text(char buf[VALUE_TEXT], int64_t ns);
/*! \brief As a person writes a number of this ESP_CFG_* type. */
const char *value_number_text(char buf[VALUE_TEXT], uint32_t type, int64_t n);

#define VALUE_SIZE_UNITS "B, KiB, MiB, GiB, TiB"
#define VALUE_TIME_UNITS "ns, us, ms, s, m, h, d, w"

/*! \brief Edit distance with transpositions (Damerau-Levenshtein, restricted), case-blind; strings are cut at 64
 *  bytes. */
unsigned suggest_distance(const char *a, const char *b);
/*! \brief Of candidates offered one by one, the nearest that a typing slip explains. */
struct suggest { const char *wanted; const char *best; unsigned distance; };
#define SUGGEST_INIT(w) { .wanted = (w), .best = NULL, .distance = 1000 }
void suggest_offer(struct suggest *s, const char *candidate);

#endif
