/* store - STORE: new flags are computed from the view as the account's lock holds it, not from rows.
 *
 * The change is one entry of the log, masks over ranges of UIDs; views follow it without a read.  The rows of a few
 * messages are changed in the same transaction.  Those of many messages, and of any while earlier changes wait, are
 * changed later (settle.c), and so are their files: the log shows them to everybody who reads rows meanwhile.
 * UNCHANGEDSINCE is decided message by message in the transaction.
 */
#include "refresh.h"

#define SYSTEM_FLAGS 0x1fu

static const char UNSETTLED[] = "UPDATE mailbox SET unsettled = $2 WHERE id = $1 AND unsettled = 0";

struct store_op {
	struct op op;
	esp_id mailbox;
	esp_uid_set set;
	const esp_store_args *args;
	struct held held;
	/* of one run */
	struct box box;
	struct flag_change change;
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
	o->change = (struct flag_change){ .modseq = o->op.modseq,
		.keep = a->op == ESP_STORE_ADD ? UINT64_MAX : a->op == ESP_STORE_REMOVE ? ~bits : 0,
		.set = a->op == ESP_STORE_REMOVE ? 0 : bits };
	return st;
}

static void count(struct box_delta *d, uint64_t flags, int sign)
{
	d->unseen += flags & ESP_FLAG_SEEN ? 0 : sign;
	d->deleted += flags & ESP_FLAG_DELETED ? sign : 0;
}

/* *joined: no message since the last one that changed stayed as it is, so one range takes both. */
static esp_status store_one(struct store_op *o, uint32_t uid, uint64_t modseq, uint64_t flags, int *joined)
{
	uint64_t after = (flags & o->change.keep) | o->change.set;
	esp_status st;

	if (o->args->has_unchangedsince && modseq > o->args->unchangedsince) {
		*joined = 0;
		return ranges_add(&o->failed, uid, uid);
	}
	if (after == flags) {
		*joined = 0;
		return ESP_OK;
	}
	o->nchanged++;
	count(&o->delta, flags, -1);
	count(&o->delta, after, 1);
	st = ranges_add_uid(&o->changed, uid, *joined);
	*joined = 1;
	return st;
}

static esp_status store_range(struct store_op *o, esp_uid_range r)
{
	const esp_view *v = o->held.now;
	int joined = 0;
	esp_status st = ESP_OK;

	for (uint32_t k = view_chunk_from(v, r.first); k < v->nchunks && v->chunk[k]->uid[0] <= r.last; k++) {
		const esp_view_chunk *c = v->chunk[k];
		for (uint32_t i = view_place_from(c, r.first); st == ESP_OK && i < c->count && c->uid[i] <= r.last; i++)
			st = store_one(o, c->uid[i], c->modseq[i], c->flags[i], &joined);
	}
	return st;
}

/* Into the rows now, or later. */
static esp_status store_rows(struct store_op *o, esp_tx *tx)
{
	esp_status st = ESP_OK;

	if (o->box.unsettled == 0 && o->nchanged < o->op.m->limits.store_rows) {
		for (uint32_t i = 0; st == ESP_OK && i < o->changed.n; i++)
			st = rows_flag(&o->op, tx, &o->box, o->changed.range[i].first, o->changed.range[i].last, &o->change);
		return st;
	}
	o->op.unsettled = 1;
	if (o->box.unsettled)
		return ESP_OK;
	return tx->exec(tx, UNSETTLED, (esp_sql_value[]){ ESP_SQL_ID(o->mailbox), ESP_SQL_I(o->op.modseq) }, 2, NULL);
}

static esp_status store_write(struct store_op *o, esp_tx *tx)
{
	esp_status st;

	o->change.range = o->changed.range;
	o->change.n = o->changed.n;
	st = store_rows(o, tx);
	if (st == ESP_OK)
		st = log_flags(&o->op, tx, o->mailbox, &o->change, &o->delta);
	if (st == ESP_OK)
		st = box_update(&o->op, tx, o->mailbox, o->delta, NULL);
	if (st == ESP_OK)
		st = box_save_keywords(&o->op, tx, &o->box);
	return st == ESP_OK ? fact_about(&o->op, tx, FACT_FLAGS, &o->box, o->changed.range, o->changed.n, o->nchanged) : st;
}

static void store_restart(struct store_op *o)
{
	op_restart(&o->op);
	o->changed = o->failed = (struct uid_ranges){ .arena = o->op.arena };
	o->delta = (struct box_delta){ 0 };
	o->nchanged = 0;
}

static esp_status on_store(esp_tx *tx, void *arg)
{
	struct store_op *o = arg;
	esp_status st;

	store_restart(o);
	st = account_lock(&o->op, tx, (struct account_charge){ .bump = 1 });
	if (st == ESP_OK)
		st = box_read(&o->op, tx, o->mailbox, &o->box);
	if (st == ESP_OK)
		st = held_take(&o->held, &o->op, tx, &o->box);
	if (st == ESP_OK)
		st = store_masks(o);
	for (uint32_t i = 0; st == ESP_OK && i < o->set.n; i++)
		st = store_range(o, o->set.range[i]);
	return st == ESP_OK && o->nchanged ? store_write(o, tx) : st;
}

static esp_status keep_failed(const struct uid_ranges *from, esp_arena *a, esp_uid_set *ret)
{
	struct uid_ranges into = { .arena = a };
	esp_status st = ESP_OK;

	for (uint32_t i = 0; st == ESP_OK && i < from->n; i++)
		st = ranges_add(&into, from->range[i].first, from->range[i].last);
	*ret = (esp_uid_set){ into.range, into.n };
	return st;
}

esp_status message_store(const esp_mailstore *s, esp_arena *a, const esp_actor *actor, esp_id mailbox, esp_uid_set uids,
                         const esp_store_args *args, uint64_t *ret_modseq, esp_uid_set *ret_failed)
{
	struct store_op o = { .op = { .m = store_of(s) } };
	esp_status st = args->op < ESP_STORE_ADD || args->op > ESP_STORE_REPLACE ? ESP_EINVAL : uid_set_check(uids);

	*ret_modseq = 0;
	*ret_failed = (esp_uid_set){ NULL, 0 };
	if (st == ESP_OK)
		st = op_begin(store_of(s), &o.op, actor->account);
	o.mailbox = mailbox;
	o.set = uids;
	o.args = args;
	if (st == ESP_OK)
		st = held_run(&o.held, actor, &o.op, mailbox, on_store, &o);
	if (st == ESP_OK) {
		op_committed(&o.op);
		*ret_modseq = o.nchanged ? o.op.modseq : 0;
		st = keep_failed(&o.failed, a, ret_failed);
	}
	held_end(&o.held, store_of(s));
	op_end(&o.op);
	if (*ret_modseq)
		view_delivered(s, mailbox, *ret_modseq);
	return st;
}
