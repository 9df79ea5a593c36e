/* esp/http.h - "esp.http/1": an HTTP/1.1 server (RFC 9110, RFC 9112) to which modules contribute routes.
 *
 * A route is data in the snapshot: contribute(self, ESP_HTTP_ROUTE, &route) in init(), and it comes and goes with its
 * module; the server and the routes reload alone.  Who contributes one says { .id = "esp.http/1" } among its needs and
 * calls the functions through request->http.  The server has read and checked the whole head, found the route and asked
 * who it is before handle() is called; a handler only answers.
 *
 * One request at a time on a connection.  All functions: [worker], in the fiber that called handle(), until it returns.
 * Strings of the request live as long as it does.  What waits for the client (read() to flush(), marked ESP_SUSPENDS)
 * has given back the services that the handler got (host->give_back()): ask anew, and send bytes that are your own.
 */
#ifndef ESP_HTTP_H
#define ESP_HTTP_H

#include <esp/auth.h>
#include <esp/conn.h>
#include <esp/host.h>

#ifdef __cplusplus
extern "C" {
#endif

#define ESP_HTTP_ROUTE "esp.http.route/1"

typedef struct esp_http esp_http;
typedef struct esp_http_request esp_http_request;

enum { /* esp_http_route.access */
	ESP_HTTP_NOBODY = 0,      /* 403: what was forgotten is closed */
	ESP_HTTP_OPEN,            /* everybody who reaches the listener */
	ESP_HTTP_ADMIN,           /* whoever has the administrator's token (setting admin_token), or comes from this machine
	                           * where admin_loopback says so */
	ESP_HTTP_ACCOUNT          /* a name and a password that esp.auth/1 knows (Basic); never in plaintext */
};

/*! \brief One contribution.  Static, or in host->arena(self). */
typedef struct esp_http_route {
	uint32_t size;
	uint32_t access;          /* ESP_HTTP_... */
	const char *method;       /* "GET" (HEAD is answered by it as well), "POST", "PUT", "PATCH", "DELETE" */
	/*! "/users/{user}/keys": a segment is a literal or one parameter; the last may be "{rest*}" and takes all that is
	 *  left, at least one byte.  Literals win over parameters, from left to right.  Of two equal patterns the first in
	 *  the module list is asked.  ASCII, at most 200 bytes; also the label of the metrics. */
	const char *path;
	uint64_t max_body;        /* bytes; 0: takes none, 413 */
	esp_nsec timeout;         /* ns for handle(), and from there on between two pieces of the answer; 0: the setting
	                           * request_time.  Bodies that come in give more time, by their length */
	const char *help;         /* one sentence */
	/*! [worker] ESP_SUSPENDS.  Answer with one of reply(), fail(), begin().  A negative status with no answer given is
	 *  answered by the table of status codes (ESP_ENOENT 404, ESP_EACCES 403, ESP_EINVAL 400, ESP_EBUSY 503 ...), one
	 *  after begin() cuts the connection, so that the client sees that the answer is not whole. */
	esp_status (*handle)(esp_module *self, esp_http_request *r);
} esp_http_route;

/*! \brief What a handler is given. */
struct esp_http_request {
	uint32_t size;
	uint32_t reserved;
	const esp_http *http;     /* the functions */
	esp_conn *conn;           /* conn->api->info(): who asks.  Read and write through `http` alone */
	esp_arena *arena;         /* ends with the request; its cap is 1 MiB beside the body */
	const esp_http_route *route;
	const esp_identity *who;  /* of an ESP_HTTP_ACCOUNT route; else NULL */
	esp_str method;           /* "GET", "HEAD" */
	esp_str path;             /* as sent, without the query; percent-encoded */
	esp_str query;            /* behind the "?", as sent; empty: none */
	esp_str host;             /* of Host; may be empty (HTTP/1.0) */
	uint64_t length;          /* bytes of the body; UINT64_MAX: chunked, not known before */
};

/*! \brief The functions; also the table of the service. */
struct esp_http {
	esp_service service;

	/*! A parameter of the path, percent-decoded: no NUL, but a "/" may have been encoded.  {NULL,0}: no such name. */
	esp_str (*param)(const esp_http_request *r, const char *name);
	/*! A field of the head by its name, in any case.  Several of that name are joined with ", ".  {NULL,0}: none. */
	esp_str (*header)(esp_http_request *r, const char *name);
	/*! The first field of that name in the query, decoded as forms are ("+" is a blank).  ESP_ENOENT; ESP_EPROTO: it
	 *  cannot be decoded, or has a NUL. */
	ESP_CHECKED esp_status (*query)(esp_http_request *r, const char *name, esp_str *ret);

	/*! ESP_SUSPENDS.  The next piece of the body, at most `max` bytes; empty at its end.  Valid until the next call.
	 *  ESP_E2BIG: more than max_body (413); ESP_EPROTO: badly chunked (400); ESP_ETIMEDOUT: too slow
	 *  (408); ESP_ECLOSED.  Return them as they are. */
	ESP_CHECKED esp_status (*read)(esp_http_request *r, size_t max, esp_str *ret);
	/*! ESP_SUSPENDS.  The whole body, once.  As read(); ESP_EBUSY: the bodies of all requests
	 *  take too much memory (503). */
	ESP_CHECKED esp_status (*body)(esp_http_request *r, esp_str *ret);

	/*! A field of the answer, before it begins; copied.  The server's own: Date, Server, Connection, Content-Length,
	 *  Transfer-Encoding.  ESP_EINVAL: one of these, or no field; ESP_E2BIG: more than 8 KiB in all. */
	ESP_CHECKED esp_status (*set)(esp_http_request *r, const char *name, esp_str value);
	/*! ESP_SUSPENDS.  Says ETag: `tag`, without quotes (printable ASCII but `"`).  ESP_EEXIST: the client has just that
	 *  (If-None-Match), 304 was answered, return ESP_OK.  ESP_OK: answer. */
	ESP_CHECKED esp_status (*etag)(esp_http_request *r, esp_str tag);
	/*! ESP_SUSPENDS.  The whole answer: status (200 .. 599), media type (NULL: none), body.  Compressed when the client
	 *  takes gzip and it is text. */
	ESP_CHECKED esp_status (*reply)(esp_http_request *r, uint32_t status, const char *type, esp_str body);
	/*! ESP_SUSPENDS.  The same with one line of text that tells the client what to do. */
	ESP_CHECKED esp_status (*fail)(esp_http_request *r, uint32_t status, const char *text);
	/*! ESP_SUSPENDS.  Begin an answer whose length is not known; write() its pieces, and return ESP_OK when it is
	 *  whole.  Chunked, or up to the end of the connection for an HTTP/1.0 client. */
	ESP_CHECKED esp_status (*begin)(esp_http_request *r, uint32_t status, const char *type);
	/*! ESP_SUSPENDS while the client does not take what is there.  ESP_ECLOSED: nobody listens any more, return it. */
	ESP_CHECKED esp_status (*write)(esp_http_request *r, esp_str piece);
	/*! ESP_SUSPENDS.  All that was written is on its way: for pieces that somebody waits for. */
	ESP_CHECKED esp_status (*flush)(esp_http_request *r);
};

#ifdef __cplusplus
}
#endif
#endif
