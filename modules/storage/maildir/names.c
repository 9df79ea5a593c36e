/* names - the names that folder jobs made or took away are synced before the jobs are forgotten.
 *
 * Each directory once, however many jobs touched it, from the folder's "cur" up to the root: any of them may be new.
 * One that is gone was removed by a later job, and its parent is in the list too.  Runs on the folder lane.
 */
#include "maildir.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

esp_status names_sync_one(struct maildir *m, const char *path)
{
	int fd = openat(m->root, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	esp_status st = fd >= 0 && fsync(fd) == 0 ? ESP_OK : file_status(errno);

	if (fd >= 0)
		(void)close(fd);
	return st;
}

esp_status names_sync_path(struct maildir *m, const char *dir)
{
	char path[MAILDIR_PATH];
	esp_status st;
	char *slash;

	snprintf(path, sizeof path, "%s", dir);
	do {
		st = names_sync_one(m, path);
		slash = strrchr(path, '/');
		if (slash)
			*slash = '\0';
	} while (st == ESP_OK && slash);
	return st == ESP_OK && fsync(m->root) != 0 ? file_status(errno) : st;
}

static esp_status add_path(struct names *s, const char *path)
{
	if (s->n == s->cap) {
		uint32_t cap = s->cap ? 2 * s->cap : 64;
		char **grown = realloc(s->path, cap * sizeof *grown);
		if (!grown)
			return ESP_ENOMEM;
		s->path = grown;
		s->cap = cap;
	}
	s->path[s->n] = strdup(path);
	return s->path[s->n] && ++s->n ? ESP_OK : ESP_ENOMEM;
}

static esp_status add_folder(struct names *s, esp_str account, esp_str folder)
{
	char path[MAILDIR_PATH], cur[MAILDIR_PATH + 8];
	esp_status st = name_folder(account, folder, path);
	char *slash;

	if (st != ESP_OK)
		return ESP_OK;             /* no job could do anything for such a name */
	snprintf(cur, sizeof cur, "%s/cur", path);
	if (s->n && strcmp(s->path[s->last], cur) == 0)
		return ESP_OK;
	s->last = s->n;
	st = add_path(s, cur);
	for (slash = path; st == ESP_OK && slash; ) {
		st = add_path(s, path);
		slash = strrchr(path, '/');
		if (slash)
			*slash = '\0';
	}
	return st;
}

esp_status names_add(struct names *s, const esp_blob_job *job)
{
	esp_status st = add_folder(s, job->account, job->folder);

	return st == ESP_OK && job->kind == ESP_BLOB_MVFOLDER ? add_folder(s, job->account, job->to) : st;
}

static int by_path(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

esp_status names_sync(struct maildir *m, struct names *s)
{
	esp_status st = ESP_OK;

	if (s->n)
		qsort(s->path, s->n, sizeof *s->path, by_path);
	for (uint32_t i = 0; st == ESP_OK && i < s->n; i++)
		if (i == 0 || strcmp(s->path[i], s->path[i - 1]) != 0) {
			st = names_sync_one(m, s->path[i]);
			st = st == ESP_ENOENT ? ESP_OK : st;
		}
	return st == ESP_OK && s->n && fsync(m->root) != 0 ? file_status(errno) : st;
}

void names_free(struct names *s)
{
	for (uint32_t i = 0; i < s->n; i++)
		free(s->path[i]);
	free(s->path);
	*s = (struct names){ .path = NULL };
}
