/* scan - which Maildirs or mbox files are below a directory?  [lane]
 *
 * Level by level, without recursion, at most FOREIGN_DEPTH deep.  Symbolic links are not followed, and nothing but
 * directories and plain files is looked into: what lies there may be anybody's.
 */
#include "foreign.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FOLDERS_MAX 100000u

static int compare(const void *a, const void *b)
{
	return strcmp(((const struct foreign_folder *)a)->name, ((const struct foreign_folder *)b)->name);
}

esp_status foreign_add(struct foreign_tree *t, esp_str path, esp_str name)
{
	if (t->n == FOLDERS_MAX)
		return ESP_E2BIG;
	if (t->n == t->cap) {
		size_t cap = t->cap ? t->cap * 2 : 32;
		struct foreign_folder *grown = realloc(t->folder, cap * sizeof *grown);
		if (!grown)
			return ESP_ENOMEM;
		t->folder = grown;
		t->cap = cap;
	}
	t->folder[t->n] = (struct foreign_folder){ archive_dup(path), archive_dup(name) };
	t->n++;
	return t->folder[t->n - 1].path && t->folder[t->n - 1].name ? ESP_OK : ESP_ENOMEM;
}

static esp_status add(struct foreign_tree *t, const char *path, esp_str name)
{
	return foreign_add(t, (esp_str){ path, strlen(path) }, name);
}

void foreign_free(struct foreign_tree *t)
{
	for (size_t i = 0; i < t->n; i++) {
		free(t->folder[i].path);
		free(t->folder[i].name);
	}
	free(t->folder);
	*t = (struct foreign_tree){ .n = 0 };
}

/* --- walking
 * -------------------------------------------------------------------------------------------------------- */

struct walk {
	struct foreign_tree dirs;      /* name: path below the top; a queue */
	struct foreign_tree *found;
	const char *top;
	esp_status (*look)(struct walk *w, const char *path, const char *below, const struct stat *sb);
};

/* Relative path of an entry; NULL: too long, or one of the two that every directory has. */
static int join(char out[ARCHIVE_FILE], const char *a, const char *b)
{
	return snprintf(out, ARCHIVE_FILE, "%s%s%s", a, a[0] ? "/" : "", b) < (int)ARCHIVE_FILE;
}

static uint32_t depth_of(const char *path)
{
	uint32_t n = 0;

	for (; *path; path++)
		n += *path == '/';
	return n;
}

static esp_status visit(struct walk *w, DIR *d, const char *path, const char *below)
{
	char full[ARCHIVE_FILE], rest[ARCHIVE_FILE / 2];
	struct dirent *e;
	struct stat sb;
	esp_status st = ESP_OK;

	while (st == ESP_OK && (e = readdir(d))) {
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0 || !join(full, path, e->d_name) ||
		    snprintf(rest, sizeof rest, "%s%s%s", below, below[0] ? "/" : "", e->d_name) >= (int)sizeof rest ||
		    fstatat(dirfd(d), e->d_name, &sb, AT_SYMLINK_NOFOLLOW) != 0)
			continue;
		st = w->look(w, full, rest, &sb);
	}
	return st;
}

static esp_status walk(struct walk *w)
{
	esp_status st = add(&w->dirs, w->top, (esp_str){ "", 0 });

	for (size_t i = 0; st == ESP_OK && i < w->dirs.n; i++) {
		int fd = open(w->dirs.folder[i].path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | (i ? O_NOFOLLOW : 0));
		DIR *d = fd < 0 ? NULL : fdopendir(fd);
		if (!d) {
			st = i ? ESP_OK : disk_status(errno);
			if (fd >= 0)
				(void)close(fd);
			continue;
		}
		st = visit(w, d, w->dirs.folder[i].path, w->dirs.folder[i].name);
		(void)closedir(d);
	}
	if (w->found->n)
		qsort(w->found->folder, w->found->n, sizeof *w->found->folder, compare);
	foreign_free(&w->dirs);
	return st;
}

/* --- Maildir
 * --------------------------------------------------------------------------------------------------------- */

static uint64_t count_files(const char *folder, const char *sub)
{
	int top = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int fd = top < 0 ? -1 : openat(top, sub, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;
	uint64_t n = 0;

	while (d && (e = readdir(d)))
		n += e->d_name[0] != '.';
	if (d)
		(void)closedir(d);
	if (top >= 0)
		(void)close(top);
	return n;
}

static esp_status add_maildir(struct walk *w, const char *path, const char *below)
{
	size_t n = strlen(path) - 4;           /* "/cur" */
	size_t b = strlen(below) > 4 ? strlen(below) - 4 : 0;
	char name[FOREIGN_NAME + 1], folder[ARCHIVE_FILE];
	esp_buf out;

	esp_buf_init_fixed(&out, name, sizeof name);
	path_make(folder, "%.*s", (int)n, path);
	w->found->total += count_files(folder, "cur") + count_files(folder, "new");
	for (size_t i = 0, from = 0; i <= b; i++) {
		if (i < b && below[i] != '/')
			continue;
		if (b == 0)
			(void)esp_buf_add_z(&out, "INBOX");
		else if (from)
			(void)esp_buf_add_char(&out, '/');
		if (b && names_of_maildir((esp_str){ below + from, i - from }, &out) != ESP_OK)
			return ESP_OK;                 /* no name of ours: too long */
		from = i + 1;
	}
	return out.err ? ESP_OK : add(w->found, folder, esp_buf_str(&out));
}

static int ends(const char *path, const char *name)
{
	size_t n = strlen(path), k = strlen(name);

	return n >= k && strcmp(path + n - k, name) == 0 && (n == k || path[n - k - 1] == '/');
}

static esp_status look_maildir(struct walk *w, const char *path, const char *below, const struct stat *sb)
{
	if (!S_ISDIR(sb->st_mode))
		return ESP_OK;
	if (ends(below, "cur"))
		return add_maildir(w, path, below);
	if (ends(below, "new") || ends(below, "tmp") || depth_of(below) > FOREIGN_DEPTH)
		return ESP_OK;
	return add(&w->dirs, path, (esp_str){ below, strlen(below) });
}

esp_status maildir_scan(struct foreign_tree *t, const char *path)
{
	struct walk w = { .found = t, .top = path, .look = look_maildir };

	return walk(&w);
}

/* --- mbox
 * ------------------------------------------------------------------------------------------------------------ */

static int is_mbox(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	char start[5];
	int is = fd >= 0 && read(fd, start, sizeof start) == 5 && memcmp(start, "From ", 5) == 0;

	if (fd >= 0)
		(void)close(fd);
	return is;
}

static esp_status look_mbox(struct walk *w, const char *path, const char *below, const struct stat *sb)
{
	char name[FOREIGN_NAME + 1];
	esp_buf out;

	if (S_ISDIR(sb->st_mode) && depth_of(below) < FOREIGN_DEPTH)
		return add(&w->dirs, path, (esp_str){ below, strlen(below) });
	if (!S_ISREG(sb->st_mode) || !is_mbox(path))
		return ESP_OK;
	esp_buf_init_fixed(&out, name, sizeof name);
	if (names_of_path((esp_str){ below, strlen(below) }, &out) != ESP_OK)
		return ESP_OK;
	w->found->total += (uint64_t)sb->st_size;
	return add(w->found, path, esp_buf_str(&out));
}

esp_status mbox_scan(struct foreign_tree *t, const char *path)
{
	struct walk w = { .found = t, .top = path, .look = look_mbox };
	const char *slash = strrchr(path, '/');
	struct stat sb;

	if (stat(path, &sb) != 0)
		return disk_status(errno);
	return S_ISDIR(sb.st_mode) ? walk(&w) : look_mbox(&w, path, slash ? slash + 1 : path, &sb);
}
