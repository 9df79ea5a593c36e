/* lost - .lost+found: message files that nobody named, until their time is over.
 *
 * A file goes there by one rename, and back by a second name that is synced before the first goes: a crash leaves it in
 * one place or in both.  Who reads a message and does not find its file looks here: a move that was a mistake is not
 * seen by anybody.
 */
#include "maildir.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

esp_status lost_link_back(struct maildir *m, esp_id id)
{
	char hex[MAILDIR_HEX], name[40];

	file_hex(id, hex);
	file_name(id, name);
	return linkat(m->lost, hex, m->blobs, name, 0) == 0 || errno == EEXIST ? ESP_OK : file_status(errno);
}

esp_status lost_put(struct maildir *m, esp_id id)
{
	char hex[MAILDIR_HEX], name[40];

	file_hex(id, hex);
	file_name(id, name);
	return renameat(m->blobs, name, m->lost, hex) == 0 ? ESP_OK : file_status(errno);
}

esp_status lost_remove(struct maildir *m, esp_id id)
{
	char hex[MAILDIR_HEX];

	file_hex(id, hex);
	return unlinkat(m->lost, hex, 0) == 0 ? ESP_OK : file_status(errno);
}

int lost_is_back(struct maildir *m, esp_id id)
{
	char hex[MAILDIR_HEX], name[40];
	struct stat here, there;

	file_hex(id, hex);
	file_name(id, name);
	return fstatat(m->lost, hex, &here, AT_SYMLINK_NOFOLLOW) == 0 &&
		fstatat(m->blobs, name, &there, AT_SYMLINK_NOFOLLOW) == 0 && here.st_ino == there.st_ino &&
		here.st_dev == there.st_dev;
}

/* Another file under its name was written meanwhile: that one is the message, and ours stays until its time is over. */
esp_status lost_give_back(struct maildir *m, esp_id id)
{
	char name[40];
	esp_status st = lost_link_back(m, id);

	file_name(id, name);
	if (st == ESP_OK)
		st = lost_is_back(m, id) ? file_sync_directory(m, name) : ESP_EEXIST;
	return st == ESP_OK ? lost_remove(m, id) : st;
}
