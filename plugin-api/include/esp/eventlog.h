/* esp/eventlog.h - "esp.eventlog/1": events that others rely on, durable with the change they report.
 *
 * append() writes the row in the transaction of the change, without a position; one sequencer numbers committed rows
 * densely; cursors read positions only.  After COMMIT call committed() so that the sequencer hears of it, and publish
 * the same fact on the bus (esp/event.h) for log, metrics and whoever need not be sure.
 */
#ifndef ESP_EVENTLOG_H
#define ESP_EVENTLOG_H

#include <esp/event.h>
#include <esp/sql.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct esp_eventlog_entry {
	uint32_t size, reserved;
	uint64_t position;          /* dense, ascending; 0 before it is numbered */
	esp_id id, account;
	esp_str name, body;         /* body: one JSON object */
	esp_time at;
} esp_eventlog_entry;

/*! \brief The service "esp.eventlog/1". */
typedef struct esp_eventlog esp_eventlog;
struct esp_eventlog {
	esp_service service;
	/*! [in transact's fn] `account` zero: concerns no account.  Fields as of the declared event. */
	ESP_CHECKED esp_status (*append)(const esp_eventlog *l, esp_tx *tx, const char *name, esp_id account,
	                                 const esp_field *fields, uint32_t n, uint32_t field_size);
	/*! [any] Something was committed: number it soon. */
	void (*committed)(const esp_eventlog *l);
	/*! [worker, control] ESP_SUSPENDS.  A fact without a transaction of its own. */
	ESP_CHECKED esp_status (*append_now)(const esp_eventlog *l, const char *name, esp_id account,
	                                     const esp_field *fields, uint32_t n, uint32_t field_size);
	/*! [worker, control] ESP_SUSPENDS.  Up to max entries behind position `after`, oldest first. */
	ESP_CHECKED esp_status (*read)(const esp_eventlog *l, esp_arena *arena, uint64_t after, uint32_t max,
	                               esp_eventlog_entry *ret, uint32_t *ret_n);
	/*! [worker, control] ESP_SUSPENDS.  Position of the newest numbered entry, 0: there never was one.  Where a reader
	 *  begins who wants what comes from now on.  Since minor 1. */
	ESP_CHECKED esp_status (*end)(const esp_eventlog *l, uint64_t *ret);
};

#ifdef __cplusplus
}
#endif
#endif
