/* esp/sql.h - "esp.sql/1": reads and writes in portable SQL.
 *
 * Portable means: SQLite 3.40 and PostgreSQL 14 alike.  Parameters are $1, $2 ...; types INTEGER (64 bit) as BIGINT,
 * TEXT (UTF-8), BLOB as BYTEA by the names in the migration text: write BIGINT, TEXT, BLOB and the provider maps them.
 * A database that mail is moved to is the same table under the id "esp.sql.target/1" (storage_sqlite_target,
 * storage_pgsql_target).
 * No triggers, sequences, advisory locks, LISTEN/NOTIFY; INSERT ... ON CONFLICT and RETURNING are fine.  Statement
 * texts are constants: providers prepare each once.
 */
#ifndef ESP_SQL_H
#define ESP_SQL_H

#include <esp/host.h>

#ifdef __cplusplus
extern "C" {
#endif

/*! \brief A value of a column or a parameter, borrowed. */
enum { ESP_SQL_NULL = 0, ESP_SQL_INT, ESP_SQL_TEXT, ESP_SQL_BLOB };
typedef struct { uint32_t type, reserved; int64_t i; esp_str s; } esp_sql_value;

/*! \brief Parameters of a statement: an integer, text (UTF-8, without NUL), bytes. */
#ifndef __cplusplus
#define ESP_SQL_I(v)   ((esp_sql_value){ .type = ESP_SQL_INT, .i = (int64_t)(v) })
#define ESP_SQL_T(v)   ((esp_sql_value){ .type = ESP_SQL_TEXT, .s = (v) })
#define ESP_SQL_B(v)   ((esp_sql_value){ .type = ESP_SQL_BLOB, .s = (v) })
/*! \brief A 16-byte id; the esp_id must outlive the call. */
#define ESP_SQL_ID(id_) ((esp_sql_value){ .type = ESP_SQL_BLOB, .s = { (const char *)(id_).b, 16 } })
#define ESP_SQL_NONE   ((esp_sql_value){ .type = ESP_SQL_NULL })
#endif

/*! \brief A result: rows in arena memory, row-major.  Bounded: 100,000 rows, 64 MiB; more is ESP_E2BIG. */
typedef struct esp_sql_rows {
	uint32_t size;
	uint32_t ncols, nrows;
	uint32_t changed;             /* rows an INSERT, UPDATE or DELETE touched */
	const esp_sql_value *values;  /* nrows * ncols */
} esp_sql_rows;
static inline const esp_sql_value *esp_sql_at(const esp_sql_rows *r, uint32_t row, uint32_t col)
{
	return &r->values[(size_t)row * r->ncols + col];
}

/*! \brief A running transaction.  Only valid inside the function it was given to. */
typedef struct esp_tx esp_tx;
struct esp_tx {
	/*! ret may be NULL.  Rows live until the function returns.  ESP_EEXIST: unique violation; ESP_ECONFLICT: retry
	 *  (return it).  After a failure other than ESP_EEXIST return that status. */
	ESP_CHECKED esp_status (*exec)(
		esp_tx *tx, const char *stmt, const esp_sql_value *args, uint32_t nargs, esp_sql_rows *ret);
	esp_arena *arena;             /* dies when the function returned */
};

/*! \brief Rows a transaction will lock, in the order ESP locks: accounts by id, then mailboxes by id. */
enum { ESP_SQL_KEY_ACCOUNT = 1, ESP_SQL_KEY_MAILBOX = 2 };
typedef struct { uint32_t kind, reserved; esp_id id; } esp_sql_key;

/*! \brief Numbered changes of a module's tables, up and down; contributed as "esp.sql.migrations/1".
 *  `up` and `down` hold statements separated by ";\n".  Numbers are 1 to n without gaps, in the order of `items`.
 *  Each is applied in one transaction, recorded by (module's descriptor name, number), and never edited once
 *  released. */
typedef struct esp_sql_migration { uint32_t number, reserved; const char *title, *up, *down; } esp_sql_migration;
typedef struct esp_sql_migrations {
	uint32_t size, item_size;
	uint32_t n, reserved;
	const char *module;           /* descriptor's name: "storage_mailstore" */
	const esp_sql_migration *items;
} esp_sql_migrations;

enum { /* query flags */
	ESP_SQL_BOUNDED = 1u << 0  /* a few rows by key: may be answered on the worker itself; others go to a lane */
};

/*! \brief The service "esp.sql/1". */
typedef struct esp_sql esp_sql;
struct esp_sql {
	esp_service service;
	/*! [worker, control] ESP_SUSPENDS.  Read only, committed data.  Rows live in `arena`. */
	ESP_CHECKED esp_status (*query)(const esp_sql *sql, uint32_t flags, esp_arena *arena, const char *stmt,
	                                const esp_sql_value *args, uint32_t nargs, esp_sql_rows *ret);
	/*! [worker, control] ESP_SUSPENDS, shielded.  Run fn in a transaction and COMMIT.  fn sees only tx and arg, has no
	 *  other effects, may be run again, may run on another thread, suspends on nothing.  Its negative status rolls back
	 *  and is returned.  PostgreSQL isolates as READ COMMITTED (SQLite has one writer): others may commit between two
	 *  exec(), so read and change a row in one statement (ON CONFLICT ... DO UPDATE).  keys NULL, 0: none.  ESP_OK:
	 *  committed and durable.  ESP_EUNKNOWN: look it up.  ESP_ENOSPC, ESP_EBUSY, ESP_EUNAVAIL: nothing was committed,
	 *  try later. */
	ESP_CHECKED esp_status (*transact)(const esp_sql *sql, const esp_sql_key *keys, uint32_t nkeys,
	                                   esp_status (*fn)(esp_tx *tx, void *arg), void *arg);
	/*! [control, start()] ESP_SUSPENDS.  Bring the tables of every "esp.sql.migrations/1" of the snapshot being built
	 * up to date; nothing to do is cheap.  A module with tables calls it first in its start().  ESP_ECONFIG: the
	 * database is newer than this program, or migrating by itself is switched off. */
	ESP_CHECKED esp_status (*migrate)(const esp_sql *sql, esp_err *err);
	/*! [worker, control] ESP_SUSPENDS, shielded.  Read long and consistently (backup, copy to another engine): run fn
	 * on a thread of its own; all that it reads is the database at one moment.  fn may block and write files.  Rows of
	 *  one exec() live until the next, which may change nothing.  Since minor 1. */
	ESP_CHECKED esp_status (*read)(const esp_sql *sql, esp_status (*fn)(esp_tx *tx, void *arg), void *arg);
	/*! [worker] ESP_SUSPENDS.  Are the engine's own files sound?  *ret: what is wrong, empty when nothing is known to
	 *  be.  May take long.  Since minor 1. */
	ESP_CHECKED esp_status (*check)(const esp_sql *sql, esp_arena *arena, esp_str *ret);
	/*! [worker, control] ESP_SUSPENDS.  On: returns when no transaction runs; until it is off transact() answers
	 *  ESP_EUNAVAIL.  Reads go on.  For the last step of a move to another database.  Since minor 1. */
	ESP_CHECKED esp_status (*pause)(const esp_sql *sql, int32_t on);
	const char *engine;        /* "sqlite", "pgsql": for people.  Since minor 1. */
};

#ifdef __cplusplus
}
#endif
#endif
