/* core/control/server-link.c - the server process's end of the link to its supervisor.
 *
 * The supervisor is trusted; a link that ends means it is gone, and so are we (PR_SET_PDEATHSIG does the same).
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/assert.h"
#include "core/base/clock.h"
#include "core/base/status.h"
#include "core/base/str.h"
#include "core/bus/log.h"
#include "core/control/server-priv.h"
#include "core/loop/loop.h"
#include "core/module/modules.h"

#define WHO "core/control"
enum { OPEN_LIMIT_S = 10 };

/* --- sockets ------------------------------------------------------------------------------------------------- */

void server_sockets_close(struct server *s)
{
	for (size_t i = 0; i < s->sockets.n; i++)
		if (s->sockets.fd[i] >= 0)
			close(s->sockets.fd[i]);
	s->sockets.n = 0;
}

int server_sockets_take(struct server *s, const char *address)
{
	for (size_t i = 0; i < s->sockets.n; i++)
		if (s->sockets.fd[i] >= 0 && strcmp(s->sockets.address[i], address) == 0) {
			int fd = s->sockets.fd[i];

			s->sockets.fd[i] = -1;
			return fd;
		}
	return -1;
}

/* Take over what LINK_SOCKETS brought; addresses and descriptors come in the same order. */
static void sockets_receive(struct server *s)
{
	const char *text = s->msg.text, *end = text + s->msg.len;
	uint32_t i;

	server_sockets_close(s);
	for (i = 0; i < s->msg.nfds && text < end && s->sockets.n < SOCKETS_MAX; i++) {
		size_t n = s->sockets.n++;

		str_copy_cut(s->sockets.address[n], SOCKETS_ADDRESS, str_of(text));
		s->sockets.fd[n] = s->msg.fds[i];
		text += strlen(text) + 1;
	}
	for (; i < s->msg.nfds; i++)
		close(s->msg.fds[i]);
}

/* --- messages ------------------------------------------------------------------------------------------------ */

static void wait_answer(struct server_wait *w, int status, const char *text)
{
	if (!w->waiting)
		return;
	w->status = status;
	w->done = true;
	str_copy_cut(w->text, sizeof(w->text), str_of(text));
	fiber_wake(w->ticket);
}

/* Suspends until the answer or the fiber's deadline. */
static int wait_for(struct server_wait *w, esp_err *err)
{
	int status = ESP_OK;

	while (!w->done && !status) {
		w->ticket = fiber_ticket();
		status = fiber_suspend();
	}
	w->waiting = false;
	if (!w->done)
		return err_fail(err, status, "the supervisor did not answer");
	return w->status ? err_fail(err, w->status, "%s", w->text) : ESP_OK;
}

static void reload_fiber(void *arg)
{
	struct server *s = arg;
	esp_err err = ESP_ERR_INIT;

	/* what it came to is in the log and in `esp-cli status` */
	if (server_reload(s, NULL, NULL, NULL, &err) != ESP_OK)
		return;
}

static void on_message(struct server *s)
{
	switch (s->msg.type) {
	case LINK_SOCKETS:
		if (s->open.waiting && s->msg.serial == s->open.serial) {
			sockets_receive(s);
			wait_answer(&s->open, ESP_OK, "");
			return;
		}
		break;
	case LINK_REFUSED:
		if (s->msg.serial == s->open.serial)
			wait_answer(&s->open, ESP_ECONFIG, s->msg.text);
		break;
	case LINK_RELOAD:
		if (fiber_spawn(NULL, FIBER_RESERVED, "reload", reload_fiber, s, NULL) != ESP_OK) {
			log_line(ESP_LOG_ERROR, WHO, "no room for a reload");
			server_link_say(s, LINK_RELOADED, 1);
		}
		break;
	case LINK_UPGRADED:
		wait_answer(&s->upgrade, ESP_OK, "");
		server_stop(s);
		break;
	case LINK_UPGRADE_FAILED:
		log_line(ESP_LOG_ERROR, WHO, "the upgrade failed; this process goes on", log_cstr("reason", s->msg.text));
		wait_answer(&s->upgrade, ESP_EUNAVAIL, s->msg.text);
		break;
	case LINK_STOP:
		server_stop(s);
		break;
	default:
		break;
	}
	for (uint32_t i = 0; i < s->msg.nfds; i++)
		close(s->msg.fds[i]);
}

static void on_link(struct watch *w, uint32_t events)
{
	struct server *s = container_of(w, struct server, link_watch);
	int status;

	(void)events;
	while ((status = link_recv(s->link, &s->msg)) == ESP_OK)
		on_message(s);
	if (status == ESP_EAGAIN)
		return;
	log_line(ESP_LOG_ERROR, WHO, "the supervisor is gone: stopping");
	watch_stop(w);
	server_stop(s);
}

void server_link_watch(struct server *s)
{
	watch_start(&s->link_watch, NULL, "link", s->link, ESP_READ, on_link);
}

int server_link_first(struct server *s, esp_nsec limit)
{
	esp_nsec end = clock_monotonic() + limit;

	for (;;) {
		struct pollfd p = { .fd = s->link, .events = POLLIN };
		int status = link_recv(s->link, &s->msg);

		if (status == ESP_OK && s->msg.type == LINK_SOCKETS) {
			sockets_receive(s);
			return ESP_OK;
		}
		if (status != ESP_EAGAIN)
			return status ? status : ESP_EPROTO;
		if (clock_monotonic() >= end)
			return ESP_ETIMEDOUT;
		/* fiber-ok: before the loops turn */
		if (poll(&p, 1, 100) < 0 && errno != EINTR)
			return ESP_EIO;
	}
}

void server_link_say(struct server *s, uint32_t type, uint32_t serial)
{
	int status = link_send(s->link, type, serial, NULL, 0, NULL, 0);

	if (status)
		log_line(ESP_LOG_ERROR, WHO, "cannot tell the supervisor", ESP_FINT("message", type),
		         log_cstr("reason", status_text(status)));
}

int server_link_open(struct server *s, esp_err *err)
{
	esp_nsec was;
	int status;

	ESP_ASSERT(!s->open.waiting);
	s->open = (struct server_wait){ .waiting = true, .serial = ++s->serial };
	server_link_say(s, LINK_OPEN, s->open.serial);
	was = fiber_set_deadline(clock_monotonic() + OPEN_LIMIT_S * ESP_SEC);
	status = wait_for(&s->open, err);
	fiber_set_deadline(was);
	return status;
}

int server_upgrade(struct server *s, esp_err *err)
{
	if (s->state != HEALTH_SERVING || s->upgrade.waiting)
		return err_fail(err, ESP_EBUSY, "the server is %s",
		                s->upgrade.waiting ? "being upgraded already" : health_state_name(s->state));
	s->upgrade = (struct server_wait){ .waiting = true };
	server_link_say(s, LINK_ASK_UPGRADE, 0);
	return wait_for(&s->upgrade, err);
}

void server_ask_stop(struct server *s)
{
	server_link_say(s, LINK_ASK_STOP, 0);
}
