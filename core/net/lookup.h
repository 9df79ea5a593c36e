/* core/net/lookup.h - the addresses of a host, from the C library, for fibers that do not wait for it longer than they
 * may.
 */
#ifndef CORE_NET_LOOKUP_H
#define CORE_NET_LOOKUP_H

#include <netdb.h>

#include <esp/abi.h>

/*! \brief [worker, control] ESP_SUSPENDS.  Addresses for a stream, freeaddrinfo() is the caller's; an address in digits
 *  with a port in digits does not suspend.  At the fiber's deadline (ESP_ETIMEDOUT) or its cancel the lookup is left to
 *  itself.  ESP_ENOENT: there is none, or no such port; ESP_EUNAVAIL: too many wait already; both with the reason. */
ESP_CHECKED esp_status lookup(const char *host, const char *port, struct addrinfo **ret, esp_err *err);

#endif
