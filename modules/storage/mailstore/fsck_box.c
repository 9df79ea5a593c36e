/* fsck_box - one mailbox: its rows, its folder's links, the message files, counters, the folder's own file.
 *
 * When something seems to differ the mailbox is read once more: rows first, then the account's folder jobs are waited
 * for, then the folder is read, so whatever a row that was read wanted done has been done by then.  So a row without a
 * link, a link without a row and other flags are not mail under way but somebody else's doing, or damage.
 */
#include "fsck.h"

#include <stdlib.h>

#define PAGE  5000u

static const char ROWS[] =
	"SELECT uid, flags, modseq, blob_id, bytes, internal_date FROM message WHERE mailbox_id = $1 AND uid >= $2"
	" ORDER BY uid LIMIT 5000";
static const char NO_INFO[] =
	"SELECT m.blob_id FROM message m WHERE m.mailbox_id = $1"
	" AND NOT EXISTS (SELECT 1 FROM message_info i WHERE i.blob_id = m.blob_id) ORDER BY m.uid LIMIT 5000";
static const char CHART[] =
	"SELECT uidnext, messages, unseen, deleted, recent, bytes, unsettled FROM mailbox WHERE id = $1";
static const char ROW_THERE[] = "SELECT flags, bytes FROM message WHERE mailbox_id = $1 AND uid = $2 AND blob_id = $3";
static const char COUNT[] =
	"UPDATE mailbox SET messages = (SELECT COUNT(*) FROM message m WHERE m.mailbox_id = $1),"
	" unseen = (SELECT COUNT(*) FROM message m WHERE m.mailbox_id = $1 AND m.flags & 1 = 0),"
	" deleted = (SELECT COUNT(*) FROM message m WHERE m.mailbox_id = $1 AND m.flags & 8 <> 0),"
	" recent = (SELECT COUNT(*) FROM message m WHERE m.mailbox_id = $1 AND m.uid >= mailbox.first_recent),"
	" bytes = (SELECT COALESCE(SUM(m.bytes), 0) FROM message m WHERE m.mailbox_id = $1),"
	" uidnext = CASE WHEN uidnext > $3 THEN uidnext ELSE $3 END, modseq = $4"
	" WHERE id = $1 AND account_id = $2 AND unsettled = 0";
static const char SUMS[] =
	"UPDATE mail_account SET used_bytes = (SELECT COALESCE(SUM(bytes), 0) FROM mailbox WHERE account_id = $1),"
	" used_messages = (SELECT COALESCE(SUM(messages), 0) FROM mailbox WHERE account_id = $1) WHERE account_id = $1";
static const char UNMARK[] = "UPDATE mailbox SET uid_mark = 0 WHERE id = $1";

enum { ROW_NO_LINK = 1, ROW_NO_BLOB = 2, ROW_SIZE = 4, ROW_FLAGS = 8, ROW_DOUBLE = 16 };

/* What was seen of a mailbox. */
struct sight {
	const struct patient *p;
	const struct chart *c;
	esp_arena *a;
	struct row *row;
	uint32_t n, cap;
	const esp_blob_link *link;
	uint32_t nlinks, special;
	uint8_t *fault;                /* of each row */
	uint32_t *link_of;             /* of each row: its link; UINT32_MAX none */
	const esp_blob_link **stray;
	uint32_t nstray;
	esp_id *no_info;
	uint32_t nno_info, count[FAULTS];
	uint64_t modseq;               /* of the rows: the highest */
	int younger;                   /* the folder has UIDs that the mailbox never gave */
};

/* --- looking ------------------------------------------------------------------------------------------------ */

static esp_status take_rows(struct sight *s, const esp_sql_rows *rows)
{
	if (s->n + rows->nrows > s->cap) {
		uint32_t cap = 2 * (s->n + rows->nrows);
		struct row *grown = esp_alloc_array(s->a, cap, sizeof *grown);
		if (!grown)
			return ESP_ENOMEM;
		if (s->n)
			memcpy(grown, s->row, s->n * sizeof *grown);
		s->row = grown;
		s->cap = cap;
	}
	for (uint32_t i = 0; i < rows->nrows; i++) {
		struct row r = { .uid = (uint32_t)int_of(esp_sql_at(rows, i, 0)),
			.flags = (uint64_t)int_of(esp_sql_at(rows, i, 1)), .modseq = (uint64_t)int_of(esp_sql_at(rows, i, 2)),
			.blob = id_of(esp_sql_at(rows, i, 3)), .bytes = (uint64_t)int_of(esp_sql_at(rows, i, 4)),
			.internal_date = int_of(esp_sql_at(rows, i, 5)) };
		s->modseq = r.modseq > s->modseq ? r.modseq : s->modseq;
		s->row[s->n++] = r;
	}
	return ESP_OK;
}

static esp_status read_rows(struct sight *s)
{
	const struct mailstore *m = s->p->f->m;
	esp_arena *page = m->core.mem->arena_new(m->self, "fsck-rows", 0);
	uint32_t from = 1;
	esp_sql_rows rows = { .nrows = PAGE };
	esp_status st = page ? ESP_OK : ESP_ENOMEM;

	while (st == ESP_OK && rows.nrows == PAGE) {
		st = store_query(m, 0, page, ROWS, (esp_sql_value[]){ ESP_SQL_ID(s->c->id), ESP_SQL_I(from) }, 2, &rows);
		if (st == ESP_OK)
			st = take_rows(s, &rows);
		from = s->n ? s->row[s->n - 1].uid + 1 : 1;
		m->core.mem->arena_reset(page);
		if (st == ESP_OK)
			st = fsck_breathe(s->p->f);
	}
	if (page)
		m->core.mem->arena_free(page);
	return st;
}

static esp_status read_sizes(struct sight *s)
{
	struct fsck *f = s->p->f;
	esp_id *id = esp_alloc_array(s->a, FSCK_SOME, sizeof *id);
	uint64_t *size = esp_alloc_array(s->a, FSCK_SOME, sizeof *size);
	esp_status st = id && size ? ESP_OK : ESP_ENOMEM;

	for (uint32_t i = 0, n; st == ESP_OK && i < s->n; i += n) {
		n = s->n - i < FSCK_SOME ? s->n - i : FSCK_SOME;
		for (uint32_t k = 0; k < n; k++)
			id[k] = s->row[i + k].blob;
		st = f->blob->sizes(f->blob, id, n, size);
		for (uint32_t k = 0; st == ESP_OK && k < n; k++)
			s->fault[i + k] |= size[k] == UINT64_MAX ? ROW_NO_BLOB : size[k] != s->row[i + k].bytes ? ROW_SIZE : 0;
		if (st == ESP_OK)
			st = fsck_breathe(f);
	}
	return st;
}

static esp_status read_no_info(struct sight *s)
{
	esp_sql_rows rows;
	esp_status st = store_query(s->p->f->m, 0, s->a, NO_INFO, (esp_sql_value[]){ ESP_SQL_ID(s->c->id) }, 1, &rows);

	if (st != ESP_OK || rows.nrows == 0)
		return st;
	s->no_info = esp_alloc_array(s->a, rows.nrows, sizeof *s->no_info);
	for (uint32_t i = 0; s->no_info && i < rows.nrows; i++)
		s->no_info[s->nno_info++] = id_of(esp_sql_at(&rows, i, 0));
	return s->no_info ? ESP_OK : ESP_ENOMEM;
}

/* The row's links among those of its UID; everything else of that UID is a stray. */
static void join_row(struct sight *s, uint32_t i, uint32_t from, uint32_t to)
{
	const struct row *r = &s->row[i];
	uint32_t mine = 0, alike = 0;

	for (uint32_t k = from; k < to; k++) {
		if (!same_id(s->link[k].id, r->blob)) {
			s->stray[s->nstray++] = &s->link[k];
			continue;
		}
		if (mine++ == 0 || s->link[k].flags == (r->flags & 0x1f))
			s->link_of[i] = k;
		alike += s->link[k].flags == (r->flags & 0x1f);
	}
	s->fault[i] |= mine == 0 ? ROW_NO_LINK : mine > 1 ? ROW_DOUBLE : alike == 0 ? ROW_FLAGS : 0;
}

static void join(struct sight *s)
{
	uint32_t k = 0;

	for (uint32_t i = 0; i < s->n; i++) {
		uint32_t from;
		s->link_of[i] = UINT32_MAX;
		for (; k < s->nlinks && s->link[k].uid < s->row[i].uid; k++)
			s->stray[s->nstray++] = &s->link[k];
		for (from = k; k < s->nlinks && s->link[k].uid == s->row[i].uid; k++)
			;
		join_row(s, i, from, k);
	}
	for (; k < s->nlinks; k++)
		s->stray[s->nstray++] = &s->link[k];
}

/* UIDs that were given since the mailbox's row was read are mail under way. */
static void forget_fresh(struct sight *s, uint32_t uidnext)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < s->nstray; i++)
		if (s->stray[i]->uid < s->c->uidnext || s->stray[i]->uid >= uidnext)
			s->stray[kept++] = s->stray[i];
	s->nstray = kept;
	for (uint32_t i = 0; i < kept; i++)
		s->younger |= s->stray[i]->uid >= uidnext;
}

static void count_faults(struct sight *s)
{
	for (uint32_t i = 0; i < s->n; i++) {
		s->count[FAULT_BLOB] += !!(s->fault[i] & ROW_NO_BLOB);
		s->count[FAULT_LINK] += (s->fault[i] & (ROW_NO_LINK | ROW_NO_BLOB)) == ROW_NO_LINK;
		s->count[FAULT_SIZE] += !!(s->fault[i] & ROW_SIZE);
		s->count[FAULT_FLAGS] += !!(s->fault[i] & ROW_FLAGS);
		s->count[FAULT_DOUBLE] += !!(s->fault[i] & ROW_DOUBLE);
	}
	s->count[FAULT_STRAY] = s->nstray;
	s->count[FAULT_INFO] = s->nno_info;
	s->count[FAULT_SPECIAL] = s->special;
}

/* Against the row as it was before the messages were read, and as it is after: mail that came meanwhile is no fault. */
static esp_status read_again(struct sight *s)
{
	const struct chart *c = s->c;
	int64_t unseen = 0, deleted = 0, recent = 0, bytes = 0;
	esp_sql_rows now;
	esp_status st = store_query(s->p->f->m, 0, s->a, CHART, (esp_sql_value[]){ ESP_SQL_ID(c->id) }, 1, &now);

	if (st != ESP_OK || now.nrows == 0)
		return st;
	forget_fresh(s, (uint32_t)int_of(esp_sql_at(&now, 0, 0)));
	if (c->unsettled || int_of(esp_sql_at(&now, 0, 6)))   /* flags on their way into the rows (settle.c) */
		return ESP_OK;
	for (uint32_t i = 0; i < s->n; i++) {
		unseen += !(s->row[i].flags & ESP_FLAG_SEEN);
		deleted += !!(s->row[i].flags & ESP_FLAG_DELETED);
		recent += s->row[i].uid >= c->first_recent;
		bytes += (int64_t)s->row[i].bytes;
	}
	if (c->messages == s->n && c->unseen == unseen && c->deleted == deleted && c->bytes == bytes &&
		c->recent == recent && (s->n == 0 || s->row[s->n - 1].uid < c->uidnext))
		return ESP_OK;
	s->count[FAULT_COUNTERS] =
		c->uidnext == int_of(esp_sql_at(&now, 0, 0)) && c->messages == int_of(esp_sql_at(&now, 0, 1)) &&
		c->unseen == int_of(esp_sql_at(&now, 0, 2)) && c->deleted == int_of(esp_sql_at(&now, 0, 3)) &&
		c->recent == int_of(esp_sql_at(&now, 0, 4)) && c->bytes == int_of(esp_sql_at(&now, 0, 5));
	return ESP_OK;
}

/* A file that reserves more belongs to a younger database; one that reserves less, to nobody. */
static esp_status read_mark(struct sight *s, esp_blob_mark *ret)
{
	const struct patient *p = s->p;
	const esp_blob_mark *mark = NULL;
	uint32_t n = 0;
	esp_status st = p->f->blob->folders(p->f->blob, s->a, p->address, &mark, &n);

	*ret = (esp_blob_mark){ .size = sizeof *ret };
	for (uint32_t i = 0; st == ESP_OK && i < n; i++)
		if (esp_str_eq(mark[i].folder, s->c->name))
			*ret = mark[i];
	if (st == ESP_ENOENT)
		st = ESP_OK;
	if (s->c->uid_mark)
		s->count[FAULT_MARK] = !same_id(ret->mailbox, s->c->id) || ret->uidvalidity != s->c->uidvalidity ||
			ret->uid < s->c->uid_mark;
	return st;
}

static esp_status look(struct sight *s, int settled)
{
	const struct fsck *f = s->p->f;
	esp_status st = settled ? settle_all(&f->m->table) : ESP_OK;

	if (st == ESP_OK)
		st = read_rows(s);
	if (st == ESP_OK && settled)
		st = fsck_settle(s->p);
	if (st == ESP_OK)
		st = f->blob->links(f->blob, s->a, s->p->address, s->c->name, &s->link, &s->nlinks, &s->special);
	if (st == ESP_ENOENT)
		st = ESP_OK;               /* no folder: every link is missing */
	s->fault = esp_alloc(s->a, s->n + 1u);
	s->link_of = esp_alloc_array(s->a, s->n + 1u, sizeof *s->link_of);
	s->stray = esp_alloc_array(s->a, s->nlinks + 1u, sizeof *s->stray);
	if (st == ESP_OK && (!s->fault || !s->link_of || !s->stray))
		st = ESP_ENOMEM;
	if (st != ESP_OK)
		return st;
	join(s);
	st = read_sizes(s);
	if (st == ESP_OK)
		st = read_no_info(s);
	if (st == ESP_OK)
		st = read_again(s);
	count_faults(s);
	return st;
}

/* --- repairing ---------------------------------------------------------------------------------------------- */

struct jobs_op { struct op op; const struct sight *s; uint32_t kind, mask, from; };

/* Again the link, or the flags, of rows with that fault, if they are still there. */
static esp_status on_jobs(esp_tx *tx, void *arg)
{
	struct jobs_op *o = arg;
	const struct sight *s = o->s;
	struct box box;
	uint32_t n = 0, i;
	esp_status st;

	op_restart(&o->op);
	st = account_lock(&o->op, tx, (struct account_charge){ .bump = 1 });
	if (st == ESP_OK)
		st = box_read(&o->op, tx, s->c->id, &box);
	for (i = o->from; st == ESP_OK && i < s->n && n < FSCK_SOME; i++) {
		const struct row *r = &s->row[i];
		esp_blob_job job = { .kind = o->kind, .folder = box.name, .id = r->blob, .uid = r->uid,
			.uidvalidity = box.uidvalidity, .bytes = r->bytes, .received = r->internal_date };
		esp_sql_rows rows;
		if ((s->fault[i] & (o->mask | ROW_NO_BLOB)) != o->mask)
			continue;
		n++;
		st = tx->exec(tx, ROW_THERE, (esp_sql_value[]){ ESP_SQL_ID(box.id), ESP_SQL_I(r->uid), ESP_SQL_ID(r->blob) }, 3,
		              &rows);
		if (st != ESP_OK || rows.nrows == 0)
			continue;
		job.flags = (uint32_t)int_of(esp_sql_at(&rows, 0, 0)) & 0xffff;
		st = op_job(&o->op, tx, &job);
	}
	return st;
}

static esp_status some_jobs(struct jobs_op *o)
{
	esp_status st = op_begin(o->s->p->f->m, &o->op, o->s->p->id);

	if (st == ESP_OK)
		st = op_run(&o->op, &o->s->c->id, 1, on_jobs, o);
	if (st == ESP_OK)
		op_committed(&o->op);
	op_end(&o->op);
	return st;
}

static esp_status repair_jobs(const struct sight *s, uint32_t kind, uint32_t mask)
{
	struct jobs_op o = { .s = s, .kind = kind, .mask = mask };
	esp_status st = ESP_OK;

	while (st == ESP_OK && o.from < s->n) {
		st = some_jobs(&o);
		for (uint32_t n = 0; o.from < s->n && n < FSCK_SOME; o.from++)
			n += (s->fault[o.from] & (mask | ROW_NO_BLOB)) == mask;
		if (st == ESP_OK)
			st = fsck_breathe(s->p->f);
	}
	return st;
}

/* Its own file is gone; the folder's link is the file again. */
static esp_status repair_blobs(struct sight *s)
{
	struct fsck *f = s->p->f;
	esp_status st = ESP_OK;

	for (uint32_t i = 0; st == ESP_OK && i < s->n; i++) {
		esp_id id;
		uint64_t size;
		if ((s->fault[i] & (ROW_NO_BLOB | ROW_NO_LINK)) != ROW_NO_BLOB)
			continue;
		if (f->blob->take(f->blob, s->p->address, s->c->name, &s->link[s->link_of[i]], &id, &size) == ESP_OK &&
			same_id(id, s->row[i].blob))
			s->fault[i] &= (uint8_t)~ROW_NO_BLOB;
		st = fsck_breathe(f);
	}
	return st;
}

/* One whose file is gone, too, has its turn later. */
static esp_status repair_info(const struct sight *s)
{
	esp_status st = ESP_OK;
	uint64_t size;

	for (uint32_t i = 0; st == ESP_OK && i < s->nno_info; i++) {
		(void)!fsck_info(s->p->f, s->no_info[i], &size);
		st = fsck_breathe(s->p->f);
	}
	return st;
}

/* Messages that nobody can give back, or that others deleted. */
static esp_status repair_lost(const struct sight *s)
{
	struct uid_ranges set = { .arena = s->a };
	esp_actor actor = { .account = s->p->id };
	esp_status st = ESP_OK;

	for (uint32_t i = 0; st == ESP_OK && i < s->n; i++)
		if ((s->fault[i] & ROW_NO_LINK) && (s->p->f->since || (s->fault[i] & ROW_NO_BLOB)))
			st = ranges_add(&set, s->row[i].uid, s->row[i].uid);
	return st == ESP_OK && set.n ? message_drop(s->p->f->m, &actor, s->c->id, (esp_uid_set){ set.range, set.n }) : st;
}

/* The folder's flags are the newer ones: what ESP wrote there was waited for.  A message that changed since it was
 * read keeps its flags. */
static esp_status repair_flag(struct sight *s, uint64_t flag, int add)
{
	const esp_mailstore *store = &s->p->f->m->table;
	const esp_actor actor = { .account = s->p->id };
	const esp_store_args args = { .size = sizeof args, .op = add ? ESP_STORE_ADD : ESP_STORE_REMOVE, .flags = flag,
		.has_unchangedsince = 1, .unchangedsince = s->modseq };
	struct uid_ranges set = { .arena = s->a };
	uint64_t modseq;
	esp_uid_set failed;
	esp_status st = ESP_OK;

	for (uint32_t i = 0; st == ESP_OK && i < s->n; i++) {
		uint64_t theirs, ours = s->row[i].flags & flag;
		if (!(s->fault[i] & ROW_FLAGS))
			continue;
		theirs = s->link[s->link_of[i]].flags & flag;
		if (add ? theirs && !ours : ours && !theirs)
			st = ranges_add(&set, s->row[i].uid, s->row[i].uid);
	}
	if (st != ESP_OK || set.n == 0)
		return st;
	st = store->store(
		store, s->a, &actor, s->c->id, (esp_uid_set){ set.range, set.n }, &args, &modseq, &failed);
	if (st == ESP_OK && modseq > s->modseq)
		s->modseq = modseq;        /* our own change is not somebody else's */
	return st;
}

static esp_status repair_flags(struct sight *s)
{
	esp_status st = ESP_OK;

	for (uint64_t flag = 1; st == ESP_OK && flag <= 16; flag <<= 1)
		for (int add = 0; st == ESP_OK && add < 2; add++)
			st = repair_flag(s, flag, add);
	return st;
}

struct count_op { struct op op; esp_id box; uint32_t uidnext; };

static esp_status on_count(esp_tx *tx, void *arg)
{
	struct count_op *o = arg;
	esp_status st;

	op_restart(&o->op);
	st = account_lock(&o->op, tx, (struct account_charge){ .bump = 1 });
	if (st == ESP_OK)
		st = tx->exec(tx, COUNT,
			(esp_sql_value[]){
				ESP_SQL_ID(o->box), ESP_SQL_ID(o->op.account), ESP_SQL_I(o->uidnext), ESP_SQL_I(o->op.modseq) },
			4, NULL);
	if (st == ESP_OK)
		st = tx->exec(tx, UNMARK, (esp_sql_value[]){ ESP_SQL_ID(o->box) }, 1, NULL);
	return st == ESP_OK ? tx->exec(tx, SUMS, (esp_sql_value[]){ ESP_SQL_ID(o->op.account) }, 1, NULL) : st;
}

/* Counters, and the file anew: mark_raise() reserves from the row. */
static esp_status repair_counters(const struct sight *s, const esp_blob_mark *mark)
{
	struct count_op o = { .uidnext = 0 };
	uint32_t last = s->n ? s->row[s->n - 1].uid : 0;
	esp_status st = op_begin(s->p->f->m, &o.op, s->p->id);

	if (same_id(mark->mailbox, s->c->id) && mark->uidvalidity == s->c->uidvalidity &&
		(mark->uid > s->c->uid_mark || s->younger) && mark->uid > last)
		last = mark->uid;          /* UIDs that a lost, younger database may have given */
	o.box = s->c->id;
	o.uidnext = last + 1;
	if (st == ESP_OK)
		st = op_run(&o.op, &s->c->id, 1, on_count, &o);
	if (st == ESP_OK) {
		op_committed(&o.op);
		view_delivered(&s->p->f->m->table, s->c->id, o.op.modseq);
	}
	op_end(&o.op);
	return st == ESP_OK ? mark_raise(s->p->f->m, s->p->id, s->c->id, last) : st;
}

static esp_status repair(struct sight *s, const esp_blob_mark *mark, uint32_t *ret_stray_left)
{
	esp_status st = s->count[FAULT_BLOB] ? repair_blobs(s) : ESP_OK;

	if (st == ESP_OK)
		st = repair_info(s);
	if (st == ESP_OK && (s->count[FAULT_BLOB] || (s->p->f->since && s->count[FAULT_LINK])))
		st = repair_lost(s);
	if (st == ESP_OK && s->count[FAULT_LINK] && !s->p->f->since)
		st = repair_jobs(s, ESP_BLOB_LINK, ROW_NO_LINK);
	if (st == ESP_OK && s->count[FAULT_DOUBLE])
		st = repair_jobs(s, ESP_BLOB_FLAGS, ROW_DOUBLE);
	if (st == ESP_OK && s->count[FAULT_FLAGS])
		st = repair_flags(s);
	if (st == ESP_OK && s->nstray)
		st = fsck_adopt(s->p, s->c, s->stray, s->nstray, ret_stray_left);
	if (st == ESP_OK && (s->count[FAULT_COUNTERS] || s->count[FAULT_MARK] || s->younger))
		st = repair_counters(s, mark);
	return st;
}

/* --- a mailbox ---------------------------------------------------------------------------------------------- */

static int anything(const struct sight *s)
{
	for (int i = 0; i < FAULTS; i++)
		if (s->count[i] && i != FAULT_SPECIAL)
			return 1;
	return 0;
}

static esp_status look_again(struct sight *s, const struct sight *first)
{
	const struct chart *c = NULL;
	esp_blob_mark mark;
	uint32_t n = 0;
	esp_status st = fsck_charts(first->p, s->a, &c, &n);

	*s = (struct sight){ .p = first->p, .a = s->a };
	for (uint32_t i = 0; st == ESP_OK && i < n; i++)
		if (same_id(c[i].id, first->c->id))
			s->c = &c[i];
	if (st != ESP_OK || !s->c)
		return st;                 /* deleted meanwhile: nothing is wrong with it */
	st = look(s, 1);
	return st == ESP_OK ? read_mark(s, &mark) : st;
}

/* What an earlier generation saw before it had to leave in the middle of the repair is found now, too. */
static void tell(const struct sight *first, const struct sight *after)
{
	struct fsck *f = first->p->f;

	for (int i = 0; i < FAULTS; i++) {
		uint64_t seen = f->tally->cut[i] > first->count[i] ? f->tally->cut[i] : first->count[i];
		fsck_found(f, (enum fault)i, first->p->address, first->c->name, seen,
		           after->count[i] < first->count[i] ? after->count[i] : first->count[i]);
		f->tally->cut[i] = 0;
	}
}

static void cut_off(const struct sight *first)
{
	uint64_t *cut = first->p->f->tally->cut;

	for (int i = 0; i < FAULTS; i++)
		cut[i] = cut[i] > first->count[i] ? cut[i] : first->count[i];
}

esp_status fsck_box(const struct patient *p, const struct chart *c)
{
	const esp_mem_api *mem = p->f->m->core.mem;
	struct sight first = { .p = p, .c = c, .a = mem->arena_new(p->f->m->self, "fsck-box", 0) };
	struct sight again = { .a = mem->arena_new(p->f->m->self, "fsck-again", 0) };
	esp_blob_mark mark;
	uint32_t stray_left = 0;
	esp_status st = first.a && again.a ? look(&first, 0) : ESP_ENOMEM;

	if (st == ESP_OK && anything(&first)) {    /* mail under way? */
		mem->arena_reset(first.a);
		first = (struct sight){ .p = p, .c = c, .a = first.a };
		st = look(&first, 1);
	}
	if (st == ESP_OK)
		st = read_mark(&first, &mark);
	if (st == ESP_OK && anything(&first) && p->f->repair) {
		st = repair(&first, &mark, &stray_left);
		if (st == ESP_OK)
			st = look_again(&again, &first);
		if (st == ESP_ECANCELED)
			cut_off(&first);
		else
			tell(&first, &again);
	} else if (st == ESP_OK) {
		tell(&first, &first);
	}
	p->f->tally->messages += st == ESP_OK ? first.n : 0;
	if (again.a)
		mem->arena_free(again.a);
	if (first.a)
		mem->arena_free(first.a);
	return st;
}
