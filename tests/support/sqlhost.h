/* tests/support/sqlhost.h - a host for one storage module: real workers and fibers, a real SQLite file, small doubles
 * for the rest.
 *
 *	sqlhost_run(2, body, arg);     body runs in a fiber of worker 0 with the module started
 *
 * The writer is one lane; with `rerun` every transaction is run, rolled back, and run again, as a provider may do.
 * Folder jobs are rows of the test_job table, so they live and die with their transaction.  Checks abort: a failed
 * Criterion assertion cannot leave a fiber.
 */
#ifndef TESTS_SUPPORT_SQLHOST_H
#define TESTS_SUPPORT_SQLHOST_H

#include "core/loop/loop.h"
#include "modules/storage/sqlite/db.h"
#include "tests/support/texthost.h"

#include <esp/blob.h>
#include <esp/directory.h>
#include <esp/event.h>
#include <esp/log.h>
#include <esp/mailstore.h>
#include <stdio.h>
#include <stdlib.h>

#define must(cond) \
	do { if (!(cond)) { fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #cond); abort(); } } while (0)
#define must_ok(call) \
	do { esp_status must_st_ = (call); if (must_st_ != ESP_OK) { \
		fprintf(stderr, "%s:%d: %s: %d\n", __FILE__, __LINE__, #call, must_st_); abort(); } } while (0)
#define must_be(call, status) \
	do { esp_status must_st_ = (call); if (must_st_ != (status)) { \
		fprintf(stderr, "%s:%d: %s: %d, not " #status "\n", __FILE__, __LINE__, #call, must_st_); abort(); } } while (0)

#define SQLHOST_BLOBS  65536u
#define SQLHOST_EVENTS 16u

struct sqlhost_blob { esp_id id; char *data; size_t len; };

struct sqlhost {
	struct module_core *core;
	esp_module *self;
	const esp_service *provided;       /* by the module */
	const esp_mailstore *store;        /* the same, when it is the mailstore */
	char dir[64];
	uint32_t workers;
	/* sql */
	esp_sql sql;
	struct db *writer, *reader, **own; /* own: by worker */
	esp_lane *lane;
	pthread_mutex_t read_lock;
	atomic_int rerun;                  /* run every transaction twice */
	atomic_uint transactions, statements;
	/* textindex */
	const esp_textindex *texts;
	int without_texts;
	atomic_llong indexed;              /* messages the module says it indexed */
	/* blob */
	esp_blob blob;
	pthread_mutex_t blob_lock;
	struct sqlhost_blob *blobs;
	uint32_t nblobs;
	const char *_Atomic unreadable;    /* messages with this text: the disk fails */
	atomic_uint marks;                 /* files of folders written */
	atomic_int marks_fail;             /* no room for them */
	/* directory */
	int with_directory;
	uint64_t directory_quota;
	/* log */
	atomic_uint logged[ESP_LOG_DEBUG + 1];   /* lines, by level */
	/* bus */
	struct { char name[40]; atomic_uint count; } event[SQLHOST_EVENTS];
	uint32_t nevents, nsubscriptions;
	esp_subscription subscription[4];
	atomic_uint published;             /* topics */
	/* configuration of the module */
	int64_t max_mailboxes, view_memory, view_idle, account_ttl, store_rows;
};

extern struct sqlhost *sqlhost;

/*! \brief Set up, run body(arg) in a fiber of worker 0, take everything down.  `tune` (may be NULL) may change the
 *  host before the module starts. */
void sqlhost_run_tuned(uint32_t workers, void (*tune)(struct sqlhost *h), void (*body)(void *arg), void *arg);
static inline void sqlhost_run(uint32_t workers, void (*body)(void *arg), void *arg)
{
	sqlhost_run_tuned(workers, NULL, body, arg);
}
/*! \brief [fiber] Run fn(arg) in a fiber of that worker and wait for its end. */
void sqlhost_on(uint32_t worker, void (*fn)(void *arg), void *arg);
/*! \brief [fiber] Wait until the search index knows all that was committed. */
void sqlhost_indexed(void);
/*! \brief [any] */
uint32_t sqlhost_events(const char *name);
esp_arena *sqlhost_arena(void);
void sqlhost_arena_free(esp_arena *a);
void sqlhost_arena_reset(esp_arena *a);
void sqlhost_unref(const void *rc);
/*! \brief A stored blob of these bytes. */
esp_id sqlhost_blob_put(const char *data, size_t len);
/*! \brief Rows of a statement with one integer; aborts when there is none. */
int64_t sqlhost_int(const char *stmt, const esp_sql_value *args, uint32_t nargs);
esp_sql_rows sqlhost_rows(esp_arena *a, const char *stmt, const esp_sql_value *args, uint32_t nargs);

#endif
