/* batch - fibers queue work and wait; one lane takes all that came and finishes it together (group commit).
 *
 * While the lane waits for the disk the next batch gathers: the busier, the fewer syncs a job.  While many fibers wait,
 * the lane gives a batch another moment: each batch costs work and waking, and to a job among many the moment makes no
 * difference.  A job lives on its fiber's stack; the fiber waits shielded until the lane called batch_finish() for it.
 * A fiber may have jobs in two batches at once: it is woken when the last is finished.
 */
#ifndef ESP_COMMON_BATCH_H
#define ESP_COMMON_BATCH_H

#include <esp/host.h>

#include <stdatomic.h>

/*! \brief The fiber that waits, and for how many jobs. */
struct batch_wait { esp_ticket ticket; atomic_int left; };

/*! \brief First member of a user's job. */
struct batch_job { struct batch_job *next; struct batch_wait *wait; esp_status status; };

struct batch {
	const esp_core *core;
	esp_module *self;
	esp_lane *lane;            /* private, width 1 */
	/*! [lane] Do these jobs, oldest first, linked by next; call batch_finish() for each exactly once. */
	void (*run)(void *arg, struct batch_job *list);
	void *arg;
	atomic_uint waiting;       /* fibers */
	_Atomic(struct batch_job *) inbox; /* newest first; pushed by workers, taken whole by the lane */
	atomic_int scheduled;      /* a drain is queued or running on the lane */
};

void batch_init(struct batch *b, const esp_core *core, esp_module *self, esp_lane *lane,
                void (*run)(void *arg, struct batch_job *list), void *arg);
/*! \brief [worker, control; fiber] ESP_SUSPENDS, shielded.  Returns what batch_finish() was given. */
esp_status batch_do(struct batch *b, struct batch_job *job);
/*! \brief The same for one job in each of two batches, side by side; `first` is queued first.  The results are in the
 *  jobs. */
void batch_do_both(struct batch *a, struct batch_job *first, struct batch *b, struct batch_job *second);
/*! \brief [lane] The job is the fiber's again: do not touch it afterwards. */
void batch_finish(struct batch *b, struct batch_job *job, esp_status st);

#endif
