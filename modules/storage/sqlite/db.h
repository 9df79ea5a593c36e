/* db - one SQLite connection with its prepared statements.  Used by one thread at a time; whoever opens it closes
 * it. */
#ifndef ESP_STORAGE_SQLITE_DB_H
#define ESP_STORAGE_SQLITE_DB_H

#include <esp/sql.h>
#include <sqlite3.h>

#include "modules/common/seldom.h"

#define DB_STATEMENTS 512u   /* prepared at most; a power of two */
#define DB_PARAMS     40u    /* $1 .. $40 */
#define DB_ROWS_MAX   100000u
#define DB_BYTES_MAX  (64u << 20)

struct db_stmt {
	uint64_t hash;
	char *text;
	sqlite3_stmt *stmt;
	uint32_t nparams;
	uint8_t param[DB_PARAMS]; /* $k stands at this index of SQLite's; 0: not used */
};

/*! \brief Where connections say that their file failed them. */
struct db_trouble { const esp_core *core; esp_module *self; struct seldom seldom; };

struct db {
	uint32_t magic;
	sqlite3 *handle;
	struct db_trouble *trouble;
	struct db_stmt *stmts;    /* open addressing, DB_STATEMENTS entries */
	uint32_t nstmts;
};

/*! \brief trouble: outlives the connection; NULL: nobody is told.  vfs: of vfs.h; NULL: SQLite's own. */
struct db_options {
	const char *path, *vfs;
	int64_t cache_bytes, mmap_bytes;
	int busy_ms, writer;
	struct db_trouble *trouble;
};

/*! \brief Page cache of a connection that wants `most`: the administrator may have allowed less for any. */
static inline int64_t db_cache(const struct db_options *o, int64_t most)
{
	return o->cache_bytes < most ? o->cache_bytes : most;
}
/*! \brief [control] Settings of the library; once, before the first db_open(). */
void db_init(void);
/*! \brief Open and set the pragmas.  A missing file is made only for the writer. */
int db_open(const struct db_options *o, struct db **ret, esp_err *err);
void db_close(struct db *db);
/*! \brief Run one statement; rows (ret may be NULL) go into `arena`. */
int db_exec(struct db *db, esp_arena *arena, const char *text, const esp_sql_value *args, uint32_t nargs,
	esp_sql_rows *ret);
/*! \brief Run a text of several statements without parameters or rows (migrations, BEGIN). */
int db_script(struct db *db, const char *text, esp_err *err);
/*! \brief The ESP status of the connection's last SQLite result. */
int db_status(struct db *db, int rc);
/*! \brief What SQLite said last, of which file, and what to do. */
void db_reason(const struct db *db, esp_err *err);
/*! \brief [any] Log it, once a minute for all connections together. */
void db_tell(struct db_trouble *t, const esp_err *reason);

#endif
