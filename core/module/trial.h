/* core/module/trial.h - a module is loaded first where a crash hurts nobody: in a process of its own.
 *
 * No check of a file's tables proves that the loader survives it: a page of zeros among the relocations, a constructor
 * that jumps into nothing, a loop without an end.  So another process ("esp-server try-modules") maps the same copy,
 * reads the descriptor and unmaps it again; what ends that process is refused by name.  One process serves all modules
 * of a load; it is started at first need, or before that so that a start of the server need not wait for it.
 *
 * Thread: one at a time (the pool lane that opens images); blocks.  It guards against damage, not against malice: a
 * module that loads runs with all rights of the server.
 */
#ifndef CORE_MODULE_TRIAL_H
#define CORE_MODULE_TRIAL_H

#include <stdint.h>
#include <sys/types.h>

#include <esp/abi.h>

enum { TRIAL_LIMIT_S = 20 };

struct trial {
	const char *binary;          /* esp-server; NULL: no trials are made */
	uint32_t limit_s;            /* for one module; 0: TRIAL_LIMIT_S */
	pid_t pid;                   /* 0: none runs */
	int fd;
	uint32_t passed;             /* modules the running process survived */
	uint32_t waiting;            /* requests it has not answered */
	uint32_t round;              /* processes started */
};

/*! \brief Start the process now, beside other work.  What prevents it is said by the first trial_run(). */
void trial_begin(struct trial *t);
/*! \brief Ask for the trial of a copy and go on.  What this returns goes to trial_run(), which is called for all that
 *  were asked for, in the same order; 0: could not be asked now. */
uint32_t trial_ask(struct trial *t, const char *path, const char *file);
/*! \brief Load the copy at `path` of module `file` over there; `asked`: of trial_ask(), or 0.  ESP_OK; ESP_EABI, the
 *  reason says what the loader said or how the process ended; ESP_EIO when no process can be had. */
ESP_CHECKED int trial_run(struct trial *t, uint32_t asked, const char *path, const char *file, esp_err *err);
/*! \brief No more modules: the process ends. */
void trial_end(struct trial *t);

/*! \brief The other side ("esp-server try-modules SECONDS"): serves requests on descriptor 0 until it is closed, each
 *  within so many seconds.  An exit code. */
int trial_main(const char *seconds);

#endif
