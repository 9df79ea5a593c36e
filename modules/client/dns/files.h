/* files - what the machine says about names: resolv.conf and hosts.  Pure, except for file_read(). */
#ifndef CLIENT_DNS_FILES_H
#define CLIENT_DNS_FILES_H

#include <esp/dns.h>

enum { SERVERS_MAX = 8, SEARCH_MAX = 6, FILE_MAX = 1 << 20, INET6_TEXT = 46 };

/*! \brief A resolver: "127.0.0.1:53", "[::1]:53". */
struct address { char text[64]; int loopback; };

struct resolv {
	struct address server[SERVERS_MAX];
	uint32_t n, skipped;                     /* servers; lines with one that cannot be used */
	char search[SEARCH_MAX][ESP_DNS_NAME + 1];
	uint32_t nsearch, ndots;
};

struct host { esp_str name; uint8_t address[16]; uint8_t len; };
struct hosts { char *text; struct host *h; uint32_t n; };

/*! \brief 4 or 16 and the bytes of an address in digits (IPv6 also in []); 0: it is none. */
size_t address_bytes(esp_str text, uint8_t out[16]);
/*! \brief The other way; its length. */
size_t address_text(const uint8_t *b, size_t len, char *out, size_t room);
/*! \brief "ADDRESS" or "ADDRESS:PORT", IPv6 with a port in [].  0: neither. */
int address_read(esp_str text, struct address *ret);
/*! \brief What resolv.conf(5) says; the machine itself when it names no server, as the C library does. */
void resolv_read(esp_str text, struct resolv *ret);
/*! \brief Takes over `text` (malloc(), NUL-terminated); ESP_ENOMEM. */
ESP_CHECKED esp_status hosts_read(char *text, struct hosts *ret);
/*! \brief The next address of `name` with that length from *at, which moves on; NULL: no more. */
const struct host *hosts_find(const struct hosts *h, esp_str name, size_t len, uint32_t *at);
void hosts_end(struct hosts *h);

/*! \brief [lane] All of a file up to FILE_MAX bytes, malloc(), NUL-terminated; NULL: it cannot be read. */
char *file_read(const char *path);

#endif
