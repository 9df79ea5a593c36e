/* uses - how many message rows refer to a blob, and what happens when none does any more.
 *
 * A blob's uses are message_info.refs + message_copies.copies.  refs is in a wide row, which a delivery writes anyway
 * and a removal deletes nearly always; a COPY of many messages adds to the narrow table instead.  copies only grows, so
 * refs may become negative; both rows go with the last use.
 * Removals of one blob by two accounts take turns on its message_info row.  Who copies needs no lock for it: its own
 * row is counted, so nobody finds the sum at 0.
 */
#include "store.h"

#include <stdlib.h>

static const char USES[] = "UPDATE message_info SET refs = refs + $2 WHERE blob_id = $1 RETURNING refs";
/* a statement of its own: it sees copies that were committed while the one before waited for the row */
static const char INFO_DELETE[] =
	"DELETE FROM message_info WHERE blob_id = $1 AND refs"
	" + COALESCE((SELECT copies FROM message_copies c WHERE c.blob_id = $1), 0) <= 0";
static const char COPIES_DELETE[] = "DELETE FROM message_copies WHERE blob_id = $1";
/* ordered: rows that others add to as well are locked in one order, and a tree that grows at its end is cheap */
static const char COPIES_ADD[] =
	"INSERT INTO message_copies (blob_id, copies) SELECT blob_id, COUNT(*) FROM message"
	" WHERE mailbox_id = $1 AND uid >= $2 AND uid <= $3 GROUP BY blob_id ORDER BY blob_id"
	" ON CONFLICT (blob_id) DO UPDATE SET copies = message_copies.copies + excluded.copies";

esp_status uses_copied(esp_tx *tx, esp_id mailbox, uint32_t first, uint32_t last)
{
	return tx->exec(
		tx, COPIES_ADD, (esp_sql_value[]){ ESP_SQL_ID(mailbox), ESP_SQL_I(first), ESP_SQL_I(last) }, 3, NULL);
}

static int by_blob(const void *a, const void *b)
{
	return memcmp(
		((const struct row *)a)->blob.b, ((const struct row *)b)->blob.b, sizeof((const struct row *)a)->blob.b);
}

/* refs is what the row says after the last change of it. */
static esp_status drop_unused(struct op *op, esp_tx *tx, esp_id blob, int64_t refs)
{
	esp_sql_value id[] = { ESP_SQL_ID(blob) };
	esp_sql_rows rows;
	esp_status st = tx->exec(tx, INFO_DELETE, id, 1, &rows);

	if (st != ESP_OK || rows.changed == 0)
		return st;
	if (refs < 0)
		st = tx->exec(tx, COPIES_DELETE, id, 1, NULL);
	return st == ESP_OK && op->blob ? op->blob->remove(op->blob, tx, blob) : st;
}

esp_status info_uses(struct op *op, esp_tx *tx, const struct row *row, uint32_t n, int delta)
{
	struct row *sorted = esp_alloc_array(op->arena, n, sizeof *sorted);
	esp_sql_rows rows;
	esp_status st = ESP_OK;

	if (!sorted)
		return ESP_ENOMEM;
	memcpy(sorted, row, n * sizeof *sorted);
	qsort(sorted, n, sizeof *sorted, by_blob);   /* blobs are shared by accounts: one order for everybody */
	for (uint32_t i = 0; st == ESP_OK && i < n; i++) {
		st = tx->exec(tx, USES, (esp_sql_value[]){ ESP_SQL_ID(sorted[i].blob), ESP_SQL_I(delta) }, 2, &rows);
		if (st == ESP_OK && rows.nrows && int_of(esp_sql_at(&rows, 0, 0)) <= 0)
			st = drop_unused(op, tx, sorted[i].blob, int_of(esp_sql_at(&rows, 0, 0)));
	}
	return st;
}
