/* core/module/crash.h - who was running when the process died.
 *
 * Trampolines keep a breadcrumb (module, point) per thread; the handler of SIGSEGV, SIGBUS, SIGFPE, SIGILL and SIGABRT
 * writes it with a backtrace to stderr and appends it to <path>/crash.log, then raises the signal again.  Only
 * async-signal-safe calls.  The supervisor reads crash.log to say why a process died and to count blames, and adds the
 * line of a death that no handler sees (SIGKILL, the kernel out of memory).
 */
#ifndef CORE_MODULE_CRASH_H
#define CORE_MODULE_CRASH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <esp/abi.h>

/*! \brief [main, once, before threads] Install the handlers.  `dir`: server.path, or NULL for stderr alone. */
ESP_CHECKED int crash_install(const char *dir, esp_err *err);

/*! \brief [control] An administrator has that instance tried again: its blames before now count no longer. */
void crash_forgive(const char *instance);

/*! \brief One entry of crash.log: "time signal instance point thread pid". */
struct crash_blame { esp_time when; int signal, pid; char module[64]; char point[32]; };
/*! \brief [any, no process of ours needs to run] The newest entries of <dir>/crash.log, newest first; returns how
 *  many.  For the supervisor. */
size_t crash_read(const char *dir, struct crash_blame *out, size_t max);
/*! \brief [any] The entry that this process left at its death, within the last minute (a core dump takes its time).
 *  False: none. */
bool crash_of(const char *dir, int pid, struct crash_blame *ret);
/*! \brief [supervisor] That process died of a signal: add an entry without a blame unless it left one. */
void crash_note(const char *dir, int pid, int signal);
/*! \brief [any] Instances blamed at least `times` within the last `window` seconds before `now`, and since they were
 *  tried again; names are written
 *  into out (each at most 63 bytes), with a "-" in front when the module crashed before it could say which hooks it
 *  has (then modules_new does not even load it); returns how many. */
size_t crash_left_out(const char *dir, esp_time now, uint32_t times, esp_time window, char (*out)[64], size_t max);

#endif
