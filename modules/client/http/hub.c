/* hub - a worker's curl: its descriptors and its timer on the loop, the connections it keeps, who waits for room.
 *
 * Made when the first request comes and closed when none came for `keep`: an idle connection whose server has left
 * would else stay for ever, as curl looks at it only for the next request.  While draining it is closed with the last
 * request, and what still runs at the deadline is cancelled here: its callers belong to other modules.
 */
#include "http.h"

#include <stdlib.h>
#include <string.h>

struct sock { struct hub *hub; int fd; esp_watch *watch; };

struct hub *hub_here(struct http *h)
{
	esp_worker *w = h->core.loop->here();
	uint32_t i = w ? h->core.loop->index(w) : UINT32_MAX;

	if (!w || !h->core.fiber->current())
		return NULL;
	if (i < h->nhubs - 1)
		return &h->hub[i];
	return w == h->control ? &h->hub[h->nhubs - 1] : NULL;
}

/* --- what curl did ------------------------------------------------------------------------------------------- */

static void finish(struct hop *hop, CURLcode code)
{
	hop->code = code;
	hop->done = 1;
	hop->http->core.fiber->wake(hop->ticket);
}

/* [callback] Which requests have ended?  A multi that reports an error itself does nothing any more. */
static void harvest(struct hub *hub, CURLMcode code)
{
	CURLMsg *msg;
	int left;

	while ((msg = curl_multi_info_read(hub->multi, &left)) != NULL) {
		struct hop *hop = NULL;
		if (msg->msg == CURLMSG_DONE && curl_easy_getinfo(msg->easy_handle, CURLINFO_PRIVATE, &hop) == CURLE_OK && hop)
			finish(hop, msg->data.result);
	}
	if (code == CURLM_OK)
		return;
	hub->broken = 1;
	for (struct hop *hop = hub->first; hop; hop = hop->next)
		if (!hop->done) {
			hop->lost = 1;
			finish(hop, CURLE_OUT_OF_MEMORY);
		}
}

static void on_ready(void *arg, uint32_t events)
{
	struct sock *s = arg;
	struct hub *hub = s->hub;
	int running, what = (events & ESP_READ ? CURL_CSELECT_IN : 0) | (events & ESP_WRITE ? CURL_CSELECT_OUT : 0);

	harvest(hub, curl_multi_socket_action(hub->multi, s->fd, what, &running));   /* s may be gone */
}

static void on_time(void *arg)
{
	struct hub *hub = arg;
	int running;

	hub->timer = NULL;
	harvest(hub, curl_multi_socket_action(hub->multi, CURL_SOCKET_TIMEOUT, 0, &running));
}

/* --- what curl wants ----------------------------------------------------------------------------------------- */

static int on_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *of_fd)
{
	struct hub *hub = arg;
	const esp_loop_api *loop = hub->http->core.loop;
	struct sock *s = of_fd;
	uint32_t events = (what & CURL_POLL_IN ? ESP_READ : 0) | (what & CURL_POLL_OUT ? ESP_WRITE : 0);

	(void)easy;
	if (what == CURL_POLL_REMOVE) {
		if (s)
			loop->unwatch(s->watch);
		free(s);
		(void)curl_multi_assign(hub->multi, fd, NULL);
		return 0;
	}
	if (s) {
		loop->rewatch(s->watch, events);
		return 0;
	}
	s = calloc(1, sizeof *s);
	if (!s)
		return -1;
	*s = (struct sock){ hub, fd, loop->watch(hub->http->self, fd, events, on_ready, s) };
	if (!s->watch || curl_multi_assign(hub->multi, fd, s) != CURLM_OK) {
		loop->unwatch(s->watch);
		free(s);
		return -1;
	}
	return 0;
}

/* Never straight into curl, also for 0 ms: it is in the middle of something. */
static int on_timer(CURLM *multi, long ms, void *arg)
{
	struct hub *hub = arg;
	const esp_loop_api *loop = hub->http->core.loop;

	(void)multi;
	loop->untimer(hub->timer);
	hub->timer = ms < 0 ? NULL : loop->after(hub->http->self, (esp_nsec)ms * ESP_MSEC, on_time, hub);
	return ms < 0 || hub->timer ? 0 : -1;
}

/* --- opening and closing --------------------------------------------------------------------------------------- */

static int open_multi(struct hub *hub)
{
	if (hub->multi)
		return 1;
	hub->multi = curl_multi_init();
	if (!hub->multi)
		return 0;
	(void)curl_multi_setopt(hub->multi, CURLMOPT_SOCKETFUNCTION, on_socket);
	(void)curl_multi_setopt(hub->multi, CURLMOPT_SOCKETDATA, hub);
	(void)curl_multi_setopt(hub->multi, CURLMOPT_TIMERFUNCTION, on_timer);
	(void)curl_multi_setopt(hub->multi, CURLMOPT_TIMERDATA, hub);
	(void)curl_multi_setopt(hub->multi, CURLMOPT_PIPELINING, (long)CURLPIPE_NOTHING);
	(void)curl_multi_setopt(hub->multi, CURLMOPT_MAXCONNECTS, (long)hub->http->most_kept);
	return 1;
}

void hub_close(struct hub *hub)
{
	const esp_loop_api *loop = hub->http->core.loop;

	if (hub->multi)
		(void)curl_multi_cleanup(hub->multi);
	loop->untimer(hub->timer);
	loop->untimer(hub->idle);
	hub->multi = NULL;
	hub->timer = hub->idle = NULL;
	hub->broken = 0;
}

static void on_idle(void *arg)
{
	struct hub *hub = arg;

	hub->idle = NULL;
	if (!hub->first)
		hub_close(hub);
}

/* The last one has left. */
static void rest(struct hub *hub)
{
	const esp_loop_api *loop = hub->http->core.loop;

	loop->untimer(hub->idle);
	hub->idle = hub->draining || hub->broken ? NULL : loop->after(hub->http->self, hub->http->keep, on_idle, hub);
	if (!hub->idle)
		hub_close(hub);
}

esp_status hub_add(struct hub *hub, struct hop *hop)
{
	if (hub->broken || hub->over || !open_multi(hub))
		return hub->over ? ESP_ECANCELED : ESP_ENOMEM;
	hop->hub = hub;
	hop->next = hub->first;
	hop->link = &hub->first;
	if (hub->first)
		hub->first->link = &hop->next;
	hub->first = hop;
	if (curl_multi_add_handle(hub->multi, hop->easy) == CURLM_OK)
		return ESP_OK;
	hub_remove(hub, hop);
	return ESP_ENOMEM;
}

void hub_remove(struct hub *hub, struct hop *hop)
{
	if (!hop->link)
		return;
	(void)curl_multi_remove_handle(hub->multi, hop->easy);
	*hop->link = hop->next;
	if (hop->next)
		hop->next->link = hop->link;
	hop->link = NULL;
	if (!hub->first)
		rest(hub);
}

/* --- the end ----------------------------------------------------------------------------------------------------- */

static void on_end(void *arg)
{
	struct hub *hub = arg;

	hub->end = NULL;
	hub->over = 1;
	for (struct hop *hop = hub->first; hop; hop = hop->next) {
		hop->canceled = 1;
		hub->http->core.fiber->wake(hop->ticket);
	}
	hub->http->core.fiber->broadcast(&hub->room[0]);
	hub->http->core.fiber->broadcast(&hub->room[1]);
	for (struct target *t = hub->targets; t; t = t->next)
		hub->http->core.fiber->broadcast(&t->room);
}

void hub_drain(struct hub *hub)
{
	const esp_loop_api *loop = hub->http->core.loop;
	esp_nsec until = atomic_load(&hub->http->drain_until);

	hub->draining = 1;
	if (!hub->first)
		hub_close(hub);
	if (until && !hub->end)
		hub->end = loop->after(hub->http->self, until - loop->clock(), on_end, hub);
}

/* --- who waits for room
 * -------------------------------------------------------------------------------------------- */

static struct target *target_get(struct hub *hub, const char *key)
{
	struct target *t = hub->targets;

	while (t && strcmp(t->key, key) != 0)
		t = t->next;
	if (t || strlen(key) >= sizeof t->key)
		return t;
	t = calloc(1, sizeof *t);
	if (t) {
		memcpy(t->key, key, strlen(key));
		t->next = hub->targets;
		hub->targets = t;
	}
	return t;
}

static void target_put(struct hub *hub, struct target *t)
{
	struct target **at = &hub->targets;

	if (t->running || t->waiting)
		return;
	while (*at != t)
		at = &(*at)->next;
	*at = t->next;
	free(t);
}

/* URLs that others chose have half of the room: slow servers that a tenant names keep no filter waiting. */
static uint32_t share(uint32_t most, int untrusted) { return untrusted ? (most + 1) / 2 : most; }

static int is_full(const struct hub *hub, int untrusted)
{
	return hub->running >= hub->http->most || (untrusted && hub->untrusted >= share(hub->http->most, 1));
}

/* In line behind those who wait already: one that is woken finds its place still free. */
static esp_status wait_for(struct hub *hub, struct target *t, uint32_t most, int untrusted)
{
	const esp_fiber_api *fiber = hub->http->core.fiber;
	esp_status st = ESP_OK;

	if (t->running >= most || t->waiting > 1)
		st = fiber->wait(&t->room);
	while (st == ESP_OK && t->running >= most && !hub->over)
		st = fiber->wait(&t->room);
	if (st == ESP_OK)
		t->running++;
	while (st == ESP_OK && is_full(hub, untrusted) && !hub->over) {
		st = fiber->wait(&hub->room[untrusted]);
		if (st != ESP_OK) {
			t->running--;
			fiber->signal(&hub->room[untrusted]);
		}
	}
	if (t->running < most)
		fiber->signal(&t->room);
	return st;
}

esp_status hub_enter(struct hub *hub, const char *key, uint32_t most, int untrusted, struct target **ret)
{
	struct target *t = target_get(hub, key);
	esp_status st = ESP_OK;

	if (!t)
		return ESP_ENOMEM;
	if (t->running < most && !t->waiting && !is_full(hub, untrusted)) {
		t->running++;
	} else if (hub->waiting[0] + hub->waiting[1] >= hub->http->most_waiting
			   || hub->waiting[untrusted] >= share(hub->http->most_waiting, untrusted)) {
		st = ESP_EBUSY;
	} else {
		hub->waiting[untrusted]++;
		t->waiting++;
		st = wait_for(hub, t, most, untrusted);
		hub->waiting[untrusted]--;
		t->waiting--;
	}
	if (st != ESP_OK) {
		target_put(hub, t);
		return st;
	}
	hub->running++;
	hub->untrusted += (uint32_t)untrusted;
	hub->http->metric->add(hub->http->running, 1);
	*ret = t;
	return ESP_OK;
}

void hub_leave(struct hub *hub, struct target *t, int untrusted)
{
	const esp_fiber_api *fiber = hub->http->core.fiber;

	hub->running--;
	hub->untrusted -= (uint32_t)untrusted;
	hub->http->metric->add(hub->http->running, -1);
	t->running--;
	fiber->signal(&t->room);
	fiber->signal(&hub->room[0]);
	fiber->signal(&hub->room[1]);
	target_put(hub, t);
}

int hub_hold(struct hub *hub, size_t bytes)
{
	if (bytes > hub->http->most_memory - hub->held)
		return 0;
	hub->held += bytes;
	return 1;
}

void hub_unhold(struct hub *hub, size_t bytes) { hub->held -= bytes; }
