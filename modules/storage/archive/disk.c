/* disk - files and directories of an archive, and their SHA-256.  Everything here blocks: it runs on a lane. */
#include "archive.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

void path_make(char out[ARCHIVE_FILE], const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(out, ARCHIVE_FILE, fmt, ap);
	va_end(ap);
	if (n < 0 || n >= (int)ARCHIVE_FILE)
		abort();
}

esp_status disk_status(int error)
{
	switch (error) {
	case 0: return ESP_OK;
	case ENOSPC: case EDQUOT: return ESP_ENOSPC;
	case ENOENT: case ENOTDIR: return ESP_ENOENT;
	case EEXIST: return ESP_EEXIST;
	case EMFILE: case ENFILE: return ESP_EBUSY;
	case ENOMEM: return ESP_ENOMEM;
	case EACCES: case EPERM: return ESP_EACCES;
	case EROFS: return DISK_READ_ONLY;
	default: return ESP_EIO;
	}
}

const char *disk_why(esp_status st)
{
	if (st != DISK_READ_ONLY)
		return why(st);
	return "it is read-only for the server; under systemd name it in ReadWritePaths= of a drop-in (systemctl edit esp)"
		" and restart";
}

void hex_of(const void *data, size_t n, char *out)
{
	static const char digits[] = "0123456789abcdef";
	const uint8_t *p = data;

	for (size_t i = 0; i < n; i++) {
		out[2 * i] = digits[p[i] >> 4];
		out[2 * i + 1] = digits[p[i] & 15];
	}
	out[2 * n] = '\0';
}

static int digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

esp_status hex_parse(const char *text, size_t len, void *out, size_t n)
{
	uint8_t *p = out;

	if (len != 2 * n)
		return ESP_EPROTO;
	for (size_t i = 0; i < n; i++) {
		int hi = digit(text[2 * i]), lo = digit(text[2 * i + 1]);
		if (hi < 0 || lo < 0)
			return ESP_EPROTO;
		p[i] = (uint8_t)(hi << 4 | lo);
	}
	return ESP_OK;
}

esp_status disk_make(const char *path)
{
	char part[ARCHIVE_FILE];

	for (const char *p = path + 1;; p++) {
		if (*p && *p != '/')
			continue;
		snprintf(part, sizeof part, "%.*s", (int)(p - path), path);
		if (mkdir(part, 0700) != 0 && errno != EEXIST)
			return disk_status(errno);
		if (!*p)
			return ESP_OK;
	}
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *where)
{
	(void)st;
	(void)type;
	(void)where;
	return remove(path);
}

esp_status disk_remove_tree(const char *path)
{
	return nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS) == 0 || errno == ENOENT ? ESP_OK : disk_status(errno);
}

esp_status sink_open(struct sink *s, const struct archive *a, const char *path)
{
	*s = (struct sink){ .crypto = a->crypto, .hash = a->crypto->hash_new(ESP_HASH_SHA256) };
	if (!s->hash)
		return ESP_ENOMEM;
	if (path && !(s->f = fopen(path, "we"))) {
		esp_status st = disk_status(errno);
		s->crypto->hash_finish(s->hash, NULL);
		return st;
	}
	return ESP_OK;
}

void sink_write(struct sink *s, const void *data, size_t n)
{
	s->crypto->hash_update(s->hash, data, n);
	s->bytes += n;
	if (s->f && s->status == ESP_OK && fwrite(data, 1, n, s->f) != n)
		s->status = disk_status(errno);
}

esp_status sink_close(struct sink *s, char ret_sha[SHA_HEX])
{
	uint8_t digest[64];

	s->crypto->hash_finish(s->hash, digest);
	if (ret_sha)
		hex_of(digest, 32, ret_sha);
	if (s->f && (fflush(s->f) != 0 || fsync(fileno(s->f)) != 0) && s->status == ESP_OK)
		s->status = disk_status(errno);
	if (s->f && fclose(s->f) != 0 && s->status == ESP_OK)
		s->status = disk_status(errno);
	return s->status;
}

esp_status disk_sha(const struct archive *a, const char *path, char ret_sha[SHA_HEX])
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	char buf[2048];
	struct sink s;
	ssize_t n;
	esp_status st = fd < 0 ? disk_status(errno) : sink_open(&s, a, NULL);

	if (st != ESP_OK) {
		if (fd >= 0)
			(void)close(fd);
		return st;
	}
	while ((n = read(fd, buf, sizeof buf)) > 0 || (n < 0 && errno == EINTR))
		if (n > 0)
			sink_write(&s, buf, (size_t)n);
	if (n < 0)
		s.status = disk_status(errno);
	(void)close(fd);
	return sink_close(&s, ret_sha);
}

#define LINE_MOST 256

esp_status disk_append(const char *path, FILE **ret)
{
	char end[LINE_MOST];
	long size, from;
	size_t n = 0, keep;
	FILE *f;

	*ret = f = fopen(path, "a+e");
	if (!f || fseek(f, 0, SEEK_END) != 0 || (size = ftell(f)) < 0)
		return disk_status(errno);
	from = size > LINE_MOST ? size - LINE_MOST : 0;
	if (fseek(f, from, SEEK_SET) != 0 || (n = fread(end, 1, sizeof end, f)) != (size_t)(size - from))
		return disk_status(errno);
	for (keep = n; keep && end[keep - 1] != '\n'; keep--)
		;
	return keep == n || ftruncate(fileno(f), from + (long)keep) == 0 ? ESP_OK : disk_status(errno);
}

esp_status disk_read(const char *path, size_t max, char **ret, size_t *ret_len)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	esp_status st = ESP_OK;
	struct stat sb;
	size_t got = 0;

	*ret = NULL;
	if (fd < 0)
		return disk_status(errno);
	if (fstat(fd, &sb) != 0 || !S_ISREG(sb.st_mode))
		st = ESP_ECORRUPT;
	else if ((uint64_t)sb.st_size > max)
		st = ESP_E2BIG;
	else if (!(*ret = malloc((size_t)sb.st_size + 1)))
		st = ESP_ENOMEM;
	while (st == ESP_OK && got < (size_t)sb.st_size) {
		ssize_t n = read(fd, *ret + got, (size_t)sb.st_size - got);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			st = n < 0 ? disk_status(errno) : ESP_ECORRUPT;
		else
			got += (size_t)n;
	}
	(void)close(fd);
	if (st != ESP_OK) {
		free(*ret);
		*ret = NULL;
		return st;
	}
	(*ret)[got] = '\0';
	*ret_len = got;
	return ESP_OK;
}
