/* message - STORE and EXPUNGE.
 *
 * Long sets are changed in several transactions of BATCH_MESSAGES each, so that others get their turn; UNCHANGEDSINCE
 * and \Deleted are decided under the account's lock.  Each transaction writes one entry of the change log.
 */
#include "store.h"

static const char UPDATE_RANGE[] =
	"UPDATE message SET flags = (flags & $4) | $5, modseq = $6 WHERE mailbox_id = $1 AND uid >= $2 AND uid <= $3";

#define SYSTEM_FLAGS 0x1fu
#define UIDS_IN_FACT 1000u
#define RANGES_ALIKE 16u

static esp_status fact_about(
	struct op *op, esp_tx *tx, enum fact_kind kind, const struct box *b, const struct uid_ranges *r, uint32_t n)
{
	esp_field field[6] = { ESP_FID("account", op->account), ESP_FID("mailbox", b->id), ESP_FSTR("name", b->name) };
	esp_str uids;
	esp_status st = ranges_text(op->arena, r->range, r->n, UIDS_IN_FACT, &uids);

	if (st != ESP_OK)
		return st;
	field[3] = ESP_FSTR("uids", uids);
	field[4] = ESP_FINT("messages", n);
	field[5] = ESP_FINT("modseq", (int64_t)op->modseq);
	return op_fact(op, tx, kind, field, 6);
}

/* --- STORE ------------------------------------------------------------------------------------------- */

struct store_op {
	struct op op;
	esp_id mailbox;
	const esp_store_args *args;
	struct walk start, walk;       /* start: where this batch begins, however often it is run */
	/* of one run */
	struct box box;
	uint64_t keep, set;            /* new flags = (flags & keep) | set */
	struct uid_ranges changed, failed;
	struct box_delta delta;
	uint32_t nchanged;
};

static esp_status store_masks(struct store_op *o)
{
	const esp_store_args *a = o->args;
	uint64_t bits = 0;
	esp_status st = keywords_bits(&o->box.keywords, a->keywords, a->nkeywords, a->op != ESP_STORE_REMOVE, &bits);

	bits |= a->flags & SYSTEM_FLAGS;
	o->keep = a->op == ESP_STORE_ADD ? UINT64_MAX : a->op == ESP_STORE_REMOVE ? ~bits : 0;
	o->set = a->op == ESP_STORE_REMOVE ? 0 : bits;
	return st;
}

static esp_status flags_job(struct store_op *o, esp_tx *tx, const struct row *r, uint64_t flags)
{
	esp_blob_job job = { .kind = ESP_BLOB_FLAGS,
		.folder = o->box.name,
		.id = r->blob,
		.uid = r->uid,
		.uidvalidity = o->box.uidvalidity,
		.bytes = r->bytes,
		.modseq = o->op.modseq,
		.flags = (uint32_t)(flags & 0xffff) };

	return (flags ^ r->flags) & 0xffff ? op_job(&o->op, tx, &job) : ESP_OK;
}

/* One row: does it change?  Counts it when it does. */
static esp_status store_row(struct store_op *o, esp_tx *tx, const struct row *r, int joined, int *ret_changed)
{
	uint64_t flags = (r->flags & o->keep) | o->set;
	struct row after = *r;
	esp_status st;

	*ret_changed = 0;
	if (o->args->has_unchangedsince && r->modseq > o->args->unchangedsince)
		return ranges_add(&o->failed, r->uid, r->uid);
	if (flags == r->flags)
		return ESP_OK;
	*ret_changed = 1;
	o->nchanged++;
	after.flags = flags;
	delta_count(&o->box, r, -1, &o->delta);
	delta_count(&o->box, &after, 1, &o->delta);
	st = ranges_add_uid(&o->changed, r->uid, joined);
	return st == ESP_OK ? flags_job(o, tx, r, flags) : st;
}

static esp_status update_range(struct store_op *o, esp_tx *tx, const esp_uid_range *range)
{
	esp_sql_value args[] = { ESP_SQL_ID(o->mailbox), ESP_SQL_I(range->first), ESP_SQL_I(range->last),
		ESP_SQL_I(o->keep), ESP_SQL_I(o->set), ESP_SQL_I(o->op.modseq) };

	return tx->exec(tx, UPDATE_RANGE, args, 6, NULL);
}

/* How many rows of a range there are, and how many would change. */
static const char WOULD[] =
	"SELECT COUNT(*), SUM(CASE WHEN ((flags & $4) | $5) <> flags THEN 1 ELSE 0 END) FROM message"
	" WHERE mailbox_id = $1 AND uid >= $2 AND uid <= $3";

/* Keywords over a few ranges that are not too long: no file is renamed, nothing is counted. */
static int may_be_alike(const struct store_op *o)
{
	uint64_t span = 0;

	for (uint32_t i = 0; i < o->start.set.n && i < RANGES_ALIKE; i++) {
		const esp_uid_range *r = &o->start.set.range[i];
		if (r->first < o->box.uidnext)
			span += (uint64_t)(r->last < o->box.uidnext ? r->last : o->box.uidnext) - r->first + 1;
	}
	return o->start.from == 1 && o->start.set.n <= RANGES_ALIKE && span <= 4 * BATCH_MESSAGES &&
		!o->args->has_unchangedsince && ((~o->keep | o->set) & 0xffff) == 0;
}

/* When all messages of each range change, or none, no row needs to be looked at.  *ret_done 0: they must be. */
static esp_status store_alike(struct store_op *o, esp_tx *tx, int *ret_done)
{
	esp_sql_rows rows;
	uint32_t n = 0;
	esp_status st = ESP_OK;

	*ret_done = 0;
	for (uint32_t i = 0; st == ESP_OK && i < o->start.set.n; i++) {
		const esp_uid_range *r = &o->start.set.range[i];
		esp_sql_value args[] = { ESP_SQL_ID(o->mailbox), ESP_SQL_I(r->first), ESP_SQL_I(r->last), ESP_SQL_I(o->keep),
			ESP_SQL_I(o->set) };
		int64_t all, changed;
		st = tx->exec(tx, WOULD, args, 5, &rows);
		if (st != ESP_OK)
			return st;
		all = int_of(esp_sql_at(&rows, 0, 0));
		changed = int_of(esp_sql_at(&rows, 0, 1));
		if (changed && changed != all) {
			o->changed.n = 0;
			return ESP_OK;
		}
		n += (uint32_t)changed;
		if (changed)
			st = ranges_add(&o->changed, r->first, r->last < o->box.uidnext ? r->last : o->box.uidnext - 1);
	}
	for (uint32_t i = 0; st == ESP_OK && i < o->changed.n; i++)
		st = update_range(o, tx, &o->changed.range[i]);
	o->nchanged = n;
	o->walk.from = 0;
	*ret_done = st == ESP_OK;
	return st;
}

static esp_status store_batch(struct store_op *o, esp_tx *tx)
{
	uint32_t seen = 0, n = 0;
	struct row *row = NULL;
	esp_status st = ESP_OK;

	while (st == ESP_OK && o->walk.from && seen < BATCH_MESSAGES) {
		int before = 0;
		st = walk_next(&o->op, tx, o->mailbox, &o->walk, &row, &n);
		for (uint32_t i = 0; st == ESP_OK && i < n; i++) {
			int joined = i > 0 && before && row[i - 1].range == row[i].range;
			st = store_row(o, tx, &row[i], joined, &before);
		}
		seen += n;
	}
	for (uint32_t i = 0; st == ESP_OK && i < o->changed.n; i++)
		st = update_range(o, tx, &o->changed.range[i]);
	return st;
}

static esp_status on_store(esp_tx *tx, void *arg)
{
	struct store_op *o = arg;
	int alike = 0;
	esp_status st;

	op_restart(&o->op);
	o->walk = o->start;
	o->changed = o->failed = (struct uid_ranges){ .arena = o->op.arena };
	o->delta = (struct box_delta){ 0 };
	o->nchanged = 0;
	st = account_lock(&o->op, tx, (struct account_charge){ .bump = 1 });
	if (st == ESP_OK)
		st = box_read(&o->op, tx, o->mailbox, &o->box);
	if (st == ESP_OK)
		st = store_masks(o);
	if (st == ESP_OK && may_be_alike(o))
		st = store_alike(o, tx, &alike);
	if (st == ESP_OK && !alike)
		st = store_batch(o, tx);
	if (st != ESP_OK || o->nchanged == 0)
		return st;
	st = log_write(&o->op, tx, o->mailbox, LOG_FLAGS, o->changed.range, o->changed.n, &o->delta);
	if (st == ESP_OK)
		st = box_update(&o->op, tx, o->mailbox, o->delta, NULL);
	if (st == ESP_OK)
		st = box_save_keywords(&o->op, tx, &o->box);
	return st == ESP_OK ? fact_about(&o->op, tx, FACT_FLAGS, &o->box, &o->changed, o->nchanged) : st;
}

static esp_status keep_failed(const struct uid_ranges *from, struct uid_ranges *into)
{
	esp_status st = ESP_OK;

	for (uint32_t i = 0; st == ESP_OK && i < from->n; i++)
		st = ranges_add(into, from->range[i].first, from->range[i].last);
	return st;
}

esp_status message_store(const esp_mailstore *s, esp_arena *a, const esp_actor *actor, esp_id mailbox, esp_uid_set uids,
                         const esp_store_args *args, uint64_t *ret_modseq, esp_uid_set *ret_failed)
{
	struct store_op o = { .mailbox = mailbox, .args = args };
	struct uid_ranges failed = { .arena = a };
	uint64_t modseq = 0;
	esp_status st = uid_set_check(uids);

	if (args->op < ESP_STORE_ADD || args->op > ESP_STORE_REPLACE)
		st = ESP_EINVAL;
	if (st == ESP_OK)
		st = op_begin(store_of(s), &o.op, actor->account);
	o.start = o.walk = (struct walk){ .set = uids, .from = 1 };
	while (st == ESP_OK && o.start.from) {
		st = op_run(&o.op, &mailbox, 1, on_store, &o);
		if (st != ESP_OK)
			break;
		op_committed(&o.op);
		modseq = o.nchanged ? o.op.modseq : modseq;
		st = keep_failed(&o.failed, &failed);
		o.start = o.walk;
	}
	op_end(&o.op);
	if (modseq)
		view_delivered(s, mailbox, modseq);
	*ret_modseq = modseq;
	*ret_failed = (esp_uid_set){ failed.range, failed.n };
	return st;
}

/* --- EXPUNGE ----------------------------------------------------------------------------------------- */

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
		st = walk_next(&o->op, tx, o->mailbox, &o->walk, &row, &n);
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
		st = log_write(&o->op, tx, o->mailbox, LOG_EXPUNGE, o->gone.range, o->gone.n, &o->delta);
	if (st == ESP_OK)
		st = box_update(&o->op, tx, o->mailbox, o->delta, NULL);
	return st == ESP_OK ? fact_about(&o->op, tx, FACT_DELETED, &o->box, &o->gone, o->ngone) : st;
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
