/* core/control/restart.h - when the supervisor starts another server process, and without which modules.
 *
 * A crash is followed by a start 0.1 s later; the wait doubles up to 30 s and begins anew once a server process has
 * served for a minute.  Modules that crash.log blames three times within five minutes are left out.
 */
#ifndef CORE_CONTROL_RESTART_H
#define CORE_CONTROL_RESTART_H

#include <stdbool.h>

#include <esp/abi.h>

struct spawn;
struct spawn_restarts;

enum { RESTART_BLAMES = 3, RESTART_BLAMES_WITHIN_S = 300 };

struct restart {
	int64_t at;      /* ms, on the clock of `now`; 0: no start is due */
	int64_t wait;    /* ms before the next one; 0: nothing crashed yet */
};

/*! \brief It ended by itself after `served` ms of service (0: it was never ready).  Sets r->at; returns the wait. */
int64_t restart_later(struct restart *r, int64_t now, int64_t served);
/*! \brief Remember that it ended at `now`, and how. */
void restart_count(struct spawn_restarts *r, esp_time now, const char *how);
bool restart_is_due(const struct restart *r, int64_t now);
/*! \brief Whom <dir>/crash.log says to leave out of the next server process; says so. */
void restart_leave_out(struct spawn *s, const char *dir, esp_time now);

/*! \brief Say how a server process ended, and who is to blame (into `how`).  One that nobody asked to end, and no
 *  handler of its own saw dying, gets its entry in <dir>/crash.log. */
void restart_say_end(const struct spawn *s, const char *dir, int pid, int status, bool asked, char *how, size_t cap);

#endif
