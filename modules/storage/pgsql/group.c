/* group - transactions, many per COMMIT.
 *
 * Jobs queue on their worker; a batch fiber for each writing connection takes what has gathered.  One BEGIN, the locks
 * of all (accounts, then mailboxes, in id order), then each job's function runs in the fiber that called transact():
 * while one waits for an answer the next one sends, so a batch takes as many round trips as its longest function.
 * Changes without a result are not waited for, and joined where they are alike (bundle.c): an error shows before
 * COMMIT, which the server then skips.  Functions that share a key (or have none) run one after the other, in order of
 * their coming.
 *
 * When a statement fails, the whole batch rolls back.  Whose it was runs again alone and carefully: every change in a
 * savepoint, every answer awaited, so that the function sees ESP_EEXIST where it happens; the innocent form the next
 * batch.  A function that fails before it changed anything harms nobody.
 *
 * The connection lost before COMMIT was sent: all run again on a new one.  After: outcome.c finds out.
 * Nothing runs again once the configured wait has passed: ESP_EUNAVAIL, nothing was committed.
 */
#include "pgsql.h"

#include <stdlib.h>

#define BATCH_MAX    64u          /* one bit each in a conflict mask */
#define ATTEMPTS_MAX 12u
#define ATTEMPTS_TOGETHER 4u      /* then alone: others' failures must not use up its time */

enum job_state { JOB_QUEUED = 1, JOB_HELD, JOB_RUNS, JOB_LEFT, JOB_ENDED };

struct batch;
struct job {
	struct job *next;
	const esp_sql_key *keys;
	uint32_t nkeys, place;            /* place: in its batch */
	esp_status (*fn)(esp_tx *tx, void *arg);
	void *arg;
	esp_arena *arena;
	struct batch *batch;
	esp_ticket ticket;
	enum job_state state;
	uint32_t careful, attempts;
	esp_nsec until;
	uint64_t changed;                 /* statements that changed rows, or may have */
	esp_status status, failure;       /* of the function; of its first statement that failed */
};

struct batch {
	struct hub *hub;
	struct link *link;
	struct job *job[BATCH_MAX];
	uint64_t after[BATCH_MAX];        /* which earlier jobs a job waits for */
	uint64_t unfinished;
	uint32_t n, left, broken;         /* broken: a statement failed, or the connection */
	uint32_t unclear;                 /* it failed, and whose it was cannot be said */
	struct bundles bundles;           /* changes that wait */
	esp_ticket ticket;                /* of the batch fiber, while it waits for the functions */
	esp_status failure;
	esp_id id;                        /* of its row in esp_outcome */
	esp_nsec began;
};

struct job_tx { esp_tx pub; struct job *job; };

/* --- statements of a function ---------------------------------------------------------------------------- */

static void blame(struct job *job, esp_status st)
{
	struct batch *b = job->batch;

	if (!b->broken) {
		b->broken = 1;
		b->failure = st;
		if (st != ESP_EUNAVAIL)
			job->failure = st;
	}
}

/* Results of a function stay until it returns: its rows point into them. */
static void clear_result(void *res) { PQclear(res); }

static esp_status take_rows(struct job *job, PGresult *res, esp_sql_rows *ret)
{
	esp_sql_rows ignored;
	esp_status st = job->arena->api->defer(job->arena, clear_result, res);

	if (st != ESP_OK) {
		PQclear(res);
		return st;
	}
	return result_rows(res, job->arena, 0, ret ? ret : &ignored);
}

static void on_quiet(void *arg, PGresult *res)
{
	struct job *job = arg;
	esp_status st = result_status(res);

	if (st != ESP_OK)
		blame(job, st);
	PQclear(res);
}

/* Everything here runs shielded: nothing cuts a wait short. */
static void await(struct call *c)
{
	if (call_wait(c) != ESP_OK)
		abort();
}

/* Send and wait.  The result, or NULL when the connection is lost. */
static esp_status call(struct link *l, const char *stmt, const esp_sql_value *args, uint32_t nargs, int sync,
	PGresult **ret)
{
	struct call c = { .hub = l->hub };
	esp_status st;

	c.ticket = l->hub->p->core.fiber->ticket();
	st = link_send(l, stmt, args, nargs, call_answered, &c, NULL);
	if (st != ESP_OK)
		return st;
	if (!sync)
		link_kick(l, 0);
	else if (link_sync(l) != ESP_OK)
		return ESP_EUNAVAIL;
	await(&c);
	*ret = c.res;
	return result_status(c.res);
}

/* A statement of all, or of nobody: when it fails, everybody runs alone. */
static void on_common(void *arg, PGresult *res)
{
	struct batch *b = arg;
	esp_status st = result_status(res);

	if (st != ESP_OK && !b->broken) {
		b->broken = 1;
		b->failure = st;
		b->unclear = st != ESP_EUNAVAIL && st != ESP_ECONFLICT && st != ESP_ENOSPC;
	}
	PQclear(res);
}

static esp_status send_bundles(struct batch *b)
{
	return b->bundles.first ? bundles_send(&b->bundles, b->link, on_common, b) : ESP_OK;
}

static esp_status send_quietly(struct job *job, const char *stmt, const esp_sql_value *args, uint32_t nargs)
{
	struct batch *b = job->batch;

	job->changed++;
	if (bundle_takes(stmt, nargs))
		return bundle_add(&b->bundles, stmt, args, nargs);
	return link_send(b->link, stmt, args, nargs, on_quiet, job, NULL);
}

static esp_status exec_together(
	struct job *job, const char *stmt, const esp_sql_value *args, uint32_t nargs, esp_sql_rows *ret)
{
	struct batch *b = job->batch;
	PGresult *res = NULL;
	esp_status st;

	if (b->broken)
		return ESP_ECONFLICT;
	/* a function sees its own changes, and those of the one it waited for */
	st = bundles_touch(&b->bundles, stmt) ? send_bundles(b) : ESP_OK;
	if (st == ESP_OK)
		st = ret ? call(b->link, stmt, args, nargs, 0, &res) : send_quietly(job, stmt, args, nargs);
	if (st != ESP_OK) {
		blame(job, st);
		PQclear(res);
		return st;
	}
	if (!ret)
		return ESP_OK;
	job->changed += result_changed(res);
	return take_rows(job, res, ret);
}

/* A change in a savepoint of its own: a unique violation leaves the transaction usable. */
static esp_status exec_carefully(
	struct job *job, const char *stmt, const esp_sql_value *args, uint32_t nargs, esp_sql_rows *ret)
{
	struct batch *b = job->batch;
	struct link *l = b->link;
	struct call c = { .hub = b->hub };
	PGresult *res = NULL;
	esp_status st;

	if (b->broken)
		return ESP_ECONFLICT;
	c.ticket = b->hub->p->core.fiber->ticket();
	st = link_send(l, "SAVEPOINT change", NULL, 0, NULL, NULL, NULL);
	if (st == ESP_OK)
		st = link_send(l, stmt, args, nargs, call_answered, &c, NULL);
	if (st == ESP_OK)
		st = link_send(l, "RELEASE SAVEPOINT change", NULL, 0, NULL, NULL, NULL);
	if (st == ESP_OK)
		st = link_sync(l);
	if (st == ESP_OK) {
		await(&c);
		st = result_status(c.res);
	}
	if (st == ESP_OK) {
		job->changed += result_changed(c.res);
		return take_rows(job, c.res, ret);
	}
	PQclear(c.res);
	if (st != ESP_EEXIST || call(l, "ROLLBACK TO SAVEPOINT change", NULL, 0, 1, &res) != ESP_OK)
		blame(job, st == ESP_EEXIST ? ESP_EUNAVAIL : st);
	PQclear(res);
	return st;
}

static esp_status tx_exec(esp_tx *tx, const char *stmt, const esp_sql_value *args, uint32_t nargs, esp_sql_rows *ret)
{
	struct job *job = ((struct job_tx *)tx)->job;

	return job->careful ? exec_carefully(job, stmt, args, nargs, ret) : exec_together(job, stmt, args, nargs, ret);
}

/* --- jobs ------------------------------------------------------------------------------------------------ */

static void job_set(struct job *job, enum job_state state)
{
	job->state = state;
	if (state == JOB_RUNS || state == JOB_ENDED)
		job->batch->hub->p->core.fiber->wake(job->ticket);
}

static void job_end(struct batch *b, struct job *job, esp_status st)
{
	job->status = st;
	job->batch = b;
	job_set(job, JOB_ENDED);
}

/* Those whose predecessors have left may run. */
static void start_ready(struct batch *b)
{
	for (uint32_t i = 0; i < b->n; i++)
		if (b->job[i]->state == JOB_HELD && !(b->after[i] & b->unfinished))
			job_set(b->job[i], JOB_RUNS);
}

static void job_run(struct job *job)
{
	struct job_tx tx = { .pub = { .exec = tx_exec, .arena = job->arena }, .job = job };
	struct batch *b = job->batch;

	job->status = job->fn(&tx.pub, job->arg);
	job->arena->api->arena_reset(job->arena);
	job->state = JOB_LEFT;
	b->unfinished &= ~(UINT64_C(1) << job->place);
	b->left++;
	start_ready(b);
	if (b->left == b->n)
		b->hub->p->core.fiber->wake(b->ticket);
}

static void queue_last(struct hub *h, struct job *job)
{
	job->state = JOB_QUEUED;
	job->next = NULL;
	*h->end = job;
	h->end = &job->next;
	h->njobs++;
}

static struct job *queue_take(struct hub *h)
{
	struct job *job = h->first;

	if (job) {
		h->first = job->next;
		if (!h->first)
			h->end = &h->first;
		h->njobs--;
	}
	return job;
}

static void queue_first(struct hub *h, struct job *job)
{
	job->state = JOB_QUEUED;
	job->batch = NULL;
	job->next = h->first;
	h->first = job;
	if (!job->next)
		h->end = &job->next;
	h->njobs++;
}

void group_expire(struct hub *h, esp_nsec now)
{
	struct batch nowhere = { .hub = h };
	struct job **p = &h->first;

	while (*p) {
		struct job *job = *p;
		if (now < job->until) {
			p = &job->next;
			continue;
		}
		*p = job->next;
		h->njobs--;
		job_end(&nowhere, job, ESP_EUNAVAIL);
	}
	h->end = p;
}

/* --- a batch --------------------------------------------------------------------------------------------- */

static int share_key(const struct job *a, const struct job *b)
{
	if (a->nkeys == 0 || b->nkeys == 0)
		return a->nkeys == b->nkeys;
	for (uint32_t i = 0; i < a->nkeys; i++)
		for (uint32_t k = 0; k < b->nkeys; k++)
			if (memcmp(&a->keys[i].id, &b->keys[k].id, sizeof(esp_id)) == 0)
				return 1;
	return 0;
}

static void gather(struct hub *h, struct batch *b)
{
	struct job *job;

	while (b->n < BATCH_MAX && (job = h->first) != NULL && !(job->careful && b->n)) {
		(void)queue_take(h);
		job->batch = b;
		job->place = b->n;
		job->changed = 0;
		job->failure = ESP_OK;
		job->state = JOB_HELD;
		for (uint32_t i = 0; i < b->n; i++)
			if (share_key(job, b->job[i]))
				b->after[b->n] |= UINT64_C(1) << i;
		b->unfinished |= UINT64_C(1) << b->n;
		b->job[b->n++] = job;
		if (job->careful)
			break;
	}
}

static int by_id(const void *a, const void *b) { return memcmp(a, b, sizeof(esp_id)); }

/* The ids of one kind as a bytea[] on the wire; *ret_n may be 0. */
static char *key_array(const struct batch *b, uint32_t kind, uint32_t *ret_n, size_t *ret_len)
{
	enum { HEAD = 20, ITEM = 4 + sizeof(esp_id) };
	uint32_t most = 0, n = 0;
	esp_id *id;
	char *text;

	for (uint32_t i = 0; i < b->n; i++)
		most += b->job[i]->nkeys;
	id = calloc(most + 1, sizeof *id);
	text = malloc(HEAD + (size_t)(most + 1) * ITEM);
	for (uint32_t i = 0; id && text && i < b->n; i++)
		for (uint32_t k = 0; k < b->job[i]->nkeys; k++)
			if (b->job[i]->keys[k].kind == kind)
				id[n++] = b->job[i]->keys[k].id;
	if (n)
		qsort(id, n, sizeof *id, by_id);
	*ret_n = 0;
	for (uint32_t i = 0; i < n; i++) {
		if (i && by_id(&id[i], &id[i - 1]) == 0)
			continue;
		memcpy(text + HEAD + *ret_n * ITEM, (const char[]){ 0, 0, 0, sizeof(esp_id) }, 4);
		memcpy(text + HEAD + (*ret_n)++ * ITEM + 4, &id[i], sizeof(esp_id));
	}
	free(id);
	if (text) {                       /* dimensions, no NULLs, type, length, lower bound */
		const uint32_t head[5] = { __builtin_bswap32(1), 0, __builtin_bswap32(OID_BYTEA), __builtin_bswap32(*ret_n),
			__builtin_bswap32(1) };
		memcpy(text, head, HEAD);
	}
	*ret_len = HEAD + (size_t)*ret_n * ITEM;
	return text;
}

/* Rows are locked in the order they are sorted. */
static esp_status lock_kind(struct batch *b, uint32_t kind, const char *stmt)
{
	uint32_t n;
	size_t len;
	char *array = key_array(b, kind, &n, &len);
	esp_status st = ESP_OK;

	if (!array)
		return ESP_ENOMEM;
	if (n)
		st = link_send(b->link, stmt, &(esp_sql_value){ .type = SQL_ARRAY, .reserved = array_of(OID_BYTEA),
			.s = { array, len } }, 1, on_common, b, NULL);
	free(array);
	return st;
}

/* One job that locks one account and one mailbox at most locks them itself, in that order. */
static int needs_locks(const struct batch *b)
{
	uint32_t kinds[3] = { 0 };

	for (uint32_t i = 0; i < b->n; i++)
		for (uint32_t k = 0; k < b->job[i]->nkeys; k++)
			kinds[b->job[i]->keys[k].kind == ESP_SQL_KEY_ACCOUNT ? 1 : 2]++;
	return kinds[1] > 1 || kinds[2] > 1;
}

static esp_status begin(struct batch *b)
{
	struct link *l = b->link;
	esp_status st;

	b->began = b->hub->p->core.loop->clock();
	st = link_send(l, "BEGIN", NULL, 0, NULL, NULL, NULL);

	if (st == ESP_OK)
		st = outcome_record(l, &b->id, on_common, b);
	if (st != ESP_OK || !needs_locks(b))
		return st;
	st = lock_kind(b, ESP_SQL_KEY_ACCOUNT,
		"SELECT 1 FROM mail_account WHERE account_id = ANY ($1) ORDER BY account_id FOR UPDATE");
	if (st == ESP_OK)
		st = lock_kind(b, ESP_SQL_KEY_MAILBOX,
			"SELECT 1 FROM mailbox WHERE id = ANY ($1) ORDER BY id FOR UPDATE");
	return st;
}

static void run_functions(struct batch *b)
{
	const esp_fiber_api *fiber = b->hub->p->core.fiber;

	hub_watch_time(b->hub);
	start_ready(b);
	while (b->left < b->n) {
		b->ticket = fiber->ticket();
		if (fiber->suspend() != ESP_OK)
			abort();
	}
}

/* The error of a lost connection or one that must not be used again. */
static void check_link(struct batch *b)
{
	if (b->failure == ESP_EUNAVAIL && b->link->up)
		link_lost(b->link, "the server is going away");
}

/* Nothing of the batch may stay.  After an error the server is silent up to the next sync. */
static void roll_back(struct batch *b)
{
	PGresult *res = NULL;

	check_link(b);
	if (b->link->up && link_sync(b->link) == ESP_OK && call(b->link, "ROLLBACK", NULL, 0, 1, &res) != ESP_OK &&
		b->link->up)
		link_lost(b->link, "ROLLBACK failed");
	PQclear(res);
}

/* ESP_OK, ESP_ECONFLICT: not committed, may run again; ESP_EUNKNOWN. */
static esp_status commit(struct batch *b)
{
	struct pgsql *p = b->hub->p;
	PGresult *res = NULL;
	esp_nsec ready;
	esp_status st;

	if (send_bundles(b) != ESP_OK || b->broken)
		return ESP_ECONFLICT;
	ready = p->core.loop->clock();
	st = call(b->link, "COMMIT", NULL, 0, 1, &res);
	timing_observe_sql(p->metric, &p->seconds, b->began, ready, p->core.loop->clock());
	if (st == ESP_OK)
		st = strcmp(PQcmdStatus(res), "COMMIT") == 0 ? ESP_OK : ESP_ECONFLICT;
	if (st == ESP_EUNAVAIL) {
		if (b->link->up)
			link_lost(b->link, "the server is going away");
		p->metric->add(p->unknown, 1);
		st = outcome_of(b->hub, b->id);
	}
	PQclear(res);
	return st;
}

/* --- what becomes of the jobs ---------------------------------------------------------------------------- */

static void finish_all(struct batch *b, esp_status st)
{
	for (uint32_t i = 0; i < b->n; i++)
		job_end(b, b->job[i], st == ESP_OK || b->job[i]->status < 0 ? b->job[i]->status : st);
}

static esp_status give_up_status(const struct batch *b, const struct job *job)
{
	switch (job->failure ? job->failure : b->failure) {
	case ESP_ENOSPC: return ESP_ENOSPC;
	case ESP_EUNAVAIL: return ESP_EUNAVAIL;
	default: return ESP_EBUSY;
	}
}

/* Two nodes that met must not meet again at once. */
static void step_aside(const struct batch *b)
{
	const esp_core *core = &b->hub->p->core;
	esp_nsec now = core->loop->clock();

	if (b->failure == ESP_ECONFLICT && core->fiber->sleep_until(now + ESP_MSEC + now / 7 % (8 * ESP_MSEC)) != ESP_OK)
		abort();
}

/* Back to the head of the queue, in order; who had its chances ends. */
static void run_again(struct batch *b)
{
	esp_nsec now;

	step_aside(b);
	now = b->hub->p->core.loop->clock();
	for (uint32_t i = b->n; i-- > 0; ) {
		struct job *job = b->job[i];
		int own_fault = job->failure != ESP_OK || (job->status < 0 && !b->broken) || b->unclear;
		/* a conflict with another node is nobody's fault; neither is a connection that was lost */
		if ((own_fault && job->failure != ESP_ECONFLICT) || job->attempts >= ATTEMPTS_TOGETHER)
			job->careful = 1;
		if (++job->attempts > ATTEMPTS_MAX || now >= job->until)
			job_end(b, job, give_up_status(b, job));
		else
			queue_first(b->hub, job);
	}
	b->hub->p->metric->add(b->hub->p->retries, b->n);
}

/* A function failed after it changed something: only a rollback takes that back. */
static int must_roll_back(const struct batch *b)
{
	for (uint32_t i = 0; i < b->n; i++)
		if (b->job[i]->status < 0 && b->job[i]->changed)
			return 1;
	return b->broken;
}

/* Its function said no with every answer in hand: that is its answer, whoever is beside it. */
static int lone_refusal(const struct batch *b)
{
	const struct job *job = b->job[0];

	return b->n == 1 && job->status < 0 && job->failure != ESP_EUNAVAIL && job->failure != ESP_ECONFLICT &&
	       b->failure != ESP_EUNAVAIL && b->failure != ESP_ECONFLICT && (job->careful || !b->broken);
}

static void settle(struct batch *b)
{
	struct pgsql *p = b->hub->p;
	esp_status st = ESP_ECONFLICT;
	int refused;

	if (must_roll_back(b)) {
		refused = lone_refusal(b);
		roll_back(b);
		if (refused)
			finish_all(b, ESP_OK);
		else
			run_again(b);
		return;
	}
	st = commit(b);
	if (st == ESP_OK || st == ESP_EUNKNOWN) {
		p->metric->add(p->commits, st == ESP_OK);
		p->metric->add(p->transactions, st == ESP_OK ? b->n : 0);
		finish_all(b, st);
		return;
	}
	roll_back(b);
	run_again(b);
}

static void run_batch(struct link *l)
{
	struct batch b = { .hub = l->hub, .link = l };

	b.bundles.end = &b.bundles.first;
	gather(l->hub, &b);
	if (b.n == 0)
		return;
	if (begin(&b) != ESP_OK && !b.broken) {
		b.broken = 1;
		b.failure = ESP_EUNAVAIL;
	}
	run_functions(&b);
	settle(&b);
	bundles_free(&b.bundles);
}

static void on_work(void *arg)
{
	struct link *l = arg;
	struct hub *h = l->hub;
	const esp_fiber_api *fiber = h->p->core.fiber;

	fiber->shield(1);                 /* callers wait for their answers, whatever becomes of us */
	while (l->up && h->first)
		run_batch(l);
	if (l->up)
		outcome_prune(l);
	l->busy = 0;
	fiber->shield(0);
	hub_changed(h);
}

/* A second batch beside a running one only for many: a larger batch costs less than two. */
void group_work(struct hub *h)
{
	for (uint32_t i = h->nreaders; h->first && i < h->nlinks; i++) {
		struct link *l = &h->link[i];
		if (l->busy && h->njobs < BATCH_MAX / 2)
			return;
		if (l->busy)
			continue;
		if (!l->up) {
			link_want(l);
			continue;
		}
		l->busy = 1;
		if (h->p->core.fiber->spawn(h->p->self, 0, "pgsql batch", on_work, l, NULL) == ESP_OK)
			return;
		l->busy = 0;
	}
}

/* --- the service ----------------------------------------------------------------------------------------- */

/* Transactions of one account meet on one worker: two batches would wait for each other's COMMIT. */
static uint32_t home_of(const struct pgsql *p, const struct job *job)
{
	uint64_t h;

	if (job->nkeys == 0)
		return 0;
	memcpy(&h, job->keys[0].id.b + 8, sizeof h);
	h *= UINT64_C(0x9e3779b97f4a7c15);
	return (uint32_t)((h >> 32) % p->nworkers);
}

static esp_status transact_here(struct hub *h, struct job *job)
{
	const esp_core *core = &h->p->core;

	if (h->njobs >= QUEUE_MAX)
		return ESP_EBUSY;
	job->until = core->loop->clock() + h->p->set.wait;
	job->arena = core->mem->arena_new(h->p->self, "pgsql-tx", 2 * (size_t)BYTES_MAX);
	if (!job->arena)
		return ESP_ENOMEM;
	queue_last(h, job);
	hub_watch_time(h);
	group_work(h);
	for (;;) {
		job->ticket = core->fiber->ticket();
		if (job->state == JOB_RUNS)
			job_run(job);
		else if (job->state == JOB_ENDED)
			break;
		else if (core->fiber->suspend() != ESP_OK)
			abort();
	}
	core->mem->arena_free(job->arena);
	return job->status;
}

struct errand { struct hub *hub; struct job *job; esp_ticket ticket; esp_status status; int done; };

static void on_errand(void *arg)      /* the job's home */
{
	struct errand *e = arg;
	esp_ticket ticket = e->ticket;
	const esp_fiber_api *fiber = e->hub->p->core.fiber;

	fiber->shield(1);
	e->status = transact_here(e->hub, e->job);
	fiber->shield(0);
	__atomic_store_n(&e->done, 1, __ATOMIC_RELEASE);
	fiber->wake(ticket);              /* e is gone */
}

static esp_status transact_there(struct hub *h, struct job *job)
{
	const esp_core *core = &h->p->core;
	struct errand e = { .hub = h, .job = job };
	esp_status st;

	e.ticket = core->fiber->ticket();
	st = core->loop->post_fiber(h->p->self, core->loop->worker(h->index), "pgsql transaction", on_errand, &e);
	if (st != ESP_OK)
		return st;
	while (!__atomic_load_n(&e.done, __ATOMIC_ACQUIRE))
		if (core->fiber->suspend() != ESP_OK)
			abort();
	return e.status;
}

esp_status pgsql_transact(const esp_sql *sql, const esp_sql_key *keys, uint32_t nkeys,
	esp_status (*fn)(esp_tx *tx, void *arg), void *arg)
{
	struct pgsql *p = (struct pgsql *)(uintptr_t)sql;
	struct job job = { .keys = keys, .nkeys = nkeys, .fn = fn, .arg = arg };
	struct hub *home = &p->hub[home_of(p, &job)];
	esp_status st;

	if (!pause_enter(&p->pause))
		return ESP_EUNAVAIL;
	p->core.fiber->shield(1);
	st = hub_here(p) == home ? transact_here(home, &job) : transact_there(home, &job);
	p->core.fiber->shield(0);
	pause_leave(&p->pause);
	return st;
}

esp_status pgsql_pause(const esp_sql *sql, int32_t on)
{
	struct pgsql *p = (struct pgsql *)(uintptr_t)sql;

	return pause_set(&p->core, &p->pause, on);
}
