/* core/module/exclusive.h - EXCLUSIVE providers: one generation at a time, never pinned by a snapshot.
 *
 * The first service() of a fiber on any exclusive provider takes a hold, which the fiber keeps until its session(),
 * hook or function ends, or quiesce().  One gate guards all exclusive providers together: a fiber that holds enters any
 * of them, also while a swap is pending, so a chain mailstore -> sql cannot deadlock against it.  Children inherit.
 *
 * A swap closes the gate: first for ordinary fibers (those of exclusive modules themselves still pass: a session that
 * holds may wait for work that mailstore does on another worker), and when all of them are out, for everybody.  Who
 * comes meanwhile waits at the gate with its deadline.  Counts are per loop and not atomic; control asks by message.
 *
 * The hold is two bits in the low end of fiber.snapshot, so that spawning and ending cost nothing extra.
 */
#ifndef CORE_MODULE_EXCLUSIVE_H
#define CORE_MODULE_EXCLUSIVE_H

#include "core/base/list.h"
#include "core/loop/fiber.h"
#include "core/loop/mailbox.h"
#include "core/module/registry.h"

#include <stdatomic.h>

struct generation;
struct modules;

enum gate { GATE_OPEN, GATE_OWN, GATE_SHUT };          /* all pass; own fibers pass; nobody new passes */
enum { HOLD_ORDINARY = 1, HOLD_OWN = 2, HOLD_MASK = 3 }; /* bits of fiber.snapshot */

/*! \brief From control to a loop ("set the gate") and back ("nobody is inside any more"). */
struct gate_order {
	struct mail_node node;
	struct exclusive *x;
	struct exclusive_here *to;
	enum gate gate;
	uint64_t round;              /* an answer to an older order is ignored */
};

struct exclusive_here {
	uint64_t ordinary, own;      /* fibers inside */
	enum gate gate;
	struct list waiting;         /* struct gate_wait, on the stacks of the waiting fibers */
	struct gate_order *asked;    /* to be answered when the count is zero */
};

struct exclusive {
	_Atomic(const esp_service *) table[SERVICES_MAX + 1];  /* in force, by service number */
	uint64_t round;
	uint32_t unanswered;
	esp_ticket waiter;
};

void exclusive_init(struct exclusive *x, struct modules *m);
/*! \brief [control] This generation is in force (its tables), or no longer (nobody is, if it was). */
void exclusive_set(struct exclusive *x, const struct generation *g, bool in_force);
/*! \brief [any loop, in a fiber] Suspends at a closed gate.  NULL: nobody is in force, or the deadline passed. */
const esp_service *exclusive_service(struct exclusive *x, uint32_t number);
/*! \brief [any loop] The fiber gives its hold back (session end, quiesce); harmless without one. */
void exclusive_leave(struct fiber *f);
/*! \brief [any loop] For the fibers' pins: a child of a fiber that holds; and the end of a life. */
uintptr_t exclusive_inherit(uintptr_t holds);
void exclusive_drop(uintptr_t holds);

/*! \brief [control, in a fiber] Suspends.  Close the gate (OWN or SHUT) on every loop and wait until those who may no
 *  longer enter are out.  ESP_ETIMEDOUT at the deadline: the caller opens the gate again. */
ESP_CHECKED int exclusive_gate(struct modules *m, enum gate gate, esp_nsec deadline);
/*! \brief [control, in a fiber] Suspends, shielded.  Open the gate on every loop. */
void exclusive_open(struct modules *m);

#endif
