/* head - one request's head, read by llhttp, and what its fields say of the body and the connection (RFC 9112 6, 9.3).
 *
 * All strings point into the reader's text, or into a target of absolute form.  Pure.
 */
#ifndef ESP_PROTOCOL_HTTP_HEAD_H
#define ESP_PROTOCOL_HTTP_HEAD_H

#include "reader.h"

#define HEAD_FIELDS 100u

struct field { esp_str name, value; };

struct head {
	esp_str method, target;
	esp_str path, query;        /* of the target; path "*" for OPTIONS alone */
	esp_str host;
	uint64_t length;            /* of the body, when it is not chunked */
	uint32_t minor;             /* of HTTP/1.x */
	uint32_t nfields;
	uint8_t has_length, chunked;
	uint8_t keep_alive;         /* what the client wants */
	uint8_t expects;            /* 100-continue */
	struct field fields[HEAD_FIELDS];
};

/*! \brief Of a head that reader_line() called WHOLE: 400, 417, 501. */
struct fault head_parse(esp_str text, struct head *ret);
/*! \brief The first field of that name from *at on, 0 at first; *at is then behind it.  NULL: no more. */
const struct field *head_find(const struct head *h, const char *name, uint32_t *at);
/*! \brief Its value; {NULL,0}: there is none. */
esp_str head_value(const struct head *h, const char *name);
/*! \brief Is there a body? */
static inline int head_has_body(const struct head *h) { return h->chunked || h->length > 0; }

#endif
