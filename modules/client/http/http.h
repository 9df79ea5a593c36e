/* http.h - what the files of client_http share.
 *
 *   module.c    settings, life
 *   call.c      esp.httpclient/1: one call, hop by hop
 *   hop.c       one request to one server: the handle of curl
 *   outcome.c   what that came to
 *   hub.c       a worker's curl: descriptors and timers on its loop, kept connections, who waits for room
 *   fields.c    header fields, both ways
 *   url.c       what a URL must look like
 *   address.c   where nobody may go whom we do not trust
 *   report.c    metrics, and the lines for the administrator
 *   command.c   `esp-cli http get`
 *
 * A hub and all that hangs on it belong to one worker's thread.  Curl runs in callbacks of the loop; a fiber only adds
 * and removes its handle.  Curl never resolves a name: it gets the addresses of esp.dns/1 (hop.c).
 */
#ifndef CLIENT_HTTP_H
#define CLIENT_HTTP_H

#include <esp/command.h>
#include <esp/dns.h>
#include <esp/host.h>
#include <esp/httpclient.h>
#include <esp/metric.h>
#include <esp/trust.h>

#include <curl/curl.h>
#include <stdatomic.h>
#include <sys/socket.h>

#include "modules/common/network.h"
#include "modules/common/seldom.h"

#define HEADERS_MOST  (64u << 10)   /* bytes of all header fields of one answer, interim ones included */
#define BODY_DEFAULT  (64u << 10)
#define FEED_ROOM     (16u << 10)
#define ADDRESSES     16u
#define PORTS         16u
#define NETWORKS      32u
#define UNTRUSTED_URL 2048u
#define HOST_ROOM     256u

/*! \brief How a call ended, for metrics and log. */
enum result { RES_OK, RES_INVALID, RES_REFUSED, RES_RESOLVE, RES_CONNECT, RES_TLS, RES_TIMEOUT, RES_TOO_LARGE,
	RES_PROTOCOL, RES_CLOSED, RES_CANCELED, RES_BUSY, RES_FAILED, RESULTS };

/*! \brief What is allowed for URLs that others chose. */
struct rules {
	uint32_t nports, nallow;
	uint16_t port[PORTS];
	struct network allow[NETWORKS];
	int plain;                  /* http as well */
};

struct profile {
	esp_str name;
	const char *ca, *certificate, *key;   /* NULL: none; ca NULL: that of the settings */
	int verify;
};

struct http;

/*! \brief A server that has requests now: no more than so many at once. */
struct target {
	struct target *next;
	uint32_t running, waiting;
	esp_fcond room;
	char key[HOST_ROOM + 16];
};

struct hop;
struct hub {
	struct http *http;
	uint32_t running, untrusted;   /* requests that have room; those of them to URLs that others chose */
	uint32_t waiting[2];           /* for room; [1]: untrusted */
	size_t held;                   /* bytes of answers that are still coming */
	CURLM *multi;                  /* NULL: nothing is open */
	esp_timer *timer, *idle, *end;
	struct hop *first;             /* with a handle in `multi` */
	struct target *targets;
	esp_fcond room[2];
	int draining, broken, over;
};

struct http {
	esp_core core;
	esp_module *self;
	esp_binding dns;
	const esp_metric_api *metric;
	esp_httpc table;
	struct hub *hub;               /* one a worker, the last is the control thread's */
	uint32_t nhubs;
	esp_worker *control;
	_Atomic esp_nsec drain_until;
	int began;                     /* curl_global_init() was called */

	esp_nsec timeout, connect_timeout, keep;
	size_t most_memory;
	uint32_t most, most_host, most_untrusted, most_waiting, most_kept;
	const char *ca;
	const esp_trust_api *trust_api;
	esp_trust *trust;              /* of `ca`; NULL: a libcurl without GnuTLS, which reads it for itself */
	const struct profile *profile;
	uint32_t nprofiles;
	struct rules rules;

	esp_metric requests[2][RESULTS], seconds[2], connections, running;
	struct seldom told[2][RESULTS];
};

/*! \brief A URL that is one. */
struct url {
	CURLU *u;
	char *text;                    /* without fragment */
	char host[HOST_ROOM];          /* small letters, no dot at the end; an IPv6 address without [] */
	uint32_t literal;              /* 0: a name; 4, 6: an address in digits */
	uint16_t port;
	int https;
};

/*! \brief What the header of an answer says of its length. */
struct framing { int whole, has_length, chunked; uint64_t length; };

/*! \brief One request to one server, under way.  On the calling fiber's arena. */
struct hop {
	struct hop *next, **link;
	struct http *http;
	struct hub *hub;
	const esp_httpc_request *rq;
	const struct url *url;
	const struct profile *profile; /* NULL: none */
	esp_arena *arena;              /* of the call, ours */
	const char *method;
	int has_body, first_server;    /* first_server: not one that a redirect led to */
	uint64_t max_body;

	struct address address[ADDRESSES];
	uint32_t naddresses;

	CURL *easy;
	struct curl_slist *headers, *resolve;
	esp_ticket ticket;
	int done, canceled, lost, want, ended;
	CURLcode code;
	uint32_t stage;
	char *body;                    /* malloc */
	size_t body_len, body_room, header_bytes;
	int too_large, crowded, refused, foreign, opened, distrusted;
	const esp_trust *trust;        /* who verifies a new connection; NULL: curl, or nobody */
	esp_err *why_tls;
	const char *malformed;
	struct framing framing;
	char *feed;
	size_t feed_len, feed_at;
	uint64_t fed;
	char text[CURL_ERROR_SIZE];
};

/* --- url.c: [any] --------------------------------------------------------------------------------------------- */
/*! \brief ESP_EINVAL, ESP_EACCES (`rules` not NULL: nobody we trust wrote it) or ESP_ENOMEM, with the reason. */
esp_status url_parse(struct url *ret, esp_str text, const struct rules *rules, esp_err *err);
/*! \brief Where `location` leads from there. */
esp_status url_follow(
	struct url *ret, const struct url *from, esp_str location, const struct rules *rules, esp_err *err);
int url_same_server(const struct url *a, const struct url *b);
void url_free(struct url *u);
/*! \brief Fill in a reason. */
void say(esp_err *err, const char *fmt, ...) ESP_PRINTF(2, 3);

/* --- address.c: [any] ------------------------------------------------------------------------------------------ */
/*! \brief Why nobody may go there whom we do not trust; NULL: anybody may. */
const char *address_forbidden(const struct address *a, const struct rules *rules);
/*! \brief Does this machine have it, whatever else it is?  Also 1 where the kernel cannot be asked. */
int address_is_own(const struct address *a);
int address_of(struct address *ret, const struct sockaddr *sa);
int address_same(const struct address *a, const struct address *b);
void address_print(const struct address *a, char *text, size_t room);

/* --- hub.c: [the hub's loop] ----------------------------------------------------------------------------------- */
struct hub *hub_here(struct http *h);
/*! \brief [fiber] ESP_SUSPENDS.  Room for one more request to that server.  ESP_EBUSY, ESP_ETIMEDOUT, ESP_ECANCELED. */
esp_status hub_enter(struct hub *hub, const char *key, uint32_t most, int untrusted, struct target **ret);
void hub_leave(struct hub *hub, struct target *t, int untrusted);
/*! \brief Memory for an answer, within what a worker may take; 0: there is no room. */
int hub_hold(struct hub *hub, size_t bytes);
void hub_unhold(struct hub *hub, size_t bytes);
/*! \brief Into and out of curl's hands. */
esp_status hub_add(struct hub *hub, struct hop *hop);
void hub_remove(struct hub *hub, struct hop *hop);
void hub_drain(struct hub *hub);
void hub_close(struct hub *hub);

/* --- hop.c ------------------------------------------------------------------------------------------------------ */
/*! \brief Curl is through with it: what happened (outcome.c). */
esp_status hop_outcome(struct hop *hop, esp_err *err);
/*! \brief [fiber] ESP_SUSPENDS.  `hop` is filled down to `max_body`; afterwards hop_free(), also when it failed. */
esp_status hop_run(struct hop *hop, esp_err *err);
void hop_free(struct hop *hop);
/* --- fields.c: [any]
 * ----------------------------------------------------------------------------------------------- */
const esp_httpc_header *fields_at(const esp_httpc_request *rq, uint32_t i);
/*! \brief The method and the fields that the caller gave: may they be sent?  ESP_EINVAL. */
esp_status fields_check(const esp_httpc_request *rq, esp_err *err);
/*! \brief May this field go to another server than the one it was meant for? */
int fields_harmless(esp_str name);
/*! \brief One line of an answer's header, as it came.  What is wrong with it, or NULL. */
const char *fields_take(struct framing *f, const char *line, size_t n);

/* --- call.c, command.c, report.c --------------------------------------------------------------------------------- */
esp_status http_request(const esp_httpc *table, esp_arena *arena, const esp_httpc_request *rq, esp_httpc_response *ret,
	esp_err *err);
extern const esp_command http_get_command;
esp_status report_declare(struct http *h);
void report_end(struct http *h, const esp_httpc_request *rq, const struct url *last, esp_status st, uint32_t stage,
	esp_nsec took, const esp_err *err);

#endif
