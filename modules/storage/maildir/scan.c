/* scan - what is on the disk: accounts, folders, messages.  For a check and for a rebuild; nothing here writes.
 *
 * Runs on the `misc` lane while the calling fiber waits.  Symbolic links are never followed, and nothing but a folder's
 * own small file is opened.
 */
#include "maildir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

struct scan {
	struct maildir *m;
	esp_arena *arena;
	esp_str account, folder;
	void *found;               /* grown in the heap: an arena would keep every step */
	uint32_t n, cap, foreign;
	size_t item;
};

static void *add(struct scan *s)
{
	if (s->n == s->cap) {
		uint32_t cap = s->cap ? 2 * s->cap : 64;
		void *grown = realloc(s->found, cap * s->item);
		if (!grown)
			return NULL;
		s->found = grown;
		s->cap = cap;
	}
	return memset((char *)s->found + s->n++ * s->item, 0, s->item);
}

DIR *scan_open(struct maildir *m, const char *path)
{
	int fd = openat(m->root, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);

	if (!d && fd >= 0)
		(void)close(fd);
	return d;
}

static int is_directory(DIR *d, const char *name)
{
	struct stat sb;

	return fstatat(dirfd(d), name, &sb, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(sb.st_mode);
}

static esp_status run(struct scan *s, int32_t (*fn)(void *))
{
	int32_t result = ESP_OK;
	esp_status st = s->m->core.pool->run(s->m->self, s->m->core.pool->lane("misc"), fn, s, &result);

	return st == ESP_OK ? result : st;
}

static esp_status finish(struct scan *s, esp_status st, int (*order)(const void *, const void *), const void **ret)
{
	void *copy = esp_alloc(s->arena, s->n * s->item + 1);

	if (st == ESP_OK && !copy)
		st = ESP_ENOMEM;
	if (st == ESP_OK && s->n) {
		qsort(s->found, s->n, s->item, order);
		memcpy(copy, s->found, s->n * s->item);
	}
	free(s->found);
	*ret = copy;
	return st;
}

/* --- accounts ------------------------------------------------------------------------------------------------- */

static esp_status scan_domain(struct scan *s, const char *domain)
{
	DIR *d = scan_open(s->m, domain);
	char address[MAILDIR_PATH];
	esp_status st = ESP_OK;
	struct dirent *e;

	while (d && st == ESP_OK && (e = readdir(d)) != NULL) {
		esp_str *one;
		if (e->d_name[0] == '.' || !is_directory(d, e->d_name) ||
		    name_account_read(domain, e->d_name, address) != ESP_OK)
			continue;
		one = add(s);
		if (one)
			*one = esp_strdup_in(s->arena, (esp_str){ address, strlen(address) });
		st = one && one->ptr ? ESP_OK : ESP_ENOMEM;
	}
	if (d)
		(void)closedir(d);
	return st;
}

static int32_t on_accounts(void *arg)
{
	struct scan *s = arg;
	DIR *d = scan_open(s->m, ".");
	esp_status st = d ? ESP_OK : file_status(errno);
	struct dirent *e;

	while (d && st == ESP_OK && (e = readdir(d)) != NULL)
		if (e->d_name[0] != '.' && strlen(e->d_name) < FOLDER_NAME && is_directory(d, e->d_name))
			st = scan_domain(s, e->d_name);
	if (d)
		(void)closedir(d);
	return st;
}

static int by_text(const void *a, const void *b)
{
	const esp_str *x = a, *y = b;
	int c = memcmp(x->ptr, y->ptr, x->len < y->len ? x->len : y->len);

	return c ? c : (x->len > y->len) - (x->len < y->len);
}

esp_status scan_accounts(const esp_blob *b, esp_arena *a, const esp_str **ret, uint32_t *ret_n)
{
	struct scan s = { .m = maildir_of(b), .arena = a, .item = sizeof(esp_str) };
	esp_status st = finish(&s, run(&s, on_accounts), by_text, (const void **)ret);

	*ret_n = s.n;
	return st;
}

/* --- folders -------------------------------------------------------------------------------------------------- */

static esp_time touched(struct maildir *m, const char *path)
{
	char sub[2 * MAILDIR_PATH + 8];
	struct stat cur = { .st_mtime = 0 }, new = { .st_mtime = 0 };

	snprintf(sub, sizeof sub, "%s/cur", path);
	(void)fstatat(m->root, sub, &cur, AT_SYMLINK_NOFOLLOW);
	snprintf(sub, sizeof sub, "%s/new", path);
	(void)fstatat(m->root, sub, &new, AT_SYMLINK_NOFOLLOW);
	return cur.st_mtime > new.st_mtime ? cur.st_mtime : new.st_mtime;
}

static esp_status scan_folder(struct scan *s, const char *account, const char *dir)
{
	char name[MAILDIR_NAME], path[2 * MAILDIR_PATH];
	esp_blob_mark *mark;

	if (name_folder_read(dir, name) != ESP_OK) {
		s->foreign++;
		return ESP_OK;
	}
	mark = add(s);
	if (!mark)
		return ESP_ENOMEM;
	*mark = (esp_blob_mark){ .size = sizeof *mark, .account = s->account,
		.folder = esp_strdup_in(s->arena, (esp_str){ name, strlen(name) }) };
	snprintf(path, sizeof path, "%s%s%s", account, *dir ? "/" : "", dir);
	mark->touched = touched(s->m, path);
	return mark->folder.ptr ? mark_read(s->m, path, s->arena, mark) : ESP_ENOMEM;
}

static int32_t on_folders(void *arg)
{
	struct scan *s = arg;
	char account[MAILDIR_PATH];
	esp_status st = name_folder(s->account, ESP_STR("INBOX"), account);
	DIR *d = st == ESP_OK ? scan_open(s->m, account) : NULL;
	struct dirent *e;

	if (st == ESP_OK && !d)
		st = file_status(errno);
	if (st == ESP_OK)
		st = scan_folder(s, account, "");
	while (st == ESP_OK && (e = readdir(d)) != NULL)
		if (e->d_name[0] == '.' && e->d_name[1] && e->d_name[1] != '.' && is_directory(d, e->d_name))
			st = scan_folder(s, account, e->d_name);
	if (d)
		(void)closedir(d);
	return st;
}

static int by_folder(const void *a, const void *b)
{
	return by_text(&((const esp_blob_mark *)a)->folder, &((const esp_blob_mark *)b)->folder);
}

esp_status scan_folders(
	const esp_blob *b, esp_arena *a, esp_str account, const esp_blob_mark **ret, uint32_t *ret_n)
{
	struct scan s = { .m = maildir_of(b), .arena = a, .account = account, .item = sizeof(esp_blob_mark) };
	esp_status st = finish(&s, run(&s, on_folders), by_folder, (const void **)ret);

	*ret_n = s.n;
	return st;
}

/* --- messages ------------------------------------------------------------------------------------------------- */

/* What other tools call their files is ASCII (and goes into a TEXT column). */
static int is_text(const char *name)
{
	for (; *name; name++)
		if ((unsigned char)*name < 0x20 || (unsigned char)*name >= 0x7f)
			return 0;
	return 1;
}

static esp_status scan_message(struct scan *s, DIR *d, const char *part, const char *name)
{
	esp_blob_link link = { .size = sizeof link }, *one;
	char path[MAILDIR_PATH];
	struct stat sb;

	if (name[0] == '.')
		return ESP_OK;
	if (fstatat(dirfd(d), name, &sb, AT_SYMLINK_NOFOLLOW) != 0)
		return errno == ENOENT ? ESP_OK : file_status(errno);      /* gone meanwhile */
	snprintf(path, sizeof path, "%s/%s", part, name);
	if (!S_ISREG(sb.st_mode) || !is_text(name)) {
		s->foreign++;
		return ESP_OK;
	}
	(void)!name_message_read(name, &link);
	link.bytes = (uint64_t)sb.st_size;
	link.lost = sb.st_nlink == 1;
	link.received = sb.st_mtime;
	link.name = esp_strdup_in(s->arena, (esp_str){ path, strlen(path) });
	one = link.name.ptr ? add(s) : NULL;
	if (!one)
		return ESP_ENOMEM;
	*one = link;
	return ESP_OK;
}

static esp_status scan_part(struct scan *s, const char *folder, const char *part)
{
	char path[MAILDIR_PATH + 8];
	struct dirent *e;
	esp_status st = ESP_OK;
	DIR *d;

	snprintf(path, sizeof path, "%s/%s", folder, part);
	d = scan_open(s->m, path);
	if (!d)
		return errno == ENOENT || errno == ENOTDIR || errno == ELOOP ? ESP_OK : file_status(errno);
	while (st == ESP_OK && (e = readdir(d)) != NULL)
		st = scan_message(s, d, part, e->d_name);
	(void)closedir(d);
	return st;
}

static int32_t on_links(void *arg)
{
	struct scan *s = arg;
	char folder[MAILDIR_PATH];
	esp_status st = name_folder(s->account, s->folder, folder);

	if (st == ESP_OK)
		st = scan_part(s, folder, "cur");
	return st == ESP_OK ? scan_part(s, folder, "new") : st;
}

static int by_uid(const void *a, const void *b)
{
	uint32_t x = ((const esp_blob_link *)a)->uid, y = ((const esp_blob_link *)b)->uid;

	int c = (x > y) - (x < y);

	/* files that are not ours have UID 0 and stand in the order of their names, which begin with a time */
	return c ? c : by_text(&((const esp_blob_link *)a)->name, &((const esp_blob_link *)b)->name);
}

esp_status scan_links(const esp_blob *b, esp_arena *a, esp_str account, esp_str folder, const esp_blob_link **ret,
                      uint32_t *ret_n, uint32_t *ret_foreign)
{
	struct scan s = { .m = maildir_of(b), .arena = a, .account = account, .folder = folder,
		.item = sizeof(esp_blob_link) };
	esp_status st = finish(&s, run(&s, on_links), by_uid, (const void **)ret);

	*ret_n = s.n;
	*ret_foreign = s.foreign;
	return st;
}

struct sizes { struct maildir *m; const esp_id *id; uint64_t *size; uint32_t n; };

static int32_t on_sizes(void *arg)
{
	const struct sizes *s = arg;

	for (uint32_t i = 0; i < s->n; i++) {
		struct stat sb;
		esp_status st = file_stat(s->m, s->id[i], &sb);
		if (st != ESP_OK && st != ESP_ENOENT)
			return st;
		s->size[i] = st == ESP_OK && S_ISREG(sb.st_mode) ? (uint64_t)sb.st_size : UINT64_MAX;
	}
	return ESP_OK;
}

esp_status scan_sizes(const esp_blob *b, const esp_id *id, uint32_t n, uint64_t *ret)
{
	struct maildir *m = maildir_of(b);
	struct sizes s = { m, id, ret, n };
	int32_t result = ESP_OK;
	esp_status st = m->core.pool->run(m->self, m->core.pool->lane("misc"), on_sizes, &s, &result);

	return st == ESP_OK ? result : st;
}
