/* mark - a folder's own file reserves UIDs before the database gives them (a lost database must not give one again).
 *
 * mailbox.uid_mark is at most what the file says, synced.  message_target() looks at it in the row that it reads anyway
 * and raises it in time; a transaction that would give a UID above it all the same (500 deliveries at once, a long
 * COPY) does nothing and answers ESP_EAGAIN, and its caller raises the mark first.  So delivery pays nothing, and the
 * disk is only waited for in a fiber: the file is written on the `sync` lane, then the row is changed.  While a
 * folder of the account is to be moved or removed, the file would go along with it: that is waited for.
 */
#include "store.h"

#define MARK_LOW    500u           /* UIDs left: time to raise it */
#define MARK_URGENT 100u           /* wait for it, even when somebody else is at it */

static const char READ[] =
	"SELECT b.name, b.uidvalidity, b.uidnext, b.special_use, a.address, a.modseq FROM mailbox b"
	" JOIN mail_account a ON a.account_id = b.account_id WHERE b.id = $1 AND b.account_id = $2 AND b.noselect = 0";
static const char RAISE[] =
	"UPDATE mailbox SET uid_mark = CASE WHEN uid_mark < $3 THEN $3 ELSE uid_mark END"
	" WHERE id = $1 AND account_id = $2 AND name = $4 AND uidvalidity = $5";

struct raise { const esp_blob *blob; esp_blob_mark mark; };

static int32_t on_write(void *arg)     /* sync lane */
{
	const struct raise *r = arg;

	return r->blob->mark(r->blob, &r->mark);
}

/* All that raise it at the same time name the same mark. */
static uint32_t mark_above(uint32_t uid)
{
	return uid > UID_LAST - 2 * MARK_STEP ? UID_LAST : (uid / MARK_STEP + 2) * MARK_STEP;
}

static esp_status read_box(struct raise *r, struct op *op, esp_id mailbox, uint32_t uid)
{
	esp_sql_rows rows;
	uint32_t last;
	esp_status st = store_query(op->m, ESP_SQL_BOUNDED, op->arena, READ,
		(esp_sql_value[]){ ESP_SQL_ID(mailbox), ESP_SQL_ID(op->account) }, 2, &rows);

	if (st == ESP_OK && rows.nrows == 0)
		st = ESP_ENOENT;
	if (st != ESP_OK)
		return st;
	last = (uint32_t)int_of(esp_sql_at(&rows, 0, 2)) - 1;
	r->mark = (esp_blob_mark){ .size = sizeof r->mark, .mailbox = mailbox, .folder = str_of(esp_sql_at(&rows, 0, 0)),
		.uidvalidity = (uint32_t)int_of(esp_sql_at(&rows, 0, 1)), .uid = mark_above(last > uid ? last : uid),
		.special_use = str_of(esp_sql_at(&rows, 0, 3)), .account = str_of(esp_sql_at(&rows, 0, 4)),
		.modseq = (uint64_t)int_of(esp_sql_at(&rows, 0, 5)) };
	return ESP_OK;
}

/* A folder with the mailbox's name may still be that of another one.  ESP_EAGAIN: it was, read the name again. */
static esp_status wait_for_moves(const struct raise *r, struct op *op)
{
	esp_status st = HAS(r->blob, moves) ? r->blob->moves(r->blob, op->arena, r->mark.account) : ESP_OK;

	if (st != ESP_EBUSY)
		return st;
	st = r->blob->settle(r->blob, r->mark.account);
	return st == ESP_OK ? ESP_EAGAIN : st;
}

struct raise_op { struct op op; const esp_blob_mark *mark; };

static esp_status on_raise(esp_tx *tx, void *arg)
{
	struct raise_op *o = arg;
	const esp_blob_mark *mark = o->mark;
	esp_sql_rows rows;
	esp_status st = tx->exec(tx, RAISE, (esp_sql_value[]){ ESP_SQL_ID(mark->mailbox), ESP_SQL_ID(o->op.account),
		ESP_SQL_I(mark->uid), ESP_SQL_T(mark->folder), ESP_SQL_I(mark->uidvalidity) }, 5, &rows);

	return st == ESP_OK && rows.changed == 0 ? ESP_EAGAIN : st;
}

esp_status mark_raise(const struct mailstore *m, esp_id account, esp_id mailbox, uint32_t uid)
{
	struct raise_op o = { .mark = NULL };
	struct raise r;
	int32_t written = ESP_OK;
	uint32_t over = 0;
	esp_status st = op_begin(m, &o.op, account);

	r.blob = o.op.blob;
	if (st == ESP_OK && !r.blob)
		st = ESP_EUNAVAIL;
	/* renamed meanwhile: the file went to the old name, where the folder moves from */
	for (int again = 0; st == ESP_OK || (st == ESP_EAGAIN && again < 8); again++) {
		st = read_box(&r, &o.op, mailbox, uid);
		if (st == ESP_OK)
			st = wait_for_moves(&r, &o.op);
		r.mark.over = over;
		if (st == ESP_OK)
			st = m->core.pool->run(m->self, m->sync_lane, on_write, &r, &written);
		if (st == ESP_OK)
			st = written;
		if (st == ESP_EBUSY && !over) {
			over = 1;
			st = ESP_EAGAIN;
		}
		o.mark = &r.mark;
		if (st == ESP_OK)
			st = op_run(&o.op, &mailbox, 1, on_raise, &o);
		if (st == ESP_OK)
			break;
	}
	op_end(&o.op);
	return st == ESP_EAGAIN ? ESP_EUNAVAIL : st;
}

esp_status mark_ahead(const struct mailstore *m, esp_id account, esp_id mailbox, uint32_t uidnext, uint32_t mark)
{
	atomic_uint *busy = &m->marking[mailbox.b[15] % MARK_SLOTS];
	uint32_t left = mark >= uidnext ? mark - uidnext + 1 : 0;
	esp_status st;

	if (left >= MARK_LOW || mark == UID_LAST)
		return ESP_OK;
	if (atomic_fetch_add(busy, 1) > 0 && left >= MARK_URGENT) {
		atomic_fetch_sub(busy, 1);
		return ESP_OK;
	}
	st = mark_raise(m, account, mailbox, 0);
	atomic_fetch_sub(busy, 1);
	return st;
}
