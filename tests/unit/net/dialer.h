/* tests/unit/net/dialer.h - fibers that dial, for the tests of esp.dial/1. */
#ifndef TESTS_UNIT_NET_DIALER_H
#define TESTS_UNIT_NET_DIALER_H

#include "double.h"

/*! \brief What the last open_to() came to. */
extern esp_dial *to;
extern esp_err why;
/*! \brief A fiber that canceled() runs sets it when it is about to wait. */
extern atomic_int waits;

/*! \brief Run fn in a fiber of the first worker and wait for its end. */
void in_fiber(void (*fn)(void));
/*! \brief The same, and cancel it once `waits` is set.  One that is canceled before it waits is told at its next wait:
 *  when is all the same. */
void canceled(void (*fn)(void));
/*! \brief [fiber] Its deadline from now on; 0: none. */
void patience(esp_nsec ns);
/*! \brief [fiber] Dial `host` without TLS, into `to` and `why`. */
esp_status open_to(const char *host, unsigned port);
size_t open_files(void);
/*! \brief A socket on the loopback; backlog below 0: bound only. */
int listen_at(uint16_t *port, int backlog);

#endif
