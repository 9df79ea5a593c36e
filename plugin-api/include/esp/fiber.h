/* esp/fiber.h - "esp.fiber/1": stackful coroutines that let code read top to bottom.
 *
 * A fiber is pinned to its worker for life and runs until it suspends.  128 KiB of stack; no local array
 * above 4 KiB, no alloca, no recursion on input.  Inside a fiber never: pthread locks across a suspension,
 * fork without exec, a blocking system call, a changed signal mask or locale.
 * Cancel is a status, not an unwinding: the code leaves by its ordinary error path, and every later
 * suspension of a cancelled fiber returns ESP_ECANCELED at once (clean-up that must still wait: shield).
 * errno survives a suspension.
 */
#ifndef ESP_FIBER_H
#define ESP_FIBER_H

#include <esp/abi.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { /* spawn flags */
	ESP_FIBER_JOINABLE = 1u << 0, /* somebody will join() it; else it frees itself */
	ESP_FIBER_BIG      = 1u << 1  /* 512 KiB stack from a scarce pool */
};
enum { ESP_READ = 1u << 0, ESP_WRITE = 1u << 1 };

/*! \brief Names one suspension of one fiber for wake(); a late or second use is a harmless no-op. */
typedef struct { uint64_t fiber, serial; } esp_ticket;

/*! \brief A lock between fibers of one worker, FIFO.  Zero-initialise; `opaque` is the core's. */
typedef struct { void *opaque[3]; } esp_fmutex;
/*! \brief A condition that fibers of one worker wait for.  Zero-initialise. */
typedef struct { void *opaque[2]; } esp_fcond;

typedef struct esp_fiber_api {
	uint32_t size;
	/*! [worker] Start fn(arg) as a new fiber of this worker, after the caller next suspends or returns.
	 *  `name` is copied (31 bytes).  It inherits the caller's snapshot, not its deadline.
	 *  ret may be NULL.  ESP_EBUSY at the cap. */
	esp_status (*spawn)(esp_module *self, uint32_t flags, const char *name,
	                    void (*fn)(void *arg), void *arg, esp_fiber **ret);
	/*! [worker] The running fiber, or NULL in a loop callback. */
	esp_fiber *(*current)(void);
	/*! [worker] ESP_SUSPENDS, shielded.  Waits until a JOINABLE fiber returned and frees it. */
	void (*join)(esp_fiber *f);
	/*! [worker] Set the flag and wake; never unwinds, never frees. */
	void (*cancel)(esp_fiber *f);
	/*! [worker] Has the running fiber been cancelled?  For loops without a suspension. */
	int32_t (*canceled)(void);
	/*! [worker] Set the running fiber's deadline (absolute, 0 none); returns the one before.  Nested calls
	 *  take the earlier of both and restore what they got. */
	esp_nsec (*set_deadline)(esp_nsec deadline);
	esp_nsec (*deadline)(void);
	/*! [worker] While on (counted), cancel and deadline do not cut this fiber's suspensions short. */
	void (*shield)(int32_t on);
	/*! [worker] Between begin and end a suspension aborts the process with both names. */
	void (*nosuspend)(int32_t on);

	/*! [worker] ESP_SUSPENDS.  Until the time (monotonic). */
	ESP_CHECKED esp_status (*sleep_until)(esp_nsec when);
	/*! [worker] ESP_SUSPENDS.  Let the others run once. */
	ESP_CHECKED esp_status (*yield)(void);
	/*! [worker] ESP_SUSPENDS.  Until fd is ready; *ret_events says for what (may be NULL). */
	ESP_CHECKED esp_status (*wait_fd)(int fd, uint32_t events, uint32_t *ret_events);

	/*! [worker] The next suspend() of the running fiber, for wake() by others.  Tickets taken before are void: a wake()
	 *  with one of them does nothing. */
	esp_ticket (*ticket)(void);
	/*! [worker] ESP_SUSPENDS.  Until wake() with the current ticket.  A wake() that came between ticket()
	 *  and suspend() is not lost: suspend() then returns at once. */
	ESP_CHECKED esp_status (*suspend)(void);
	/*! [any] Wake that suspension.  Late or repeated: nothing happens. */
	void (*wake)(esp_ticket t);

	/*! [worker] ESP_SUSPENDS. */
	ESP_CHECKED esp_status (*lock)(esp_fmutex *m);
	void (*unlock)(esp_fmutex *m);
	/*! [worker] ESP_SUSPENDS.  Until signal() or broadcast(); re-check your condition afterwards. */
	ESP_CHECKED esp_status (*wait)(esp_fcond *c);
	void (*signal)(esp_fcond *c);
	void (*broadcast)(esp_fcond *c);
} esp_fiber_api;

#ifdef __cplusplus
}
#endif
#endif
