/* index - fills the search index behind the mailboxes' backs.
 *
 * Each worker indexes the mailboxes at home there.  Those that changed are `due`; some time after the first of them
 * came, a fiber takes as many as fill a batch, reads the new messages' texts on a lane of low priority and hands them
 * to the index, which remembers in the same transaction how far it came.  So everything is resumable, and a crash costs
 * nothing but what is made again.  At start all mailboxes are compared with their marks, a page at a time, and then
 * all marks with the mailboxes: what was missed, was deleted, or is not indexed yet is found there.
 *
 * What was expunged is told by the change log; where it does not reach back, the gaps between the UIDs there are.
 * While changes come in, the index takes a tenth of a thread's time: mail comes first, and what waits is read by who
 * searches.
 * A message that cannot be read because it is gone counts as indexed; after any other failure its mailbox is set aside
 * for some seconds and the others go on.  An index that was away may know less when it is back, and it is one worker
 * that hears of it: all compare everything again.
 */
#include "index.h"
#include "home.h"

#include "modules/common/trouble.h"

#include <esp/mail/text.h>
#include <esp/mail/utf8.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#define INDEXER_MAGIC 0x58444e49u
#define BUCKETS      1024u
#define DUE_MAX      100000u            /* beyond that, everything is compared again */
#define SETTLE       (300 * ESP_MSEC)   /* changes gather */
#define PAUSE        (2 * ESP_MSEC)     /* between batches when nothing else goes on */
#define BUSY_SHARE   9                  /* while changes come in: so many times a batch's time is left to others */
#define LATE_SHARE   2                  /* when the oldest change has waited this long: */
#define LATE         (60 * ESP_SEC)
#define FAILED_WAIT  (5 * ESP_SEC)
#define ASIDE_MOST   16u                /* of a batch: then it is no matter of single mailboxes */
#define BATCH_DOCS   256u
#define BATCH_BYTES  (8u << 20)         /* of messages, before decoding */
#define BATCH_BOXES  256u
#define SCAN_PAGE    200u
#define TEXT_MAX     (1u << 20)         /* of one message's header, and of its body */
#define QUIET_MODSEQ 500u               /* a mark this far behind is moved although there is nothing to index */
#define UID_PAGE     20000u
#define NICE         15

struct due { esp_id mailbox; esp_nsec since, not_before; uint32_t changes; struct due *next, *next_in_bucket; };

enum scan { SCAN_MAILBOXES, SCAN_MARKS, SCAN_DONE };

struct indexer {
	uint32_t magic, worker;
	const struct mailstore *m;
	struct due *bucket[BUCKETS], *first, **end;
	struct due *aside, **aside_end;    /* not before their time, which ascends */
	struct trouble trouble;
	uint32_t ndue, running, stopped, resting;
	uint32_t noted;                    /* changes since the last batch began */
	uint32_t untold;                   /* the first so many workers are still to hear that the index was away */
	esp_timer *timer;
	enum scan scan;
	esp_id scan_at;
	uint32_t scans;                    /* so many times begun: one that is under way hears that it is to begin again */
};

/* One mailbox of a batch. */
struct task { struct due *due; uint32_t busy; };

struct batch {
	struct indexer *x;
	const struct mailstore *m;
	const esp_textindex *ti;
	const esp_blob *blob;
	esp_arena *arena;
	esp_text_update *update;
	struct task *task;
	uint32_t nupdates, ndocs;
	uint64_t bytes;
	uint32_t naside;
	esp_text_doc *doc;               /* BATCH_DOCS */
	esp_blob_file *file;             /* beside doc */
};

/* --- what is due ------------------------------------------------------------------------------------------- */

static struct due **bucket_of(struct indexer *x, esp_id id)
{
	uint32_t h;

	memcpy(&h, id.b + 12, sizeof h);
	return &x->bucket[h % BUCKETS];
}

static void arm(struct indexer *x, esp_nsec delay);

static struct due *due_find(struct indexer *x, esp_id mailbox)
{
	struct due *d = *bucket_of(x, mailbox);

	while (d && !same_id(d->mailbox, mailbox))
		d = d->next_in_bucket;
	return d;
}

static void due_append(struct due ***end, struct due *d)
{
	d->next = NULL;
	**end = d;
	*end = &d->next;
}

static void due_push(struct indexer *x, struct due *d)
{
	due_append(d->not_before ? &x->aside_end : &x->end, d);
	d->next_in_bucket = *bucket_of(x, d->mailbox);
	*bucket_of(x, d->mailbox) = d;
	x->ndue++;
}

static void due_free(struct indexer *x, struct due *d)
{
	x->m->metric->add(x->m->index_waiting, -(int64_t)d->changes);
	free(d);
}

/* Takes it out of the tables; the caller frees it or pushes it again. */
static struct due *due_pop(struct indexer *x)
{
	struct due *d = x->first, **p;

	if (!d)
		return NULL;
	x->first = d->next;
	if (!x->first)
		x->end = &x->first;
	for (p = bucket_of(x, d->mailbox); *p != d; p = &(*p)->next_in_bucket)
		;
	*p = d->next_in_bucket;
	x->ndue--;
	return d;
}

/* Those whose time has come are due like all others. */
static void due_return(struct indexer *x, esp_nsec now)
{
	struct due *d;

	while ((d = x->aside) != NULL && d->not_before <= now) {
		x->aside = d->next;
		if (!x->aside)
			x->aside_end = &x->aside;
		d->not_before = 0;
		due_append(&x->end, d);
	}
}

static void scan_again(struct indexer *x)
{
	x->scan = SCAN_MAILBOXES;
	x->scan_at = (esp_id){ { 0 } };
	x->scans++;
}

/* A page is done: where the next one begins. */
static void scan_on(struct indexer *x, uint32_t scans, enum scan scan, esp_id at)
{
	if (x->scans != scans)
		return;
	x->scan = scan;
	x->scan_at = at;
}

static void due_add(struct indexer *x, esp_id mailbox, esp_nsec since, uint32_t changes)
{
	struct due *d = due_find(x, mailbox);

	x->m->metric->add(x->m->index_waiting, changes);
	if (d) {
		d->changes += changes;
		return;
	}
	d = x->ndue < DUE_MAX ? calloc(1, sizeof *d) : NULL;
	if (!d) {
		x->m->metric->add(x->m->index_waiting, -(int64_t)changes);
		scan_again(x);
		return;
	}
	*d = (struct due){ .mailbox = mailbox, .since = since, .changes = changes };
	due_push(x, d);
}

/* Not done: again, in its turn.  It may have become due once more meanwhile. */
static void due_again(struct indexer *x, struct due *d)
{
	struct due *other = due_find(x, d->mailbox);

	if (other) {
		other->changes += d->changes;
		free(d);
	} else {
		due_push(x, d);
	}
}

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

/* --- one mailbox: what is to be done ------------------------------------------------------------------------ */

static const char HEAD[] = "SELECT modseq, uidnext, uidvalidity, log_floor FROM mailbox WHERE id = $1";
static const char NEW[] =
	"SELECT uid, blob_id, bytes FROM message WHERE mailbox_id = $1 AND uid > $2 ORDER BY uid LIMIT $3";
static const char GONE[] = "SELECT ranges FROM change_log WHERE mailbox_id = $1 AND modseq > $2 AND kind = $3";
static const char UIDS[] =
	"SELECT uid FROM message WHERE mailbox_id = $1 AND uid >= $2 AND uid <= $3 ORDER BY uid LIMIT 20000";

struct box_head { uint64_t modseq, log_floor; uint32_t uidnext, uidvalidity; };

static esp_status head_read(struct batch *b, esp_id mailbox, struct box_head *ret)
{
	esp_sql_rows rows;
	esp_status st = store_query(b->m, ESP_SQL_BOUNDED, b->arena, HEAD, (esp_sql_value[]){ ESP_SQL_ID(mailbox) }, 1,
		&rows);

	if (st != ESP_OK || rows.nrows == 0)
		return st != ESP_OK ? st : ESP_ENOENT;
	*ret = (struct box_head){ .modseq = (uint64_t)int_of(esp_sql_at(&rows, 0, 0)),
		.uidnext = (uint32_t)int_of(esp_sql_at(&rows, 0, 1)), .uidvalidity = (uint32_t)int_of(esp_sql_at(&rows, 0, 2)),
		.log_floor = (uint64_t)int_of(esp_sql_at(&rows, 0, 3)) };
	return ESP_OK;
}

/* The gaps between the UIDs up to the mark. */
static esp_status gone_by_gaps(struct batch *b, esp_id mailbox, uint32_t upto, struct uid_ranges *gone)
{
	uint32_t next = 1;
	esp_sql_rows rows;
	esp_status st = ESP_OK;

	do {
		esp_sql_value args[] = { ESP_SQL_ID(mailbox), ESP_SQL_I(next), ESP_SQL_I(upto) };
		st = store_query(b->m, 0, b->arena, UIDS, args, 3, &rows);
		for (uint32_t i = 0; st == ESP_OK && i < rows.nrows; i++) {
			uint32_t uid = (uint32_t)int_of(esp_sql_at(&rows, i, 0));
			if (uid > next)
				st = ranges_add(gone, next, uid - 1);
			next = uid + 1;
		}
	} while (st == ESP_OK && rows.nrows == UID_PAGE);
	return st == ESP_OK && next <= upto ? ranges_add(gone, next, upto) : st;
}

static esp_status gone_by_log(struct batch *b, esp_id mailbox, uint64_t since, struct uid_ranges *gone)
{
	esp_sql_value args[] = { ESP_SQL_ID(mailbox), ESP_SQL_I(since), ESP_SQL_I(LOG_EXPUNGE) };
	esp_sql_rows rows;
	esp_status st = store_query(b->m, ESP_SQL_BOUNDED, b->arena, GONE, args, 3, &rows);

	for (uint32_t i = 0; st == ESP_OK && i < rows.nrows; i++)
		st = ranges_unpack(str_of(esp_sql_at(&rows, i, 0)), gone);
	if (st == ESP_OK)
		ranges_normalize(gone);
	return st;
}

static esp_status plan_gone(struct batch *b, esp_text_update *u, const struct box_head *h)
{
	struct uid_ranges gone = { .arena = b->arena };
	esp_status st = ESP_OK;

	if (u->before.upto && u->before.modseq < h->modseq)
		st = h->log_floor > u->before.modseq ? gone_by_gaps(b, u->scope, u->before.upto, &gone)
		                                     : gone_by_log(b, u->scope, u->before.modseq, &gone);
	u->gone = (esp_uid_set){ gone.range, gone.n };
	return st;
}

/* Open one message for the batch.  *ret_added 0: it is gone. */
static esp_status doc_add(struct batch *b, uint32_t uid, esp_id blob, int *ret_added)
{
	esp_blob_file *f = &b->file[b->ndocs];
	esp_status st;

	*f = (esp_blob_file){ .size = sizeof *f };
	st = b->blob->open(b->blob, blob, f);
	*ret_added = st == ESP_OK;
	if (st == ESP_ENOENT || st == ESP_ECORRUPT)
		return ESP_OK;
	if (st != ESP_OK)
		return st;
	b->doc[b->ndocs++] = (esp_text_doc){ .size = sizeof(esp_text_doc), .number = uid };
	return ESP_OK;
}

static esp_status plan_new(struct batch *b, esp_text_update *u, const struct box_head *h)
{
	uint32_t room = BATCH_DOCS - b->ndocs, i = 0;
	esp_sql_value args[] = { ESP_SQL_ID(u->scope), ESP_SQL_I(u->before.upto), ESP_SQL_I(room) };
	esp_sql_rows rows = { .nrows = 0 };
	esp_status st = ESP_OK;

	u->doc = &b->doc[b->ndocs];
	if (room && u->before.upto + 1 < h->uidnext)
		st = store_query(b->m, ESP_SQL_BOUNDED, b->arena, NEW, args, 3, &rows);
	for (; st == ESP_OK && i < rows.nrows && b->bytes < BATCH_BYTES; i++) {
		int added;
		st = doc_add(b, (uint32_t)int_of(esp_sql_at(&rows, i, 0)), id_of(esp_sql_at(&rows, i, 1)), &added);
		if (st != ESP_OK && i > 0)
			return ESP_OK;                 /* what comes before it can go in */
		u->ndocs += st == ESP_OK && added;
		b->bytes += (uint64_t)int_of(esp_sql_at(&rows, i, 2));
		if (st == ESP_OK)
			u->after.upto = (uint32_t)int_of(esp_sql_at(&rows, i, 0));
	}
	if (st == ESP_OK && i == rows.nrows && rows.nrows < room)   /* that were all */
		u->after.upto = h->uidnext - 1;
	return st;
}

static const esp_uid_range every_uid = { 1, UINT32_MAX };

/* Fills the update; *ret_wanted 0: the index is up to date. */
static esp_status plan(struct batch *b, esp_text_update *u, int *ret_wanted)
{
	struct box_head h = { .modseq = 0 };
	esp_status st = head_read(b, u->scope, &h);
	int known;

	if (st != ESP_OK && st != ESP_ENOENT)
		return st;
	*ret_wanted = 1;
	known = st == ESP_OK;
	st = b->ti->mark(b->ti, u->scope, &u->before);
	if (st != ESP_OK)
		return st;
	if (!known || (u->before.epoch && (u->before.epoch != h.uidvalidity || u->before.modseq > h.modseq))) {
		*ret_wanted = known || u->before.epoch;
		u->gone = (esp_uid_set){ &every_uid, 1 };       /* of no mailbox, of another one, or of the future */
		return ESP_OK;
	}
	u->after = (esp_text_mark){ h.uidvalidity, u->before.upto, h.modseq };
	st = plan_gone(b, u, &h);
	if (st == ESP_OK)
		st = plan_new(b, u, &h);
	*ret_wanted = u->gone.n || u->after.upto != u->before.upto || h.modseq - u->before.modseq > QUIET_MODSEQ;
	b->task[b->nupdates].busy = u->after.upto + 1 < h.uidnext;
	return st;
}

/* --- texts ------------------------------------------------------------------------------------------------- */

/* SQL engines take no NUL and nothing but UTF-8, and a text that was cut may end within a character: such bytes become
 * one that no needle may hold. */
static void make_plain(char *p, size_t n)
{
	uint32_t ch = 0;

	while (n) {
		int k = esp_utf8_next((esp_str){ p, n }, &ch);
		if (k <= 0 || ch == 0) {
			*p = ESP_TEXT_END;
			k = 1;
		}
		p += k;
		n -= (size_t)k;
	}
}

static esp_status take_text(esp_arena *a, const esp_mime *mime, uint32_t which, esp_text_doc *d, esp_str *ret)
{
	esp_buf text;
	esp_status st;

	esp_buf_init(&text, TEXT_MAX);
	st = esp_text_collect(mime, which, ESP_TEXT_END, &text);
	d->cut |= st == ESP_E2BIG;
	*ret = esp_strdup_in(a, esp_buf_str(&text));
	esp_buf_free(&text);
	if ((st != ESP_OK && st != ESP_E2BIG) || !ret->ptr)
		return ESP_ENOMEM;
	make_plain((char *)(uintptr_t)ret->ptr, ret->len);
	return ESP_OK;
}

static esp_status take_texts(esp_arena *a, esp_str content, esp_text_doc *d)
{
	esp_mime mime;
	esp_status st = esp_mime_parse(content, &mime);

	if (st != ESP_OK)
		return st;
	st = take_text(a, &mime, ESP_TEXT_OWN_HEADER, d, &d->header);
	if (st == ESP_OK)
		st = take_text(a, &mime, ESP_TEXT_BODY, d, &d->body);
	esp_mime_free(&mime);
	return st;
}

static int32_t on_texts(void *arg)
{
	struct batch *b = arg;
	esp_status st = ESP_OK;

	(void)setpriority(PRIO_PROCESS, (id_t)gettid(), NICE);   /* the lane is ours alone */
	for (uint32_t i = 0; st == ESP_OK && i < b->ndocs; i++)
		st = take_texts(b->arena, b->file[i].content, &b->doc[i]);
	return st;
}

static esp_status read_texts(struct batch *b)
{
	int32_t result = ESP_OK;
	esp_status st;

	if (b->ndocs == 0)
		return ESP_OK;
	b->m->core.fiber->shield(1);
	st = b->m->core.pool->run(b->m->self, b->m->index_lane, on_texts, b, &result);
	b->m->core.fiber->shield(0);
	return st == ESP_OK ? result : st;
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
		st = plan(b, u, &wanted);
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
		st = read_texts(b);
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
		st = head_read(b, id[i], &h);
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
