/* writer - the one thread that writes: many transactions per COMMIT.
 *
 * The lane takes all jobs that came (modules/common/batch), runs them one after the other, commits once, wakes all.
 * Jobs seldom fail, and a savepoint copies each page that its job changes; so jobs are run without.  When one fails,
 * all is rolled back and run again with a savepoint each, and so are the next batches: failures come in swarms.
 * If SQLite rolled the batch back (disk full), every job is run again alone, so that each gets its own answer.
 * Functions given to transact() may be run again.
 *
 * A write or sync that failed below us leaves SQLite's idea of the file in doubt: the process ends and recovers.
 */
#include "writer.h"

#define TELL_EVERY (30 * ESP_SEC)
#define BATCH_MAX 256u   /* transactions per COMMIT: bounds how long the first waits for the last */
#define CAREFUL   64u    /* batches with savepoints after a job that failed */
#define CACHED_FOR ESP_SEC  /* the page cache is dropped so often */

struct writer_job {
	struct batch_job batch;    /* first: the batch links jobs by it */
	esp_status (*fn)(esp_tx *tx, void *arg);
	void *arg;
	esp_status status;
};

struct lane_tx { esp_tx pub; struct writer *writer; };

static esp_status tx_exec(esp_tx *tx, const char *stmt, const esp_sql_value *args, uint32_t nargs, esp_sql_rows *ret)
{
	struct lane_tx *t = (struct lane_tx *)tx;

	return db_exec(t->writer->db, tx->arena, stmt, args, nargs, ret);
}

/* Mail is deferred meanwhile: say why, once in a while. */
static void tell_locked(struct writer *w)
{
	esp_nsec now = w->core->loop->clock();
	esp_err err = { .text = "" };

	if (w->locked_batches++ == 0)
		w->locked_since = now;
	else if (now < w->told_locked + TELL_EVERY)
		return;
	w->told_locked = now;
	db_reason(w->db, &err);
	esp_log(w->core->log, w->self, ESP_LOG_ERROR, "the database is locked: nothing can be stored",
		ESP_FSTR("reason", ((esp_str){ err.text, strlen(err.text) })));
}

static void tell_free(struct writer *w)
{
	esp_log(w->core->log, w->self, ESP_LOG_NOTICE, "the database is free again", ESP_FINT("failed", w->locked_batches),
		ESP_FNSEC("lasted", w->core->loop->clock() - w->locked_since));
	w->locked_batches = 0;
}

static int control(struct writer *w, const char *text)
{
	int st = db_exec(w->db, w->arena, text, NULL, 0, NULL);

	if (st == ESP_EIO || st == ESP_ECORRUPT)
		checkpoint_file_failed(w->db, text);
	return st;
}

/* One job inside the open transaction.  Returns 0 when nothing of the batch can be committed: SQLite has rolled it
 * back, or the job failed and has no savepoint. */
static int run_one(struct writer *w, struct writer_job *job, int savepoint)
{
	struct lane_tx tx = { .pub = { .exec = tx_exec, .arena = w->arena }, .writer = w };

	if (savepoint && control(w, "SAVEPOINT job") != ESP_OK)
		return 0;
	job->status = job->fn(&tx.pub, job->arg);
	w->core->mem->arena_reset(w->arena);
	if (sqlite3_get_autocommit(w->db->handle))
		return 0;
	if (!savepoint)
		return job->status >= 0;
	if (job->status < 0 && control(w, "ROLLBACK TO job") != ESP_OK)
		return 0;
	return control(w, "RELEASE job") == ESP_OK;
}

static void rollback(struct writer *w)
{
	if (!sqlite3_get_autocommit(w->db->handle) && control(w, "ROLLBACK") != ESP_OK)
		checkpoint_file_failed(w->db, "ROLLBACK");
}

/* Why the batch could not go on after this job. */
static esp_status stopped_by(struct writer *w, const struct writer_job *job)
{
	if (!sqlite3_get_autocommit(w->db->handle) && job->status < 0)
		return ESP_EAGAIN;
	return job->status == ESP_ENOSPC ? ESP_ENOSPC : ESP_EBUSY;
}

static int commit_measured(struct writer *w, esp_nsec began)
{
	esp_nsec ready = w->core->loop->clock();
	int st;

	vfs_keep(&w->vfs, 1);
	st = control(w, "COMMIT");
	vfs_keep(&w->vfs, 0);
	timing_observe_sql(w->metric, &w->seconds, began, ready, w->core->loop->clock());
	return st;
}

/* Returns ESP_OK when the batch is durable; else nothing of it is.  ESP_EAGAIN: a job without a savepoint failed. */
static int run_batch(struct writer *w, struct writer_job **jobs, uint32_t n, int savepoints, int *ret_begun)
{
	esp_nsec began = w->core->loop->clock();
	int st = control(w, "BEGIN IMMEDIATE");

	*ret_begun = st == ESP_OK;
	if (st == ESP_EBUSY)
		tell_locked(w);
	if (st != ESP_OK)
		return st;
	if (w->locked_batches)
		tell_free(w);
	for (uint32_t i = 0; i < n; i++) {
		if (!run_one(w, jobs[i], savepoints)) {
			st = stopped_by(w, jobs[i]);
			rollback(w);
			return st;
		}
	}
	st = commit_measured(w, began);
	if (st != ESP_OK)
		rollback(w);
	return st;
}

/* Recurses one level deep: with single jobs. */
static void commit_jobs(struct writer *w, struct writer_job **jobs, uint32_t n)
{
	int begun, st;

	w->careful -= w->careful > 0;
	st = run_batch(w, jobs, n, n > 1 && w->careful, &begun);
	if (st == ESP_EAGAIN && n > 1) {
		w->careful = CAREFUL;
		st = run_batch(w, jobs, n, 1, &begun);
	}
	/* another program that holds the database would be waited for once a job */
	if (st != ESP_OK && n > 1 && begun) {
		w->metric->add(w->retries, n);
		for (uint32_t i = 0; i < n; i++)
			commit_jobs(w, &jobs[i], 1);
		return;
	}
	w->metric->add(w->commits, st == ESP_OK);
	w->metric->add(w->transactions, st == ESP_OK ? n : 0);
	for (uint32_t i = 0; i < n; i++) {
		if (st != ESP_OK && jobs[i]->status >= 0)
			jobs[i]->status = st;
		batch_finish(&w->batch, &jobs[i]->batch, jobs[i]->status);
	}
}

/* The kernel caches the file as well: what a burst read need not stay in our memory. */
static void drop_cache(struct writer *w)
{
	esp_nsec now = w->core->loop->clock();

	if (now < w->cached_since + CACHED_FOR)
		return;
	w->cached_since = now;
	(void)sqlite3_db_release_memory(w->db->handle);
}

static void on_jobs(void *arg, struct batch_job *list)
{
	struct writer *w = arg;
	struct writer_job *jobs[BATCH_MAX];

	while (list) {
		uint32_t n = 0;
		for (; list && n < BATCH_MAX; list = list->next)
			jobs[n++] = (struct writer_job *)list;
		commit_jobs(w, jobs, n);
		checkpoint_step(&w->checkpoint);
	}
	drop_cache(w);
}

void writer_start(struct writer *w) { batch_init(&w->batch, w->core, w->self, w->lane, on_jobs, w); }

esp_status writer_transact(struct writer *w, esp_status (*fn)(esp_tx *tx, void *arg), void *arg)
{
	struct writer_job job = { .fn = fn, .arg = arg };

	return batch_do(&w->batch, &job.batch);
}
