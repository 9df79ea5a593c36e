/* core/bus/log-sink.c - targets of the log: standard streams, a file, the journal's socket (see log-sink.h).
 *
 * The journal is spoken to as systemd documents its native protocol: one datagram of KEY=value lines.  A line never
 * contains a line feed, so the simple form is enough, and no library is needed.
 */
#include "core/bus/log-sink.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static esp_status failed(esp_err *err, const char *what, const char *path)
{
	if (err)
		snprintf(err->text, sizeof err->text, "cannot %s %s for the log: %s", what, path, strerror(errno));
	return ESP_EIO;
}

static int journal_connect(const char *path)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd;

	if (strlen(path) >= sizeof addr.sun_path) {
		errno = ENAMETOOLONG;
		return -1;
	}
	memcpy(addr.sun_path, path, strlen(path) + 1);
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd >= 0 && connect(fd, (const struct sockaddr *)&addr, sizeof addr) != 0) {
		int why = errno;

		close(fd);
		errno = why;
		return -1;
	}
	return fd;
}

static int target_open(enum log_target target, const char *path)
{
	switch (target) {
	case LOG_TO_STDOUT: return STDOUT_FILENO;
	case LOG_TO_FILE:   return open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY, 0640);
	case LOG_TO_JOURNAL: return journal_connect(path);
	case LOG_TO_STDERR:
	default: return STDERR_FILENO;
	}
}

static bool owns_fd(const struct log_sink *s)
{
	return s->target == LOG_TO_FILE || s->target == LOG_TO_JOURNAL;
}

esp_status log_sink_open(struct log_sink *s, enum log_target target, const char *path, esp_err *err)
{
	if (target == LOG_TO_JOURNAL && !path)
		path = "/run/systemd/journal/socket";
	memset(s, 0, sizeof *s);
	s->fd = -1;
	s->target = target;
	if (target == LOG_TO_FILE && !path) {
		errno = EINVAL;
		return failed(err, "open", "a file without a name");
	}
	if (path && (s->path = strdup(path)) == NULL)
		return ESP_ENOMEM;
	s->fd = target_open(target, path);
	if (s->fd < 0) {
		free(s->path);
		s->path = NULL;
		return failed(err, target == LOG_TO_JOURNAL ? "connect to" : "open", path ? path : "it");
	}
	return ESP_OK;
}

/* A full disk or a closed pipe: the lines are lost, the server is not. */
void log_sink_flush(struct log_sink *s)
{
	uint32_t done = 0;

	while (done < s->nkept) {
		ssize_t n = write(s->fd, s->kept + done, s->nkept - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		done += (uint32_t)n;
	}
	for (uint32_t i = done; i < s->nkept; i++)
		s->lost += s->kept[i] == '\n';
	s->nkept = 0;
}

void log_sink_close(struct log_sink *s)
{
	log_sink_flush(s);
	if (owns_fd(s) && s->fd >= 0)
		close(s->fd);
	free(s->path);
	s->path = NULL;
	s->fd = -1;
}

esp_status log_sink_reopen(struct log_sink *s, esp_err *err)
{
	int fd;

	if (!owns_fd(s))
		return ESP_OK;
	fd = target_open(s->target, s->path);
	if (fd < 0)
		return failed(err, "open", s->path);
	close(s->fd);
	s->fd = fd;
	return ESP_OK;
}

static void write_stream(struct log_sink *s, const struct log_record *r)
{
	if (s->nkept && s->nkept + r->len >= PIPE_BUF)   /* what others write to the same pipe stays between lines */
		log_sink_flush(s);
	memcpy(s->kept + s->nkept, r->bytes, r->len);
	s->nkept += r->len;
	s->kept[s->nkept++] = '\n';
}

static void write_journal(struct log_sink *s, const struct log_record *r)
{
	char head[64];
	int n = snprintf(head, sizeof head, "PRIORITY=%d\nSYSLOG_IDENTIFIER=esp-server\nMESSAGE=", (int)r->level);
	char lf = '\n';
	struct iovec iov[3] = { { .iov_base = head, .iov_len = (size_t)n },
	                        { .iov_base = (void *)(uintptr_t)(r->bytes + r->stamp), .iov_len = r->len - r->stamp },
	                        { .iov_base = &lf, .iov_len = 1 } };
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = 3 };

	if (sendmsg(s->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
		return;
	if ((errno == ECONNREFUSED || errno == ENOTCONN) && log_sink_reopen(s, NULL) == ESP_OK &&   /* journald restarted */
	    sendmsg(s->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
		return;
	s->lost++;
}

void log_sink_write(struct log_sink *s, const struct log_record *r)
{
	if (s->target == LOG_TO_JOURNAL)
		write_journal(s, r);
	else
		write_stream(s, r);
}

static uint64_t hash_of(const struct log_record *r)
{
	uint64_t h = 0xcbf29ce484222325u ^ (uint64_t)r->len;

	for (uint32_t i = r->stamp; i < r->len; i++)
		h = (h ^ (unsigned char)r->bytes[i]) * 0x100000001b3u;
	h ^= h >> 32;
	return h ? h : 1;
}

/* Forget a place; what it left out goes into *ret. */
static void seen_end(struct log_seen *seen, struct log_summary *ret)
{
	ret->count = 0;
	if (seen->count > LOG_SAME_PER_MINUTE) {
		ret->count = seen->count - LOG_SAME_PER_MINUTE;
		memcpy(ret->text, seen->text, sizeof ret->text);
	}
	memset(seen, 0, sizeof *seen);
}

bool log_sink_admit(struct log_sink *s, const struct log_record *r, int64_t now, struct log_summary *ret)
{
	uint64_t h = hash_of(r);
	struct log_seen *seen = &s->seen[h % LOG_SEEN];
	bool over = now - seen->since >= 60;
	size_t n = r->len - r->stamp;

	ret->count = 0;
	/* a line that is being suppressed keeps its place until its minute is over; others pass uncounted */
	if (seen->hash != h && seen->count > LOG_SAME_PER_MINUTE && !over)
		return true;
	if (seen->hash != h || over) {
		seen_end(seen, ret);
		seen->hash = h;
		seen->since = now;
		memcpy(seen->text, r->bytes + r->stamp, n < sizeof seen->text ? n : sizeof seen->text - 1);
	}
	return ++seen->count <= LOG_SAME_PER_MINUTE;
}

bool log_sink_expire(struct log_sink *s, int64_t now, struct log_summary *ret)
{
	for (size_t i = 0; i < LOG_SEEN; i++) {
		if (s->seen[i].hash == 0 || now - s->seen[i].since < 60)
			continue;
		seen_end(&s->seen[i], ret);
		if (ret->count)
			return true;
	}
	return false;
}
