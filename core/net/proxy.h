/* core/net/proxy.h - the PROXY protocol, versions 1 and 2, as a pure parser.
 *
 * The header precedes everything else on a connection from a configured load balancer and names the real peer.
 * Bounded: PROXY_MAX bytes; a longer one is a broken header.
 */
#ifndef CORE_NET_PROXY_H
#define CORE_NET_PROXY_H

#include "core/net/ip.h"

enum { PROXY_MAX = 1024 };

struct proxy_header {
	bool local;             /* LOCAL or UNKNOWN: keep the addresses of the socket */
	struct ip_port peer, here;
};

/*! \brief Parse at most `n` bytes.  ESP_OK: *ret_used bytes were the header.  ESP_EAGAIN: so far so good, more is
 *  needed.  ESP_EPROTO: not a PROXY header, or a broken one.  The answer does not depend on how the bytes arrived. */
ESP_CHECKED int proxy_parse(const void *data, size_t n, struct proxy_header *ret, size_t *ret_used);
/*! \brief What is wrong with bytes that proxy_parse() refused, for the log. */
const char *proxy_fault(const void *data, size_t n);

#endif
