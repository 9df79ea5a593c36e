/* core/module/image-file.c - the file of a module: is it safe to run, and its bytes.
 *
 * A module runs with all rights of the server: its directory and file must belong to root or to the server's user and
 * nobody else may write them; no component of the path may be a symbolic link.  Everything is decided on open
 * descriptors, so a file exchanged between check and use is not used.
 * Thread: any (pool lane); blocks on the disk.
 */
#include "core/module/image.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <esp/crypto.h>

#include "core/base/hash.h"
#include "core/base/status.h"
#include "core/module/host.h"

/* ---- safety ------------------------------------------------------------------------------------------ */

static int beneath(int dir, const char *name, int flags)
{
	struct open_how how = { .flags = (uint64_t)(flags | O_CLOEXEC | O_NOFOLLOW), .resolve = RESOLVE_NO_SYMLINKS };

	return (int)syscall(SYS_openat2, dir, name, &how, sizeof how);
}

/* Kernels before 5.6 and seccomp filters without openat2: one component at a time. */
static int walk(const char *path)
{
	int at = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);

	while (at >= 0 && *(path += strspn(path, "/"))) {
		char part[256];
		size_t n = strcspn(path, "/");
		int next;

		if (n >= sizeof part) {
			close(at);
			errno = ENAMETOOLONG;
			return -1;
		}
		memcpy(part, path, n);
		part[n] = '\0';
		next = openat(at, part, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		close(at);
		at = next;
		path += n;
	}
	return at;
}

static int open_dir(const char *dir)
{
	int fd = beneath(AT_FDCWD, dir, O_PATH | O_DIRECTORY);

	if (fd < 0 && (errno == ENOSYS || errno == EPERM || errno == E2BIG || errno == EINVAL))
		fd = walk(dir);
	return fd;
}

static int refuse_unsafe(const struct stat *st, const char *what, const char *path, esp_err *err)
{
	if (st->st_uid != 0 && st->st_uid != geteuid())
		return err_fail(err, ESP_EACCES, "%s %s belongs to user %u; it must belong to root or to the server's user: "
		               "chown root it", what, path, (unsigned)st->st_uid);
	if (st->st_mode & (S_IWGRP | S_IWOTH))
		return err_fail(err, ESP_EACCES, "%s %s may be written by others (mode %04o): chmod go-w it", what, path,
		               (unsigned)(st->st_mode & 07777));
	return ESP_OK;
}

static bool good_name(const char *s)
{
	size_t n = strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789_");

	return n > 0 && n <= IMAGE_NAME_MAX && s[n] == '\0';
}

static int open_checked_dir(const char *dir, esp_err *err)
{
	struct stat st;
	int fd, rc;

	if (dir[0] != '/')
		return err_fail(err, ESP_EACCES, "module directory \"%s\" is not an absolute path", dir);
	fd = open_dir(dir);
	if (fd < 0)
		return err_fail(err, errno == ENOENT ? ESP_ENOENT : ESP_EACCES, "module directory %s: %s%s", dir,
			strerror(errno), errno == ELOOP || errno == ENOTDIR ? " (symbolic links are not followed)" : "");
	rc = fstat(fd, &st) < 0 ? err_fail(err, ESP_EIO, "module directory %s: %s", dir, strerror(errno))
	                        : refuse_unsafe(&st, "module directory", dir, err);
	if (rc < 0) {
		close(fd);
		return rc;
	}
	return fd;
}

int image_file_open(const char *dir, const char *file, esp_err *err)
{
	char leaf[IMAGE_NAME_MAX + 4], path[512];
	struct stat st;
	int at, fd, rc;

	if (!good_name(file))
		return err_fail(err, ESP_ECONFIG, "\"%s\" is no module file name (small letters, digits, \"_\")", file);
	at = open_checked_dir(dir, err);
	if (at < 0)
		return at;
	(void)snprintf(leaf, sizeof leaf, "%s.so", file);
	(void)snprintf(path, sizeof path, "%s/%s", dir, leaf);
	fd = openat(at, leaf, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
	rc = errno;
	close(at);
	if (fd < 0)
		return err_fail(err, rc == ENOENT ? ESP_ENOENT : ESP_EACCES, "%s: %s%s", path, strerror(rc),
		               rc == ELOOP ? " (symbolic links are not followed)" : "");
	if (fstat(fd, &st) < 0)
		rc = err_fail(err, ESP_EIO, "%s: %s", path, strerror(errno));
	else if (!S_ISREG(st.st_mode))
		rc = err_fail(err, ESP_EACCES, "%s is no regular file", path);
	else if (st.st_size == 0 || st.st_size > IMAGE_FILE_MAX)
		rc = err_fail(err, ESP_EINVAL, "%s has %lld bytes; a module has between 1 byte and 256 MiB", path,
		             (long long)st.st_size);
	else
		rc = refuse_unsafe(&st, "module file", path, err);
	if (rc < 0) {
		close(fd);
		return rc;
	}
	return fd;
}

/* ---- bytes --------------------------------------------------------------------------------------------- */

static int write_all(int fd, const char *p, size_t n)
{
	while (n > 0) {
		ssize_t w = write(fd, p, n);

		if (w < 0 && errno == EINTR)
			continue;
		if (w < 0)
			return errno == ENOSPC || errno == EDQUOT ? ESP_ENOSPC : ESP_EIO;
		p += w;
		n -= (size_t)w;
	}
	return ESP_OK;
}

static int copy_through(const esp_crypto_api *crypto, int from, int to, char *buf, size_t cap, esp_hash *sha)
{
	off_t at = 0;

	for (;;) {
		ssize_t n = pread(from, buf, cap, at);
		int rc;

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return ESP_EIO;
		if (n == 0)
			return ESP_OK;
		at += n;
		if (at > IMAGE_FILE_MAX)
			return ESP_E2BIG;
		crypto->hash_update(sha, buf, (size_t)n);
		rc = to >= 0 ? write_all(to, buf, (size_t)n) : ESP_OK;
		if (rc < 0)
			return rc;
	}
}

/* Hash the file, and copy it when `to` is a descriptor: the hash is of the very bytes that were copied. */
int image_file_copy(int from, int to, char ret_hash[65])
{
	enum { PIECE = 65536 };
	char *buf = malloc(PIECE);
	const esp_crypto_api *crypto = host_core("esp.crypto/1", NULL);
	esp_hash *sha = crypto ? crypto->hash_new(ESP_HASH_SHA256) : NULL;
	uint8_t digest[32];
	int rc = !crypto ? ESP_EUNAVAIL : buf && sha ? copy_through(crypto, from, to, buf, PIECE, sha) : ESP_ENOMEM;

	free(buf);
	if (sha)
		crypto->hash_finish(sha, digest);
	if (rc < 0)
		return rc;
	hex_encode(ret_hash, digest, sizeof digest);
	return ESP_OK;
}

int image_file_hash(int fd, char ret_hash[65])
{
	return image_file_copy(fd, -1, ret_hash);
}
