/* tests/support/ports.h - ports of 127.0.0.1 that are this process's alone, among all tests that run now. */
#ifndef TESTS_SUPPORT_PORTS_H
#define TESTS_SUPPORT_PORTS_H

#include <stdint.h>

/*! \brief Another one at each call; ours until the process ends. */
uint16_t free_port(void);

#endif
