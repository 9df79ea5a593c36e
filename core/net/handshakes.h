/* core/net/handshakes.h - which connections of one worker may shake hands now, who waits for that, and who has to go.
 *
 * A handshake in flight costs a stack and the state of GnuTLS, so there are at most `cap` of them.  A client that falls
 * silent in the middle of one must not keep the others out: while somebody waits, the silent one of the network that
 * has most in flight gives its place up, and the next place goes to the network that has fewest.  Networks are counted
 * as limits.h does (IPv4 /24, IPv6 /56), in a table of fixed size by a secret hash: two that meet there count as one.
 * Pure: no sockets, no clock, no allocation.  Belongs to one worker.
 */
#ifndef CORE_NET_HANDSHAKES_H
#define CORE_NET_HANDSHAKES_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/list.h"
#include "core/net/ip.h"

enum { HANDSHAKE_NETS = 1024, HANDSHAKE_WAITING = 4096 };

enum handshake_state { HANDSHAKE_NONE, HANDSHAKE_WAITING_FOR_PLACE, HANDSHAKE_IN_FLIGHT };

/*! \brief A connection's part; zeroed: neither waits nor is in flight. */
struct handshake {
	struct list link;
	esp_nsec since;         /* in flight: of its last step; waiting: of its arrival */
	uint16_t net;
	uint8_t state;          /* enum handshake_state */
	bool silent;            /* in flight, and the next word is the peer's */
};

struct handshake_net { uint16_t in_flight, waiting; };

struct handshakes {
	uint32_t cap, in_flight, waiting;
	struct list flying;     /* by last step */
	struct list queue;      /* by arrival */
	uint64_t secret;
	struct handshake_net net[HANDSHAKE_NETS];
};

void handshakes_init(struct handshakes *all, uint32_t cap, uint64_t secret);
/*! \brief Queue for a place.  Returns who must go because too many wait now (it is out already), or NULL. */
struct handshake *handshake_queue(struct handshakes *all, struct handshake *h, const struct ip *peer, esp_nsec now);
/*! \brief The next one that may begin: of the network that has fewest in flight, the longest waiting.  It is in flight
 *  now.  NULL: nobody waits, or no place is free. */
struct handshake *handshakes_next(struct handshakes *all, esp_nsec now);
/*! \brief The peer moved the handshake one message further. */
void handshake_step(struct handshakes *all, struct handshake *h, esp_nsec now);
/*! \brief Give the place, or the wait for one, up.  Harmless when it has neither. */
void handshake_end(struct handshakes *all, struct handshake *h);
/*! \brief Whom to send away for those who wait: silent for `grace`, of the network that has most in flight, the longest
 *  silent.  It stays in flight until handshake_end().  NULL: nobody waits, or nobody has been silent for so long. */
struct handshake *handshakes_victim(struct handshakes *all, esp_nsec now, esp_nsec grace);

#endif
