/* pgsql - what the files of storage/pgsql share.
 *
 *   pgsql.c       the module: configuration, services, life
 *   address.c     host names, addresses, parameters of a connection
 *   link.c        one connection in pipeline mode: opening, sending, answers in order
 *   statement.c   prepared statements of a connection, found by their text
 *   rows.c        results and error codes of libpq as those of esp.sql/1
 *   hub.c         the connections of one worker, and its clock
 *   query.c       reads
 *   group.c       transactions, many per COMMIT
 *   bundle.c      the same change many times, as one statement
 *   outcome.c     what became of a COMMIT whose answer was lost
 *   tables.c      migrations
 *   snapshot.c    reads that take long, of one moment
 *   texts.c       the search index: texts in, texts found
 *   textlink.c    its own connections, and its tables
 *
 * Each worker has a hub with connections of its own, used on that worker only: no lock, no atomic.  Nothing lives
 * long: a fiber connects while somebody waits, another runs batches while jobs are queued; an idle hub holds sockets.
 */
#ifndef ESP_STORAGE_PGSQL_H
#define ESP_STORAGE_PGSQL_H

#include <esp/command.h>
#include <esp/crypto.h>
#include <esp/metric.h>
#include <esp/sql.h>
#include <esp/textindex.h>
#include <libpq-fe.h>

#include "modules/common/pause.h"
#include "modules/common/timing.h"

#define LINKS_MAX   32u          /* connections of one worker */
#define ROWS_MAX    100000u
#define BYTES_MAX   (64u << 20)
#define QUEUE_MAX   8192u        /* transactions that wait on one worker */
#define ADDRESSES   16u

struct settings {
	char *host, *port, *user, *password, *name, *sslmode, *ca, *options;
	esp_nsec connect_timeout, statement_timeout, wait, outcome_wait;
	uint32_t connections;
	int auto_migrate;
};

struct hub;
struct texts;
/* Built twice: storage_pgsql_target.so is the database that mail is moved to, beside the one in use. */
#ifdef ESP_SQL_TARGET
#define IS_TARGET   1
#define ENGINE      "pgsql_target"
#define SQL_SERVICE "esp.sql.target/1"
#else
#define IS_TARGET   0
#define ENGINE      "pgsql"
#define SQL_SERVICE "esp.sql/1"
#endif

struct pgsql {
	esp_sql table;               /* first: services are found by it */
	esp_core core;
	esp_module *self;
	const esp_metric_api *metric;
	const esp_crypto_api *crypto;
	struct settings set;
	esp_lane *lane;              /* names are resolved and tables migrated there */
	struct pause pause;
	esp_lane *long_lane;         /* reads that take long, each on a connection of its own */
	struct texts *texts;         /* the search index */
	uint32_t nworkers;
	struct hub *hub;             /* one a worker */
	esp_metric commits, transactions, retries, lost, unknown;
	struct timing_sql seconds;
};

/* --- address.c ------------------------------------------------------------------------------------------- */

/*! \brief One place to connect to; ip is empty for the directory of a Unix socket. */
struct address { char host[256], port[8], ip[64]; };
/*! \brief [lane] Every address of every host, in the order of the configuration; at most ADDRESSES. */
uint32_t address_resolve(const struct settings *s, struct address *ret);
/*! \brief Begin to connect, without waiting.  NULL: no memory. */
PGconn *address_connect(const struct settings *s, const struct address *a);
/*! \brief [lane] Connect to the first that answers and takes writes; NULL, and the reason. */
PGconn *address_open(const struct settings *s, esp_err *err);
/*! \brief [lane] Blocks.  Does no PostgreSQL that is ready answer at any address? */
int address_silent(const struct settings *s);

/* --- rows.c ---------------------------------------------------------------------------------------------- */

/*! \brief The ESP status of a result; a lost connection (NULL) is ESP_EUNAVAIL. */
esp_status result_status(const PGresult *res);
/*! \brief Rows in arena memory.  `copy` 0: texts stay in `res`, which must live as long. */
ESP_CHECKED esp_status result_rows(const PGresult *res, esp_arena *arena, int copy, esp_sql_rows *ret);
/*! \brief Did it read only? */
int result_is_read(const PGresult *res);
/*! \brief How many rows it changed. */
uint32_t result_changed(PGresult *res);

/* --- statement.c ----------------------------------------------------------------------------------------- */

#define PARAMS_MAX 40u
/* A type of esp_sql_value beyond those of esp.sql/1: `s` is an array on the wire, `reserved` its type's OID. */
#define SQL_ARRAY  64u
enum { OID_BYTEA = 17, OID_INT8 = 20, OID_TEXT = 25 };   /* of PostgreSQL's pg_type.dat; constants of the protocol */
/*! \brief The type an argument is declared with; 0 for NULL. */
Oid type_of(const esp_sql_value *v);
Oid array_of(Oid element);
/*! \brief Arguments as libpq wants them; `ints` holds numbers in network order. */
struct params {
	Oid type[PARAMS_MAX];
	const char *value[PARAMS_MAX];
	int length[PARAMS_MAX], format[PARAMS_MAX];
	uint64_t ints[PARAMS_MAX];
	int n;
};
ESP_CHECKED esp_status params_fill(struct params *p, const esp_sql_value *args, uint32_t nargs);

struct statement { uint64_t hash; char *text; uint32_t number, ready; };
struct statements { struct statement *slot; uint32_t n; };
/*! \brief The entry of that text, made when it is new; NULL: the table is full, or no memory. */
struct statement *statement_find(struct statements *s, const char *text);
void statements_forget(struct statements *s);

/* --- link.c ---------------------------------------------------------------------------------------------- */

/*! \brief One result that is awaited; freed by the link when it has come. */
struct answer {
	struct answer *next;
	uint32_t kind;
	struct statement *prepared;
	void (*on)(void *arg, PGresult *res);  /* takes over res; NULL: the connection was lost.  Never suspends */
	void *arg;
	PGresult *res;
};

struct link {
	struct hub *hub;
	PGconn *conn;
	uint32_t up, connecting, busy;   /* busy: a batch runs on it */
	esp_watch *watch;
	struct answer *first, **end;
	uint32_t nanswers, flush_posted;
	esp_nsec progress;               /* since when the first answer is waited for */
	esp_nsec tell_at, retry_at;
	uint32_t failures;
	struct statements statements;
};

struct job;
struct hub {
	struct pgsql *p;
	uint32_t index;
	uint32_t nlinks, nreaders;       /* link[0]: reads of a few rows; then other reads; then transactions */
	struct link link[LINKS_MAX];
	esp_fcond changed;               /* a link is up, or is not, or time passed */
	uint32_t waiting;                /* fibers that wait for `changed` */
	struct job *first, **end;        /* transactions that wait */
	uint32_t njobs;
	esp_timer *tick;
	esp_nsec prune_at;
};

/*! \brief A fiber's wait for one answer. */
struct call { const struct hub *hub; esp_ticket ticket; PGresult *res; int done; };
void call_answered(void *arg, PGresult *res);   /* for link_send */
/*! \brief ESP_SUSPENDS.  Until the answer has come; a cut (deadline, cancel) is returned only when not shielded. */
ESP_CHECKED esp_status call_wait(struct call *c);

/*! \brief Put a statement into the pipeline.  The text may vanish afterwards.  ESP_EUNAVAIL: the link was lost (and
 *  every answer before was told so).  Nothing is sent for certain before link_sync() or link_kick(). */
ESP_CHECKED esp_status link_send(struct link *l, const char *text, const esp_sql_value *args, uint32_t nargs,
	void (*on)(void *arg, PGresult *res), void *arg, struct answer **ret);
/*! \brief End of an implicit transaction, and of the silence after an error; sends. */
ESP_CHECKED esp_status link_sync(struct link *l);
/*! \brief Send what is there, and ask for the answers (or end the transaction), at the end of this turn of the loop. */
void link_kick(struct link *l, int sync);
/*! \brief The connection is given up; every answer that is awaited becomes NULL. */
void link_lost(struct link *l, const char *why);
void link_close(struct link *l);
/*! \brief Start connecting unless it is under way. */
void link_want(struct link *l);

/* --- hub.c ----------------------------------------------------------------------------------------------- */

ESP_CHECKED esp_status hubs_new(struct pgsql *p);
void hubs_free(struct pgsql *p);
struct hub *hub_here(struct pgsql *p);
/*! \brief Something may be done now: a link came up or became free, a job came. */
void hub_changed(struct hub *h);
/*! \brief Time limits are watched from now on. */
void hub_watch_time(struct hub *h);
void hub_stop(struct hub *h);

/* --- bundle.c -------------------------------------------------------------------------------------------- */

struct bundle;
struct bundles { struct bundle *first, **end; };
/*! \brief Is it a change that may wait and be joined with others of its text? */
int bundle_takes(const char *text, uint32_t nargs);
/*! \brief Does this statement name a table that changes wait for? */
int bundles_touch(const struct bundles *list, const char *text);
/*! \brief Keep it; the arguments are copied. */
ESP_CHECKED esp_status bundle_add(struct bundles *list, const char *text, const esp_sql_value *args, uint32_t nargs);
/*! \brief Send them all, in order; the list is empty afterwards, whatever happened. */
ESP_CHECKED esp_status bundles_send(
	struct bundles *list, struct link *l, void (*on)(void *arg, PGresult *res), void *arg);
void bundles_free(struct bundles *list);

/* --- query.c, group.c, outcome.c, tables.c --------------------------------------------------------------- */

esp_status pgsql_query(const esp_sql *sql, uint32_t flags, esp_arena *arena, const char *stmt,
	const esp_sql_value *args, uint32_t nargs, esp_sql_rows *ret);
ESP_CHECKED esp_status query_here(struct hub *h, uint32_t flags, esp_arena *arena, const char *stmt,
	const esp_sql_value *args, uint32_t nargs, esp_sql_rows *ret);
esp_status pgsql_transact(const esp_sql *sql, const esp_sql_key *keys, uint32_t nkeys,
	esp_status (*fn)(esp_tx *tx, void *arg), void *arg);
/*! \brief Run batches on idle links while jobs wait. */
void group_work(struct hub *h);
/*! \brief Jobs that waited too long leave the queue. */
void group_expire(struct hub *h, esp_nsec now);
/*! \brief Part of a batch: its row, by which outcome_of() knows it. */
ESP_CHECKED esp_status outcome_record(
	struct link *l, esp_id *ret, void (*on)(void *arg, PGresult *res), void *arg);
/*! \brief ESP_SUSPENDS.  ESP_OK: that batch was committed; ESP_ECONFLICT: it was not and never will be. */
esp_status outcome_of(struct hub *h, esp_id id);
/*! \brief Now and then: rows nobody will ask for go. */
void outcome_prune(struct link *l);
extern const esp_sql_migrations outcome_migrations;
esp_status pgsql_migrate(const esp_sql *sql, esp_err *err);
extern const esp_command pgsql_migrate_command;
/*! \brief A migration's text with PostgreSQL's names of types; what stands in quotes stays.  The caller frees it. */
char *tables_map_types(const char *text);
/*! \brief esp_sql.pause. */
esp_status pgsql_pause(const esp_sql *sql, int32_t on);
/*! \brief esp_sql.read. */
esp_status pgsql_read(const esp_sql *sql, esp_status (*fn)(esp_tx *tx, void *arg), void *arg);

/* --- texts.c, textlink.c --------------------------------------------------------------------------------- */

/*! \brief [init] The service; nothing is asked of the server before texts_open().  NULL: no memory. */
struct texts *texts_new(struct pgsql *p);
const esp_service *texts_service(struct texts *t);
/*! \brief [control] ESP_SUSPENDS.  Find or make the tables; not ESP_OK: there is no index (yet), which was logged. */
ESP_CHECKED esp_status texts_open(struct texts *t, int may_make);
/*! \brief [control] */
void texts_close(struct texts *t);

/*! \brief A connection of the index, used by one thread at a time.  `timeout` of one statement. */
struct textlink { struct pgsql *p; struct settings set; esp_nsec timeout; PGconn *conn; };
ESP_CHECKED esp_status textlink_init(struct textlink *l, struct pgsql *p, esp_nsec timeout);
void textlink_close(struct textlink *l);
/*! \brief [lane] One statement, outside of a transaction unless one was begun.  ESP_EUNAVAIL: the connection was
 *  lost. */
ESP_CHECKED esp_status textlink_exec(struct textlink *l, esp_arena *arena, const char *text, const esp_sql_value *args,
	uint32_t nargs, esp_sql_rows *ret);
enum { TEXTLINK_TABLES = 1u << 0, TEXTLINK_EXTENSION = 1u << 1 };
/*! \brief [lane] Are the tables there?  `may`: what may be made. */
ESP_CHECKED esp_status textlink_prepare(struct textlink *l, esp_arena *a, uint32_t may, esp_err *err);

#endif
