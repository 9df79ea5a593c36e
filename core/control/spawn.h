/* core/control/spawn.h - starting a server process: fork, give up rights, exec. */
#ifndef CORE_CONTROL_SPAWN_H
#define CORE_CONTROL_SPAWN_H

#include <stddef.h>
#include <sys/types.h>

#include <esp/abi.h>

struct privilege;

enum { SPAWN_LEFT_OUT = 32 };

/*! \brief How often the server process was started again after it ended by itself, since the supervisor started. */
struct spawn_restarts {
	uint32_t count;
	esp_time last;                          /* when it ended; 0: never */
	char why[256];                          /* "was killed by signal 9 (Killed)" */
};

struct spawn {
	const char *binary, *config_path;
	const struct privilege *privilege;
	int lock_fd;                            /* inherited: the lock ends with the last process of this server */
	char left_out[SPAWN_LEFT_OUT][64];      /* instances not to load */
	size_t nleft_out;
	struct spawn_restarts restarts;         /* the new process tells of them */
};

/*! \brief Start `esp-server server-process` with one end of a new link.  0, the process and our end; or ESP_EIO. */
ESP_CHECKED int spawn_server(const struct spawn *s, pid_t *ret_pid, int *ret_link);
/*! \brief Path of the running esp-server. */
const char *spawn_own_binary(void);
/*! \brief "was killed by signal 11 (Segmentation fault) in module "spam" at message", into buf; the blame comes from
 *  the line of that process in <dir>/crash.log (dir NULL: nobody is blamed). */
const char *spawn_ending(pid_t pid, int status, const char *dir, char *buf, size_t cap);
/*! \brief Run `esp-server check` and wait: it loads the modules, so it names every error.  Its exit code. */
int spawn_check(const struct spawn *s);

#endif
