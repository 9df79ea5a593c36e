/* core/control/supervisor.c - the process that stays; see supervisor.h.
 *
 * One thread, one poll(): signals (signalfd), one link for each server process, one timer.  At any time there is at
 * most one `active` server process, one `coming` (a core upgrade that is not ready yet) and a few that are stopping.
 *
 *   STARTING --READY--> SERVING --asked to stop--> STOPPING --> gone (killed at its deadline)
 *
 * A crash of the active one starts another after a while, perhaps without the modules that are to blame: restart.h.
 */
#include "core/control/supervisor.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/config/config.h"
#include "core/control/ending.h"
#include "core/control/link.h"
#include "core/control/notify.h"
#include "core/control/restart.h"
#include "core/control/say.h"
#include "core/control/spawn.h"

enum {
	START_LIMIT_MS = 300000,           /* recovery of a large database is part of a start */
	MAX_CHILDREN = 8
};

enum child_state { CHILD_NONE = 0, CHILD_STARTING, CHILD_SERVING, CHILD_STOPPING };

struct child {
	enum child_state state;
	pid_t pid;
	int link;
	int64_t since;      /* ms */
	int64_t kill_at;    /* 0: never */
};

struct supervisor {
	const struct supervisor_opts *opts;
	struct settings settings;       /* in force */
	struct settings next;           /* read by the OPEN that is under way */
	struct privilege privilege;
	struct sockets sockets;
	struct spawn spawn;
	struct child children[MAX_CHILDREN];
	struct child *active, *coming, *opener;
	int signals;
	int ready_fd;                   /* the detached caller waits here; -1 */
	struct restart restart;
	bool served, stopping, hurried; /* a server process was ready at least once; SIGTERM came, and came twice */
	int exit_code;
	struct link_msg msg;            /* large: not on the stack */
};

static int64_t now_ms(void)
{
	return clock_monotonic() / ESP_MSEC;
}

/* From now on these settings are in force. */
static void follow(struct supervisor *s, const struct settings *st)
{
	s->settings = *st;
	say_as_json(st->log_json);
}

/* --- children ------------------------------------------------------------------------------------------------ */

static void tell(struct child *c, uint32_t type, uint32_t serial, const char *text)
{
	/* who does not read is dead or hangs: exit or deadline deal with it */
	if (c && link_send(c->link, type, serial, text, strlen(text), NULL, 0) != ESP_OK)
		say(ESP_LOG_WARNING, "server process %d does not listen to message %u", (int)c->pid, type);
}

static void enter(struct child *c, enum child_state state, int64_t limit_ms)
{
	c->state = state;
	c->since = now_ms();
	c->kill_at = limit_ms ? c->since + limit_ms : 0;
}

static void stop_child(struct supervisor *s, struct child *c, uint32_t type)
{
	if (c->state == CHILD_STOPPING)
		return;
	enter(c, CHILD_STOPPING, s->settings.shutdown_timeout / ESP_MSEC + ENDING_KILL_MS);
	tell(c, type, 0, "");
}

static int send_sockets(struct supervisor *s, struct child *c, uint32_t serial)
{
	int fds[SOCKETS_MAX];
	size_t nfds, len = sockets_pack(&s->sockets, s->msg.text, sizeof(s->msg.text), fds, &nfds);

	return link_send(c->link, LINK_SOCKETS, serial, s->msg.text, len, fds, (uint32_t)nfds);
}

/* Follow the file on disk as far as it is good; a broken one is the server process's to complain about. */
static void refresh_settings(struct supervisor *s)
{
	struct config_errors errs = CONFIG_ERRORS_INIT;
	char reasons[2048];

	if (settings_load(s->opts->config_path, &s->next, &errs) == ESP_OK) {
		if (settings_open(&s->next, &s->sockets, reasons, sizeof(reasons)) != ESP_OK)
			say(ESP_LOG_ERROR, "%s", reasons);
		else
			follow(s, &s->next);
	}
	config_errors_free(&errs);
}

static struct child *start_child(struct supervisor *s)
{
	struct child *c = NULL;

	for (int i = 0; i < MAX_CHILDREN && !c; i++)
		if (s->children[i].state == CHILD_NONE)
			c = &s->children[i];
	if (!c) {
		say(ESP_LOG_ERROR, "%d server processes are still stopping: not starting another one", MAX_CHILDREN);
		return NULL;
	}
	restart_leave_out(&s->spawn, s->settings.path, time(NULL));
	if (spawn_server(&s->spawn, &c->pid, &c->link) != ESP_OK) {
		say(ESP_LOG_ERROR, "cannot start a server process: %s", strerror(errno));
		return NULL;
	}
	enter(c, CHILD_STARTING, START_LIMIT_MS);
	if (send_sockets(s, c, 0) != ESP_OK)
		say(ESP_LOG_ERROR, "cannot pass the sockets to server process %d", (int)c->pid);
	return c;
}

static void schedule_restart(struct supervisor *s, int64_t served_ms)
{
	say(ESP_LOG_NOTICE, "starting another one in %.1f s",
		(double)restart_later(&s->restart, now_ms(), served_ms) / 1000);
	notify_send("STATUS=nothing serves: the server process ended, another one is started soon");
}

static void stop_all(struct supervisor *s)
{
	if (s->stopping)
		return;
	s->stopping = true;
	s->restart.at = 0;
	notify_send("STOPPING=1");
	for (int i = 0; i < MAX_CHILDREN; i++)
		if (s->children[i].state != CHILD_NONE)
			stop_child(s, &s->children[i], LINK_STOP);
}

static void kill_all(struct supervisor *s)
{
	for (int i = 0; i < MAX_CHILDREN; i++)
		if (s->children[i].state != CHILD_NONE)
			kill(s->children[i].pid, SIGKILL);
}

static void upgrade(struct supervisor *s)
{
	if (s->stopping || s->coming)
		return;
	if (!s->active) {
		s->restart.at = now_ms();     /* the next start takes the new binary anyway */
		return;
	}
	refresh_settings(s);
	s->coming = start_child(s);
	if (s->coming)
		say(ESP_LOG_NOTICE, "upgrade: started server process %d from %s", (int)s->coming->pid, s->opts->binary);
	else
		tell(s->active, LINK_UPGRADE_FAILED, 0, "the new server process could not be started");
}

/* --- what a child says --------------------------------------------------------------------------------------- */

static void report_ready(struct supervisor *s)
{
	char state[64];

	snprintf(state, sizeof(state), "READY=1\nSTATUS=serving\nMAINPID=%d", (int)getpid());
	notify_send(state);
	if (s->ready_fd >= 0) {
		if (write(s->ready_fd, "R", 1) != 1)
			say(ESP_LOG_WARNING, "nobody waits for the start any more (%s)", strerror(errno));
		close(s->ready_fd);
		s->ready_fd = -1;
	}
	s->served = true;
}

static void on_ready(struct supervisor *s, struct child *c)
{
	if (c->state != CHILD_STARTING)
		return;
	enter(c, CHILD_SERVING, 0);
	if (c == s->coming) {
		say(ESP_LOG_NOTICE, "upgrade: server process %d serves, %d drains", (int)c->pid,
			s->active ? (int)s->active->pid : 0);
		if (s->active)
			stop_child(s, s->active, LINK_UPGRADED);
		s->active = c;
		s->coming = NULL;
	}
	sockets_commit(&s->sockets);
	report_ready(s);
}

static void on_open(struct supervisor *s, struct child *c, uint32_t serial)
{
	struct config_errors errs = CONFIG_ERRORS_INIT;
	char reasons[2048] = "an upgrade is under way: try again";
	int status = ESP_EBUSY;

	if (c != s->coming && s->coming)
		goto out;
	status = settings_load(s->opts->config_path, &s->next, &errs);
	if (status != ESP_OK) {
		esp_err err = ESP_ERR_INIT;

		config_errors_first(&errs, &err);
		snprintf(reasons, sizeof(reasons), "%s:%u: %s", err.file, err.line, err.text);
		goto out;
	}
	settings_keep_places(&s->settings, &s->next);
	status = settings_open(&s->next, &s->sockets, reasons, sizeof(reasons));
	if (status == ESP_OK)
		status = send_sockets(s, c, serial);
	if (status == ESP_OK)
		s->opener = c;
	else
		sockets_abort(&s->sockets);
out:
	if (status != ESP_OK)
		tell(c, LINK_REFUSED, serial, reasons);
	config_errors_free(&errs);
}

static void on_message(struct supervisor *s, struct child *c)
{
	switch (s->msg.type) {
	case LINK_READY: on_ready(s, c); break;
	case LINK_OPEN: on_open(s, c, s->msg.serial); break;
	case LINK_COMMIT:
	case LINK_ABORT:
		if (c != s->opener)
			break;
		s->opener = NULL;
		if (s->msg.type == LINK_ABORT) {
			sockets_abort(&s->sockets);
			break;
		}
		follow(s, &s->next);
		sockets_commit(&s->sockets);
		break;
	case LINK_RELOADED:
		if (c == s->active && !s->stopping)
			notify_send(s->msg.serial == 0 ? "STATUS=serving" :
				"STATUS=serving; the last reload was refused: esp-cli status says why");
		break;
	case LINK_ASK_STOP: stop_all(s); break;
	case LINK_ASK_UPGRADE: upgrade(s); break;
	default:
		say(ESP_LOG_ERROR, "server process %d sent message %u, which is none", (int)c->pid, s->msg.type);
	}
}

static void read_link(struct supervisor *s, struct child *c)
{
	while (c->link >= 0) {
		int status = link_recv(c->link, &s->msg);

		if (status == ESP_EAGAIN)
			return;
		for (uint32_t i = 0; status == ESP_OK && i < s->msg.nfds; i++)
			close(s->msg.fds[i]);         /* nobody asked for them */
		if (status == ESP_OK && s->msg.len == 0) {
			on_message(s, c);
			continue;
		}
		if (status != ESP_ECLOSED)
			say(ESP_LOG_ERROR, "server process %d breaks the protocol of its link", (int)c->pid);
		close(c->link);
		c->link = -1;
		if (c->state != CHILD_STOPPING)
			kill(c->pid, SIGKILL);        /* unreachable; if it is exiting, this changes nothing */
	}
}

/* --- the end of a child -------------------------------------------------------------------------------------- */

static void on_end(struct supervisor *s, struct child *c, int status)
{
	int64_t served_ms = c->state == CHILD_SERVING ? now_ms() - c->since : 0;
	bool asked = c->state == CHILD_STOPPING;
	char how[sizeof(s->spawn.restarts.why)];

	/* what it said before it died still counts */
	read_link(s, c);
	restart_say_end(&s->spawn, s->settings.path, (int)c->pid, status, asked, how, sizeof(how));
	if (asked && status && s->stopping && !s->hurried)
		s->exit_code = SUPERVISOR_UNORDERLY;
	if (c->link >= 0)
		close(c->link);
	if (c == s->opener) {
		sockets_abort(&s->sockets);
		s->opener = NULL;
	}
	*c = (struct child){ .state = CHILD_NONE };
	if (c == s->coming) {
		s->coming = NULL;
		sockets_abort(&s->sockets);
		tell(s->active, LINK_UPGRADE_FAILED, 0, "the new server process ended before it was ready; its log says why");
	}
	if (c != s->active)
		return;
	s->active = s->coming;
	s->coming = NULL;
	if (s->active || s->stopping)
		return;
	if (!s->served && WIFEXITED(status)) {
		s->exit_code = 1;             /* it refused to start and said why: trying again changes nothing */
		s->stopping = true;
	} else if (asked) {
		s->restart.at = now_ms();
	} else {
		restart_count(&s->spawn.restarts, time(NULL), how);
		schedule_restart(s, served_ms);
	}
}

static void reap(struct supervisor *s)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		for (int i = 0; i < MAX_CHILDREN; i++)
			if (s->children[i].state != CHILD_NONE && s->children[i].pid == pid) {
				on_end(s, &s->children[i], status);
				break;
			}
}

/* --- the loop ------------------------------------------------------------------------------------------------ */

static void on_signal(struct supervisor *s, uint32_t sig)
{
	switch (sig) {
	case SIGCHLD:
		reap(s);
		break;
	case SIGHUP:
	case SIGUSR1:                         /* what other servers take for "open the log anew"; a reload does */
		if (s->active && s->active->state == CHILD_SERVING) {
			notify_send("STATUS=reloading");
			tell(s->active, LINK_RELOAD, 0, "");
		} else if (s->restart.at) {
			s->restart.at = now_ms();     /* perhaps that is what was repaired */
		}
		break;
	case SIGUSR2:
		upgrade(s);
		break;
	default:                              /* SIGINT, SIGTERM */
		s->hurried = s->stopping;
		if (s->hurried)
			kill_all(s);                  /* asked twice: now */
		stop_all(s);
		break;
	}
}

static void on_time(struct supervisor *s)
{
	int64_t now = now_ms();

	for (int i = 0; i < MAX_CHILDREN; i++) {
		struct child *c = &s->children[i];

		if (c->state == CHILD_NONE || !c->kill_at || now < c->kill_at)
			continue;
		say(ESP_LOG_ERROR, "server process %d did not %s in time: killing it", (int)c->pid,
		    c->state == CHILD_STARTING ? "start" : "stop");
		kill(c->pid, SIGKILL);
		c->kill_at = 0;
	}
	if (!restart_is_due(&s->restart, now) || s->stopping)
		return;
	s->restart.at = 0;
	refresh_settings(s);
	s->active = start_child(s);
	if (!s->active)
		schedule_restart(s, 0);
}

static int next_timeout(const struct supervisor *s)
{
	int64_t first = s->restart.at, left;

	for (int i = 0; i < MAX_CHILDREN; i++) {
		int64_t at = s->children[i].state != CHILD_NONE ? s->children[i].kill_at : 0;

		if (at && (!first || at < first))
			first = at;
	}
	left = first - now_ms();
	return !first ? -1 : left < 0 ? 0 : (int)left + 1;
}

static bool any_child(const struct supervisor *s)
{
	for (int i = 0; i < MAX_CHILDREN; i++)
		if (s->children[i].state != CHILD_NONE)
			return true;
	return false;
}

static void wait_for_something(struct supervisor *s)
{
	struct pollfd p[MAX_CHILDREN + 1];
	struct signalfd_siginfo si;

	for (int i = 0; i < MAX_CHILDREN; i++)   /* a negative descriptor is ignored */
		p[i] = (struct pollfd){ s->children[i].state != CHILD_NONE ? s->children[i].link : -1, POLLIN, 0 };
	p[MAX_CHILDREN] = (struct pollfd){ .fd = s->signals, .events = POLLIN };
	if (poll(p, MAX_CHILDREN + 1, next_timeout(s)) < 0 && errno != EINTR)
		abort();
	for (int i = 0; i < MAX_CHILDREN; i++)
		if (p[i].revents && s->children[i].state != CHILD_NONE)
			read_link(s, &s->children[i]);
	while (read(s->signals, &si, sizeof(si)) == (ssize_t)sizeof(si))
		on_signal(s, si.ssi_signo);
	on_time(s);
}

static void take_signals(struct supervisor *s)
{
	static const int watched[] = { SIGCHLD, SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2 };
	sigset_t set;

	sigemptyset(&set);
	for (size_t i = 0; i < sizeof(watched) / sizeof(watched[0]); i++)
		sigaddset(&set, watched[i]);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	s->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (s->signals < 0)
		abort();
}

int supervisor_run(const struct supervisor_opts *opts, struct supervisor_start *start)
{
	struct supervisor *s = calloc(1, sizeof(*s));
	int code;

	if (!s)
		return 1;
	s->opts = opts;
	follow(s, &start->settings);
	s->privilege = start->privilege;
	s->sockets = start->sockets;
	s->sockets.owner = &s->privilege;
	s->ready_fd = start->ready_fd;
	s->spawn = (struct spawn){ .binary = opts->binary, .config_path = opts->config_path,
	                           .privilege = &s->privilege, .lock_fd = start->lock_fd };
	take_signals(s);
	s->active = start_child(s);
	if (!s->active)
		s->exit_code = 1;
	while (s->active || any_child(s) || (s->served && !s->stopping) || s->restart.at)
		wait_for_something(s);
	sockets_close(&s->sockets);
	close(s->signals);
	close(s->spawn.lock_fd);
	code = s->exit_code;
	free(s);
	return code;
}
