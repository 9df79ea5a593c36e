/* gzip - one stream of RFC 1952 over zlib.  Pure but for malloc; a quarter of a MiB while it lives. */
#ifndef ESP_PROTOCOL_HTTP_GZIP_H
#define ESP_PROTOCOL_HTTP_GZIP_H

#include <esp/mail/buf.h>

struct gzip;

enum gzip_how { GZIP_MORE, GZIP_FLUSH, GZIP_END };

/*! \brief NULL: no memory. */
struct gzip *gzip_new(void);
/*! \brief Appends to `out`, a growing buffer, what `in` becomes.  FLUSH: all of it can be read there.  END: the last
 *  call.  ESP_ENOMEM, ESP_E2BIG: of out. */
ESP_CHECKED esp_status gzip_feed(struct gzip *g, esp_str in, enum gzip_how how, esp_buf *out);
/*! \brief NULL is fine. */
void gzip_free(struct gzip *g);

#endif
