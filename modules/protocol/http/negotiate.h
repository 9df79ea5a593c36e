/* negotiate - what the client takes and has: gzip, ETags (RFC 9110 8.8, 12.5.3, 13.1.2).  Pure. */
#ifndef ESP_PROTOCOL_HTTP_NEGOTIATE_H
#define ESP_PROTOCOL_HTTP_NEGOTIATE_H

#include "scan.h"

/*! \brief Does this Accept-Encoding ({NULL,0}: none was sent) ask for gzip? */
int negotiate_takes_gzip(esp_str accept_encoding);
/*! \brief Is it worth while to compress this media type? */
int negotiate_is_text(esp_str type);
/*! \brief Does If-None-Match name the tag (without quotes)?  Compares weakly. */
int negotiate_has(esp_str if_none_match, esp_str tag);
/*! \brief Is it a tag that can be said? */
int negotiate_is_tag(esp_str tag);

#endif
