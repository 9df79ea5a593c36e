/* core/net/limits.h - how many connections one host and its networks may have, and how fast new ones may come.
 *
 * Counted for the host (IPv4 /32, IPv6 /64), its net (/24, /56) and its wide net (/16, /48).  The control thread
 * admits; workers give back and blame through the handle, with atomics alone.  Entries nobody holds are swept once
 * a minute. */
#ifndef CORE_NET_LIMITS_H
#define CORE_NET_LIMITS_H

#include "core/net/ip.h"
#include "core/net/net.h"

struct limits;
struct limit_net;

/*! \brief [control] All zero members are replaced by their defaults. */
ESP_CHECKED int limits_new(const struct net_limits *l, struct limits **ret);
/*! \brief [control] When nobody holds a handle any more. */
void limits_free(struct limits *l);
/*! \brief [control] Count one connection.  *ret is given back with limit_release(); it may be NULL on ESP_OK (too
 *  many hosts are known: not counted).  ESP_EBUSY: over one of the limits. */
ESP_CHECKED int limits_admit(struct limits *l, const struct ip *ip, esp_nsec now, struct limit_net **ret);
/*! \brief [any] NULL is fine. */
void limit_release(struct limit_net *host);
/*! \brief [any] The peer broke the protocol: fewer new connections for a minute.  NULL is fine. */
void limit_blame(struct limit_net *host);
/*! \brief [control] Entries in the table (tests, metrics). */
size_t limits_known(const struct limits *l);

#endif
