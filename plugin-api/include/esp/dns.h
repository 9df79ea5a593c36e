/* esp/dns.h - "esp.dns/1": questions to the domain name system, answered to the fiber that asks.
 *
 * Names are ASCII: internationalised ones come as A-labels (RFC 5890).  A question that is in flight is not sent again
 * for others who ask the same; answers and "no such thing" are kept for their time to live (RFC 2308), failures for a
 * few seconds (RFC 9520).  Every record was read within its bounds: what comes out has the form that is written here.
 *
 *   ESP_OK         there are records: ret->n is not 0
 *   ESP_ENOENT     there are none, for certain: ESP_DNS_NXDOMAIN in ret->flags says that the name does not exist,
 *                  otherwise it has no records of this type
 *   ESP_EUNAVAIL   cannot be said now: no server answers, or one answers that it failed (SERVFAIL, which a validating
 *                  resolver also says of a forged answer; REFUSED).  Never read it as "there are none": try later
 *   ESP_EPROTO     the answer is malformed, or its CNAMEs go in a circle or on for too long
 *   ESP_E2BIG      more than ESP_DNS_RECORDS records
 *   ESP_ETIMEDOUT, ESP_ECANCELED  the calling fiber's deadline or cancel.  The question goes on, for others and the
 * cache ESP_EBUSY      too many questions are in flight on this worker: try later ESP_EINVAL     not a name, not a
 * type, ret->size is too small, or not on a worker or the control thread ESP_ENOMEM     the arena is full
 */
#ifndef ESP_DNS_H
#define ESP_DNS_H

#include <esp/host.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { /* types, by their numbers (RFC 1035, 3596, 6698) */
	ESP_DNS_A = 1, ESP_DNS_NS = 2, ESP_DNS_CNAME = 5, ESP_DNS_PTR = 12, ESP_DNS_MX = 15, ESP_DNS_TXT = 16,
	ESP_DNS_AAAA = 28, ESP_DNS_TLSA = 52
};
enum { /* esp_dns_answer.flags */
	ESP_DNS_AUTHENTIC = 1u << 0, /* the resolver validated it (AD), and the administrator says it may be believed */
	ESP_DNS_NXDOMAIN  = 1u << 1, /* with ESP_ENOENT */
	ESP_DNS_CACHED    = 1u << 2, /* no question was sent */
	ESP_DNS_PARTIAL   = 1u << 3  /* addresses(): of the other family it cannot be said now */
};
enum { /* addresses(), flags */
	ESP_DNS_IPV4  = 1u << 0,
	ESP_DNS_IPV6  = 1u << 1,
	/* for names that the administrator wrote: /etc/hosts first, then with the search list of resolv.conf.  Never for
	 * names that somebody else chose */
	ESP_DNS_LOCAL = 1u << 2
};
enum { ESP_DNS_RECORDS = 512, ESP_DNS_NAME = 253, ESP_DNS_REVERSE_ROOM = 74 };

/*! \brief One record.  Names are without the last dot, of at most 1,016 bytes ("" is the root, the null MX of RFC
 *  7505); what is neither printable nor plain in a label stands there as in a zone file (\. \\ \DDD).  NUL is behind
 *  `data` in all types. */
typedef struct esp_dns_record {
	uint16_t type;
	uint16_t preference;       /* MX */
	uint8_t usage, selector, matching, reserved;   /* TLSA */
	/*! A: 4 bytes, AAAA: 16, in network order.  MX, PTR, CNAME, NS: the name.  TXT: its strings, joined (RFC
	 * 7208, 3.3), any bytes.  TLSA: the association data, at least 1 byte. */
	esp_str data;
} esp_dns_record;

/*! \brief Lives in the arena that was given.  The caller sets `size`. */
typedef struct esp_dns_answer {
	uint32_t size;
	uint32_t flags;            /* with ESP_OK and ESP_ENOENT */
	uint32_t n, record_size;   /* records and their stride: esp_dns_at().  MX come by preference, others as sent */
	const esp_dns_record *record;
	esp_str name;              /* whose records they are: what was asked for, or where its CNAMEs lead */
	int64_t ttl;               /* seconds from now; 0 for what is not kept */
} esp_dns_answer;

/*! \brief Record `i` of an answer, below its count; its stride may be larger than this header's. */
static inline const esp_dns_record *esp_dns_at(const esp_dns_answer *a, uint32_t i)
{
	return (const esp_dns_record *)(const void *)((const char *)a->record + (size_t)i * a->record_size);
}

/*! \brief The service "esp.dns/1". */
typedef struct esp_dns esp_dns;
struct esp_dns {
	esp_service service;
	/*! [worker, control] ESP_SUSPENDS.  Records of one type.  Follows CNAMEs, except for ESP_DNS_CNAME.  A dot at the
	 *  end of `name` is fine.  `err` may be NULL; with another status than ESP_OK and ESP_ENOENT it has the reason. */
	ESP_CHECKED esp_status (*lookup)(const esp_dns *d, esp_arena *arena, uint32_t type, esp_str name,
		esp_dns_answer *ret, esp_err *err);
	/*! [worker, control] ESP_SUSPENDS.  Where `host` is: A and AAAA asked side by side, IPv6 first; flags 0 is both
	 *  without ESP_DNS_LOCAL.  An address in digits (IPv6 also in []) is its own answer, localhost and what ends in
	 *  .localhost is loopback (RFC 6761): whoever must not connect there checks the addresses that come out.
	 *  ESP_OK although one family failed: ESP_DNS_PARTIAL. */
	ESP_CHECKED esp_status (*addresses)(const esp_dns *d, esp_arena *arena, esp_str host, uint32_t flags,
		esp_dns_answer *ret, esp_err *err);
};

/*! \brief [any] The name to ask ESP_DNS_PTR for: of 4 bytes under in-addr.arpa, of 16 under ip6.arpa; an address that
 *  is IPv4 mapped into IPv6 counts as IPv4.  {NULL,0}: another length. */
static inline esp_str esp_dns_reverse(const void *address, size_t len, char room[ESP_DNS_REVERSE_ROOM])
{
	static const uint8_t mapped[12] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff };
	const uint8_t *b = (const uint8_t *)address;
	esp_str name = { NULL, 0 };
	size_t n = 0;

	if (len == 16 && memcmp(b, mapped, sizeof mapped) == 0) {
		b += 12;
		len = 4;
	}
	if (len != 4 && len != 16)
		return name;
	for (size_t i = len; i-- > 0;) {
		if (len == 16) {
			room[n++] = "0123456789abcdef"[b[i] & 15];
			room[n++] = '.';
			room[n++] = "0123456789abcdef"[b[i] >> 4];
		} else {
			if (b[i] >= 100)
				room[n++] = (char)('0' + b[i] / 100);
			if (b[i] >= 10)
				room[n++] = (char)('0' + b[i] / 10 % 10);
			room[n++] = (char)('0' + b[i] % 10);
		}
		room[n++] = '.';
	}
	memcpy(room + n, len == 16 ? "ip6.arpa" : "in-addr.arpa", len == 16 ? 9 : 13);
	name.ptr = room;
	name.len = n + (len == 16 ? 8 : 12);
	return name;
}

#ifdef __cplusplus
}
#endif
#endif
