/* jobs - folder jobs as rows of blob_job: one, or up to PACKED of one kind and folder in one row.
 *
 * A row of one has its message in blob_id, uid and flags, and marks is ''.  A row of many has the ids one after the
 * other in blob_id and, in marks, UID (10 digits) and flags (5) of each: text of fixed width, which SQL can take apart
 * when the migration goes down.
 */
#include "maildir.h"

#include <stdio.h>
#include <stdlib.h>

#define PACKED 100u
#define ID     sizeof(esp_id)
#define MARK   15u                 /* "%010u%05u" */

enum { C_ID, C_KIND, C_ACCOUNT, C_FOLDER, C_TARGET, C_BLOB, C_UID, C_FLAGS, C_MODSEQ, C_RECEIVED, C_MARKS };

static const char INSERT[] =
	"INSERT INTO blob_job (id, kind, account, folder, target, blob_id, uid, bytes, flags, received, modseq, marks)"
	" VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)";
const char jobs_select[] =
	"SELECT id, kind, account, folder, target, blob_id, uid, flags, modseq, received, marks FROM blob_job"
	" ORDER BY id LIMIT $1";

static const char MOVES[] = "SELECT 1 FROM blob_job WHERE account = $1 AND kind IN ($2, $3) LIMIT 1";

/* --- into the table --------------------------------------------------------------------------------------------- */

/* Ids ascend within the one thread that runs transactions, so that jobs keep the order of their commits. */
static esp_status insert(struct maildir *m, esp_tx *tx, const esp_blob_job *job, esp_str blobs, esp_str marks)
{
	esp_id id = ((const esp_crypto_api *)m->core.host->core("esp.crypto/1", 0))->new_id();

	return tx->exec(tx, INSERT,
		(esp_sql_value[]){ ESP_SQL_ID(id), ESP_SQL_I(job->kind), ESP_SQL_T(job->account), ESP_SQL_T(job->folder),
			ESP_SQL_T(job->to), ESP_SQL_B(blobs), ESP_SQL_I(job->uid ? job->uid : job->uidvalidity),
			ESP_SQL_I(job->bytes), ESP_SQL_I(job->flags), ESP_SQL_I(job->received), ESP_SQL_I(job->modseq),
			ESP_SQL_T(marks) },
		12, NULL);
}

esp_status folder_job(const esp_blob *b, esp_tx *tx, const esp_blob_job *job)
{
	char path[MAILDIR_PATH];
	esp_status st = ESP_OK;

	/* a mailbox whose directory cannot be made is not made */
	if (job->kind == ESP_BLOB_MKFOLDER || job->kind == ESP_BLOB_MVFOLDER)
		st = name_folder(job->account, job->kind == ESP_BLOB_MVFOLDER ? job->to : job->folder, path);
	if (st == ESP_E2BIG)
		return st;
	return insert(maildir_of(b), tx, job, (esp_str){ (const char *)job->id.b, ID }, ESP_STR(""));
}

static esp_status pack(struct maildir *m, esp_tx *tx, const esp_blob_job *job, uint32_t n)
{
	char blobs[PACKED * ID], marks[PACKED * MARK + 1];

	for (uint32_t i = 0; i < n; i++) {
		memcpy(blobs + i * ID, job[i].id.b, ID);
		snprintf(marks + i * MARK, MARK + 1, "%010u%05u", job[i].uid, job[i].flags & 0xffffu);
	}
	return insert(m, tx, job, (esp_str){ blobs, n * ID }, (esp_str){ marks, n * MARK });
}

/* A date of its own (ESP_BLOB_LINK of a first link) has no place in a row of many. */
static uint32_t together(const esp_blob_job *job, uint32_t n)
{
	uint32_t i = 0;

	while (i < n && i < PACKED && job[i].received == 0)
		i++;
	return i;
}

esp_status folder_jobs(const esp_blob *b, esp_tx *tx, const esp_blob_job *job, uint32_t n)
{
	esp_status st = ESP_OK;

	for (uint32_t i = 0, part; st == ESP_OK && i < n; i += part) {
		part = together(job + i, n - i);
		st = part > 1 ? pack(maildir_of(b), tx, job + i, part) : folder_job(b, tx, job + i);
		part = part ? part : 1;
	}
	return st;
}

/* --- and out of it ---------------------------------------------------------------------------------------------- */

static esp_str text(const esp_sql_rows *r, uint32_t row, uint32_t col) { return esp_sql_at(r, row, col)->s; }

uint32_t jobs_of(const esp_sql_rows *rows, uint32_t row)
{
	size_t n = text(rows, row, C_MARKS).len / MARK;

	return n && text(rows, row, C_BLOB).len == n * ID ? (uint32_t)n : 1;
}

static uint32_t number(const char *digits, size_t n)
{
	char buf[MARK + 1];

	snprintf(buf, sizeof buf, "%.*s", (int)n, digits);
	return (uint32_t)strtoul(buf, NULL, 10);
}

esp_blob_job jobs_at(const esp_sql_rows *rows, uint32_t row, uint32_t i)
{
	esp_blob_job job = { .size = sizeof job, .kind = (uint32_t)esp_sql_at(rows, row, C_KIND)->i,
		.account = text(rows, row, C_ACCOUNT), .folder = text(rows, row, C_FOLDER), .to = text(rows, row, C_TARGET),
		.uid = (uint32_t)esp_sql_at(rows, row, C_UID)->i, .flags = (uint32_t)esp_sql_at(rows, row, C_FLAGS)->i,
		.received = esp_sql_at(rows, row, C_RECEIVED)->i };
	esp_str blobs = text(rows, row, C_BLOB), marks = text(rows, row, C_MARKS);

	job.uidvalidity = job.kind == ESP_BLOB_MKFOLDER ? job.uid : 0;   /* one column for both */
	if (blobs.len >= (i + 1) * ID)
		memcpy(job.id.b, blobs.ptr + i * ID, ID);
	if (marks.len >= (i + 1) * MARK) {
		job.uid = number(marks.ptr + i * MARK, 10);
		job.flags = number(marks.ptr + i * MARK + 10, 5);
	}
	return job;
}

esp_status folder_moves(const esp_blob *b, esp_arena *arena, esp_str account)
{
	struct maildir *m = maildir_of(b);
	const esp_sql *sql = (const esp_sql *)m->core.host->service(m->self, m->sql);
	esp_sql_value args[] = { ESP_SQL_T(account), ESP_SQL_I(ESP_BLOB_RMFOLDER), ESP_SQL_I(ESP_BLOB_MVFOLDER) };
	esp_sql_rows rows = { .nrows = 0 };
	esp_status st = sql ? sql->query(sql, 0, arena, MOVES, args, 3, &rows) : ESP_EUNAVAIL;

	return st == ESP_OK && rows.nrows ? ESP_EBUSY : st;
}
