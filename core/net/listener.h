/* core/net/listener.h - what listener.c and accept.c share; for the two of them alone. */
#ifndef CORE_NET_LISTENER_H
#define CORE_NET_LISTENER_H

#include "core/net/impl.h"

struct listen_socket {
	struct list link;
	struct listeners *all;
	struct listener *now;
	struct watch watch;
	struct ip_port asked;           /* the address of esp.conf; port 0 in tests */
	int fd;
	bool stays;
};

struct listeners {
	struct net *net;
	struct list sockets;
	struct timer pause;             /* out of descriptors or memory: look again soon */
	int spare;                      /* the reserved descriptor */
	uint64_t last;                  /* the descriptor that was accepted last */
	uint32_t turn;                  /* round robin among equals */
};

/*! \brief Callback of a listening socket's watcher. */
void accept_ready(struct watch *w, uint32_t events);

#endif
