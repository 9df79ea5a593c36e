/* core/loop/breadcrumb.h - which module runs at which point, readable from a signal handler and by the watchdog.
 *
 * Trampolines (hooks, life cycle, services, jobs, timers) set it around every call into a module and restore it
 * afterwards.  Each fiber has its own, and so have each worker's callbacks and each lane thread, so a fiber that
 * suspends inside a hook takes its crumb along.  Both strings must live until the control thread frees them
 * (generations are freed there, and the watchdog reads there; for the control loop's own crumb it reads on the
 * observer, which a generation's last message passes before it is freed).
 *
 *	struct breadcrumb was = breadcrumb_enter(module->name, "message");
 *	verdict = hook->fn(...);
 *	breadcrumb_leave(was);
 */
#ifndef CORE_LOOP_BREADCRUMB_H
#define CORE_LOOP_BREADCRUMB_H

#include <stddef.h>

struct breadcrumb { const char *module, *point; };

/*! \brief Where this thread writes; NULL on threads that are not ours. */
extern _Thread_local struct breadcrumb *breadcrumb_here;

static inline void breadcrumb_write(struct breadcrumb *c, struct breadcrumb v)
{
	__atomic_store_n(&c->module, v.module, __ATOMIC_RELEASE);
	__atomic_store_n(&c->point, v.point, __ATOMIC_RELEASE);
}
static inline struct breadcrumb breadcrumb_enter(const char *module, const char *point)
{
	struct breadcrumb *c = breadcrumb_here, was = { NULL, NULL };

	if (c) {
		was = *c;
		breadcrumb_write(c, (struct breadcrumb){ module, point });
	}
	return was;
}
static inline void breadcrumb_leave(struct breadcrumb was)
{
	struct breadcrumb *c = breadcrumb_here;

	if (c)
		breadcrumb_write(c, was);
}
static inline struct breadcrumb breadcrumb_read(const struct breadcrumb *c)
{
	return (struct breadcrumb){ __atomic_load_n(&c->module, __ATOMIC_ACQUIRE),
		__atomic_load_n(&c->point, __ATOMIC_ACQUIRE) };
}

#endif
