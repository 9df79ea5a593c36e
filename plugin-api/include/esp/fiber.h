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
	/*! [loop] Start fn(arg) as a new fiber of this worker, after the caller next suspends or returns.
	 *  `name` is copied (31 bytes) and names the fiber in logs and when it is left behind.  It inherits the caller's
	 *  snapshot, not its deadline; one that lives long calls host->quiesce() now and then, or it keeps the snapshot.  A
	 *  generation stops only when its fibers have returned: end those of workers in worker_drain(), others in drain(),
	 *  or they are cancelled at the drain's deadline.  ret may be NULL unless JOINABLE; without JOINABLE *ret is void
	 *  as soon as fn returned, so keep it only for what the fiber itself clears.  ESP_EBUSY: too many fibers, no stack;
	 *  ESP_EINVAL. */
	esp_status (*spawn)(esp_module *self, uint32_t flags, const char *name,
	                    void (*fn)(void *arg), void *arg, esp_fiber **ret);
	/*! [any] The running fiber, or NULL in a loop callback or on a lane. */
	esp_fiber *(*current)(void);
	/*! [the fiber's worker] ESP_SUSPENDS, shielded.  Waits until a JOINABLE fiber returned and frees it: once a
	 *  fiber. */
	void (*join)(esp_fiber *f);
	/*! [the fiber's worker] Set the flag and wake; never unwinds, never frees.  Not for a fiber that may have ended,
	 *  unless it is JOINABLE and not joined yet. */
	void (*cancel)(esp_fiber *f);
	/*! [loop, in a fiber] Has the running fiber been cancelled?  For loops without a suspension. */
	int32_t (*canceled)(void);
	/*! [loop, in a fiber] Set the running fiber's deadline (absolute, 0 none); returns the one before.  Nested calls
	 *  take the earlier of both and restore what they got. */
	esp_nsec (*set_deadline)(esp_nsec deadline);
	esp_nsec (*deadline)(void);
	/*! [loop, in a fiber] While on (counted), cancel and deadline do not cut this fiber's suspensions short. */
	void (*shield)(int32_t on);
	/*! [loop, in a fiber] While on (counted), a suspension aborts the process with both names. */
	void (*nosuspend)(int32_t on);

	/*! [loop] ESP_SUSPENDS.  Until the time (as of loop->now()); in the past: as yield(). */
	ESP_CHECKED esp_status (*sleep_until)(esp_nsec when);
	/*! [loop] ESP_SUSPENDS.  Let the others run once. */
	ESP_CHECKED esp_status (*yield)(void);
	/*! [loop] ESP_SUSPENDS.  Until fd is ready for one of `events` (ESP_READ | ESP_WRITE); *ret_events says for what
	 *  (may be NULL).  The fd stays the caller's, and open until this returned. */
	ESP_CHECKED esp_status (*wait_fd)(int fd, uint32_t events, uint32_t *ret_events);

	/*! [loop, in a fiber] The next suspend() of the running fiber, for wake() by others.  Tickets taken before are
	 *  void: a wake() with one of them does nothing. */
	esp_ticket (*ticket)(void);
	/*! [loop] ESP_SUSPENDS.  Until wake() with the current ticket.  A wake() that came between ticket() and suspend()
	 *  is not lost: suspend() then returns at once.  Cut short by cancel or deadline while somebody still writes into
	 *  your frame?  Put shield() around it. */
	ESP_CHECKED esp_status (*suspend)(void);
	/*! [any] Wake that suspension.  Late or repeated: nothing happens, also after the fiber ended. */
	void (*wake)(esp_ticket t);

	/*! [loop] ESP_SUSPENDS.  Not recursive.  Another status than ESP_OK: the caller does not hold it. */
	ESP_CHECKED esp_status (*lock)(esp_fmutex *m);
	void (*unlock)(esp_fmutex *m);
	/*! [loop] ESP_SUSPENDS.  Until signal() (one fiber) or broadcast() (all); re-check your condition afterwards.
	 *  signal() and broadcast() on the same worker only, also from its callbacks: other threads post() there. */
	ESP_CHECKED esp_status (*wait)(esp_fcond *c);
	void (*signal)(esp_fcond *c);
	void (*broadcast)(esp_fcond *c);
} esp_fiber_api;

#ifdef __cplusplus
}
#endif
#endif
