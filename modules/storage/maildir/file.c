/* file - one immutable file a message, named by its id.
 *
 * Reading: what the page cache has is read on the worker (RWF_NOWAIT); what must come from the disk is read on the
 * sync lane.  Nothing maps a blob, so a file that shrinks under us is a short read and not a signal.
 */
#include "maildir.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_PIECES 2      /* headers in front, message */
#define BLOB_MAX ((INT64_C(1) << 31) + (1 << 20))   /* the largest max_size, and what is put in front */

esp_status file_status(int error)
{
	switch (error) {
	case 0: return ESP_OK;
	case ENOSPC: case EDQUOT: return ESP_ENOSPC;
	case ENOENT: return ESP_ENOENT;
	case EEXIST: return ESP_EEXIST;
	case EMFILE: case ENFILE: return ESP_EBUSY;
	case ENOMEM: return ESP_ENOMEM;
	case EACCES: case EPERM: case EROFS: return ESP_EACCES;
	default: return ESP_EIO;
	}
}

void file_hex(esp_id id, char out[MAILDIR_HEX])
{
	static const char digits[] = "0123456789abcdef";

	for (int i = 0; i < 16; i++) {
		out[2 * i] = digits[id.b[i] >> 4];
		out[2 * i + 1] = digits[id.b[i] & 15];
	}
	out[32] = '\0';
}

esp_status file_hex_read(const char *hex, esp_id *ret)
{
	char again[MAILDIR_HEX];
	esp_status st = name_id_read(hex, ret);

	if (st != ESP_OK)
		return st;
	file_hex(*ret, again);
	return strcmp(hex, again) == 0 ? ESP_OK : ESP_EINVAL;
}

/* 256 directories that take turns, 16 seconds each (a UUIDv7 begins with milliseconds): messages that come together
 * lie together, so that a batch of them changes few blocks of the file system. */
void file_name(esp_id id, char out[40])
{
	char hex[MAILDIR_HEX];
	unsigned turn = (id.b[3] << 2 | id.b[4] >> 6) & 0xff;

	file_hex(id, hex);
	snprintf(out, 40, "%02x/%s", turn, hex);
}

/* One call for a whole message, unless the kernel takes less. */
esp_status file_write_all(int fd, const struct iovec *iov, int n)
{
	struct iovec left[FILE_PIECES];
	struct iovec *v = left;

	if (n > FILE_PIECES)
		abort();
	memcpy(left, iov, (size_t)n * sizeof *iov);
	while (n > 0) {
		ssize_t put = writev(fd, v, n);
		if (put < 0 && errno == EINTR)
			continue;
		if (put < 0)
			return file_status(errno);
		for (; n > 0 && (size_t)put >= v->iov_len; v++, n--)
			put -= (ssize_t)v->iov_len;
		if (n > 0) {
			v->iov_base = (char *)v->iov_base + put;
			v->iov_len -= (size_t)put;
		}
	}
	return ESP_OK;
}

esp_status file_write(struct maildir *m, esp_id id, const struct iovec *iov, int n)
{
	char name[40];
	esp_status st;
	int fd;

	file_name(id, name);
	fd = openat(m->blobs, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return file_status(errno);
	st = file_write_all(fd, iov, n);
	if (close(fd) != 0 && st == ESP_OK)
		st = file_status(errno);
	if (st != ESP_OK)
		(void)unlinkat(m->blobs, name, 0);
	return st;
}

esp_status file_sync_directory(struct maildir *m, const char *name)
{
	char sub[3] = { name[0], name[1], '\0' };
	int fd = openat(m->blobs, sub, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	esp_status st = fd < 0 ? file_status(errno) : ESP_OK;

	if (fd >= 0 && fsync(fd) != 0)
		st = file_status(errno);
	if (fd >= 0)
		(void)close(fd);
	return st;
}

esp_status file_write_durable(struct maildir *m, esp_id id, const struct iovec *iov, int n)
{
	char name[40], hex[MAILDIR_HEX];
	esp_status st;
	int fd;

	file_hex(id, hex);
	file_name(id, name);
	fd = openat(m->tmp, hex, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return file_status(errno);
	st = file_write_all(fd, iov, n);
	if (st == ESP_OK && fsync(fd) != 0)
		st = file_status(errno);
	if (close(fd) != 0 && st == ESP_OK)
		st = file_status(errno);
	if (st == ESP_OK && renameat(m->tmp, hex, m->blobs, name) != 0)
		st = file_status(errno);
	if (st == ESP_OK)
		st = file_sync_directory(m, name);
	if (st != ESP_OK)
		(void)unlinkat(m->tmp, hex, 0);
	return st;
}

/* Pages whose writeback failed count as clean, and ext4 believes of them that their blocks were written: to write into
 * them again would be no help.  They are dropped first; the fsync before makes all of them clean and takes the error
 * that the last fsync would be told otherwise.  Who reads the file at this moment may see what the disk has. */
static void forget_pages(int fd)
{
	(void)fsync(fd);
	(void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
}

esp_status file_restore(struct maildir *m, esp_id id, const struct iovec *content)
{
	char name[40];
	esp_status st;
	int fd;

	file_name(id, name);
	fd = openat(m->blobs, name, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return file_status(errno);
	forget_pages(fd);
	st = file_write_all(fd, content, 1);
	if (st == ESP_OK && (ftruncate(fd, (off_t)content->iov_len) != 0 || fsync(fd) != 0))
		st = file_status(errno);
	(void)close(fd);
	return st == ESP_OK ? file_sync_directory(m, name) : st;
}

static int make_directory(int at, const char *name)
{
	if (mkdirat(at, name, 0700) != 0 && errno != EEXIST)
		return -1;
	return openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

esp_status file_sync_names(struct maildir *m)
{
	int above = openat(m->root, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	esp_status st = above < 0 || fsync(above) != 0 || fsync(m->root) != 0 || fsync(m->blobs) != 0 ? file_status(errno)
	                                                                                               : ESP_OK;

	if (above >= 0)
		(void)close(above);
	return st;
}

esp_status file_prepare(struct maildir *m, esp_err *err)
{
	int made = 0;

	m->root = make_directory(AT_FDCWD, m->path);
	m->blobs = m->root < 0 ? -1 : make_directory(m->root, ".blobs");
	m->tmp = m->blobs < 0 ? -1 : make_directory(m->root, ".tmp");
	m->lost = m->tmp < 0 ? -1 : make_directory(m->root, ".lost+found");
	if (m->lost < 0) {
		snprintf(err->text, sizeof err->text, "cannot use %s: %s", m->path, strerror(errno));
		return file_status(errno);
	}
	for (int i = 0; i < 256; i++) {
		char sub[4];
		snprintf(sub, sizeof sub, "%02x", (unsigned)i);
		if (mkdirat(m->blobs, sub, 0700) == 0)
			made = 1;
		else if (errno != EEXIST)
			return file_status(errno);
	}
	return made ? file_sync_names(m) : ESP_OK;
}

/* --- reading -------------------------------------------------------------------------------------------------- */

struct read_job { int fd; char *to; size_t len; off_t at; };

static int32_t on_read(void *arg)
{
	struct read_job *job = arg;
	size_t got = 0;

	while (got < job->len) {
		ssize_t n = pread(job->fd, job->to + got, job->len - got, job->at + (off_t)got);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? file_status(errno) : ESP_ECORRUPT;
		got += (size_t)n;
	}
	return ESP_OK;
}

esp_status file_read_at(const esp_blob *b, int32_t fd, uint64_t offset, void *to, size_t n)
{
	struct maildir *m = maildir_of(b);
	struct read_job job = { fd, to, n, (off_t)offset };
	struct iovec iov = { .iov_base = to, .iov_len = n };
	int32_t result = ESP_OK;
	esp_status st;

	if (n <= (256u << 10) && preadv2(fd, &iov, 1, job.at, RWF_NOWAIT) == (ssize_t)n)
		return ESP_OK;
	st = m->core.pool->run(m->self, m->sync_lane, on_read, &job, &result);
	return st == ESP_OK ? result : st;
}

esp_status file_stat(struct maildir *m, esp_id id, struct stat *ret)
{
	char name[40];
	esp_status st;

	file_name(id, name);
	if (fstatat(m->blobs, name, ret, AT_SYMLINK_NOFOLLOW) == 0)
		return ESP_OK;
	st = errno == ENOENT ? lost_link_back(m, id) : file_status(errno);
	if (st != ESP_OK)
		return st;
	return fstatat(m->blobs, name, ret, AT_SYMLINK_NOFOLLOW) == 0 ? ESP_OK : file_status(errno);
}

esp_status file_descriptor(const esp_blob *b, esp_id id, int32_t *ret_fd, uint64_t *ret_bytes)
{
	struct maildir *m = maildir_of(b);
	const int how = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC;
	char name[40];
	struct stat sb;
	int fd;

	file_name(id, name);
	fd = openat(m->blobs, name, how);
	if (fd < 0 && errno == ENOENT && lost_link_back(m, id) == ESP_OK)
		fd = openat(m->blobs, name, how);
	if (fd < 0)
		return file_status(errno);
	if (fstat(fd, &sb) != 0 || !S_ISREG(sb.st_mode) || sb.st_size > BLOB_MAX) {
		(void)close(fd);
		return ESP_ECORRUPT;
	}
	*ret_fd = fd;
	*ret_bytes = (uint64_t)sb.st_size;
	return ESP_OK;
}

esp_status file_open(const esp_blob *b, esp_id id, esp_blob_file *ret)
{
	uint64_t bytes;
	int32_t fd;
	char *content;
	esp_status st = file_descriptor(b, id, &fd, &bytes);

	if (st != ESP_OK)
		return st;
	content = malloc(bytes + 1);
	st = content ? file_read_at(b, fd, 0, content, bytes) : ESP_ENOMEM;
	(void)close(fd);
	if (st == ESP_OK)
		*ret = (esp_blob_file){ .size = sizeof *ret, .content = { content, bytes }, .opaque = { content } };
	else
		free(content);
	return st;
}

void file_close(const esp_blob *b, esp_blob_file *f)
{
	(void)b;
	free(f->opaque[0]);
	*f = (esp_blob_file){ .size = sizeof *f };
}

/* --- throwing away -------------------------------------------------------------------------------------------- */

struct discard { struct maildir *m; esp_id id; };

static void on_discard(void *arg)      /* sync lane */
{
	struct discard *d = arg;
	char name[40];

	file_name(d->id, name);
	(void)unlinkat(d->m->blobs, name, 0);
	free(d);
}

void file_discard(const esp_blob *b, esp_id id)
{
	struct maildir *m = maildir_of(b);
	struct discard *d = malloc(sizeof *d);

	if (!d)
		return;                /* a file that nobody names: it costs room, no more */
	*d = (struct discard){ m, id };
	if (m->core.pool->submit(m->self, m->sync_lane, on_discard, d) != ESP_OK)
		free(d);
}
