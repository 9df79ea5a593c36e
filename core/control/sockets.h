/* core/control/sockets.h - the listening sockets, owned by the supervisor and lent to every server process.
 *
 * An address keeps its socket as long as any configuration names it.  A change is made in two steps: sockets_open()
 * opens what a new configuration adds (nothing is closed), then sockets_commit() closes what it no longer names, or
 * sockets_abort() closes what was added.  The control socket (a path) is kept in the same table.
 *
 * One thread; the table owns its descriptors.
 */
#ifndef CORE_CONTROL_SOCKETS_H
#define CORE_CONTROL_SOCKETS_H

#include <stdbool.h>
#include <stdio.h>
#include <stddef.h>

#include <esp/abi.h>

struct privilege;

enum { SOCKETS_MAX = 128, SOCKETS_ADDRESS = 128, SOCKETS_BACKLOG = 4096 };

struct socket_entry {
	char address[SOCKETS_ADDRESS]; /* "[::]:25" as the configuration says it, or an absolute path */
	int fd;
	bool wanted;                   /* named by the configuration of the last sockets_open() */
	bool fresh;                    /* opened by it */
	bool inherited;                /* from LISTEN_FDS: the file of a path is not ours to unlink */
};

struct sockets {
	struct socket_entry item[SOCKETS_MAX];
	size_t n;
	const struct privilege *owner; /* makes and removes the control socket's file; NULL: we ourselves */
};

/*! \brief Take the sockets of LISTEN_FDS (systemd); they are matched by the address they are bound to.  Clears the
 *  variables.  Returns how many were taken. */
size_t sockets_inherit(struct sockets *s);
/*! \brief Open every address that has no socket yet.  Every failure is one line in *reasons (bounded, may be cut);
 *  with any, what was opened is closed again and ESP_EIO returned. */
ESP_CHECKED int sockets_open(struct sockets *s, const char *const *addresses, size_t n, char *reasons, size_t cap);
void sockets_commit(struct sockets *s);
void sockets_abort(struct sockets *s);
/*! \brief Wanted addresses as LINK_SOCKETS wants them: texts ended by NUL, descriptors in order. */
size_t sockets_pack(const struct sockets *s, char *text, size_t cap, int *fds, size_t *ret_nfds);
void sockets_close(struct sockets *s);

#endif
