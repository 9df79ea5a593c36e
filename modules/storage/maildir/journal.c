/* journal - small messages become durable together: one fdatasync for all that wait.
 *
 * Two segments, preallocated with zeros so that writing into them changes no metadata and fdatasync is one flush.
 * Every message is written twice, side by side: into the journal (synced) and as its own file (place.c; not synced),
 * so that all nodes can read it at once.  When a segment is full the other one goes on and the sync lane syncs the
 * volume (syncfs: the checkpoint) once all files of the segment are in place; an orderly stop checkpoints too.  After a
 * crash journal_open() writes the files of every valid entry anew.
 *
 * An entry is valid when magic, generation of the segment, length and CRC fit.  Batches begin on a page, so that no
 * page is written in part; behind an entry that is not valid reading goes on at the next page, to the end. A failed
 * write or fdatasync fails its whole batch (their files are removed) and seals the segment; it is never synced again.
 * A file that cannot be made fails its message alone; the entry stays, and a replay may make a file nobody names.
 * Linux tells once that files could not be written back, and their pages count as written then: after a failed syncfs
 * no other one vouches for the files asked for until then.  Their segments become clean by a replay only, at once in
 * the checkpoint or, when that fails, before the segment is needed again (until then it takes no mail) or at the start.
 *
 * A process locks one slot (.journal, .journal-1 ...): a server that drains after a core upgrade keeps its own, the new
 * one takes the next.  Slots that nobody holds are replayed by whoever starts.
 *
 * Threads: jobs come from workers; everything else runs on the journal's private lane of width 1.
 */
#include "maildir.h"
#include "modules/common/timing.h"
#include "modules/common/why.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#define SEGMENT_MAGIC UINT64_C(0x314a505345)   /* "ESPJ1" */
#define ENTRY_MAGIC   0x454a5053u
#define HEADER        4096u
#define PAGE          4096u
#define BATCH_MAX     256u
#define SLOTS         8u     /* processes on one volume: the one that drains beside the one that took over */

struct segment_header { uint64_t magic, generation, clean; };
struct entry_header { uint32_t magic, crc; uint64_t generation; uint64_t len; uint8_t id[16]; };

struct journal_job {
	struct batch_job batch;    /* first: the batch links jobs by it */
	esp_id id;
	esp_str prefix, content;
	uint64_t number;           /* of those asked for */
};

enum { SEGMENT_CLEAN = 0, SEGMENT_USED, SEGMENT_CHECKPOINT, SEGMENT_FAILED };
struct segment {
	struct journal *j;
	int fd;
	uint64_t generation, at;
	uint64_t size;             /* of the file as it was found: it may have been written under other settings */
	int settled;               /* found clean: its header and its name are on the disk already */
	int sealed;                /* an error: write nothing more into it */
	uint64_t oldest;           /* lowest number of its messages */
	atomic_int state;          /* CLEAN: free to be begun; CHECKPOINT: on the sync lane */
};

struct journal {
	struct maildir *m;
	int lock;
	struct segment segment[2];
	uint32_t now;              /* the one being written */
	uint64_t generation;       /* highest in use */
	uint64_t lost;             /* messages of a lower number may have lost their files; of the checkpoint */
	struct batch batch;
	struct entry_header header[BATCH_MAX];   /* of the batch being written */
	struct iovec iov[3 * BATCH_MAX + 1];
};

static uint64_t page_up(uint64_t n) { return (n + PAGE - 1) & ~(uint64_t)(PAGE - 1); }

/* --- segments ------------------------------------------------------------------------------------------------ */

static esp_status write_header(struct segment *s, int clean)
{
	struct segment_header h = { .magic = SEGMENT_MAGIC, .generation = s->generation, .clean = (uint64_t)clean };

	if (pwrite(s->fd, &h, sizeof h, 0) != (ssize_t)sizeof h)
		return file_status(errno);
	return fdatasync(s->fd) == 0 ? ESP_OK : file_status(errno);
}

static esp_status preallocate(struct journal *j, int fd)
{
	static const size_t step = 1 << 20;
	uint64_t left = j->m->journal_bytes;
	char *zeros = calloc(1, step);
	esp_status st = zeros ? ESP_OK : ESP_ENOMEM;

	while (st == ESP_OK && left > 0) {
		struct iovec iov = { .iov_base = zeros, .iov_len = left < step ? (size_t)left : step };
		st = file_write_all(fd, &iov, 1);
		left -= iov.iov_len;
	}
	free(zeros);
	if (st == ESP_OK && fsync(fd) != 0)
		st = file_status(errno);
	return st;
}

/* A count above 32 random bits: behind a damaged entry replay looks for the next at each page, and what a stranger
 * wrote into a message must never look like one. */
static uint64_t next_generation(uint64_t last)
{
	uint32_t random = 0;

	if (getrandom(&random, sizeof random, 0) != (ssize_t)sizeof random)
		abort();
	return ((last >> 32) + 1) << 32 | random;
}

static esp_status begin_segment(struct journal *j, struct segment *s)
{
	s->at = HEADER;
	s->sealed = 0;
	s->oldest = UINT64_MAX;
	s->generation = j->generation = next_generation(j->generation);
	atomic_store(&s->state, SEGMENT_USED);
	return write_header(s, 0);
}

/* --- replay --------------------------------------------------------------------------------------------------- */

static uint32_t entry_crc(const struct entry_header *h, const struct iovec *iov, int n)
{
	uLong crc = crc32(0, (const Bytef *)&h->generation, sizeof *h - offsetof(struct entry_header, generation));

	for (int i = 0; i < n; i++)
		if (iov[i].iov_len)
			crc = crc32(crc, iov[i].iov_base, (uInt)iov[i].iov_len);
	return (uint32_t)crc;
}

/* The file may be there, cut short or empty, and folders may have links to it: write the same file again. */
static esp_status replay_entry(struct journal *j, const struct entry_header *h, char *data)
{
	struct iovec iov = { .iov_base = data, .iov_len = (size_t)h->len };
	esp_id id;

	memcpy(id.b, h->id, sizeof id.b);
	return file_restore(j->m, id, &iov);
}

/* 1: the entry at `at`, whole and unharmed; 0: there is none; -1: the disk does not give it. */
static int read_entry(const struct segment *s, uint64_t at, struct entry_header *h, char *data)
{
	struct iovec iov = { .iov_base = data };
	ssize_t n = at + sizeof *h > s->size ? 0 : pread(s->fd, h, sizeof *h, (off_t)at);

	if (n != (ssize_t)sizeof *h || h->magic != ENTRY_MAGIC || h->generation != s->generation ||
	    h->len > JOURNAL_ENTRY_MAX || at + sizeof *h + h->len > s->size)
		return n < 0 ? -1 : 0;
	iov.iov_len = (size_t)h->len;
	n = pread(s->fd, data, iov.iov_len, (off_t)(at + sizeof *h));
	if (n != (ssize_t)h->len)
		return n < 0 ? -1 : 0;
	return entry_crc(h, &iov, 1) == h->crc;
}

/* ESP_ECORRUPT: all is restored but what the disk does not give. */
static esp_status replay(struct journal *j, struct segment *s, uint32_t *ret_n)
{
	char *data = malloc(JOURNAL_ENTRY_MAX);
	esp_status st = data ? ESP_OK : ESP_ENOMEM;
	struct entry_header h;
	uint64_t at = HEADER;
	int found, unread = 0;

	while (st == ESP_OK) {
		found = read_entry(s, at, &h, data);
		if (found <= 0) {
			/* the end of a batch, of all, or a damaged entry: what follows begins a page */
			unread |= found < 0;
			at = page_up(at + 1);
			if (at + sizeof h > s->size)
				break;
			continue;
		}
		st = replay_entry(j, &h, data);
		at += sizeof h + h.len;
		++*ret_n;
	}
	free(data);
	return st == ESP_OK && unread ? ESP_ECORRUPT : st;
}

static esp_status open_segment(struct journal *j, int dir, uint32_t i)
{
	char name[2] = { (char)('0' + i), '\0' };
	struct segment *s = &j->segment[i];
	struct segment_header h = { .magic = 0 };
	uint32_t replayed = 0;
	esp_status st = ESP_OK;

	s->j = j;
	s->fd = openat(dir, name, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (s->fd < 0)
		return file_status(errno);
	s->size = (uint64_t)lseek(s->fd, 0, SEEK_END);
	if (pread(s->fd, &h, sizeof h, 0) == (ssize_t)sizeof h && h.magic == SEGMENT_MAGIC) {
		s->generation = h.generation;
		if (h.generation > j->generation)
			j->generation = h.generation;
		if (!h.clean)
			st = replay(j, s, &replayed);
		if (st == ESP_ECORRUPT) {
			esp_log_text(j->m->core.log, j->m->self, ESP_LOG_ERROR, "parts of the journal cannot be read");
			st = ESP_OK;
		}
	}
	s->settled = h.magic == SEGMENT_MAGIC && h.clean && s->size == j->m->journal_bytes;
	if (st == ESP_OK && s->size != j->m->journal_bytes) {
		if (ftruncate(s->fd, 0) != 0 || lseek(s->fd, 0, SEEK_SET) != 0)
			return file_status(errno);
		st = preallocate(j, s->fd);
		s->size = j->m->journal_bytes;
	}
	if (replayed)
		esp_log(j->m->core.log, j->m->self, ESP_LOG_NOTICE, "replayed messages from the journal",
			ESP_FINT("messages", replayed));
	return st;
}

static void close_slot(struct journal *j)
{
	for (uint32_t i = 0; i < 2; i++)
		if (j->segment[i].fd >= 0)
			(void)close(j->segment[i].fd);
	if (j->lock >= 0)
		(void)close(j->lock);
	free(j);
}

/* Lock a slot, replay what a crash left in it, and mark it clean.  ESP_EBUSY: another process has it. */
static esp_status open_slot(struct maildir *m, uint32_t slot, struct journal **ret)
{
	struct journal *j = calloc(1, sizeof *j);
	char name[24] = ".journal";
	esp_status st = ESP_OK;
	int dir;

	if (!j)
		return ESP_ENOMEM;
	j->m = m;
	j->lock = j->segment[0].fd = j->segment[1].fd = -1;
	if (slot > 0)
		snprintf(name, sizeof name, ".journal-%u", slot);
	if (mkdirat(m->root, name, 0700) != 0 && errno != EEXIST)
		st = file_status(errno);
	dir = st == ESP_OK ? openat(m->root, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) : -1;
	if (dir >= 0)
		j->lock = openat(dir, "lock", O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (st == ESP_OK && j->lock < 0)
		st = file_status(errno);
	else if (st == ESP_OK && flock(j->lock, LOCK_EX | LOCK_NB) != 0)
		st = ESP_EBUSY;
	for (uint32_t i = 0; st == ESP_OK && i < 2; i++)
		st = open_segment(j, dir, i);
	/* All names are durable before a header is: who finds two clean headers need not sync again (a start in peace).
	 * A start that was killed may have made directories and not synced them. */
	if (st == ESP_OK && !(j->segment[0].settled && j->segment[1].settled))
		st = fsync(dir) == 0 ? file_sync_names(m) : file_status(errno);
	for (uint32_t i = 0; st == ESP_OK && i < 2; i++)
		if (!j->segment[i].settled)
			st = write_header(&j->segment[i], 1);   /* replayed files are synced each */
	if (dir >= 0)
		(void)close(dir);
	if (st == ESP_OK)
		*ret = j;
	else
		close_slot(j);
	return st;
}

/* A process that ended badly while another one took over (core upgrade) left its slot to whoever comes next. */
static void replay_other_slots(struct maildir *m, uint32_t ours)
{
	struct journal *other;
	char name[24];

	for (uint32_t slot = 0; slot < SLOTS; slot++) {
		snprintf(name, sizeof name, slot ? ".journal-%u" : ".journal", slot);
		if (slot != ours && faccessat(m->root, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0 &&
			open_slot(m, slot, &other) == ESP_OK)
			close_slot(other);
	}
}

esp_status journal_open(struct maildir *m, esp_err *err)
{
	uint32_t slot = 0;
	esp_status st = ESP_EBUSY;

	for (; slot < SLOTS && st == ESP_EBUSY; slot++)
		st = open_slot(m, slot, &m->journal);
	if (st == ESP_OK) {
		replay_other_slots(m, slot - 1);
		st = begin_segment(m->journal, &m->journal->segment[0]);
	}
	if (st != ESP_OK)
		snprintf(err->text, sizeof err->text, "cannot prepare a journal in %s: %s", m->path,
			st == ESP_EBUSY ? "every one is in use by another server" : why(st));
	return st;
}

/* --- checkpoint ------------------------------------------------------------------------------------------------ */

/* Afterwards everything the segment holds is in files that are synced: it may be begun anew. */
static esp_status checkpoint(struct segment *s)
{
	struct journal *j = s->j;
	uint32_t replayed = 0;
	esp_status st = ESP_OK;

	place_settle(j->m);
	if (s->oldest >= j->lost && syncfs(j->m->root) != 0)
		j->lost = atomic_load(&j->m->asked);
	if (s->oldest < j->lost)
		st = replay(j, s, &replayed);
	if (st == ESP_OK && replayed)
		esp_log(j->m->core.log, j->m->self, ESP_LOG_WARNING,
			"the volume failed to sync: messages were written anew from the journal", ESP_FINT("messages", replayed));
	if (st == ESP_OK)
		st = write_header(s, 1);
	atomic_store(&s->state, st == ESP_OK ? SEGMENT_CLEAN : SEGMENT_FAILED);
	return st;
}

static void on_checkpoint(void *arg)   /* sync lane */
{
	struct segment *s = arg;

	if (checkpoint(s) != ESP_OK)
		esp_log_text(s->j->m->core.log, s->j->m->self, ESP_LOG_ERROR,
			"the journal cannot be checkpointed: the volume does not sync");
}

void journal_close(struct maildir *m)
{
	struct journal *j = m->journal;

	if (!j)
		return;
	for (uint32_t i = 0; i < 2; i++) {
		while (atomic_load(&j->segment[i].state) == SEGMENT_CHECKPOINT)
			usleep(1000);
		/* a checkpoint that fails leaves the segment to be replayed at the next start */
		if (atomic_load(&j->segment[i].state) != SEGMENT_CLEAN && checkpoint(&j->segment[i]) != ESP_OK)
			esp_log_text(
				m->core.log, m->self, ESP_LOG_WARNING, "the journal was not checkpointed and will be replayed");
	}
	close_slot(j);
	m->journal = NULL;
}

/* --- committing ------------------------------------------------------------------------------------------------ */

static size_t entry_size(const struct journal_job *job)
{
	return sizeof(struct entry_header) + job->prefix.len + job->content.len;
}

/* When the segment in use is full the other one goes on, while the sync lane checkpoints the full one. */
static esp_status make_room(struct journal *j, size_t bytes)
{
	struct segment *s = &j->segment[j->now], *other = &j->segment[!j->now];
	esp_status st;

	if (!s->sealed && s->at + bytes <= j->m->journal_bytes)
		return ESP_OK;
	while (atomic_load(&other->state) == SEGMENT_CHECKPOINT)
		usleep(500);           /* mail comes faster than the volume syncs: everybody waits for it */
	if (atomic_load(&other->state) == SEGMENT_FAILED && checkpoint(other) != ESP_OK)
		return ESP_EIO;
	st = begin_segment(j, other);
	if (st != ESP_OK)
		return st;
	j->now = !j->now;
	atomic_store(&s->state, SEGMENT_CHECKPOINT);
	if (j->m->core.pool->submit(j->m->self, j->m->sync_lane, on_checkpoint, s) != ESP_OK)
		on_checkpoint(s);
	return ESP_OK;
}

/* Three pieces a job: its header, the headers put in front, the message. */
static void fill(const struct segment *s, const struct journal_job *job, struct entry_header *h, struct iovec iov[3])
{
	*h = (struct entry_header){
		.magic = ENTRY_MAGIC, .generation = s->generation, .len = job->prefix.len + job->content.len
	};
	memcpy(h->id, job->id.b, sizeof h->id);
	iov[0] = (struct iovec){ h, sizeof *h };
	iov[1] = (struct iovec){ (void *)(uintptr_t)job->prefix.ptr, job->prefix.len };
	iov[2] = (struct iovec){ (void *)(uintptr_t)job->content.ptr, job->content.len };
	h->crc = entry_crc(h, iov + 1, 2);
}

static esp_status write_at(int fd, struct iovec *iov, int n, uint64_t at)
{
	while (n > 0) {
		ssize_t put = pwritev(fd, iov, n, (off_t)at);
		if (put < 0 && errno == EINTR)
			continue;
		if (put <= 0)
			return put < 0 ? file_status(errno) : ESP_EIO;
		at += (uint64_t)put;
		for (; n > 0 && (size_t)put >= iov->iov_len; iov++, n--)
			put -= (ssize_t)iov->iov_len;
		if (n > 0) {
			iov->iov_base = (char *)iov->iov_base + put;
			iov->iov_len -= (size_t)put;
		}
	}
	return ESP_OK;
}

/* The batch in one write of whole pages: a page that is written in part would have to be read first. */
static esp_status append_batch(struct journal *j, struct journal_job **jobs, uint32_t n)
{
	static const char zeros[PAGE];
	struct segment *s = &j->segment[j->now];
	uint64_t bytes = 0;

	for (uint32_t i = 0; i < n; i++) {
		fill(s, jobs[i], &j->header[i], &j->iov[3 * i]);
		bytes += entry_size(jobs[i]);
		s->oldest = jobs[i]->number < s->oldest ? jobs[i]->number : s->oldest;
	}
	j->iov[3 * n] = (struct iovec){ (void *)(uintptr_t)zeros, (size_t)(page_up(bytes) - bytes) };
	s->at += page_up(bytes);
	return write_at(s->fd, j->iov, (int)(3 * n + 1), s->at - page_up(bytes));
}

/* [journal lane] */
static esp_status sync_measured(const struct maildir *m, int fd)
{
	esp_nsec began = m->core.loop->clock();
	esp_status st = fdatasync(fd) == 0 ? ESP_OK : file_status(errno);

	timing_observe(m->metric, m->journal_seconds, m->core.loop->clock() - began);
	return st;
}

static esp_status commit_batch(struct journal *j, struct journal_job **jobs, uint32_t n)
{
	struct segment *s;
	size_t bytes = 0;
	esp_status st;

	for (uint32_t i = 0; i < n; i++)
		bytes += entry_size(jobs[i]);
	st = make_room(j, page_up(bytes));
	if (st != ESP_OK)
		return st;
	s = &j->segment[j->now];
	st = append_batch(j, jobs, n);
	if (st == ESP_OK)
		st = sync_measured(j->m, s->fd);
	if (st != ESP_OK)
		s->sealed = 1;
	return st;
}

/* As many of the list as one segment and one batch hold. */
static uint32_t take(struct journal *j, struct batch_job **list, struct journal_job **jobs)
{
	uint64_t room = j->m->journal_bytes - HEADER - PAGE, bytes = 0;
	uint32_t n = 0;

	for (; *list && n < BATCH_MAX; *list = (*list)->next) {
		struct journal_job *job = (struct journal_job *)*list;
		bytes += entry_size(job);
		if (bytes > room)
			break;
		jobs[n++] = job;
	}
	return n;
}

static void on_jobs(void *arg, struct batch_job *list)
{
	struct journal *j = arg;
	struct journal_job *jobs[BATCH_MAX];

	while (list) {
		uint32_t n = take(j, &list, jobs);
		esp_status st = commit_batch(j, jobs, n);
		j->m->metric->add(j->m->syncs, 1);
		j->m->metric->add(j->m->commits, st == ESP_OK ? n : 0);
		for (uint32_t i = 0; i < n; i++)
			batch_finish(&j->batch, &jobs[i]->batch, st);
	}
}

esp_status journal_start(struct maildir *m)
{
	esp_lane *lane = m->core.pool->open(m->self, "maildir-journal", 1, 65536);

	if (!lane)
		return ESP_ENOMEM;
	batch_init(&m->journal->batch, &m->core, m->self, lane, on_jobs, m->journal);
	return ESP_OK;
}

/* What the message is told; a file that the journal does not vouch for must not stay. */
static esp_status outcome(struct maildir *m, const struct journal_job *entry, const struct place_job *file)
{
	if (entry->batch.status == ESP_OK)
		return file->batch.status;
	if (file->batch.status == ESP_OK)
		file_discard(&m->table, entry->id);
	return entry->batch.status;
}

esp_status journal_commit(struct maildir *m, esp_id id, esp_str prefix, esp_str content)
{
	struct journal_job entry = { .id = id, .prefix = prefix, .content = content };
	struct place_job file = { .id = id, .iov = { { (void *)(uintptr_t)prefix.ptr, prefix.len },
	                                             { (void *)(uintptr_t)content.ptr, content.len } } };

	entry.number = atomic_fetch_add(&m->asked, 1);
	batch_do_both(&m->place, &file.batch, &m->journal->batch, &entry.batch);
	return outcome(m, &entry, &file);
}
