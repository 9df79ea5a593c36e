/* mailbox - names: LIST, CREATE, DELETE, SUBSCRIBE, and the claim on \Recent.
 *
 * Every superior of a mailbox has a row: CREATE makes those that are missing, DELETE leaves a \Noselect row while there
 * are children.  A mailbox that was deleted never comes back under its id, so sessions that had it selected find
 * nothing.  All calls are [worker], in a fiber; the functions with a tx run in transactions.
 */
#include "store.h"

#include <stdlib.h>

#define COLUMNS \
	"id, name, special_use, noselect, uidvalidity, uidnext, messages, unseen, recent, deleted, modseq, bytes"
static const char LIST[] = "SELECT " COLUMNS " FROM mailbox WHERE account_id = $1";
static const char FIND[] =
	"SELECT " COLUMNS ", (SELECT COUNT(*) FROM mail_subscription s WHERE s.account_id = $1 AND s.name = $2)"
	" FROM mailbox WHERE account_id = $1 AND name = $2";
static const char NAMES[] = "SELECT name FROM mailbox WHERE account_id = $1";
static const char LOOKUP[] = "SELECT id, noselect, uidnext, uid_mark FROM mailbox WHERE account_id = $1 AND name = $2";
static const char SUBSCRIPTIONS[] = "SELECT name FROM mail_subscription WHERE account_id = $1";
static const char COUNT[] = "SELECT COUNT(*) FROM mailbox WHERE account_id = $1";
static const char COUNT_SUBSCRIBED[] = "SELECT COUNT(*) FROM mail_subscription WHERE account_id = $1";
static const char INSERT[] =
	"INSERT INTO mailbox (id, account_id, name, special_use, noselect, uidvalidity, uidnext, first_recent, modseq,"
	" messages, unseen, deleted, recent, bytes, keywords, log_rows, log_floor)"
	" VALUES ($1, $2, $3, $4, $5, $6, 1, 1, $7, 0, 0, 0, 0, 0, '', 0, $7)";
static const char REVIVE[] =
	"UPDATE mailbox SET noselect = 0, special_use = $3, uidvalidity = $4, modseq = $5, log_floor = $5, uid_mark = 0"
	" WHERE id = $1 AND account_id = $2";
static const char SUBSCRIBE[] =
	"INSERT INTO mail_subscription (account_id, name) VALUES ($1, $2) ON CONFLICT (account_id, name) DO NOTHING";
static const char UNSUBSCRIBE[] = "DELETE FROM mail_subscription WHERE account_id = $1 AND name = $2";
static const char FORGET_LOG[] = "DELETE FROM change_log WHERE mailbox_id = $1";
static const char DELETE[] = "DELETE FROM mailbox WHERE id = $1 AND account_id = $2";
static const char RECENT[] =
	"SELECT first_recent, uidnext FROM mailbox WHERE id = $1 AND account_id = $2 AND noselect = 0";
static const char CLAIM[] =
	"UPDATE mailbox SET first_recent = uidnext, recent = 0 WHERE id = $1 AND account_id = $2 AND first_recent = $3"
	" AND uidnext = $4";

void fresh_ids(const struct mailstore *m, esp_id ids[NAME_DEPTH])
{
	for (uint32_t i = 0; i < NAME_DEPTH; i++)
		ids[i] = m->crypto->new_id();
}

/* --- LIST -------------------------------------------------------------------------------------------- */

static esp_mailbox mailbox_of_row(const esp_sql_rows *rows, uint32_t i)
{
	return (esp_mailbox){ .size = sizeof(esp_mailbox), .id = id_of(esp_sql_at(rows, i, 0)),
		.name = str_of(esp_sql_at(rows, i, 1)), .special_use = str_of(esp_sql_at(rows, i, 2)),
		.attributes = int_of(esp_sql_at(rows, i, 3)) ? ESP_BOX_NOSELECT : 0,
		.uidvalidity = (uint32_t)int_of(esp_sql_at(rows, i, 4)), .uidnext = (uint32_t)int_of(esp_sql_at(rows, i, 5)),
		.messages = (uint32_t)int_of(esp_sql_at(rows, i, 6)), .unseen = (uint32_t)int_of(esp_sql_at(rows, i, 7)),
		.recent = (uint32_t)int_of(esp_sql_at(rows, i, 8)), .deleted = (uint32_t)int_of(esp_sql_at(rows, i, 9)),
		.modseq = (uint64_t)int_of(esp_sql_at(rows, i, 10)), .bytes = (uint64_t)int_of(esp_sql_at(rows, i, 11)) };
}

static int by_name(const void *a, const void *b)
{
	return name_compare(((const esp_mailbox *)a)->name, ((const esp_mailbox *)b)->name);
}

static void mark_parents(esp_mailbox *box, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		for (uint32_t k = i + 1; k < n && name_below(box[k].name, box[i].name); k++)
			if (!(box[k].attributes & ESP_BOX_NONEXISTENT)) {
				box[i].attributes |= ESP_BOX_HAS_CHILDREN;
				break;
			}
}

static esp_mailbox *find_sorted(esp_mailbox *box, uint32_t n, esp_str name)
{
	esp_mailbox key = { .name = name };

	return n ? bsearch(&key, box, n, sizeof *box, by_name) : NULL;
}

static esp_status list_fill(esp_arena *a, const esp_sql_rows *boxes, const esp_sql_rows *subscribed,
                            const esp_mailbox **ret, uint32_t *ret_n)
{
	esp_mailbox *box = esp_alloc_array(a, (size_t)boxes->nrows + subscribed->nrows + 1, sizeof *box);
	uint32_t n = boxes->nrows;

	if (!box)
		return ESP_ENOMEM;
	for (uint32_t i = 0; i < n; i++)
		box[i] = mailbox_of_row(boxes, i);
	qsort(box, n, sizeof *box, by_name);
	for (uint32_t i = 0; i < subscribed->nrows; i++) {
		esp_str name = str_of(esp_sql_at(subscribed, i, 0));
		esp_mailbox *found = find_sorted(box, boxes->nrows, name);
		if (found)
			found->attributes |= ESP_BOX_SUBSCRIBED;
		else
			box[n++] = (esp_mailbox){ .size = sizeof *box, .name = name, .special_use = ESP_STR(""),
				.attributes = ESP_BOX_NONEXISTENT | ESP_BOX_NOSELECT | ESP_BOX_SUBSCRIBED };
	}
	qsort(box, n, sizeof *box, by_name);
	mark_parents(box, n);
	*ret = box;
	*ret_n = n;
	return ESP_OK;
}

esp_status mailbox_list(
	const esp_mailstore *s, esp_arena *a, const esp_actor *actor, const esp_mailbox **ret, uint32_t *ret_n)
{
	const struct mailstore *m = store_of(s);
	esp_sql_value args[] = { ESP_SQL_ID(actor->account) };
	esp_sql_rows boxes, subscribed;
	esp_status st = account_open(m, actor->account, actor->login);

	if (st == ESP_OK)
		st = store_query(m, 0, a, LIST, args, 1, &boxes);
	if (st == ESP_OK)
		st = store_query(m, 0, a, SUBSCRIPTIONS, args, 1, &subscribed);
	return st == ESP_OK ? list_fill(a, &boxes, &subscribed, ret, ret_n) : st;
}

esp_status mailbox_find(const esp_mailstore *s, esp_arena *a, const esp_actor *actor, esp_str name, esp_mailbox *ret)
{
	const struct mailstore *m = store_of(s);
	char buf[NAME_MAX_BYTES + 1];
	esp_sql_rows rows;
	esp_str canonical;
	esp_status st = account_open(m, actor->account, actor->login);

	if (st != ESP_OK)
		return st;
	if (name_canonical(name, buf, &canonical) != ESP_OK)
		return ESP_ENOENT;
	st = store_query(
		m, ESP_SQL_BOUNDED, a, FIND, (esp_sql_value[]){ ESP_SQL_ID(actor->account), ESP_SQL_T(canonical) }, 2, &rows);
	if (st != ESP_OK)
		return st;
	if (rows.nrows == 0)
		return ESP_ENOENT;
	*ret = mailbox_of_row(&rows, 0);
	if (int_of(esp_sql_at(&rows, 0, 12)))
		ret->attributes |= ESP_BOX_SUBSCRIBED;
	return ESP_OK;
}

esp_status mailbox_lookup(const struct mailstore *m, esp_id account, esp_str name, struct found *ret)
{
	esp_arena *a = m->core.mem->arena_new(m->self, "mailstore-lookup", 0);
	esp_sql_rows rows;
	esp_status st;

	if (!a)
		return ESP_ENOMEM;
	st =
		store_query(m, ESP_SQL_BOUNDED, a, LOOKUP, (esp_sql_value[]){ ESP_SQL_ID(account), ESP_SQL_T(name) }, 2, &rows);
	if (st == ESP_OK && rows.nrows == 0)
		st = ESP_ENOENT;
	if (st == ESP_OK)
		*ret = (struct found){ id_of(esp_sql_at(&rows, 0, 0)), int_of(esp_sql_at(&rows, 0, 1)) != 0,
			(uint32_t)int_of(esp_sql_at(&rows, 0, 2)), (uint32_t)int_of(esp_sql_at(&rows, 0, 3)) };
	m->core.mem->arena_free(a);
	return st;
}

/* --- CREATE ------------------------------------------------------------------------------------------ */

static esp_status named_fact(struct op *op, esp_tx *tx, enum fact_kind kind, esp_id id, esp_str name)
{
	esp_field field[] = { ESP_FID("account", op->account), ESP_FID("mailbox", id), ESP_FSTR("name", name) };

	return op_fact(op, tx, kind, field, 3);
}

static esp_status born(struct op *op, esp_tx *tx, esp_id id, esp_str name, esp_str special_use, uint32_t uidvalidity)
{
	esp_blob_job job = { .kind = ESP_BLOB_MKFOLDER, .folder = name, .to = special_use, .id = id,
		.uidvalidity = uidvalidity, .modseq = op->modseq };
	esp_status st = op_job(op, tx, &job);

	return st == ESP_OK ? named_fact(op, tx, FACT_CREATED, id, name) : st;
}

static esp_status insert_row(
	struct op *op, esp_tx *tx, esp_id id, esp_str name, esp_str special_use, int noselect, uint32_t uidvalidity)
{
	esp_sql_value args[] = { ESP_SQL_ID(id), ESP_SQL_ID(op->account), ESP_SQL_T(name), ESP_SQL_T(special_use),
		ESP_SQL_I(noselect), ESP_SQL_I(uidvalidity), ESP_SQL_I(op->modseq) };

	return tx->exec(tx, INSERT, args, 7, NULL);
}

/* One name of the path: ESP_EEXIST when it is there already. */
static esp_status make_one(struct op *op, esp_tx *tx, esp_str name, esp_str special_use, esp_id id)
{
	esp_sql_rows rows;
	uint32_t uidvalidity = 0;
	int revive;
	esp_status st = tx->exec(tx, LOOKUP, (esp_sql_value[]){ ESP_SQL_ID(op->account), ESP_SQL_T(name) }, 2, &rows);

	if (st != ESP_OK)
		return st;
	revive = rows.nrows && int_of(esp_sql_at(&rows, 0, 1));
	if (rows.nrows && !revive)
		return ESP_EEXIST;
	if (revive)
		id = id_of(esp_sql_at(&rows, 0, 0));
	st = account_uidvalidity(op, tx, &uidvalidity);
	if (st == ESP_OK && revive)
		st = tx->exec(tx, REVIVE, (esp_sql_value[]){ ESP_SQL_ID(id), ESP_SQL_ID(op->account), ESP_SQL_T(special_use),
			ESP_SQL_I(uidvalidity), ESP_SQL_I(op->modseq) }, 5, NULL);
	else if (st == ESP_OK)
		st = insert_row(op, tx, id, name, special_use, 0, uidvalidity);
	return st == ESP_OK ? born(op, tx, id, name, special_use, uidvalidity) : st;
}

/* A superior that is \Noselect stays so. */
static esp_status make_superior(struct op *op, esp_tx *tx, esp_str name, esp_id id)
{
	esp_sql_rows rows;
	esp_status st = tx->exec(tx, LOOKUP, (esp_sql_value[]){ ESP_SQL_ID(op->account), ESP_SQL_T(name) }, 2, &rows);

	if (st != ESP_OK || rows.nrows)
		return st;
	return make_one(op, tx, name, ESP_STR(""), id);
}

esp_status mailbox_make(struct op *op, esp_tx *tx, esp_str name, esp_str special_use, const esp_id *ids)
{
	uint32_t depth = 0;
	esp_status st = ESP_OK;

	for (size_t i = 0; st == ESP_OK && i < name.len; i++)
		if (name.ptr[i] == '/' && depth < NAME_DEPTH - 1)
			st = make_superior(op, tx, (esp_str){ name.ptr, i }, ids[depth++]);
	return st == ESP_OK ? make_one(op, tx, name, special_use, ids[depth]) : st;
}

struct name_op {
	struct op op;
	esp_str name, special_use;
	int on;
	uint32_t most;
	esp_id ids[NAME_DEPTH];
	esp_id id;                     /* DELETE: what was deleted */
};

static esp_status below_limit(struct name_op *o, esp_tx *tx, const char *count)
{
	esp_sql_rows rows;
	esp_status st = tx->exec(tx, count, (esp_sql_value[]){ ESP_SQL_ID(o->op.account) }, 1, &rows);

	return st == ESP_OK && int_of(esp_sql_at(&rows, 0, 0)) >= (int64_t)o->most ? ESP_E2BIG : st;
}

static esp_status on_create(esp_tx *tx, void *arg)
{
	struct name_op *o = arg;
	esp_status st;

	op_restart(&o->op);
	st = account_lock(&o->op, tx, (struct account_charge){ .bump = 1 });
	if (st == ESP_OK)
		st = below_limit(o, tx, COUNT);
	return st == ESP_OK ? mailbox_make(&o->op, tx, o->name, o->special_use, o->ids) : st;
}

static esp_status name_reason(esp_status st, esp_err *err)
{
	switch (st) {
	case ESP_EINVAL: reason(err, "not a name a mailbox can have"); break;
	case ESP_E2BIG: reason(err, "the name is too long or too deep, or there are too many mailboxes"); break;
	case ESP_EEXIST: reason(err, "there is a mailbox of that name"); break;
	case ESP_ENOENT: reason(err, "there is no such mailbox"); break;
	case ESP_EACCES: reason(err, "the mailbox cannot be deleted"); break;
	default: break;
	}
	return st;
}

/* Run one change of names for the actor's account; the op is large, so it is allocated. */
static esp_status name_run(
	const struct mailstore *m, const esp_actor *actor, struct name_op *o, esp_status (*fn)(esp_tx *, void *))
{
	esp_status st = op_begin(m, &o->op, actor->account);

	if (st == ESP_OK) {
		fresh_ids(m, o->ids);
		st = op_run(&o->op, NULL, 0, fn, o);
	}
	if (st == ESP_OK)
		op_committed(&o->op);
	op_end(&o->op);
	return st;
}

esp_status mailbox_create(
	const esp_mailstore *s, const esp_actor *actor, esp_str name, esp_str special_use, esp_err *err)
{
	const struct mailstore *m = store_of(s);
	struct name_op o = { .special_use = special_use, .most = m->limits.mailboxes };
	char buf[NAME_MAX_BYTES + 1];
	esp_status st = account_open(m, actor->account, actor->login);

	if (st != ESP_OK)
		return st;
	if (special_use.len && !special_use_valid(special_use)) {
		reason(err, "no mailbox can have that special use");
		return ESP_EINVAL;
	}
	st = name_canonical(name, buf, &o.name);
	return name_reason(st == ESP_OK ? name_run(m, actor, &o, on_create) : st, err);
}

/* --- DELETE ------------------------------------------------------------------------------------------ */

static esp_status has_children(struct name_op *o, esp_tx *tx, int *ret)
{
	esp_sql_rows rows;
	esp_status st = tx->exec(tx, NAMES, (esp_sql_value[]){ ESP_SQL_ID(o->op.account) }, 1, &rows);

	*ret = 0;
	for (uint32_t i = 0; st == ESP_OK && i < rows.nrows; i++)
		*ret |= name_below(str_of(esp_sql_at(&rows, i, 0)), o->name);
	return st;
}

/* What arrived since the mailbox was emptied. */
static esp_status drop_messages(struct name_op *o, esp_tx *tx)
{
	static const esp_uid_range every = { 1, UINT32_MAX };
	struct walk walk = { .set = { &every, 1 }, .from = 1 };
	struct box_delta d = { 0 };
	struct row *row = NULL;
	struct box box;
	uint32_t n = 0;
	esp_status st = box_read(&o->op, tx, o->id, &box);

	while (st == ESP_OK && walk.from) {
		st = walk_next(&o->op, tx, &box, &walk, &row, &n);
		for (uint32_t i = 0; st == ESP_OK && i < n; i++)
			delta_count(&box, &row[i], -1, &d);
		if (st == ESP_OK && n)
			st = rows_delete(&o->op, tx, &box, row, n, 0);
	}
	if (st == ESP_OK && d.messages)
		st = account_lock(&o->op, tx, (struct account_charge){ .bytes = d.bytes, .messages = d.messages });
	return st;
}

static esp_status delete_row(struct name_op *o, esp_tx *tx, int children)
{
	esp_blob_job job = { .kind = ESP_BLOB_RMFOLDER, .folder = o->name, .id = o->id, .modseq = o->op.modseq };
	esp_sql_value args[] = { ESP_SQL_ID(o->id), ESP_SQL_ID(o->op.account) };
	esp_status st = tx->exec(tx, FORGET_LOG, args, 1, NULL);

	if (st == ESP_OK)
		st = tx->exec(tx, DELETE, args, 2, NULL);
	if (st == ESP_OK && children)
		st = insert_row(&o->op, tx, o->ids[0], o->name, ESP_STR(""), 1, 0);
	if (st == ESP_OK)
		st = op_job(&o->op, tx, &job);
	return st == ESP_OK ? named_fact(&o->op, tx, FACT_REMOVED, o->id, o->name) : st;
}

static esp_status on_remove(esp_tx *tx, void *arg)
{
	struct name_op *o = arg;
	esp_sql_rows rows;
	int children = 0, noselect;
	esp_status st;

	op_restart(&o->op);
	st = account_lock(&o->op, tx, (struct account_charge){ .bump = 1 });
	if (st == ESP_OK)
		st = tx->exec(tx, LOOKUP, (esp_sql_value[]){ ESP_SQL_ID(o->op.account), ESP_SQL_T(o->name) }, 2, &rows);
	if (st == ESP_OK && rows.nrows == 0)
		st = ESP_ENOENT;
	if (st != ESP_OK)
		return st;
	o->id = id_of(esp_sql_at(&rows, 0, 0));
	noselect = int_of(esp_sql_at(&rows, 0, 1)) != 0;
	st = has_children(o, tx, &children);
	if (st == ESP_OK && noselect && children)
		return ESP_EACCES;             /* RFC 3501 6.3.4 */
	if (st == ESP_OK && !noselect)
		st = drop_messages(o, tx);
	return st == ESP_OK ? delete_row(o, tx, children) : st;
}

esp_status mailbox_remove(const esp_mailstore *s, const esp_actor *actor, esp_str name, esp_err *err)
{
	const struct mailstore *m = store_of(s);
	struct name_op o = { .most = 0 };
	char buf[NAME_MAX_BYTES + 1];
	struct found box = { .noselect = 0 };
	int left = 1;
	esp_status st = account_open(m, actor->account, actor->login);

	if (st != ESP_OK)
		return st;
	if (name_canonical(name, buf, &o.name) != ESP_OK)
		return name_reason(ESP_ENOENT, err);
	if (name_is_inbox(o.name))
		return name_reason(ESP_EACCES, err);
	st = mailbox_lookup(m, actor->account, o.name, &box);
	while (st == ESP_OK && !box.noselect && left)
		st = message_clear(m, actor, box.id, &left);
	if (st == ESP_OK)
		st = name_run(m, actor, &o, on_remove);
	if (st == ESP_OK)
		view_delivered(s, o.id, UINT64_MAX);   /* who has it selected must look */
	return name_reason(st, err);
}

static esp_status on_purge(esp_tx *tx, void *arg)
{
	struct name_op *o = arg;
	esp_sql_rows rows;
	esp_status st;

	op_restart(&o->op);
	st = account_lock(&o->op, tx, (struct account_charge){ .bump = 1 });
	if (st == ESP_OK)
		st = tx->exec(tx, LOOKUP, (esp_sql_value[]){ ESP_SQL_ID(o->op.account), ESP_SQL_T(o->name) }, 2, &rows);
	if (st == ESP_OK && rows.nrows == 0)
		st = ESP_ENOENT;
	if (st != ESP_OK)
		return st;
	o->id = id_of(esp_sql_at(&rows, 0, 0));
	if (!int_of(esp_sql_at(&rows, 0, 1)))
		st = drop_messages(o, tx);
	return st == ESP_OK ? delete_row(o, tx, 0) : st;
}

esp_status mailbox_purge(const struct mailstore *m, const esp_actor *actor, esp_str name)
{
	struct name_op o = { .name = name };
	esp_status st = name_run(m, actor, &o, on_purge);

	if (st == ESP_OK)
		view_delivered(&m->table, o.id, UINT64_MAX);
	return st;
}

/* --- SUBSCRIBE --------------------------------------------------------------------------------------- */

static esp_status on_subscribe(esp_tx *tx, void *arg)
{
	struct name_op *o = arg;
	esp_sql_value args[] = { ESP_SQL_ID(o->op.account), ESP_SQL_T(o->name) };
	esp_status st;

	op_restart(&o->op);
	if (!o->on)
		return tx->exec(tx, UNSUBSCRIBE, args, 2, NULL);
	st = below_limit(o, tx, COUNT_SUBSCRIBED);
	return st == ESP_OK ? tx->exec(tx, SUBSCRIBE, args, 2, NULL) : st;
}

esp_status mailbox_subscribe(const esp_mailstore *s, const esp_actor *actor, esp_str name, int32_t on)
{
	const struct mailstore *m = store_of(s);
	struct name_op o = { .on = on, .most = 2 * m->limits.mailboxes };
	char buf[NAME_MAX_BYTES + 1];
	esp_status st = account_open(m, actor->account, actor->login);

	if (st == ESP_OK)
		st = name_canonical(name, buf, &o.name);
	return st == ESP_OK ? name_run(m, actor, &o, on_subscribe) : st;
}

/* --- \Recent ----------------------------------------------------------------------------------------- */

struct claim_op { struct op op; esp_id mailbox; int64_t first, uidnext; uint32_t changed; };

static esp_status on_claim(esp_tx *tx, void *arg)
{
	struct claim_op *c = arg;
	esp_sql_value args[] = { ESP_SQL_ID(c->mailbox), ESP_SQL_ID(c->op.account), ESP_SQL_I(c->first),
		ESP_SQL_I(c->uidnext) };
	esp_sql_rows rows;
	esp_status st;

	op_restart(&c->op);
	st = tx->exec(tx, CLAIM, args, 4, &rows);
	c->changed = st == ESP_OK ? rows.changed : 0;
	return st;
}

static esp_status read_recent(const struct mailstore *m, struct claim_op *c)
{
	esp_sql_value args[] = { ESP_SQL_ID(c->mailbox), ESP_SQL_ID(c->op.account) };
	esp_sql_rows rows;
	esp_status st = store_query(m, ESP_SQL_BOUNDED, c->op.arena, RECENT, args, 2, &rows);

	if (st == ESP_OK && rows.nrows == 0)
		st = ESP_ENOENT;
	if (st == ESP_OK) {
		c->first = int_of(esp_sql_at(&rows, 0, 0));
		c->uidnext = int_of(esp_sql_at(&rows, 0, 1));
	}
	return st;
}

esp_status mailbox_claim_recent(const esp_mailstore *s, const esp_actor *actor, esp_id mailbox, uint32_t *ret_first)
{
	const struct mailstore *m = store_of(s);
	struct claim_op c = { .mailbox = mailbox };
	esp_status st = op_begin(m, &c.op, actor->account);

	c.mailbox = mailbox;
	/* nothing new is the common case and writes nothing; losing a race means reading again */
	for (int i = 0; st == ESP_OK && i < 16; i++) {
		st = read_recent(m, &c);
		if (st != ESP_OK || c.first == c.uidnext)
			break;
		st = op_run(&c.op, &mailbox, 1, on_claim, &c);
		if (st == ESP_OK && c.changed)
			break;
	}
	op_end(&c.op);
	if (st == ESP_OK)
		*ret_first = (uint32_t)c.first;
	return st;
}
