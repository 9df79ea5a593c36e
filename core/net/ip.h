/* core/net/ip.h - addresses and networks of peers, in one form.
 *
 * Every address is 16 bytes; IPv4 is its IPv4-mapped IPv6 form, so that ::ffff:192.0.2.1 on a dual-stack socket,
 * 192.0.2.1 on an IPv4 socket and the same in a PROXY header are equal.  Pure: no allocation but in the network list.
 */
#ifndef CORE_NET_IP_H
#define CORE_NET_IP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include <esp/abi.h>

/*! \brief An address.  Network order; IPv4 as ::ffff:a.b.c.d. */
struct ip { uint8_t b[16]; };

/*! \brief An address and a port (host order). */
struct ip_port { struct ip ip; uint16_t port; };

/*! \brief Longest text of ip_format, with its NUL. */
enum { IP_TEXT = 46 };

/*! \brief A network.  `bits` counts in the 128-bit form (an IPv4 /8 is 104). */
struct ip_net { struct ip ip; uint8_t bits; };

/*! \brief Networks of a configuration list.  ip_nets_free. */
struct ip_nets { struct ip_net *net; size_t n; };

/*! \brief "192.0.2.1", "2001:db8::1", "[2001:db8::1]", "::ffff:192.0.2.1"; no zone.  ESP_EINVAL. */
ESP_CHECKED int ip_parse(esp_str text, struct ip *ret);
/*! \brief "[::]:25", "0.0.0.0:25", "*:25" (any, both families).  ESP_EINVAL. */
ESP_CHECKED int ip_parse_port(esp_str text, struct ip_port *ret);
/*! \brief "10.0.0.0/8", "2001:db8::/32", or one address.  Host bits are cleared.  ESP_EINVAL. */
ESP_CHECKED int ip_net_parse(esp_str text, struct ip_net *ret);
/*! \brief Text without brackets; IPv4 dotted.  Returns its length. */
size_t ip_format(const struct ip *ip, char out[IP_TEXT]);

/*! \brief From a socket address; ESP_EINVAL for other families. */
ESP_CHECKED int ip_from_sockaddr(const struct sockaddr *sa, socklen_t len, struct ip_port *ret);
/*! \brief For bind(2): IPv4 addresses become AF_INET. */
socklen_t ip_to_sockaddr(const struct ip_port *ip, struct sockaddr_storage *out);

bool ip_is_v4(const struct ip *ip);
bool ip_is_loopback(const struct ip *ip);
bool ip_is_any(const struct ip *ip);
bool ip_eq(const struct ip *a, const struct ip *b);
/*! \brief Keep the first `bits` bits. */
struct ip ip_mask(const struct ip *ip, unsigned bits);
bool ip_net_has(const struct ip_net *net, const struct ip *ip);
bool ip_nets_have(const struct ip_nets *nets, const struct ip *ip);
/*! \brief Append a copy.  ESP_ENOMEM; ESP_E2BIG above 1,024 networks. */
ESP_CHECKED int ip_nets_add(struct ip_nets *nets, const struct ip_net *net);
ESP_CHECKED int ip_nets_copy(const struct ip_nets *from, struct ip_nets *ret);
void ip_nets_free(struct ip_nets *nets);

#endif
