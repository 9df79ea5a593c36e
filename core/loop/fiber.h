/* core/loop/fiber.h - stackful coroutines pinned to a worker (the core's side of esp/fiber.h).
 *
 * A fiber struct, its stack and its first context stay together until the worker ends; lives are pooled, LIFO.
 * The scheduler runs on the thread's own stack; every switch goes through it.  Loop callbacks never resume a
 * fiber: they put it on the run queue.  Functions marked ESP_SUSPENDS may only be called on a fiber; a loop
 * callback that calls one aborts the process.
 *
 * When a life ends, on the scheduler's stack and in this order: holds are released (newest first), the
 * snapshot is released, the owner's count is dropped.
 */
#ifndef CORE_LOOP_FIBER_H
#define CORE_LOOP_FIBER_H

#include "core/base/heap.h"
#include "core/base/list.h"
#include "core/loop/breadcrumb.h"
#include "core/loop/mailbox.h"
#include "core/loop/timer.h"

#include <esp/abi.h>
#include <esp/fiber.h>
#include <setjmp.h>

struct owner;
struct worker;
struct fiber;

#define FIBER_MAGIC 0x46494245u
#define FIBER_NAME_MAX 32
#define FIBER_HOLDS 8
#define FIBER_CXX_MAX 2

/*! \brief Internal spawn flag: may use the reserve that is kept for child and control fibers. */
#define FIBER_RESERVED (1u << 16)

enum fiber_state { FIBER_FREE, FIBER_READY, FIBER_RUNNING, FIBER_PARKED, FIBER_DONE };

/*! \brief Things of other core parts that hang on a fiber; they clean up through fiber_hold(). */
enum fiber_slot { FIBER_SLOT_HOOK, FIBER_SLOT_MAIL, FIBER_SLOT_NET, FIBER_SLOT_MODULE, FIBER_SLOTS };

/*! \brief One side of a switch.  contrib/gdb-fibers.py reads env. */
struct fiber_ctx {
	jmp_buf env;
	void *fake;       /* ASan's fake stack while switched out */
	void *tsan;
	char *lo;         /* lowest usable byte; the guard is below */
	size_t size;
};

struct fiber_hold { void (*release)(void *arg); void *arg; };
/*! \brief FIFO of parked fibers: what fmutex and fcond are made of. */
struct fiber_queue { struct fiber *first, *last; };

struct fiber {
	uint32_t magic;
	uint32_t state;             /* enum fiber_state */
	struct fiber_ctx ctx;
	uint64_t id;                /* worker number << 32 | slot; the same for all lives */
	uint64_t serial;            /* number of the next suspend(); never goes back */
	uint64_t life;              /* how many lives began: tells lives apart in reports */
	struct worker *worker;
	struct owner *owner;
	char name[FIBER_NAME_MAX];
	void (*fn)(void *arg);
	void *arg;
	uint32_t flags;

	/* for other parts of the core */
	void *snapshot;             /* pinned through fiber_hooks; borrowed by everybody else */
	void *slots[FIBER_SLOTS];
	struct fiber_hold holds[FIBER_HOLDS];
	uint32_t nholds;
	struct breadcrumb crumb;

	/* cancellation and deadlines */
	esp_nsec deadline;          /* 0: none */
	uint32_t shield, nosuspend;
	uint8_t canceled, woken, waits_ticket, waits_io;
	uint32_t nlocks;            /* fmutexes held; must be 0 at the end of a life */
	esp_status result;          /* what the suspension in progress will return */
	const char *waiting;        /* name of the call it is parked in; NULL when not parked */

	/* the scheduler's */
	struct list link;           /* run queue or pool */
	struct list all;            /* every life of this worker */
	struct heap_node timer;     /* lazily kept: may fire early and is then set again */
	esp_nsec wake_at;           /* of the suspension in progress; 0: none */
	esp_status wake_status;     /* what wake_at means: ESP_OK (sleep) or ESP_ETIMEDOUT */
	struct fiber_queue *queue;  /* the fmutex or fcond it waits in */
	struct fiber *queue_next, *queue_prev;
	struct fiber *joiner;
	struct watch io;            /* wait_fd's */
	uint32_t io_events;
	uint32_t big;               /* from the scarce pool of large stacks */
	uint32_t booted;            /* its first context exists */
	uint32_t painted;           /* this life is measured: fiber-depth.h */
	esp_nsec free_since;
	void *cxx[FIBER_CXX_MAX][2];
	struct mail_node remote;    /* wake() from another thread */
	_Atomic uint64_t remote_serial;
};

/*! \brief How core/module pins snapshots.  inherit: the spawner's snapshot or NULL (then: the worker's own). */
struct fiber_hooks {
	void *(*snapshot_pin)(struct worker *w, void *inherit);
	void (*snapshot_release)(struct worker *w, void *snapshot);
};
/*! \brief Once, before the loops start. */
void fiber_set_hooks(const struct fiber_hooks *hooks);

static inline struct fiber *fiber_of(esp_fiber *f) { return (struct fiber *)(void *)f; }
static inline esp_fiber *fiber_pub(struct fiber *f) { return (esp_fiber *)(void *)f; }

/*! \brief [worker] The running fiber, or NULL in a loop callback and on other threads. */
struct fiber *fiber_self(void);
/*! \brief [worker] New fiber on this worker; runs after the caller suspends or returns.  ret may be NULL.
 *  ESP_EBUSY at the cap (lower when spawned from a loop callback without FIBER_RESERVED), ESP_ENOMEM. */
esp_status fiber_spawn(struct owner *owner, uint32_t flags, const char *name, void (*fn)(void *), void *arg,
                       struct fiber **ret);
/*! \brief [worker] Exchange the pinned snapshot of the running fiber for `snapshot` (pinned by the caller). */
void fiber_set_snapshot(struct fiber *f, void *snapshot);
/*! \brief [worker] release(arg) when this life of f ended, on the scheduler's stack.  ESP_EBUSY: all 8 taken. */
ESP_CHECKED esp_status fiber_hold(struct fiber *f, void (*release)(void *arg), void *arg);
/*! \brief [worker] Give one hold back early: calls its release now.  Harmless when there is none. */
void fiber_unhold(struct fiber *f, void (*release)(void *arg), void *arg);

void fiber_cancel(struct fiber *f);
int fiber_canceled(void);
esp_nsec fiber_set_deadline(esp_nsec deadline);
esp_nsec fiber_deadline(void);
void fiber_shield(int on);
void fiber_nosuspend(int on);
ESP_SUSPENDS void fiber_join(struct fiber *f);                                   /* shielded */
ESP_SUSPENDS ESP_CHECKED esp_status fiber_yield(void);
ESP_SUSPENDS ESP_CHECKED esp_status fiber_sleep_until(esp_nsec when);
ESP_SUSPENDS ESP_CHECKED esp_status fiber_wait_fd(int fd, uint32_t events, uint32_t *ret_events);
esp_ticket fiber_ticket(void);
ESP_SUSPENDS ESP_CHECKED esp_status fiber_suspend(void);
/*! \brief The same, but ESP_OK also at `when` (0: never), under a shield too, where a deadline does not count. */
ESP_SUSPENDS ESP_CHECKED esp_status fiber_suspend_until(esp_nsec when);
void fiber_wake(esp_ticket t);                                                   /* [any] */
ESP_SUSPENDS ESP_CHECKED esp_status fiber_lock(esp_fmutex *m);
void fiber_unlock(esp_fmutex *m);
ESP_SUSPENDS ESP_CHECKED esp_status fiber_wait(esp_fcond *c);
void fiber_signal(esp_fcond *c);
void fiber_broadcast(esp_fcond *c);

/*! \brief [any] Most fibers alive in the process (default 24,000); a tenth is the reserve. */
void fiber_set_cap(uint32_t cap);
uint32_t fiber_cap(void);
/*! \brief [any] Alive now. */
uint32_t fiber_live(void);
/*! \brief [control] Look for C++ runtimes (__cxa_get_globals) reachable from a dlopen handle (NULL: the process):
 *  their exception state is then saved per fiber.  After every module load. */
void fiber_cxx_refresh(void *dl_handle);
/*! \brief Usable bytes of an ordinary fiber's stack. */
size_t fiber_stack_size(void);

/*! \brief For core/loop's own files: park the running fiber.  call: name for reports; when 0: the deadline only. */
ESP_SUSPENDS ESP_CHECKED esp_status fiber_park(const char *call, esp_nsec when);
/*! \brief Put a parked fiber on the run queue; the first caller decides what its suspension returns. */
void fiber_ready(struct fiber *f, esp_status result);
/*! \brief Take f out of the fmutex or fcond it waits for; harmless when it is in none. */
void fiber_unqueue(struct fiber *f);
/*! \brief The scheduler's side: run one ready fiber until it suspends or ends. */
void fiber_resume(struct worker *w, struct fiber *f);
/*! \brief Its wake_at has come (or came early: then it is set again). */
void fiber_expire(struct worker *w, struct fiber *f);

#endif
