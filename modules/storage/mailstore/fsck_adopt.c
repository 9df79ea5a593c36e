/* fsck_adopt - files that lie in a folder become messages of its mailbox.
 *
 * A file under a name of ours with a UID that the mailbox has not given yet keeps it (the database is older than the
 * folder); every other gets the next UID.  The content is made durable and read first (take, fsck_info), then rows are
 * inserted, some at a time; the file under its old name goes by a job of the same transaction.
 */
#include "fsck.h"

#define SOME 32u

static const char KNOWN[] = "SELECT 1 FROM message_info WHERE blob_id = $1";

/* --- what is computed from a message ------------------------------------------------------------------------ */

struct info_op { struct op op; esp_id blob; const struct info *info; };

static esp_status on_info(esp_tx *tx, void *arg)
{
	struct info_op *o = arg;

	return info_insert(tx, o->blob, o->info, 0);
}

static esp_status read_info(const struct fsck *f, esp_id blob, struct info_op *o, uint64_t *ret_size)
{
	esp_blob_file file = { .size = sizeof file };
	esp_append m = { .size = sizeof m, .id = blob };
	struct info info;
	esp_status st = f->blob->open(f->blob, blob, &file);

	if (st != ESP_OK)
		return st;
	m.content = file.content;
	m.bytes = *ret_size = file.content.len;
	memset(&info, 0, sizeof info);
	st = content_info(f->m, o->op.arena, &m, &info);
	f->blob->close_file(f->blob, &file);
	o->blob = blob;
	o->info = &info;
	return st == ESP_OK ? op_run(&o->op, NULL, 0, on_info, o) : st;
}

esp_status fsck_info(const struct fsck *f, esp_id blob, uint64_t *ret_size)
{
	struct info_op o = { .info = NULL };
	esp_sql_rows rows;
	esp_status st = op_begin(f->m, &o.op, (esp_id){ { 0 } });

	if (st == ESP_OK)
		st = store_query(f->m, ESP_SQL_BOUNDED, o.op.arena, KNOWN, (esp_sql_value[]){ ESP_SQL_ID(blob) }, 1, &rows);
	if (st == ESP_OK && rows.nrows == 0)
		st = read_info(f, blob, &o, ret_size);
	else if (st == ESP_OK)
		st = f->blob->sizes(f->blob, &blob, 1, ret_size);
	op_end(&o.op);
	return st == ESP_OK && *ret_size == UINT64_MAX ? ESP_ENOENT : st;
}

/* --- rows --------------------------------------------------------------------------------------------------- */

struct taken { struct row row; const esp_blob_link *link; int keep; };
struct adopt_op { struct op op; const struct chart *c; struct taken *t; uint32_t n; };

/* Its own UID, when the mailbox never gave it. */
static esp_status keep_uid(struct adopt_op *o, esp_tx *tx, const struct taken *t, int64_t *ret_uids, int *ret_kept)
{
	struct box b;
	esp_status st = t->keep ? box_read(&o->op, tx, o->c->id, &b) : ESP_OK;

	*ret_kept = st == ESP_OK && t->keep && t->link->uid >= b.uidnext;
	*ret_uids = *ret_kept ? (int64_t)t->link->uid + 1 - b.uidnext : 1;
	return st;
}

static esp_status adopt_one(struct adopt_op *o, esp_tx *tx, struct taken *t)
{
	struct box_delta d = { .messages = 1, .recent = 1, .bytes = (int64_t)t->row.bytes,
		.unseen = !(t->row.flags & ESP_FLAG_SEEN), .deleted = !!(t->row.flags & ESP_FLAG_DELETED) };
	esp_blob_job job = { .kind = ESP_BLOB_FORGET, .id = t->row.blob, .to = t->link->name };
	int kept = 0;
	struct box b;
	esp_status st = keep_uid(o, tx, t, &d.uids, &kept);

	if (st == ESP_OK)
		st = box_update(&o->op, tx, o->c->id, d, &b);
	if (st != ESP_OK)
		return st;
	t->row.uid = b.uidnext - 1;
	st = row_insert(&o->op, tx, &b, &t->row);
	if (st == ESP_OK)
		st = info_uses(&o->op, tx, &t->row, 1, 1);
	if (kept)                      /* the file may stand under a name that ESP would not give it */
		job = (esp_blob_job){ .kind = ESP_BLOB_FLAGS, .id = t->row.blob, .uid = t->row.uid,
			.flags = (uint32_t)t->row.flags, .received = t->row.internal_date };
	job.folder = b.name;
	return st == ESP_OK ? op_job(&o->op, tx, &job) : st;
}

static esp_status on_adopt(esp_tx *tx, void *arg)
{
	struct adopt_op *o = arg;
	struct account_charge charge = { .messages = o->n, .bump = 1 };
	esp_status st;

	op_restart(&o->op);
	for (uint32_t i = 0; i < o->n; i++)
		charge.bytes += (int64_t)o->t[i].row.bytes;
	st = account_lock(&o->op, tx, charge);
	for (uint32_t i = 0; st == ESP_OK && i < o->n; i++)
		st = adopt_one(o, tx, &o->t[i]);
	return st;
}

/* Content durable and read; ESP_ECORRUPT and the like: it stays where it is. */
static esp_status take(const struct patient *p, const struct chart *c, const esp_blob_link *link, struct taken *ret)
{
	const struct fsck *f = p->f;
	esp_id id;
	uint64_t size;
	esp_status st = f->blob->take(f->blob, p->address, c->name, link, &id, &size);

	if (st == ESP_OK)
		st = fsck_info(f, id, &size);
	if (st == ESP_OK)
		*ret = (struct taken){ .link = link,
			.keep = link->uid >= c->uidnext && same_id(id, link->id),
			.row = {
				.uid = link->uid, .flags = link->flags, .bytes = size, .blob = id, .internal_date = link->received } };
	return st;
}

static int passes_by(esp_status st)
{
	return st == ESP_ENOENT || st == ESP_ECORRUPT || st == ESP_E2BIG || st == ESP_EINVAL || st == ESP_EACCES;
}

static esp_status adopt_some(const struct patient *p, const struct chart *c, struct taken *t, uint32_t n)
{
	struct adopt_op o = { .c = c };
	esp_status st = op_begin(p->f->m, &o.op, p->id);

	o.c = c;
	o.t = t;
	o.n = n;
	if (st == ESP_OK)
		st = op_run(&o.op, &c->id, 1, on_adopt, &o);
	if (st == ESP_OK) {
		op_committed(&o.op);
		view_delivered(&p->f->m->table, c->id, o.op.modseq);
	}
	op_end(&o.op);
	return st;
}

esp_status fsck_adopt(
	const struct patient *p, const struct chart *c, const esp_blob_link *const *stray, uint32_t n, uint32_t *ret_left)
{
	struct taken taken[SOME];
	uint32_t have = 0;
	esp_status st = ESP_OK;

	for (uint32_t i = 0; st == ESP_OK && i < n; i++) {
		st = take(p, c, stray[i], &taken[have]);
		if (st == ESP_OK)
			have++;
		if (passes_by(st)) {
			++*ret_left;
			st = ESP_OK;
		}
		if (st == ESP_OK && have && (have == SOME || i + 1 == n)) {
			st = adopt_some(p, c, taken, have);
			have = 0;
		}
		if (st == ESP_OK && have == 0)     /* else a cut would leave files that no row names */
			st = fsck_breathe(p->f);
	}
	return st == ESP_OK && have ? adopt_some(p, c, taken, have) : st;
}
