/* maildir - the messages of one Maildir folder that another program (or an export) wrote.  [lane]
 *
 * The date is the file's time, which Maildir programs keep as the date of arrival: copy with `cp -a` or `rsync -a`.
 * Flags stand behind ":2," (";2," or "!2," where a file system takes no colon).
 */
#include "foreign.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

struct maildir_entry { char *name; esp_time date; int is_new; };

static int compare(const void *a, const void *b)
{
	const struct maildir_entry *x = a, *y = b;

	return x->date != y->date ? (x->date < y->date ? -1 : 1) : strcmp(x->name, y->name);
}

static esp_status add(struct maildir *m, const char *name, const struct stat *sb, int is_new)
{
	if (m->n == m->cap) {
		size_t cap = m->cap ? m->cap * 2 : 256;
		struct maildir_entry *grown = realloc(m->entry, cap * sizeof *grown);
		if (!grown)
			return ESP_ENOMEM;
		m->entry = grown;
		m->cap = cap;
	}
	m->entry[m->n] = (struct maildir_entry){ strdup(name), sb->st_mtime, is_new };
	return m->entry[m->n++].name ? ESP_OK : ESP_ENOMEM;
}

static esp_status list(struct maildir *m, int is_new)
{
	char path[ARCHIVE_FILE + 4];
	struct dirent *e;
	struct stat sb;
	esp_status st = ESP_OK;
	DIR *d;

	snprintf(path, sizeof path, "%s/%s", m->path, is_new ? "new" : "cur");
	d = opendir(path);
	if (!d)
		return errno == ENOENT ? ESP_OK : disk_status(errno);
	while (st == ESP_OK && (e = readdir(d)))
		if (e->d_name[0] != '.' && fstatat(dirfd(d), e->d_name, &sb, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(sb.st_mode))
			st = add(m, e->d_name, &sb, is_new);
	(void)closedir(d);
	return st;
}

esp_status maildir_open(struct maildir *m, const char *path)
{
	char file[ARCHIVE_FILE + 20], *text = NULL;
	size_t n = 0;
	esp_status st;

	m->entry = NULL;
	m->n = m->cap = m->at = 0;
	path_make(m->path, "%s", path);
	snprintf(file, sizeof file, "%s/dovecot-keywords", path);
	if (disk_read(file, 64 << 10, &text, &n) != ESP_OK)
		n = 0;
	letters_parse(&m->letters, (esp_str){ text, n });
	free(text);
	st = list(m, 0);
	if (st == ESP_OK)
		st = list(m, 1);
	if (m->n)
		qsort(m->entry, m->n, sizeof *m->entry, compare);
	return st;
}

void maildir_close(struct maildir *m)
{
	for (size_t i = 0; i < m->n; i++)
		free(m->entry[i].name);
	free(m->entry);
	m->entry = NULL;
	m->n = 0;
}

int maildir_id(const char *name, esp_id *ret)
{
	const char *dot = strchr(name, '.');

	return dot && strlen(dot) > 33 && dot[33] == '.' && hex_parse(dot + 1, 32, ret->b, sizeof ret->b) == ESP_OK;
}

static esp_str suffix_of(const char *name)
{
	const char *at = strrchr(name, ',');

	if (!at || at - name < 2 || at[-1] != '2' || !strchr(":;!", at[-2]))
		return (esp_str){ "", 0 };
	return (esp_str){ at + 1, strlen(at + 1) };
}

esp_status maildir_next(struct maildir *m, struct incoming *ret)
{
	const struct maildir_entry *e = m->at < m->n ? &m->entry[m->at++] : NULL;
	char path[ARCHIVE_FILE + 300], *text = NULL;
	size_t n;
	esp_status st;

	ret->content = NULL;
	if (!e)
		return ESP_ENOENT;
	snprintf(path, sizeof path, "%s/%s/%s", m->path, e->is_new ? "new" : "cur", e->name);
	st = disk_read(path, FOREIGN_MAX, &text, &n);
	if (st != ESP_OK)
		return st == ESP_ENOENT ? ESP_EIO : st;    /* ESP_ENOENT is the end */
	marks_of_maildir(&ret->marks, &m->letters, e->is_new ? (esp_str){ "", 0 } : suffix_of(e->name));
	ret->date = e->date;
	ret->skip = 0;
	ret->has_id = maildir_id(e->name, &ret->id);
	st = lines_crlf((esp_str){ text, n }, &ret->content, &ret->len);
	free(text);
	return st;
}
