/* esp/httpclient.h - "esp.httpclient/1": requests to HTTP servers, answered to the fiber that asks.
 *
 * HTTP/1.1 over TCP, TLS or a Unix socket.  Connections are kept and used again, by worker; a request without a reader
 * may be sent a second time when a kept connection turns out to be dead.  No proxy, no cookies, no .netrc, no
 * compression, no user in a URL (that goes into a header).  Certificates are verified.
 *
 *   ESP_OK         there is an answer, whatever its status: 404 and 500 are answers
 *   ESP_EINVAL     the request is no request: URL, method, header, profile, sizes, or not on a worker or the control
 *                  thread.  Nothing was sent
 *   ESP_EACCES     ESP_HTTPC_UNTRUSTED and the rules forbid this URL or the address that its name has; a redirect from
 *                  https to http.  Nothing was sent there
 *   ESP_ENOENT     the name of the host does not exist
 *   ESP_EUNAVAIL   the name cannot be resolved now, or nobody answers at its addresses
 *   ESP_ETLS       no TLS with that server: its certificate, most of the time
 *   ESP_ECLOSED    the server ended the connection in the middle
 *   ESP_EPROTO     what came is no HTTP, or leads round in redirects
 *   ESP_E2BIG      body above max_body, or too many headers
 *   ESP_EBUSY      too many requests of this worker wait already, or too many large answers are coming: try later
 *   ESP_ETIMEDOUT, ESP_ECANCELED  the fiber's deadline or `timeout`; its cancel, or that of this service at its end
 *   ESP_ENOMEM     no memory, or the arena is full
 *   other          what read() returned
 * The reason, in words, is in err.  `stage` of the answer says how far it came.
 */
#ifndef ESP_HTTPCLIENT_H
#define ESP_HTTPCLIENT_H

#include <esp/host.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { /* esp_httpc_request.flags */
	/* Somebody chose this URL who may not choose what this server connects to: a tenant, a mail, another server.
	 * https only, a name of letters (no address in digits), the ports of client_http's settings; no address that is
	 * loopback, private, link-local, shared, multicast, a translation of such, or this machine's, looked at again when
	 * it is connected to; a connection of its own.  No profile, no Unix socket.  Redirects are held to the same. */
	ESP_HTTPC_UNTRUSTED = 1u << 0
};
enum { /* esp_httpc_response.stage: what was going on when it ended */
	ESP_HTTPC_CHECKING = 0, ESP_HTTPC_WAITING, ESP_HTTPC_RESOLVING, ESP_HTTPC_CONNECTING, ESP_HTTPC_SECURING,
	ESP_HTTPC_ASKING,      /* the server may have seen the request from here on */
	ESP_HTTPC_ANSWERING, ESP_HTTPC_ANSWERED
};
enum { ESP_HTTPC_URL = 8192, ESP_HTTPC_REDIRECTS = 10 };

/*! \brief A header field. */
typedef struct esp_httpc_header { esp_str name, value; } esp_httpc_header;

/*! \brief Zero-initialise, set `size` and `url`; what is left zero has the default that is written here.  All of it is
 *  borrowed for the call. */
typedef struct esp_httpc_request {
	uint32_t size, flags;
	esp_str method;                /* "GET"; case matters */
	esp_str url;                   /* http:// or https://, ASCII: other names come as A-labels (RFC 5890) */
	/*! Fields beside those of HTTP's own framing (Host, Content-Length, Transfer-Encoding, Connection, Expect ...),
	 *  which are refused here.  With `body` or `read`, a Content-Type should be one of them. */
	const esp_httpc_header *header;
	uint32_t nheaders, header_size; /* header_size: the stride, sizeof(esp_httpc_header) */
	/*! The body, or: */
	esp_str body;
	/*! Called in the calling fiber when there is room: at most `cap` bytes, *ret 0 at the end.  ESP_SUSPENDS, if it
	 *  likes.  It is never called again for bytes that it gave: such a request has a fresh connection, and is not
	 *  redirected with its body. */
	esp_status (*read)(void *arg, void *buf, size_t cap, size_t *ret);
	void *arg;
	int64_t length;                /* of read(): bytes in all, or -1: not known, sent in chunks */
	uint64_t max_body;             /* of the answer; 0: 64 KiB */
	esp_nsec timeout;              /* for all of it; 0: client_http's setting.  The fiber's deadline holds as well */
	/*! Follow so many, at most ESP_HTTPC_REDIRECTS; 0: a redirect is the answer.  Another server than that of `url`
	 * gets neither a body (then the redirect is the answer), nor the profile, nor fields other than Accept,
	 * Accept-Language, Content-Type, Content-Language and User-Agent. */
	uint32_t redirects;
	uint32_t reserved;
	esp_str profile;               /* of client_http's `profiles`: authority and certificate of our own */
	esp_str unix_path;             /* the server's Unix socket; the URL's host is then only a name */
} esp_httpc_request;

/*! \brief Lives in the arena that was given.  The caller sets `size`.  Without ESP_OK only `stage`, `took` and what
 *  came before the failure (`status`, `url`, `address`) are there. */
typedef struct esp_httpc_response {
	uint32_t size, status, stage;
	uint32_t redirected;           /* redirects that were followed */
	uint32_t nheaders, header_size; /* of the last answer, in their order: esp_httpc_at() */
	const esp_httpc_header *header;
	esp_str body;                  /* any bytes; NUL behind */
	esp_str url;                   /* who answered, at last */
	esp_str address;               /* where that is: "192.0.2.7", NUL behind */
	esp_nsec took;
} esp_httpc_response;

/*! \brief Field `i` of a response, below its count; its stride may be larger than this header's. */
static inline const esp_httpc_header *esp_httpc_at(const esp_httpc_response *r, uint32_t i)
{
	return (const esp_httpc_header *)(const void *)((const char *)r->header + (size_t)i * r->header_size);
}

/*! \brief The first field of that name (any case); {NULL,0}: there is none. */
static inline esp_str esp_httpc_field(const esp_httpc_response *r, const char *name)
{
	esp_str none = { NULL, 0 };
	size_t n = strlen(name);

	for (uint32_t i = 0; i < r->nheaders; i++) {
		const esp_httpc_header *h = esp_httpc_at(r, i);
		size_t k = h->name.len == n ? 0 : n + 1;

		while (k < n && (h->name.ptr[k] == name[k] || ((h->name.ptr[k] ^ name[k]) == 0x20 &&
				(name[k] | 0x20) >= 'a' && (name[k] | 0x20) <= 'z')))
			k++;
		if (k == n)
			return h->value;
	}
	return none;
}

/*! \brief The service "esp.httpclient/1". */
typedef struct esp_httpc esp_httpc;
struct esp_httpc {
	esp_service service;
	/*! [worker, control] ESP_SUSPENDS.  `err` may be NULL. */
	ESP_CHECKED esp_status (*request)(const esp_httpc *h, esp_arena *arena, const esp_httpc_request *rq,
		esp_httpc_response *ret, esp_err *err);
};

#ifdef __cplusplus
}
#endif
#endif
