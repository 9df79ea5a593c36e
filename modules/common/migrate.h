/* migrate - numbered changes of tables, per module, up and down: what both providers of esp.sql/1 share.
 *
 * Each change runs in one transaction with the row that records it, so a crash leaves it done or not done, and of two
 * nodes one does it.  A database that records a change the program does not know is refused: the program is older than
 * the data.
 */
#ifndef ESP_COMMON_MIGRATE_H
#define ESP_COMMON_MIGRATE_H

#include <esp/command.h>
#include <esp/sql.h>
#include <stdlib.h>

/*! \brief One connection as migrations use it, on one thread. */
struct migrate_db {
	void *arg;
	esp_arena *arena;          /* for rows; the caller's to empty */
	const char *begin;         /* "BEGIN", as the engine wants it */
	/*! Several statements without rows, in one transaction already begun or in none. */
	int (*script)(void *arg, const char *text, esp_err *err);
	int (*exec)(void *arg, esp_arena *arena, const char *stmt, const esp_sql_value *args, uint32_t nargs,
		esp_sql_rows *ret, esp_err *err);
};

/*! \brief Apply what `m` has and the database has not.  ESP_ECONFIG: the database is newer than the program. */
int migrate_up(const struct migrate_db *db, const esp_sql_migrations *m, esp_err *err);
/*! \brief Take back everything above `number` of that module; refused as by migrate_up(). */
int migrate_down(const struct migrate_db *db, const esp_sql_migrations *m, uint32_t number, esp_err *err);
/*! \brief Highest number applied for a module; 0: none. */
int migrate_state(const struct migrate_db *db, const char *module, uint32_t *ret, esp_err *err);

/* --- the work of migrate() and of `esp-cli migrate` ------------------------------------------------------ */

enum migrate_kind { MIGRATE_NOTHING = 0, MIGRATE_UP, MIGRATE_DOWN, MIGRATE_REHEARSE };
struct migrate_job {
	enum migrate_kind kind;
	const esp_sql_migrations *sets[64];
	uint32_t n, number;
	char module[128];          /* DOWN */
	int target;                /* mail is being moved here: not yet whole, and that is right */
	int automatic;             /* UP: else it only checks that nothing is missing */
	esp_err *err;
};
/*! \brief Rows of esp_migration with this for a module: the database is a copy that is not finished. */
#define MIGRATE_COPY "(unfinished copy)"
/*! \brief What migrate() does: nothing before a rehearsal, everything for `esp-server migrate`, else as configured. */
enum migrate_kind migrate_at_start(int automatic, int *ret_automatic);
/*! \brief Every "esp.sql.migrations/1" of the snapshot; in a fiber. */
esp_status migrate_collect(const esp_host *host, struct migrate_job *job);
/*! \brief [lane] Do it; REHEARSE: everything up, all the way down, and up again, on `db`, which is a copy. */
int migrate_run(const struct migrate_db *db, const struct migrate_job *job);

/*! \brief Is this process `esp-server migrate`?  It changes tables and nothing else: modules begin no work of their
 *  own. */
static inline int migrate_only(void) { return getenv("ESP_MIGRATE") != NULL; }

#define MIGRATE_USAGE "[--check | --down=MODULE:NUMBER --yes]"
#define MIGRATE_HELP \
	"Bring the tables up to date; --check rehearses every change down and up on a copy; --down takes back " \
	"a module's changes above the number with all that they hold, 0: drops its tables"
/*! \brief The words of the command; ESP_EUSAGE, and why. */
esp_status migrate_words(const esp_command_call *call, struct migrate_job *job);
/*! \brief What the database records, as the command's answer. */
esp_status migrate_list(const esp_sql *sql, const struct migrate_job *job, esp_command_call *call);

#endif
