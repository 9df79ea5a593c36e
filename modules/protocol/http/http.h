/* http - what the files of protocol/http share. */
#ifndef ESP_PROTOCOL_HTTP_H
#define ESP_PROTOCOL_HTTP_H

#include <esp/health.h>
#include <esp/hook.h>
#include <esp/http.h>
#include <esp/metric.h>
#include <esp/mail/buf.h>

#include <stdatomic.h>

#include "head.h"
#include "target.h"
#include "gzip.h"
#include "modules/common/intake.h"

#define ROUTES_COUNTED 256u

/* The series of one route; made on the control thread, then only read. */
struct count {
	uint64_t hash;
	char method[8], path[TARGET_PATTERN + 1];
	esp_metric status[4];      /* 2xx to 5xx */
	esp_metric seconds;
};

struct http {
	esp_http table;            /* first: the service is found by it */
	esp_core core;
	esp_module *self;
	const esp_listen_api *listen;
	const esp_hook_api *hook;
	const esp_metric_api *metric;
	const esp_health_api *health;
	esp_binding auth;
	esp_worker *control;
	struct limits limits;
	struct intake intake;      /* bodies in memory */
	uint32_t max_requests;
	esp_nsec idle, head_time, request_time;
	esp_str token;
	uint8_t admin_loopback, access_log, compress;
	atomic_uint streams;       /* gzip streams of answers without a length */
	esp_metric connections;
	struct count nobody;       /* requests that no route answered */
	atomic_uint counted;
	_Atomic(struct count *) counts[ROUTES_COUNTED];
	atomic_uint asking;        /* series of a route are being made */
};

#define SESSION_MAGIC 0x50545448u
struct request;

/* One client.  What it keeps while it is parked between two requests is this alone. */
struct session {
	uint32_t magic;
	uint32_t requests;         /* answered on this connection */
	struct http *http;
	esp_conn *conn;
	struct reader reader;      /* the head that is coming */
	esp_nsec head_began;       /* its first byte; 0: none is under way */
	struct request *request;   /* memory for one, while session() runs */
	uint8_t last;              /* the answer under way is the last one here */
	uint8_t shaped;            /* max_line and silence are set */
};

/* What is left of a body. */
struct body {
	uint64_t left;             /* of the body, or of the chunk */
	uint64_t taken, overhead;  /* bytes given to the handler; of lines around chunks */
	uint8_t begun, done;
	struct fault fault;        /* the status of a read that failed */
	esp_buf whole;             /* body() */
	uint64_t counted;          /* of it in http->intake */
};

/* The answer. */
struct answer {
	uint32_t status;           /* 0: not begun */
	uint8_t whole, chunked, failed, empty;   /* empty: no bytes may follow the head (HEAD, 204, 304) */
	uint8_t encoded, cached, typed;          /* the handler has set Content-Encoding, Cache-Control */
	uint64_t bytes;            /* of the body, as they were sent */
	struct gzip *gzip;
	esp_buf fields;            /* of set() */
	char tag[204];             /* of etag(), NUL-terminated */
};

/* One request; zeroed for each, so that nothing of one is seen by the next. */
struct request {
	esp_http_request pub;      /* first */
	struct session *session;
	struct http *http;
	esp_module *by;            /* whose route it is */
	const char *route;         /* its pattern, for log and metrics; NULL: none */
	uint8_t keep;              /* the connection stays */
	esp_nsec began, step;      /* step: what handle() may take */
	struct body body;
	struct answer answer;
	struct match match;
	esp_identity who;
	struct head head;          /* last: not zeroed as a whole */
};

static inline struct request *request_of(const esp_http_request *r) { return (struct request *)(uintptr_t)r; }
static inline int is_get(const struct request *r)
{
	return esp_str_eq(r->head.method, ESP_STR("GET")) || esp_str_eq(r->head.method, ESP_STR("HEAD"));
}

/* session.c */
extern const esp_protocol http_protocol;

/* request.c */
/*! \brief ESP_SUSPENDS.  Answer the request whose head is in the session's reader.  ESP_OK: the connection stays. */
ESP_CHECKED esp_status request_run(struct session *s);
/*! \brief ESP_SUSPENDS.  Answer what is no request, or cannot be one now; the connection ends. */
void request_refuse(struct session *s, struct fault f);
/*! \brief From now on, until something is waited for again, handle() has this long. */
void request_step(struct request *r);

/* route.c */
struct route { const esp_http_route *item; esp_module *by; };
/*! \brief The route that fits best, and what it read from the path; or 404, 405 (*ret_allow, in the room given, lists
 *  the methods that there are). */
struct fault route_find(struct request *r, struct route *ret, char *allow, size_t room);
/*! \brief Call each() for every route of the running fiber's snapshot that can be served. */
void route_each(const struct http *h, void (*each)(void *arg, const esp_http_route *route), void *arg);

/* access.c */
/*! \brief ESP_SUSPENDS.  May this request have that route?  401, 403, 429 or 503 when not, with fields set. */
struct fault access_check(struct request *r, const esp_http_route *route);

/* body.c */
ESP_CHECKED esp_status body_read(esp_http_request *r, size_t max, esp_str *ret);
ESP_CHECKED esp_status body_whole(esp_http_request *r, esp_str *ret);
/*! \brief Can the client's next request be found behind what is left of this body, without much reading? */
int body_is_short(const struct request *r);
/*! \brief ESP_SUSPENDS.  Read that rest and throw it away. */
ESP_CHECKED esp_status body_skip(struct request *r);
void body_end(struct request *r);

/* answer.c */
ESP_CHECKED esp_status answer_set(esp_http_request *r, const char *name, esp_str value);
ESP_CHECKED esp_status answer_etag(esp_http_request *r, esp_str tag);
ESP_CHECKED esp_status answer_reply(esp_http_request *r, uint32_t status, const char *type, esp_str body);
ESP_CHECKED esp_status answer_fail(esp_http_request *r, uint32_t status, const char *text);
ESP_CHECKED esp_status answer_begin(esp_http_request *r, uint32_t status, const char *type);
ESP_CHECKED esp_status answer_write(esp_http_request *r, esp_str piece);
ESP_CHECKED esp_status answer_flush(esp_http_request *r);
/*! \brief ESP_SUSPENDS.  The last chunk of a stream. */
ESP_CHECKED esp_status answer_end(struct request *r);
/*! \brief ESP_SUSPENDS.  "100 Continue": the client may send the body. */
ESP_CHECKED esp_status answer_continue(struct request *r);
/*! \brief Free what it holds. */
void answer_free(struct request *r);
/*! \brief What to answer to a handler's status. */
struct fault answer_fault(esp_status st);

/* counts.c */
ESP_CHECKED esp_status counts_declare(struct http *h);
/*! \brief [control] In start(): the routes that are there already. */
void counts_known(struct http *h);
void counts_add(struct request *r, esp_nsec took);

#endif
