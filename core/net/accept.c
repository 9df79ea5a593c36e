/* core/net/accept.c - accepting connections and choosing their worker.
 *
 * Thread: control.  The limits of the peer's host are checked here, before a worker hears of the connection.  Accepting
 * never spins: at the end of descriptors a reserved one is given up to take and close the waiting connection.
 */
#include "core/net/listener.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/loop/loop.h"

enum { ACCEPT_BUDGET = 64, PAUSE_MSEC = 100, LEAVING_MSEC = 10, RESERVED = 1024, SILENCE_MSEC = 1000,
	CALM_MSEC = 200 };

/* The worker with the fewest connections; equals take turns. */
static struct net_worker *pick_worker(struct listeners *all)
{
	struct net *n = all->net;
	uint32_t start = all->turn++, best = UINT32_MAX;
	struct net_worker *pick = NULL;

	for (uint32_t i = 0; i < n->nworkers; i++) {
		struct net_worker *nw = &n->workers[(start + i) % n->nworkers];
		uint32_t conns = atomic_load(&nw->conns);

		if (conns < best) {
			best = conns;
			pick = nw;
		}
	}
	return pick;
}

/* Whom to ask out first?  Strangers that said nothing, once they had a moment to, or at once when they are the crowd;
 * while nearly everybody talks, the few silent ones have just come and are not the trouble. */
static enum stranger who_goes(struct net *n)
{
	esp_nsec oldest = INT64_MAX;

	for (uint32_t i = 0; i < n->nworkers; i++) {
		esp_nsec one = atomic_load_explicit(&n->workers[i].oldest[STRANGER_SILENT], memory_order_relaxed);

		oldest = one < oldest ? one : oldest;
	}
	if (oldest != INT64_MAX && clock_coarse() - oldest >= SILENCE_MSEC * ESP_MSEC)
		return STRANGER_SILENT;
	return atomic_load(&n->silent) > atomic_load(&n->count) / 4 ? STRANGER_SILENT : STRANGER_TALKING;
}

static struct net_worker *worker_of_oldest(struct net *n, enum stranger which)
{
	struct net_worker *found = NULL;
	esp_nsec age = INT64_MAX;

	for (uint32_t i = 0; i < n->nworkers; i++) {
		esp_nsec one = atomic_load_explicit(&n->workers[i].oldest[which], memory_order_relaxed);

		if (one < age) {
			age = one;
			found = &n->workers[i];
		}
	}
	return found;
}

/* Ask the worker that has the oldest of them to end it. */
static bool make_room(struct net *n)
{
	enum stranger which = who_goes(n);
	struct net_worker *oldest = worker_of_oldest(n, which);
	struct note note = { .kind = NOTE_OVERLOAD, .fd = (int)which };

	if (!oldest) {
		which = which == STRANGER_SILENT ? STRANGER_TALKING : STRANGER_SILENT;
		oldest = worker_of_oldest(n, which);
		note.fd = (int)which;
	}
	if (!oldest || net_note(oldest, &note) != ESP_OK)
		return false;
	atomic_fetch_add(&n->leaving, 1);
	return true;
}

/* From `soft` on somebody is asked out for each that comes; from `hard` on those must have gone first. */
struct room {
	uint64_t soft, hard;
};

static struct room session_room(const struct net *n)
{
	uint64_t cap = n->limit.sessions;

	return (struct room){ .soft = cap, .hard = cap + cap / 16 + 8 };
}

/* Some descriptors are not for connections: the control socket, the database and the files of mail need them, and most
 * of all when somebody tries to use them up.  The kernel gives the lowest free number. */
static struct room descriptor_room(void)
{
	struct rlimit limit;
	rlim_t reserve;

	if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY)
		return (struct room){ .soft = UINT64_MAX, .hard = UINT64_MAX };
	reserve = limit.rlim_cur / 4 < RESERVED ? limit.rlim_cur / 4 : RESERVED;
	return (struct room){ .soft = limit.rlim_cur - reserve, .hard = limit.rlim_cur - reserve / 2 };
}

/* Room for one more of what `used` counts?  If not yet, whoever stands in the way is asked out. */
static bool has_room(struct net *n, uint64_t used, struct room room)
{
	uint64_t leaving = atomic_load(&n->leaving);

	if (used < room.soft)
		return true;
	for (uint64_t lacking = used + 1 - room.soft; leaving < lacking; leaving++)
		if (!make_room(n))
			return false;
	return used < room.hard;
}

/* The descriptor that the next connection gets; -1: none is left. */
static int lowest_free(int any)
{
	int fd = fcntl(any, F_DUPFD_CLOEXEC, 0);

	if (fd >= 0)
		close(fd);
	return fd;
}

/* Is there no room without more ado? */
static bool is_crowded(const struct listeners *all)
{
	return atomic_load(&all->net->count) >= session_room(all->net).soft || all->last >= descriptor_room().soft;
}

/* While others are about to make room, a newcomer waits in the kernel's queue, no longer than a goodbye takes.  Those
 * on their way to a worker can be asked out when they are there. */
static bool must_wait(struct net *n, int listening)
{
	int lowest = lowest_free(listening);

	return (!has_room(n, atomic_load(&n->count), session_room(n)) ||
		lowest < 0 || !has_room(n, (uint64_t)lowest, descriptor_room())) &&
	       (atomic_load(&n->leaving) || atomic_load(&n->arriving));
}

/* --- nearly full --------------------------------------------------------------------------------------------- */

/* Sessions that fit: what is configured, or what the descriptors allow. */
static uint32_t capacity(const struct net *n)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur / 4 * 3 > n->limit.sessions)
		return n->limit.sessions;
	return (uint32_t)(limit.rlim_cur / 4 * 3);
}

static void on_calm(struct timer *t)
{
	struct net *n = container_of(t, struct net, calm);

	if (atomic_load(&n->count) <= (uint64_t)capacity(n) * 6 / 10)
		atomic_store(&n->stressed, false);
	else if (timer_start(t, NULL, "calm", CALM_MSEC * ESP_MSEC, on_calm) != ESP_OK)
		atomic_store(&n->stressed, false);
}

/* From 80 % on strangers have less time, those who wait already included; it ends at 60 %. */
static void feel_pressure(struct net *n)
{
	if (atomic_load(&n->stressed) || atomic_load(&n->count) < (uint64_t)capacity(n) * 8 / 10 ||
	    timer_start(&n->calm, NULL, "calm", CALM_MSEC * ESP_MSEC, on_calm) != ESP_OK)
		return;
	atomic_store(&n->stressed, true);
	for (uint32_t i = 0; i < n->nworkers; i++) {
		struct note note = { .kind = NOTE_HURRY };

		if (net_note(&n->workers[i], &note) != ESP_OK)
			return;         /* they notice when they next wait */
	}
}

static void take(struct listeners *all, struct listener *l, int fd, const struct ip_port *peer)
{
	struct net *n = all->net;
	bool trusted = l->trust_loopback && ip_is_loopback(&peer->ip);
	struct note note = { .kind = NOTE_OPEN, .fd = fd, .peer = *peer };
	struct net_worker *nw;

	if (!trusted && !ip_nets_have(&l->proxy, &peer->ip) &&
	    limits_admit(n->limits, &peer->ip, clock_coarse(), &note.host) != ESP_OK) {
		atomic_fetch_add(&n->refused_limit, 1);
		close(fd);
		return;
	}
	if (!has_room(n, atomic_load(&n->count), session_room(n)) ||
	    !has_room(n, (uint64_t)fd, descriptor_room())) {
		atomic_fetch_add(&n->refused_full, 1);
		limit_release(note.host);
		close(fd);
		return;
	}
	nw = pick_worker(all);
	note.ptr = listener_ref(l);
	atomic_fetch_add(&n->count, 1);
	atomic_fetch_add(&n->arriving, 1);
	atomic_fetch_add(&nw->conns, 1);
	if (net_note(nw, &note) != ESP_OK) {
		atomic_fetch_sub(&n->count, 1);
		atomic_fetch_sub(&n->arriving, 1);
		atomic_fetch_sub(&nw->conns, 1);
		atomic_fetch_add(&n->refused_error, 1);
		listener_unref(l);
		limit_release(note.host);
		close(fd);
		return;
	}
	atomic_fetch_add(&n->accepted, 1);
	feel_pressure(n);
}

int net_adopt(struct net *n, const char *name, int fd)
{
	struct listener *l = listener_find(n, name);
	struct ip_port peer = { { { [10] = 0xff, 0xff, 127, 0, 0, 1 } }, 0 };

	if (!l)
		return ESP_ENOENT;
	take(n->listeners, l, fd, &peer);
	return ESP_OK;
}

static void on_pause_over(struct timer *t)
{
	struct listeners *all = container_of(t, struct listeners, pause);

	if (all->spare < 0)
		all->spare = open("/dev/null", O_RDONLY | O_CLOEXEC);
	list_for(node, &all->sockets)
		watch_set(&list_entry(node, struct listen_socket, link)->watch, ESP_READ);
}

static void pause_accepting(struct listeners *all, int msec)
{
	list_for(node, &all->sockets)
		watch_set(&list_entry(node, struct listen_socket, link)->watch, 0);
	if (timer_start(&all->pause, NULL, "accept", msec * ESP_MSEC, on_pause_over) != ESP_OK)
		ESP_PANIC("no memory for the timer that goes on accepting");
}

/* No descriptor left: take the caller off the queue with the spare one and hang up.  false: stop for now. */
static bool shed(struct listeners *all, int fd)
{
	int shed_fd;

	atomic_fetch_add(&all->net->refused_error, 1);
	if (all->spare < 0) {
		pause_accepting(all, PAUSE_MSEC);
		return false;
	}
	close(all->spare);
	shed_fd = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
	if (shed_fd >= 0)
		close(shed_fd);
	all->spare = open("/dev/null", O_RDONLY | O_CLOEXEC);
	if (all->spare >= 0 && shed_fd >= 0)
		return true;
	pause_accepting(all, PAUSE_MSEC);
	return false;
}

/* false: nothing more to accept now. */
static bool accept_one(struct listen_socket *s)
{
	struct sockaddr_storage sa;
	socklen_t len = sizeof(sa);
	struct ip_port peer;
	int fd = accept4(s->fd, (struct sockaddr *)&sa, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);

	if (fd < 0) {
		switch (errno) {
		case EMFILE: case ENFILE:
			return shed(s->all, s->fd);
		case ENOBUFS: case ENOMEM:
			atomic_fetch_add(&s->all->net->refused_error, 1);
			pause_accepting(s->all, PAUSE_MSEC);
			return false;
		case EAGAIN: case EBADF: case EINVAL: case ENOTSOCK: case EOPNOTSUPP:
			return false;
		default:
			return true;    /* that one connection failed before we took it */
		}
	}
	s->all->last = (uint64_t)fd;
	if (ip_from_sockaddr((struct sockaddr *)&sa, len, &peer) != ESP_OK)
		close(fd);
	else
		take(s->all, s->now, fd, &peer);
	return true;
}

void accept_ready(struct watch *w, uint32_t events)
{
	struct listen_socket *s = container_of(w, struct listen_socket, watch);

	(void)events;
	if (is_crowded(s->all) && must_wait(s->all->net, s->fd))
		pause_accepting(s->all, LEAVING_MSEC);
	else
		for (int i = 0; i < ACCEPT_BUDGET && accept_one(s) && !is_crowded(s->all); i++)
			;
}

/* --- limits for peers behind a balancer ------------------------------------------------------------------- */

struct admit_ask {
	struct mail_node node;
	struct net_worker *nw;
	uint64_t conn;
	struct ip_port peer;
};

static void on_admit_ask(struct mail_node *node)
{
	struct admit_ask *a = container_of(node, struct admit_ask, node);
	struct net *n = a->nw->net;
	struct note note = { .kind = NOTE_ADMIT, .conn = a->conn };
	struct limit_net *host;

	note.fd = limits_admit(n->limits, &a->peer.ip, clock_coarse(), &host);
	note.ptr = host;
	if (note.fd != ESP_OK)
		atomic_fetch_add(&n->refused_limit, 1);
	if (net_note(a->nw, &note) != ESP_OK)
		limit_release(host);    /* the connection's own deadline closes it */
	free(a);
}

int listener_ask_admit(struct net_worker *nw, uint64_t conn, const struct ip_port *peer)
{
	struct admit_ask *a = calloc(1, sizeof(*a));

	if (!a)
		return ESP_ENOMEM;
	*a = (struct admit_ask){ .node = { .fn = on_admit_ask }, .nw = nw, .conn = conn, .peer = *peer };
	worker_send(loop_control(), &a->node);
	return ESP_OK;
}
