/* tests/perf/bench_durable.c - three ways to make small messages durable, one against the other on one volume.
 *
 *   bench_durable [DIRECTORY]
 *
 * Senders hand in a message of 4 KiB and wait until it would survive a power failure, as SMTP sessions do before their
 * 250.  Every message becomes a file of its own; what differs is how it becomes durable:
 *   journal  an entry of a preallocated journal, one fdatasync for all who wait, meanwhile the files, unsynced; when a
 *            segment is full one syncfs beside the other segment
 *   fsync    eight threads, each fsyncs the file of a message and the directory
 *   syncfs   the files of all who wait, then one syncfs
 * One process, then four on the same volume with a quarter of the senders each.  Each figure is of SECONDS, one way
 * after the other, so that all of them meet the same disk.  Never asserts a time.
 */
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MESSAGE = 4096, ENTRY = MESSAGE + 4096, SEGMENT = 32 << 20, BATCH = 64, SENDERS = 64, NODES = 4, SECONDS = 3,
	LANES = 8, SAMPLES = 1 << 16 };
enum way { JOURNAL, FSYNC, SYNCFS, WAYS };
static const char *const way_name[WAYS] = { "journal", "fsync", "syncfs" };

/* Of one process. */
struct node {
	enum way way;
	int dir, id;
	pthread_mutex_t lock;
	pthread_cond_t came, done;
	unsigned queue[SENDERS], waiting;       /* numbers of senders */
	bool finished[SENDERS], stop;
	unsigned files;
	int segment[2], now;                    /* the journal */
	off_t at;
	bool clean[2], placing;
	unsigned batch[BATCH], nbatch;
};

/* Shared with the parent. */
struct result {
	_Atomic unsigned n;
	float msec[SAMPLES];
};
static struct result *results;
static char text[ENTRY];

static void check(bool ok, const char *what)
{
	if (ok)
		return;
	perror(what);
	exit(1);
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void file_name(const struct node *n, unsigned number, char out[32])
{
	snprintf(out, 32, "m%d-%u", n->id, number);
}

static int write_file(struct node *n, unsigned number)
{
	char name[32];
	int fd;

	file_name(n, number, name);
	fd = openat(n->dir, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	check(fd >= 0 && write(fd, text, MESSAGE) == MESSAGE, name);
	return fd;
}

/* --- the ways -------------------------------------------------------------------------------------------------- */

static int make_segment(const struct node *n, int which)
{
	char name[32];
	int fd;

	snprintf(name, sizeof name, "journal%d-%d", n->id, which);
	fd = openat(n->dir, name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	check(fd >= 0, name);
	for (off_t at = 0; at < SEGMENT; at += ENTRY)
		check(pwrite(fd, text, ENTRY, at) == ENTRY, name);
	check(fsync(fd) == 0, name);
	return fd;
}

/* Beside the journal: the files of the batch. */
static void *place(void *arg)
{
	struct node *n = arg;

	pthread_mutex_lock(&n->lock);
	while (!n->stop) {
		while (!n->stop && !n->placing)
			pthread_cond_wait(&n->came, &n->lock);
		if (!n->placing)
			break;
		pthread_mutex_unlock(&n->lock);
		for (unsigned i = 0; i < n->nbatch; i++)
			close(write_file(n, n->batch[i]));
		pthread_mutex_lock(&n->lock);
		n->placing = false;
		pthread_cond_broadcast(&n->done);
	}
	pthread_mutex_unlock(&n->lock);
	return NULL;
}

/* Beside both: the full segment. */
static void *checkpoint(void *arg)
{
	struct node *n = arg;

	pthread_mutex_lock(&n->lock);
	while (!n->stop) {
		int full = !n->now;

		if (n->clean[full]) {
			pthread_cond_wait(&n->came, &n->lock);
			continue;
		}
		pthread_mutex_unlock(&n->lock);
		check(syncfs(n->dir) == 0 && pwrite(n->segment[full], text, MESSAGE, 0) == MESSAGE &&
			fdatasync(n->segment[full]) == 0, "checkpoint");
		pthread_mutex_lock(&n->lock);
		n->clean[full] = true;
		pthread_cond_broadcast(&n->done);
	}
	pthread_mutex_unlock(&n->lock);
	return NULL;
}

static void begin_segment(struct node *n)
{
	pthread_mutex_lock(&n->lock);
	while (!n->clean[!n->now])
		pthread_cond_wait(&n->done, &n->lock);
	n->clean[n->now] = false;
	n->now = !n->now;
	n->at = ENTRY;
	pthread_cond_broadcast(&n->came);
	pthread_mutex_unlock(&n->lock);
}

static void commit_journal(struct node *n, const unsigned *number, unsigned count)
{
	struct iovec iov[BATCH];
	ssize_t bytes = (ssize_t)count * ENTRY;

	if (n->at + bytes > SEGMENT)
		begin_segment(n);
	pthread_mutex_lock(&n->lock);
	memcpy(n->batch, number, count * sizeof *number);
	n->nbatch = count;
	n->placing = true;
	pthread_cond_broadcast(&n->came);
	pthread_mutex_unlock(&n->lock);
	for (unsigned i = 0; i < count; i++)
		iov[i] = (struct iovec){ text, ENTRY };
	check(pwritev(n->segment[n->now], iov, (int)count, n->at) == bytes && fdatasync(n->segment[n->now]) == 0,
		"journal");
	n->at += bytes;
	pthread_mutex_lock(&n->lock);
	while (n->placing)
		pthread_cond_wait(&n->done, &n->lock);
	pthread_mutex_unlock(&n->lock);
}

static void commit_fsync(struct node *n, const unsigned *number, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		int fd = write_file(n, number[i]);

		check(fsync(fd) == 0 && fsync(n->dir) == 0, "fsync");
		close(fd);
	}
}

static void commit_syncfs(struct node *n, const unsigned *number, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		close(write_file(n, number[i]));
	check(syncfs(n->dir) == 0, "syncfs");
}

/* --- senders and those who serve them -------------------------------------------------------------------------- */

static void *commit(void *arg)
{
	static void (*const commit_by[WAYS])(struct node *, const unsigned *, unsigned) = {
		commit_journal, commit_fsync, commit_syncfs,
	};
	struct node *n = arg;
	unsigned most = n->way == FSYNC ? 1 : BATCH, sender[BATCH], number[BATCH];

	pthread_mutex_lock(&n->lock);
	for (;;) {
		unsigned count;

		while (!n->waiting && !n->stop)
			pthread_cond_wait(&n->came, &n->lock);
		if (n->stop)
			break;
		count = n->waiting < most ? n->waiting : most;
		for (unsigned i = 0; i < count; i++) {
			sender[i] = n->queue[i];
			number[i] = n->files++;
		}
		n->waiting -= count;
		memmove(n->queue, n->queue + count, n->waiting * sizeof *n->queue);
		pthread_mutex_unlock(&n->lock);
		commit_by[n->way](n, number, count);
		pthread_mutex_lock(&n->lock);
		for (unsigned i = 0; i < count; i++)
			n->finished[sender[i]] = true;
		pthread_cond_broadcast(&n->done);
	}
	pthread_mutex_unlock(&n->lock);
	return NULL;
}

struct sender {
	struct node *n;
	unsigned self;
};

static void *send_messages(void *arg)
{
	struct sender *s = arg;
	struct node *n = s->n;
	double start = now();

	while (now() - start < SECONDS) {
		double asked = now();
		unsigned slot;

		pthread_mutex_lock(&n->lock);
		n->finished[s->self] = false;
		n->queue[n->waiting++] = s->self;
		pthread_cond_broadcast(&n->came);
		while (!n->finished[s->self])
			pthread_cond_wait(&n->done, &n->lock);
		pthread_mutex_unlock(&n->lock);
		slot = atomic_fetch_add(&results->n, 1);
		if (slot < SAMPLES)
			results->msec[slot] = (float)((now() - asked) * 1e3);
	}
	return NULL;
}

static void run_node(const char *folder, enum way way, int id, unsigned senders)
{
	static struct node n = { .clean = { true, true }, .at = ENTRY,
		.lock = PTHREAD_MUTEX_INITIALIZER, .came = PTHREAD_COND_INITIALIZER, .done = PTHREAD_COND_INITIALIZER };
	static struct sender sender[SENDERS];
	static pthread_t thread[SENDERS], server[LANES];
	int servers = 0;

	n.way = way;
	n.id = id;
	n.dir = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	check(n.dir >= 0, folder);
	for (int i = 0; way == JOURNAL && i < 2; i++)
		n.segment[i] = make_segment(&n, i);
	while (servers < (way == FSYNC ? LANES : 1))
		pthread_create(&server[servers++], NULL, commit, &n);
	if (way == JOURNAL) {
		pthread_create(&server[servers++], NULL, place, &n);
		pthread_create(&server[servers++], NULL, checkpoint, &n);
	}
	for (unsigned i = 0; i < senders; i++) {
		sender[i] = (struct sender){ &n, i };
		pthread_create(&thread[i], NULL, send_messages, &sender[i]);
	}
	for (unsigned i = 0; i < senders; i++)
		pthread_join(thread[i], NULL);
	pthread_mutex_lock(&n.lock);
	n.stop = true;
	pthread_cond_broadcast(&n.came);
	pthread_mutex_unlock(&n.lock);
	for (int i = 0; i < servers; i++)
		pthread_join(server[i], NULL);
	_exit(0);
}

/* --- one figure ------------------------------------------------------------------------------------------------ */

static void empty(const char *folder)
{
	DIR *d = opendir(folder);
	struct dirent *e;

	check(d != NULL, folder);
	while ((e = readdir(d)))
		if (e->d_name[0] != '.')
			(void)unlinkat(dirfd(d), e->d_name, 0);
	closedir(d);
	sync();
}

static int by_size(const void *a, const void *b)
{
	float x = *(const float *)a, y = *(const float *)b;

	return (x > y) - (x < y);
}

static double cpu(void)
{
	struct rusage u;

	getrusage(RUSAGE_CHILDREN, &u);
	return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static void figure(const char *folder, enum way way, int nodes, unsigned senders)
{
	double cpu_before = cpu();
	unsigned n;

	atomic_store(&results->n, 0);
	for (int i = 0; i < nodes; i++) {
		pid_t child = fork();

		check(child >= 0, "fork");
		if (child == 0)
			run_node(folder, way, i, senders / (unsigned)nodes);
	}
	for (int i = 0; i < nodes; i++) {
		int status;

		check(wait(&status) > 0 && status == 0, "a node failed");
	}
	n = atomic_load(&results->n);
	printf("%5d  %7u  %-8s %8.0f/s %8.0f us", nodes, senders, way_name[way], (double)n / SECONDS,
		(cpu() - cpu_before) * 1e6 / n);
	n = n < SAMPLES ? n : SAMPLES;
	qsort(results->msec, n, sizeof *results->msec, by_size);
	printf(" %8.2f %8.2f ms\n", (double)results->msec[n / 2], (double)results->msec[n / 100 * 99]);
	fflush(stdout);
	empty(folder);
}

int main(int argc, char **argv)
{
	static const unsigned senders[] = { 1, 10, 48 };
	static char folder[4096];

	snprintf(folder, sizeof folder, "%s/bench_durable.XXXXXX", argc > 1 ? argv[1] : ".");
	check(mkdtemp(folder) != NULL, folder);
	results = mmap(NULL, sizeof *results, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	check(results != MAP_FAILED, "mmap");
	memset(text, 'x', sizeof text);
	printf("nodes  senders  way        messages      CPU    median   99 %%\n");
	for (int nodes = 1; nodes <= NODES; nodes += NODES - 1)
		for (size_t i = 0; i < sizeof senders / sizeof *senders; i++)
			for (enum way way = 0; way < WAYS && senders[i] >= (unsigned)nodes; way++)
				figure(folder, way, nodes, senders[i] / (unsigned)nodes * (unsigned)nodes);
	return rmdir(folder);
}
