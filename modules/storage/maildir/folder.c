/* folder - the Maildir++ folders beside the blobs: jobs are rows of the transaction that changed the mailbox.
 *
 * One process at a time does them (modules/common/lease), in the order of each account's changes.
 * One fiber (worker 0) reads the oldest jobs after each COMMIT it hears of, does them on a lane of its own (width 1:
 * order matters), syncs the directories and deletes their rows.  A crash between doing and deleting does them again:
 * each is idempotent. Jobs wait for a full or read-only disk (link.c says for what); one that cannot be done (a foreign
 * file is in the way) is logged and dropped: the database keeps the truth. Blobs that nobody names any more wait in
 * blob_trash for the grace time.
 */
#include "maildir.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#define JOBS_A_ROUND 5000          /* one sync of their directories */
#define ROWS_A_COMMIT 500          /* others wait for the writer as well */
#define GATHER      (250 * ESP_MSEC)   /* a burst: one query, a sync a directory and one COMMIT for many messages */
#define GATHER_MANY ESP_SEC            /* after rounds of MANY_JOBS together */
#define MANY_JOBS   200u

static const esp_sql_migration items[] = {
	{ .number = 1,
		.title = "folder jobs and trash",
		.up = "CREATE TABLE blob_job (id BLOB NOT NULL PRIMARY KEY, kind BIGINT NOT NULL, account TEXT NOT NULL, "
			  "folder TEXT NOT NULL,"
			  " target TEXT NOT NULL, blob_id BLOB NOT NULL, uid BIGINT NOT NULL, bytes BIGINT NOT NULL, flags BIGINT "
			  "NOT NULL,"
			  " received BIGINT NOT NULL);\n"
			  "CREATE TABLE blob_trash (id BLOB NOT NULL PRIMARY KEY, since BIGINT NOT NULL);\n"
			  "CREATE INDEX blob_trash_since ON blob_trash (since)",
		.down = "DROP TABLE blob_trash;\nDROP TABLE blob_job" },
	{ .number = 2,
		.title = "order of folder jobs, and who does them",
		.up = "ALTER TABLE blob_job ADD COLUMN modseq BIGINT NOT NULL DEFAULT 0;\n" LEASE_TABLE,
		.down = LEASE_DROP ";\nALTER TABLE blob_job DROP COLUMN modseq" },
	{ .number = 3,
		.title = "many folder jobs in a row; down: each in a row of its own again (jobs.c)",
		.up = "ALTER TABLE blob_job ADD COLUMN marks TEXT NOT NULL DEFAULT ''",
		.down = "INSERT INTO blob_job (id, kind, account, folder, target, blob_id, uid, bytes, flags, received, modseq)"
				" WITH RECURSIVE part (id, n) AS (SELECT id, 0 FROM blob_job WHERE marks <> '' UNION ALL"
				" SELECT p.id, p.n + 1 FROM part p JOIN blob_job j ON j.id = p.id"
				" WHERE 15 * (p.n + 1) < LENGTH(j.marks))"
				" SELECT CAST(j.id || CAST(SUBSTR(j.marks, 15 * p.n + 1, 10) AS BLOB) AS BLOB), j.kind, j.account,"
				" j.folder, j.target, SUBSTR(j.blob_id, 16 * p.n + 1, 16),"
				" CAST(SUBSTR(j.marks, 15 * p.n + 1, 10) AS BIGINT), 0,"
				" CAST(SUBSTR(j.marks, 15 * p.n + 11, 5) AS BIGINT), 0, j.modseq"
				" FROM part p JOIN blob_job j ON j.id = p.id;\n"
				"DELETE FROM blob_job WHERE marks <> '';\n"
				"ALTER TABLE blob_job DROP COLUMN marks" },
	{ .number = 4,
		.title = "orderly stops",
		.up = "CREATE TABLE blob_stop (id BLOB NOT NULL PRIMARY KEY)",
		.down = "DROP TABLE blob_stop" },
	{ .number = 5,
		.title = "there is a mail directory",
		.up = "CREATE TABLE blob_root (id BLOB NOT NULL PRIMARY KEY, since BIGINT NOT NULL)",
		.down = "DROP TABLE blob_root" },
};
const esp_sql_migrations maildir_migrations = {
	.size = sizeof maildir_migrations, .item_size = sizeof items[0], .n = sizeof items / sizeof items[0],
	.module = "storage_maildir", .items = items,
};

esp_status folder_remove(const esp_blob *b, esp_tx *tx, esp_id id)
{
	struct maildir *m = maildir_of(b);

	return tx->exec(tx, "INSERT INTO blob_trash (id, since) VALUES ($1, $2) ON CONFLICT (id) DO NOTHING",
	                (esp_sql_value[]){ ESP_SQL_ID(id), ESP_SQL_I(m->core.loop->wall(NULL)) }, 2, NULL);
}

esp_status folder_keep(const esp_blob *b, esp_tx *tx, esp_id id)
{
	(void)b;
	return tx->exec(tx, "DELETE FROM blob_trash WHERE id = $1", (esp_sql_value[]){ ESP_SQL_ID(id) }, 1, NULL);
}

void folder_hold(const esp_blob *b, int32_t on)
{
	atomic_fetch_add(&maildir_of(b)->held, on ? 1 : -1);
}

/* --- on the folder lane ----------------------------------------------------------------------------------------- */

struct round {
	struct maildir *m;
	const esp_sql_rows *rows;
	uint32_t *order;           /* of the rows */
	uint32_t done;             /* the first of order */
	uint32_t jobs, failed;     /* in them */
	uint32_t forgotten;        /* of them */
	esp_status waits;
};

static esp_str text(const esp_sql_rows *r, uint32_t row, uint32_t col) { return esp_sql_at(r, row, col)->s; }

static int moves_folder(const esp_blob_job *job)
{
	return job->kind == ESP_BLOB_MVFOLDER || job->kind == ESP_BLOB_RMFOLDER;
}

/* A row of many jobs is done again as a whole: each job may be. */
static esp_status do_row(struct round *r, uint32_t row)
{
	uint32_t n = jobs_of(r->rows, row);
	esp_status st = ESP_OK;

	for (uint32_t i = 0; i < n && !link_waits(st); i++, r->jobs++) {
		esp_blob_job job = jobs_at(r->rows, row, i);
		st = link_job(r->m, &job);
		r->failed += st != ESP_OK && !link_waits(st);
	}
	return st;
}

/* A folder that moves has a round of its own: what came before it is on the disk and forgotten, else it would be done
 * again where the folder was; and done again after a crash, the move must not meet what came after it. */
static int32_t on_round(void *arg)
{
	struct round *r = arg;
	struct names names = { .path = NULL };
	esp_status sync = ESP_OK;

	while (sync == ESP_OK && r->done < r->rows->nrows && lease_sure(&r->m->lease)) {
		esp_blob_job job = jobs_at(r->rows, r->order[r->done], 0);
		esp_status st;

		if (moves_folder(&job) && r->done)
			break;
		st = do_row(r, r->order[r->done]);
		if (link_waits(st)) {
			r->waits = st;
			break;
		}
		sync = names_add(&names, &job);
		r->done++;
		if (moves_folder(&job) || r->jobs >= JOBS_A_ROUND)
			break;
	}
	if (sync == ESP_OK)
		sync = names_sync(r->m, &names);
	if (sync != ESP_OK) {          /* nothing is forgotten that may get lost */
		r->done = 0;
		r->waits = sync;
	}
	names_free(&names);
	return ESP_OK;
}

/* --- the fiber -------------------------------------------------------------------------------------------------- */

static esp_status forget_tx(esp_tx *tx, void *arg)
{
	const struct round *r = arg;
	uint32_t end = r->done - r->forgotten > ROWS_A_COMMIT ? r->forgotten + ROWS_A_COMMIT : r->done;
	esp_status st = lease_check(&r->m->lease, tx);

	for (uint32_t i = r->forgotten; st == ESP_OK && i < end; i++)
		st = tx->exec(tx, "DELETE FROM blob_job WHERE id = $1", esp_sql_at(r->rows, r->order[i], 0), 1, NULL);
	return st;
}

static int by_account(const void *a, const void *b, void *arg)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
	esp_str p = text(arg, x, 2), q = text(arg, y, 2);
	int64_t m = esp_sql_at(arg, x, 8)->i, n = esp_sql_at(arg, y, 8)->i;
	int c = memcmp(p.ptr, q.ptr, p.len < q.len ? p.len : q.len);

	if (c == 0 && p.len != q.len)
		c = p.len < q.len ? -1 : 1;
	if (c == 0 && m != n)
		c = m < n ? -1 : 1;
	return c ? c : (x > y) - (x < y);
}

/* Ids are times of several machines; within an account only the order of its changes counts. */
static uint32_t *order_of(const esp_sql_rows *rows, esp_arena *arena)
{
	uint32_t *order = esp_alloc_array(arena, rows->nrows, sizeof *order);

	for (uint32_t i = 0; order && i < rows->nrows; i++)
		order[i] = i;
	if (order)
		qsort_r(order, rows->nrows, sizeof *order, by_account, (void *)(uintptr_t)rows);
	return order;
}

static void tell_failures(struct maildir *m, const struct round *r)
{
	if (r->failed)
		esp_log(m->core.log, m->self, ESP_LOG_WARNING, "folder jobs could not be done", ESP_FINT("jobs", r->failed));
	if (r->waits && m->core.loop->now() >= m->tell_at) {
		esp_log(m->core.log, m->self, ESP_LOG_WARNING, "folder jobs wait: the mail directory is full or not writable",
		        ESP_FINT("status", r->waits));
		m->tell_at = m->core.loop->now() + 60 * ESP_SEC;
	}
}

/* Returns 1 when there may be more to do at once. */
static int one_round(struct maildir *m, const esp_sql *sql, esp_arena *arena)
{
	esp_sql_rows rows = { .nrows = 0 };
	struct round round = { .m = m, .rows = &rows };
	esp_status st = sql->query(sql, 0, arena, jobs_select, (esp_sql_value[]){ ESP_SQL_I(JOBS_A_ROUND) }, 1, &rows);

	m->all_done = st == ESP_OK && rows.nrows == 0;
	if (st != ESP_OK || rows.nrows == 0 || !lease_hold(&m->lease, sql, arena))
		return 0;
	round.order = order_of(&rows, arena);
	st = round.order ? ESP_OK : ESP_ENOMEM;
	if (st == ESP_OK)
		st = m->core.pool->run(m->self, m->folder_lane, on_round, &round, NULL);
	while (st == ESP_OK && round.forgotten < round.done) {
		st = sql->transact(sql, NULL, 0, forget_tx, &round);
		round.forgotten = round.done - round.forgotten > ROWS_A_COMMIT ? round.forgotten + ROWS_A_COMMIT : round.done;
	}
	m->all_done = st == ESP_OK && round.done == rows.nrows && rows.nrows < JOBS_A_ROUND;
	tell_failures(m, &round);
	m->metric->add(m->jobs, st == ESP_OK ? round.jobs : 0);
	m->recent += round.jobs;
	return st == ESP_OK && !round.waits && (rows.nrows == JOBS_A_ROUND || round.done < rows.nrows);
}

static int32_t on_trash(void *arg)
{
	struct round *r = arg;

	for (uint32_t i = 0; i < r->rows->nrows; i++) {
		esp_id id;
		char name[40];
		if (text(r->rows, i, 0).len != sizeof id.b)
			continue;
		memcpy(id.b, text(r->rows, i, 0).ptr, sizeof id.b);
		file_name(id, name);
		if (unlinkat(r->m->blobs, name, 0) != 0 && errno != ENOENT)
			r->failed++;
	}
	return ESP_OK;
}

static esp_status forget_trash_tx(esp_tx *tx, void *arg)
{
	const esp_sql_rows *rows = arg;

	for (uint32_t i = 0; i < rows->nrows; i++) {
		esp_status st = tx->exec(tx, "DELETE FROM blob_trash WHERE id = $1", esp_sql_at(rows, i, 0), 1, NULL);
		if (st != ESP_OK)
			return st;
	}
	return ESP_OK;
}

static void empty_trash(struct maildir *m, const esp_sql *sql, esp_arena *arena)
{
	static const struct trouble_text text = { "removed messages wait for their files to go",
		"files of removed messages go again" };
	esp_time before = m->core.loop->wall(NULL) - m->grace / ESP_SEC;
	esp_sql_rows rows = { .nrows = 0 };
	struct round round = { .m = m, .rows = &rows };
	esp_status st = sql->query(sql, 0, arena, "SELECT id FROM blob_trash WHERE since <= $1 ORDER BY since LIMIT $2",
	                           (esp_sql_value[]){ ESP_SQL_I(before), ESP_SQL_I(JOBS_A_ROUND) }, 2, &rows);

	if (atomic_load(&m->held))     /* looked at last: who holds before it reads finds every file */
		return;
	if (st == ESP_OK && rows.nrows)
		st = m->core.pool->run(m->self, m->folder_lane, on_trash, &round, NULL);
	if (st == ESP_OK && rows.nrows)
		st = sql->transact(sql, NULL, 0, forget_trash_tx, &rows);
	trouble_note(&m->trash_trouble, &m->core, m->self, &text, st);
}

/* --- waiting for it --------------------------------------------------------------------------------------------- */

#define SETTLE_MOST (60 * ESP_SEC)
#define GATE_LOOKS  4u         /* so often found at the gate */

static const char NEWEST[] = "SELECT id FROM blob_job WHERE account = $1 ORDER BY id DESC LIMIT 1";
static const char OLDER[] = "SELECT COUNT(*) FROM blob_job WHERE account = $1 AND id <= $2";

/* While a provider is replaced the folder fiber cannot go on until its callers are out, and the caller is one of them:
 * ESP_EBUSY. */
static esp_status settle_in(struct maildir *m, esp_arena *arena, const esp_sql *sql, esp_str account)
{
	uint32_t gated = 0;
	esp_nsec until = m->core.loop->clock() + SETTLE_MOST;
	esp_sql_rows newest, left;
	esp_status st = sql->query(sql, 0, arena, NEWEST, (esp_sql_value[]){ ESP_SQL_T(account) }, 1, &newest);

	while (st == ESP_OK && newest.nrows) {
		esp_sql_value args[] = { ESP_SQL_T(account), *esp_sql_at(&newest, 0, 0) };
		atomic_store(&m->hurried, 1);
		folder_kick(&m->table);
		st = sql->query(sql, 0, arena, OLDER, args, 2, &left);
		if (st != ESP_OK || esp_sql_at(&left, 0, 0)->i == 0)
			break;
		gated = atomic_load(&m->at_gate) ? gated + 1 : 0;
		st = gated < GATE_LOOKS && m->core.loop->clock() < until
			? m->core.fiber->sleep_until(m->core.loop->clock() + GATHER / 5) : ESP_EBUSY;
	}
	return st;
}

esp_status folder_settle(const esp_blob *b, esp_str account)
{
	struct maildir *m = maildir_of(b);
	const esp_sql *sql = (const esp_sql *)m->core.host->service(m->self, m->sql);
	esp_arena *arena = m->core.mem->arena_new(m->self, "settle", 0);
	esp_status st = !arena ? ESP_ENOMEM : sql ? settle_in(m, arena, sql, account) : ESP_EUNAVAIL;

	if (arena)
		m->core.mem->arena_free(arena);
	return st;
}

static void on_kicked(void *arg)       /* worker 0 */
{
	struct maildir *m = arg;

	atomic_store(&m->posted, 0);
	m->pending = 1;
	m->core.fiber->signal(&m->kicked);
	if (atomic_exchange(&m->hurried, 0))
		m->core.fiber->signal(&m->hurry);
	if (m->ended && m->core.fiber->spawn(m->self, 0, "folder jobs", folder_fiber, m, NULL) == ESP_OK)
		m->ended = 0;
}

void folder_kick(const esp_blob *b)
{
	struct maildir *m = maildir_of(b);

	if (atomic_exchange(&m->posted, 1))
		return;
	/* a full mailbox: the fiber looks by itself every second */
	if (m->core.loop->post(m->self, m->core.loop->worker(0), on_kicked, m) != ESP_OK)
		atomic_store(&m->posted, 0);
}

void folder_drain(struct maildir *m)
{
	m->draining = m->pending = 1;
	m->core.fiber->signal(&m->kicked);
	m->core.fiber->signal(&m->hurry);
	m->core.fiber->signal(&m->sweep_ends);
}

static void leave(struct maildir *m)
{
	const esp_sql *sql = (const esp_sql *)m->core.host->service(m->self, m->sql);

	if (sql) {
		lease_release(&m->lease, sql);
		stopped_note(m, sql);
	}
}

static esp_status gather(struct maildir *m)
{
	esp_status st;

	(void)m->core.fiber->set_deadline(m->core.loop->now() + (m->recent < MANY_JOBS ? GATHER : GATHER_MANY));
	st = m->core.fiber->wait(&m->hurry);
	(void)m->core.fiber->set_deadline(0);
	return st;
}

/* At the stop others still end what they had begun: what they commit when nothing was left here begins it anew. */
void folder_fiber(void *arg)
{
	struct maildir *m = arg;
	esp_arena *arena = m->core.mem->arena_new(m->self, "folder jobs", 64 << 20);
	esp_nsec trash_at = 0;

	m->noted = 0;
	while (arena && !m->core.fiber->canceled()) {
		const esp_sql *sql;

		atomic_store(&m->at_gate, 1);
		sql = (const esp_sql *)m->core.host->service(m->self, m->sql);
		atomic_store(&m->at_gate, 0);
		m->pending = 0;
		m->recent = 0;
		while (sql && one_round(m, sql, arena))
			m->core.mem->arena_reset(arena);
		if (sql && m->core.loop->now() >= trash_at) {
			empty_trash(m, sql, arena);
			trash_at = m->core.loop->now() + 60 * ESP_SEC;
		}
		m->core.mem->arena_reset(arena);
		m->core.host->quiesce();
		if (m->draining && !m->pending)
			leave(m);
		if (m->draining && !m->pending) {
			m->ended = 1;
			break;
		}
		if (!m->pending) {
			(void)m->core.fiber->set_deadline(m->core.loop->now() + ESP_SEC);
			if (m->core.fiber->wait(&m->kicked) == ESP_ECANCELED)
				break;
			(void)m->core.fiber->set_deadline(0);
		}
		if (!m->draining && gather(m) == ESP_ECANCELED)
			break;
	}
	if (arena)
		m->core.mem->arena_free(arena);
}
