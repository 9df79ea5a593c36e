/* core/control/server.h - the server process: `esp-server server-process`, started by the supervisor alone. */
#ifndef CORE_CONTROL_SERVER_H
#define CORE_CONTROL_SERVER_H

#include <stdbool.h>

/*! \brief Arguments behind "server-process": --config F --link FD --lock FD [--leave-out NAME ...]
 *  [--restarts N --restarted SECONDS --restart-reason TEXT].  Runs until it is stopped.  Exit code: 0 orderly, 1 it
 *  refused to start (the reasons are on standard error). */
int server_main(int argc, char **argv, const char *binary);

/*! \brief `esp-server check`: load the configuration and every module, run their check(), print every error: on
 *  standard error, or as JSON on standard output. */
int offline_check(const char *config_path, bool json);
/*! \brief `esp-server migrate`: under the lock, build the first snapshot without listeners and run the contributed
 *  command "migrate".  `rehearse`: with --check; `down`: with --down=MODULE:NUMBER (NULL: not). */
int offline_migrate(const char *config_path, bool rehearse, const char *down);
/*! \brief `esp-server docs WHAT --out DIR`: generated documents; config_path names the modules to document (NULL: the
 *  core alone). */
int offline_docs(const char *what, const char *dir, const char *config_path);

#endif
