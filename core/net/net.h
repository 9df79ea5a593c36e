/* core/net/net.h - all of the network in one object: workers' connections, listeners, certificates, limits.
 *
 * One `struct net` per process, made by the control thread before the first listener is opened; its parts per worker
 * are touched by that worker alone.  net_free() comes when the workers have stopped.
 */
#ifndef CORE_NET_NET_H
#define CORE_NET_NET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/net/conn.h"
#include "core/net/ip.h"
#include "core/net/tls.h"
#include <esp/crypto.h>
#include <esp/dial.h>
#include <esp/trust.h>
#include <esp/topic.h>

enum { NET_ROLES = 16 };

/*! \brief Zero means the default. */
struct net_limits {
	uint32_t sessions;      /* in the process; at the cap the oldest unauthenticated one is closed.  20,000 */
	uint32_t per_host;      /* connections of one IPv4 address or IPv6 /64: 30 */
	uint32_t per_net;       /* of one /24 or /56: 90 */
	uint32_t per_wide;      /* of one /16 or /48: 270 */
	uint32_t per_minute;    /* new ones per host: 300 */
	uint32_t per_minute_erred; /* after it broke the protocol: 60 */
	uint32_t handshakes;    /* TLS handshakes in flight per worker: 200.  At the cap silent ones go (handshakes.h) */
};

struct net_opts {
	const struct conn_host *host;   /* lives as long as the net */
	const esp_mem_api *mem;         /* put into the connections' arenas; NULL: modules cannot allocate there */
	struct net_limits limits;
	esp_nsec idle;                  /* default silence: 300 s */
	esp_nsec handshake;             /* for a TLS handshake, the hello before it, a PROXY header: 10 s */
	esp_nsec grace;                 /* silence allowed in a handshake that others wait for: 1 s */
	esp_nsec hurry;                 /* silence of strangers while the server is nearly full: 10 s, a third for TLS */
	esp_nsec goodbye;               /* for the last bytes of a closing connection: 10 s */
};

/*! \brief [control] After the workers exist.  ESP_ENOMEM. */
ESP_CHECKED int net_new(const struct net_opts *opts, struct net **ret);
/*! \brief [control] Workers have stopped, or net_count() is 0 and nothing accepts. */
void net_free(struct net *n);

/*! \brief [control] Certificates for the handshakes that begin from now on; none: no handshakes (loads files: the
 *  running ones stay in use when it fails).  ESP_ECONFIG with the reason. */
ESP_CHECKED int net_set_certificates(struct net *n, const struct tls_files *files, size_t nfiles, esp_err *err);
/*! \brief [control] The certificates in use, borrowed until they are set anew; NULL: there are none. */
struct tls_store *net_certificates(const struct net *n);

/*! \brief One listener of esp.conf.  Strings are copied. */
struct listen_spec {
	const char *name, *role;        /* role NULL: the name */
	const char *address;            /* "[::]:25" */
	uint32_t tls;                   /* ESP_TLS_... */
	bool trust_loopback;            /* peers on loopback: no limits */
	struct ip_nets proxy;           /* peers that must send a PROXY header; copied */
	esp_nsec idle;                  /* 0: net_opts.idle */
	int fd;                         /* already listening (taken over on success), or -1: open it */
};
struct listen_plan;

/*! \brief [control] Compare with the listeners in force and open what is new; nothing is accepted there yet.  An
 *  address that stays keeps its socket (a given fd for it is closed at commit).  ESP_ECONFIG, ESP_EEXIST (address in
 *  use or twice in the table), ESP_EACCES; the caller keeps its fds then. */
ESP_CHECKED int net_listen_prepare(struct net *n, const struct listen_spec *specs, size_t nspecs,
                                   struct listen_plan **ret, esp_err *err);
/*! \brief [control] Accept on the new ones, close those that went; their connections stay. */
void net_listen_commit(struct net *n, struct listen_plan *plan);
/*! \brief [control] Close what prepare opened itself; given fds are the caller's again. */
void net_listen_abort(struct net *n, struct listen_plan *plan);
/*! \brief [control] Both; for the start. */
ESP_CHECKED int net_listen(struct net *n, const struct listen_spec *specs, size_t nspecs, esp_err *err);
/*! \brief [control] Descriptor and bound port of a listener, for handing over to a new process and for tests.
 *  ESP_ENOENT. */
ESP_CHECKED int net_listener_fd(const struct net *n, const char *name, int *ret_fd, uint16_t *ret_port);

/*! \brief [control] Serve an already connected, non-blocking socket as if `listener` had accepted it from
 *  127.0.0.1 (inetd-like use, socket pairs); the descriptor is taken over.  ESP_ENOENT: no such listener, and the
 *  descriptor stays the caller's. */
ESP_CHECKED int net_adopt(struct net *n, const char *listener, int fd);

/*! \brief [control] Stop accepting and call every session with ESP_CONN_DRAIN; those that are still there at the
 *  deadline are closed.  Returns at once: net_count() says how far it is. */
void net_drain(struct net *n, esp_nsec deadline);
/*! \brief [any] Connections that exist, those on their way to a worker included. */
uint32_t net_count(const struct net *n);

/*! \brief Sums over the workers; read without a lock, each value is right by itself. */
struct net_stats {
	uint64_t accepted, refused_limit, refused_full, refused_error; /* error: EMFILE, full mailbox */
	uint64_t handshakes_ok, handshakes_failed, handshakes_evicted; /* evicted: silent at the cap, or too many waited */
	uint64_t stressed;      /* 1: nearly full, strangers have less time */
	uint64_t handshakes_now, handshakes_waiting;    /* waiting: with their hello, for a place */
	uint64_t bytes_in, bytes_out;
	uint64_t overloaded, timeouts, proxy_failed, line_errors, handed_over, topics_published, topic_wakes;
	uint32_t nroles;
	struct net_role_stats { const char *role; uint64_t opened; uint32_t now, authenticated; } role[NET_ROLES];
};
/*! \brief [any] */
void net_stats(const struct net *n, struct net_stats *ret);

/*! \brief A connection of a load balancer that was closed, because no PROXY header said who is behind it. */
struct net_proxy_fault {
	struct ip from;
	char listener[64];
	const char *sent;       /* what came instead: a constant */
};
/*! \brief [control] Take one that happened since the last call; there may have been more (net_stats counts them). */
bool net_take_proxy_fault(struct net *n, struct net_proxy_fault *ret);

/*! \brief esp.crypto/1, esp.topic/1 (topics need a net to exist). */
extern const esp_crypto_api crypto_api;
/*! \brief esp.dial/1. */
extern const esp_dial_api dial_api;
/*! \brief esp.trust/1. */
extern const esp_trust_api trust_api;
extern const esp_topic_api topic_api;

#endif
