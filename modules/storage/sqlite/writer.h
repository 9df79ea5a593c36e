/* writer - the one thread that writes: many transactions per COMMIT. */
#ifndef ESP_STORAGE_SQLITE_WRITER_H
#define ESP_STORAGE_SQLITE_WRITER_H

#include "checkpoint.h"
#include "db.h"
#include "vfs.h"

#include <esp/metric.h>
#include "modules/common/batch.h"
#include "modules/common/timing.h"

struct writer {
	esp_core *core;
	esp_module *self;
	esp_lane *lane;            /* private, width 1 */
	struct db *db;             /* used on the lane only, once started */
	struct vfs vfs;            /* of db */
	esp_arena *arena;          /* for one transaction's rows; lane only */
	struct batch batch;
	struct checkpoint checkpoint;
	uint32_t careful;          /* so many batches more run with savepoints; lane only */
	const esp_metric_api *metric;
	uint32_t locked_batches;   /* in a row, that another program's lock kept from beginning; lane only */
	esp_nsec locked_since, told_locked;
	esp_nsec cached_since;     /* the page cache is from then on; lane only */
	esp_metric commits, transactions, retries;
	struct timing_sql seconds;
};

/*! \brief [control] Lane and database are open: work may come. */
void writer_start(struct writer *w);
/*! \brief [worker, control; fiber] ESP_SUSPENDS, shielded: see esp_sql.transact. */
esp_status writer_transact(struct writer *w, esp_status (*fn)(esp_tx *tx, void *arg), void *arg);

#endif
