/* mark - the file "esp-folder" in which a folder says what a lost database must not give again.
 *
 *   esp-folder 1
 *   mailbox <hex>
 *   uidvalidity 1764171000
 *   uid 1000              no UID above it was ever given
 *   modseq 4711           of the account when this was written
 *   use \Sent             or nothing
 *   end                   a file without its last line is not believed
 *
 * Too high is right, too low never happens: mark_write() syncs, and a lock lets one writer on all servers at a time
 * read and write it.  A new folder has a file that is not synced: until the first UID is given nothing would be lost
 * with it.  Everything here runs on a lane.
 */
#include "maildir.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define MARK_BYTES 512u
#define MARK_FILE  "esp-folder"
#define PATH_ROOM (MAILDIR_PATH + 16)

static esp_status write_text(struct maildir *m, const char *tmp, const char *text, size_t n, int sync)
{
	struct iovec iov = { .iov_base = (void *)(uintptr_t)text, .iov_len = n };
	int fd = openat(m->tmp, tmp, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	esp_status st;

	if (fd < 0)
		return file_status(errno);
	st = file_write_all(fd, &iov, 1);
	if (st == ESP_OK && sync && fsync(fd) != 0)
		st = file_status(errno);
	if (close(fd) != 0 && st == ESP_OK)
		st = file_status(errno);
	return st;
}

static esp_status write_mark(struct maildir *m, const char *dir, const esp_blob_mark *mark, int sync)
{
	char path[PATH_ROOM], text[MARK_BYTES], hex[MAILDIR_HEX], tmp[MAILDIR_HEX + 8];
	esp_status st;
	int n;

	file_hex(mark->mailbox, hex);
	snprintf(tmp, sizeof tmp, "%s.mark%d", hex, sync);
	n = snprintf(text, sizeof text, MARK_FILE " 1\nmailbox %s\nuidvalidity %u\nuid %u\nmodseq %llu\nuse %.*s\nend\n",
		hex, mark->uidvalidity, mark->uid, (unsigned long long)mark->modseq,
		(int)(mark->special_use.len > 32 ? 32 : mark->special_use.len),
		mark->special_use.ptr ? mark->special_use.ptr : "");
	st = write_text(m, tmp, text, (size_t)n, sync);
	snprintf(path, sizeof path, "%s/" MARK_FILE, dir);
	if (st == ESP_OK && renameat(m->tmp, tmp, m->root, path) != 0)
		st = file_status(errno);
	return st == ESP_OK && sync ? names_sync_path(m, dir) : st;
}

static int same_mailbox(const esp_blob_mark *a, const esp_blob_mark *b)
{
	return a->uidvalidity == b->uidvalidity && memcmp(a->mailbox.b, b->mailbox.b, sizeof a->mailbox.b) == 0;
}

/* The lock, held until it is closed; -1: errno says why not. */
static int take_lock(struct maildir *m)
{
	int lock = openat(m->tmp, "marks.lock", O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);

	if (lock >= 0 && flock(lock, LOCK_EX) != 0) {
		(void)close(lock);
		lock = -1;
	}
	return lock;
}

/* What is there may have been renamed into place by somebody who crashed before its directory was synced. */
static esp_status raise(struct maildir *m, const char *dir, const esp_blob_mark *mark)
{
	esp_blob_mark there = { .size = sizeof there };
	esp_status st = link_make_folder(m, dir);

	if (st == ESP_OK)
		st = mark_read(m, dir, NULL, &there);
	if (st != ESP_OK)
		return st;
	/* a mailbox that had this name: its folder may still be about to move */
	if (there.uidvalidity && !same_mailbox(&there, mark) && !mark->over)
		return ESP_EBUSY;
	return same_mailbox(&there, mark) && there.uid >= mark->uid ? names_sync_path(m, dir) : write_mark(m, dir, mark, 1);
}

esp_status mark_write(const esp_blob *b, const esp_blob_mark *mark)
{
	struct maildir *m = maildir_of(b);
	char dir[MAILDIR_PATH];
	esp_status st = name_folder(mark->account, mark->folder, dir);
	int lock;

	if (st != ESP_OK)
		return st;
	lock = take_lock(m);
	if (lock < 0)
		return file_status(errno);
	st = raise(m, dir, mark);
	(void)close(lock);
	return st;
}

esp_status mark_begin(struct maildir *m, const char *dir, const esp_blob_mark *mark)
{
	esp_blob_mark there = { .size = sizeof there };
	int lock = take_lock(m);
	esp_status st = lock < 0 ? file_status(errno) : mark_read(m, dir, NULL, &there);

	if (st == ESP_OK && !same_mailbox(&there, mark))     /* else UIDs were given meanwhile */
		st = write_mark(m, dir, mark, 0);
	if (lock >= 0)
		(void)close(lock);
	return st;
}

void mark_remove(struct maildir *m, const char *dir, const esp_id *mailbox)
{
	char path[PATH_ROOM];
	esp_blob_mark there = { .size = sizeof there };
	int lock = take_lock(m);

	snprintf(path, sizeof path, "%s/" MARK_FILE, dir);
	/* a mailbox that has this name now may have written its own file already: it stays */
	if (lock >= 0 && (!mailbox || (mark_read(m, dir, NULL, &there) == ESP_OK && there.uidvalidity &&
					memcmp(there.mailbox.b, mailbox->b, sizeof mailbox->b) == 0)))
		(void)unlinkat(m->root, path, 0);
	if (lock >= 0)
		(void)close(lock);
}

esp_status mark_move(struct maildir *m, const char *from, const char *to)
{
	char a[PATH_ROOM], b[PATH_ROOM];

	/* what the new name has was written later, with higher marks */
	snprintf(a, sizeof a, "%s/" MARK_FILE, from);
	snprintf(b, sizeof b, "%s/" MARK_FILE, to);
	if (linkat(m->root, a, m->root, b, 0) != 0 && errno != EEXIST && errno != ENOENT)
		return file_status(errno);
	return ESP_OK;
}

/* --- reading -------------------------------------------------------------------------------------------------- */

static esp_status read_text(struct maildir *m, const char *path, char text[MARK_BYTES])
{
	int fd = openat(m->root, path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	struct stat sb;
	ssize_t n = -1;

	if (fd < 0)
		return errno == ENOENT || errno == ELOOP || errno == ENXIO ? ESP_ENOENT : file_status(errno);
	if (fstat(fd, &sb) == 0 && S_ISREG(sb.st_mode))
		n = read(fd, text, MARK_BYTES - 1);
	(void)close(fd);
	text[n > 0 ? n : 0] = '\0';
	return n > 0 ? ESP_OK : ESP_ENOENT;
}

static int read_hex(const char *hex, esp_id *ret)
{
	for (size_t i = 0; i < sizeof ret->b; i++) {
		unsigned byte = 0;
		if (sscanf(hex + 2 * i, "%2x", &byte) != 1)
			return 0;
		ret->b[i] = (uint8_t)byte;
	}
	return 1;
}

esp_status mark_read(struct maildir *m, const char *dir, esp_arena *a, esp_blob_mark *ret)
{
	char path[PATH_ROOM], text[MARK_BYTES], name[16] = "", hex[MAILDIR_HEX] = "", use[33] = "", end[8] = "";
	unsigned uidvalidity = 0, uid = 0;
	unsigned long long modseq = 0;
	int at = 0;
	esp_status st;

	snprintf(path, sizeof path, "%s/" MARK_FILE, dir);
	st = read_text(m, path, text);
	if (st != ESP_OK)
		return st == ESP_ENOENT ? ESP_OK : st;
	if (sscanf(text, "%15s 1 mailbox %32[0-9a-f] uidvalidity %u uid %u modseq %llu use%n", name, hex, &uidvalidity,
			&uid, &modseq, &at) != 5 ||
		strcmp(name, MARK_FILE) != 0 || strlen(hex) != MAILDIR_HEX - 1 || at == 0)
		return ESP_OK;
	(void)sscanf(text + at, " %32[\\A-Za-z]\n%7s", use, end);
	if ((strcmp(end, "end") != 0 && strcmp(use, "end") != 0) || !read_hex(hex, &ret->mailbox))
		return ESP_OK;
	if (strcmp(use, "end") == 0)
		use[0] = '\0';
	ret->uidvalidity = uidvalidity;
	ret->uid = uid;
	ret->modseq = modseq;
	if (a)
		ret->special_use = esp_strdup_in(a, (esp_str){ use, strlen(use) });
	return ESP_OK;
}
