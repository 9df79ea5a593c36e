/* esp/accept.h - "esp.accept/1": the one door for mail.  250 means durable.
 *
 * Blob durable, then one transaction: message row, mailbox rows, (later) queue rows, events.  COMMIT acknowledged,
 * then deliver() returns ESP_OK and the reply may be 250.  Many messages share one flush and one COMMIT.
 */
#ifndef ESP_ACCEPT_H
#define ESP_ACCEPT_H

#include <esp/blob.h>
#include <esp/mail.h>

#ifdef __cplusplus
extern "C" {
#endif

/*! \brief The service "esp.accept/1". */
typedef struct esp_accept esp_accept;
struct esp_accept {
	esp_service service;
	/*! [worker] ESP_SUSPENDS, shielded once the blob is being committed.  Store `content`, the message of `t` (after
	 *  message()), for every recipient by its verdict: CONTINUE and ACCEPT are delivered, QUARANTINE (and REJECT in a
	 *  mixed result) goes to the quarantine, DISCARD is dropped.  `trace` is put in front of every copy (Received;
	 *  Return-Path is added here).  ESP_OK: durable.  Anything else: nothing is stored and the reply is 4xx
	 *  (ESP_EQUOTA, ESP_ENOSPC: 452).  The trace of `t` is stored with it; call it for DISCARD, too: there it is all
	 *  that remains. */
	ESP_CHECKED esp_status (*deliver)(const esp_accept *a, esp_txn *t, esp_str content, esp_str trace, esp_err *err);
	/*! [worker] ESP_SUSPENDS.  RCPT: is there room for `bytes` (0: unknown) in this account?  Counts the reservation
	 *  on the transaction until end().  ESP_OK or ESP_EQUOTA. */
	ESP_CHECKED esp_status (*reserve)(const esp_accept *a, esp_txn *t, const esp_rcpt *r, uint64_t bytes);
	/*! [worker] A chain refused something of `t` (DEFER, REJECT): unless it is delivered after all, its trace is kept
	 *  when it ends, by a small transaction of many such, so the reply waits for nothing.  Under a flood some are
	 *  dropped and counted.  Harmless when called again.  Since ABI 1.1. */
	void (*refused)(const esp_accept *a, esp_txn *t);
};

#ifdef __cplusplus
}
#endif
#endif
