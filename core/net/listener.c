/* core/net/listener.c - listening sockets, their table and its changes, accepting.
 *
 * Thread: control.  A socket (struct listen_socket) lives as long as its address stays in the table; its settings
 * (struct listener) are replaced at every commit, and connections keep those they came with.  Accepting never spins: at
 * the end of descriptors a reserved one is given up to take and close the waiting connection.
 */
#include "core/net/impl.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/base/status.h"
#include "core/loop/loop.h"

enum { ACCEPT_BUDGET = 64, BACKLOG = 4096, PAUSE_MSEC = 100 };

struct listen_socket {
	struct list link;
	struct listeners *all;
	struct listener *now;
	struct watch watch;
	struct ip_port asked;           /* the address of esp.conf; port 0 in tests */
	int fd;
	bool stays;
};

struct listeners {
	struct net *net;
	struct list sockets;
	struct timer pause;             /* out of descriptors or memory: look again soon */
	int spare;                      /* the reserved descriptor */
	uint32_t turn;                  /* round robin among equals */
};

struct planned {
	struct listener *l;
	struct listen_socket *keep;     /* the socket in force with that address */
	struct ip_port asked;
	int fd;                         /* new socket, or -1 */
	int given;                      /* the caller's descriptor, or -1 */
};
struct listen_plan { size_t n; struct planned p[]; };

/* --- settings ------------------------------------------------------------------------------------------- */

struct listener *listener_ref(struct listener *l)
{
	MAGIC_CHECK(l, LISTENER_MAGIC);
	atomic_fetch_add(&l->refs, 1);
	return l;
}

void listener_unref(struct listener *l)
{
	if (!l || atomic_fetch_sub(&l->refs, 1) != 1)
		return;
	ip_nets_free(&l->proxy);
	free(l->name);
	free(l->address);
	MAGIC_CLEAR(l);
	free(l);
}

static struct listener *listener_new(struct net *n, const struct listen_spec *s)
{
	struct listener *l = calloc(1, sizeof(*l));

	if (!l)
		return NULL;
	MAGIC_SET(l, LISTENER_MAGIC);
	atomic_init(&l->refs, 1);
	l->net = n;
	l->tls = s->tls;
	l->trust_loopback = s->trust_loopback;
	l->idle = s->idle > 0 ? s->idle : n->idle;
	l->name = strdup(s->name);
	l->address = strdup(s->address);
	l->role = net_role(n, s->role ? s->role : s->name);
	if (!l->name || !l->address || !l->role || ip_nets_copy(&s->proxy, &l->proxy) != ESP_OK) {
		listener_unref(l);
		return NULL;
	}
	l->name_str = (esp_str){ l->name, strlen(l->name) };
	l->role_str = (esp_str){ l->role->name, strlen(l->role->name) };
	return l;
}

struct listener *listener_find(const struct net *n, const char *name)
{
	list_for(node, &n->listeners->sockets) {
		struct listen_socket *s = list_entry(node, struct listen_socket, link);

		if (strcmp(s->now->name, name) == 0)
			return s->now;
	}
	return NULL;
}

/* --- accepting -------------------------------------------------------------------------------------------- */

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

/* Ask the worker that has the oldest unauthenticated session to end it. */
static bool make_room(struct net *n)
{
	struct note note = { .kind = NOTE_OVERLOAD };
	struct net_worker *oldest = NULL;
	esp_nsec age = INT64_MAX;

	for (uint32_t i = 0; i < n->nworkers; i++) {
		esp_nsec one = atomic_load_explicit(&n->workers[i].oldest, memory_order_relaxed);

		if (one < age) {
			age = one;
			oldest = &n->workers[i];
		}
	}
	return oldest && net_note(oldest, &note) == ESP_OK;
}

/* Room for one more?  A little above the cap while asked-out sessions say goodbye. */
static bool has_room(struct net *n)
{
	uint32_t now = atomic_load(&n->count), cap = n->limit.sessions;

	if (now < cap)
		return true;
	return make_room(n) && now < cap + cap / 16 + 8;
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
	if (!has_room(n)) {
		atomic_fetch_add(&n->refused_full, 1);
		limit_release(note.host);
		close(fd);
		return;
	}
	nw = pick_worker(all);
	note.ptr = listener_ref(l);
	atomic_fetch_add(&n->count, 1);
	atomic_fetch_add(&nw->conns, 1);
	if (net_note(nw, &note) != ESP_OK) {
		atomic_fetch_sub(&n->count, 1);
		atomic_fetch_sub(&nw->conns, 1);
		atomic_fetch_add(&n->refused_error, 1);
		listener_unref(l);
		limit_release(note.host);
		close(fd);
		return;
	}
	atomic_fetch_add(&n->accepted, 1);
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

static void pause_accepting(struct listeners *all)
{
	list_for(node, &all->sockets)
		watch_set(&list_entry(node, struct listen_socket, link)->watch, 0);
	if (timer_start(&all->pause, NULL, "accept", PAUSE_MSEC * ESP_MSEC, on_pause_over) != ESP_OK)
		ESP_PANIC("no memory for the timer that goes on accepting");
}

/* No descriptor left: take the caller off the queue with the spare one and hang up.  false: stop for now. */
static bool shed(struct listeners *all, int fd)
{
	int shed_fd;

	atomic_fetch_add(&all->net->refused_error, 1);
	if (all->spare < 0) {
		pause_accepting(all);
		return false;
	}
	close(all->spare);
	shed_fd = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
	if (shed_fd >= 0)
		close(shed_fd);
	all->spare = open("/dev/null", O_RDONLY | O_CLOEXEC);
	if (all->spare >= 0 && shed_fd >= 0)
		return true;
	pause_accepting(all);
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
			pause_accepting(s->all);
			return false;
		case EAGAIN: case EBADF: case EINVAL: case ENOTSOCK: case EOPNOTSUPP:
			return false;
		default:
			return true;    /* that one connection failed before we took it */
		}
	}
	if (ip_from_sockaddr((struct sockaddr *)&sa, len, &peer) != ESP_OK)
		close(fd);
	else
		take(s->all, s->now, fd, &peer);
	return true;
}

static void on_accept(struct watch *w, uint32_t events)
{
	struct listen_socket *s = container_of(w, struct listen_socket, watch);

	(void)events;
	for (int i = 0; i < ACCEPT_BUDGET; i++)
		if (!accept_one(s))
			return;
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

/* --- opening and closing ------------------------------------------------------------------------------------ */

static int open_family(const struct ip_port *asked)
{
	struct sockaddr_storage sa;
	socklen_t len = ip_to_sockaddr(asked, &sa);
	int on = 1, off = 0, saved;
	int fd = socket(sa.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -1;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (sa.ss_family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
	if (bind(fd, (struct sockaddr *)&sa, len) == 0 && listen(fd, BACKLOG) == 0)
		return fd;
	saved = errno;
	close(fd);
	errno = saved;
	return -1;
}

static int open_socket(const struct ip_port *asked, const char *address, int *ret, esp_err *err)
{
	struct ip_port v4 = { { { [10] = 0xff, 0xff } }, asked->port };

	*ret = open_family(asked);
	if (*ret < 0 && errno == EAFNOSUPPORT && ip_is_any(&asked->ip))
		*ret = open_family(&v4);        /* a host without IPv6 */
	if (*ret >= 0)
		return ESP_OK;
	if (errno == EADDRINUSE)
		return err_fail(err, ESP_EEXIST, "cannot listen on %s: the address is in use", address);
	return err_fail(err, errno == EACCES ? ESP_EACCES : ESP_ECONFIG, "cannot listen on %s: %s", address,
	                strerrordesc_np(errno));
}

static struct listen_socket *same_address(struct listeners *all, const struct ip_port *asked, const char *name)
{
	list_for(node, &all->sockets) {
		struct listen_socket *s = list_entry(node, struct listen_socket, link);

		if (s->asked.port == asked->port && ip_eq(&s->asked.ip, &asked->ip) &&
		    (asked->port || strcmp(s->now->name, name) == 0))
			return s;
	}
	return NULL;
}

static int check_spec(const struct listen_plan *plan, const struct listen_spec *s, struct ip_port *ret, esp_err *err)
{
	if (ip_parse_port((esp_str){ s->address, strlen(s->address) }, ret) != ESP_OK)
		return err_fail(err, ESP_ECONFIG, "listener %s: \"%s\" is not ADDRESS:PORT, such as \"[::]:25\"", s->name,
		                s->address);
	for (size_t i = 0; i < plan->n; i++) {
		const struct planned *p = &plan->p[i];

		if (strcmp(p->l->name, s->name) == 0)
			return err_fail(err, ESP_EEXIST, "listener %s is there twice", s->name);
		if (ret->port && p->asked.port == ret->port && ip_eq(&p->asked.ip, &ret->ip))
			return err_fail(err, ESP_EEXIST, "listeners %s and %s have the same address %s", p->l->name, s->name,
			                s->address);
	}
	return ESP_OK;
}

static int plan_one(struct net *n, struct listen_plan *plan, const struct listen_spec *s, esp_err *err)
{
	struct planned p = { .fd = -1, .given = s->fd };
	int rc = check_spec(plan, s, &p.asked, err);

	if (rc != ESP_OK)
		return rc;
	p.keep = same_address(n->listeners, &p.asked, s->name);
	p.l = listener_new(n, s);
	if (!p.l)
		return err_fail(err, ESP_ENOMEM, "listener %s: no memory, or more than %d roles", s->name, NET_ROLES);
	if (!p.keep && s->fd < 0)
		rc = open_socket(&p.asked, s->address, &p.fd, err);
	plan->p[plan->n++] = p;
	return rc;
}

int net_listen_prepare(struct net *n, const struct listen_spec *specs, size_t nspecs, struct listen_plan **ret,
                       esp_err *err)
{
	struct listen_plan *plan;
	int rc = ESP_OK;

	MAGIC_CHECK(n, NET_MAGIC);
	*ret = NULL;
	if (nspecs > 1024)
		return err_fail(err, ESP_E2BIG, "more than 1024 listeners");
	plan = calloc(1, sizeof(*plan) + nspecs * sizeof(plan->p[0]));
	if (!plan)
		return ESP_ENOMEM;
	for (size_t i = 0; i < nspecs && rc == ESP_OK; i++)
		rc = plan_one(n, plan, &specs[i], err);
	if (rc != ESP_OK)
		net_listen_abort(n, plan);
	else
		*ret = plan;
	return rc;
}

static void socket_free(struct listen_socket *s)
{
	watch_stop(&s->watch);
	list_remove(&s->link);
	listener_unref(s->now);
	close(s->fd);
	free(s);
}

static void begin_socket(struct listeners *all, struct planned *p)
{
	struct listen_socket *s = calloc(1, sizeof(*s));
	int on = 1, fd = p->fd >= 0 ? p->fd : p->given;

	if (!s)
		ESP_PANIC("no memory for a listener at commit");
	*s = (struct listen_socket){ .all = all, .now = p->l, .asked = p->asked, .fd = fd, .stays = true };
	/* accepted sockets inherit it: replies are batched by us, never by Nagle */
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
	list_append(&all->sockets, &s->link);
	watch_start(&s->watch, NULL, "listener", fd, ESP_READ, on_accept);
}

void net_listen_commit(struct net *n, struct listen_plan *plan)
{
	struct listeners *all = n->listeners;

	list_for(node, &all->sockets)
		list_entry(node, struct listen_socket, link)->stays = false;
	for (size_t i = 0; i < plan->n; i++) {
		struct planned *p = &plan->p[i];

		if (!p->keep) {
			begin_socket(all, p);
			continue;
		}
		listener_unref(p->keep->now);
		p->keep->now = p->l;
		p->keep->stays = true;
		if (p->given >= 0 && p->given != p->keep->fd)
			close(p->given);
	}
	list_for_safe(node, &all->sockets) {
		struct listen_socket *s = list_entry(node, struct listen_socket, link);

		if (!s->stays)
			socket_free(s);
	}
	free(plan);
}

void net_listen_abort(struct net *n, struct listen_plan *plan)
{
	(void)n;
	for (size_t i = 0; i < plan->n; i++) {
		if (plan->p[i].fd >= 0)
			close(plan->p[i].fd);
		listener_unref(plan->p[i].l);
	}
	free(plan);
}

int net_listen(struct net *n, const struct listen_spec *specs, size_t nspecs, esp_err *err)
{
	struct listen_plan *plan;
	int rc = net_listen_prepare(n, specs, nspecs, &plan, err);

	if (rc == ESP_OK)
		net_listen_commit(n, plan);
	return rc;
}

int net_listener_fd(const struct net *n, const char *name, int *ret_fd, uint16_t *ret_port)
{
	list_for(node, &n->listeners->sockets) {
		struct listen_socket *s = list_entry(node, struct listen_socket, link);
		struct sockaddr_storage sa;
		socklen_t len = sizeof(sa);
		struct ip_port at;

		if (strcmp(s->now->name, name) != 0)
			continue;
		if (getsockname(s->fd, (struct sockaddr *)&sa, &len) != 0 ||
		    ip_from_sockaddr((struct sockaddr *)&sa, len, &at) != ESP_OK)
			return ESP_ENOENT;
		*ret_fd = s->fd;
		*ret_port = at.port;
		return ESP_OK;
	}
	return ESP_ENOENT;
}

int listeners_new(struct net *n)
{
	struct listeners *all = calloc(1, sizeof(*all));

	if (!all)
		return ESP_ENOMEM;
	all->net = n;
	list_init(&all->sockets);
	all->spare = open("/dev/null", O_RDONLY | O_CLOEXEC);
	n->listeners = all;
	return ESP_OK;
}

void listeners_stop(struct net *n)
{
	struct list *node;

	timer_stop(&n->listeners->pause);
	while ((node = list_first(&n->listeners->sockets)))
		socket_free(list_entry(node, struct listen_socket, link));
}

void listeners_free(struct net *n)
{
	if (!n->listeners)
		return;
	listeners_stop(n);
	if (n->listeners->spare >= 0)
		close(n->listeners->spare);
	free(n->listeners);
	n->listeners = NULL;
}

/* --- drain ------------------------------------------------------------------------------------------------------- */

static void tell_workers(struct net *n, enum note_kind kind)
{
	for (uint32_t i = 0; i < n->nworkers; i++) {
		struct note note = { .kind = kind };

		if (net_note(&n->workers[i], &note) != ESP_OK)
			ESP_PANIC("no memory to end the sessions of worker %u", i);
	}
}

static void on_drain_over(struct timer *t)
{
	tell_workers(container_of(t, struct net, drain), NOTE_KILL);
}

void net_drain(struct net *n, esp_nsec deadline)
{
	listeners_stop(n);
	tell_workers(n, NOTE_DRAIN);
	if (timer_start_at(&n->drain, NULL, "drain", deadline, on_drain_over) != ESP_OK)
		tell_workers(n, NOTE_KILL);
}
