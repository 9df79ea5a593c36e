/* lease - one process at a time does a piece of work, whichever of those that share a database is there.
 *
 * A row names the holder.  It counts a beat up whenever the holder works; whoever else has work and sees no beat for a
 * while takes the row over with a new generation.  No clock is compared with another machine's.  The generation fences:
 * a holder that was asleep meanwhile finds it changed before it can commit anything.  An idle holder writes nothing.
 */
#ifndef ESP_COMMON_LEASE_H
#define ESP_COMMON_LEASE_H

#include <esp/sql.h>

struct lease {
	const esp_core *core;
	const char *name;
	char holder[160];          /* this process: machine, process id, its start */
	int64_t generation, beat;  /* ours, or the ones seen last */
	int held;
	esp_nsec seen_at;          /* when the beat was seen to change */
	esp_nsec renew_at, sure_until, look_at;
};

/*! \brief The table it needs, in the migrations of the module that uses it. */
#define LEASE_TABLE \
	"CREATE TABLE lease (name TEXT NOT NULL PRIMARY KEY, holder TEXT NOT NULL, generation BIGINT NOT NULL," \
	" beat BIGINT NOT NULL)"
#define LEASE_DROP "DROP TABLE lease"

void lease_init(struct lease *l, const esp_core *core, const char *name);
/*! \brief [fiber] ESP_SUSPENDS.  Is it ours, for some seconds at least?  Called before each piece of work. */
int lease_hold(struct lease *l, const esp_sql *sql, esp_arena *arena);
/*! \brief [any] May the work go on?  Work that takes long asks in between. */
static inline int lease_sure(const struct lease *l) { return l->core->loop->clock() < l->sure_until; }
/*! \brief [tx] First statement of a transaction that records the work.  ESP_EBUSY: it is another's now. */
ESP_CHECKED esp_status lease_check(const struct lease *l, esp_tx *tx);
/*! \brief [fiber] ESP_SUSPENDS.  At an orderly end: the next one need not wait. */
void lease_release(struct lease *l, const esp_sql *sql);

#endif
