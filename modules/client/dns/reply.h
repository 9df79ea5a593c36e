/* reply - one answer of a server, read within its bounds; and the names that stand in it.  Pure: no I/O, no state. */
#ifndef CLIENT_DNS_REPLY_H
#define CLIENT_DNS_REPLY_H

#include <esp/dns.h>

enum {
	NAME_WIRE = 255,         /* RFC 1035, 3.1: with length bytes and the root's */
	NAME_TEXT = 1017,        /* the same as text, every byte written \DDD, with NUL */
	NAME_JUMPS = 128,        /* pointers in one name: more would not fit labels between them */
	REPLY_RRS = 1024,        /* records of the answer section that are looked at */
	REPLY_CNAMES = 16,       /* a longer chain is malformed */
	QUERY_MAX = 12 + NAME_WIRE + 4 + 11,
	QUERY_UDP = 1232,        /* largest answer over UDP: no fragments (DNS flag day 2020) */
};

/*! \brief What is asked: a name as on the wire, in lower case, and a type. */
struct key { uint16_t type; uint8_t len; uint8_t name[NAME_WIRE]; };

/*! \brief An answer in one block of memory, counted by its users on one loop. */
struct reply {
	uint32_t refs;
	esp_status status;       /* ESP_OK, ESP_ENOENT, ESP_EUNAVAIL, ESP_EPROTO, ESP_E2BIG */
	uint32_t flags;          /* ESP_DNS_AUTHENTIC (the AD bit, whoever said so), ESP_DNS_NXDOMAIN */
	uint32_t rcode;
	uint32_t ttl;            /* seconds; 0: not to be kept */
	uint32_t n;
	size_t bytes;            /* of the block */
	esp_nsec until;          /* when it ends; whoever keeps it says so */
	const char *why;         /* of other statuses than ESP_OK and ESP_ENOENT; a literal */
	esp_str name;
	esp_dns_record record[];
};

/*! \brief A name as people write it; one dot at its end is fine.  ESP_EINVAL: not ASCII, an empty label, too long, or
 *  characters that are neither printable nor plain; not a type of esp_dns. */
ESP_CHECKED esp_status key_make(struct key *ret, uint32_t type, esp_str name);
/*! \brief "MX"; NULL: none of ours. */
const char *type_name(uint32_t type);
/*! \brief The number of "mx", in any case; 0: none of ours. */
uint32_t type_number(esp_str name);

/*! \brief The name at msg[*at], which moves behind it, in lower case into out; its length, 0: malformed. */
size_t name_read(const uint8_t *msg, size_t len, size_t *at, uint8_t out[NAME_WIRE]);
/*! \brief The same with its case kept. */
size_t name_read_as_is(const uint8_t *msg, size_t len, size_t *at, uint8_t out[NAME_WIRE]);
/*! \brief As text without the last dot, escaped as in a zone file; returns its length. */
size_t name_text(const uint8_t *wire, char out[NAME_TEXT]);

/*! \brief The question as a message: recursion wanted, AD wanted (RFC 6840, 5.7); with EDNS(0) unless `plain`. */
size_t query_write(const struct key *k, uint16_t id, int plain, uint8_t out[QUERY_MAX]);
/*! \brief What a server answered to that; one reference.  Every input gives one.  NULL: no memory. */
struct reply *reply_read(const uint8_t *msg, size_t len, const struct key *asked);
/*! \brief One that says only this.  NULL: no memory. */
struct reply *reply_fail(esp_status st, const char *why);
struct reply *reply_ref(struct reply *r);
/*! \brief NULL is fine. */
void reply_unref(struct reply *r);

#endif
