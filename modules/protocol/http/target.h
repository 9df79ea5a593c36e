/* target - the target of a request, its parts, and the patterns of routes (RFC 9112 3.2, RFC 3986).  Pure. */
#ifndef ESP_PROTOCOL_HTTP_TARGET_H
#define ESP_PROTOCOL_HTTP_TARGET_H

#include "scan.h"

#include <esp/mail/buf.h>

struct head;

#define TARGET_PARAMS 8u
#define TARGET_PATTERN 200u

/*! \brief path, query, and host of an absolute form, from head->target.  400. */
struct fault target_read(struct head *h);
/*! \brief Appends `s` with its %XX decoded; `form`: "+" is a blank.  ESP_EPROTO: bad %XX, or %00. */
ESP_CHECKED esp_status target_decode(esp_str s, int form, esp_buf *out);
/*! \brief The value of the first field of that name in a query, still encoded.  0: there is none. */
int target_query(esp_str query, const char *name, esp_str *ret);

/*! \brief What a path gave a pattern; names point into the pattern, values (still encoded) into the path. */
struct match {
	uint64_t rank;              /* the lower, the closer: literals before parameters, from left to right */
	uint32_t nparams;
	struct { esp_str name, value; } params[TARGET_PARAMS];
};
/*! \brief Is it a pattern at all?  Checked once, where a route is first seen. */
int pattern_is_good(const char *pattern);
/*! \brief Does the path fit the (good) pattern? */
int pattern_match(const char *pattern, esp_str path, struct match *ret);

#endif
