/* server - where a server is, as it is written in esp.conf and as esp.dial/1 takes it. */
#ifndef ESP_COMMON_SERVER_H
#define ESP_COMMON_SERVER_H

#include <esp/abi.h>

/*! \brief NUL-terminated; the path of a Unix socket has no port. */
struct server {
	esp_str text;                    /* as in esp.conf, which it borrows */
	char host[254], port[6];
};

/*! \brief [any] "/run/clamav/clamd.ctl", "scan.example.org:3310", "192.0.2.1:3310", "[2001:db8::1]:3310".  NULL: it is
 *  one; otherwise what is wrong with it. */
const char *server_parse(esp_str text, struct server *ret);

#endif
