/* expunge - EXPUNGE: rows, counters, references and folder links of messages that are \Deleted.
 *
 * Long sets go in several transactions of BATCH_MESSAGES each, so that others get their turn; what is \Deleted is
 * decided under the account's lock.  Each transaction writes one entry of the change log.
 */
#include "store.h"

struct expunge_op {
	struct op op;
	esp_id mailbox;
	int all;                       /* also what is not \Deleted */
	struct walk start, walk;
	struct box box;
	struct uid_ranges gone;
	struct box_delta delta;
	uint32_t ngone;
};

/* Keep the rows that go, in place; note their UIDs. */
static esp_status expunge_pick(struct expunge_op *o, struct row *row, uint32_t *n)
{
	uint32_t kept = 0, before = UINT32_MAX;
	esp_status st = ESP_OK;

	for (uint32_t i = 0; st == ESP_OK && i < *n; i++) {
		int joined = before != UINT32_MAX && before + 1 == i && kept && row[kept - 1].range == row[i].range;
		if (!o->all && !(row[i].flags & ESP_FLAG_DELETED))
			continue;
		before = i;
		delta_count(&o->box, &row[i], -1, &o->delta);
		st = ranges_add_uid(&o->gone, row[i].uid, joined);
		row[kept++] = row[i];
	}
	*n = kept;
	return st;
}

static esp_status expunge_batch(struct expunge_op *o, esp_tx *tx)
{
	uint32_t n = 0;
	struct row *row = NULL;
	esp_status st = ESP_OK;

	while (st == ESP_OK && o->walk.from && o->ngone < BATCH_MESSAGES) {
		st = walk_next(&o->op, tx, &o->box, &o->walk, &row, &n);
		if (st == ESP_OK)
			st = expunge_pick(o, row, &n);
		if (st == ESP_OK && n)
			st = rows_delete(&o->op, tx, &o->box, row, n, 0);
		o->ngone += n;
	}
	return st;
}

static esp_status on_expunge(esp_tx *tx, void *arg)
{
	struct expunge_op *o = arg;
	esp_status st;

	op_restart(&o->op);
	o->walk = o->start;
	o->gone = (struct uid_ranges){ .arena = o->op.arena };
	o->delta = (struct box_delta){ 0 };
	o->ngone = 0;
	st = account_lock(&o->op, tx, (struct account_charge){ .bump = 1 });
	if (st == ESP_OK)
		st = box_read(&o->op, tx, o->mailbox, &o->box);
	if (st == ESP_OK)
		st = expunge_batch(o, tx);
	if (st != ESP_OK || o->ngone == 0)
		return st;
	st = account_lock(&o->op, tx, (struct account_charge){ .bytes = o->delta.bytes, .messages = o->delta.messages });
	if (st == ESP_OK)
		st = log_expunge(&o->op, tx, o->mailbox, o->gone.range, o->gone.n, &o->delta);
	if (st == ESP_OK)
		st = box_update(&o->op, tx, o->mailbox, o->delta, NULL);
	return st == ESP_OK ? fact_about(&o->op, tx, FACT_DELETED, &o->box, o->gone.range, o->gone.n, o->ngone) : st;
}

static esp_status expunge_run(struct expunge_op *o, uint64_t *modseq)
{
	esp_status st = op_run(&o->op, &o->mailbox, 1, on_expunge, o);

	if (st != ESP_OK)
		return st;
	op_committed(&o->op);
	*modseq = o->ngone ? o->op.modseq : *modseq;
	o->start = o->walk;
	return ESP_OK;
}

static const esp_uid_range every_uid = { 1, UINT32_MAX };

esp_status message_expunge(const esp_mailstore *s, esp_arena *a, const esp_actor *actor, esp_id mailbox,
	esp_uid_set uids, uint64_t *ret_modseq)
{
	struct expunge_op o = { .mailbox = mailbox };
	uint64_t modseq = 0;
	esp_status st = uid_set_check(uids);

	(void)a;
	if (st == ESP_OK)
		st = op_begin(store_of(s), &o.op, actor->account);
	o.start = (struct walk){ .set = uids.n ? uids : (esp_uid_set){ &every_uid, 1 }, .from = 1 };
	while (st == ESP_OK && o.start.from)
		st = expunge_run(&o, &modseq);
	op_end(&o.op);
	if (modseq)
		view_delivered(s, mailbox, modseq);
	*ret_modseq = modseq;
	return st;
}

esp_status message_drop(const struct mailstore *m, const esp_actor *actor, esp_id mailbox, esp_uid_set uids)
{
	struct expunge_op o = { .mailbox = mailbox };
	uint64_t modseq = 0;
	esp_status st = op_begin(m, &o.op, actor->account);

	o.all = 1;
	o.mailbox = mailbox;
	o.start = (struct walk){ .set = uids, .from = 1 };
	while (st == ESP_OK && o.start.from)
		st = expunge_run(&o, &modseq);
	op_end(&o.op);
	if (modseq)
		view_delivered(&m->table, mailbox, modseq);
	return st;
}

esp_status message_clear(const struct mailstore *m, const esp_actor *actor, esp_id mailbox, int *ret_left)
{
	struct expunge_op o = { .mailbox = mailbox, .all = 1 };
	uint64_t modseq = 0;
	esp_status st = op_begin(m, &o.op, actor->account);

	o.start = (struct walk){ .set = { &every_uid, 1 }, .from = 1 };
	if (st == ESP_OK)
		st = expunge_run(&o, &modseq);
	op_end(&o.op);
	*ret_left = st == ESP_OK && o.walk.from != 0;
	return st;
}
