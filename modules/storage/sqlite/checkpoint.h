/* checkpoint - pages go from the WAL into the database on a lane of their own, while the writer goes on. */
#ifndef ESP_STORAGE_SQLITE_CHECKPOINT_H
#define ESP_STORAGE_SQLITE_CHECKPOINT_H

#include "db.h"

#include <esp/host.h>

#include <stdatomic.h>

struct checkpoint {
	esp_core *core;
	esp_module *self;
	esp_lane *lane;            /* private, width 1 */
	struct db *db, *writer;    /* the lane's connection; the writer's, used on its own thread only */
	atomic_int state;
	/* writer's thread only: pages in the WAL after the last COMMIT, how many of them the last checkpoint had in the
	 * database, how many make the next one begin */
	int wal_pages, done, begin_at;
};

/*! \brief [writer's lane] The writer's connection is open: its COMMITs are counted from now on. */
int checkpoint_open(struct checkpoint *c, const struct db_options *o, struct db *writer, esp_err *err);
/*! \brief [writer's lane] Between two transactions: begin or finish a checkpoint when the WAL is long enough.  Waits
 *  only when the disk is so slow that the WAL grew to many times that length. */
void checkpoint_step(struct checkpoint *c);
/*! \brief [writer's lane] Waits for a pass that runs. */
void checkpoint_close(struct checkpoint *c);
/*! \brief SQLite could not write or sync: what is on disk is unknown to us, and only recovery from the files is
 *  sure. */
_Noreturn void checkpoint_file_failed(const struct db *db, const char *what);

#endif
