/* batch - fibers queue work and wait; one lane takes all that came and finishes it together. */
#include "modules/common/batch.h"

#include <stdlib.h>
#include <unistd.h>

#define MANY   8u      /* fibers that wait */
#define MOMENT 500u    /* us */

void batch_init(struct batch *b, const esp_core *core, esp_module *self, esp_lane *lane,
                void (*run)(void *arg, struct batch_job *list), void *arg)
{
	b->core = core;
	b->self = self;
	b->lane = lane;
	b->run = run;
	b->arg = arg;
	atomic_init(&b->waiting, 0);
	atomic_init(&b->inbox, NULL);
	atomic_init(&b->scheduled, 0);
}

static struct batch_job *take_inbox(struct batch *b)
{
	struct batch_job *newest = atomic_exchange_explicit(&b->inbox, NULL, memory_order_acquire), *oldest = NULL;

	while (newest) {
		struct batch_job *next = newest->next;
		newest->next = oldest;
		oldest = newest;
		newest = next;
	}
	return oldest;
}

static struct batch_job *next_list(struct batch *b)
{
	if (atomic_load(&b->inbox) && atomic_load_explicit(&b->waiting, memory_order_relaxed) >= MANY)
		usleep(MOMENT);
	return take_inbox(b);
}

static void on_lane(void *arg)
{
	struct batch *b = arg;
	struct batch_job *list;

	for (;;) {
		while ((list = next_list(b)) != NULL)
			b->run(b->arg, list);
		atomic_store(&b->scheduled, 0);
		/* a job pushed after the last look and before the store has seen scheduled == 1: look again */
		if (!atomic_load(&b->inbox) || atomic_exchange(&b->scheduled, 1))
			return;
	}
}

static esp_status schedule(struct batch *b)
{
	esp_status st;

	if (atomic_exchange(&b->scheduled, 1))
		return ESP_OK;
	st = b->core->pool->submit(b->self, b->lane, on_lane, b);
	if (st != ESP_OK)
		atomic_store(&b->scheduled, 0);
	return st;
}

static void push(struct batch *b, struct batch_job *job)
{
	atomic_fetch_add_explicit(&b->waiting, 1, memory_order_relaxed);
	job->next = atomic_load_explicit(&b->inbox, memory_order_relaxed);
	/* before schedule() looks, and before the lane's last look in its order: see on_lane() */
	while (!atomic_compare_exchange_weak(&b->inbox, &job->next, job))
		;
	/* the lane holds one drain of ours at most, so its queue cannot be full for long */
	while (schedule(b) != ESP_OK)
		if (b->core->fiber->yield() != ESP_OK)
			break;
}

static void await(const esp_fiber_api *fiber, struct batch_wait *w)
{
	while (atomic_load_explicit(&w->left, memory_order_acquire))
		if (fiber->suspend() == ESP_OK && atomic_load_explicit(&w->left, memory_order_acquire))
			abort();   /* woken by somebody who has no business with this ticket */
}

esp_status batch_do(struct batch *b, struct batch_job *job)
{
	const esp_fiber_api *fiber = b->core->fiber;
	struct batch_wait wait;

	fiber->shield(1);
	wait.ticket = fiber->ticket();
	atomic_init(&wait.left, 1);
	job->wait = &wait;
	push(b, job);
	await(fiber, &wait);
	atomic_fetch_sub_explicit(&b->waiting, 1, memory_order_relaxed);
	fiber->shield(0);
	return job->status;
}

void batch_do_both(struct batch *a, struct batch_job *first, struct batch *b, struct batch_job *second)
{
	const esp_fiber_api *fiber = a->core->fiber;
	struct batch_wait wait;

	fiber->shield(1);
	wait.ticket = fiber->ticket();
	atomic_init(&wait.left, 2);
	first->wait = second->wait = &wait;
	push(a, first);
	push(b, second);
	await(fiber, &wait);
	atomic_fetch_sub_explicit(&a->waiting, 1, memory_order_relaxed);
	atomic_fetch_sub_explicit(&b->waiting, 1, memory_order_relaxed);
	fiber->shield(0);
}

void batch_finish(struct batch *b, struct batch_job *job, esp_status st)
{
	struct batch_wait *wait = job->wait;
	esp_ticket ticket = wait->ticket;

	job->status = st;
	if (atomic_fetch_sub_explicit(&wait->left, 1, memory_order_acq_rel) == 1)
		b->core->fiber->wake(ticket);
}
