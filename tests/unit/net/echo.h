/* tests/unit/net/echo.h - the protocol of double.h: a line a command, in two generations. */
#ifndef TESTS_UNIT_NET_ECHO_H
#define TESTS_UNIT_NET_ECHO_H

#include "core/loop/owner.h"
#include "core/net/net.h"

/* CHOIR: each voice ('a', 'b' ...) writes so many verses "a 0 aaaa...\r\n", flushing behind each piece. */
enum { CHOIR_VOICES = 3, CHOIR_VERSES = 12, CHOIR_PIECES = 5, CHOIR_PIECE = 9000 };

extern struct module_core echo_generation[2];
extern const esp_protocol echo_protocol;
extern const esp_mem_api echo_mem;

#endif
