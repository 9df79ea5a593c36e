/* settle - flag changes that are in the log only get into the messages' rows and file names.
 *
 * One fiber on worker 0, a moment after a STORE that left some and at the start.  What there is to do is in the
 * database (mailbox.unsettled), so nothing is lost with the process, and a second server that does the same does no
 * harm: a row takes a change only when it is older.  Large changes are settled ROWS_A_TIME messages a transaction, for
 * deliveries wait behind it; the fiber remembers how far it came.  The last one resets `unsettled`, under the account's
 * lock, when it saw the whole log.
 */
#include "store.h"

#define ROWS_A_TIME    2000u
#define MAILBOXES      50
#define LOOK_EVERY     (60 * ESP_SEC)    /* what another server left behind */

static const char WAITING[] = "SELECT id, account_id FROM mailbox WHERE unsettled > 0 LIMIT 50";
static const char NTH_UID[] =
	"SELECT uid FROM message WHERE mailbox_id = $1 AND uid >= $2 AND uid <= $3 ORDER BY uid LIMIT 1 OFFSET 1999";
static const char SETTLED[] = "UPDATE mailbox SET unsettled = 0 WHERE id = $1";

struct settler { const struct mailstore *m; esp_fcond wake; uint32_t draining, pending; atomic_int posted; };

/* How far a mailbox is settled: all changes before `modseq`, and of that one all UIDs before `uid`. */
struct settle_op { struct op op; esp_id mailbox; struct { uint64_t modseq; uint32_t uid; } done, next; int more; };

/* --- in the transaction ------------------------------------------------------------------------------ */

/* The end of a part of the range that has ROWS_A_TIME messages at most. */
static esp_status part_of(struct settle_op *o, esp_tx *tx, uint32_t first, uint32_t last, uint32_t *ret_last)
{
	esp_sql_rows rows;
	esp_status st =
		tx->exec(tx, NTH_UID, (esp_sql_value[]){ ESP_SQL_ID(o->mailbox), ESP_SQL_I(first), ESP_SQL_I(last) }, 3, &rows);

	*ret_last = st == ESP_OK && rows.nrows ? (uint32_t)int_of(esp_sql_at(&rows, 0, 0)) : last;
	return st;
}

static esp_status settle_range(
	struct settle_op *o, esp_tx *tx, const struct box *b, const struct flag_change *c, esp_uid_range r)
{
	uint32_t last = r.last;
	esp_status st;

	if (o->next.modseq == c->modseq && r.first < o->next.uid)
		r.first = o->next.uid;
	if (r.first > r.last)
		return ESP_OK;
	st = part_of(o, tx, r.first, r.last, &last);
	if (st == ESP_OK)
		st = rows_flag(&o->op, tx, b, r.first, last, c);
	o->next.modseq = c->modseq;
	o->next.uid = last == UINT32_MAX ? last : last + 1;
	o->more = last < r.last;
	return st;
}

static esp_status on_settle(esp_tx *tx, void *arg)
{
	struct settle_op *o = arg;
	struct box box;
	uint32_t work = 0;
	esp_status st;

	op_restart(&o->op);
	o->next = o->done;
	o->more = 0;
	st = account_lock(&o->op, tx, (struct account_charge){ .bump = 1 });   /* the order of folder jobs */
	if (st == ESP_OK)
		st = box_read(&o->op, tx, o->mailbox, &box);
	for (uint32_t i = 0; st == ESP_OK && !o->more && i < box.nlate; i++) {
		const struct flag_change *c = &box.late[i];
		if (c->modseq < o->next.modseq)
			continue;
		for (uint32_t k = 0; st == ESP_OK && !o->more && k < c->n; k++) {
			st = settle_range(o, tx, &box, c, c->range[k]);
			o->more |= ++work == ROWS_A_TIME;
		}
	}
	if (st != ESP_OK || o->more)
		return st;
	return tx->exec(tx, SETTLED, (esp_sql_value[]){ ESP_SQL_ID(o->mailbox) }, 1, NULL);
}

/* --- the fiber --------------------------------------------------------------------------------------- */

static esp_status settle_mailbox(const struct mailstore *m, esp_id account, esp_id mailbox)
{
	struct settle_op o = { .more = 1 };
	esp_status st = op_begin(m, &o.op, account);

	o.mailbox = mailbox;
	while (st == ESP_OK && o.more) {
		st = op_run(&o.op, &mailbox, 1, on_settle, &o);
		o.done.modseq = o.next.modseq;
		o.done.uid = o.next.uid;
		if (st == ESP_OK)
			op_committed(&o.op);
	}
	op_end(&o.op);
	return st;
}

/* *ret_more: there may be more. */
static esp_status settle_round(const struct mailstore *m, esp_arena *a, int *ret_more)
{
	esp_sql_rows rows;
	esp_status st = store_query(m, 0, a, WAITING, NULL, 0, &rows);

	*ret_more = st == ESP_OK && rows.nrows == MAILBOXES;
	for (uint32_t i = 0; st == ESP_OK && i < rows.nrows; i++) {
		st = settle_mailbox(m, id_of(esp_sql_at(&rows, i, 1)), id_of(esp_sql_at(&rows, i, 0)));
		if (st == ESP_ENOENT)          /* removed meanwhile */
			st = ESP_OK;
	}
	return st;
}

esp_status settle_all(const esp_mailstore *s)
{
	const struct mailstore *m = store_of(s);
	esp_arena *a = m->core.mem->arena_new(m->self, "mailstore-settle", 0);
	esp_status st = a ? ESP_OK : ESP_ENOMEM;
	int more = 1;

	while (st == ESP_OK && more) {
		m->core.mem->arena_reset(a);
		st = settle_round(m, a, &more);
	}
	if (a)
		m->core.mem->arena_free(a);
	return st;
}

static void settle_now(struct settler *s)
{
	const esp_core *core = &s->m->core;
	esp_status st;

	s->pending = 0;
	st = settle_all(&s->m->table);
	if (st != ESP_OK && st != ESP_ECANCELED)
		esp_log(core->log, s->m->self, ESP_LOG_WARNING, "flags wait to be written into messages' rows and file names",
			ESP_FINT("status", st));
}

static void on_settler(void *arg)
{
	struct settler *s = arg;
	const esp_core *core = &s->m->core;

	for (;;) {
		settle_now(s);
		core->host->quiesce();
		if (s->draining || core->fiber->canceled())
			return;
		while (!s->pending && !s->draining) {
			esp_status st;
			(void)core->fiber->set_deadline(core->loop->now() + LOOK_EVERY);
			st = core->fiber->wait(&s->wake);
			(void)core->fiber->set_deadline(0);
			if (st == ESP_ECANCELED)
				return;
			s->pending |= st == ESP_ETIMEDOUT;
		}
		if (!s->draining) {
			/* flags often change again soon; woken earlier: the end, or another change */
			(void)core->fiber->set_deadline(core->loop->now() + s->m->limits.store_delay);
			if (core->fiber->wait(&s->wake) == ESP_ECANCELED)
				return;
			(void)core->fiber->set_deadline(0);
		}
	}
}

static void on_kicked(void *arg)        /* worker 0 */
{
	struct settler *s = arg;

	atomic_store(&s->posted, 0);
	s->pending = 1;
	s->m->core.fiber->signal(&s->wake);
}

static void on_end(void *arg)           /* worker 0 */
{
	struct settler *s = arg;

	s->draining = 1;
	s->m->core.fiber->signal(&s->wake);
}

esp_status settle_new(struct mailstore *m)
{
	m->settler = esp_alloc(m->core.host->arena(m->self), sizeof *m->settler);
	if (!m->settler)
		return ESP_ENOMEM;
	m->settler->m = m;
	return ESP_OK;
}

esp_status settle_start(const struct mailstore *m)
{
	return m->core.fiber->spawn(m->self, 0, "mailstore.settle", on_settler, m->settler, NULL);
}

void settle_kick(const struct mailstore *m)
{
	struct settler *s = m->settler;

	if (atomic_exchange(&s->posted, 1))
		return;
	/* a full mailbox: the fiber looks by itself every minute */
	if (m->core.loop->post(m->self, m->core.loop->worker(0), on_kicked, s) != ESP_OK)
		atomic_store(&s->posted, 0);
}

void settle_drain(const struct mailstore *m)
{
	if (m->core.loop->post(m->self, m->core.loop->worker(0), on_end, m->settler) != ESP_OK)
		esp_log_text(m->core.log, m->self, ESP_LOG_WARNING, "the fiber that settles flags ends at the deadline");
}
