/* take - a message file that other hands put into a folder becomes one of ours.
 *
 * Runs on the `misc` lane while the calling fiber waits.  A file under a name of ours whose blob is gone is the blob
 * again (one more hard link).  Anything else is read once (only a regular file is, links are not followed) and copied,
 * with CRLF at the ends of its lines, into a new blob; the file itself goes later, by a job of the transaction that
 * named the message (ESP_BLOB_FORGET).
 */
#include "maildir.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define TAKE_MAX (INT64_C(1) << 28)    /* of a file; beyond that it stays where it is */

struct take {
	struct maildir *m;
	esp_str account, folder;
	const esp_blob_link *link;
	esp_id id;
	uint64_t size;
};

static esp_status take_path(const struct take *t, char out[2 * MAILDIR_PATH])
{
	char dir[MAILDIR_PATH];
	esp_status st = name_folder(t->account, t->folder, dir);

	if (st == ESP_OK && !name_in_folder(t->link->name))
		st = ESP_EINVAL;
	if (st == ESP_OK)
		snprintf(out, 2 * MAILDIR_PATH, "%s/%.*s", dir, (int)t->link->name.len, t->link->name.ptr);
	return st;
}

/* Read whole, with CRLF; the caller frees. */
static esp_status read_file(int fd, size_t size, char **ret, size_t *ret_n)
{
	char *in = malloc(size + 1), *out = NULL;
	size_t got = 0, n = 0, lines = 0;
	ssize_t r = 1;

	while (in && got < size && (r = read(fd, in + got, size - got)) > 0)
		got += (size_t)r;
	for (size_t i = 0; in && i < got; i++)
		lines += in[i] == '\n';
	out = in && r >= 0 ? malloc(got + lines + 1) : NULL;
	for (size_t i = 0; out && i < got; i++) {
		if (in[i] == '\n' && (i == 0 || in[i - 1] != '\r'))
			out[n++] = '\r';
		out[n++] = in[i];
	}
	free(in);
	*ret = out;
	*ret_n = n;
	return out ? ESP_OK : r < 0 ? file_status(errno) : ESP_ENOMEM;
}

static esp_status copy(struct take *t, int fd, const struct stat *sb)
{
	struct iovec iov = { .iov_base = NULL };
	char *data = NULL;
	esp_status st = sb->st_size > TAKE_MAX ? ESP_E2BIG : read_file(fd, (size_t)sb->st_size, &data, &iov.iov_len);

	iov.iov_base = data;
	t->id = ((const esp_crypto_api *)t->m->core.host->core("esp.crypto/1", 0))->new_id();
	if (st == ESP_OK)
		st = file_write_durable(t->m, t->id, &iov, 1);
	t->size = iov.iov_len;
	free(data);
	return st;
}

static int is_zero(esp_id id)
{
	static const esp_id zero;

	return memcmp(id.b, zero.b, sizeof id.b) == 0;
}

/* Its own blob: the same file, or gone and made again from this one. */
static int is_blob(struct take *t, const char *path, const struct stat *sb)
{
	char name[40];
	struct stat blob;

	if (is_zero(t->link->id))
		return 0;
	file_name(t->link->id, name);
	if (fstatat(t->m->blobs, name, &blob, AT_SYMLINK_NOFOLLOW) == 0)
		return blob.st_ino == sb->st_ino && blob.st_dev == sb->st_dev;
	return errno == ENOENT && linkat(t->m->root, path, t->m->blobs, name, 0) == 0 &&
		file_sync_directory(t->m, name) == ESP_OK;
}

static int32_t on_take(void *arg)
{
	struct take *t = arg;
	char path[2 * MAILDIR_PATH];
	struct stat sb;
	esp_status st = take_path(t, path);
	int fd = st == ESP_OK ? openat(t->m->root, path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC) : -1;

	if (fd < 0)
		return st != ESP_OK ? st : file_status(errno);
	if (fstat(fd, &sb) != 0 || !S_ISREG(sb.st_mode))
		st = ESP_ECORRUPT;
	if (st == ESP_OK && is_blob(t, path, &sb)) {
		t->id = t->link->id;
		t->size = (uint64_t)sb.st_size;
	} else if (st == ESP_OK) {
		st = copy(t, fd, &sb);
	}
	(void)close(fd);
	return st;
}

esp_status take_file(const esp_blob *b, esp_str account, esp_str folder, const esp_blob_link *link, esp_id *ret_id,
                     uint64_t *ret_size)
{
	struct maildir *m = maildir_of(b);
	struct take t = { .m = m, .account = account, .folder = folder, .link = link };
	int32_t result = ESP_OK;
	esp_status st = m->core.pool->run(m->self, m->core.pool->lane("misc"), on_take, &t, &result);

	*ret_id = t.id;
	*ret_size = t.size;
	return st == ESP_OK ? result : st;
}
