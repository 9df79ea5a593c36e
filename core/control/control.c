/* core/control/control.c - accepting, reading and answering on the control socket; see control.h. */
#include "core/control/control.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "config.h"
#include "core/base/assert.h"
#include "core/base/clock.h"
#include "core/base/status.h"
#include "core/bus/log.h"
#include "core/control/command.h"
#include "core/control/frame.h"
#include "core/loop/fiber.h"
#include "core/loop/timer.h"
#include "core/module/snapshot.h"

#define CONTROL_MAGIC 0x43544c31u
#define WHO "core/control"

enum { ACCEPT_BUDGET = 16, PAUSE_MSEC = 100, SILENCE_MSEC = 1000 };

struct control {
	uint32_t magic;
	struct server *server;
	int fd;
	struct watch watch;
	struct timer pause;      /* the callers wait in the socket's queue */
	struct list peers;
	uint32_t npeers;
	bool closed, cut;
};

/* --- bytes --------------------------------------------------------------------------------------------------- */

/* ESP_OK: at least one byte more; ESP_ECLOSED at the peer's end. */
static int peer_read_some(struct peer *p)
{
	for (;;) {
		char *room;
		ssize_t n;
		int status = buffer_reserve(&p->in, 4096, &room);

		if (status)
			return status;
		n = recv(p->fd, room, 4096, 0);
		if (n > 0) {
			buffer_commit(&p->in, (size_t)n);
			return ESP_OK;
		}
		if (n == 0)
			return ESP_ECLOSED;
		if (errno == EAGAIN)
			status = fiber_wait_fd(p->fd, ESP_READ, NULL);
		else if (errno != EINTR)
			return ESP_ECLOSED;
		if (status)
			return status;
	}
}

static int peer_flush(struct peer *p)
{
	esp_nsec was = fiber_set_deadline(clock_monotonic() + CONTROL_WRITE_S * ESP_SEC);
	int status = ESP_OK;

	p->sending = true;
	while (p->out.len && !status) {
		esp_str left = buffer_str(&p->out);
		ssize_t n = send(p->fd, left.ptr, left.len, MSG_NOSIGNAL);

		if (n > 0)
			buffer_consume(&p->out, (size_t)n);
		else if (n < 0 && errno == EAGAIN)
			status = p->control->cut ? ESP_ECLOSED : fiber_wait_fd(p->fd, ESP_WRITE, NULL);
		else if (n < 0 && errno != EINTR)
			status = ESP_ECLOSED;
	}
	p->sending = false;
	fiber_set_deadline(was);
	return status;
}

int peer_send(struct peer *p, char type, esp_str payload)
{
	int status = frame_put(&p->out, type, payload);

	return status ? status : peer_flush(p);
}

int peer_send_all(struct peer *p, char type, esp_str text)
{
	int status = ESP_OK;

	/* the command has done its work: a peer that takes its time must not keep old modules alive */
	snapshot_unpin(snapshot_enter(NULL));
	while (text.len && !status) {
		size_t n = text.len > FRAME_MAX_ANSWER ? FRAME_MAX_ANSWER : text.len;

		status = peer_send(p, type, (esp_str){ text.ptr, n });
		text = (esp_str){ text.ptr + n, text.len - n };
	}
	return status;
}

bool peer_is_gone(const struct peer *p)
{
	char byte;

	return recv(p->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
}

/* --- requests ------------------------------------------------------------------------------------------------ */

static int peer_next_frame(struct peer *p, struct frame *f)
{
	esp_nsec was = fiber_set_deadline(clock_monotonic() + CONTROL_REQUEST_S * ESP_SEC);
	size_t used;
	int status;

	while ((status = frame_parse(buffer_str(&p->in), FRAME_MAX_REQUEST, f, &used)) == ESP_EAGAIN) {
		status = peer_read_some(p);
		if (status)
			break;
	}
	fiber_set_deadline(was);
	return status;
}

static int peer_answer(struct peer *p, const struct frame *f)
{
	esp_str words[FRAME_MAX_WORDS], input;
	struct buffer reason;
	uint32_t n;
	int status;

	if (f->type != FRAME_REQUEST || frame_words(f->payload, words, &n, &input) != ESP_OK)
		return ESP_EPROTO;
	buffer_init(&reason, FRAME_MAX_ANSWER);
	p->busy = true;
	status = command_run(p, words, n, input, &reason);
	if (!status)
		status = peer_send(p, FRAME_DONE, (esp_str){ NULL, 0 });
	else if (status != ESP_ECLOSED)
		status = peer_send(p, status == ESP_EUSAGE ? FRAME_USAGE : FRAME_ERROR, buffer_str(&reason));
	p->busy = false;
	buffer_free(&reason);
	return status;
}

static void peer_serve(struct peer *p)
{
	static const char hello[] = "{\"server\":\"esp\",\"version\":\"" PACKAGE_VERSION "\"}";
	int status = peer_send(p, FRAME_HELLO, (esp_str){ hello, sizeof(hello) - 1 });
	struct frame f;

	if (!status)
		status = peer_next_frame(p, &f);
	if (!status && !p->leaving)
		status = peer_answer(p, &f);
	if (status == ESP_EPROTO || status == ESP_E2BIG)
		log_line(ESP_LOG_WARNING, WHO, "closed a control connection that does not speak the protocol",
		         log_cstr("reason", status_text(status)));
}

/* Ends soon: whoever waits in its fiber is woken. */
static void peer_dismiss(struct peer *p)
{
	p->leaving = true;
	fiber_cancel(p->fiber);
}

static void peer_fiber(void *arg)
{
	struct peer *p = arg;
	struct control *c = p->control;

	peer_serve(p);
	list_remove(&p->link);
	c->npeers--;
	close(p->fd);
	buffer_free(&p->in);
	buffer_free(&p->out);
	free(p);
}

/* --- accepting ----------------------------------------------------------------------------------------------- */

static bool peer_is_allowed(int fd, uid_t *ret_uid)
{
	struct ucred cred = { 0 };
	socklen_t len = sizeof(cred);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len))
		return false;
	*ret_uid = cred.uid;
	return cred.uid == 0 || cred.uid == geteuid();
}

static bool peer_start(struct control *c, int fd)
{
	struct peer *p = calloc(1, sizeof(*p));

	if (!p)
		return false;
	p->control = c;
	p->server = c->server;
	p->fd = fd;
	p->since = clock_monotonic();
	buffer_init(&p->in, FRAME_MAX_REQUEST + FRAME_HEAD + 4096);
	buffer_init(&p->out, 4 * FRAME_MAX_ANSWER);
	list_append(&c->peers, &p->link);
	c->npeers++;
	if (fiber_spawn(NULL, FIBER_RESERVED, "control-peer", peer_fiber, p, &p->fiber) == ESP_OK)
		return true;
	list_remove(&p->link);
	c->npeers--;
	free(p);
	return false;
}

enum room { ROOM, ROOM_LATER, ROOM_NEVER };

/* Who has asked for nothing so far makes room for a newcomer, the oldest first, but has a moment to ask; who runs a
 * command stays. */
static enum room make_room(struct control *c)
{
	uint32_t staying = 0;
	struct peer *oldest = NULL;

	list_for(node, &c->peers) {
		struct peer *p = list_entry(node, struct peer, link);

		staying += !p->leaving;
		if (!oldest && !p->leaving && !p->busy)
			oldest = p;
	}
	if (staying < CONTROL_PEERS)
		return ROOM;
	if (!oldest)
		return ROOM_NEVER;
	if (clock_monotonic() - oldest->since < SILENCE_MSEC * ESP_MSEC)
		return ROOM_LATER;
	peer_dismiss(oldest);
	return ROOM;
}

/* What a socket takes at once must do: nobody waits for somebody who was not let in. */
static void turn_away(int fd)
{
	static const char reason[] = "too many commands are under way on the control socket: try again later";
	struct buffer out;

	buffer_init(&out, FRAME_MAX_ANSWER);
	if (frame_put(&out, FRAME_HELLO, ESP_STR("{}")) == ESP_OK &&
	    frame_put(&out, FRAME_ERROR, (esp_str){ reason, sizeof(reason) - 1 }) == ESP_OK)
		(void)!send(fd, buffer_str(&out).ptr, out.len, MSG_NOSIGNAL | MSG_DONTWAIT);
	buffer_free(&out);
}

static void on_pause_over(struct timer *t)
{
	watch_set(&container_of(t, struct control, pause)->watch, ESP_READ);
}

/* Without room or a descriptor the callers stay in the queue, where the loop would find them again at once. */
static void pause_accepting(struct control *c)
{
	watch_set(&c->watch, 0);
	if (timer_start(&c->pause, NULL, "control", PAUSE_MSEC * ESP_MSEC, on_pause_over) != ESP_OK)
		watch_set(&c->watch, ESP_READ);
}

/* false: nobody more now. */
static bool accept_one(struct control *c)
{
	enum room room = make_room(c);
	uid_t uid = (uid_t)-1;
	int fd = room == ROOM_LATER ? -1 : accept4(c->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0) {
		if (room == ROOM_LATER || errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
			pause_accepting(c);
		return false;
	}
	if (!peer_is_allowed(fd, &uid)) {
		log_line(ESP_LOG_WARNING, WHO, "refused a control connection of another user", ESP_FINT("uid", uid));
	} else if (room == ROOM_NEVER) {
		turn_away(fd);
	} else if (peer_start(c, fd)) {
		return true;
	}
	close(fd);
	return true;
}

static void on_connection(struct watch *w, uint32_t events)
{
	struct control *c = container_of(w, struct control, watch);

	(void)events;
	for (int i = 0; i < ACCEPT_BUDGET; i++)
		if (!accept_one(c))
			return;
}

int control_start(struct server *s, int fd, struct control **ret)
{
	struct control *c = calloc(1, sizeof(*c));

	if (!c)
		return ESP_ENOMEM;
	MAGIC_SET(c, CONTROL_MAGIC);
	c->server = s;
	c->fd = fd;
	list_init(&c->peers);
	watch_start(&c->watch, NULL, "control", fd, ESP_READ, on_connection);
	*ret = c;
	return ESP_OK;
}

void control_close(struct control *c)
{
	MAGIC_CHECK(c, CONTROL_MAGIC);
	if (c->closed)
		return;
	c->closed = true;
	timer_stop(&c->pause);
	watch_stop(&c->watch);
	close(c->fd);
	list_for(node, &c->peers) {
		struct peer *p = list_entry(node, struct peer, link);

		if (!p->busy)
			peer_dismiss(p);
	}
}

void control_cut(struct control *c)
{
	MAGIC_CHECK(c, CONTROL_MAGIC);
	c->cut = true;
	list_for(node, &c->peers) {
		struct peer *p = list_entry(node, struct peer, link);

		if (p->sending)
			peer_dismiss(p);
	}
}

uint32_t control_peers(const struct control *c)
{
	return c->npeers;
}

void control_free(struct control *c)
{
	if (!c)
		return;
	MAGIC_CHECK(c, CONTROL_MAGIC);
	ESP_ASSERT(c->closed && c->npeers == 0);
	MAGIC_CLEAR(c);
	free(c);
}
