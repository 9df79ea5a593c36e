/* account - the row every write locks first: modseq, UIDVALIDITY, use and quota.
 *
 * The row and the default mailboxes are made when an account is first used.  Its address (the name of its folder on
 * disk) and quota are asked of esp.directory/1 then, and the quota again when the worker's note of the account is
 * older than account_ttl; without a directory the address is the login (or the id) and quota_set() says the quota.
 */
#include "store.h"
#include "home.h"

#include <stdarg.h>
#include <stdio.h>

static const char LOCK[] =
	"UPDATE mail_account SET modseq = modseq + $5, used_bytes = used_bytes + $2, used_messages = used_messages + $3"
	" WHERE account_id = $1 AND (CAST($4 AS BIGINT) = 0 OR quota_bytes = 0 OR used_bytes + $2 <= quota_bytes)"
	" RETURNING modseq, used_bytes, quota_bytes, address";
static const char EXISTS[] = "SELECT quota_bytes FROM mail_account WHERE account_id = $1";
static const char ADDRESS_KNOWN[] = "SELECT 1 FROM mail_account WHERE address = $1 LIMIT 1";
static const char INSERT[] =
	"INSERT INTO mail_account (account_id, address, modseq, uidvalidity, used_bytes, used_messages, quota_bytes)"
	" VALUES ($1, $2, 1, 0, 0, 0, $3) ON CONFLICT (account_id) DO NOTHING";
static const char UIDVALIDITY[] =
	"UPDATE mail_account SET uidvalidity = CASE WHEN uidvalidity >= $2 THEN uidvalidity + 1 ELSE $2 END"
	" WHERE account_id = $1 AND uidvalidity < 4294967295 RETURNING uidvalidity";
static const char USE[] = "SELECT used_bytes, quota_bytes, used_messages FROM mail_account WHERE account_id = $1";
static const char SET_QUOTA[] = "UPDATE mail_account SET quota_bytes = $2 WHERE account_id = $1";
static const char SUBSCRIBE[] =
	"INSERT INTO mail_subscription (account_id, name) VALUES ($1, $2) ON CONFLICT (account_id, name) DO NOTHING";

void reason(esp_err *err, const char *fmt, ...)
{
	va_list ap;

	if (!err)
		return;
	va_start(ap, fmt);
	vsnprintf(err->text, sizeof err->text, fmt, ap);
	va_end(ap);
}

/* --- inside a transaction ---------------------------------------------------------------------------- */

esp_status account_lock(struct op *op, esp_tx *tx, struct account_charge c)
{
	esp_sql_value args[] = { ESP_SQL_ID(op->account), ESP_SQL_I(c.bytes), ESP_SQL_I(c.messages), ESP_SQL_I(c.check),
		ESP_SQL_I(c.bump) };
	esp_sql_rows rows;
	esp_status st = tx->exec(tx, LOCK, args, 5, &rows);

	if (st == ESP_OK && rows.nrows == 0) {
		st = tx->exec(tx, EXISTS, args, 1, &rows);
		return st != ESP_OK ? st : rows.nrows ? ESP_EQUOTA : ESP_ENOENT;
	}
	if (st != ESP_OK)
		return st;
	op->modseq = (uint64_t)int_of(esp_sql_at(&rows, 0, 0));
	op->used = (uint64_t)int_of(esp_sql_at(&rows, 0, 1));
	op->quota = (uint64_t)int_of(esp_sql_at(&rows, 0, 2));
	op->address = esp_strdup_in(op->arena, str_of(esp_sql_at(&rows, 0, 3)));
	return op->address.ptr ? ESP_OK : ESP_ENOMEM;
}

esp_status account_uidvalidity(struct op *op, esp_tx *tx, uint32_t *ret)
{
	int64_t now = op->now < 1 ? 1 : op->now > UINT32_MAX ? UINT32_MAX : op->now;
	esp_sql_rows rows;
	esp_status st = tx->exec(tx, UIDVALIDITY, (esp_sql_value[]){ ESP_SQL_ID(op->account), ESP_SQL_I(now) }, 2, &rows);

	if (st != ESP_OK)
		return st;
	if (rows.nrows == 0)
		return ESP_E2BIG;
	*ret = (uint32_t)int_of(esp_sql_at(&rows, 0, 0));
	return ESP_OK;
}

esp_status account_warn(struct op *op, esp_tx *tx, int64_t added)
{
	uint64_t before = op->used - (uint64_t)added, mark = op->quota - op->quota / 10;
	esp_field field[] = { ESP_FID("account", op->account), ESP_FSTR("address", op->address),
		ESP_FINT("used", (int64_t)op->used), ESP_FINT("quota", (int64_t)op->quota) };

	if (op->quota == 0 || added <= 0 || before >= mark || op->used < mark)
		return ESP_OK;
	return op_fact(op, tx, FACT_QUOTA, field, 4);
}

/* --- first use --------------------------------------------------------------------------------------- */

static const struct { esp_str name, special_use; } first_mailboxes[] = {
	{ { "INBOX", 5 }, { "", 0 } }, { { "Sent", 4 }, { "\\Sent", 5 } }, { { "Drafts", 6 }, { "\\Drafts", 7 } },
	{ { "Trash", 5 }, { "\\Trash", 6 } }, { { "Junk", 4 }, { "\\Junk", 5 } }, { { "Archive", 7 }, { "\\Archive", 8 } },
};
#define FIRST (sizeof first_mailboxes / sizeof first_mailboxes[0])

struct open_op { struct op op; esp_str address; uint64_t quota; esp_id ids[FIRST][NAME_DEPTH]; };

static esp_status make_first(struct open_op *o, esp_tx *tx, uint32_t i)
{
	esp_sql_value args[] = { ESP_SQL_ID(o->op.account), ESP_SQL_T(first_mailboxes[i].name) };
	esp_status st = mailbox_make(&o->op, tx, first_mailboxes[i].name, first_mailboxes[i].special_use, o->ids[i]);

	return st == ESP_OK ? tx->exec(tx, SUBSCRIBE, args, 2, NULL) : st;
}

static esp_status on_open(esp_tx *tx, void *arg)
{
	struct open_op *o = arg;
	esp_sql_rows rows;
	esp_status st;

	op_restart(&o->op);
	st = tx->exec(tx, INSERT,
		(esp_sql_value[]){ ESP_SQL_ID(o->op.account), ESP_SQL_T(o->address), ESP_SQL_I(o->quota) }, 3, &rows);
	if (st != ESP_OK || rows.changed == 0)   /* another worker or node was faster */
		return st;
	st = account_lock(&o->op, tx, (struct account_charge){ .bump = 1 });
	for (uint32_t i = 0; st == ESP_OK && i < FIRST; i++)
		st = make_first(o, tx, i);
	return st;
}

static esp_status create_account(
	const struct mailstore *m, esp_arena *a, esp_id account, esp_str address, uint64_t quota)
{
	struct open_op *o = esp_alloc(a, sizeof *o);
	esp_status st;

	if (!o)
		return ESP_ENOMEM;
	st = op_begin(m, &o->op, account);
	o->address = address;
	o->quota = quota;
	for (uint32_t i = 0; i < FIRST; i++)
		fresh_ids(m, o->ids[i]);
	if (st == ESP_OK)
		st = op_run(&o->op, NULL, 0, on_open, o);
	if (st == ESP_OK)
		op_committed(&o->op);
	op_end(&o->op);
	return st;
}

static esp_str id_text(esp_id id, char buf[33])
{
	for (uint32_t i = 0; i < 16; i++)
		snprintf(buf + 2 * i, 3, "%02x", id.b[i]);
	return (esp_str){ buf, 32 };
}

/* The address has folders of ours and no account in the database ever had it: the database was lost, and fsck makes the
 * account again.  A new one in its place would give UIDs anew. */
static esp_status check_lost(const struct mailstore *m, esp_arena *a, esp_str address)
{
	const esp_blob *blob = (const esp_blob *)m->core.host->service(m->self, m->blob);
	const esp_blob_mark *mark = NULL;
	uint32_t n = 0;
	int ours = 0;
	esp_sql_rows rows;
	esp_status st = blob && blob->folders ? blob->folders(blob, a, address, &mark, &n) : ESP_ENOENT;

	for (uint32_t i = 0; st == ESP_OK && i < n; i++)
		ours |= mark[i].uidvalidity != 0;
	if (st != ESP_OK || !ours)
		return st == ESP_ENOENT || st == ESP_EINVAL || st == ESP_E2BIG ? ESP_OK : st;
	st = store_query(m, 0, a, ADDRESS_KNOWN, (esp_sql_value[]){ ESP_SQL_T(address) }, 1, &rows);
	if (st != ESP_OK || rows.nrows)
		return st;
	esp_log(m->core.log, m->self, ESP_LOG_ERROR,
		"the account is on the disk, but not in the database: esp-cli fsck --repair", ESP_FSTR("address", address));
	return ESP_EUNAVAIL;
}

static esp_status open_in(const struct mailstore *m, esp_arena *a, esp_id account, esp_str login)
{
	const esp_directory *d = (const esp_directory *)m->core.host->service(m->self, m->directory);
	esp_account entry = { .size = sizeof entry };
	char hex[33];
	esp_sql_rows rows;
	esp_status st = store_query(m, ESP_SQL_BOUNDED, a, EXISTS, (esp_sql_value[]){ ESP_SQL_ID(account) }, 1, &rows);

	if (st == ESP_OK && d)
		st = d->account_by_id(d, a, account, &entry);
	if (st != ESP_OK)
		return st;
	if (!d)
		entry.address = login.len ? login : id_text(account, hex);
	if (rows.nrows == 0) {
		st = check_lost(m, a, entry.address);
		return st == ESP_OK ? create_account(m, a, account, entry.address, entry.quota) : st;
	}
	if (d && entry.quota != (uint64_t)int_of(esp_sql_at(&rows, 0, 0)))
		return quota_set(&m->table, account, entry.quota);
	return ESP_OK;
}

esp_status account_open(const struct mailstore *m, esp_id account, esp_str login)
{
	esp_arena *a;
	esp_status st;

	if (home_knows(m, account))
		return ESP_OK;
	a = m->core.mem->arena_new(m->self, "mailstore-account", 0);
	if (!a)
		return ESP_ENOMEM;
	st = open_in(m, a, account, login);
	m->core.mem->arena_free(a);
	if (st == ESP_OK)
		home_note(m, account);
	return st;
}

/* --- quota ------------------------------------------------------------------------------------------- */

esp_status quota_get(
	const esp_mailstore *s, esp_id account, uint64_t *ret_used, uint64_t *ret_limit, uint32_t *ret_messages)
{
	const struct mailstore *m = store_of(s);
	esp_arena *a;
	esp_sql_rows rows;
	esp_status st = account_open(m, account, (esp_str){ NULL, 0 });

	if (st != ESP_OK)
		return st;
	a = m->core.mem->arena_new(m->self, "mailstore-quota", 0);
	if (!a)
		return ESP_ENOMEM;
	st = store_query(m, ESP_SQL_BOUNDED, a, USE, (esp_sql_value[]){ ESP_SQL_ID(account) }, 1, &rows);
	if (st == ESP_OK && rows.nrows == 0)
		st = ESP_ENOENT;
	if (st == ESP_OK) {
		*ret_used = (uint64_t)int_of(esp_sql_at(&rows, 0, 0));
		*ret_limit = (uint64_t)int_of(esp_sql_at(&rows, 0, 1));
		*ret_messages = (uint32_t)int_of(esp_sql_at(&rows, 0, 2));
	}
	m->core.mem->arena_free(a);
	return st;
}

struct quota_op { struct op op; uint64_t bytes; };

static esp_status on_quota(esp_tx *tx, void *arg)
{
	struct quota_op *q = arg;
	esp_sql_rows rows;
	esp_status st;

	op_restart(&q->op);
	st = tx->exec(tx, SET_QUOTA, (esp_sql_value[]){ ESP_SQL_ID(q->op.account), ESP_SQL_I(q->bytes) }, 2, &rows);
	return st == ESP_OK && rows.changed == 0 ? ESP_ENOENT : st;
}

esp_status quota_set(const esp_mailstore *s, esp_id account, uint64_t bytes)
{
	struct quota_op q = { .bytes = bytes };
	esp_status st;

	if (bytes > INT64_MAX)
		return ESP_EINVAL;
	st = op_begin(store_of(s), &q.op, account);
	q.bytes = bytes;
	if (st == ESP_OK)
		st = op_run(&q.op, NULL, 0, on_quota, &q);
	op_end(&q.op);
	return st;
}
