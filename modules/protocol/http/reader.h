/* reader - gathers the lines of one request's head, each looked at before it is kept (scan.h).  Pure but for malloc. */
#ifndef ESP_PROTOCOL_HTTP_READER_H
#define ESP_PROTOCOL_HTTP_READER_H

#include "scan.h"

/*! \brief What a peer may send before it is answered (DESIGN 11). */
struct limits { uint32_t head, target, fields; };

/*! \brief Zero-initialise; reader_free. */
struct reader {
	char *text;                 /* the lines so far, each with its CRLF */
	uint32_t len, cap;
	uint16_t fields;
	uint8_t begun;              /* the first line is there */
	uint8_t blanks;             /* empty lines before it */
};

enum reader_state { READER_MORE, READER_WHOLE, READER_BAD };

/*! \brief Take one line without its CRLF.  BAD: *ret says what to answer (400, 414, 431, 501, 505, 503: no memory). */
enum reader_state reader_line(struct reader *r, const struct limits *l, esp_str line, struct fault *ret);
/*! \brief What to answer to a line that was longer than any may be. */
struct fault reader_too_long(const struct reader *r);
/*! \brief Something of a request came, and it is not whole. */
static inline int reader_is_under_way(const struct reader *r) { return r->begun || r->blanks; }
/*! \brief Ready for the next request; keeps the memory. */
void reader_reset(struct reader *r);
void reader_free(struct reader *r);
/*! \brief As it was: text of another reader of the same limits.  ESP_ENOMEM, ESP_EPROTO. */
ESP_CHECKED esp_status reader_restore(struct reader *r, const struct limits *l, esp_str text);

#endif
