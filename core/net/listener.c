/* core/net/listener.c - listening sockets, their table and its changes; draining.  accept.c accepts on them.
 *
 * Thread: control.  A socket (struct listen_socket) lives as long as its address stays in the table; its settings
 * (struct listener) are replaced at every commit, and connections keep those they came with.
 */
#include "core/net/listener.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/base/status.h"

enum { BACKLOG = 4096 };

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
	watch_start(&s->watch, NULL, "listener", fd, ESP_READ, accept_ready);
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
