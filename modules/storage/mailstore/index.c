/* index - fills the search index behind the mailboxes' backs.
 *
 * Each worker indexes the mailboxes at home there.  Those that changed are `due`; some time after the first of them
 * came, a fiber takes as many as fill a batch, reads the new messages' texts on a lane of low priority and hands them
 * to the index, which remembers in the same transaction how far it came.  So everything is resumable, and a crash costs
 * nothing but what is made again.  At start all mailboxes are compared with their marks, a page at a time, and then
 * all marks with the mailboxes: what was missed, was deleted, or is not indexed yet is found there.
 *
 * What was expunged is told by the change log; where it does not reach back, the gaps between the UIDs there are.
 * While changes come in, the index takes a twentieth of a worker's time: mail comes first, and what waits is read by
 * who searches.
 * A message that cannot be read because it is gone counts as indexed; after any other failure its mailbox is set aside
 * for some seconds and the others go on.  An index that was away may know less when it is back, and it is one worker
 * that hears of it: all compare everything again.
 */
#include "indexer.h"

#include <stdlib.h>

#define INDEXER_MAGIC 0x58444e49u
#define SETTLE       (300 * ESP_MSEC)   /* changes gather */
#define PAUSE        (2 * ESP_MSEC)     /* between batches when nothing else goes on */
#define BUSY_SHARE   19                 /* while changes come in: so many times a batch's time is left to others */
#define LATE_SHARE   2                  /* when the oldest change has waited this long: */
#define LATE         (60 * ESP_SEC)
#define FAILED_WAIT  (5 * ESP_SEC)
#define ASIDE_MOST   16u                /* of a batch: then it is no matter of single mailboxes */
#define BATCH_BOXES  256u
#define SCAN_PAGE    200u

static void arm(struct indexer *x, esp_nsec delay);

static void tell(struct indexer *x, esp_status st)
{
	static const struct trouble_text text = { "the search index falls behind: mailboxes cannot be read",
		"the search index knows every mailbox again" };

	trouble_note(&x->trouble, &x->m->core, x->m->self, &text, st);
}

/* It cannot be indexed now; one that became due once more meanwhile is tried at once. */
static void due_aside(struct indexer *x, struct due *d, esp_status st)
{
	tell(x, st);
	d->not_before = x->m->core.loop->now() + FAILED_WAIT;
	due_again(x, d);
}

/* --- a batch ----------------------------------------------------------------------------------------------- */

/* This mailbox does not come into the batch.  When many cannot, what fails is something else, and all wait. */
static esp_status not_planned(struct batch *b, struct due *d, esp_status st)
{
	if (st == ESP_EUNAVAIL || st == ESP_ECANCELED) {
		due_again(b->x, d);
		return st;
	}
	due_aside(b->x, d, st);
	return ++b->naside < ASIDE_MOST || b->nupdates ? ESP_OK : st;
}

static esp_status fill(struct batch *b)
{
	esp_status st = ESP_OK;

	while (st == ESP_OK && b->nupdates < BATCH_BOXES && b->naside < ASIDE_MOST && b->ndocs < BATCH_DOCS &&
		   b->bytes < BATCH_BYTES) {
		struct due *d = due_pop(b->x);
		esp_text_update *u = &b->update[b->nupdates];
		int wanted = 0;
		if (!d)
			break;
		*u = (esp_text_update){ .size = sizeof *u, .scope = d->mailbox };
		b->task[b->nupdates] = (struct task){ .due = d };
		st = index_plan(b, u, &wanted);
		if (st == ESP_OK && wanted) {
			b->nupdates++;
			continue;
		}
		if (st == ESP_OK)
			due_free(b->x, d);
		else
			st = not_planned(b, d, st);
	}
	return st;
}

static void settle(struct batch *b, esp_status st)
{
	const struct mailstore *m = b->m;
	esp_nsec now = m->core.loop->clock();

	for (uint32_t i = 0; i < b->nupdates; i++) {
		struct due *d = b->task[i].due;
		int done = st == ESP_OK && b->update[i].status == ESP_OK;
		if (done) {
			m->metric->add(m->index_texts, b->update[i].ndocs);
			m->metric->observe(m->index_lag, (double)(now - d->since) / (double)ESP_SEC);
		}
		if (done && !b->task[i].busy && !(b->update[i].gone.n && b->update[i].after.epoch == 0))
			due_free(b->x, d);
		else
			due_again(b->x, d);
	}
}

static esp_status batch_in(struct batch *b)
{
	esp_status st;

	b->update = esp_alloc_array(b->arena, BATCH_BOXES, sizeof *b->update);
	b->task = esp_alloc_array(b->arena, BATCH_BOXES, sizeof *b->task);
	b->doc = esp_alloc_array(b->arena, BATCH_DOCS, sizeof *b->doc);
	b->file = esp_alloc_array(b->arena, BATCH_DOCS, sizeof *b->file);
	if (!b->update || !b->task || !b->doc || !b->file)
		return ESP_ENOMEM;
	st = fill(b);
	if (st == ESP_OK)
		st = index_texts(b);
	if (st == ESP_OK && b->nupdates)
		st = b->ti->update(b->ti, b->update, b->nupdates);
	settle(b, st);
	for (uint32_t i = 0; i < b->ndocs; i++)
		b->blob->close_file(b->blob, &b->file[i]);
	return st;
}

/* --- everything, a page at a time -------------------------------------------------------------------------- */

static const char MAILBOXES[] =
	"SELECT id, uidnext, modseq FROM mailbox WHERE id > $1 AND uidnext > 1 ORDER BY id LIMIT 200";

static esp_status scan_mailboxes(struct batch *b)
{
	struct indexer *x = b->x;
	uint32_t scans = x->scans;
	esp_sql_rows rows;
	esp_status st = store_query(b->m, 0, b->arena, MAILBOXES, (esp_sql_value[]){ ESP_SQL_ID(x->scan_at) }, 1, &rows);

	for (uint32_t i = 0; st == ESP_OK && i < rows.nrows; i++) {
		esp_id id = id_of(esp_sql_at(&rows, i, 0));
		esp_text_mark mark;
		if (home_index(b->m, id) != x->worker)
			continue;
		st = b->ti->mark(b->ti, id, &mark);
		if (st == ESP_OK && (mark.upto + 1 < (uint64_t)int_of(esp_sql_at(&rows, i, 1)) ||
			mark.modseq != (uint64_t)int_of(esp_sql_at(&rows, i, 2))))
			due_add(x, id, b->m->core.loop->clock(), 1);
	}
	if (st != ESP_OK)
		return st;
	if (rows.nrows < SCAN_PAGE)
		scan_on(x, scans, SCAN_MARKS, (esp_id){ { 0 } });
	else
		scan_on(x, scans, SCAN_MAILBOXES, id_of(esp_sql_at(&rows, rows.nrows - 1, 0)));
	return ESP_OK;
}

static esp_status scan_marks(struct batch *b)
{
	struct indexer *x = b->x;
	const esp_id *id = NULL;
	struct box_head h;
	uint32_t scans = x->scans, n = 0;
	esp_status st = b->ti->scopes(b->ti, b->arena, x->scan_at, &id, &n);

	for (uint32_t i = 0; st == ESP_OK && i < n; i++) {
		if (home_index(b->m, id[i]) != x->worker)
			continue;
		st = index_head(b, id[i], &h);
		if (st == ESP_ENOENT) {
			due_add(x, id[i], b->m->core.loop->clock(), 1);
			st = ESP_OK;
		}
	}
	if (st == ESP_OK)
		scan_on(x, scans, n ? SCAN_MARKS : SCAN_DONE, n ? id[n - 1] : x->scan_at);
	return st;
}

/* --- the fiber --------------------------------------------------------------------------------------------- */

static void forget_all(struct indexer *x)
{
	struct due *d;

	due_return(x, INT64_MAX);
	while ((d = due_pop(x)) != NULL)
		due_free(x, d);
}

static esp_status work(struct indexer *x)
{
	struct batch b = { .x = x, .m = x->m, .ti = store_textindex(x->m) };
	esp_status st;

	b.blob = (const esp_blob *)x->m->core.host->service(x->m->self, x->m->blob);
	if (!b.ti || !b.blob) {   /* all is compared when there is one */
		forget_all(x);
		return ESP_EUNAVAIL;
	}
	b.arena = x->m->core.mem->arena_new(x->m->self, "mailstore-index", (size_t)256 << 20);
	if (!b.arena)
		return ESP_ENOMEM;
	due_return(x, x->m->core.loop->now());
	if (x->first)
		st = batch_in(&b);
	else
		st = x->scan == SCAN_MAILBOXES ? scan_mailboxes(&b) : x->scan == SCAN_MARKS ? scan_marks(&b) : ESP_OK;
	x->m->core.mem->arena_free(b.arena);
	return st;
}

static void indexer_free(struct indexer *x)
{
	forget_all(x);
	x->magic = 0;
	free(x);
}

/* How long to leave the machine to others after a batch that took so long. */
static esp_nsec pause_after(const struct indexer *x, esp_nsec took)
{
	esp_nsec waited = x->first ? x->m->core.loop->now() - x->first->since : 0;

	if (x->noted == 0)
		return PAUSE;
	return PAUSE + took * (waited > LATE ? LATE_SHARE : BUSY_SHARE);
}

static void on_away(void *arg)         /* each worker */
{
	const struct mailstore *m = arg;
	struct indexer *x = m->indexer[m->core.loop->index(m->core.loop->here())];

	if (!x)
		return;
	scan_again(x);
	arm(x, FAILED_WAIT);
}

/* Those whose mailboxes of messages are full hear of it behind the next batch. */
static void tell_others(struct indexer *x)
{
	const esp_loop_api *loop = x->m->core.loop;
	void *m = (void *)(uintptr_t)x->m;

	for (; x->untold; x->untold--)
		if (x->untold - 1 != x->worker && loop->post(x->m->self, loop->worker(x->untold - 1), on_away, m) != ESP_OK)
			return;
}

/* Until the first that is set aside has its turn, or something else is to be done. */
static void rest(struct indexer *x)
{
	esp_nsec now = x->m->core.loop->now();

	arm(x, x->aside->not_before > now ? x->aside->not_before - now : PAUSE);
	x->resting = 1;
}

static void on_work(void *arg)
{
	struct indexer *x = arg;
	esp_nsec start = x->m->core.loop->clock();
	esp_status st;

	x->noted = 0;
	st = work(x);
	if (st == ESP_EUNAVAIL) {
		scan_again(x);
		x->untold = x->m->nworkers;
	}
	tell_others(x);
	if (st != ESP_OK ? st != ESP_EUNAVAIL : !x->first && !x->aside && x->scan == SCAN_DONE)
		tell(x, st);
	x->running = 0;
	if (x->stopped)
		indexer_free(x);
	else if (x->first || x->scan != SCAN_DONE || x->untold)
		arm(x, st == ESP_OK ? pause_after(x, x->m->core.loop->clock() - start) : FAILED_WAIT);
	else if (x->aside)
		rest(x);
}

static void on_timer(void *arg)
{
	struct indexer *x = arg;

	x->timer = NULL;
	if (atomic_load(&x->m->draining))
		return;
	x->running = 1;
	if (x->m->core.fiber->spawn(x->m->self, 0, "mailstore.index", on_work, x, NULL) == ESP_OK)
		return;
	x->running = 0;
	arm(x, FAILED_WAIT);
}

static void arm(struct indexer *x, esp_nsec delay)
{
	if (x->timer && x->resting) {
		x->m->core.loop->untimer(x->timer);
		x->timer = NULL;
	}
	x->resting = 0;
	if (!x->timer && !x->running && !atomic_load(&x->m->draining))
		x->timer = x->m->core.loop->after(x->m->self, delay, on_timer, x);
}

void index_note(const struct mailstore *m, esp_id mailbox)
{
	uint32_t here = home_index(m, mailbox);
	struct indexer *x = m->indexer[here];

	if (!x)
		return;
	if (x->magic != INDEXER_MAGIC)
		abort();
	x->noted++;
	due_add(x, mailbox, m->core.loop->now(), 1);
	arm(x, SETTLE);
}

/* --- life -------------------------------------------------------------------------------------------------- */

esp_status index_declare(struct mailstore *m)
{
	static const double bounds[] = { 0.5, 1, 2, 5, 10, 30, 60, 300, 3600 };
	esp_status st = m->metric->declare(m->self, ESP_COUNTER, "esp_search_indexed_total", "",
		"Messages whose text was put into the search index", NULL, 0, &m->index_texts);

	if (st == ESP_OK)
		st = m->metric->declare(m->self, ESP_GAUGE, "esp_search_waiting", "",
			"Changes of mailboxes the search index does not know yet", NULL, 0, &m->index_waiting);
	if (st == ESP_OK)
		st = m->metric->declare(m->self, ESP_HISTOGRAM, "esp_search_lag_seconds", "",
			"Time from a mailbox's change to its place in the search index", bounds,
			sizeof bounds / sizeof bounds[0], &m->index_lag);
	m->index_lane = m->core.pool->open(m->self, "index-read", 1, 1024);
	return st == ESP_OK && !m->index_lane ? ESP_ENOMEM : st;
}

esp_status index_start(struct mailstore *m, uint32_t worker)
{
	struct indexer *x = calloc(1, sizeof *x);

	if (!x)
		return ESP_ENOMEM;
	x->magic = INDEXER_MAGIC;
	x->m = m;
	x->worker = worker;
	x->end = &x->first;
	x->aside_end = &x->aside;
	m->indexer[worker] = x;
	arm(x, SETTLE);
	return ESP_OK;
}

void index_stop(struct mailstore *m, uint32_t worker)
{
	struct indexer *x = m->indexer[worker];

	if (!x)
		return;
	m->indexer[worker] = NULL;
	if (x->timer)
		m->core.loop->untimer(x->timer);
	x->timer = NULL;
	x->stopped = 1;
	if (!x->running)
		indexer_free(x);   /* else its fiber does */
}
