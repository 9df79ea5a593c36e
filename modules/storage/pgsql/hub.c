/* hub - the connections of one worker, and its clock.
 *
 * The tick runs only while somebody waits: it frees who waited too long, and gives up a connection whose server says
 * nothing (stopped, cut off) although an answer is due.
 */
#include "pgsql.h"

#include <stdlib.h>

#define TICK  (100 * ESP_MSEC)
#define GRACE (2 * ESP_SEC)      /* beyond the server's own statement_timeout */

struct hub *hub_here(struct pgsql *p)
{
	const esp_loop_api *loop = p->core.loop;
	esp_worker *here = loop->here();
	uint32_t i = here ? loop->index(here) : UINT32_MAX;

	return i < p->nworkers && loop->worker(i) == here ? &p->hub[i] : NULL;
}

esp_status hubs_new(struct pgsql *p)
{
	p->hub = calloc(p->nworkers, sizeof *p->hub);
	if (!p->hub)
		return ESP_ENOMEM;
	for (uint32_t i = 0; i < p->nworkers; i++) {
		struct hub *h = &p->hub[i];
		h->p = p;
		h->index = i;
		h->end = &h->first;
		h->nlinks = p->set.connections;
		h->nreaders = 1 + (h->nlinks - 1) / 3;
		if (h->nreaders < 2)
			h->nreaders = 2;
		for (uint32_t k = 0; k < h->nlinks; k++) {
			h->link[k].hub = h;
			h->link[k].end = &h->link[k].first;
		}
	}
	return ESP_OK;
}

void hubs_free(struct pgsql *p)
{
	free(p->hub);
	p->hub = NULL;
}

void hub_changed(struct hub *h)
{
	h->p->core.fiber->broadcast(&h->changed);
	group_work(h);
}

static int tick_link(struct hub *h, struct link *l, esp_nsec now)
{
	if (!l->up)
		return 0;
	if (l->first && now - l->progress > h->p->set.statement_timeout + GRACE)
		link_lost(l, "the server does not answer");
	return l->up && (l->first || l->busy);
}

static void on_tick(void *arg)
{
	struct hub *h = arg;
	esp_nsec now = h->p->core.loop->clock();
	int more = 0;

	h->tick = NULL;
	group_expire(h, now);
	for (uint32_t i = 0; i < h->nlinks; i++)
		more |= tick_link(h, &h->link[i], now);
	hub_changed(h);
	if (more || h->njobs || h->waiting)
		hub_watch_time(h);
}

void hub_watch_time(struct hub *h)
{
	if (!h->tick)
		h->tick = h->p->core.loop->after(h->p->self, TICK, on_tick, h);
}

void hub_stop(struct hub *h)
{
	if (h->tick)
		h->p->core.loop->untimer(h->tick);
	h->tick = NULL;
	for (uint32_t i = 0; i < h->nlinks; i++)
		link_close(&h->link[i]);
}
