/* esp/log.h - "esp.log/1": structured log.  For what only a log reader needs; facts are events (esp/event.h).
 *
 * Never blocks: lines go through a bounded queue to the observer thread; drops are counted.
 * Values are escaped by the sink; never put a secret into a field.
 */
#ifndef ESP_LOG_H
#define ESP_LOG_H

#include <esp/abi.h>

#ifdef __cplusplus
extern "C" {
#endif

/*! \brief Levels, as those of syslog (RFC 5424 6.2.1). */
enum { ESP_LOG_ERROR = 3, ESP_LOG_WARNING = 4, ESP_LOG_NOTICE = 5, ESP_LOG_INFO = 6, ESP_LOG_DEBUG = 7 };

/*! \brief esp_field.type.  NSEC is a duration in ns. */
enum { ESP_F_STR = 1, ESP_F_INT, ESP_F_NSEC, ESP_F_ID, ESP_F_BOOL };
/*! \brief One named value of a log line or an event. */
typedef struct { const char *key; uint32_t type, reserved; int64_t i; esp_str s; esp_id id; } esp_field;

#ifdef __cplusplus
}
/* C++: build fields with these functions */
static inline esp_field esp_f_str(const char *k, esp_str v)
{
	esp_field f = {};
	f.key = k;
	f.type = ESP_F_STR;
	f.s = v;
	return f;
}
static inline esp_field esp_f_int(const char *k, int64_t v)
{
	esp_field f = {};
	f.key = k;
	f.type = ESP_F_INT;
	f.i = v;
	return f;
}
static inline esp_field esp_f_nsec(const char *k, esp_nsec v)
{
	esp_field f = esp_f_int(k, v);
	f.type = ESP_F_NSEC;
	return f;
}
static inline esp_field esp_f_id(const char *k, esp_id v)
{
	esp_field f = {};
	f.key = k;
	f.type = ESP_F_ID;
	f.id = v;
	return f;
}
static inline esp_field esp_f_bool(const char *k, bool v)
{
	esp_field f = esp_f_int(k, v);
	f.type = ESP_F_BOOL;
	return f;
}
extern "C" {
#else
#define ESP_FSTR(k, v)  ((esp_field){ .key = (k), .type = ESP_F_STR, .s = (v) })
#define ESP_FINT(k, v)  ((esp_field){ .key = (k), .type = ESP_F_INT, .i = (v) })
#define ESP_FNSEC(k, v) ((esp_field){ .key = (k), .type = ESP_F_NSEC, .i = (v) })
#define ESP_FID(k, v)   ((esp_field){ .key = (k), .type = ESP_F_ID, .id = (v) })
#define ESP_FBOOL(k, v) ((esp_field){ .key = (k), .type = ESP_F_BOOL, .i = !!(v) })
#endif

typedef struct esp_log_api {
	uint32_t size;
	/*! [any] Is this level written at all? */
	int32_t (*enabled)(const esp_module *self, int32_t level);
	/*! [any] `text` is a constant phrase; what varies goes into the fields.  `field_size` = sizeof(esp_field). */
	void (*write)(const esp_module *self, int32_t level, const char *text, const esp_field *fields, uint32_t n,
		uint32_t field_size);
} esp_log_api;

#ifndef __cplusplus
/*! \brief esp_log(api, self, ESP_LOG_INFO, "greeted", ESP_FSTR("peer", ip), ESP_FINT("port", 25)); at least one
 *  field */
#define esp_log(api, self, level, text, ...) do { \
	if ((api)->enabled((self), (level))) { \
		const esp_field esp_log_fields_[] = { { .key = 0 }, __VA_ARGS__ }; \
		(api)->write((self), (level), (text), esp_log_fields_ + 1, \
			(uint32_t)(sizeof esp_log_fields_ / sizeof esp_log_fields_[0] - 1), sizeof(esp_field)); \
	} } while (0)
#endif

#ifdef __cplusplus
}
/*! \brief esp_log(api, self, ESP_LOG_INFO, "greeted", esp_f_str("peer", ip), esp_f_int("port", 25)) */
template <class... Fields>
inline void esp_log(const struct esp_log_api *api, const esp_module *self, int32_t level, const char *text,
	const Fields &...rest)
{
	if (api->enabled(self, level)) {
		const esp_field fields[] = { esp_field{}, rest... };
		api->write(self, level, text, fields + 1, sizeof...(rest), sizeof(esp_field));
	}
}
extern "C" {
#endif

/*! \brief A line without fields. */
static inline void esp_log_text(const esp_log_api *api, const esp_module *self, int32_t level, const char *text)
{
	if (api->enabled(self, level))
		api->write(self, level, text, NULL, 0, sizeof(esp_field));
}

#ifdef __cplusplus
}
#endif
#endif
