/* json - writes one JSON value piece by piece, into the answer of a command or any other sink.
 *
 * Commas are placed by the writer, strings are escaped, invalid UTF-8 becomes U+FFFD.  Errors stick: check json_end().
 */
#ifndef ESP_COMMON_JSON_H
#define ESP_COMMON_JSON_H

#include <esp/command.h>
#include <esp/log.h>

#define JSON_DEPTH 8

struct json {
	esp_status (*sink)(void *arg, esp_str piece);
	void *arg;
	esp_status status;
	uint32_t depth;
	uint8_t filled[JSON_DEPTH];   /* something was written at this depth */
};

void json_begin(struct json *j, esp_command_call *call);
void json_begin_sink(struct json *j, esp_status (*sink)(void *arg, esp_str piece), void *arg);
/*! \brief '{' or '['; inside an object `key` names it, elsewhere it is NULL. */
void json_open(struct json *j, const char *key, char bracket);
void json_close(struct json *j, char bracket);
void json_str(struct json *j, const char *key, esp_str value);
void json_cstr(struct json *j, const char *key, const char *value);
void json_int(struct json *j, const char *key, int64_t value);
/*! \brief RFC 3339 in UTC, "2026-11-22T08:15:26Z"; 0, which is no time, is null. */
void json_time(struct json *j, const char *key, esp_time when);
/*! \brief One field of an event or log line, by its type. */
void json_field(struct json *j, const esp_field *f);
void json_bool(struct json *j, const char *key, int value);
esp_status json_end(struct json *j);

#endif
