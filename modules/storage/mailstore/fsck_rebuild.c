/* fsck_rebuild - mailboxes and accounts that are only on the disk.
 *
 * A folder becomes a mailbox in one transaction with all its messages, so nobody sees half of it: UIDs and flags come
 * from the names of the links, UIDVALIDITY and the next UID from the folder's own file.  What is computed of contents
 * was stored before, message by message, with no uses.  A lost account's own row comes last: until then the account is
 * not opened (account.c), mail for it waits at its senders, and a run that was cut off goes on with the next folder.
 */
#include "fsck.h"

#include <stdlib.h>

static const char BOX_INSERT[] =
	"INSERT INTO mailbox (id, account_id, name, special_use, noselect, uidvalidity, uidnext, first_recent, modseq,"
	" messages, unseen, deleted, recent, bytes, keywords, log_rows, log_floor, uid_mark)"
	" VALUES ($1, $2, $3, $4, 0, $5, $6, $6, $7, $8, $9, $10, 0, $11, '', 0, $7, $12)";
static const char BOX_TAKEN[] = "SELECT 1 FROM mailbox WHERE id = $1";
static const char NAME_TAKEN[] = "SELECT 1 FROM mailbox WHERE account_id = $1 AND name = $2";
static const char SUBSCRIBE[] =
	"INSERT INTO mail_subscription (account_id, name) VALUES ($1, $2) ON CONFLICT (account_id, name) DO NOTHING";
static const char MESSAGE[] =
	"INSERT INTO message (mailbox_id, uid, blob_id, flags, modseq, bytes, internal_date, saved)"
	" VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
static const char SUPERIOR[] =
	"INSERT INTO mailbox (id, account_id, name, special_use, noselect, uidvalidity, uidnext, first_recent, modseq,"
	" messages, unseen, deleted, recent, bytes, keywords, log_rows, log_floor)"
	" VALUES ($1, $2, $3, '', 1, 0, 1, 1, $4, 0, 0, 0, 0, 0, '', 0, $4) ON CONFLICT (account_id, name) DO NOTHING";
static const char ACCOUNT_INSERT[] =
	"INSERT INTO mail_account (account_id, address, modseq, uidvalidity, used_bytes, used_messages, quota_bytes)"
	" SELECT $1, $2, $3, $4, COALESCE(SUM(bytes), 0), COALESCE(SUM(messages), 0), $5 FROM mailbox WHERE account_id = "
	"$1";
static const char VALIDITY[] = "SELECT COALESCE(MAX(uidvalidity), 0) FROM mailbox WHERE account_id = $1";

struct folder_op {
	struct op op;
	const struct patient *p;
	const esp_blob_mark *mark;
	esp_str name;
	uint64_t base;
	struct row *row;
	uint32_t n, uidvalidity;
	esp_id fresh;
	struct box_delta sum;
	esp_id id;
};

/* --- a folder ----------------------------------------------------------------------------------------------- */

/* Rows of what is there under names of ours; the rest is adopted when the mailbox is examined. */
static esp_status gather(struct folder_op *o, esp_arena *a)
{
	struct fsck *f = o->p->f;
	const esp_blob_link *link = NULL;
	uint32_t n = 0, special = 0;
	esp_status st = f->blob->links(f->blob, a, o->p->address, o->mark->folder, &link, &n, &special);

	o->row = st == ESP_OK ? esp_alloc_array(a, n + 1u, sizeof *o->row) : NULL;
	if (!o->row)
		return st == ESP_OK ? ESP_ENOMEM : st;
	for (uint32_t i = 0; i < n; i++) {
		esp_id id;
		uint64_t size;
		if (i && (st = fsck_breathe(f)) != ESP_OK)
			return st;
		if (link[i].uid == 0 || (o->n && o->row[o->n - 1].uid == link[i].uid))
			continue;
		st = f->blob->take(f->blob, o->p->address, o->mark->folder, &link[i], &id, &size);
		if (st == ESP_OK && same_id(id, link[i].id))
			st = fsck_info(f, id, &size);
		else if (st == ESP_OK)
			continue;              /* another file under that name */
		if (st == ESP_OK)
			o->row[o->n++] = (struct row){ .uid = link[i].uid, .flags = link[i].flags, .bytes = size, .blob = id,
				.internal_date = link[i].received };
		else if (st != ESP_ENOENT && st != ESP_ECORRUPT)
			return st;
	}
	return ESP_OK;
}

static void sum_up(struct folder_op *o)
{
	o->sum = (struct box_delta){ .messages = o->n };
	for (uint32_t i = 0; i < o->n; i++) {
		o->sum.bytes += (int64_t)o->row[i].bytes;
		o->sum.unseen += !(o->row[i].flags & ESP_FLAG_SEEN);
		o->sum.deleted += !!(o->row[i].flags & ESP_FLAG_DELETED);
	}
}

static esp_status insert_box(struct folder_op *o, esp_tx *tx)
{
	uint32_t last = o->n ? o->row[o->n - 1].uid : 0, mark = o->mark->uidvalidity ? o->mark->uid : 0;
	esp_str use = special_use_valid(o->mark->special_use) ? o->mark->special_use : ESP_STR("");
	esp_sql_rows rows;
	esp_status st = tx->exec(tx, BOX_TAKEN, (esp_sql_value[]){ ESP_SQL_ID(o->mark->mailbox) }, 1, &rows);

	if (st != ESP_OK)
		return st;
	o->id = rows.nrows || !o->mark->uidvalidity ? o->fresh : o->mark->mailbox;
	last = last > mark ? last : mark;
	st = tx->exec(tx, BOX_INSERT, (esp_sql_value[]){ ESP_SQL_ID(o->id), ESP_SQL_ID(o->op.account), ESP_SQL_T(o->name),
		ESP_SQL_T(use), ESP_SQL_I(o->uidvalidity), ESP_SQL_I((int64_t)last + 1), ESP_SQL_I(o->op.modseq),
		ESP_SQL_I(o->sum.messages), ESP_SQL_I(o->sum.unseen), ESP_SQL_I(o->sum.deleted), ESP_SQL_I(o->sum.bytes),
		ESP_SQL_I(same_id(o->id, o->mark->mailbox) ? mark : 0) }, 12, NULL);
	return st == ESP_OK ? tx->exec(tx, SUBSCRIBE, (esp_sql_value[]){ ESP_SQL_ID(o->op.account), ESP_SQL_T(o->name) }, 2,
	                               NULL) : st;
}

static esp_status on_folder(esp_tx *tx, void *arg)
{
	struct folder_op *o = arg;
	struct account_charge charge = { .bytes = o->sum.bytes, .messages = o->sum.messages, .bump = 1 };
	esp_sql_rows rows;
	esp_status st = ESP_OK;

	op_restart(&o->op);
	o->op.modseq = o->base;
	if (!o->base)
		st = account_lock(&o->op, tx, charge);
	if (st == ESP_OK)
		st = tx->exec(tx, NAME_TAKEN, (esp_sql_value[]){ ESP_SQL_ID(o->op.account), ESP_SQL_T(o->name) }, 2, &rows);
	if (st == ESP_OK && rows.nrows)
		return ESP_EEXIST;
	o->uidvalidity = o->mark->uidvalidity;
	if (st == ESP_OK && !o->uidvalidity)
		st = o->base ? ESP_OK : account_uidvalidity(&o->op, tx, &o->uidvalidity);
	if (st == ESP_OK && !o->uidvalidity)
		o->uidvalidity = (uint32_t)o->op.now;
	if (st == ESP_OK)
		st = insert_box(o, tx);
	for (uint32_t i = 0; st == ESP_OK && i < o->n; i++) {
		const struct row *r = &o->row[i];
		st = tx->exec(tx, MESSAGE, (esp_sql_value[]){ ESP_SQL_ID(o->id), ESP_SQL_I(r->uid), ESP_SQL_ID(r->blob),
			ESP_SQL_I(r->flags), ESP_SQL_I(o->op.modseq), ESP_SQL_I(r->bytes), ESP_SQL_I(r->internal_date),
			ESP_SQL_I(o->op.now) }, 8, NULL);
	}
	return st == ESP_OK && o->n ? info_uses(&o->op, tx, o->row, o->n, 1) : st;
}

/* All that takes long comes before op_begin(). */
static esp_status make_folder(
	struct folder_op *o, esp_arena *a, const struct patient *p, const esp_blob_mark *mark, uint64_t base)
{
	const struct mailstore *m = p->f->m;
	esp_status st;

	o->p = p;
	o->mark = mark;
	o->base = base;
	o->fresh = m->crypto->new_id();
	st = gather(o, a);
	sum_up(o);
	if (st == ESP_OK)
		st = op_begin(m, &o->op, p->id);
	if (st == ESP_OK)
		st = op_run(&o->op, NULL, 0, on_folder, o);
	if (st == ESP_OK)
		op_committed(&o->op);
	op_end(&o->op);
	return st;
}

esp_status fsck_folder(const struct patient *p, const esp_blob_mark *mark, uint64_t base)
{
	const struct mailstore *m = p->f->m;
	struct folder_op *o;
	char buf[NAME_MAX_BYTES + 1];
	esp_arena *a = m->core.mem->arena_new(m->self, "fsck-folder", 0);
	esp_status st;

	if (!a)
		return ESP_ENOMEM;
	o = esp_alloc(a, sizeof *o);
	st = o ? name_canonical(mark->folder, buf, &o->name) : ESP_ENOMEM;
	if (st == ESP_OK && esp_str_eq(o->name, mark->folder))
		st = make_folder(o, a, p, mark, base);
	else if (o)
		st = ESP_EINVAL;
	m->core.mem->arena_free(a);
	return st == ESP_EEXIST ? ESP_OK : st;
}

/* --- an account --------------------------------------------------------------------------------------------- */

struct account_op {
	struct op op;
	esp_str address;
	uint64_t base, quota;
	const struct chart *chart;
	uint32_t n;
	esp_id *fresh;
};

/* Every mailbox's superiors have rows (mailbox.c). */
static esp_status superiors(struct account_op *o, esp_tx *tx)
{
	esp_status st = ESP_OK;
	uint32_t k = 0;

	for (uint32_t i = 0; i < o->n; i++)
		for (size_t at = 0; st == ESP_OK && at < o->chart[i].name.len; at++)
			if (o->chart[i].name.ptr[at] == '/')
				st = tx->exec(tx, SUPERIOR, (esp_sql_value[]){ ESP_SQL_ID(o->fresh[k++]), ESP_SQL_ID(o->op.account),
					ESP_SQL_T(((esp_str){ o->chart[i].name.ptr, at })), ESP_SQL_I(o->base) }, 4, NULL);
	return st;
}

static esp_status on_account(esp_tx *tx, void *arg)
{
	struct account_op *o = arg;
	int64_t validity, now = o->op.now < 1 ? 1 : o->op.now;
	esp_sql_rows rows;
	esp_status st = superiors(o, tx);

	if (st == ESP_OK)
		st = tx->exec(tx, VALIDITY, (esp_sql_value[]){ ESP_SQL_ID(o->op.account) }, 1, &rows);
	if (st != ESP_OK)
		return st;
	validity = int_of(esp_sql_at(&rows, 0, 0));
	return tx->exec(tx, ACCOUNT_INSERT, (esp_sql_value[]){ ESP_SQL_ID(o->op.account), ESP_SQL_T(o->address),
		ESP_SQL_I(o->base), ESP_SQL_I(validity > now ? validity : now), ESP_SQL_I(o->quota) }, 5, NULL);
}

static esp_status finish_account(const struct patient *p, esp_arena *a, uint64_t base, uint64_t quota)
{
	struct account_op o = { .address = p->address };
	uint32_t slashes = 0;
	const struct chart *c = NULL;
	uint32_t n = 0;
	esp_status st = fsck_charts(p, a, &c, &n);

	if (st == ESP_OK)
		st = op_begin(p->f->m, &o.op, p->id);
	for (uint32_t i = 0; i < n; i++)
		for (size_t at = 0; at < c[i].name.len; at++)
			slashes += c[i].name.ptr[at] == '/';
	o.fresh = esp_alloc_array(a, slashes + 1u, sizeof *o.fresh);
	if (st == ESP_OK && !o.fresh)
		st = ESP_ENOMEM;
	for (uint32_t i = 0; st == ESP_OK && i < slashes; i++)
		o.fresh[i] = p->f->m->crypto->new_id();
	o.address = p->address;
	o.base = base;
	o.quota = quota;
	o.chart = c;
	o.n = n;
	if (st == ESP_OK)
		st = op_run(&o.op, NULL, 0, on_account, &o);
	op_end(&o.op);
	return st;
}

/* Above every modseq the account can have had: it counted by ones since a time that has passed. */
static uint64_t base_modseq(const struct fsck *f, const esp_blob_mark *mark, uint32_t n)
{
	int64_t nsec = 0;
	uint64_t base = (uint64_t)f->m->core.loop->wall(&nsec) * 1000000 + (uint64_t)nsec / 1000;

	for (uint32_t i = 0; i < n; i++)
		if (mark[i].uidvalidity && mark[i].modseq >= base)
			base = mark[i].modseq + 1000000;
	return base;
}

static esp_status find_account(struct fsck *f, esp_arena *a, esp_str address, esp_account *ret)
{
	const esp_directory *d = f->directory;
	const char *at = memrchr(address.ptr, '@', address.len);
	esp_str domain = at ? (esp_str){ at + 1, (size_t)(address.ptr + address.len - at - 1) } : (esp_str){ NULL, 0 };
	esp_status st = d && at ? d->account(d, a, address, ret) : ESP_EINVAL;

	if (st != ESP_ENOENT)
		return st;
	st = d->create_account(d, a, address, ESP_STR(""), 0, ret, &f->err);
	if (st == ESP_ENOENT && d->service.size > offsetof(esp_directory, create_domain)) {
		st = d->create_domain(d, a, domain, &f->err);
		if (st == ESP_OK)
			st = d->create_account(d, a, address, ESP_STR(""), 0, ret, &f->err);
	}
	if (st == ESP_OK)
		f->err.text[0] = '\0';
	return st == ESP_EPROTO || st == ESP_E2BIG ? ESP_EINVAL : st;
}

static esp_status rebuild(struct patient *p, esp_arena *a, uint64_t quota)
{
	const esp_blob_mark *mark = NULL;
	uint32_t n = 0;
	uint64_t base;
	esp_status st = p->f->blob->folders(p->f->blob, a, p->address, &mark, &n);

	base = base_modseq(p->f, mark, n);
	for (uint32_t i = 0; st == ESP_OK && i < n; i++) {
		st = fsck_folder(p, &mark[i], base);
		if (st == ESP_EINVAL)      /* not a name for a mailbox; found when the account is examined */
			st = ESP_OK;
		if (st == ESP_OK)
			st = fsck_breathe(p->f);
	}
	return st == ESP_OK ? finish_account(p, a, base, quota) : st;
}

esp_status fsck_account(struct fsck *f, esp_str address, esp_id *ret)
{
	struct patient p = { .f = f, .address = address };
	esp_account account = { .size = sizeof account };
	esp_arena *a = f->m->core.mem->arena_new(f->m->self, "fsck-rebuild", 0);
	esp_status st = a ? find_account(f, a, address, &account) : ESP_ENOMEM;

	p.id = *ret = account.id;
	if (st == ESP_OK)
		st = rebuild(&p, a, account.quota);
	if (a)
		f->m->core.mem->arena_free(a);
	return st;
}

/* --- uses ---------------------------------------------------------------------------------------------------- */

static const char WRONG_USES[] =
	"SELECT i.blob_id, COALESCE(c.n, 0) - i.refs - COALESCE(k.copies, 0) FROM message_info i"
	" LEFT JOIN (SELECT blob_id, COUNT(*) AS n FROM message GROUP BY blob_id) c ON c.blob_id = i.blob_id"
	" LEFT JOIN message_copies k ON k.blob_id = i.blob_id"
	" WHERE i.refs + COALESCE(k.copies, 0) <> COALESCE(c.n, 0) OR COALESCE(c.n, 0) = 0";

struct uses_op { struct op op; struct row row; int delta; };

/* By the difference, which stays right whatever was copied or removed meanwhile. */
static esp_status on_uses(esp_tx *tx, void *arg)
{
	struct uses_op *o = arg;

	op_restart(&o->op);
	return info_uses(&o->op, tx, &o->row, 1, o->delta);
}

static esp_status mend_uses(const struct fsck *f, esp_id blob, int delta)
{
	struct uses_op o = { .delta = 0 };
	esp_status st = op_begin(f->m, &o.op, (esp_id){ { 0 } });

	o.row = (struct row){ .blob = blob };
	o.delta = delta;
	if (st == ESP_OK)
		st = op_run(&o.op, NULL, 0, on_uses, &o);
	op_end(&o.op);
	return st;
}

esp_status fsck_uses(struct fsck *f)
{
	esp_sql_rows rows = { .nrows = 0 };
	uint32_t mended = 0;
	esp_status st;

	atomic_store(&f->away.step, "checking uses of message files");
	st = store_query(f->m, 0, f->arena, WRONG_USES, NULL, 0, &rows);
	while (st == ESP_OK && f->repair && mended < rows.nrows) {
		st = mend_uses(f, id_of(esp_sql_at(&rows, mended, 0)), (int)int_of(esp_sql_at(&rows, mended, 1)));
		mended += st == ESP_OK;
		if (st == ESP_OK && mended < rows.nrows)
			st = fsck_breathe(f);
	}
	fsck_found(f, FAULT_USES, ESP_STR(""), ESP_STR(""), f->repair ? mended : rows.nrows, f->repair ? 0 : rows.nrows);
	return st;
}
