/* core/loop/pool.h - lanes of threads for work that blocks (the core's side of esp/pool.h).
 *
 * Threads are started on demand up to the lane's width and live as long as the lane.  The owner's job count is
 * dropped by the trampoline after the module's function returned.  A job touches no core object.
 */
#ifndef CORE_LOOP_POOL_H
#define CORE_LOOP_POOL_H

#include <esp/abi.h>
#include <esp/pool.h>

struct lane;
struct owner;

static inline struct lane *lane_of(esp_lane *l) { return (struct lane *)(void *)l; }
static inline esp_lane *lane_pub(struct lane *l) { return (esp_lane *)(void *)l; }

/*! \brief [any] "sync" (8), "hash" (cores/2), "misc" (4), "names" (8: core/net/lookup.h alone); NULL for another
 *  name.  Live as long as the loops; a job of "names" may outlive them and touches nothing of theirs once its fiber
 *  has gone. */
struct lane *pool_shared(const char *name);
/*! \brief [control] width 1..64, queue 1..1,000,000.  NULL: out of range or no memory. */
struct lane *lane_open(struct owner *owner, const char *name, uint32_t width, uint32_t queue);
/*! \brief [control] Refuse new jobs, run the queued ones, then end the threads and free the lane; returns at once. */
void lane_close(struct lane *l);
/*! \brief [control] lane_close() every private lane of this owner. */
void lane_close_owned(const struct owner *owner);
/*! \brief [worker] ESP_SUSPENDS, shielded once the job runs. See esp_pool_api.run. */
ESP_CHECKED esp_status lane_run(struct lane *l, struct owner *owner, int32_t (*fn)(void *), void *arg, int32_t *ret);
/*! \brief [any] Nobody waits.  ESP_EBUSY: full or closed. */
ESP_CHECKED esp_status lane_submit(struct lane *l, struct owner *owner, void (*fn)(void *), void *arg);

/* core/loop's own */
struct loop_stall;
/*! \brief [control] Tell of every job that has run for `limit`, at every tenfold of it, and when it is done. */
void pool_watch(esp_nsec limit, esp_nsec now, void (*tell)(const struct loop_stall *s));
ESP_CHECKED esp_status pool_init(void);
void pool_free(void); /* waits for every lane thread but those of "names" */
extern _Thread_local const char *pool_lane_name; /* NULL outside lane threads */

#endif
