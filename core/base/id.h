/* core/base/id.h - UUIDv7 (RFC 9562 5.7): millisecond time in front, so newer ids sort behind older ones.
 *
 * Ids made by one thread are strictly increasing, also within a millisecond and when the clock is set back.
 */
#ifndef CORE_BASE_ID_H
#define CORE_BASE_ID_H

#include <esp/abi.h>
#include <string.h>

#define ID_TEXT_MAX 37 /* 36 characters and a NUL */

esp_id id_new(void);
/*! \brief 8-4-4-4-12 lower-case hex and a NUL. */
void id_text(char buf[ID_TEXT_MAX], esp_id id);
/*! \brief The text form in either case, with or without hyphens.  ESP_EINVAL otherwise. */
ESP_CHECKED esp_status id_parse(esp_str text, esp_id *ret);
/*! \brief Wall-clock milliseconds inside a UUIDv7. */
int64_t id_msec(esp_id id);
static inline int id_eq(esp_id a, esp_id b) { return memcmp(a.b, b.b, sizeof(a.b)) == 0; }
static inline int id_cmp(esp_id a, esp_id b) { return memcmp(a.b, b.b, sizeof(a.b)); }
static inline int id_is_zero(esp_id a) { return id_eq(a, (esp_id){ { 0 } }); }

#endif
