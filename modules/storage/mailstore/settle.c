/* settle - flag changes that are in the log only get into the messages' rows and file names.
 *
 * One fiber on worker 0, a moment after a STORE that left some and at the start.  What there is to do is in the
 * database (mailbox.unsettled), so nothing is lost with the process, and a second server that does the same does no
 * harm: a row takes what is newer than itself.  All changes of a row are written at once; flags that went and came back
 * rename no file.  A pass over the mailbox takes ROWS_A_TIME messages a transaction, for deliveries wait behind it.  At
 * its end all changes that the log had at its beginning are settled.
 */
#include "store.h"

#include "modules/common/breathe.h"
#include "modules/common/trouble.h"

#define ROWS_A_TIME    2000u
#define MAILBOXES      50
#define LOOK_EVERY     (60 * ESP_SEC)    /* what another server left behind */

static const char WAITING[] = "SELECT id, account_id FROM mailbox WHERE unsettled > 0 LIMIT 50";
static const char SETTLED[] = "UPDATE mailbox SET unsettled = $2 WHERE id = $1";

struct settler {
	const struct mailstore *m;
	esp_fcond wake;
	struct trouble trouble;
	int draining, pending;     /* there is something to do; draining: the last round */
	atomic_int posted;
};

/* A pass: UIDs below `from` show all changes up to `upto`; from 0: all do. */
struct settle_op { struct op op; esp_id mailbox; uint64_t upto, next_upto; uint32_t from, next_from; };

/* --- in the transaction ------------------------------------------------------------------------------ */

/* UIDs that any late change names. */
static esp_status late_uids(struct op *op, const struct box *b, struct uid_ranges *ret)
{
	esp_status st = ESP_OK;

	*ret = (struct uid_ranges){ .arena = op->arena };
	for (uint32_t i = 0; i < b->nlate; i++)
		for (uint32_t k = 0; st == ESP_OK && k < b->late[i].n; k++)
			st = ranges_add(ret, b->late[i].range[k].first, b->late[i].range[k].last);
	ranges_normalize(ret);
	return st;
}

/* What came into the log since the pass began is settled by the next one. */
static esp_status pass_ended(struct settle_op *o, esp_tx *tx, const struct box *b)
{
	uint64_t left = 0;

	for (uint32_t i = 0; i < b->nlate && !left; i++)
		if (b->late[i].modseq > o->next_upto)
			left = b->late[i].modseq;
	return tx->exec(tx, SETTLED, (esp_sql_value[]){ ESP_SQL_ID(o->mailbox), ESP_SQL_I(left) }, 2, NULL);
}

static esp_status settle_part(struct settle_op *o, esp_tx *tx, const struct box *b)
{
	struct walk walk = { .from = o->from };
	struct uid_ranges uids;
	struct row *row = NULL;
	uint32_t n = 0, seen = 0;
	esp_status st = late_uids(&o->op, b, &uids);

	walk.set = (esp_uid_set){ uids.range, uids.n };
	while (st == ESP_OK && walk.from && seen < ROWS_A_TIME) {
		st = walk_next(&o->op, tx, b, &walk, &row, &n);
		if (st == ESP_OK && n)
			st = rows_settle(&o->op, tx, b, row, n);
		seen += n;
	}
	o->next_from = walk.from;
	return st;
}

static esp_status on_settle(esp_tx *tx, void *arg)
{
	struct settle_op *o = arg;
	struct box box;
	esp_status st;

	op_restart(&o->op);
	st = account_lock(&o->op, tx, (struct account_charge){ .bump = 1 });   /* the order of folder jobs */
	if (st == ESP_OK)
		st = box_read(&o->op, tx, o->mailbox, &box);
	if (st != ESP_OK)
		return st;
	o->next_upto = o->from > 1 ? o->upto : box.nlate ? box.late[box.nlate - 1].modseq : 0;
	st = settle_part(o, tx, &box);
	return st == ESP_OK && !o->next_from ? pass_ended(o, tx, &box) : st;
}

/* --- the fiber --------------------------------------------------------------------------------------- */

static esp_status settle_some(const struct mailstore *m, esp_id account, struct settle_op *o)
{
	esp_status st = op_begin(m, &o->op, account);

	if (st == ESP_OK)
		st = op_run(&o->op, &o->mailbox, 1, on_settle, o);
	o->upto = o->next_upto;
	o->from = o->next_from;
	if (st == ESP_OK)
		op_committed(&o->op);
	op_end(&o->op);
	return st;
}

static esp_status settle_mailbox(const struct mailstore *m, esp_id account, esp_id mailbox, int own)
{
	struct settle_op o = { .mailbox = mailbox, .from = 1 };
	esp_status st = ESP_OK;

	while (st == ESP_OK && o.from) {
		st = settle_some(m, account, &o);
		if (st == ESP_OK && own)
			st = breathe(&m->core);
	}
	return st;
}

/* *ret_more: there may be more.  own: the settler's fiber, and no caller's that keeps services. */
static esp_status settle_round(const struct mailstore *m, esp_arena *a, int own, int *ret_more)
{
	esp_sql_rows rows;
	esp_status st = store_query(m, 0, a, WAITING, NULL, 0, &rows);

	*ret_more = st == ESP_OK && rows.nrows == MAILBOXES;
	for (uint32_t i = 0; st == ESP_OK && i < rows.nrows; i++) {
		st = settle_mailbox(m, id_of(esp_sql_at(&rows, i, 1)), id_of(esp_sql_at(&rows, i, 0)), own);
		if (st == ESP_ENOENT)          /* removed meanwhile */
			st = ESP_OK;
	}
	return st;
}

static esp_status settle_waiting(const struct mailstore *m, int own)
{
	esp_arena *a = m->core.mem->arena_new(m->self, "mailstore-settle", 0);
	esp_status st = a ? ESP_OK : ESP_ENOMEM;
	int more = 1;

	while (st == ESP_OK && more) {
		m->core.mem->arena_reset(a);
		st = settle_round(m, a, own, &more);
	}
	if (a)
		m->core.mem->arena_free(a);
	return st;
}

esp_status settle_all(const esp_mailstore *s)
{
	return settle_waiting(store_of(s), 0);
}

static void settle_now(struct settler *s)
{
	static const struct trouble_text text = { "flags wait to be written into messages' rows and file names",
		"flags are written into messages' rows and file names again" };

	s->pending = 0;
	trouble_note(&s->trouble, &s->m->core, s->m->self, &text, settle_waiting(s->m, 1));
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
		if (breathe_wait(core, &s->wake, LOOK_EVERY, &s->pending) == ESP_ECANCELED)
			return;
		/* flags often change again soon */
		if (breathe_wait(core, &s->wake, s->m->limits.store_delay, &s->draining) == ESP_ECANCELED)
			return;
	}
}

static void on_kicked(void *arg)        /* worker 0 */
{
	struct settler *s = arg;

	atomic_store(&s->posted, 0);
	s->pending = 1;
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
	m->settler->draining = m->settler->pending = 1;
	m->core.fiber->signal(&m->settler->wake);
}
