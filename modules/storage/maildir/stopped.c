/* stopped - did ESP leave this mail directory in order, and when?
 *
 *   .tmp/serving.lock   every server on the directory holds it shared; who can have it alone is the first, or the last
 *   .stopped            written by the last server when every folder job was done: seconds since 1970
 *
 * Only with that file does a link that is missing mean that somebody deleted the message, and only folders that were
 * touched since then can have changed.  A start takes the file away.  A stop before the folders had been compared
 * writes the old time again.  A generation that follows another in this process is told by it (maildir.c).  Runs on the
 * folder lane.
 */
#include "maildir.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <unistd.h>

#define STOPPED ".stopped"

static esp_time read_time(struct maildir *m)
{
	int fd = openat(m->root, STOPPED, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	char text[32];
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);

	if (fd >= 0)
		(void)close(fd);
	if (n <= 0 || text[n - 1] != '\n')
		return 0;
	text[n] = '\0';
	return strtoll(text, NULL, 10);
}

esp_status stopped_take(struct maildir *m)
{
	m->serving = openat(m->tmp, "serving.lock", O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (m->serving < 0)
		return file_status(errno);
	if (!m->follows && flock(m->serving, LOCK_EX | LOCK_NB) == 0)
		m->stopped_at = read_time(m);
	/* gone for good before anything changes */
	if (unlinkat(m->root, STOPPED, 0) == 0 && fsync(m->root) != 0)
		return file_status(errno);
	/* who has it alone, at a start or a stop, has it for a moment */
	return flock(m->serving, LOCK_SH) == 0 ? ESP_OK : file_status(errno);
}

void stopped_leave(struct maildir *m)
{
	esp_time at = m->stopped_at ? m->stopped_at : m->core.loop->wall(NULL);
	struct iovec iov;
	char text[32];
	int fd = -1;

	if (m->serving < 0)
		return;
	iov = (struct iovec){ text, (size_t)snprintf(text, sizeof text, "%lld\n", (long long)at) };
	if (m->all_done && flock(m->serving, LOCK_EX | LOCK_NB) == 0)
		fd = openat(m->root, STOPPED, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd >= 0 && (file_write_all(fd, &iov, 1) != ESP_OK || fsync(fd) != 0 || fsync(m->root) != 0))
		(void)unlinkat(m->root, STOPPED, 0);
	if (fd >= 0)
		(void)close(fd);
	(void)close(m->serving);
	m->serving = -1;
}

esp_time stopped_when(const esp_blob *b) { return maildir_of(b)->stopped_at; }

void stopped_merged(const esp_blob *b) { maildir_of(b)->stopped_at = 0; }
