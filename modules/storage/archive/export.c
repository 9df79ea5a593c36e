/* export - an account's mail for other programs: a Maildir++ tree or mbox files.
 *
 * Flags, keywords, dates of arrival, subfolders go along, and for Dovecot also UIDs (dovecot-uidlist), so that clients
 * need not load everything again.  Maildir: a message that is there stays, so that an export that was cut off goes on.
 * mbox: a file gets its name when it is whole.  At the end every message is looked for in what was written.
 */
#include "foreign.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BASE_NAME 128u                 /* file name without its flags */

struct done { uint32_t uid; esp_id id; char base[BASE_NAME]; uint64_t bytes; };
struct export;
struct writer {
	esp_status (*open)(struct export *x);
	esp_status (*put)(struct export *x);
	esp_status (*close)(struct export *x);  /* verifies */
	void (*drop)(struct export *x);         /* after a failure */
};
struct export {
	struct task *t;
	const struct writer *writer;
	char target[ARCHIVE_PATH], hostname[64];
	esp_actor actor;
	/* the folder at hand */
	esp_mailbox box;
	const esp_view *view;
	char dir[ARCHIVE_FILE];        /* Maildir; or the mbox file */
	struct letters letters;
	FILE *f;
	struct done *done;
	size_t ndone, cap;
	struct done *old;              /* messages that an earlier run wrote, by id */
	size_t nold;
	/* the message at hand */
	esp_message_row row;
	struct marks marks;
	esp_str content;
	/* too large for a stack */
	struct incoming found;
	char name[FOREIGN_NAME * 3 + 1], path[ARCHIVE_FILE + 300];
	uint64_t folders, messages, written, lost, missing;
};

/* --- Maildir: [lane]
 * ------------------------------------------------------------------------------------------------ */

static int by_id(const void *a, const void *b)
{
	return memcmp(((const struct done *)a)->id.b, ((const struct done *)b)->id.b, sizeof(esp_id));
}

static esp_status grow(struct done **list, size_t n, size_t *cap)
{
	struct done *grown;

	if (n < *cap)
		return ESP_OK;
	grown = realloc(*list, (*cap ? *cap * 2 : 256) * sizeof *grown);
	if (!grown)
		return ESP_ENOMEM;
	*list = grown;
	*cap = *cap ? *cap * 2 : 256;
	return ESP_OK;
}

/* Files of ours in a directory: their ids and names. */
static esp_status list_old(struct export *x, const char *sub, size_t *cap)
{
	char path[ARCHIVE_FILE + 8];
	struct dirent *e;
	struct stat sb;
	esp_status st = ESP_OK;
	DIR *d;

	snprintf(path, sizeof path, "%s/%s", x->dir, sub);
	d = opendir(path);
	if (!d)
		return errno == ENOENT ? ESP_OK : disk_status(errno);
	while (st == ESP_OK && (e = readdir(d))) {
		struct done o = { .uid = 0 };
		if (!maildir_id(e->d_name, &o.id) || fstatat(dirfd(d), e->d_name, &sb, AT_SYMLINK_NOFOLLOW) != 0)
			continue;
		snprintf(o.base, sizeof o.base, "%.*s", (int)strcspn(e->d_name, ":"), e->d_name);
		o.bytes = (uint64_t)sb.st_size;
		st = grow(&x->old, x->nold, cap);
		if (st == ESP_OK)
			x->old[x->nold++] = o;
	}
	(void)closedir(d);
	return st;
}

static esp_status read_old(struct export *x)
{
	size_t cap = 0;
	esp_status st;

	free(x->old);
	x->old = NULL;
	x->nold = 0;
	st = list_old(x, "cur", &cap);
	if (st == ESP_OK)
		st = list_old(x, "new", &cap);
	if (x->nold)
		qsort(x->old, x->nold, sizeof *x->old, by_id);
	return st;
}

static const struct done *old_of(const struct export *x, esp_id id)
{
	struct done key = { .id = id };

	return x->nold ? bsearch(&key, x->old, x->nold, sizeof key, by_id) : NULL;
}

static esp_status write_file(const char *path, esp_str text)
{
	FILE *f = fopen(path, "we");
	esp_status st = f && fwrite(text.ptr ? text.ptr : "", 1, text.len, f) == text.len ? ESP_OK : disk_status(errno);

	if (f && fclose(f) != 0 && st == ESP_OK)
		st = disk_status(errno);
	return st;
}

static esp_status maildir_begin(struct export *x)
{
	static const char *const subs[] = { "tmp", "new", "cur" };
	char path[ARCHIVE_FILE + 32], *text = NULL;
	esp_buf out;
	size_t n = 0;
	esp_status st;

	esp_buf_init_fixed(&out, x->name, sizeof x->name);
	st = names_to_maildir(x->box.name, &out);
	if (st != ESP_OK || out.len > 255)
		return ESP_E2BIG;
	path_make(x->dir, "%s%s%.*s", x->target, out.len ? "/" : "", (int)out.len, x->name);
	for (int i = 0; st == ESP_OK && i < 3; i++) {
		snprintf(path, sizeof path, "%s/%s", x->dir, subs[i]);
		st = disk_make(path);
	}
	snprintf(path, sizeof path, "%s/maildirfolder", x->dir);
	if (st == ESP_OK && out.len)
		st = write_file(path, (esp_str){ "", 0 });
	snprintf(path, sizeof path, "%s/dovecot-keywords", x->dir);
	if (disk_read(path, 64 << 10, &text, &n) != ESP_OK)
		n = 0;
	letters_parse(&x->letters, (esp_str){ text, n });
	free(text);
	return st == ESP_OK ? read_old(x) : st;
}

/* LF, as programs that read Maildir want it, where that loses nothing. */
static esp_status put_content(FILE *f, esp_str c)
{
	if (!lines_are_crlf(c))
		return fwrite(c.ptr, 1, c.len, f) == c.len ? ESP_OK : disk_status(errno);
	while (c.len) {
		const char *lf = memchr(c.ptr, '\n', c.len);
		size_t n = lf ? (size_t)(lf - c.ptr) + 1 : c.len;
		(void)fwrite(c.ptr, 1, lf ? n - 2 : n, f);
		if (lf)
			(void)fputc('\n', f);
		c = (esp_str){ c.ptr + n, c.len - n };
	}
	return ferror(f) ? disk_status(errno) : ESP_OK;
}

static esp_status remember(struct export *x, const char *base, uint64_t bytes)
{
	esp_status st = grow(&x->done, x->ndone, &x->cap);

	if (st != ESP_OK)
		return st;
	x->done[x->ndone] = (struct done){ .uid = x->row.uid, .id = x->row.id, .bytes = bytes };
	snprintf(x->done[x->ndone++].base, BASE_NAME, "%s", base);
	return ESP_OK;
}

static esp_status write_message(struct export *x, const char *path, uint64_t *ret_bytes)
{
	FILE *f = fopen(path, "we");
	struct timespec times[2] = { { .tv_sec = x->row.internal_date }, { .tv_sec = x->row.internal_date } };
	esp_status st = f ? put_content(f, x->content) : disk_status(errno);

	if (f && fflush(f) != 0 && st == ESP_OK)
		st = disk_status(errno);
	if (f && st == ESP_OK) {
		*ret_bytes = (uint64_t)ftello(f);
		(void)futimens(fileno(f), times);
	}
	if (f && fclose(f) != 0 && st == ESP_OK)
		st = disk_status(errno);
	return st;
}

static esp_status maildir_put(struct export *x)
{
	char hex[ARCHIVE_HEX], base[BASE_NAME], from[ARCHIVE_FILE + 64], flags[40];
	uint64_t bytes = 0;
	esp_status st;

	hex_of(x->row.id.b, sizeof x->row.id.b, hex);
	marks_to_maildir(&x->marks, &x->letters, flags, &x->lost);
	snprintf(from, sizeof from, "%s/tmp/%s", x->dir, hex);
	st = write_message(x, from, &bytes);
	if (st != ESP_OK)
		return st;
	snprintf(base, sizeof base, "%lld.%s.%s,S=%llu", (long long)x->row.internal_date, hex, x->hostname,
	         (unsigned long long)bytes);
	snprintf(x->path, sizeof x->path, "%s/cur/%s:2,%s", x->dir, base, flags);
	if (rename(from, x->path) != 0)
		return disk_status(errno);
	x->written++;
	return remember(x, base, bytes);
}

static void uid_list(const struct export *x, FILE *f)
{
	fprintf(f, "3 V%u N%u\n", x->view->uidvalidity, x->view->uidnext);
	for (size_t i = 0; i < x->ndone; i++)
		fprintf(f, "%u :%s\n", x->done[i].uid, x->done[i].base);
}

static esp_status write_lists(struct export *x)
{
	char path[ARCHIVE_FILE + 32];
	esp_buf text;
	esp_status st;
	FILE *f;

	esp_buf_init(&text, 64 << 10);
	st = letters_write(&x->letters, &text);
	snprintf(path, sizeof path, "%s/dovecot-keywords", x->dir);
	if (st == ESP_OK && text.len)
		st = write_file(path, esp_buf_str(&text));
	esp_buf_free(&text);
	snprintf(path, sizeof path, "%s/dovecot-uidlist", x->dir);
	f = st == ESP_OK ? fopen(path, "we") : NULL;
	if (f)
		uid_list(x, f);
	if (f && (ferror(f) || fclose(f) != 0))
		st = disk_status(errno);
	return st;
}

/* Every message has a file of the size that its name says. */
static esp_status maildir_end(struct export *x)
{
	esp_status st = write_lists(x);

	if (st == ESP_OK)
		st = read_old(x);
	for (size_t i = 0; st == ESP_OK && i < x->ndone; i++) {
		const struct done *o = old_of(x, x->done[i].id);
		x->missing += !o || o->bytes != x->done[i].bytes;
	}
	return st;
}

static void maildir_drop(struct export *x) { (void)x; }

/* --- mbox: [lane]
 * ---------------------------------------------------------------------------------------------------- */

static void partial(const struct export *x, char out[ARCHIVE_FILE + 8])
{
	snprintf(out, ARCHIVE_FILE + 8, "%s.part", x->dir);
}

static esp_status mbox_begin(struct export *x)
{
	char path[ARCHIVE_FILE + 8], *slash;
	esp_buf out;
	esp_status st;

	esp_buf_init_fixed(&out, x->name, sizeof x->name);
	if (names_to_path(x->box.name, &out) != ESP_OK || out.len > 600)
		return ESP_E2BIG;
	path_make(x->dir, "%s/%.*s.mbox", x->target, (int)out.len, x->name);
	partial(x, path);
	slash = strrchr(path, '/');
	*slash = '\0';
	st = disk_make(path);
	*slash = '/';
	if (st == ESP_OK && !(x->f = fopen(path, "we")))
		st = disk_status(errno);
	return st;
}

static esp_status mbox_put(struct export *x)
{
	esp_status st = mbox_write(x->f, &x->marks, x->row.internal_date, x->content);

	x->written++;
	return st == ESP_OK ? remember(x, "", 0) : disk_status(errno);
}

/* As many messages are read back as were written; then the file gets its name. */
static esp_status mbox_check(struct export *x, const char *path)
{
	struct mbox m;
	uint64_t n = 0;
	esp_status st = x->ndone ? mbox_open(&m, path) : ESP_OK;

	if (x->ndone == 0)
		return ESP_OK;
	while (st == ESP_OK && (st = mbox_next(&m, &x->found)) != ESP_ENOENT) {
		incoming_free(&x->found);
		if (st == ESP_E2BIG)
			st = ESP_OK;
		n++;
	}
	mbox_close(&m);
	if (st == ESP_ENOENT)
		st = ESP_OK;
	if (st == ESP_OK && n != x->ndone)
		x->missing += n < x->ndone ? x->ndone - n : n - x->ndone;
	return st;
}

static esp_status mbox_end(struct export *x)
{
	char path[ARCHIVE_FILE + 8];
	esp_status st = ESP_OK;

	partial(x, path);
	if (fflush(x->f) != 0 || fsync(fileno(x->f)) != 0)   /* fiber-ok: on a lane */
		st = disk_status(errno);
	if (fclose(x->f) != 0 && st == ESP_OK)
		st = disk_status(errno);
	x->f = NULL;
	if (st == ESP_OK)
		st = mbox_check(x, path);
	if (st == ESP_OK && rename(path, x->dir) != 0)
		st = disk_status(errno);
	return st;
}

static void mbox_drop(struct export *x)
{
	if (x->f)
		(void)fclose(x->f);
	x->f = NULL;
}

static const struct writer maildir_writer = { maildir_begin, maildir_put, maildir_end, maildir_drop };
static const struct writer mbox_writer = { mbox_begin, mbox_put, mbox_end, mbox_drop };

static int32_t on_open(void *arg) { return ((struct export *)arg)->writer->open(arg); }
static int32_t on_put(void *arg) { return ((struct export *)arg)->writer->put(arg); }
static int32_t on_close(void *arg) { return ((struct export *)arg)->writer->close(arg); }
static int32_t on_drop(void *arg)
{
	((struct export *)arg)->writer->drop(arg);
	return ESP_OK;
}

/* --- reading the account
 * ----------------------------------------------------------------------------------------------- */

static void take_marks(struct export *x)
{
	int64_t at = esp_view_index(x->view, x->row.uid);
	uint32_t place;
	const esp_view_chunk *c = at < 0 ? NULL : esp_view_at(x->view, (uint32_t)at, &place);
	uint64_t flags = c ? c->flags[place] : 0;

	marks_clear(&x->marks);
	x->marks.flags = flags & 0xffff;
	for (uint32_t i = 0; x->view->keywords && i < x->view->keywords->count; i++)
		if (flags & ESP_FLAG_KEYWORD(i))
			marks_add(&x->marks, x->view->keywords->name[i]);
}

static esp_status export_message(struct export *x, const esp_message_row *row)
{
	const esp_blob *blob = archive_blob(x->t->a);
	esp_blob_file file = { .size = sizeof file };
	const struct done *old = old_of(x, row->id);
	esp_status st;

	x->row = *row;
	x->messages++;
	task_did(x->t, 1);
	if (old)
		return remember(x, old->base, old->bytes);
	st = blob ? blob->open(blob, row->id, &file) : ESP_EUNAVAIL;
	if (st == ESP_ENOENT || st == ESP_ECORRUPT) {
		x->missing++;
		return ESP_OK;
	}
	if (st != ESP_OK)
		return st;
	take_marks(x);
	x->content = file.content;
	st = task_lane(x->t, on_put, x);
	blob->close_file(blob, &file);
	return st;
}

static esp_status export_rows(struct export *x)
{
	const struct archive *a = x->t->a;
	esp_arena *arena = a->core.mem->arena_new(a->self, "export", 0);
	uint32_t next = 1, n = 0;
	esp_status st = arena ? ESP_OK : ESP_ENOMEM;

	while (st == ESP_OK && next) {
		const esp_mailstore *store = archive_store(a);
		const esp_message_row *rows = NULL;
		esp_uid_range all = { next, UINT32_MAX };
		st = store ? store->fetch(store, arena, &x->actor, x->box.id, (esp_uid_set){ &all, 1 },
		                          ESP_FETCH_SIZE | ESP_FETCH_DATE, &rows, &n, &next) : ESP_EUNAVAIL;
		for (uint32_t i = 0; st == ESP_OK && i < n; i++)
			if ((st = task_breathe(x->t)) == ESP_OK)
				st = export_message(x, &rows[i]);
		a->core.mem->arena_reset(arena);
	}
	if (arena)
		a->core.mem->arena_free(arena);
	return st;
}

static esp_status export_folder(struct export *x, const esp_mailbox *box)
{
	const esp_mailstore *store = archive_store(x->t->a);
	esp_status st;

	x->box = *box;
	x->ndone = 0;
	st = store ? store->sync(store, &x->actor, box->id, &x->view) : ESP_EUNAVAIL;
	if (st != ESP_OK)
		return st;
	st = task_lane(x->t, on_open, x);
	if (st == ESP_OK)
		st = export_rows(x);
	if (st == ESP_OK)
		st = task_breathe(x->t);
	if (st == ESP_OK)
		st = task_lane(x->t, on_close, x);
	x->t->a->core.fiber->shield(1);
	(void)!task_lane(x->t, on_drop, x);
	x->t->a->core.fiber->shield(0);
	x->t->a->core.mem->rc_unref((void *)(uintptr_t)x->view);
	x->view = NULL;
	x->folders += st == ESP_OK;
	if (st != ESP_OK)
		return task_fail(x->t, st, "cannot export the folder %.*s: %s", ESP_FMT(box->name), disk_why(st));
	return ESP_OK;
}

static int is_wanted(const struct export *x, const esp_mailbox *box)
{
	esp_str only = task_option(x->t, "--folder=");

	if (box->attributes & (ESP_BOX_NOSELECT | ESP_BOX_NONEXISTENT))
		return 0;
	return !only.len || esp_str_eq(only, box->name);
}

struct names_job { struct export *x; const esp_mailbox *box; uint32_t n; };

/* Dovecot's list of subscriptions. */
static int32_t write_subscriptions(void *arg)
{
	struct names_job *j = arg;
	char path[ARCHIVE_FILE];
	esp_buf out;
	esp_status st = ESP_OK;

	esp_buf_init(&out, 4 << 20);
	for (uint32_t i = 0; i < j->n; i++) {
		size_t from = out.len;
		if (!(j->box[i].attributes & ESP_BOX_SUBSCRIBED))
			continue;
		if (esp_str_eq(j->box[i].name, ESP_STR("INBOX")))
			(void)esp_buf_add_z(&out, ".INBOX");
		else if (names_to_maildir(j->box[i].name, &out) != ESP_OK)
			continue;
		if (!out.err)
			memmove(out.data + from, out.data + from + 1, --out.len - from);   /* without the dot */
		(void)esp_buf_add_char(&out, '\n');
	}
	path_make(path, "%s/subscriptions", j->x->target);
	if (out.err || access(path, F_OK) == 0 || out.len == 0)
		st = ESP_OK;
	else
		st = write_file(path, esp_buf_str(&out));
	esp_buf_free(&out);
	return st;
}

static esp_status tell(struct export *x)
{
	task_fact(x->t, "folders", (int64_t)x->folders);
	task_fact(x->t, "messages", (int64_t)x->messages);
	task_fact(x->t, "written", (int64_t)x->written);
	task_fact(x->t, "keywords_lost", (int64_t)x->lost);
	if (x->missing)
		return task_fail(x->t, ESP_ECORRUPT,
			"%llu messages are missing in %s: their files could not be read or written", (unsigned long long)x->missing,
			x->target);
	return ESP_OK;
}

static esp_status export_all(struct export *x)
{
	const esp_mailbox *boxes = NULL;
	uint32_t n = 0;
	uint64_t total = 0;
	esp_status st = place_account(x->t, task_word(x->t, 0), &x->actor);
	const esp_mailstore *store = archive_store(x->t->a);

	if (st == ESP_OK)
		st = store ? store->list(store, x->t->arena, &x->actor, &boxes, &n) : ESP_EUNAVAIL;
	for (uint32_t i = 0; st == ESP_OK && i < n; i++)
		total += is_wanted(x, &boxes[i]) ? boxes[i].messages : 0;
	task_step(x->t, "exporting", "messages", total);
	for (uint32_t i = 0; st == ESP_OK && i < n; i++)
		if (is_wanted(x, &boxes[i]))
			st = export_folder(x, &boxes[i]);
	if (st == ESP_OK && x->folders == 0)
		return task_fail(x->t, ESP_ENOENT, "there is no such folder");
	if (st == ESP_OK && x->writer == &maildir_writer)
		st = task_lane(x->t, write_subscriptions, &(struct names_job){ x, boxes, n });
	return st == ESP_OK
			   ? tell(x)
			   : task_fail(x->t, st, "the export was not finished: %s; the same command goes on with it", disk_why(st));
}

static esp_status run(struct task *t, const struct writer *writer)
{
	static const char *const options[] = { "--folder=", NULL };
	struct export *x = calloc(1, sizeof *x);
	esp_status st = x ? task_expect(t, 2, options) : ESP_ENOMEM;

	if (st == ESP_OK) {
		esp_str host = t->a->core.host->hostname();
		x->t = t;
		x->writer = writer;
		snprintf(x->hostname, sizeof x->hostname, "%.*s", ESP_FMT(host));
		st = task_path(t, 1, "export", x->target);
	}
	if (st == ESP_OK)
		st = export_all(x);
	if (x) {
		free(x->done);
		free(x->old);
	}
	free(x);
	return st;
}

esp_status export_maildir_run(struct task *t) { return run(t, &maildir_writer); }
esp_status export_mbox_run(struct task *t) { return run(t, &mbox_writer); }
