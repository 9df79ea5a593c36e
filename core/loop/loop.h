/* core/loop/loop.h - the process's workers: made, started, stopped together.
 *
 *	loop_init(&config, &err);   the caller becomes the control thread; posts are accepted from here on
 *	... core parts fill worker slots ...
 *	loop_start(&err);           threads of mail workers and observer
 *	loop_run();                 turns the control loop until loop_quit() and everybody has ended
 *	loop_free();                joins, closes lanes, frees
 */
#ifndef CORE_LOOP_LOOP_H
#define CORE_LOOP_LOOP_H

#include "core/loop/worker.h"

#include <esp/fiber.h>
#include <esp/loop.h>
#include <esp/pool.h>
#include <signal.h>

struct loop_config {
	uint32_t workers;        /* 0: one per core, at most 64 */
	uint32_t fibers_max;     /* 0: 24,000 */
	uint32_t mailbox;        /* 0: 8,192 posts per worker */
	esp_nsec stall;          /* a callback or fiber that runs longer is reported; 0: 50 ms */
	esp_nsec grace;          /* loop_quit(): how long fibers may take to end; 0: 5 s */
	int no_observer;         /* tests */
};

/*! \brief [control] */
ESP_CHECKED esp_status loop_init(const struct loop_config *config, esp_err *err);
ESP_CHECKED esp_status loop_start(esp_err *err);
/*! \brief [control] Returns when loop_quit() was called and every worker has ended. */
void loop_run(void);
/*! \brief [any] Begin the orderly end: every fiber is cancelled, each worker leaves when its last has ended. */
void loop_quit(void);
void loop_free(void);
/*! \brief [any] The number of mail workers. */
uint32_t loop_workers(void);
/*! \brief [any] Mail worker by index; NULL beyond. */
struct worker *loop_worker(uint32_t index);
struct worker *loop_control(void);
struct worker *loop_observer(void); /* the control worker when there is no observer */
/*! \brief [any] Every worker, control and observer included: number 0.. until NULL. */
struct worker *loop_by_number(uint32_t number);
/*! \brief [control] Call cb on the control loop when the signal arrives; NULL restores the default. */
ESP_CHECKED esp_status loop_on_signal(int signum, void (*cb)(int signum));

/*! \brief A worker that has not moved for longer than loop_config.stall, or a thread of a lane whose job takes
 *  hundreds of times as long (a disk that hangs). */
struct loop_stall {
	const struct worker *worker; /* NULL: a lane's thread */
	char name[16];            /* of the worker or lane */
	esp_nsec nsec;            /* at least this long */
	char fiber[FIBER_NAME_MAX]; /* "" in a loop callback */
	char module[64], point[32]; /* "" when the core itself */
	int over;                 /* 0: still stuck; 1: moves again, or the job is done */
};
/*! \brief [control] Where stalls are reported (the log comes from core/bus): on the control thread, its own on the
 *  observer's. */
void loop_on_stall(void (*cb)(const struct loop_stall *s));
/*! \brief Monotonic time as of the watchdog's last look: a load, at most loop_config.stall / 2 old while the control
 *  loop moves.  For noticing that much time has passed where reading a clock would cost too much.  0: no watchdog. */
extern _Atomic esp_nsec loop_lazy_now;
/*! \brief [any] Stalls of workers since the start. */
uint64_t loop_stalls(void);

/*! \brief What a crash handler may look at; everything in it is async-signal-safe. */
struct loop_crash {
	int signum;
	const void *addr;
	int stack_overflow;
	const char *thread;       /* "worker-1", "lane sync", "" */
	const char *fiber;        /* "" outside fibers */
	struct breadcrumb crumb;  /* NULLs when the core itself */
};
/*! \brief [control] Install the handlers for SEGV, BUS, ILL, FPE, ABRT: they write a report and a backtrace to stderr,
 *  call on_crash (may be NULL; must be async-signal-safe) and let the process die of the signal. */
void loop_install_crash_handlers(void (*on_crash)(const struct loop_crash *c));
/*! \brief Take the signals of a crash out of a mask: blocked, a fault kills the process without its last words. */
void loop_crash_unblock(sigset_t *set);

/*! \brief The tables that modules get for esp.fiber/1, esp.loop/1 and esp.pool/1. */
extern const esp_fiber_api loop_fiber_api;
extern const esp_loop_api loop_loop_api;
extern const esp_pool_api loop_pool_api;

#endif
