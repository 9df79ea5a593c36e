/* core/control/supervisor.h - the process that stays: `esp-server serve`.
 *
 * Opens the listening sockets, starts the server process without privileges, restarts it when it dies, replaces it at a
 * core upgrade, and stops it.  It loads no module, reads nothing from the network and parses nothing that the server
 * process wrote (core/control/link.h).
 */
#ifndef CORE_CONTROL_SUPERVISOR_H
#define CORE_CONTROL_SUPERVISOR_H

#include <stdbool.h>

#include "core/control/privilege.h"
#include "core/control/settings.h"
#include "core/control/sockets.h"

struct supervisor_opts {
	const char *config_path;  /* absolute */
	const char *binary;       /* absolute; started anew from disk at every restart and upgrade */
	bool foreground;          /* false: detach; the caller's process returns when the server is ready */
};

/*! \brief What serve.c prepared: settings read, directories made, lock taken, sockets open. */
struct supervisor_start {
	struct settings settings;
	struct privilege privilege;
	struct sockets sockets;   /* the supervisor's from now on */
	int lock_fd;              /* closed at the end */
	int ready_fd;             /* "R" is written once the first server process is ready; -1: nobody waits */
};

/*! \brief Exit code: stopped as asked, but a server process crashed meanwhile or had to be killed. */
enum { SUPERVISOR_UNORDERLY = 3 };

/*! \brief Run until stopped.  Returns the exit code: 0 after an orderly stop (or a second SIGTERM, which is no orderly
 *  one), 1 when the server could not be started (every reason is on standard error), SUPERVISOR_UNORDERLY. */
int supervisor_run(const struct supervisor_opts *opts, struct supervisor_start *start);

/*! \brief `esp-server serve`: prepare (every failure at once on standard error), detach unless `foreground`, run. */
int serve_run(const struct supervisor_opts *opts);

#endif
