/* core/control/json.h - writing one JSON value (RFC 8259) into a bounded buffer.
 *
 * Commas are the writer's business; nesting is at most 32 deep (more aborts: our own code decides it).  What does not
 * fit sets `failed`, which stays.  Bytes that are no UTF-8 become U+FFFD, so any input gives valid JSON.
 */
#ifndef CORE_CONTROL_JSON_H
#define CORE_CONTROL_JSON_H

#include <stdbool.h>

#include <esp/abi.h>

#include "core/base/buffer.h"

enum { JSON_DEPTH = 32 };

struct json {
	struct buffer *out;
	uint32_t depth;
	uint32_t more;          /* bit n: a comma is due at depth n */
	bool after_key, failed;
};

static inline struct json json_on(struct buffer *out) { return (struct json){ .out = out }; }

void json_begin_object(struct json *j);
void json_end_object(struct json *j);
void json_begin_array(struct json *j);
void json_end_array(struct json *j);
/*! \brief The next value's name; a literal of ours, written as it is. */
void json_key(struct json *j, const char *key);
void json_str(struct json *j, esp_str s);
void json_text(struct json *j, const char *z);   /* NULL: null */
void json_int(struct json *j, int64_t v);
void json_bool(struct json *j, bool v);
/*! \brief Nanoseconds as seconds with milliseconds. */
void json_seconds(struct json *j, esp_nsec v);

/*! \brief Key and value in one. */
void json_put_text(struct json *j, const char *key, const char *z);
void json_put_str(struct json *j, const char *key, esp_str s);
void json_put_int(struct json *j, const char *key, int64_t v);
void json_put_bool(struct json *j, const char *key, bool v);
void json_put_seconds(struct json *j, const char *key, esp_nsec v);

#endif
