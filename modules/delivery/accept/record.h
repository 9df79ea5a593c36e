/* record - what record.c, explain.c and deliver.c share: the stored trace of a message. */
#ifndef ESP_DELIVERY_ACCEPT_RECORD_H
#define ESP_DELIVERY_ACCEPT_RECORD_H

#include "accept.h"
#include "record_text.h"

/*! \brief One row; strings are borrowed. */
struct record {
	esp_id id;                 /* of the message; its time is the record's (RFC 9562 5.7) */
	const char *outcome;
	esp_str from, text;
	uint32_t nrcpt, shadow;    /* shadow: calls of shadow hooks that said something */
};

/*! \brief [worker] The record of `t` in its arena.  ESP_ENOENT: nobody was asked, or no traces are kept: no row. */
ESP_CHECKED esp_status record_of(const struct accept *a, const esp_txn *t, const char *outcome, struct record *ret);
/*! \brief [in transact's fn] Store it, with the events others rely on; `log` NULL: without them. */
ESP_CHECKED esp_status record_tx(const struct record *r, esp_tx *tx, const esp_eventlog *log);
/*! \brief [worker] It was delivered: esp_accept.refused() of it is forgotten. */
void record_delivered(const struct accept *a, const esp_txn *t);
/*! \brief The oldest id that is kept (expiry), or the first of a time: that id's milliseconds, then zeros. */
esp_id record_id_at(int64_t unix_msec);
static inline int64_t record_msec(esp_id id)
{
	int64_t msec = 0;

	for (int i = 0; i < 6; i++)
		msec = msec << 8 | id.b[i];
	return msec;
}

#endif
