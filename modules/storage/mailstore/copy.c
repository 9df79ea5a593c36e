/* copy - COPY and MOVE: another row for the same blob.
 *
 * COPY is all or nothing (RFC 3501 6.4.7): one transaction.  MOVE is atomic for each message (RFC 6851 3.3): batches.
 * Mailbox rows are changed in order of their ids, as everywhere.
 */
#include "store.h"

#define UIDS_IN_FACT 1000u

struct copy_op {
	struct op op;
	esp_id from, to;
	int move, batches;             /* batches: a part at a time */
	uint32_t limit;
	struct walk start, walk;
	/* of one run */
	struct box src, dst;
	struct row *row;               /* as they are in the source */
	uint32_t n, cap;
	struct uid_ranges moved;
	uint32_t first_uid;
};

static esp_status rows_keep(struct copy_op *o, const struct row *row, uint32_t n)
{
	if (o->n + n > o->cap) {
		uint32_t cap = (o->n + n) * 2;
		struct row *grown = esp_alloc_array(o->op.arena, cap, sizeof *grown);
		if (!grown)
			return ESP_ENOMEM;
		if (o->n)
			memcpy(grown, o->row, o->n * sizeof *grown);
		o->row = grown;
		o->cap = cap;
	}
	memcpy(o->row + o->n, row, n * sizeof *row);
	for (uint32_t i = 0; i < n; i++) {
		uint32_t at = o->n++;
		int joined = i > 0 && o->row[at - 1].range == o->row[at].range;
		esp_status st = ranges_add_uid(&o->moved, o->row[at].uid, joined);
		if (st != ESP_OK)
			return st;
	}
	return ESP_OK;
}

static esp_status collect(struct copy_op *o, esp_tx *tx)
{
	struct row *row = NULL;
	uint32_t n = 0;
	esp_status st = ESP_OK;

	while (st == ESP_OK && o->walk.from && o->n < o->limit) {
		st = walk_next(&o->op, tx, &o->src, &o->walk, &row, &n);
		if (st == ESP_OK && n)
			st = rows_keep(o, row, n);
	}
	return st == ESP_OK && !o->batches && o->walk.from ? ESP_E2BIG : st;
}

/* Counters and UIDs of the target. */
static esp_status count_in(struct copy_op *o, esp_tx *tx)
{
	struct box_delta d = { .uids = o->n, .messages = o->n, .recent = o->n };
	esp_status st;

	for (uint32_t i = 0; i < o->n; i++) {
		d.bytes += (int64_t)o->row[i].bytes;
		d.unseen += !(o->row[i].flags & ESP_FLAG_SEEN);
		d.deleted += !!(o->row[i].flags & ESP_FLAG_DELETED);
	}
	st = box_update(&o->op, tx, o->to, d, &o->dst);
	o->first_uid = o->dst.uidnext - o->n;
	return st;
}

static esp_status count_out(struct copy_op *o, esp_tx *tx)
{
	struct box_delta d = { 0 };
	esp_status st;

	for (uint32_t i = 0; i < o->n; i++)
		delta_count(&o->src, &o->row[i], -1, &d);
	st = log_expunge(&o->op, tx, o->from, o->moved.range, o->moved.n, &d);
	return st == ESP_OK ? box_update(&o->op, tx, o->from, d, NULL) : st;
}

static esp_status put_in(struct copy_op *o, esp_tx *tx)
{
	struct row *copy = esp_alloc_array(o->op.arena, o->n, sizeof *copy);
	esp_status st;

	if (!copy)
		return ESP_ENOMEM;
	for (uint32_t i = 0; i < o->n; i++) {
		copy[i] = o->row[i];
		copy[i].uid = o->first_uid + i;
		if (!same_id(o->from, o->to))
			copy[i].flags = keywords_map(&o->src.keywords, &o->dst.keywords, copy[i].flags);
	}
	st = rows_copy(&o->op, tx, &o->src, &o->dst, o->row, copy, o->n);
	return st == ESP_OK ? box_save_keywords(&o->op, tx, &o->dst) : st;
}

static esp_status charge(struct copy_op *o, esp_tx *tx)
{
	struct account_charge c = { .messages = o->n, .check = 1 };
	esp_status st;

	for (uint32_t i = 0; i < o->n; i++)
		c.bytes += (int64_t)o->row[i].bytes;
	st = account_lock(&o->op, tx, c);
	return st == ESP_OK ? account_warn(&o->op, tx, c.bytes) : st;
}

static esp_status fact(struct copy_op *o, esp_tx *tx)
{
	esp_field field[7] = { ESP_FID("account", o->op.account), ESP_FID("mailbox", o->from), ESP_FID("to", o->to) };
	esp_str uids;
	esp_status st = ranges_text(o->op.arena, o->moved.range, o->moved.n, UIDS_IN_FACT, &uids);

	if (st != ESP_OK)
		return st;
	field[3] = ESP_FSTR("uids", uids);
	field[4] = ESP_FINT("messages", o->n);
	field[5] = ESP_FINT("modseq", (int64_t)o->op.modseq);
	field[6] = ESP_FINT("to_uid", o->first_uid);
	return op_fact(&o->op, tx, o->move ? FACT_MOVED : FACT_COPIED, field, 7);
}

static esp_status copy(struct copy_op *o, esp_tx *tx)
{
	esp_status st = charge(o, tx);

	if (st == ESP_OK)
		st = count_in(o, tx);
	if (st == ESP_OK)
		st = put_in(o, tx);
	if (st == ESP_OK)
		st = uses_copied(tx, o->to, o->first_uid, o->dst.uidnext - 1);
	return st == ESP_OK ? fact(o, tx) : st;
}

static esp_status move(struct copy_op *o, esp_tx *tx)
{
	int out_first = memcmp(o->from.b, o->to.b, sizeof o->from.b) < 0;
	esp_status st = out_first ? count_out(o, tx) : count_in(o, tx);

	if (st == ESP_OK)
		st = out_first ? count_in(o, tx) : count_out(o, tx);
	if (st == ESP_OK)
		st = put_in(o, tx);
	if (st == ESP_OK)
		st = rows_delete(&o->op, tx, &o->src, o->row, o->n, 1);
	return st == ESP_OK ? fact(o, tx) : st;
}

static esp_status on_copy(esp_tx *tx, void *arg)
{
	struct copy_op *o = arg;
	esp_status st;

	op_restart(&o->op);
	o->walk = o->start;
	o->row = NULL;
	o->n = o->cap = o->first_uid = 0;
	o->moved = (struct uid_ranges){ .arena = o->op.arena };
	st = account_lock(&o->op, tx, (struct account_charge){ .bump = 1 });
	if (st == ESP_OK)
		st = box_read(&o->op, tx, o->from, &o->src);
	if (st == ESP_OK)
		st = box_read(&o->op, tx, o->to, &o->dst);
	if (st == ESP_OK)
		st = collect(o, tx);
	return st != ESP_OK || !o->n ? st : o->move ? move(o, tx) : copy(o, tx);
}

/* --- in the fiber ------------------------------------------------------------------------------------ */

struct pairs { esp_arena *arena; uint32_t *from, *to, n, cap; };

static esp_status pairs_add(struct pairs *p, const struct copy_op *o)
{
	if (p->n + o->n > p->cap) {
		uint32_t cap = p->n + o->n + (p->n ? p->n : 0);
		uint32_t *from = esp_alloc_array(p->arena, cap, sizeof *from), *to = esp_alloc_array(p->arena, cap, sizeof *to);
		if (!from || !to)
			return ESP_ENOMEM;
		if (p->n) {
			memcpy(from, p->from, p->n * sizeof *from);
			memcpy(to, p->to, p->n * sizeof *to);
		}
		p->from = from;
		p->to = to;
		p->cap = cap;
	}
	for (uint32_t i = 0; i < o->n; i++, p->n++) {
		p->from[p->n] = o->row[i].uid;
		p->to[p->n] = o->first_uid + i;
	}
	return ESP_OK;
}

static void copy_reason(esp_status st, esp_err *err)
{
	switch (st) {
	case ESP_EQUOTA: reason(err, "the account is over its quota"); break;
	case ESP_ENOENT: reason(err, "there is no such mailbox"); break;
	case ESP_E2BIG: reason(err, "too many messages for one COPY, or the mailbox has no more UIDs"); break;
	default: break;
	}
}

esp_status message_copy(const esp_mailstore *s, esp_arena *a, const esp_actor *actor, esp_id from, esp_uid_set uids,
	esp_id to, int32_t move, esp_copy_result *ret, uint64_t *ret_from_modseq, esp_err *err)
{
	struct copy_op o = { .from = from, .to = to, .move = move, .batches = move && !same_id(from, to) };
	struct pairs pairs = { .arena = a };
	esp_id boxes[2] = { from, to };
	uint64_t modseq = 0;
	esp_status st = uid_set_check(uids);

	if (st == ESP_OK)
		st = op_begin(store_of(s), &o.op, actor->account);
	/* within one mailbox a second part would find what the first moved: all at once */
	o.limit = o.batches ? BATCH_MESSAGES : COPY_MESSAGES;
	o.start = o.walk = (struct walk){ .set = uids, .from = 1 };
	while (st == ESP_OK && o.start.from) {
		st = op_run(&o.op, boxes, same_id(from, to) ? 1 : 2, on_copy, &o);
		if (st != ESP_OK)
			break;
		op_committed(&o.op);
		modseq = o.n ? o.op.modseq : modseq;
		st = pairs_add(&pairs, &o);
		o.start = o.walk;
	}
	op_end(&o.op);
	if (modseq) {
		view_delivered(s, to, modseq);
		if (move)
			view_delivered(s, from, modseq);
	}
	*ret = (esp_copy_result){ .size = sizeof *ret, .uidvalidity = o.dst.uidvalidity, .n = pairs.n, .from = pairs.from,
	                          .to = pairs.to, .modseq = modseq };
	*ret_from_modseq = move ? modseq : 0;
	copy_reason(st, err);
	return st;
}
