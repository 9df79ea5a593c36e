/* clamav.h - parts of filter_clamav.
 *
 *   module.c    settings, life cycle, the hook: what is done with what clamd says
 *   scan.c      one message and the servers: who is asked, in which time, what comes back
 *   reply.c     what clamd answers, read with suspicion
 *   report.c    metrics, log, `esp-cli clamav status`
 */
#ifndef MODULES_FILTER_CLAMAV_H
#define MODULES_FILTER_CLAMAV_H

#include <esp/dial.h>
#include <esp/hook.h>
#include <esp/host.h>
#include <esp/mail.h>
#include <esp/metric.h>
#include <esp/slot.h>

#include "modules/common/failover.h"
#include "modules/common/server.h"

#define REPLY_MOST 2048u    /* bytes of an answer */
#define NAME_MOST  100u     /* of the name of a virus, as it is shown */

/* --- reply.c ----------------------------------------------------------------------------------------------------- */

/*! \brief An answer that comes in pieces.  Zero-initialise. */
struct reply { size_t len; char text[REPLY_MOST]; };

enum reply_kind { REPLY_CLEAN = 1, REPLY_VIRUS, REPLY_TOO_LARGE, REPLY_ERROR, REPLY_GARBAGE };

/*! \brief [any] The next piece.  ESP_OK: the answer is whole (it ends with NUL).  ESP_EAGAIN: more is to come.
 *  ESP_EPROTO: a byte that has no place in it, or one behind its end; ESP_E2BIG: no end within REPLY_MOST. */
esp_status reply_add(struct reply *r, const char *piece, size_t n);
/*! \brief [any] What a whole answer to INSTREAM says.  *ret_name, of REPLY_VIRUS only: a span of it, at least a
 *  byte. */
enum reply_kind reply_read(esp_str text, esp_str *ret_name);
/*! \brief [any] The name for headers, replies and logs: ASCII, no blanks, at most NAME_MOST bytes. */
void reply_clean_name(esp_str name, char out[NAME_MOST + 1]);

/* --- module.c ---------------------------------------------------------------------------------------------------- */

enum policy { POLICY_ACCEPT, POLICY_QUARANTINE, POLICY_DEFER, POLICY_REJECT };   /* order of `too_large` */
enum remedy { REMEDY_REJECT, REMEDY_QUARANTINE, REMEDY_DISCARD };                /* order of `on_virus` */

/*! \brief What holds for one group of recipients. */
struct settings {
	uint32_t remedy, too_large;
	uint64_t max_size;
};

enum result { RESULT_CLEAN, RESULT_VIRUS, RESULT_TOO_LARGE, RESULT_FAILED, RESULTS };

/*! \brief What the scan of a message came to; its slot.  One scan serves all groups of recipients. */
struct finding {
	int32_t known;
	enum result result;
	char name[NAME_MOST + 1];        /* of RESULT_VIRUS */
	char text[NAME_MOST + 40], header[NAME_MOST + 40];
	esp_str header_str;
};

/*! \brief Scans of one worker. */
struct desk { esp_fcond room; uint32_t busy; };

struct clamav {
	esp_core core;
	esp_module *self;
	const esp_dial_api *dial;
	const esp_metric_api *metric;
	const esp_slot_api *slot;
	esp_slot finding;
	const esp_cfg *cfg;
	uint32_t most;                   /* scans of a worker at once */
	esp_nsec connect_timeout;
	struct server *server;           /* failover.n */
	struct failover failover;
	struct desk *desk;               /* by worker */
	esp_fiber *greeter;              /* asks at the start who is there; NULL: ended */
	esp_metric scans[RESULTS], seconds, bytes, failures;
};

/* --- scan.c ------------------------------------------------------------------------------------------------------ */

/*! \brief [worker] ESP_SUSPENDS until the fiber's deadline at most.  Ask one server after the other. */
enum result scan(struct clamav *c, esp_str content, char name[NAME_MOST + 1]);
/*! \brief [worker, control] ESP_SUSPENDS.  One command without arguments (with its "z" and its NUL) and its answer. */
esp_status ask(const struct clamav *c, uint32_t server, esp_str command, struct reply *ret, esp_err *err);

/* --- report.c ---------------------------------------------------------------------------------------------------- */

esp_status report_declare(struct clamav *c);
void report_scan(const struct clamav *c, enum result r, uint64_t bytes, esp_nsec took);
/*! \brief [worker, control] A server answered (ESP_OK) or did not; `err` may have no text. */
void report_server(struct clamav *c, uint32_t server, esp_status st, const esp_err *err);
/*! \brief [control, start] Ask every server for its version, beside the start: what is wrong is said now, and not by
 *  the first message. */
void report_greet(struct clamav *c);
/*! \brief [control, init] */
esp_status report_contribute(const struct clamav *c);

#endif
