/* deliver - messages into mailboxes: APPEND in a transaction of its own, delivery in the caller's.
 *
 * prepare() runs in the caller's fiber and computes everything that needs the content; the transaction then takes four
 * statements of ours a message (account, mailbox, message, message_info), one folder job and, rarely, an event.
 */
#include "store.h"

#include <stdlib.h>

static const char INFO_INSERT[] =
	"INSERT INTO message_info (blob_id, refs, header_len, sent_day, thread, message_id, envelope, bodystructure, body,"
	" preview, sent, reply, subject, parents)"
	" VALUES ($1, $14, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)"
	" ON CONFLICT (blob_id) DO UPDATE SET refs = message_info.refs + excluded.refs";

#define SYSTEM_FLAGS 0x1fu

esp_status message_prepare(const esp_mailstore *s, esp_arena *a, esp_append *m)
{
	const struct mailstore *ms = store_of(s);
	struct prepared *p = esp_alloc(a, sizeof *p);
	esp_status st;

	if (!p)
		return ESP_ENOMEM;
	st = content_info(ms, a, m, &p->info);
	if (st != ESP_OK)
		return st;
	p->magic = PREPARED_MAGIC;
	p->now = ms->core.loop->wall(NULL);
	p->blob = (const esp_blob *)ms->core.host->service(ms->self, ms->blob);
	p->log = (const esp_eventlog *)ms->core.host->service(ms->self, ms->eventlog);
	m->prepared = p;
	return ESP_OK;
}

static const struct prepared *prepared_of(const esp_append *m)
{
	const struct prepared *p = m->prepared;

	if (p && p->magic != PREPARED_MAGIC)
		abort();
	return p;
}

/* --- in the transaction ------------------------------------------------------------------------------ */

esp_status info_insert(esp_tx *tx, esp_id blob, const struct info *i, uint32_t uses)
{
	const struct threading *t = &i->threading;
	esp_sql_value args[] = { ESP_SQL_ID(blob), ESP_SQL_I(i->header_len),
		i->sent_day == NO_DAY ? ESP_SQL_NONE : ESP_SQL_I(i->sent_day), ESP_SQL_ID(i->thread), ESP_SQL_T(i->message_id),
		ESP_SQL_B(i->envelope), ESP_SQL_B(i->bodystructure), ESP_SQL_B(i->body), ESP_SQL_T(i->preview),
		t->sent == NO_TIME ? ESP_SQL_NONE : ESP_SQL_I(t->sent), ESP_SQL_I(t->reply), ESP_SQL_T(t->subject),
		ESP_SQL_T(t->parents), ESP_SQL_I(uses) };

	return tx->exec(tx, INFO_INSERT, args, 14, NULL);
}

static esp_status place(struct op *op, esp_tx *tx, struct box *b, const esp_append *m, uint32_t uid)
{
	struct row row = { .uid = uid, .bytes = m->bytes, .blob = m->id,
		.internal_date = m->internal_date ? m->internal_date : op->now };
	esp_status st = keywords_bits(&b->keywords, m->keywords, m->nkeywords, 1, &row.flags);

	if (st != ESP_OK)
		return st;
	row.flags |= m->flags & SYSTEM_FLAGS;
	st = row_insert(op, tx, b, &row);
	return st == ESP_OK ? info_insert(tx, m->id, &prepared_of(m)->info, 1) : st;
}

struct put { esp_id mailbox; const esp_append *m; uint32_t n; int32_t check; uint32_t first_uid, uidvalidity; };

static esp_status put(struct op *op, esp_tx *tx, struct put *p)
{
	struct box_delta d = { .uids = p->n, .messages = p->n, .recent = p->n };
	struct box b;
	esp_status st;

	for (uint32_t i = 0; i < p->n; i++) {
		d.bytes += (int64_t)p->m[i].bytes;
		d.unseen += !(p->m[i].flags & ESP_FLAG_SEEN);
		d.deleted += !!(p->m[i].flags & ESP_FLAG_DELETED);
	}
	st = account_lock(
		op, tx, (struct account_charge){ .bytes = d.bytes, .messages = p->n, .check = p->check, .bump = 1 });
	if (st == ESP_OK)
		st = box_update(op, tx, p->mailbox, d, &b);
	if (st != ESP_OK)
		return st;
	p->first_uid = b.uidnext - p->n;
	p->uidvalidity = b.uidvalidity;
	for (uint32_t i = 0; st == ESP_OK && i < p->n; i++)
		st = place(op, tx, &b, &p->m[i], p->first_uid + i);
	if (st == ESP_OK)
		st = box_save_keywords(op, tx, &b);
	return st == ESP_OK ? account_warn(op, tx, d.bytes) : st;
}

esp_status message_deliver(const esp_mailstore *s, esp_tx *tx, esp_id account, esp_id mailbox, const esp_append *m,
                           uint32_t *ret_uid, uint64_t *ret_modseq)
{
	const struct prepared *p = prepared_of(m);
	struct op op = { .m = store_of(s), .arena = tx->arena, .account = account, .shared_arena = 1 };
	struct put one = { .mailbox = mailbox, .m = m, .n = 1 };
	esp_status st;

	if (!p || m->bytes > INT64_MAX / 2)
		return ESP_EINVAL;
	op.blob = p->blob;
	op.log = p->log;
	op.now = p->now;
	op.facts_end = &op.facts;
	st = put(&op, tx, &one);
	if (st != ESP_OK)
		return st;
	*ret_uid = one.first_uid;
	*ret_modseq = op.modseq;
	return ESP_OK;
}

/* --- APPEND ------------------------------------------------------------------------------------------ */

struct append_op { struct op op; struct put put; };

static esp_status on_append(esp_tx *tx, void *arg)
{
	struct append_op *o = arg;

	op_restart(&o->op);
	return put(&o->op, tx, &o->put);
}

static esp_status prepare_all(const esp_mailstore *s, esp_arena *a, const esp_append *m, uint32_t n, esp_append **ret)
{
	esp_append *copy = esp_alloc_array(a, n, sizeof *copy);
	esp_status st = copy ? ESP_OK : ESP_ENOMEM;

	for (uint32_t i = 0; st == ESP_OK && i < n; i++) {
		copy[i] = m[i];
		if (m[i].bytes > INT64_MAX / 2 / n)
			st = ESP_EINVAL;
		else if (!prepared_of(&m[i]))
			st = message_prepare(s, a, &copy[i]);
	}
	*ret = copy;
	return st;
}

static void append_reason(esp_status st, esp_err *err)
{
	switch (st) {
	case ESP_EQUOTA: reason(err, "the account is over its quota"); break;
	case ESP_ENOENT: reason(err, "there is no such mailbox"); break;
	case ESP_E2BIG: reason(err, "the mailbox has no more UIDs or keywords to give"); break;
	case ESP_EINVAL: reason(err, "a keyword is not valid"); break;
	default: break;
	}
}

esp_status message_append(const esp_mailstore *s, const esp_actor *actor, esp_id mailbox, const esp_append *m,
	uint32_t n, uint32_t *ret_first_uid, uint32_t *ret_uidvalidity, uint64_t *ret_modseq, esp_err *err)
{
	const struct mailstore *ms = store_of(s);
	struct append_op o = { .put = { .mailbox = mailbox, .n = n, .check = 1 } };
	esp_append *prepared = NULL;
	esp_arena *a;
	esp_status st;

	if (n == 0)
		return ESP_EINVAL;
	st = op_begin(ms, &o.op, actor->account);
	a = st == ESP_OK ? ms->core.mem->arena_new(ms->self, "mailstore-append", 0) : NULL;
	if (a) {
		st = prepare_all(s, a, m, n, &prepared);
		o.put.m = prepared;
		if (st == ESP_OK)
			st = op_run(&o.op, &mailbox, 1, on_append, &o);
		ms->core.mem->arena_free(a);
	} else {
		st = ESP_ENOMEM;
	}
	if (st == ESP_OK) {
		*ret_first_uid = o.put.first_uid;
		*ret_uidvalidity = o.put.uidvalidity;
		*ret_modseq = o.op.modseq;
		op_committed(&o.op);
		view_delivered(s, mailbox, o.op.modseq);
	} else {
		append_reason(st, err);
	}
	op_end(&o.op);
	return st;
}

/* --- where a delivery goes --------------------------------------------------------------------------- */

static const char BY_USE[] = "SELECT id, uidnext, uid_mark FROM mailbox WHERE account_id = $1 AND special_use = $2 AND "
							 "noselect = 0 ORDER BY name";

/* "Junk" is the mailbox marked \Junk when none has that name. */
static esp_status by_special_use(const struct mailstore *m, esp_id account, esp_str name, struct found *ret)
{
	char use[16] = "\\";
	esp_arena *a;
	esp_sql_rows rows;
	esp_status st;

	if (name.len > sizeof use - 2)
		return ESP_ENOENT;
	memcpy(use + 1, name.ptr, name.len);
	if (!special_use_valid((esp_str){ use, name.len + 1 }))
		return ESP_ENOENT;
	a = m->core.mem->arena_new(m->self, "mailstore-target", 0);
	if (!a)
		return ESP_ENOMEM;
	st = store_query(m, 0, a, BY_USE,
		(esp_sql_value[]){ ESP_SQL_ID(account), ESP_SQL_T(((esp_str){ use, name.len + 1 })) }, 2, &rows);
	if (st == ESP_OK && rows.nrows == 0)
		st = ESP_ENOENT;
	if (st == ESP_OK)
		*ret = (struct found){ .id = id_of(esp_sql_at(&rows, 0, 0)),
			.uidnext = (uint32_t)int_of(esp_sql_at(&rows, 0, 1)),
			.uid_mark = (uint32_t)int_of(esp_sql_at(&rows, 0, 2)) };
	m->core.mem->arena_free(a);
	return st;
}

static esp_status find_or_make(const struct mailstore *m, esp_id account, esp_str folder, struct found *ret)
{
	esp_actor actor = { .account = account };
	char buf[NAME_MAX_BYTES + 1];
	esp_str name;
	esp_status st = name_canonical(folder, buf, &name);

	if (st != ESP_OK)
		return st;
	st = mailbox_lookup(m, account, name, ret);
	if (st == ESP_ENOENT)
		st = by_special_use(m, account, name, ret);
	if (st == ESP_ENOENT) {
		st = mailbox_create(&m->table, &actor, name, (esp_str){ NULL, 0 }, NULL);
		if (st == ESP_OK || st == ESP_EEXIST)
			st = mailbox_lookup(m, account, name, ret);
	}
	return st == ESP_OK && ret->noselect ? ESP_ENOENT : st;
}

static esp_status find_target(const struct mailstore *m, esp_id account, esp_str folder, struct found *ret)
{
	if (folder.len) {
		esp_status st = find_or_make(m, account, folder, ret);
		/* what cannot be there for reasons of its name goes to INBOX; a database that fails does not */
		if (st != ESP_EINVAL && st != ESP_E2BIG && st != ESP_ENOENT)
			return st;
	}
	return mailbox_lookup(m, account, ESP_STR("INBOX"), ret);
}

esp_status message_target(const esp_mailstore *s, esp_id account, esp_str folder, esp_id *ret_mailbox)
{
	const struct mailstore *m = store_of(s);
	struct found box = { .noselect = 0 };
	esp_status st = account_open(m, account, (esp_str){ NULL, 0 });

	if (st == ESP_OK)
		st = find_target(m, account, folder, &box);
	if (st == ESP_OK)
		st = mark_ahead(m, account, box.id, box.uidnext, box.uid_mark);
	*ret_mailbox = box.id;
	return st;
}
