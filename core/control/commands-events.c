/* core/control/commands-events.c - `events tail`: facts as they happen.
 *
 * Each tail is a subscriber of its own.  The observer writes every event as one line of JSON into the tail's bounded
 * buffer (under a mutex that nobody holds while waiting) and wakes the peer's fiber, which sends the lines.  A peer
 * that reads too slowly loses events; a line says how many.  It ends when the peer closes, or after --count events.
 */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/assert.h"
#include "core/base/clock.h"
#include "core/base/status.h"
#include "core/base/str.h"
#include "core/bus/event.h"
#include "core/bus/line.h"
#include "core/control/command.h"
#include "core/control/frame.h"
#include "core/control/server-priv.h"
#include "core/loop/owner.h"
#include "core/module/snapshot.h"

enum { TAIL_BUFFER = 4 << 20, TAIL_LINE = 32768 };

/* When the server stops, its last facts are on their way: a tail ends when none came for so long. */
#define LAST_WORDS (100 * ESP_MSEC)

struct tail {
	struct module_core as_module;    /* first: what the bus knows as the subscriber */
	pthread_mutex_t lock;            /* guards the rest */
	struct buffer lines;             /* texts, each ended by \n */
	uint64_t lost;
	esp_ticket ticket;
	bool waiting;
};

/* --- on the observer ----------------------------------------------------------------------------------------- */

static void put_event(struct line *l, const esp_event *e)
{
	line_puts(l, "{\"time\":\"");
	line_time(l, e->wall, e->wall_nsec);
	line_puts(l, "\",\"event\":\"");
	line_puts(l, e->name);
	line_puts(l, "\",\"source\":");
	line_json(l, str_of(e->source));
	for (uint32_t i = 0; i < e->nfields; i++) {
		esp_field f = line_field_at(e->fields, i, e->field_size);

		line_puts(l, ",\"");
		line_key(l, f.key);
		line_puts(l, "\":");
		line_field(l, &f, true);
	}
	line_puts(l, "}\n");
}

static void on_events(esp_module *self, const esp_event *const *events, uint32_t n)
{
	struct tail *t = container_of(container_of(self, struct module_core, pub), struct tail, as_module);
	char *text = malloc(TAIL_LINE);

	pthread_mutex_lock(&t->lock);
	for (uint32_t i = 0; i < n; i++) {
		struct line l = line_on(text, TAIL_LINE);

		if (text)
			put_event(&l, events[i]);
		if (!text || l.cut || buffer_append(&t->lines, text, l.len) != ESP_OK)
			t->lost++;
	}
	if (t->waiting)
		fiber_wake(t->ticket);
	t->waiting = false;
	pthread_mutex_unlock(&t->lock);
	free(text);
}

/* --- in the peer's fiber ------------------------------------------------------------------------------------- */

/* ESP_EUSAGE: it is no pattern. */
static int tail_new(esp_str pattern, struct tail **ret, esp_err *err)
{
	struct tail *t = calloc(1, sizeof(*t));
	esp_subscription sub = { .size = sizeof(sub), .overflow = ESP_DROP_NEWEST, .on_events = on_events };
	char text[128];
	esp_module *self;
	int status;

	if (!t)
		return ESP_ENOMEM;
	owner_init(&t->as_module.owner, "events tail");
	t->as_module.pub.name = "events tail";
	self = &t->as_module.pub;
	pthread_mutex_init(&t->lock, NULL);
	buffer_init(&t->lines, TAIL_BUFFER);
	sub.pattern = text;
	status = str_copy(text, sizeof(text), pattern);
	if (!status)
		status = event_subscribe(self, &sub);
	if (!status) {
		event_switch(NULL, 0, &self, 1);
		*ret = t;
		return ESP_OK;
	}
	esp_err_set(err, status == ESP_EINVAL ? "\"%.*s\" is no pattern; \"message.received\", \"message.*\" and \"*\" are"
	            : "cannot subscribe to \"%.*s\": too many subscribers", ESP_FMT(pattern));
	owner_fini(&t->as_module.owner);
	pthread_mutex_destroy(&t->lock);
	free(t);
	return status == ESP_EINVAL ? ESP_EUSAGE : status;
}

static void tail_free(struct tail *t)
{
	esp_module *self = &t->as_module.pub;

	fiber_shield(1);
	event_switch(&self, 1, NULL, 0);
	event_forget(self, clock_monotonic());   /* nobody reads what is still queued */
	while (owner_total(&t->as_module.owner))   /* the last batch is done; its fiber ends on the observer */
		(void)!fiber_sleep_until(clock_monotonic() + ESP_MSEC);
	fiber_shield(0);
	owner_fini(&t->as_module.owner);
	pthread_mutex_destroy(&t->lock);
	buffer_free(&t->lines);
	free(t);
}

/* What has gathered since the last call; empties it. */
static struct buffer tail_take(struct tail *t, uint64_t *ret_lost)
{
	struct buffer taken, fresh;

	buffer_init(&fresh, TAIL_BUFFER);
	pthread_mutex_lock(&t->lock);
	taken = t->lines;
	*ret_lost = t->lost;
	t->lines = fresh;
	t->lost = 0;
	t->waiting = taken.len == 0;
	if (t->waiting)
		t->ticket = fiber_ticket();
	pthread_mutex_unlock(&t->lock);
	return taken;
}

/* Sends at most *left lines (0: all there are). */
static int send_lines(struct peer *p, esp_str text, uint64_t *left)
{
	esp_str one;
	int status = ESP_OK;

	while (!status && str_split(&text, '\n', &one)) {
		if (!one.len)
			continue;
		status = peer_send(p, FRAME_LINE, one);
		if (*left && --*left == 0)
			return ESP_ENOENT;
	}
	return status;
}

static int tail_run(struct tail *t, struct peer *p, uint64_t left)
{
	int status = ESP_OK;

	while (!status) {
		bool stopping = p->server->state == HEALTH_STOPPING;
		esp_nsec was;
		uint64_t lost;
		struct buffer lines = tail_take(t, &lost);

		if (lines.len)
			status = send_lines(p, buffer_str(&lines), &left);
		if (!status && lost) {
			char note[64];

			status = peer_send(p, FRAME_LINE, (esp_str){ note, (size_t)snprintf(note, sizeof(note),
			                   "{\"event\":\"events.lost\",\"lost\":%llu}", (unsigned long long)lost) });
		}
		if (lines.len) {
			buffer_free(&lines);
			continue;
		}
		buffer_free(&lines);
		/* a look each second whether the peer is still there; and the pinned snapshot is exchanged */
		was = fiber_set_deadline(clock_monotonic() + (stopping ? LAST_WORDS : ESP_SEC));
		status = fiber_suspend();
		fiber_set_deadline(was);
		if (status == ESP_ETIMEDOUT)
			status = peer_is_gone(p) ? ESP_ECLOSED : stopping ? ESP_ENOENT : ESP_OK;
		snapshot_unpin(snapshot_enter(snapshot_pin(snapshot_here())));
	}
	return status == ESP_ENOENT ? ESP_OK : status;
}

static int run_tail(struct command_call *call)
{
	esp_str pattern = ESP_STR("*"), text;
	uint64_t count = 0;
	struct tail *t;
	int status = command_expect(call, 1, "--count");

	if (status)
		return status;
	command_argument(call, 0, &pattern);
	if (command_option(call, "--count", &text) && (str_u64(text, &count) || !count))
		return err_fail(call->pub.err, ESP_EUSAGE, "--count wants a number above 0");
	status = tail_new(pattern, &t, call->pub.err);
	if (status)
		return status;
	call->streamed = true;
	status = tail_run(t, call->peer, count);
	tail_free(t);
	return status == ESP_OK || status == ESP_ECANCELED ? ESP_OK : ESP_ECLOSED;
}

const struct command commands_events[] = { { COMMAND_EVENTS_TAIL, run_tail }, { .run = NULL } };
