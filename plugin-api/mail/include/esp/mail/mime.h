/* esp/mail/mime.h - the structure of a message: a flat index of its MIME parts (RFC 2045, 2046, 5322).
 *
 * Zero-copy: every string is a span of the message, which must outlive the index.  One pass, an explicit stack, no
 * recursion.  CRLF and bare LF are both line ends.  Limits: depth 50, 2,000 parts, boundary 255 bytes; what lies deeper
 * or is encoded where it must not be is an opaque application/octet-stream; boundaries beyond 2,000 parts are content.
 * The index is malloc'ed by the library and given back by esp_mime_free.  Pure. [any]
 */
#ifndef ESP_MAIL_MIME_H
#define ESP_MAIL_MIME_H

#include <esp/mail/header.h>

#ifdef __cplusplus
extern "C" {
#endif

#define ESP_MIME_DEPTH_MAX 50u
#define ESP_MIME_PARTS_MAX 2000u
#define ESP_MIME_BOUNDARY_MAX 255u

enum { /* esp_mime_part.flags */
	ESP_MIME_MULTIPART = 1u << 0,   /* its children are its body parts (maybe none was found) */
	ESP_MIME_MESSAGE = 1u << 1,     /* message/rfc822 or message/global; its one child is the message */
	ESP_MIME_TEXT = 1u << 2,        /* text / anything */
	ESP_MIME_OPAQUE = 1u << 3,      /* type, subtype replaced: too deep, no boundary, encoded container */
	ESP_MIME_DEFAULTED = 1u << 4    /* no (usable) Content-Type */
};

/*! \brief One part.  Part 0 is the message.  A parent comes before its children; links are indices, 0 means none. */
typedef struct {
	uint32_t parent, depth, child, next;
	uint32_t number;                /* 1.. within its parent; 1 for the message inside message/rfc822; 0 for part 0 */
	uint32_t flags;
	uint32_t lines;                 /* of the body; a last line without end counts */
	uint32_t reserved;
	esp_str header, body;           /* header with its empty line; body without the line end before a boundary */
	esp_str type, subtype;          /* as written, or the default */
	esp_str content_type, encoding, disposition; /* values; empty when the field is missing */
	esp_str id, description, language, location, md5;
} esp_mime_part;

/*! \brief The index. */
typedef struct { esp_str message; esp_mime_part *part; uint32_t n, cap; } esp_mime;

/*! \brief Reads the structure of a whole message; any bytes have one.  ESP_OK or ESP_ENOMEM (nothing to free). */
ESP_EXPORT ESP_CHECKED esp_status esp_mime_parse(esp_str message, esp_mime *ret);
/*! \brief Gives the index back. */
ESP_EXPORT void esp_mime_free(esp_mime *m);
/*! \brief The transfer encoding of a part. */
enum { ESP_MIME_IDENTITY = 0, ESP_MIME_QP, ESP_MIME_BASE64, ESP_MIME_OTHER };
ESP_EXPORT uint32_t esp_mime_encoding(const esp_mime_part *part);
/*! \brief Parameters of the part's Content-Type (none when it was defaulted or is opaque). */
ESP_EXPORT esp_params esp_mime_params(const esp_mime_part *part);

#ifdef __cplusplus
}
#endif
#endif
