/* accept - what the files of delivery/accept share. */
#ifndef ESP_DELIVERY_ACCEPT_H
#define ESP_DELIVERY_ACCEPT_H

#include <esp/accept.h>
#include <esp/crypto.h>
#include <esp/directory.h>
#include <esp/event.h>
#include <esp/eventlog.h>
#include <esp/fiber.h>
#include <esp/mailstore.h>

#define ACCEPT_BUCKETS 256u   /* of each worker's table of reservations */
#define RESERVE_TRIES  16     /* so often more UIDs are reserved for one transaction: esp_mailstore.deliver */

struct reservation;

struct accept {
	esp_accept table;          /* first: services are found by it */
	esp_core core;
	esp_module *self;
	const esp_crypto_api *crypto;
	const esp_event_api *event;
	esp_event_id received, quarantined, released, discarded;
	esp_binding sql, blob, mailstore, eventlog, directory;
	esp_nsec keep;             /* in quarantine; 0: until somebody decides */
	uint32_t nworkers;
	struct reservation **held; /* per worker: quota reserved by transactions in flight for the accounts at home there */
	/* worker 0 */
	int draining;
	esp_fcond wake;            /* draining is set */
};

/*! \brief esp_accept.reserve. */
esp_status reserve(const esp_accept *a, esp_txn *t, const esp_rcpt *r, uint64_t bytes);
void reservations_free(struct accept *a);

/*! \brief esp_accept.deliver. */
esp_status deliver(const esp_accept *a, esp_txn *t, esp_str content, esp_str trace, esp_err *err);

/*! \brief [control, init] Commands of `esp-cli quarantine`. */
ESP_CHECKED esp_status quarantine_declare(struct accept *a);
/*! \brief [worker 0] Remove what was held for `keep`, until told to drain. */
ESP_CHECKED esp_status quarantine_start(struct accept *a);
void quarantine_drain(struct accept *a);

#endif
