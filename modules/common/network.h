/* network - addresses of IPv4 and IPv6, and networks of them as they are written in esp.conf. */
#ifndef ESP_COMMON_NETWORK_H
#define ESP_COMMON_NETWORK_H

#include <esp/abi.h>

/*! \brief 4 or 16 bytes in network order; len 0: none. */
struct address { uint8_t len, b[16]; };
struct network { struct address base; uint32_t bits; };

/*! \brief [any] "10.1.0.0/16", "fd00::/8", or one address; 0: it is none. */
int network_parse(struct network *ret, esp_str text);
/*! \brief [any] Is the address in it? */
int network_has(const struct network *n, const struct address *a);
/*! \brief [any] Do the first `bits` agree? */
int network_bits_equal(const uint8_t *a, const uint8_t *b, uint32_t bits);
/*! \brief [any] Is the host of a URL or of a Host field, without its port, this machine whatever a name server says:
 *  "localhost", "[::1]", or one of 127.0.0.0/8 in four numbers?  A name that only begins like an address is not. */
int network_host_is_loopback(esp_str host);

#endif
