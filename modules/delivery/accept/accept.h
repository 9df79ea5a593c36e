/* accept - what the files of delivery/accept share. */
#ifndef ESP_DELIVERY_ACCEPT_H
#define ESP_DELIVERY_ACCEPT_H

#include <esp/accept.h>
#include <esp/crypto.h>
#include <esp/directory.h>
#include <esp/event.h>
#include <esp/eventlog.h>
#include <esp/fiber.h>
#include <esp/hook.h>
#include <esp/mailstore.h>
#include <esp/metric.h>
#include <esp/slot.h>

#include "modules/common/seldom.h"

#define ACCEPT_BUCKETS 256u   /* of each worker's table of reservations */
#define SWEEP_EVERY    (600 * ESP_SEC)
#define SWEEP_AGAIN    (10 * ESP_SEC)
#define RESERVE_TRIES  16     /* so often more UIDs are reserved for one transaction: esp_mailstore.deliver */

/*! \brief What became of a recipient's copy, in esp_accept_copies_total. */
enum copy_outcome { COPY_STORED, COPY_HELD, COPY_DISCARDED, COPY_RELEASED, COPY_OUTCOMES };

struct refusal;
struct reservation;

struct accept {
	esp_accept table;          /* first: services are found by it */
	esp_core core;
	esp_module *self;
	const esp_crypto_api *crypto;
	const esp_event_api *event;
	const esp_hook_api *hook;
	const esp_metric_api *metric;
	const esp_slot_api *slots;
	esp_event_id received, quarantined, released, discarded;
	esp_binding sql, blob, mailstore, eventlog, directory;
	esp_nsec keep;             /* in quarantine; 0: until somebody decides */
	esp_metric copies[COPY_OUTCOMES];
	uint32_t nworkers;
	struct reservation **held; /* per worker: quota reserved by transactions in flight for the accounts at home there */
	/* traces */
	esp_nsec trace_keep;       /* 0: none are kept */
	esp_slot refused;          /* on transactions */
	esp_metric dropped;
	struct seldom said_dropped;
	atomic_uint waiting;       /* of refused messages: on their way to worker 0, queued or being written */
	/* worker 0 */
	struct refusal *queue, **queue_end;
	_Atomic esp_nsec refilled; /* when `allowed` grew last; 0: never */
	atomic_uint allowed;       /* refused messages whose traces may be kept now */
	int writing, draining;
	esp_fcond wake;            /* draining is set */
};

/*! \brief esp_accept.reserve. */
esp_status reserve(const esp_accept *a, esp_txn *t, const esp_rcpt *r, uint64_t bytes);
void reservations_free(struct accept *a);

/*! \brief esp_accept.deliver. */
esp_status deliver(const esp_accept *a, esp_txn *t, esp_str content, esp_str trace, esp_err *err);

/*! \brief [control, init] Commands of `esp-cli quarantine`. */
ESP_CHECKED esp_status quarantine_declare(struct accept *a);
/*! \brief [worker 0] ESP_SUSPENDS.  Remove messages whose time is over, at most a hundred; when to look again. */
esp_nsec quarantine_expire(struct accept *a, esp_arena *arena);

/*! \brief esp_accept.refused. */
void refused(const esp_accept *a, esp_txn *t);
/*! \brief [control, init] The slot and the counter of traces. */
ESP_CHECKED esp_status record_declare(struct accept *a);
/*! \brief [worker 0] ESP_SUSPENDS.  The same for traces, a thousand. */
esp_nsec record_expire(struct accept *a, esp_arena *arena);
/*! \brief [control, init] `esp-cli trace`. */
ESP_CHECKED esp_status explain_declare(struct accept *a);

/*! \brief [worker 0] Both again and again, until told to drain. */
ESP_CHECKED esp_status sweep_start(struct accept *a);
void sweep_drain(struct accept *a);

#endif
