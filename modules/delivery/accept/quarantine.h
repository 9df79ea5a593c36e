/* quarantine - what commands.c and quarantine.c share: messages that are held outside the mailboxes. */
#ifndef ESP_DELIVERY_ACCEPT_QUARANTINE_H
#define ESP_DELIVERY_ACCEPT_QUARANTINE_H

#include "accept.h"

/* Rows of before the message was kept: its first copy, which is mostly the only one, has its id. */
#define HELD_COLUMNS "id, at, sender, recipient, bytes, folder, reason, account_id, blob_id," \
	" COALESCE(message_id, blob_id)"
enum { COL_ID, COL_AT, COL_FROM, COL_TO, COL_BYTES, COL_FOLDER, COL_REASON, COL_ACCOUNT, COL_BLOB, COL_MESSAGE };

/*! \brief A row; strings live as long as the rows. */
struct held { esp_id id, account, blob; esp_str from, to; int64_t bytes; };

/*! \brief Row r of a query for HELD_COLUMNS. */
struct held held_of(const esp_sql_rows *rows, uint32_t r);
esp_id held_id(const esp_sql_value *v);
/*! \brief [worker 0] ESP_SUSPENDS.  Gone for good; why: "deleted" or "expired".  ESP_ENOENT: it was not held any
 *  more. */
ESP_CHECKED esp_status held_drop(struct accept *a, const struct held *h, const char *why_gone);
/*! \brief [worker 0] ESP_SUSPENDS.  Deliver it into the folder.  ESP_ENOENT: it was not held any more, its account or
 *  its file is gone. */
ESP_CHECKED esp_status held_release(struct accept *a, esp_arena *arena, const struct held *h, esp_str folder);
/*! \brief NULL: the database is away. */
const esp_sql *quarantine_sql(const struct accept *a);

#endif
