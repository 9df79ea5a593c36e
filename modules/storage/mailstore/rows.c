/* rows - the mailbox, message, message_info and change_log rows, as transactions read and write them.
 *
 * Everything here runs in a transaction that has locked the account row first, so no two of them change the same
 * account.  Results are copied into the op's arena; the provider's rows need not outlive a statement.
 */
#include "store.h"

static const char BOX_READ[] =
	"SELECT uidnext, uidvalidity, first_recent, noselect, name, keywords, modseq, log_floor, unsettled FROM mailbox"
	" WHERE id = $1 AND account_id = $2";
static const char BOX_UPDATE[] =
	"UPDATE mailbox SET modseq = $3, uidnext = uidnext + $4, messages = messages + $5, unseen = unseen + $6,"
	" deleted = deleted + $7, recent = recent + $8, bytes = bytes + $9, log_rows = log_rows + $10"
	" WHERE id = $1 AND account_id = $2 AND noselect = 0 AND uidnext + $4 <= 4294967295"
	" RETURNING uidnext, uidvalidity, first_recent, noselect, name, keywords, log_rows, uid_mark";
static const char BOX_KEYWORDS[] = "UPDATE mailbox SET keywords = $2 WHERE id = $1";
static const char PAGE[] =
	"SELECT uid, flags, modseq, blob_id, bytes, internal_date FROM message"
	" WHERE mailbox_id = $1 AND uid >= $2 AND uid <= $3 ORDER BY uid LIMIT 500";
static const char INSERT[] =
	"INSERT INTO message (mailbox_id, uid, blob_id, flags, modseq, bytes, internal_date, saved)"
	" VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
static const char INSERT_RANGE[] =
	"INSERT INTO message (mailbox_id, uid, blob_id, flags, modseq, bytes, internal_date, saved)"
	" SELECT $1, uid + $2, blob_id, flags, $3, bytes, internal_date, $4 FROM message"
	" WHERE mailbox_id = $5 AND uid >= $6 AND uid <= $7";
static const char DELETE_RANGE[] = "DELETE FROM message WHERE mailbox_id = $1 AND uid >= $2 AND uid <= $3";
static const char FLAG_RANGE[] =
	"UPDATE message SET flags = (flags & $4) | $5, modseq = $6"
	" WHERE mailbox_id = $1 AND uid >= $2 AND uid <= $3 AND modseq < $6";
static const char FLAG_RANGE_BLOBS[] =
	"UPDATE message SET flags = (flags & $4) | $5, modseq = $6"
	" WHERE mailbox_id = $1 AND uid >= $2 AND uid <= $3 AND modseq < $6 RETURNING uid, flags, blob_id, bytes";
static const char SETTLE[] =
	"UPDATE message SET flags = $4, modseq = $5 WHERE mailbox_id = $1 AND uid >= $2 AND uid <= $3 AND modseq < $5";
static const char LATE[] =
	"SELECT modseq, flags_keep, flags_set, ranges FROM change_log"
	" WHERE mailbox_id = $1 AND modseq >= $2 AND flags_keep IS NOT NULL ORDER BY modseq";
static const char LOG_INSERT[] =
	"INSERT INTO change_log (mailbox_id, modseq, kind, ranges, flags_keep, flags_set) VALUES ($1, $2, $3, $4, $5, $6)";
/* what is not settled stays */
static const char LOG_MIDDLE[] =
	"SELECT c.modseq FROM change_log c JOIN mailbox b ON b.id = c.mailbox_id WHERE c.mailbox_id = $1"
	" AND (b.unsettled = 0 OR c.modseq < b.unsettled) ORDER BY c.modseq DESC LIMIT 1 OFFSET 1000";
static const char LOG_DELETE[] = "DELETE FROM change_log WHERE mailbox_id = $1 AND modseq <= $2";
static const char LOG_FLOOR[] = "UPDATE mailbox SET log_floor = $2, log_rows = log_rows - $3 WHERE id = $1";

static esp_status box_fill(struct op *op, esp_id id, const esp_sql_rows *rows, struct box *ret)
{
	esp_str name = esp_strdup_in(op->arena, str_of(esp_sql_at(rows, 0, 4)));
	esp_str keywords = esp_strdup_in(op->arena, str_of(esp_sql_at(rows, 0, 5)));

	if (!name.ptr || !keywords.ptr)
		return ESP_ENOMEM;
	ret->id = id;
	ret->uidnext = (uint32_t)int_of(esp_sql_at(rows, 0, 0));
	ret->uidvalidity = (uint32_t)int_of(esp_sql_at(rows, 0, 1));
	ret->first_recent = (uint32_t)int_of(esp_sql_at(rows, 0, 2));
	ret->noselect = (uint32_t)int_of(esp_sql_at(rows, 0, 3));
	ret->name = name;
	ret->keywords_text = keywords;
	keywords_parse(&ret->keywords, keywords);
	return ESP_OK;
}

/* Changes of the log that the rows do not show yet, oldest first. */
static esp_status late_read(struct op *op, esp_tx *tx, struct box *b)
{
	esp_sql_value args[] = { ESP_SQL_ID(b->id), ESP_SQL_I(b->unsettled) };
	struct flag_change *late;
	esp_sql_rows rows;
	esp_status st = tx->exec(tx, LATE, args, 2, &rows);

	if (st != ESP_OK)
		return st;
	late = esp_alloc_array(op->arena, rows.nrows + 1, sizeof *late);
	if (!late)
		return ESP_ENOMEM;
	for (uint32_t i = 0; st == ESP_OK && i < rows.nrows; i++) {
		struct uid_ranges set = { .arena = op->arena };
		st = ranges_unpack(str_of(esp_sql_at(&rows, i, 3)), &set);
		late[i] = (struct flag_change){ .modseq = (uint64_t)int_of(esp_sql_at(&rows, i, 0)),
			.keep = (uint64_t)int_of(esp_sql_at(&rows, i, 1)), .set = (uint64_t)int_of(esp_sql_at(&rows, i, 2)),
			.range = set.range, .n = set.n };
	}
	b->late = late;
	b->nlate = rows.nrows;
	return st;
}

esp_status box_read(struct op *op, esp_tx *tx, esp_id id, struct box *ret)
{
	esp_sql_value args[] = { ESP_SQL_ID(id), ESP_SQL_ID(op->account) };
	esp_sql_rows rows;
	esp_status st = tx->exec(tx, BOX_READ, args, 2, &rows);

	*ret = (struct box){ .uidnext = 0 };
	if (st != ESP_OK)
		return st;
	if (rows.nrows == 0)
		return ESP_ENOENT;
	st = box_fill(op, id, &rows, ret);
	ret->modseq = (uint64_t)int_of(esp_sql_at(&rows, 0, 6));
	ret->log_floor = (uint64_t)int_of(esp_sql_at(&rows, 0, 7));
	ret->unsettled = (uint64_t)int_of(esp_sql_at(&rows, 0, 8));
	if (st == ESP_OK && ret->noselect)
		st = ESP_ENOENT;
	return st == ESP_OK && ret->unsettled ? late_read(op, tx, ret) : st;
}

esp_status box_update(struct op *op, esp_tx *tx, esp_id id, struct box_delta d, struct box *ret)
{
	esp_sql_value args[] = { ESP_SQL_ID(id), ESP_SQL_ID(op->account), ESP_SQL_I(op->modseq), ESP_SQL_I(d.uids),
		ESP_SQL_I(d.messages), ESP_SQL_I(d.unseen), ESP_SQL_I(d.deleted), ESP_SQL_I(d.recent), ESP_SQL_I(d.bytes),
		ESP_SQL_I(d.log) };
	struct box b = { .uidnext = 0 };
	int64_t log_rows;
	esp_sql_rows rows;
	esp_status st = tx->exec(tx, BOX_UPDATE, args, 10, &rows);

	if (st != ESP_OK)
		return st;
	if (rows.nrows == 0) {
		st = box_read(op, tx, id, &b);
		return st == ESP_OK ? ESP_E2BIG : st;
	}
	st = box_fill(op, id, &rows, &b);
	log_rows = int_of(esp_sql_at(&rows, 0, 6));
	if (st == ESP_OK && op->blob && b.uidnext - 1 > int_of(esp_sql_at(&rows, 0, 7))) {
		op->behind = id;               /* nothing is given that the folder's file has not reserved (mark.c) */
		op->behind_uid = b.uidnext - 1;
		st = ESP_EAGAIN;
	}
	if (st == ESP_OK && d.log)
		st = log_prune(tx, id, log_rows);
	if (st == ESP_OK && ret)
		*ret = b;
	return st;
}

esp_status box_save_keywords(struct op *op, esp_tx *tx, const struct box *b)
{
	esp_str text;
	esp_status st;

	if (!b->keywords.grown)
		return ESP_OK;
	st = keywords_text(&b->keywords, op->arena, &text);
	if (st != ESP_OK)
		return st;
	return tx->exec(tx, BOX_KEYWORDS, (esp_sql_value[]){ ESP_SQL_ID(b->id), ESP_SQL_T(text) }, 2, NULL);
}

static void show_late(const struct box *b, struct row *r)
{
	for (uint32_t i = 0; i < b->nlate; i++) {
		const struct flag_change *c = &b->late[i];
		if (c->modseq <= r->modseq || ranges_find(c->range, c->n, r->uid) < 0)
			continue;
		r->flags = (r->flags & c->keep) | c->set;
		r->modseq = c->modseq;
	}
}

/* Rows of one SELECT that the set names. */
static uint32_t pick(const struct box *b, const esp_sql_rows *rows, esp_uid_set set, struct row *out)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < rows->nrows; i++) {
		uint32_t uid = (uint32_t)int_of(esp_sql_at(rows, i, 0));
		int64_t range = ranges_find(set.range, set.n, uid);
		if (range < 0)
			continue;
		out[n++] = (struct row){ .uid = uid,
			.range = (uint32_t)range,
			.flags = (uint64_t)int_of(esp_sql_at(rows, i, 1)),
			.settled = (uint64_t)int_of(esp_sql_at(rows, i, 1)),
			.modseq = (uint64_t)int_of(esp_sql_at(rows, i, 2)),
			.blob = id_of(esp_sql_at(rows, i, 3)),
			.bytes = (uint64_t)int_of(esp_sql_at(rows, i, 4)),
			.internal_date = int_of(esp_sql_at(rows, i, 5)) };
		show_late(b, &out[n - 1]);
	}
	return n;
}

esp_status walk_next(
	struct op *op, esp_tx *tx, const struct box *box, struct walk *w, struct row **ret, uint32_t *ret_n)
{
	uint32_t first = 0, last = 0;
	esp_sql_rows rows;
	esp_status st;

	*ret_n = 0;
	while (w->from && *ret_n == 0) {
		if (!uid_set_span(w->set, &w->place, w->from, &first, &last)) {
			w->from = 0;
			return ESP_OK;
		}
		st = tx->exec(tx, PAGE, (esp_sql_value[]){ ESP_SQL_ID(box->id), ESP_SQL_I(first), ESP_SQL_I(last) }, 3, &rows);
		if (st != ESP_OK)
			return st;
		if (rows.nrows == PAGE_ROWS)
			last = (uint32_t)int_of(esp_sql_at(&rows, rows.nrows - 1, 0));
		w->from = last == UINT32_MAX ? 0 : last + 1;
		if (rows.nrows == 0)
			continue;
		*ret = esp_alloc_array(op->arena, rows.nrows, sizeof **ret);
		if (!*ret)
			return ESP_ENOMEM;
		*ret_n = pick(box, &rows, w->set, *ret);
	}
	return ESP_OK;
}

static esp_status row_write(struct op *op, esp_tx *tx, const struct box *b, const struct row *r)
{
	esp_sql_value args[] = { ESP_SQL_ID(b->id), ESP_SQL_I(r->uid), ESP_SQL_ID(r->blob), ESP_SQL_I(r->flags),
		ESP_SQL_I(op->modseq), ESP_SQL_I(r->bytes), ESP_SQL_I(r->internal_date), ESP_SQL_I(op->now) };

	return tx->exec(tx, INSERT, args, 8, NULL);
}

esp_status row_insert(struct op *op, esp_tx *tx, const struct box *b, const struct row *r)
{
	esp_status st = row_write(op, tx, b, r);

	return st == ESP_OK ? op_jobs(op, tx, ESP_BLOB_LINK, b, r, 1) : st;
}

void delta_count(const struct box *b, const struct row *r, int sign, struct box_delta *d)
{
	d->messages += sign;
	d->bytes += sign * (int64_t)r->bytes;
	d->unseen += r->flags & ESP_FLAG_SEEN ? 0 : sign;
	d->deleted += r->flags & ESP_FLAG_DELETED ? sign : 0;
	d->recent += r->uid >= b->first_recent ? sign : 0;
}

/* Neighbours whose UIDs follow each other, from row i on: the one after the last. */
static uint32_t run_end(const struct row *row, uint32_t i, uint32_t n)
{
	for (i++; i < n && row[i].uid == row[i - 1].uid + 1; i++)
		;
	return i;
}

esp_status rows_delete(struct op *op, esp_tx *tx, const struct box *b, const struct row *row, uint32_t n, int moved)
{
	esp_status st = ESP_OK;

	for (uint32_t i = 0, end; st == ESP_OK && i < n; i = end) {
		end = run_end(row, i, n);
		st = tx->exec(tx, DELETE_RANGE,
			(esp_sql_value[]){ ESP_SQL_ID(b->id), ESP_SQL_I(row[i].uid), ESP_SQL_I(row[end - 1].uid) }, 3, NULL);
	}
	if (st == ESP_OK)
		st = op_jobs(op, tx, ESP_BLOB_UNLINK, b, row, n);
	return st == ESP_OK && !moved && n ? info_uses(op, tx, row, n, -1) : st;
}

/* Rows whose copies differ by mailbox and UID alone, from row i on: the one after the last. */
static uint32_t alike_end(const struct row *row, const struct row *copy, uint32_t i, uint32_t n)
{
	uint32_t end = i, most = run_end(row, i, n);

	while (end < most && copy[end].flags == row[end].settled)
		end++;
	return end;
}

static esp_status rows_insert_run(struct op *op, esp_tx *tx, const struct box *src, const struct box *dst,
	const struct row *row, const struct row *copy, uint32_t n)
{
	esp_sql_value args[] = { ESP_SQL_ID(dst->id), ESP_SQL_I((int64_t)copy->uid - row->uid), ESP_SQL_I(op->modseq),
		ESP_SQL_I(op->now), ESP_SQL_ID(src->id), ESP_SQL_I(row->uid), ESP_SQL_I(row[n - 1].uid) };

	return tx->exec(tx, INSERT_RANGE, args, 7, NULL);
}

esp_status rows_copy(struct op *op, esp_tx *tx, const struct box *src, const struct box *dst, const struct row *row,
	struct row *copy, uint32_t n)
{
	esp_status st = ESP_OK;

	for (uint32_t i = 0, end; st == ESP_OK && i < n; i = end) {
		end = alike_end(row, copy, i, n);
		if (end > i + 1) {
			st = rows_insert_run(op, tx, src, dst, row + i, copy + i, end - i);
		} else {
			st = row_write(op, tx, dst, &copy[i]);
			end = i + 1;
		}
	}
	for (uint32_t i = 0; i < n; i++)
		copy[i].internal_date = 0;         /* the file has its date from its first link */
	return st == ESP_OK ? op_jobs(op, tx, ESP_BLOB_LINK, dst, copy, n) : st;
}

static esp_status flag_job(struct op *op, esp_tx *tx, const struct box *b, const struct row *r)
{
	esp_blob_job job = { .kind = ESP_BLOB_FLAGS, .folder = b->name, .id = r->blob, .uid = r->uid,
		.uidvalidity = b->uidvalidity, .bytes = r->bytes, .flags = (uint32_t)(r->flags & 0xffff) };

	return op_job(op, tx, &job);
}

static esp_status flag_jobs(struct op *op, esp_tx *tx, const struct box *b, const esp_sql_rows *rows)
{
	esp_status st = ESP_OK;

	for (uint32_t i = 0; st == ESP_OK && i < rows->nrows; i++) {
		struct row r = { .uid = (uint32_t)int_of(esp_sql_at(rows, i, 0)),
			.flags = (uint64_t)int_of(esp_sql_at(rows, i, 1)), .blob = id_of(esp_sql_at(rows, i, 2)),
			.bytes = (uint64_t)int_of(esp_sql_at(rows, i, 3)) };
		st = flag_job(op, tx, b, &r);
	}
	return st;
}

esp_status rows_flag(
	struct op *op, esp_tx *tx, const struct box *b, uint32_t first, uint32_t last, const struct flag_change *change)
{
	esp_sql_value args[] = { ESP_SQL_ID(b->id), ESP_SQL_I(first), ESP_SQL_I(last), ESP_SQL_I(change->keep),
		ESP_SQL_I(change->set), ESP_SQL_I(change->modseq) };
	int on_disk = op->blob && ((~change->keep | change->set) & 0xffff) != 0;   /* keywords are not in file names */
	esp_sql_rows rows;
	esp_status st = tx->exec(tx, on_disk ? FLAG_RANGE_BLOBS : FLAG_RANGE, args, 6, &rows);

	return st == ESP_OK && on_disk ? flag_jobs(op, tx, b, &rows) : st;
}

esp_status rows_settle(struct op *op, esp_tx *tx, const struct box *b, const struct row *row, uint32_t n)
{
	esp_status st = ESP_OK;

	/* neighbours that became alike in one statement; a row that has it all is left alone by its modseq */
	for (uint32_t i = 0, next; st == ESP_OK && i < n; i = next) {
		esp_sql_value args[] = { ESP_SQL_ID(b->id), ESP_SQL_I(row[i].uid), ESP_SQL_NONE, ESP_SQL_I(row[i].flags),
			ESP_SQL_I(row[i].modseq) };
		for (next = i + 1; next < n && row[next].range == row[i].range && row[next].flags == row[i].flags &&
			 row[next].modseq == row[i].modseq; next++)
			;
		args[2] = ESP_SQL_I(row[next - 1].uid);
		st = tx->exec(tx, SETTLE, args, 5, NULL);
	}
	for (uint32_t i = 0; st == ESP_OK && i < n; i++)
		if ((row[i].flags ^ row[i].settled) & 0xffff)
			st = flag_job(op, tx, b, &row[i]);
	return st;
}

/* --- change log -------------------------------------------------------------------------------------- */

static esp_status log_write(struct op *op, esp_tx *tx, esp_id box, int kind, const struct flag_change *c,
	struct box_delta *d)
{
	esp_sql_value args[] = { ESP_SQL_ID(box), ESP_SQL_I(op->modseq), ESP_SQL_I(kind), ESP_SQL_NONE,
		kind == LOG_FLAGS ? ESP_SQL_I(c->keep) : ESP_SQL_NONE, kind == LOG_FLAGS ? ESP_SQL_I(c->set) : ESP_SQL_NONE };
	esp_str packed;
	esp_status st = ranges_pack(op->arena, c->range, c->n, &packed);

	if (st != ESP_OK)
		return st;
	args[3] = ESP_SQL_B(packed);
	d->log++;
	return tx->exec(tx, LOG_INSERT, args, 6, NULL);
}

esp_status log_expunge(
	struct op *op, esp_tx *tx, esp_id box, const esp_uid_range *range, uint32_t n, struct box_delta *d)
{
	return log_write(op, tx, box, LOG_EXPUNGE, &(struct flag_change){ .range = range, .n = n }, d);
}

esp_status log_flags(
	struct op *op, esp_tx *tx, esp_id box, const struct flag_change *change, struct box_delta *d)
{
	return log_write(op, tx, box, LOG_FLAGS, change, d);
}

esp_status log_prune(esp_tx *tx, esp_id box, int64_t log_rows)
{
	esp_sql_value args[3] = { ESP_SQL_ID(box) };
	esp_sql_rows rows;
	esp_status st;

	if (log_rows <= (int64_t)LOG_ROWS)
		return ESP_OK;
	st = tx->exec(tx, LOG_MIDDLE, args, 1, &rows);
	if (st != ESP_OK || rows.nrows == 0)
		return st;
	args[1] = ESP_SQL_I(int_of(esp_sql_at(&rows, 0, 0)));
	st = tx->exec(tx, LOG_DELETE, args, 2, &rows);
	if (st != ESP_OK)
		return st;
	args[2] = ESP_SQL_I(rows.changed);
	return tx->exec(tx, LOG_FLOOR, args, 3, NULL);
}
