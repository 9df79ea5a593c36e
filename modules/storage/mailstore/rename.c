/* rename - RENAME (RFC 3501 6.3.5): a mailbox and all below it in one transaction; INBOX stays and gives its messages.
 */
#include "store.h"

static const char ROWS[] = "SELECT id, name FROM mailbox WHERE account_id = $1";
static const char RENAME[] = "UPDATE mailbox SET name = $3 WHERE id = $1 AND account_id = $2";

struct rename_op { struct op op; esp_str from, to; esp_id ids[NAME_DEPTH]; };

static esp_status rename_one(struct rename_op *o, esp_tx *tx, esp_id id, esp_str name)
{
	esp_str tail = { name.ptr + o->from.len, name.len - o->from.len }, to;
	char *p = esp_alloc(o->op.arena, o->to.len + tail.len + 1), buf[NAME_MAX_BYTES + 1];
	esp_blob_job job = { .kind = ESP_BLOB_MVFOLDER, .folder = name };
	esp_status st;

	if (!p)
		return ESP_ENOMEM;
	memcpy(p, o->to.ptr, o->to.len);
	if (tail.len)
		memcpy(p + o->to.len, tail.ptr, tail.len);
	st = name_canonical((esp_str){ p, o->to.len + tail.len }, buf, &to);   /* may have become too long or too deep */
	if (st != ESP_OK)
		return st;
	job.to = to;
	job.modseq = o->op.modseq;
	st = tx->exec(tx, RENAME, (esp_sql_value[]){ ESP_SQL_ID(id), ESP_SQL_ID(o->op.account), ESP_SQL_T(to) }, 3, NULL);
	if (st == ESP_OK)
		st = op_job(&o->op, tx, &job);
	return st == ESP_OK ? op_fact(&o->op, tx, FACT_RENAMED, (esp_field[]){ ESP_FID("account", o->op.account),
		ESP_FID("mailbox", id), ESP_FSTR("name", name), ESP_FSTR("to", to) }, 4) : st;
}

static esp_status check(const struct rename_op *o, const esp_sql_rows *rows, int *ret_parent)
{
	int from = 0;

	*ret_parent = name_parent(o->to).len == 0;
	for (uint32_t i = 0; i < rows->nrows; i++) {
		esp_str name = str_of(esp_sql_at(rows, i, 1));
		if (esp_str_eq(name, o->to))
			return ESP_EEXIST;
		from |= esp_str_eq(name, o->from);
		*ret_parent |= esp_str_eq(name, name_parent(o->to));
	}
	return from ? ESP_OK : ESP_ENOENT;
}

static esp_status on_rename(esp_tx *tx, void *arg)
{
	struct rename_op *o = arg;
	esp_sql_rows rows;
	int parent = 0;
	esp_status st;

	op_restart(&o->op);
	st = account_lock(&o->op, tx, (struct account_charge){ .bump = 1 });
	if (st == ESP_OK)
		st = tx->exec(tx, ROWS, (esp_sql_value[]){ ESP_SQL_ID(o->op.account) }, 1, &rows);
	if (st == ESP_OK)
		st = check(o, &rows, &parent);
	if (st == ESP_OK && !parent)
		st = mailbox_make(&o->op, tx, name_parent(o->to), ESP_STR(""), o->ids);
	for (uint32_t i = 0; st == ESP_OK && i < rows.nrows; i++) {
		esp_str name = str_of(esp_sql_at(&rows, i, 1));
		if (esp_str_eq(name, o->from) || name_below(name, o->from))
			st = rename_one(o, tx, id_of(esp_sql_at(&rows, i, 0)), name);
	}
	return st;
}

/* All messages of INBOX move to the new mailbox; what is below INBOX stays. */
static esp_status rename_inbox(const struct mailstore *m, const esp_actor *actor, esp_str to, esp_err *err)
{
	static const esp_uid_range every = { 1, UINT32_MAX };
	esp_arena *a = m->core.mem->arena_new(m->self, "mailstore-rename", 0);
	esp_copy_result moved;
	uint64_t modseq;
	struct found from, target;
	esp_status st = a ? mailbox_create(&m->table, actor, to, (esp_str){ NULL, 0 }, err) : ESP_ENOMEM;

	if (st == ESP_OK)
		st = mailbox_lookup(m, actor->account, ESP_STR("INBOX"), &from);
	if (st == ESP_OK)
		st = mailbox_lookup(m, actor->account, to, &target);
	if (st == ESP_OK)
		st = message_copy(&m->table, a, actor, from.id, (esp_uid_set){ &every, 1 }, target.id, 1, &moved, &modseq, err);
	if (a)
		m->core.mem->arena_free(a);
	return st;
}

static esp_status rename_reason(esp_status st, esp_err *err)
{
	switch (st) {
	case ESP_EINVAL: reason(err, "not a name this mailbox can get"); break;
	case ESP_E2BIG: reason(err, "a name would be too long or too deep"); break;
	case ESP_EEXIST: reason(err, "there is a mailbox of the new name"); break;
	case ESP_ENOENT: reason(err, "there is no such mailbox"); break;
	default: break;
	}
	return st;
}

esp_status mailbox_rename(const esp_mailstore *s, const esp_actor *actor, esp_str from, esp_str to, esp_err *err)
{
	const struct mailstore *m = store_of(s);
	struct rename_op o = { .op = { .m = m } };
	char from_buf[NAME_MAX_BYTES + 1], to_buf[NAME_MAX_BYTES + 1];
	esp_status st = account_open(m, actor->account, actor->login);

	if (st != ESP_OK)
		return st;
	if (name_canonical(from, from_buf, &o.from) != ESP_OK)
		return rename_reason(ESP_ENOENT, err);
	st = name_canonical(to, to_buf, &o.to);
	if (st == ESP_OK && name_below(o.to, o.from) && !name_is_inbox(o.from))
		st = ESP_EINVAL;
	if (st != ESP_OK)
		return rename_reason(st, err);
	if (name_is_inbox(o.from))
		return rename_inbox(m, actor, o.to, err);
	st = op_begin(m, &o.op, actor->account);
	if (st == ESP_OK) {
		fresh_ids(m, o.ids);
		st = op_run(&o.op, NULL, 0, on_rename, &o);
	}
	if (st == ESP_OK)
		op_committed(&o.op);
	op_end(&o.op);
	return rename_reason(st, err);
}
