/* tests/unit/net/echo.h - the protocol of double.h: a line a command, in two generations. */
#ifndef TESTS_UNIT_NET_ECHO_H
#define TESTS_UNIT_NET_ECHO_H

#include "core/loop/owner.h"
#include "core/net/net.h"

extern struct module_core echo_generation[2];
extern const esp_protocol echo_protocol;
extern const esp_mem_api echo_mem;

#endif
