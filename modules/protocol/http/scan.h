/* scan - the strict look at each line of a request before anybody else reads it (RFC 9112).
 *
 * Whatever two programs could understand in two ways is refused: that is what requests are smuggled with.  The lines
 * come from the core's reader, which lets no bare CR, bare LF and no NUL through.  Pure.
 */
#ifndef ESP_PROTOCOL_HTTP_SCAN_H
#define ESP_PROTOCOL_HTTP_SCAN_H

#include <esp/abi.h>

/*! \brief What is wrong with a request: the status to answer, 0 when nothing is, and a literal that tells what to
 *  do. */
struct fault { uint32_t code; const char *text; };
#define FAULT_NONE ((struct fault){ 0, NULL })

/*! \brief Parts of the first line; they point into it. */
struct request_line { esp_str method, target; uint32_t minor; };

/*! \brief 400, 501 (a method nobody here knows), 505.  A line without faults is method SP target SP HTTP/1.0 or 1.1. */
struct fault scan_request_line(esp_str line, struct request_line *ret);
/*! \brief A field of a head or a trailer: 400 unless it is token ":" value, and not folded. */
struct fault scan_field(esp_str line);
/*! \brief The length of a chunk in a line without its CRLF.  Extensions are passed over.  400. */
struct fault scan_chunk_size(esp_str line, uint64_t *ret);
/*! \brief Decimal digits and nothing else, below 2^63.  ESP_EPROTO. */
ESP_CHECKED esp_status scan_number(esp_str text, uint64_t *ret);

/*! \brief The value of a hexadecimal digit; -1: it is none. */
int scan_hex(char c);
/*! \brief Characters of a token (RFC 9110 5.6.2), 1 of them at least. */
int scan_is_token(esp_str s);
/*! \brief What may stand in a field's value: printable, blanks, tabs, bytes above 127. */
int scan_is_value(esp_str s);
/*! \brief The same without blanks and tabs around it. */
esp_str scan_trim(esp_str s);
/*! \brief Equal but for the case of ASCII letters? */
int scan_same(esp_str a, const char *b);
/*! \brief The next element of a list with commas, trimmed; empty elements are passed over.  0: the end. */
int scan_list(esp_str *rest, esp_str *ret);

#endif
