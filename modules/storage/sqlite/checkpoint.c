/* checkpoint - pages go from the WAL into the database on a lane of their own, while the writer goes on.
 *
 * A checkpoint writes and syncs thousands of pages: in the writer's COMMIT it would hold up everybody's mail for tens
 * of milliseconds.  A pass beside the writer never meets the end of the WAL, though, and only a WAL that was read to
 * its end is begun anew.  So the lane does the bulk, in passes that get shorter, and the writer the rest between two
 * transactions.
 *
 * A sync of the database that failed may not be tried again: the pages that it was for count as written and are gone.
 * The WAL still has them, and the next start reads it.
 */
#include "checkpoint.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define BEGIN_AT   4000       /* pages in the WAL */
#define WAIT_AT    64000      /* the disk does not keep up: the writer waits */
#define PASSES     3
#define FEW        200        /* pages: little enough for the writer */

enum { IDLE = 0, RUNNING, PASSED };

void checkpoint_file_failed(const struct db *db, const char *what)
{
	fprintf(stderr, "storage_sqlite: %s failed: %s; ending so that the next start recovers from the files\n",
	        what, sqlite3_errmsg(db->handle));
	abort();
}

/* One pass as far as readers allow.  Returns the pages it had to leave. */
static int pass(struct db *db)
{
	int wal = 0, done = 0;
	int rc = sqlite3_wal_checkpoint_v2(db->handle, "main", SQLITE_CHECKPOINT_PASSIVE, &wal, &done);
	int st = db_status(db, rc);

	if (st == ESP_EIO || st == ESP_ECORRUPT)
		checkpoint_file_failed(db, "the checkpoint");
	return st == ESP_OK ? wal - done : 0;   /* no room, or another program is at it: later */
}

static void on_pass(void *arg)   /* checkpoint lane */
{
	struct checkpoint *c = arg;

	for (int i = 0; i < PASSES && pass(c->db) > FEW; i++)
		;
	atomic_store(&c->state, PASSED);
}

static int on_commit(void *arg, sqlite3 *handle, const char *name, int pages)
{
	struct checkpoint *c = arg;

	(void)handle;
	(void)name;
	c->wal_pages = pages;
	return SQLITE_OK;
}

static void wait_for_pass(const struct checkpoint *c)
{
	while (atomic_load(&c->state) == RUNNING)
		usleep(500);
}

void checkpoint_step(struct checkpoint *c)
{
	if (c->wal_pages >= WAIT_AT)
		wait_for_pass(c);
	if (atomic_load(&c->state) == PASSED) {
		pass(c->writer);
		atomic_store(&c->state, IDLE);
	} else if (c->wal_pages >= BEGIN_AT && atomic_load(&c->state) == IDLE) {
		atomic_store(&c->state, RUNNING);
		if (c->core->pool->submit(c->self, c->lane, on_pass, c) != ESP_OK)
			on_pass(c);
	}
}

int checkpoint_open(struct checkpoint *c, const struct db_options *o, struct db *writer, esp_err *err)
{
	struct db_options own = *o;
	int st;

	own.cache_bytes = 1 << 20;
	own.mmap_bytes = 0;
	st = db_open(&own, &c->db, err);
	if (st == ESP_OK) {
		c->writer = writer;
		(void)sqlite3_wal_hook(writer->handle, on_commit, c);   /* instead of SQLite's own, which checkpoints there */
	}
	return st;
}

void checkpoint_close(struct checkpoint *c)
{
	wait_for_pass(c);
	db_close(c->db);
	c->db = NULL;
}
