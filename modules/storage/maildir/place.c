/* place - the message files of small messages are made here, while the journal syncs.
 *
 * A lane of width 1 takes every file that waits, in the order they were asked for.  A file is not synced: the journal
 * has its bytes until a checkpoint, and place_settle() tells the checkpoint when all files asked for so far are there.
 */
#include "maildir.h"

#include <unistd.h>

static void on_jobs(void *arg, struct batch_job *list)
{
	struct maildir *m = arg;

	while (list) {
		struct place_job *job = (struct place_job *)list;
		list = list->next;
		esp_status st = file_write(m, job->id, job->iov, 2);
		atomic_fetch_add(&m->placed, 1);
		batch_finish(&m->place, &job->batch, st);
	}
}

esp_status place_start(struct maildir *m)
{
	esp_lane *lane = m->core.pool->open(m->self, "maildir-place", 1, 65536);

	if (!lane)
		return ESP_ENOMEM;
	batch_init(&m->place, &m->core, m->self, lane, on_jobs, m);
	return ESP_OK;
}

/* `asked` is raised before a job is queued and `placed` follows the queue's order: at placed == asked, whatever had
 * been queued when `asked` was read is there. */
void place_settle(struct maildir *m)
{
	uint64_t until = atomic_load(&m->asked);

	while (atomic_load(&m->placed) < until)
		usleep(500);
}
