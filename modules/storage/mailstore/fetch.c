/* fetch - stored facts of messages, in pages of 500 rows at most.
 *
 * Read without a transaction, by key.  Wide columns are read only when asked for.  A page whose ENVELOPEs and
 * BODYSTRUCTUREs are too many bytes for one answer is read again with fewer rows.
 */
#include "store.h"

static const char NARROW[] =
	"SELECT m.uid, m.blob_id, m.bytes, m.internal_date, m.saved FROM message m JOIN mailbox b ON b.id = m.mailbox_id"
	" WHERE m.mailbox_id = $1 AND b.account_id = $2 AND m.uid >= $3 AND m.uid <= $4 ORDER BY m.uid LIMIT $5";
static const char WIDE[] =
	"SELECT m.uid, m.blob_id, m.bytes, m.internal_date, m.saved, i.header_len, i.thread,"
	" CASE WHEN CAST($6 AS BIGINT) <> 0 THEN i.envelope END, CASE WHEN CAST($7 AS BIGINT) <> 0 THEN i.bodystructure "
	"END,"
	" CASE WHEN CAST($8 AS BIGINT) <> 0 THEN i.body END, CASE WHEN CAST($9 AS BIGINT) <> 0 THEN i.preview END"
	" FROM message m JOIN mailbox b ON b.id = m.mailbox_id LEFT JOIN message_info i ON i.blob_id = m.blob_id"
	" WHERE m.mailbox_id = $1 AND b.account_id = $2 AND m.uid >= $3 AND m.uid <= $4 ORDER BY m.uid LIMIT $5";
static const char OWNER[] = "SELECT 1 FROM mailbox WHERE id = $1 AND account_id = $2 AND noselect = 0";

#define WIDE_BITS (ESP_FETCH_ENVELOPE | ESP_FETCH_BODYSTRUCTURE | ESP_FETCH_BODY | ESP_FETCH_INDEX | ESP_FETCH_PREVIEW)
#define FEW       50u    /* rows that may be read on the worker itself */
#define SPANS     64u    /* SELECTs of one call */

struct fetch {
	const struct mailstore *m;
	esp_arena *arena;
	esp_id account, mailbox;
	uint32_t what, page, nspans;
	esp_uid_set set;
	esp_message_row *row;
	uint32_t n;
};

static esp_status select_rows(struct fetch *f, uint32_t first, uint32_t last, uint32_t limit, esp_sql_rows *ret)
{
	esp_sql_value args[] = { ESP_SQL_ID(f->mailbox), ESP_SQL_ID(f->account), ESP_SQL_I(first), ESP_SQL_I(last),
		ESP_SQL_I(limit), ESP_SQL_I(f->what & ESP_FETCH_ENVELOPE), ESP_SQL_I(f->what & ESP_FETCH_BODYSTRUCTURE),
		ESP_SQL_I(f->what & ESP_FETCH_BODY), ESP_SQL_I(f->what & ESP_FETCH_PREVIEW) };
	uint32_t flags = last - first < FEW ? ESP_SQL_BOUNDED : 0;

	if (f->what & WIDE_BITS)
		return store_query(f->m, flags, f->arena, WIDE, args, 9, ret);
	return store_query(f->m, flags, f->arena, NARROW, args, 5, ret);
}

static void take_row(struct fetch *f, const esp_sql_rows *rows, uint32_t i)
{
	esp_message_row *r = &f->row[f->n++];

	*r = (esp_message_row){ .size = sizeof *r, .uid = (uint32_t)int_of(esp_sql_at(rows, i, 0)),
		.id = id_of(esp_sql_at(rows, i, 1)), .bytes = (uint64_t)int_of(esp_sql_at(rows, i, 2)),
		.internal_date = int_of(esp_sql_at(rows, i, 3)), .saved = int_of(esp_sql_at(rows, i, 4)) };
	if (rows->ncols <= 5)
		return;
	r->header_len = (uint32_t)int_of(esp_sql_at(rows, i, 5));
	r->thread = id_of(esp_sql_at(rows, i, 6));
	r->envelope = str_of(esp_sql_at(rows, i, 7));
	r->bodystructure = str_of(esp_sql_at(rows, i, 8));
	r->body = str_of(esp_sql_at(rows, i, 9));
	r->preview = str_of(esp_sql_at(rows, i, 10));
}

/* One SELECT; *from becomes the UID to go on with. */
static esp_status fetch_span(struct fetch *f, uint32_t first, uint32_t last, uint32_t *from)
{
	uint32_t limit = f->page - f->n;
	esp_sql_rows rows;
	esp_status st;

	while ((st = select_rows(f, first, last, limit, &rows)) == ESP_E2BIG && limit > 1)
		limit /= 2;
	if (st != ESP_OK)
		return st;
	if (rows.nrows == limit)
		last = (uint32_t)int_of(esp_sql_at(&rows, rows.nrows - 1, 0));
	for (uint32_t i = 0; i < rows.nrows; i++)
		if (ranges_find(f->set.range, f->set.n, (uint32_t)int_of(esp_sql_at(&rows, i, 0))) >= 0)
			take_row(f, &rows, i);
	*from = last == UINT32_MAX ? 0 : last + 1;
	return ESP_OK;
}

static esp_status check_owner(struct fetch *f)
{
	esp_sql_value args[] = { ESP_SQL_ID(f->mailbox), ESP_SQL_ID(f->account) };
	esp_sql_rows rows;
	esp_status st = store_query(f->m, ESP_SQL_BOUNDED, f->arena, OWNER, args, 2, &rows);

	return st == ESP_OK && rows.nrows == 0 ? ESP_ENOENT : st;
}

esp_status message_fetch(const esp_mailstore *s, esp_arena *a, const esp_actor *actor, esp_id mailbox, esp_uid_set uids,
                         uint32_t what, const esp_message_row **ret, uint32_t *ret_n, uint32_t *ret_next)
{
	struct fetch f = { .m = store_of(s), .arena = a, .account = actor->account, .mailbox = mailbox, .what = what,
		.page = PAGE_ROWS, .set = uids };
	uint32_t place = 0, from = 1, first = 0, last = 0;
	int more = 0;
	esp_status st = uid_set_check(uids);

	if (st == ESP_OK)
		st = check_owner(&f);
	if (st == ESP_OK && !(f.row = esp_alloc_array(a, f.page, sizeof *f.row)))
		st = ESP_ENOMEM;
	while (st == ESP_OK && from && f.n < f.page && f.nspans++ < SPANS) {
		if (!uid_set_span(uids, &place, from, &first, &last)) {
			from = 0;
			break;
		}
		st = fetch_span(&f, first, last, &from);
	}
	if (st != ESP_OK)
		return st;
	more = from && uid_set_span(uids, &place, from, &first, &last);
	*ret = f.row;
	*ret_n = f.n;
	*ret_next = more ? first : 0;
	return ESP_OK;
}
