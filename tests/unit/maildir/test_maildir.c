/* The journal, the message files and the Maildir++ folders.  The journal's lane is this thread: batches are handed to
 * it as the lane would get them, and a crash is a copy of the files taken at that moment, opened by a new journal. */
#include "tests/support/test.h"

#include "core/base/arena.h"
#include "core/base/id.h"
#include "core/module/host.h"

/* Failures on demand, for journal.c below. */
static int fail_sync, fail_syncfs, fail_fsync, fail_read;
static int test_fdatasync(int fd);
static int test_syncfs(int fd);
static ssize_t test_pread(int fd, void *buf, size_t n, off_t at);
#define fdatasync test_fdatasync
#define syncfs test_syncfs
#define pread test_pread
#include "modules/storage/maildir/journal.c"
#undef fdatasync
#undef syncfs
#undef pread

#include <dirent.h>
#include <pthread.h>
#include <sys/file.h>
#include <sys/syscall.h>

static int test_fdatasync(int fd)
{
	if (fail_sync > 0 && --fail_sync == 0) {
		errno = EIO;
		return -1;
	}
	return fdatasync(fd);
}

static void lose_blobs(const char *sub);
/* Once, as Linux tells it: the files of "m" could not be written back; the next one finds nothing to write. */
static int test_syncfs(int fd)
{
	(void)fd;
	if (fail_syncfs == 0 || --fail_syncfs > 0)
		return 0;
	lose_blobs("m");
	errno = EIO;
	return -1;
}

static ssize_t test_pread(int fd, void *buf, size_t n, off_t at)
{
	if (fail_read > 0 && --fail_read == 0) {
		errno = EIO;
		return -1;
	}
	return pread(fd, buf, n, at);
}

/* file.c's, of files and directories.  -1: each fails. */
int fsync(int fd)
{
	if (fail_fsync == 0 || (fail_fsync > 0 && --fail_fsync > 0))
		return (int)syscall(SYS_fsync, fd);
	errno = EIO;
	return -1;
}

static void no_wake(esp_ticket t) { (void)t; }
static void count(esp_metric m, int64_t n) { (void)m; (void)n; }
static void observe(esp_metric m, double value) { (void)m; (void)value; }
static esp_lane *lane_open(esp_module *self, const char *name, uint32_t width, uint32_t queue)
{
	(void)self; (void)name; (void)width; (void)queue;
	return (esp_lane *)(uintptr_t)1;
}
static int submitted;
static esp_status submit(esp_module *self, esp_lane *l, void (*fn)(void *arg), void *arg)
{
	(void)self; (void)l;
	submitted++;
	fn(arg);
	return ESP_OK;
}
static int32_t log_off(const esp_module *self, int32_t level)
{
	(void)self; (void)level;
	return 0;
}
static const esp_fiber_api fiber_api = { .size = sizeof fiber_api, .wake = no_wake };
static const esp_metric_api metric_api = { .size = sizeof metric_api, .add = count, .observe = observe };
static const esp_pool_api pool_api = { .size = sizeof pool_api, .open = lane_open, .submit = submit };
static esp_nsec now(void) { return ESP_SEC; }
static const esp_loop_api loop_api = { .size = sizeof loop_api, .clock = now };
static const esp_log_api log_api = { .size = sizeof log_api, .enabled = log_off };

static char dir[64];
static esp_err err;

static void set_up(void)
{
	err = (esp_err)ESP_ERR_INIT;
	/* in memory: a disk's syncs would make the many crashes slow */
	snprintf(dir, sizeof dir, "%s/esp-maildir-XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
	cr_assert_not_null(mkdtemp(dir));
}
static void shell(const char *what, const char *a, const char *b)
{
	char cmd[512];

	snprintf(cmd, sizeof cmd, "%s %s %s", what, a, b);
	cr_assert_eq(system(cmd), 0, "%s", cmd);
}
static void tear_down(void) { shell("rm -rf", dir, ""); }

static esp_str z(const char *s) { return (esp_str){ s, strlen(s) }; }

static struct maildir *maildir_at(const char *sub)
{
	static char path[8][96];
	static int n;
	struct maildir *m = calloc(1, sizeof *m);
	char *p = path[n++ % 8];

	snprintf(p, sizeof path[0], "%s/%s", dir, sub);
	m->core = (esp_core){ .fiber = &fiber_api, .pool = &pool_api, .log = &log_api, .loop = &loop_api };
	m->metric = &metric_api;
	m->hostname = z("mx.example.test");
	m->path = p;
	m->journal_bytes = 1 << 20;
	m->journal_limit = 256 << 10;
	cr_assert_eq(file_prepare(m, &err), ESP_OK, "%s", err.text);
	return m;
}
static struct maildir *journal_at(const char *sub)
{
	struct maildir *m = maildir_at(sub);

	cr_assert_eq(journal_open(m, &err), ESP_OK, "%s", err.text);
	cr_assert_eq(place_start(m), ESP_OK);
	cr_assert_eq(journal_start(m), ESP_OK);
	return m;
}
static void gone(struct maildir *m)
{
	if (m->journal)
		journal_close(m);
	close(m->tmp);
	close(m->blobs);
	close(m->root);
	free(m);
}
/* The server dies: descriptors close, nothing else happens. */
static void crash(struct maildir *m)
{
	for (int i = 0; i < 2; i++)
		close(m->journal->segment[i].fd);
	close(m->journal->lock);
	free(m->journal);
	m->journal = NULL;
	gone(m);
}

#define JOBS 40
static struct journal_job jobs[JOBS];
static struct place_job files[JOBS];
static struct batch_wait waits[JOBS];
static esp_status told[JOBS];
static char text[JOBS][9000];

/* The jobs of the first n messages through both lanes; what each message was told. */
static void run(struct maildir *m, int n)
{
	for (int i = 0; i < n; i++) {
		struct iovec *iov = files[i].iov;

		files[i].id = jobs[i].id;
		iov[0] = (struct iovec){ (void *)(uintptr_t)jobs[i].prefix.ptr, jobs[i].prefix.len };
		iov[1] = (struct iovec){ (void *)(uintptr_t)jobs[i].content.ptr, jobs[i].content.len };
		atomic_init(&waits[i].left, 2);
		jobs[i].number = atomic_fetch_add(&m->asked, 1);
		jobs[i].batch = (struct batch_job){ .next = i + 1 < n ? &jobs[i + 1].batch : NULL, .wait = &waits[i] };
		files[i].batch = (struct batch_job){ .next = i + 1 < n ? &files[i + 1].batch : NULL, .wait = &waits[i] };
	}
	m->place.run(m->place.arg, &files[0].batch);
	m->journal->batch.run(m->journal->batch.arg, &jobs[0].batch);
	for (int i = 0; i < n; i++) {
		cr_assert_eq(atomic_load(&waits[i].left), 0);
		told[i] = outcome(m, &jobs[i], &files[i]);
	}
}

/* Commit n messages as one batch. */
static void commit(struct maildir *m, int n, int size)
{
	for (int i = 0; i < n; i++) {
		memset(text[i], 'a' + i % 26, sizeof text[i]);
		jobs[i] = (struct journal_job){
			.id = id_new(), .prefix = z("Return-Path: <>\r\n"), .content = { text[i], (size_t)(size + i) }
		};
	}
	run(m, n);
}
static char *blob_path(struct maildir *m, esp_id id)
{
	static char p[256];
	char name[40];

	file_name(id, name);
	snprintf(p, sizeof p, "%s/.blobs/%s", m->path, name);
	return p;
}
static int is_whole(struct maildir *m, const struct journal_job *j)
{
	static char got[1 << 20];
	FILE *f = fopen(blob_path(m, j->id), "rb");
	size_t n = f ? fread(got, 1, sizeof got, f) : 0;

	if (f)
		fclose(f);
	return f && n == j->prefix.len + j->content.len && !memcmp(got, j->prefix.ptr, j->prefix.len) &&
	       !memcmp(got + j->prefix.len, j->content.ptr, j->content.len);
}
static int blobs_in(struct maildir *m)
{
	char cmd[256];
	FILE *f;
	int n = -1;

	snprintf(cmd, sizeof cmd, "find %s/.blobs -type f | wc -l", m->path);
	f = popen(cmd, "r");
	cr_assert(f && fscanf(f, "%d", &n) == 1);
	pclose(f);
	return n;
}
/* Everything a power failure loses: the files' content, not the journal's. */
static void lose_blobs(const char *sub)
{
	char cmd[256];

	snprintf(cmd, sizeof cmd, "find %s/%s/.blobs -type f -exec truncate -s 3 {} +", dir, sub);
	cr_assert_eq(system(cmd), 0);
}

Test(journal, what_was_acknowledged_is_whole_after_a_crash_that_lost_the_files, .init = set_up, .fini = tear_down)
{
	struct maildir *m = journal_at("m");
	struct stat before, after;

	commit(m, JOBS, 500);
	for (int i = 0; i < JOBS; i++)
		cr_assert_eq(told[i], ESP_OK);
	stat(blob_path(m, jobs[3].id), &before);
	crash(m);
	lose_blobs("m");
	m = journal_at("m");
	for (int i = 0; i < JOBS; i++)
		cr_assert(is_whole(m, &jobs[i]), "message %d", i);
	stat(blob_path(m, jobs[3].id), &after);
	cr_assert_eq(before.st_ino, after.st_ino, "links in folders must see the restored bytes");
	gone(m);
}

Test(journal, an_orderly_stop_leaves_nothing_to_replay, .init = set_up, .fini = tear_down)
{
	struct maildir *m = journal_at("m");

	commit(m, 3, 500);
	gone(m);
	m = maildir_at("m");
	unlink(blob_path(m, jobs[1].id));          /* removed later on: must not come back */
	cr_assert_eq(journal_open(m, &err), ESP_OK);
	cr_assert_eq(blobs_in(m), 2);
	gone(m);
}

Test(journal, segments_take_turns_and_are_replayed_both, .init = set_up, .fini = tear_down)
{
	struct maildir *m = journal_at("m");
	static struct journal_job all[300];
	int n = 0;

	submitted = 0;
	for (int round = 0; round < 20; round++) {
		commit(m, 10, 8000);
		for (int i = 0; i < 10; i++)
			all[n++] = jobs[i];
	}
	cr_assert_geq(submitted, 1, "a full segment is checkpointed");
	crash(m);
	m = journal_at("m");
	for (int i = 0; i < n; i++)                /* texts are the same for the same place in a batch */
		cr_assert(is_whole(m, &all[i]), "message %d", i);
	gone(m);
}

/* Commit messages of 8000 bytes until so many segments were handed to the checkpoint. */
static struct journal_job sent[1000];
static int n_sent;
static void commit_until(struct maildir *m, int checkpoints)
{
	while (submitted < checkpoints) {
		commit(m, 10, 8000);
		for (int i = 0; i < 10; i++) {
			cr_assert_eq(told[i], ESP_OK);
			sent[n_sent++] = jobs[i];
		}
	}
}
static void all_whole(struct maildir *m)
{
	for (int i = 0; i < n_sent; i++)
		cr_assert(is_whole(m, &sent[i]), "message %d", i);
}

Test(journal, what_a_failed_checkpoint_lost_is_written_anew, .init = set_up, .fini = tear_down)
{
	struct maildir *m = journal_at("m");

	fail_syncfs = 1;
	commit_until(m, 1);
	cr_assert_eq(fail_syncfs, 0);
	cr_assert_eq(m->journal->segment[0].state, SEGMENT_CLEAN, "its files are synced one by one");
	commit_until(m, 3);                        /* the segment in use had lost files too; both are overwritten */
	all_whole(m);
	gone(m);
}

Test(journal, a_stop_after_a_failed_checkpoint_trusts_no_other, .init = set_up, .fini = tear_down)
{
	struct maildir *m = journal_at("m");

	fail_syncfs = 1;
	commit_until(m, 1);
	commit(m, 10, 8000);
	gone(m);
	m = journal_at("m");
	all_whole(m);
	commit(m, 10, 8000);
	fail_syncfs = 1;                           /* the checkpoint of the stop itself */
	gone(m);
	m = journal_at("m");
	for (int i = 0; i < 10; i++)
		cr_assert(is_whole(m, &jobs[i]), "message %d", i);
	gone(m);
}

/* Its file was made before the failed sync, its entry comes into a segment that is begun after it. */
Test(journal, a_message_on_its_way_during_a_failed_checkpoint_is_not_lost, .init = set_up, .fini = tear_down)
{
	struct maildir *m = journal_at("m");
	struct batch_wait wait;
	struct place_job file = { .id = id_new(), .batch.wait = &wait,
		.iov = { { (void *)(uintptr_t)"late", 4 }, { (void *)(uintptr_t)" message", 8 } } };
	struct journal_job late = { .id = file.id, .prefix = z("late"), .content = z(" message"), .batch.wait = &wait };

	atomic_init(&wait.left, 2);
	commit(m, 1, 500);
	late.number = atomic_fetch_add(&m->asked, 1);
	m->place.run(m->place.arg, &file.batch);
	fail_syncfs = 1;
	commit_until(m, 2);
	m->journal->batch.run(m->journal->batch.arg, &late.batch);
	cr_assert_eq(outcome(m, &late, &file), ESP_OK);
	commit_until(m, 4);
	gone(m);
	cr_assert_eq(fail_syncfs, 0);
	m = journal_at("m");
	cr_assert(is_whole(m, &late));
	all_whole(m);
	gone(m);
}

Test(journal, a_volume_that_syncs_no_more_refuses_mail_and_loses_none, .init = set_up, .fini = tear_down)
{
	struct maildir *m = journal_at("m");
	int had;

	fail_syncfs = 1;
	fail_fsync = -1;
	commit_until(m, 1);
	cr_assert_eq(m->journal->segment[0].state, SEGMENT_FAILED);
	do {
		had = blobs_in(m);
		commit(m, 10, 8000);
		for (int i = 0; told[0] == ESP_OK && i < 10; i++)
			sent[n_sent++] = jobs[i];
	} while (told[0] == ESP_OK);
	cr_assert_eq(told[9], ESP_EIO);
	cr_assert_eq(blobs_in(m), had);
	journal_close(m);                          /* stopped like that: nothing is called clean */
	lose_blobs("m");
	gone(m);
	m = maildir_at("m");
	cr_assert_neq(journal_open(m, &err), ESP_OK, "nor at the next start");
	fail_fsync = 0;
	gone(m);
	m = journal_at("m");
	all_whole(m);
	gone(m);
}

Test(journal, mail_goes_on_when_the_volume_syncs_again, .init = set_up, .fini = tear_down)
{
	struct maildir *m = journal_at("m");

	fail_syncfs = 1;
	fail_fsync = -1;
	commit_until(m, 1);
	fail_fsync = 1;                            /* each file may tell of its lost writeback once */
	commit_until(m, 3);
	all_whole(m);
	gone(m);
}

Test(journal, a_journal_that_cannot_be_read_is_not_called_clean, .init = set_up, .fini = tear_down)
{
	struct maildir *m = journal_at("m");

	fail_syncfs = 1;
	fail_read = 2;
	commit_until(m, 1);
	cr_assert_eq(m->journal->segment[0].state, SEGMENT_FAILED);
	commit_until(m, 3);
	all_whole(m);
	gone(m);
}

Test(journal, a_failed_sync_fails_the_whole_batch_and_leaves_nothing, .init = set_up, .fini = tear_down)
{
	struct maildir *m = journal_at("m");

	commit(m, 5, 500);
	fail_sync = 1;
	commit(m, JOBS, 500);
	for (int i = 0; i < JOBS; i++)
		cr_assert_eq(told[i], ESP_EIO);
	cr_assert_eq(blobs_in(m), 5);
	cr_assert_eq(m->journal->segment[m->journal->now].sealed, 1, "it is never synced again");
	commit(m, 2, 500);
	cr_assert_eq(told[0], ESP_OK, "the other segment goes on");
	cr_assert_eq(blobs_in(m), 7);
	gone(m);
}

Test(journal, a_file_in_the_way_fails_its_message_and_stays, .init = set_up, .fini = tear_down)
{
	struct maildir *m = journal_at("m");

	commit(m, 1, 500);
	struct journal_job first = jobs[0];
	commit(m, 2, 700);
	jobs[0] = first;
	run(m, 2);
	cr_assert_eq(told[0], ESP_EEXIST);
	cr_assert(is_whole(m, &first));
	cr_assert_eq(blobs_in(m), 3);
	gone(m);
}

/* The segment is cut short or one byte of it changes, at many places: every message before the damage is whole, the
 * start succeeds, and no message appears that was not committed. */
Test(journal, damage_costs_nothing_before_it_and_invents_nothing, .init = set_up, .fini = tear_down)
{
	struct maildir *m = journal_at("m");
	char file[128], from[96], to[96];
	uint64_t end;

	commit(m, 4, 300);
	struct journal_job first = jobs[0];
	commit(m, 8, 700);
	end = m->journal->segment[0].at;
	crash(m);
	snprintf(from, sizeof from, "%s/m", dir);
	snprintf(to, sizeof to, "%s/x", dir);
	for (uint64_t at = 1; at < end; at += 499) {
		char c;
		int fd;

		shell("rm -rf", to, "");
		shell("cp -a", from, to);
		lose_blobs("x");
		snprintf(file, sizeof file, "%s/.journal/0", to);
		fd = open(file, O_RDWR);
		cr_assert(pread(fd, &c, 1, (off_t)at) == 1);
		c ^= 0x40;
		cr_assert(at / 499 & 1 ? ftruncate(fd, (off_t)at) == 0 : pwrite(fd, &c, 1, (off_t)at) == 1);
		close(fd);
		m = journal_at("x");
		cr_assert_eq(blobs_in(m), 12, "damage at %llu", (unsigned long long)at);
		cr_assert(at < HEADER + 400 || is_whole(m, &first), "damage at %llu", (unsigned long long)at);
		gone(m);
	}
}

Test(journal, what_a_larger_limit_wrote_is_replayed_under_a_smaller_one, .init = set_up, .fini = tear_down)
{
	struct maildir *m = journal_at("m");

	commit(m, 3, 8000);
	crash(m);
	lose_blobs("m");
	m = maildir_at("m");
	m->journal_limit = 4096;
	m->journal_bytes = 512 << 10;
	cr_assert_eq(journal_open(m, &err), ESP_OK);
	for (int i = 0; i < 3; i++)
		cr_assert(is_whole(m, &jobs[i]));
	gone(m);
}

Test(journal, a_second_process_has_a_slot_of_its_own_and_its_crash_is_mended_by_the_next, .init = set_up,
	.fini = tear_down)
{
	struct maildir *m = journal_at("m"), *second = journal_at("m");
	struct journal_job first;

	commit(m, 1, 500);
	first = jobs[0];
	commit(second, 3, 700);
	cr_assert_eq(jobs[2].batch.status, ESP_OK);
	crash(second);
	gone(m);
	lose_blobs("m");
	m = journal_at("m");
	for (int i = 0; i < 3; i++)
		cr_assert(is_whole(m, &jobs[i]), "message %d", i);
	cr_assert_not(is_whole(m, &first), "checkpointed: not in the journal any more");
	gone(m);
}

/* --- names ---------------------------------------------------------------------------------------------------- */

static const char *folder_of(const char *account, const char *folder)
{
	static char out[MAILDIR_PATH];
	esp_status st = name_folder(z(account), z(folder), out);

	return st == ESP_OK ? out : st == ESP_E2BIG ? "too big" : "invalid";
}

Test(name, folders_are_maildir_plus_plus)
{
	cr_assert_str_eq(folder_of("user@example.test", "INBOX"), "example.test/user");
	cr_assert_str_eq(folder_of("user@example.test", "Sent/2026"), "example.test/user/.Sent.2026");
	cr_assert_str_eq(folder_of("user@example.test", "a.b"), "example.test/user/.a&AC4-b");
	cr_assert_str_eq(folder_of("user@example.test", "Tom & Jerry"), "example.test/user/.Tom &- Jerry");
	cr_assert_str_eq(folder_of("user@example.test", "\xc3\x84rger"), "example.test/user/.&AMQ-rger");
	cr_assert_str_eq(folder_of("user@example.test", "\xf0\x9f\x98\x80"), "example.test/user/.&2D3eAA-");
}

Test(name, nothing_leaves_the_root)
{
	static const char *const accounts[] = { "..@example.test", "../../etc@example.test", "a@..", "a@../..", ".@.",
		"a/b@c/d", "%2e%2e@x", "\x01@\x02", "a@.hidden", ".blobs@x", "x@.blobs", "x@.journal" };
	static const char *const folders[] = { "INBOX", "..", "../..", "a/../../b", "/", "//", "./.", "~root", "\x01\x7f",
		"cur", "a\nb" };

	for (size_t i = 0; i < sizeof accounts / sizeof accounts[0]; i++)
		for (size_t k = 0; k < sizeof folders / sizeof folders[0]; k++) {
			const char *p = folder_of(accounts[i], folders[k]);
			cr_assert(p[0] != '/' && p[0] != '.', "%s %s: %s", accounts[i], folders[k], p);
			cr_assert(
				!strstr(p, "/../") && !strstr(p, "/./") && !strstr(p, "//"), "%s %s: %s", accounts[i], folders[k], p);
			for (const char *c = p; *c; c++)
				cr_assert((unsigned char)*c >= 0x20 && *c != 0x7f, "%s %s: %s", accounts[i], folders[k], p);
			cr_assert(strlen(p) < 3 || strcmp(p + strlen(p) - 3, "/..") != 0, "%s %s: %s", accounts[i], folders[k], p);
		}
}

Test(name, what_is_too_long_is_refused)
{
	char folder[1000];

	memset(folder, 'x', sizeof folder);
	folder[999] = '\0';
	cr_assert_str_eq(folder_of("user@example.test", folder), "too big");
	folder[255] = '\0';                       /* with its dot one byte longer than a directory's name may be */
	cr_assert_str_eq(folder_of("user@example.test", folder), "too big");
	folder[254] = '\0';
	cr_assert_eq(strlen(folder_of("user@example.test", folder)), strlen("example.test/user/.") + 254);
	cr_assert_str_eq(folder_of("user", "INBOX"), "invalid");
	cr_assert_str_eq(folder_of("@example.test", "INBOX"), "invalid");
	cr_assert_str_eq(folder_of("user@", "INBOX"), "invalid");
	cr_assert_str_eq(folder_of("user@example.test", "/"), "invalid");
	cr_assert_str_eq(folder_of("user@example.test", "a//b"), "invalid");
	cr_assert_str_eq(folder_of("user@example.test", ""), "invalid");
}

/* --- folders -------------------------------------------------------------------------------------------------- */

static const char *listing(struct maildir *m, const char *sub)
{
	static char out[2048];
	char path[256];
	struct dirent *e;
	int n = 0;
	DIR *d;

	snprintf(path, sizeof path, "%s/%s/cur", m->path, sub);
	d = opendir(path);
	if (!d)
		return "none";
	out[0] = '\0';
	while ((e = readdir(d)) != NULL)
		if (e->d_name[0] != '.') {
			const char *u = strstr(e->d_name, ",U=");
			n += snprintf(out + n, sizeof out - (size_t)n, "%s%s", n ? " " : "", u ? u + 1 : e->d_name);
		}
	closedir(d);
	return out;
}
static esp_id blob(struct maildir *m)
{
	struct iovec iov = { (void *)(uintptr_t)"hello\r\n", 7 };
	esp_id id = id_new();

	cr_assert_eq(file_write(m, id, &iov, 1), ESP_OK);
	return id;
}
static esp_status job(
	struct maildir *m, uint32_t kind, const char *folder, esp_id id, uint32_t uid, uint32_t flags, const char *to)
{
	esp_blob_job j = { .size = sizeof j,
		.kind = kind,
		.account = z("u@example.test"),
		.folder = z(folder),
		.id = id,
		.uid = uid,
		.flags = flags,
		.to = z(to) };

	return link_job(m, &j);
}
#define A "example.test/u"

Test(link, a_flag_change_leaves_one_file, .init = set_up, .fini = tear_down)
{
	struct maildir *m = maildir_at("m");
	esp_id id = blob(m);

	cr_assert_eq(job(m, ESP_BLOB_LINK, "INBOX", id, 7, 0, ""), ESP_OK);
	cr_assert_str_eq(listing(m, A), "U=7:2,");
	for (uint32_t flags = 0; flags < 32; flags++)
		for (int again = 0; again < 2; again++) {
			cr_assert_eq(job(m, ESP_BLOB_FLAGS, "INBOX", id, 7, flags, ""), ESP_OK);
			cr_assert_null(strchr(listing(m, A), ' '), "%s", listing(m, A));
		}
	cr_assert_str_eq(listing(m, A), "U=7:2,DFRST");
	cr_assert_eq(job(m, ESP_BLOB_UNLINK, "INBOX", id, 7, 0, ""), ESP_OK);
	cr_assert_str_eq(listing(m, A), "");
	gone(m);
}

Test(link, jobs_done_again_after_a_crash_change_nothing, .init = set_up, .fini = tear_down)
{
	struct maildir *m = maildir_at("m");
	esp_id id = blob(m), two = blob(m);

	for (int again = 0; again < 3; again++) {
		cr_assert_eq(job(m, ESP_BLOB_MKFOLDER, "Work", id, 0, 0, ""), ESP_OK);
		cr_assert_eq(job(m, ESP_BLOB_LINK, "INBOX", id, 1, 0, ""), ESP_OK);
		cr_assert_eq(job(m, ESP_BLOB_LINK, "INBOX", two, 2, 0, ""), ESP_OK);
		cr_assert_eq(job(m, ESP_BLOB_FLAGS, "INBOX", id, 1, 1, ""), ESP_OK);
		cr_assert_eq(job(m, ESP_BLOB_FLAGS, "INBOX", id, 1, 5, ""), ESP_OK);
		cr_assert_eq(job(m, ESP_BLOB_LINK, "Work", id, 1, 5, ""), ESP_OK);
		cr_assert_eq(job(m, ESP_BLOB_UNLINK, "INBOX", two, 2, 0, ""), ESP_OK);
		cr_assert_str_eq(listing(m, A), "U=1:2,FS");
		cr_assert_str_eq(listing(m, A "/.Work"), "U=1:2,FS");
	}
	gone(m);
}

Test(link, a_folder_moves_once_however_often, .init = set_up, .fini = tear_down)
{
	struct maildir *m = maildir_at("m");
	esp_id id = blob(m), two = blob(m);

	cr_assert_eq(job(m, ESP_BLOB_LINK, "Old", two, 2, 1, ""), ESP_OK);
	for (int again = 0; again < 3; again++) {
		cr_assert_eq(job(m, ESP_BLOB_LINK, "Old", id, 1, 0, ""), ESP_OK);
		cr_assert_eq(job(m, ESP_BLOB_MVFOLDER, "Old", id, 0, 0, "New/Deep"), ESP_OK);
		cr_assert_str_eq(listing(m, A "/.Old"), "none");
		cr_assert(!strcmp(listing(m, A "/.New.Deep"), "U=1:2, U=2:2,S") ||
					  !strcmp(listing(m, A "/.New.Deep"), "U=2:2,S U=1:2,"),
			"%s", listing(m, A "/.New.Deep"));
	}
	gone(m);
}

Test(link, other_hands_may_rename_files, .init = set_up, .fini = tear_down)
{
	struct maildir *m = maildir_at("m");
	esp_id id = blob(m);
	char a[MAILDIR_PATH], hex[MAILDIR_HEX];

	cr_assert_eq(job(m, ESP_BLOB_LINK, "INBOX", id, 7, 0, ""), ESP_OK);
	file_hex(id, hex);
	cr_assert_eq(name_message(id, 7, 7, 0, m->hostname, a), ESP_OK);
	char from[700], to[700];
	snprintf(from, sizeof from, "%s/" A "/cur/%s", m->path, a);
	snprintf(to, sizeof to, "%s/" A "/cur/1.%s.other,S=7,U=7:2,Sab", m->path, hex);
	cr_assert_eq(rename(from, to), 0);
	cr_assert_eq(job(m, ESP_BLOB_FLAGS, "INBOX", id, 7, 4, ""), ESP_OK);
	cr_assert_str_eq(listing(m, A), "U=7:2,F");
	cr_assert_eq(rename((snprintf(from, sizeof from, "%s/" A "/cur/%.*sF", m->path, (int)strlen(a), a), from), to), 0);
	cr_assert_eq(job(m, ESP_BLOB_UNLINK, "INBOX", id, 7, 0, ""), ESP_OK);
	cr_assert_str_eq(listing(m, A), "");
	gone(m);
}

Test(link, a_foreign_file_keeps_a_removed_folder, .init = set_up, .fini = tear_down)
{
	struct maildir *m = maildir_at("m");
	char path[256];
	FILE *f;

	cr_assert_eq(job(m, ESP_BLOB_MKFOLDER, "Work", id_new(), 0, 0, ""), ESP_OK);
	snprintf(path, sizeof path, "%s/" A "/.Work/cur/mine", m->path);
	f = fopen(path, "w");
	cr_assert_not_null(f);
	fclose(f);
	cr_assert_neq(job(m, ESP_BLOB_RMFOLDER, "Work", id_new(), 0, 0, ""), ESP_OK);
	cr_assert_str_eq(listing(m, A "/.Work"), "mine");
	unlink(path);
	for (int again = 0; again < 2; again++)
		cr_assert(job(m, ESP_BLOB_RMFOLDER, "Work", id_new(), 0, 0, "") == ESP_OK);
	gone(m);
}

/* --- mark.c ------------------------------------------------------------------------------------------------- */

static esp_blob_mark mark_at(struct maildir *m, const char *folder)
{
	esp_blob_mark mark = { .size = sizeof mark };
	esp_arena *arena = arena_new(&mem_api, "test", 0);

	cr_assert_eq(mark_read(m, folder, arena, &mark), ESP_OK);
	mark.over = (uint32_t)mark.special_use.len;     /* the text goes with the arena */
	arena_free(arena);
	return mark;
}
static esp_blob_mark mark_of(esp_id box, const char *folder, uint32_t validity, uint32_t uid)
{
	return (esp_blob_mark){ .size = sizeof(esp_blob_mark),
		.uidvalidity = validity,
		.uid = uid,
		.modseq = 7,
		.mailbox = box,
		.account = z("u@example.test"),
		.folder = z(folder),
		.special_use = z("\\Sent") };
}

Test(mark, what_was_written_is_read_back, .init = set_up, .fini = tear_down)
{
	struct maildir *m = maildir_at("m");
	esp_id box = id_new();
	esp_blob_mark mark = mark_of(box, "Old/Sent", 1764171000, 4294967294u), got;

	cr_assert_eq(mark_write(&m->table, &mark), ESP_OK);
	got = mark_at(m, A "/.Old.Sent");
	cr_assert(got.uidvalidity == 1764171000 && got.uid == 4294967294u && got.modseq == 7 && id_eq(got.mailbox, box));
	cr_assert_eq(got.over, strlen("\\Sent"));
	mark.uid = 7;                  /* somebody slow: the higher one stays */
	cr_assert_eq(mark_write(&m->table, &mark), ESP_OK);
	cr_assert_eq(mark_at(m, A "/.Old.Sent").uid, 4294967294u);
	mark.uidvalidity++;
	mark.special_use = z("");
	cr_assert_eq(mark_write(&m->table, &mark), ESP_EBUSY, "the file of another mailbox went before its folder");
	mark.over = 1;
	cr_assert_eq(mark_write(&m->table, &mark), ESP_OK);
	got = mark_at(m, A "/.Old.Sent");
	cr_assert(got.uidvalidity == 1764171001 && got.uid == 7 && got.over == 0);
	gone(m);
}

Test(mark, half_a_file_a_link_and_a_pipe_are_not_believed, .init = set_up, .fini = tear_down)
{
	struct maildir *m = maildir_at("m");
	esp_blob_mark mark = mark_of(id_new(), "INBOX", 5, 1000);
	char path[200], whole[300];
	size_t n;
	FILE *f;

	cr_assert_eq(mark_write(&m->table, &mark), ESP_OK);
	snprintf(path, sizeof path, "%s/" A "/esp-folder", m->path);
	cr_assert_not_null(f = fopen(path, "r"));
	n = fread(whole, 1, sizeof whole, f);
	fclose(f);
	for (size_t cut = 0; cut < n - 1; cut++) {
		cr_assert_eq(truncate(path, (off_t)cut), 0);
		cr_assert_eq(mark_at(m, A).uidvalidity, 0, "%zu bytes of %zu", cut, n);
		cr_assert_not_null(f = fopen(path, "w"));
		cr_assert_eq(fwrite(whole, 1, n, f), n);
		fclose(f);
	}
	cr_assert_eq(mark_at(m, A).uidvalidity, 5);
	cr_assert_eq(unlink(path), 0);
	cr_assert_eq(symlink("/etc/passwd", path), 0);
	cr_assert_eq(mark_at(m, A).uidvalidity, 0);
	cr_assert_eq(unlink(path), 0);
	cr_assert_eq(mkfifo(path, 0600), 0);
	cr_assert_eq(mark_at(m, A).uidvalidity, 0);
	gone(m);
}

Test(mark, a_new_folder_has_one_and_a_job_done_again_does_not_lower_it, .init = set_up, .fini = tear_down)
{
	struct maildir *m = maildir_at("m");
	esp_id box = id_new(), other = id_new();
	esp_blob_job make = { .size = sizeof make, .kind = ESP_BLOB_MKFOLDER, .account = z("u@example.test"),
		.folder = z("Work"), .id = box, .uidvalidity = 9 };
	esp_blob_mark mark = mark_of(box, "Work", 9, 1000);

	cr_assert_eq(link_job(m, &make), ESP_OK);
	cr_assert(mark_at(m, A "/.Work").uidvalidity == 9 && mark_at(m, A "/.Work").uid == 0);
	cr_assert_eq(mark_write(&m->table, &mark), ESP_OK);
	cr_assert_eq(link_job(m, &make), ESP_OK);
	cr_assert_eq(mark_at(m, A "/.Work").uid, 1000);
	cr_assert_eq(job(m, ESP_BLOB_MVFOLDER, "Work", id_new(), 0, 0, "Play"), ESP_OK);
	cr_assert_eq(mark_at(m, A "/.Play").uid, 1000);
	/* the removal of a mailbox that had the name before leaves the file of the one that has it now */
	cr_assert_neq(job(m, ESP_BLOB_RMFOLDER, "Play", other, 0, 0, ""), ESP_OK);
	cr_assert_eq(mark_at(m, A "/.Play").uid, 1000);
	gone(m);
}

static void *make_slowly(void *arg)
{
	esp_blob_job make = { .size = sizeof make, .kind = ESP_BLOB_MKFOLDER, .account = z("u@example.test"),
		.folder = z("Work"), .id = { { 7 } }, .uidvalidity = 9 };

	return link_job(arg, &make) == ESP_OK ? arg : NULL;
}

Test(mark, the_job_of_a_new_folder_waits_for_who_raises_it, .init = set_up, .fini = tear_down)
{
	struct maildir *m = maildir_at("m");
	esp_blob_mark mark = mark_of((esp_id){ { 7 } }, "Work", 9, 1000);
	int lock = openat(m->tmp, "marks.lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	void *done = NULL;
	pthread_t job;

	cr_assert_eq(flock(lock, LOCK_EX), 0);
	cr_assert_eq(pthread_create(&job, NULL, make_slowly, m), 0);
	usleep(50000);
	cr_assert_eq(mark_at(m, A "/.Work").uidvalidity, 0, "the job wrote the file of a folder that somebody raises");
	(void)close(lock);
	cr_assert_eq(mark_write(&m->table, &mark), ESP_OK);
	cr_assert_eq(pthread_join(job, &done), 0);
	cr_assert_eq(done, m);
	cr_assert_eq(mark_at(m, A "/.Work").uid, 1000);
	gone(m);
}

Test(name, what_was_written_is_read_back)
{
	static const char *const folders[] = { "INBOX", "Sent", "A/B/C", "a.b/c~d", "Entw\xc3\xbcrfe & mehr",
		"\xf0\x9f\x93\xac/x", "~", "a&-b", "INBOX/sub" };
	static const char *const bad[] = { "x", "..", ".", ".a..b", ".a.", ".&", ".&AA", ".&AAo-", ".&2AA-", ".\xff",
		".&AC8" };
	char path[MAILDIR_PATH], name[MAILDIR_NAME], account[MAILDIR_PATH];
	esp_blob_link link = { .size = sizeof link };
	esp_id id = id_new();

	for (size_t i = 0; i < sizeof folders / sizeof folders[0]; i++) {
		cr_assert_eq(name_folder(z("u@example.test"), z(folders[i]), path), ESP_OK);
		cr_assert_eq(name_folder_read(strlen(path) > strlen(A) ? path + strlen(A) + 1 : "", name), ESP_OK, "%s", path);
		cr_assert_str_eq(name, folders[i]);
	}
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		cr_assert_eq(name_folder_read(bad[i], name), ESP_EINVAL, "%s", bad[i]);
	cr_assert_eq(name_folder(z("a/b .c@example.test"), z("INBOX"), path), ESP_OK);
	cr_assert_eq(name_account_read("example.test", path + strlen("example.test/"), account), ESP_OK);
	cr_assert_str_eq(account, "a/b .c@example.test");
	cr_assert_eq(name_account_read("example.test", "a%2fb", account), ESP_EINVAL);     /* another spelling */
	cr_assert_eq(name_account_read("example.test", "a%00b", account), ESP_EINVAL);
	cr_assert_eq(name_message(id, 4096, 17, 5, z("mx"), path), ESP_OK);
	cr_assert_eq(name_message_read(path, &link), ESP_OK);
	cr_assert(id_eq(link.id, id) && link.uid == 17 && link.flags == 5);
	for (const char *const *p = (const char *const[]){ "1.2.3", "1.00.mx,U=1:2,",
			 "1.0123456789abcdef0123456789abcdeg.mx,U=1", "1.0123456789abcdef0123456789abcdef.mx,U=0",
			 "1.0123456789abcdef0123456789abcdef.mx,U=4294967295", "1.0123456789abcdef0123456789abcdef.mx,U=1x", NULL };
		 *p; p++)
		cr_assert_eq(name_message_read(*p, &link), ESP_EINVAL, "%s", *p);
}

Test(link, only_what_passes_is_waited_for)
{
	cr_assert(link_waits(ESP_ENOSPC) && link_waits(ESP_EBUSY) && link_waits(ESP_EACCES) && link_waits(ESP_ENOMEM));
	cr_assert(!link_waits(ESP_OK) && !link_waits(ESP_EIO) && !link_waits(ESP_EEXIST) && !link_waits(ESP_E2BIG));
}

/* --- jobs.c ------------------------------------------------------------------------------------------------------ */

/* blob_job as a table of the columns that jobs_select names. */
static esp_sql_value table_of[16 * 11];
static uint32_t table_rows;

static esp_status insert_job(esp_tx *tx, const char *stmt, const esp_sql_value *args, uint32_t nargs, esp_sql_rows *ret)
{
	static const uint32_t from[11] = { 0, 1, 2, 3, 4, 5, 6, 8, 10, 9, 11 };

	(void)ret;
	cr_assert(strncmp(stmt, "INSERT INTO blob_job", 20) == 0 && nargs == 12 && table_rows < 16);
	for (uint32_t i = 0; i < 11; i++) {
		esp_sql_value *v = &table_of[table_rows * 11 + i];
		*v = args[from[i]];
		if (v->type == ESP_SQL_TEXT || v->type == ESP_SQL_BLOB)
			v->s = esp_strdup_in(tx->arena, v->s);
	}
	table_rows++;
	return ESP_OK;
}

static const void *crypto(const char *id, uint32_t minor)
{
	static const esp_crypto_api api = { .size = sizeof api, .new_id = id_new };

	(void)minor;
	return strcmp(id, "esp.crypto/1") == 0 ? &api : NULL;
}

Test(jobs, many_share_a_row_and_come_out_as_they_went_in, .init = set_up, .fini = tear_down)
{
	static esp_blob_job in[230];
	struct maildir *m = maildir_at("m");
	const esp_host host = { .core = crypto };
	esp_tx tx = { .exec = insert_job, .arena = arena_new(&mem_api, "test", 0) };
	esp_sql_rows rows = { .size = sizeof rows, .ncols = 11, .values = table_of };
	uint32_t at = 0;

	for (uint32_t i = 0; i < 230; i++)
		in[i] = (esp_blob_job){ .size = sizeof in[i], .kind = ESP_BLOB_LINK, .account = z("u@example.test"),
			.folder = z("Box"), .id = id_new(), .uid = i ? 10 * i : UINT32_MAX, .flags = i % 32, .modseq = 9 };
	in[150].received = 1234567;    /* has a row of its own */
	m->core.host = &host;
	table_rows = 0;
	cr_assert_eq(folder_jobs(&m->table, &tx, in, 230), ESP_OK);
	rows.nrows = table_rows;
	cr_assert_eq(table_rows, 4);   /* 100, 50, 1, 79 */
	for (uint32_t row = 0; row < rows.nrows; row++)
		for (uint32_t i = 0; i < jobs_of(&rows, row); i++, at++) {
			esp_blob_job out = jobs_at(&rows, row, i);
			cr_assert(memcmp(out.id.b, in[at].id.b, sizeof out.id.b) == 0);
			cr_assert(out.uid == in[at].uid && out.flags == in[at].flags && out.received == in[at].received);
			cr_assert(out.kind == ESP_BLOB_LINK && out.folder.len == 3);
		}
	cr_assert_eq(at, 230);
	arena_free(tx.arena);
	gone(m);
}
