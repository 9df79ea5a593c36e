/* expunge - EXPUNGE: rows, counters, references and folder links of messages that are \Deleted.
 *
 * Long sets go in several transactions of BATCH_MESSAGES each, so that others get their turn; what is \Deleted is
 * decided under the account's lock, by the view (held.c): only rows that go are read.  Each transaction writes one
 * entry of the change log.
 */
#include "refresh.h"

struct expunge_op {
	struct op op;
	esp_id mailbox;
	int all;                       /* also what is not \Deleted */
	struct held held;              /* unless all */
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

/* Into `going`, UIDs from `from` on; 0: the batch is full. */
static int add_deleted(struct uid_ranges *going, const esp_view_chunk *c, esp_uid_range r, uint32_t *n, esp_status *st)
{
	for (uint32_t i = view_place_from(c, r.first); *st == ESP_OK && i < c->count && c->uid[i] <= r.last; i++) {
		if (!(c->flags[i] & ESP_FLAG_DELETED))
			continue;
		if (*n == BATCH_MESSAGES)
			return 0;
		++*n;
		*st = ranges_add(going, c->uid[i], c->uid[i]);
	}
	return 1;
}

/* What this batch walks over: at most BATCH_MESSAGES that are \Deleted.  *ret_from: where the next one goes on. */
static esp_status choose(const struct expunge_op *o, struct uid_ranges *going, uint32_t *ret_from)
{
	const esp_view *v = o->held.now;
	uint32_t n = 0;
	int room = 1;
	esp_status st = ESP_OK;

	for (uint32_t i = 0; st == ESP_OK && room && v->deleted && i < o->start.set.n; i++) {
		esp_uid_range r = o->start.set.range[i];
		if (r.last < o->start.from)
			continue;
		if (r.first < o->start.from)
			r.first = o->start.from;
		for (uint32_t k = view_chunk_from(v, r.first);
			 st == ESP_OK && room && k < v->nchunks && v->chunk[k]->uid[0] <= r.last; k++)
			room = add_deleted(going, v->chunk[k], r, &n, &st);
	}
	*ret_from = room ? 0 : going->range[going->n - 1].last + 1;
	return st;
}

static esp_status expunge_batch(struct expunge_op *o, esp_tx *tx)
{
	struct uid_ranges going = { .arena = o->op.arena };
	uint32_t n = 0, from = 0;
	struct row *row = NULL;
	esp_status st = ESP_OK;

	if (!o->all) {
		st = held_take(&o->held, &o->op, tx, &o->box);
		if (st == ESP_OK)
			st = choose(o, &going, &from);
		o->walk.set = (esp_uid_set){ going.range, going.n };
	}

	while (st == ESP_OK && o->walk.from && o->ngone < BATCH_MESSAGES) {
		st = walk_next(&o->op, tx, &o->box, &o->walk, &row, &n);
		if (st == ESP_OK)
			st = expunge_pick(o, row, &n);
		if (st == ESP_OK && n)
			st = rows_delete(&o->op, tx, &o->box, row, n, 0);
		o->ngone += n;
	}
	if (!o->all) {
		o->walk.set = o->start.set;
		o->walk.from = from;
		o->walk.place = 0;
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

static esp_status expunge_run(struct expunge_op *o, const esp_actor *actor, uint64_t *modseq)
{
	esp_status st = o->all ? op_run(&o->op, &o->mailbox, 1, on_expunge, o)
	                       : held_run(&o->held, actor, &o->op, o->mailbox, on_expunge, o);

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
		st = expunge_run(&o, actor, &modseq);
	held_end(&o.held, store_of(s));
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
		st = expunge_run(&o, actor, &modseq);
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
		st = expunge_run(&o, actor, &modseq);
	op_end(&o.op);
	*ret_left = st == ESP_OK && o.walk.from != 0;
	return st;
}
