/* core/control/sockets.c - opening and keeping the listening sockets; see sockets.h. */
#include "core/control/sockets.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <netinet/in.h>
#include <unistd.h>

#include "core/control/privilege.h"
#include "core/net/ip.h"

enum { LISTEN_FDS_START = 3 };

static bool address_is_path(const char *address)
{
	return address[0] == '/';
}

/* The same place, however it is spelled. */
static bool address_same(const char *a, const char *b)
{
	struct ip_port x, y;

	if (strcmp(a, b) == 0)
		return true;
	if (address_is_path(a) || address_is_path(b))
		return false;
	if (ip_parse_port((esp_str){ a, strlen(a) }, &x) != ESP_OK ||
		ip_parse_port((esp_str){ b, strlen(b) }, &y) != ESP_OK)
		return false;
	return x.port == y.port && ip_eq(&x.ip, &y.ip);
}

static struct socket_entry *sockets_find(struct sockets *s, const char *address)
{
	for (size_t i = 0; i < s->n; i++)
		if (address_same(s->item[i].address, address))
			return &s->item[i];
	return NULL;
}

/* --- LISTEN_FDS ---------------------------------------------------------------------------------------------- */

static bool inherited_address(int fd, char *out, size_t cap)
{
	union { struct sockaddr sa; struct sockaddr_storage ss; struct sockaddr_un un; } name;
	socklen_t len = sizeof(name);
	struct ip_port port;
	char text[IP_TEXT];
	int listening = 0;
	socklen_t size = sizeof(listening);

	memset(&name, 0, sizeof(name));
	if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &size) || !listening ||
	    getsockname(fd, &name.sa, &len))
		return false;
	if (name.sa.sa_family == AF_UNIX && len > offsetof(struct sockaddr_un, sun_path) && name.un.sun_path[0] == '/')
		return (size_t)snprintf(out, cap, "%.*s", (int)sizeof(name.un.sun_path), name.un.sun_path) < cap;
	if (ip_from_sockaddr(&name.sa, len, &port) != ESP_OK)
		return false;
	ip_format(&port.ip, text);
	return (size_t)snprintf(out, cap, strchr(text, ':') ? "[%s]:%u" : "%s:%u", text, port.port) < cap;
}

size_t sockets_inherit(struct sockets *s)
{
	const char *pid = getenv("LISTEN_PID"), *fds = getenv("LISTEN_FDS");
	long n = fds ? strtol(fds, NULL, 10) : 0;
	size_t taken = 0;

	if (!pid || strtol(pid, NULL, 10) != (long)getpid())
		n = 0;
	for (int fd = LISTEN_FDS_START; fd < LISTEN_FDS_START + n && s->n < SOCKETS_MAX; fd++) {
		struct socket_entry *e = &s->item[s->n];

		fcntl(fd, F_SETFD, FD_CLOEXEC);
		fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
		*e = (struct socket_entry){ .fd = fd, .inherited = true };
		if (!inherited_address(fd, e->address, sizeof(e->address)))
			continue;
		s->n++;
		taken++;
	}
	unsetenv("LISTEN_PID");
	unsetenv("LISTEN_FDS");
	unsetenv("LISTEN_FDNAMES");
	return taken;
}

/* --- opening ------------------------------------------------------------------------------------------------- */

/* Is somebody behind this path?  A socket file that refuses is left over from a killed server; one whose queue is full
 * (EAGAIN) is not, and must not hold us up. */
static bool path_is_served(const struct sockaddr_un *un)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	bool served;

	if (fd < 0)
		return false;
	served = connect(fd, (const struct sockaddr *)un, sizeof(*un)) == 0 || errno == EAGAIN;
	close(fd);
	return served;
}

/* Takes away what a killed server left, and nothing else that may have this name. */
static int remove_stale(const struct sockaddr_un *un)
{
	struct stat st;

	if (lstat(un->sun_path, &st))
		return errno == ENOENT ? 0 : -1;
	if (!S_ISSOCK(st.st_mode)) {
		errno = EEXIST;
		return -1;
	}
	if (path_is_served(un)) {
		errno = EADDRINUSE;
		return -1;
	}
	return unlink(un->sun_path);
}

static int open_path(const char *path)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	mode_t mask;
	int fd, failed;

	if (strlen(path) >= sizeof(un.sun_path)) {
		errno = ENAMETOOLONG;
		return -1;
	}
	memcpy(un.sun_path, path, strlen(path) + 1);
	if (remove_stale(&un))
		return -1;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -1;
	mask = umask(0177);   /* 0600 from its first moment */
	failed = bind(fd, (const struct sockaddr *)&un, sizeof(un)) || listen(fd, 64);
	umask(mask);
	if (failed) {
		int saved = errno;

		close(fd);
		errno = saved;
		return -1;
	}
	return fd;
}

static int sockets_open_path(const struct sockets *s, const char *path)
{
	int fd, saved;

	if (s->owner)
		privilege_act_as(s->owner);
	fd = open_path(path);
	saved = errno;
	if (s->owner)
		privilege_return();
	errno = saved;
	return fd;
}

static int open_port(const char *address)
{
	struct sockaddr_storage sa;
	struct ip_port port;
	socklen_t len;
	int fd, on = 1, off = 0;

	if (ip_parse_port((esp_str){ address, strlen(address) }, &port) != ESP_OK) {
		errno = EINVAL;
		return -1;
	}
	len = ip_to_sockaddr(&port, &sa);
	fd = socket(sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_TCP);
	if (fd < 0)
		return -1;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (sa.ss_family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
	if (bind(fd, (const struct sockaddr *)&sa, len) || listen(fd, SOCKETS_BACKLOG)) {
		int saved = errno;

		close(fd);
		errno = saved;
		return -1;
	}
	return fd;
}

static const char *open_advice(const char *address, int error)
{
	if (error == EACCES && address_is_path(address))
		return "not allowed: its directory must belong to the server's user (server.user)";
	switch (error) {
	case EADDRINUSE:    return "another program listens there";
	case EEXIST:        return "a file that is no socket has this name: move it away, or name another";
	case EACCES:        return "not allowed: start as root, with CAP_NET_BIND_SERVICE, or use a port above 1023";
	case EADDRNOTAVAIL: return "this machine has no such address";
	default:            return strerror(error);
	}
}

static void reason_add(char *reasons, size_t cap, const char *fmt, ...) ESP_PRINTF(3, 4);
static void reason_add(char *reasons, size_t cap, const char *fmt, ...)
{
	size_t used = strlen(reasons);
	va_list ap;

	va_start(ap, fmt);
	if (used + 1 < cap)
		vsnprintf(reasons + used, cap - used, fmt, ap);
	va_end(ap);
}

int sockets_open(struct sockets *s, const char *const *addresses, size_t n, char *reasons, size_t cap)
{
	bool failed = false;

	reasons[0] = '\0';
	sockets_abort(s);
	for (size_t i = 0; i < s->n; i++)
		s->item[i].wanted = false;
	for (size_t i = 0; i < n; i++) {
		struct socket_entry *e = sockets_find(s, addresses[i]);
		const char *a = addresses[i];

		if (!e) {
			int fd = s->n == SOCKETS_MAX || strlen(a) >= SOCKETS_ADDRESS ? (errno = E2BIG, -1)
			         : address_is_path(a) ? sockets_open_path(s, a) : open_port(a);

			if (fd < 0) {
				reason_add(reasons, cap, "cannot listen on %s: %s\n", a, open_advice(a, errno));
				failed = true;
				continue;
			}
			e = &s->item[s->n++];
			*e = (struct socket_entry){ .fd = fd, .fresh = true };
		}
		/* spelled as the newest configuration does, so that the server process finds it */
		snprintf(e->address, sizeof(e->address), "%s", a);
		e->wanted = true;
	}
	if (failed)
		sockets_abort(s);
	return failed ? ESP_EIO : ESP_OK;
}

static void sockets_drop(struct sockets *s, size_t i)
{
	struct socket_entry *e = &s->item[i];

	if (address_is_path(e->address) && !e->inherited) {
		if (s->owner)
			privilege_act_as(s->owner);
		unlink(e->address);
		if (s->owner)
			privilege_return();
	}
	close(e->fd);
	*e = s->item[--s->n];
}

void sockets_commit(struct sockets *s)
{
	for (size_t i = s->n; i-- > 0;) {
		s->item[i].fresh = false;
		if (!s->item[i].wanted)
			sockets_drop(s, i);
	}
}

void sockets_abort(struct sockets *s)
{
	for (size_t i = s->n; i-- > 0;) {
		s->item[i].wanted = true;
		if (s->item[i].fresh)
			sockets_drop(s, i);
	}
}

size_t sockets_pack(const struct sockets *s, char *text, size_t cap, int *fds, size_t *ret_nfds)
{
	size_t used = 0;

	*ret_nfds = 0;
	for (size_t i = 0; i < s->n; i++) {
		size_t len = strlen(s->item[i].address) + 1;

		if (!s->item[i].wanted || used + len > cap)
			continue;
		memcpy(text + used, s->item[i].address, len);
		used += len;
		fds[(*ret_nfds)++] = s->item[i].fd;
	}
	return used;
}

void sockets_close(struct sockets *s)
{
	while (s->n)
		sockets_drop(s, s->n - 1);
}
