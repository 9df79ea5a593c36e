/* link - what folder jobs do to Maildir++ directories.  Runs on the folder lane (width 1), knows no database.
 *
 * A job may be done again after a crash, with the jobs before it: each leaves the same files however often it runs.
 * The name of a message's file is a function of its blob (time of the id, size of the file) and its UID; only the flag
 * letters vary, so a file is found by trying the 32 combinations, and by reading the directory when other hands gave
 * it another name.
 * Errors: ESP_ENOSPC, ESP_EBUSY (descriptors), ESP_ENOMEM, ESP_EACCES (also: read-only) pass, the job waits; everything
 * else is something in the way that stays.
 */
#include "maildir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define FLAG_SETS 32u
#define LINK_PATH (2 * MAILDIR_PATH + 8)

int link_waits(esp_status st)
{
	return st == ESP_ENOSPC || st == ESP_EBUSY || st == ESP_ENOMEM || st == ESP_EACCES;
}

static esp_status make_one(struct maildir *m, const char *path)
{
	return mkdirat(m->root, path, 0700) == 0 || errno == EEXIST ? ESP_OK : file_status(errno);
}

esp_status link_make_folder(struct maildir *m, const char *path)
{
	static const char *const parts[] = { "cur", "new", "tmp" };
	char sub[MAILDIR_PATH + 8];
	esp_status st = ESP_OK;

	/* domain, account, folder: each level on its own */
	for (const char *p = path; st == ESP_OK && (p = strchr(p, '/')) != NULL; p++) {
		snprintf(sub, sizeof sub, "%.*s", (int)(p - path), path);
		st = make_one(m, sub);
	}
	if (st == ESP_OK)
		st = make_one(m, path);
	for (int i = 0; st == ESP_OK && i < 3; i++) {
		snprintf(sub, sizeof sub, "%s/%s", path, parts[i]);
		st = make_one(m, sub);
	}
	return st;
}

static esp_status message_path(
	struct maildir *m, const char *folder, const esp_blob_job *job, off_t size, uint32_t flags, char out[LINK_PATH])
{
	char name[MAILDIR_PATH];
	esp_status st = name_message(job->id, (uint64_t)size, job->uid, flags, m->hostname, name);

	if (st == ESP_OK)
		snprintf(out, LINK_PATH, "%s/cur/%s", folder, name);
	return st;
}

static esp_status link_message(struct maildir *m, const char *folder, const esp_blob_job *job, const struct stat *blob)
{
	char name[40], to[LINK_PATH];
	esp_status st = message_path(m, folder, job, blob->st_size, job->flags, to);

	file_name(job->id, name);
	if (st != ESP_OK)
		return st;
	if (linkat(m->blobs, name, m->root, to, 0) != 0 && errno != EEXIST) {
		st = errno == ENOENT ? link_make_folder(m, folder) : file_status(errno);
		if (st != ESP_OK)
			return st;
		if (linkat(m->blobs, name, m->root, to, 0) != 0 && errno != EEXIST)
			return file_status(errno);
	}
	/* Maildir readers take INTERNALDATE from there, and so does a rebuild; one that fails costs no more */
	if (job->received && job->received != blob->st_mtim.tv_sec)
		(void)utimensat(m->root, to, (struct timespec[]){ { .tv_nsec = UTIME_OMIT }, { .tv_sec = job->received } },
		                AT_SYMLINK_NOFOLLOW);
	return ESP_OK;
}

/* "<seconds>.<hex>.<host>,S=<n>,U=<uid>[:,...]" of this blob and UID, whatever the rest says? */
static int is_message(const char *name, const char *hex, uint32_t uid)
{
	char field[24];
	const char *p = strchr(name, '.'), *u;
	size_t n;

	if (!p || strncmp(p + 1, hex, MAILDIR_HEX - 1) != 0)
		return 0;
	n = (size_t)snprintf(field, sizeof field, ",U=%u", uid);
	u = strstr(p, field);
	return u && (u[n] == '\0' || u[n] == ':' || u[n] == ',');
}

/* Another program (or another hostname) named it: the first such file in the directory that is not `known`. */
static esp_status search_message(struct maildir *m, const char *folder, const esp_blob_job *job, const char *known,
                                 char out[LINK_PATH])
{
	char dir[MAILDIR_PATH + 8], hex[MAILDIR_HEX];
	esp_status st = ESP_ENOENT;
	struct dirent *e;
	DIR *d;
	int fd;

	file_hex(job->id, hex);
	snprintf(dir, sizeof dir, "%s/cur", folder);
	fd = openat(m->root, dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return file_status(errno);
	d = fdopendir(fd);
	if (!d) {
		(void)close(fd);
		return ESP_ENOMEM;
	}
	while (st == ESP_ENOENT && (e = readdir(d)) != NULL) {
		if (strlen(e->d_name) >= MAILDIR_PATH || !is_message(e->d_name, hex, job->uid))
			continue;
		snprintf(out, LINK_PATH, "%s/cur/%.*s", folder, (int)MAILDIR_PATH, e->d_name);
		st = strcmp(out, known) == 0 ? ESP_ENOENT : ESP_OK;
	}
	(void)closedir(d);
	return st;
}

/* A job done again may have left the message under two sets of flags: all of them but `keep` (FLAG_SETS: none) go. */
static esp_status unlink_known(
	struct maildir *m, const char *folder, const esp_blob_job *job, off_t size, uint32_t keep, uint32_t *ret_n)
{
	char path[LINK_PATH];
	esp_status st = ESP_OK;

	*ret_n = 0;
	for (uint32_t flags = 0; st == ESP_OK && flags < FLAG_SETS; flags++) {
		if (flags == keep)
			continue;
		st = message_path(m, folder, job, size, flags, path);
		if (st != ESP_OK)
			break;
		if (unlinkat(m->root, path, 0) == 0)
			++*ret_n;
		else if (errno != ENOENT)
			st = file_status(errno);
	}
	return st;
}

/* Its blob may be gone already. */
static esp_status unlink_message(struct maildir *m, const char *folder, const esp_blob_job *job)
{
	char path[LINK_PATH];
	struct stat blob;
	uint32_t n = 0;
	esp_status st = file_stat(m, job->id, &blob);

	if (st == ESP_OK)
		st = unlink_known(m, folder, job, blob.st_size, FLAG_SETS, &n);
	else if (st == ESP_ENOENT)
		st = ESP_OK;
	while (st == ESP_OK && n == 0) {
		st = search_message(m, folder, job, "", path);
		if (st == ESP_OK && unlinkat(m->root, path, 0) != 0 && errno != ENOENT)
			st = file_status(errno);
	}
	return st == ESP_ENOENT ? ESP_OK : st;
}

/* The file gets its new name first and loses the old ones after, so it is never without one. */
static esp_status rename_flags(struct maildir *m, const char *folder, const esp_blob_job *job, const struct stat *blob)
{
	uint32_t keep = job->flags & (FLAG_SETS - 1), n = 0;
	char path[LINK_PATH], to[LINK_PATH];
	esp_status st = link_message(m, folder, job, blob);

	if (st == ESP_OK)
		st = unlink_known(m, folder, job, blob->st_size, keep, &n);
	if (st == ESP_OK && n == 0)
		st = message_path(m, folder, job, blob->st_size, keep, to);
	if (st != ESP_OK || n)
		return st;
	st = search_message(m, folder, job, to, path);
	if (st == ESP_OK && unlinkat(m->root, path, 0) != 0 && errno != ENOENT)
		st = file_status(errno);
	return st == ESP_ENOENT ? ESP_OK : st;
}

/* Only what a Maildir has; a foreign file in it keeps the folder. */
static esp_status remove_folder(struct maildir *m, const char *folder, const esp_id *mailbox)
{
	static const char *const parts[] = { "/cur", "/new", "/tmp", "" };
	char path[MAILDIR_PATH + 8];
	esp_status st = ESP_OK;

	mark_remove(m, folder, mailbox);

	for (int i = 0; i < 4; i++) {
		snprintf(path, sizeof path, "%s%s", folder, parts[i]);
		if (unlinkat(m->root, path, AT_REMOVEDIR) != 0 && errno != ENOENT)
			st = file_status(errno);
	}
	return st;
}

static esp_status move_files(struct maildir *m, const char *from, const char *to)
{
	int a = openat(m->root, from, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), b;
	esp_status st = ESP_OK;
	struct dirent *e;
	DIR *d;

	if (a < 0)
		return errno == ENOENT ? ESP_OK : file_status(errno);
	b = openat(m->root, to, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	d = b < 0 ? NULL : fdopendir(a);
	if (!d) {
		st = file_status(errno);
		(void)close(a);
	}
	while (d && st == ESP_OK && (e = readdir(d)) != NULL) {
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		if (renameat(dirfd(d), e->d_name, b, e->d_name) != 0 && errno != ENOENT)
			st = file_status(errno);
		/* two names of one file: rename() leaves both */
		if (st == ESP_OK && unlinkat(dirfd(d), e->d_name, 0) != 0 && errno != ENOENT)
			st = file_status(errno);
	}
	if (d)
		(void)closedir(d);
	if (b >= 0)
		(void)close(b);
	return st;
}

/* The target is there when a link job before this one was done again and made the old folder anew. */
static esp_status move_folder(struct maildir *m, const char *folder, const esp_blob_job *job)
{
	static const char *const parts[] = { "cur", "new", "tmp" };
	char to[MAILDIR_PATH], a[MAILDIR_PATH + 8], b[MAILDIR_PATH + 8];
	esp_status st = name_folder(job->account, job->to, to);

	if (st != ESP_OK)
		return st;
	if (strcmp(folder, to) == 0 || faccessat(m->root, folder, F_OK, AT_SYMLINK_NOFOLLOW) != 0)
		return link_make_folder(m, to);
	if (renameat(m->root, folder, m->root, to) == 0)
		return ESP_OK;
	if (errno != EEXIST && errno != ENOTEMPTY)
		return file_status(errno);
	st = link_make_folder(m, to);
	for (int i = 0; st == ESP_OK && i < 3; i++) {
		snprintf(a, sizeof a, "%s/%s", folder, parts[i]);
		snprintf(b, sizeof b, "%s/%s", to, parts[i]);
		st = move_files(m, a, b);
	}
	if (st == ESP_OK)
		st = mark_move(m, folder, to);
	return st == ESP_OK ? remove_folder(m, folder, NULL) : st;
}

/* What it holds is in a blob, and under another name in a folder. */
static esp_status forget_file(struct maildir *m, const char *folder, const esp_blob_job *job)
{
	char path[LINK_PATH];

	if (!name_in_folder(job->to))
		return ESP_EINVAL;
	snprintf(path, sizeof path, "%s/%.*s", folder, (int)job->to.len, job->to.ptr);
	return unlinkat(m->root, path, 0) == 0 || errno == ENOENT ? ESP_OK : file_status(errno);
}

static esp_status new_folder(struct maildir *m, const char *folder, const esp_blob_job *job)
{
	const esp_blob_mark mark = { .size = sizeof mark, .uidvalidity = job->uidvalidity, .mailbox = job->id,
		.special_use = job->to };
	esp_status st = link_make_folder(m, folder);

	return st == ESP_OK && job->uidvalidity ? mark_begin(m, folder, &mark) : st;
}

esp_status link_job(struct maildir *m, const esp_blob_job *job)
{
	char folder[MAILDIR_PATH];
	struct stat blob;
	esp_status st = name_folder(job->account, job->folder, folder);

	if (st == ESP_OK && (job->kind == ESP_BLOB_LINK || job->kind == ESP_BLOB_FLAGS))
		st = file_stat(m, job->id, &blob);
	if (st != ESP_OK)
		return st;
	switch (job->kind) {
	case ESP_BLOB_LINK: return link_message(m, folder, job, &blob);
	case ESP_BLOB_UNLINK: return unlink_message(m, folder, job);
	case ESP_BLOB_FLAGS: return rename_flags(m, folder, job, &blob);
	case ESP_BLOB_MKFOLDER: return new_folder(m, folder, job);
	case ESP_BLOB_RMFOLDER: return remove_folder(m, folder, &job->id);
	case ESP_BLOB_MVFOLDER: return move_folder(m, folder, job);
	case ESP_BLOB_FORGET: return forget_file(m, folder, job);
	default: return ESP_EINVAL;
	}
}
