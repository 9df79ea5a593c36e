/* core/loop/worker.h - one libev loop, its thread, its mailbox and its fibers.
 *
 * Kinds: CONTROL (main thread: signals, configuration, module life cycle), MAIL (sessions; numbered 0..n-1) and
 * OBSERVER (event subscribers).  A worker's fields are its thread's own unless marked atomic.  Each turn:
 *   prepare: run queue (at most 256 fibers) -> arm the one timer -> poll -> callbacks append to the run queue.
 */
#ifndef CORE_LOOP_WORKER_H
#define CORE_LOOP_WORKER_H

#include "core/base/heap.h"
#include "core/base/list.h"
#include "core/loop/breadcrumb.h"
#include "core/loop/fiber.h"
#include "core/loop/mailbox.h"
#include "core/loop/owner.h"
#include "core/loop/timer.h"

#include <esp/abi.h>
#include <pthread.h>
#include <stdatomic.h>

#define WORKER_MAGIC 0x574f524bu
#define WORKER_MAX 64            /* mail workers */
#define WORKER_RUN_BUDGET 256    /* fibers per turn */

enum worker_kind { WORKER_CONTROL, WORKER_MAIL, WORKER_OBSERVER };
/*! \brief Per-worker state of other parts of the core: set at their start, freed at their stop. */
enum worker_slot {
	WORKER_SLOT_NET, WORKER_SLOT_BUS, WORKER_SLOT_MODULE, WORKER_SLOT_MAIL, WORKER_SLOT_CONTROL, WORKER_SLOT_TEST,
	WORKER_SLOTS
};

struct worker_ev;                /* the libev watchers; worker.c and loop files only */
struct stack_pool;

struct worker {
	uint32_t magic;
	enum worker_kind kind;
	uint32_t index;              /* MAIL: 0..n-1; else 0 */
	uint32_t number;             /* unique over all kinds; high half of a fiber id */
	char name[16];               /* "worker-1", "control", "observer" */
	void *slots[WORKER_SLOTS];
	struct worker_ev *ev;
	pthread_t thread;
	struct mailbox mailbox;

	esp_nsec now;                /* loop time */
	struct heap timers;          /* struct timer */
	struct heap deadlines;       /* struct fiber.timer */
	struct list watches;
	struct list run_queue, fibers, zombies; /* ready; all lives; finished but not joined */
	struct list pending_spawns;  /* post_fiber at the cap */
	uint32_t nfibers;
	struct fiber *current;
	struct fiber_ctx sched;      /* pseudo fiber: the thread's own stack */
	struct fiber_ctx *booting;   /* who waits for a new fiber's first context */
	struct breadcrumb crumb;     /* of loop callbacks */
	struct stack_pool *stacks;
	void **cxx_globals[FIBER_CXX_MAX];
	uint32_t cxx_seen;
	int stopping;

	/* read by the watchdog and by metrics */
	atomic_uint busy;            /* 1 between poll and poll */
	_Atomic uint64_t progress;   /* +1 at every callback batch and every fiber resumed */
	_Atomic uint64_t spawned, turns, posts_refused;
	_Atomic(struct fiber *) running;
	atomic_uint exited;
};

extern _Thread_local struct worker *worker_self; /* NULL on lanes and foreign threads */

static inline struct worker *worker_here(void) { return worker_self; }
static inline struct worker *worker_of(const esp_worker *w) { return (struct worker *)(uintptr_t)w; }
static inline esp_worker *worker_pub(struct worker *w) { return (esp_worker *)(void *)w; }
static inline esp_nsec worker_now(void) { return worker_self->now; }
/*! \brief Add one to a counter that only this thread writes: no locked instruction. */
static inline void worker_count(_Atomic uint64_t *n)
{
	atomic_store_explicit(n, atomic_load_explicit(n, memory_order_relaxed) + 1, memory_order_relaxed);
}

/*! \brief [any] Run fn(arg) on w's loop, in order per sender.  ESP_EBUSY: full, or w has ended. */
ESP_CHECKED esp_status worker_post(struct worker *w, struct owner *owner, void (*fn)(void *), void *arg);
/*! \brief [any] The same in a new fiber (waits in the worker while the fiber cap is reached). */
ESP_CHECKED esp_status worker_post_fiber(struct worker *w, struct owner *owner, const char *name,
                                         void (*fn)(void *), void *arg);
/*! \brief [any] Never fails; n belongs to the worker until n->fn ran.  Not for a worker that has ended. */
void worker_send(struct worker *w, struct mail_node *n);

/*! \brief What is alive for an owner on one worker.  item: struct fiber, timer or watch. */
struct owned_item { enum owner_kind kind; const char *label; void *item; };
/*! \brief [worker w] For leak reports; fn must not start or stop anything. */
void worker_each_owned(
	struct worker *w, const struct owner *o, void (*fn)(const struct owned_item *i, void *arg), void *arg);
/*! \brief [worker w] Cancel its fibers, stop its timers and watchers there; returns how many timers and watchers
 *  were closed (fibers end by themselves and are counted in *ret_fibers, which may be NULL). */
uint32_t worker_close_owned(struct worker *w, const struct owner *o, uint32_t *ret_fibers);

/* core/loop's own */
struct worker *worker_new(enum worker_kind kind, uint32_t index, uint32_t number, size_t mailbox);
void worker_free(struct worker *w);
/*! \brief Make the calling thread w's thread: TLS, stack bounds, alternate signal stack. */
void worker_attach(struct worker *w);
void worker_detach(struct worker *w);
/*! \brief Turn the loop until worker_stop() and no fiber is left. */
void worker_run(struct worker *w);
/*! \brief [worker] One turn without waiting (tests). */
void worker_turn(struct worker *w, int wait);
/*! \brief [worker w] Cancel all fibers; worker_run() returns when the last has ended or at `give_up`. */
void worker_stop(struct worker *w, esp_nsec give_up);
/*! \brief Ask the loop to leave its turn (worker_run re-checks its condition). */
void worker_kick(struct worker *w);

#endif
