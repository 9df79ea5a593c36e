/* checkpoint - pages go from the WAL into the database on a lane of their own, while the writer goes on.
 *
 * A checkpoint writes and syncs thousands of pages: in the writer's COMMIT it would hold up everybody's mail for tens
 * of milliseconds.  A pass beside the writer never meets the end of the WAL, though, and only a WAL that was read to
 * its end is begun anew.  So the lane does the bulk, in passes that get shorter, and the writer the rest between two
 * transactions.  A reader that stays (a backup) keeps what came after it in the WAL: when a checkpoint moved nothing,
 * the next waits until there is as much again.
 *
 * A sync of the database that failed may not be tried again: the pages that it was for count as written and are gone.
 * The WAL still has them, and the next start reads it.
 */
#include "checkpoint.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BEGIN_AT   4000       /* pages in the WAL */
#define WAIT_AT    64000      /* the disk does not keep up: the writer waits */
#define PASSES     3
#define FEW        200        /* pages: little enough for the writer */

enum { IDLE = 0, RUNNING, PASSED };

void checkpoint_file_failed(const struct db *db, const char *what)
{
	fprintf(stderr, "storage_sqlite: %s failed: %s (%d, %s); ending so that the next start recovers from the files\n",
		what, sqlite3_errmsg(db->handle), sqlite3_extended_errcode(db->handle),
		strerror(sqlite3_system_errno(db->handle)));
	abort();
}

/* One pass as far as readers allow.  Returns the pages it had to leave; *ret_done: how many of the WAL are in the
 * database now. */
static int pass(struct db *db, int *ret_done)
{
	int wal = 0, done = 0;
	int rc = sqlite3_wal_checkpoint_v2(db->handle, "main", SQLITE_CHECKPOINT_PASSIVE, &wal, &done);
	int st = db_status(db, rc);

	if (st == ESP_EIO || st == ESP_ECORRUPT)
		checkpoint_file_failed(db, "the checkpoint");
	if (st != ESP_OK)
		return 0;                           /* no room, or another program is at it: later */
	*ret_done = done;
	return wal - done;
}

static void on_pass(void *arg)   /* checkpoint lane */
{
	struct checkpoint *c = arg;
	int done;

	for (int i = 0; i < PASSES && pass(c->db, &done) > FEW; i++)
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

/* The rest, between two transactions. */
static void finish(struct checkpoint *c)
{
	int before = c->done;

	(void)pass(c->writer, &c->done);
	c->begin_at = c->done == before ? c->wal_pages + BEGIN_AT : BEGIN_AT;
	atomic_store(&c->state, IDLE);
}

void checkpoint_step(struct checkpoint *c)
{
	if (c->wal_pages < BEGIN_AT) {              /* it was begun anew */
		c->begin_at = BEGIN_AT;
		c->done = 0;
	}
	if (c->wal_pages >= WAIT_AT)
		wait_for_pass(c);
	if (atomic_load(&c->state) == PASSED) {
		finish(c);
	} else if (c->wal_pages >= c->begin_at && atomic_load(&c->state) == IDLE) {
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
