/* op - one write from its preparation in a fiber, through the transaction, to what follows COMMIT.
 *
 * op_begin, op_run, op_committed, op_end run in the calling fiber; op_restart, op_fact and op_job in the transaction,
 * on whatever thread the provider runs it, while the fiber waits.  The fiber owns the op and its arena.
 */
#include "store.h"

#define UIDS_IN_FACT 1000u

struct fact_type { const char *name, *help; esp_event_field field[8]; uint32_t n; };

#define F_ACCOUNT { "account", ESP_F_ID, 0, "account" }
#define F_MAILBOX { "mailbox", ESP_F_ID, 0, "mailbox" }
#define F_NAME    { "name", ESP_F_STR, 0, "name of the mailbox" }
#define F_UIDS    { "uids", ESP_F_STR, 0, "UIDs; cut with ... beyond 1,000 bytes" }
#define F_COUNT   { "messages", ESP_F_INT, 0, "how many messages" }
#define F_MODSEQ  { "modseq", ESP_F_INT, 0, "modification sequence of the change" }
#define F_TO_UID  { "to_uid", ESP_F_INT, 0, "UID of the first there; the others follow without a gap" }

static const struct fact_type fact_type[FACT_KINDS] = {
	[FACT_DELETED] = { "message.deleted", "Messages were removed from a mailbox",
		{ F_ACCOUNT, F_MAILBOX, F_NAME, F_UIDS, F_COUNT, F_MODSEQ }, 6 },
	[FACT_MOVED] = { "message.moved", "Messages were moved to another mailbox",
		{ F_ACCOUNT, F_MAILBOX, { "to", ESP_F_ID, 0, "mailbox they are in now" }, F_UIDS, F_COUNT, F_MODSEQ, F_TO_UID },
		7 },
	[FACT_COPIED] = { "message.copied", "Messages were copied to another mailbox",
		{ F_ACCOUNT, F_MAILBOX, { "to", ESP_F_ID, 0, "mailbox of the copies" }, F_UIDS, F_COUNT, F_MODSEQ, F_TO_UID },
		7 },
	[FACT_FLAGS] = { "message.flags_changed", "Flags or keywords of messages changed",
		{ F_ACCOUNT, F_MAILBOX, F_NAME, F_UIDS, F_COUNT, F_MODSEQ }, 6 },
	[FACT_CREATED] = { "mailbox.created", "A mailbox was created", { F_ACCOUNT, F_MAILBOX, F_NAME }, 3 },
	[FACT_REMOVED] = { "mailbox.deleted", "A mailbox was deleted", { F_ACCOUNT, F_MAILBOX, F_NAME }, 3 },
	[FACT_RENAMED] = { "mailbox.renamed", "A mailbox has another name",
		{ F_ACCOUNT, F_MAILBOX, F_NAME, { "to", ESP_F_STR, 0, "its new name" } }, 4 },
	[FACT_QUOTA] = { "user.quota_warning", "An account uses 90 % of its quota or more",
		{ F_ACCOUNT, { "address", ESP_F_STR, 0, "the account's address" }, { "used", ESP_F_INT, 0, "bytes in use" },
			{ "quota", ESP_F_INT, 0, "bytes allowed" } },
		4 },
};

esp_status facts_declare(struct mailstore *m)
{
	esp_status st = ESP_OK;

	for (uint32_t i = 0; st == ESP_OK && i < FACT_KINDS; i++)
		st = m->event->declare(m->self, fact_type[i].name, fact_type[i].help, fact_type[i].field, fact_type[i].n,
		                       sizeof fact_type[i].field[0], &m->fact[i]);
	return st;
}

esp_status op_begin(const struct mailstore *m, struct op *op, esp_id account)
{
	const esp_host *host = m->core.host;

	memset(op, 0, sizeof *op);
	op->m = m;
	op->account = account;
	op->now = m->core.loop->wall(NULL);
	op->blob = (const esp_blob *)host->service(m->self, m->blob);
	op->log = (const esp_eventlog *)host->service(m->self, m->eventlog);
	op->arena = m->core.mem->arena_new(m->self, "mailstore-op", 0);
	return op->arena ? ESP_OK : ESP_ENOMEM;
}

esp_status op_run(struct op *op, const esp_id *box, uint32_t nboxes, esp_status (*fn)(esp_tx *tx, void *arg), void *arg)
{
	const esp_sql *sql = store_sql(op->m);
	esp_sql_key key[3] = { { .kind = ESP_SQL_KEY_ACCOUNT, .id = op->account } };
	uint32_t n = 1;
	esp_status st;

	if (!sql)
		return ESP_EUNAVAIL;
	for (uint32_t i = 0; i < nboxes && i < 2; i++)
		key[n++] = (esp_sql_key){ .kind = ESP_SQL_KEY_MAILBOX, .id = box[i] };
	if (n == 3 && memcmp(key[1].id.b, key[2].id.b, sizeof key[1].id.b) > 0) {
		esp_sql_key swap = key[1];
		key[1] = key[2];
		key[2] = swap;
	}
	do {
		st = sql->transact(sql, key, n, fn, arg);
		if (st != ESP_EAGAIN || !op->behind_uid)
			break;
		st = mark_raise(op->m, op->account, op->behind, op->behind_uid);
	} while (st == ESP_OK);
	return st;
}

void op_restart(struct op *op)
{
	if (!op->shared_arena)
		op->m->core.mem->arena_reset(op->arena);
	op->facts = NULL;
	op->facts_end = &op->facts;
	op->jobs = op->behind_uid = op->unsettled = 0;
	op->modseq = op->used = op->quota = 0;
	op->address = (esp_str){ NULL, 0 };
}

void op_committed(struct op *op)
{
	const struct mailstore *m = op->m;

	if (op->blob && op->jobs)
		op->blob->kick(op->blob);
	if (op->unsettled)
		settle_kick(m);
	if (op->log && op->facts)
		op->log->committed(op->log);
	for (const struct fact *f = op->facts; f; f = f->next)
		m->event->publish(m->self, m->fact[f->kind], f->field, f->n, sizeof f->field[0]);
}

void op_end(struct op *op)
{
	if (op->arena && !op->shared_arena)
		op->m->core.mem->arena_free(op->arena);
	op->arena = NULL;
}

esp_status op_fact(struct op *op, esp_tx *tx, enum fact_kind kind, const esp_field *field, uint32_t n)
{
	struct fact *f = esp_alloc(op->arena, sizeof *f);

	if (!f || n > sizeof f->field / sizeof f->field[0])
		return ESP_ENOMEM;
	f->kind = kind;
	f->n = n;
	for (uint32_t i = 0; i < n; i++) {
		f->field[i] = field[i];
		if (field[i].type == ESP_F_STR) {
			f->field[i].s = esp_strdup_in(op->arena, field[i].s);
			if (!f->field[i].s.ptr)
				return ESP_ENOMEM;
		}
	}
	*op->facts_end = f;
	op->facts_end = &f->next;
	if (!op->log)
		return ESP_OK;
	return op->log->append(op->log, tx, fact_type[kind].name, op->account, f->field, n, sizeof f->field[0]);
}

esp_status fact_about(struct op *op, esp_tx *tx, enum fact_kind kind, const struct box *b,
	const esp_uid_range *range, uint32_t nranges, uint32_t n)
{
	esp_field field[6] = { ESP_FID("account", op->account), ESP_FID("mailbox", b->id), ESP_FSTR("name", b->name) };
	esp_str uids;
	esp_status st = ranges_text(op->arena, range, nranges, UIDS_IN_FACT, &uids);

	if (st != ESP_OK)
		return st;
	field[3] = ESP_FSTR("uids", uids);
	field[4] = ESP_FINT("messages", n);
	field[5] = ESP_FINT("modseq", (int64_t)op->modseq);
	return op_fact(op, tx, kind, field, 6);
}

esp_status op_job(struct op *op, esp_tx *tx, esp_blob_job *job)
{
	if (!op->blob)
		return ESP_OK;
	job->size = sizeof *job;
	job->account = op->address;
	job->modseq = op->modseq;
	op->jobs++;
	return op->blob->job(op->blob, tx, job);
}

static esp_blob_job row_job(const struct op *op, uint32_t kind, const struct box *b, const struct row *r)
{
	return (esp_blob_job){ .size = sizeof(esp_blob_job), .kind = kind, .account = op->address, .folder = b->name,
		.id = r->blob, .uid = r->uid, .uidvalidity = b->uidvalidity, .bytes = r->bytes, .modseq = op->modseq,
		.flags = kind == ESP_BLOB_UNLINK ? 0 : (uint32_t)(r->flags & 0xffff),
		.received = kind == ESP_BLOB_LINK ? r->internal_date : 0 };
}

static esp_status one_by_one(struct op *op, esp_tx *tx, uint32_t kind, const struct box *b, const struct row *row,
	uint32_t n)
{
	esp_status st = ESP_OK;

	for (uint32_t i = 0; st == ESP_OK && i < n; i++) {
		esp_blob_job job = row_job(op, kind, b, &row[i]);
		st = op_job(op, tx, &job);
	}
	return st;
}

esp_status op_jobs(
	struct op *op, esp_tx *tx, uint32_t kind, const struct box *b, const struct row *row, uint32_t n)
{
	esp_blob_job *job;

	if (!op->blob || n < 2 || op->blob->service.size <= offsetof(esp_blob, jobs))
		return one_by_one(op, tx, kind, b, row, n);
	job = esp_alloc_array(op->arena, n, sizeof *job);
	if (!job)
		return ESP_ENOMEM;
	for (uint32_t i = 0; i < n; i++)
		job[i] = row_job(op, kind, b, &row[i]);
	op->jobs += n;
	return op->blob->jobs(op->blob, tx, job, n);
}
