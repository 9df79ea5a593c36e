/* quarantine - what becomes of messages that are held outside the mailboxes.
 *
 *   held --release--> a mailbox
 *   held --delete, or after `quarantine_keep`--> gone
 *
 * Several recipients' rows may name one message file, and mailboxes count the uses of theirs: so a released message
 * is a file of its own, and the old one goes with the last row that names it.  The account's lock makes two that act on
 * one message take turns.  Thread: worker 0.
 */
#include "quarantine.h"
#include "modules/common/breathe.h"

/*! \brief What happens to one; the argument of its transaction. */
struct leave {
	struct accept *a;
	const struct held *held;
	esp_event_id event;
	const char *name, *why;              /* of the event */
	const esp_blob *blob;
	const esp_eventlog *eventlog;        /* NULL: none configured */
	const esp_mailstore *mailstore;      /* these three: released */
	esp_id mailbox;
	esp_append append;
	uint32_t uid;
	uint64_t modseq;
};

esp_id held_id(const esp_sql_value *v)
{
	esp_id id = { { 0 } };

	if (v->s.len == sizeof id.b)
		memcpy(id.b, v->s.ptr, sizeof id.b);
	return id;
}

struct held held_of(const esp_sql_rows *rows, uint32_t r)
{
	return (struct held){ .id = held_id(esp_sql_at(rows, r, COL_ID)),
		.account = held_id(esp_sql_at(rows, r, COL_ACCOUNT)),
		.blob = held_id(esp_sql_at(rows, r, COL_BLOB)),
		.from = esp_sql_at(rows, r, COL_FROM)->s,
		.to = esp_sql_at(rows, r, COL_TO)->s,
		.bytes = esp_sql_at(rows, r, COL_BYTES)->i };
}

const esp_sql *quarantine_sql(const struct accept *a)
{
	return (const esp_sql *)a->core.host->service(a->self, a->sql);
}

/* --- leaving ------------------------------------------------------------------------------------------------ */

#define FIELDS 5
static void fields_of(const struct leave *l, esp_field ret[FIELDS])
{
	ret[0] = ESP_FID("message", l->append.size ? l->append.id : l->held->blob);
	ret[1] = ESP_FSTR("from", l->held->from);
	ret[2] = ESP_FSTR("to", l->held->to);
	ret[3] = ESP_FINT("bytes", l->held->bytes);
	ret[4] = ESP_FSTR("why", ((esp_str){ l->why, strlen(l->why) }));
}

static esp_status leave_tx(esp_tx *tx, void *arg)
{
	struct leave *l = arg;
	esp_field fields[FIELDS];
	esp_sql_value id[] = { ESP_SQL_ID(l->held->id) }, blob[] = { ESP_SQL_ID(l->held->blob) };
	esp_sql_rows rows;
	/* changes nothing, but waits for whoever has another row of the blob leave now: the last one removes the file */
	esp_status st = tx->exec(tx, "UPDATE quarantine SET at = at WHERE blob_id = $1", blob, 1, NULL);

	if (st == ESP_OK)
		st = tx->exec(tx, "SELECT 1 FROM quarantine WHERE id = $1", id, 1, &rows);
	if (st == ESP_OK && rows.nrows == 0)
		return ESP_ENOENT;
	if (st == ESP_OK && l->mailstore)
		st = l->mailstore->deliver(l->mailstore, tx, l->held->account, l->mailbox, &l->append, &l->uid, &l->modseq);
	if (st == ESP_OK)
		st = tx->exec(tx, "DELETE FROM quarantine WHERE id = $1", id, 1, NULL);
	if (st == ESP_OK)
		st = tx->exec(tx, "SELECT 1 FROM quarantine WHERE blob_id = $1 LIMIT 1", blob, 1, &rows);
	if (st == ESP_OK && rows.nrows == 0)
		st = l->blob->remove(l->blob, tx, l->held->blob);
	if (st != ESP_OK || !l->eventlog)
		return st;
	fields_of(l, fields);
	return l->eventlog->append(l->eventlog, tx, l->name, l->held->account, fields, FIELDS, sizeof fields[0]);
}

static void tell(const struct leave *l)
{
	esp_field fields[FIELDS];

	if (l->mailstore)
		l->mailstore->delivered(l->mailstore, l->mailbox, l->modseq);
	l->blob->kick(l->blob);
	if (l->eventlog)
		l->eventlog->committed(l->eventlog);
	fields_of(l, fields);
	l->a->event->publish(l->a->self, l->event, fields, FIELDS, sizeof fields[0]);
}

static esp_status leave_begin(struct accept *a, const struct held *h, struct leave *ret)
{
	*ret = (struct leave){ .a = a, .held = h,
		.blob = (const esp_blob *)a->core.host->service(a->self, a->blob),
		.eventlog = (const esp_eventlog *)a->core.host->service(a->self, a->eventlog) };
	return ret->blob ? ESP_OK : ESP_EUNAVAIL;
}

esp_status held_drop(struct accept *a, const struct held *h, const char *why_gone)
{
	const esp_sql *sql = quarantine_sql(a);
	esp_sql_key key = { .kind = ESP_SQL_KEY_ACCOUNT, .id = h->account };
	struct leave l;
	esp_status st = leave_begin(a, h, &l);

	l.event = a->discarded;
	l.name = "message.discarded";
	l.why = why_gone;
	if (st == ESP_OK)
		st = sql ? sql->transact(sql, &key, 1, leave_tx, &l) : ESP_EUNAVAIL;
	if (st == ESP_OK)
		tell(&l);
	return st;
}

/* An account that was removed is not made again by what is held for it. */
static esp_status account_is_there(struct accept *a, esp_arena *arena, esp_id account)
{
	const esp_directory *d = (const esp_directory *)a->core.host->service(a->self, a->directory);
	esp_account found = { .size = sizeof found };

	return d ? d->account_by_id(d, arena, account, &found) : ESP_EUNAVAIL;
}

static esp_status put_copy(const struct leave *l, esp_arena *arena, esp_append *append, esp_blob_file *file)
{
	uint64_t bytes;
	esp_status st = l->blob->open(l->blob, l->held->blob, file);

	if (st != ESP_OK)
		return st;
	*append = (esp_append){ .size = sizeof *append, .id = l->a->crypto->new_id(), .content = file->content };
	st = l->mailstore->prepare(l->mailstore, arena, append);
	if (st == ESP_OK)
		st = l->blob->put(l->blob, append->id, (esp_str){ NULL, 0 }, file->content, &bytes);
	if (st != ESP_OK) {
		l->blob->close_file(l->blob, file);
		return st;
	}
	append->bytes = bytes;
	return ESP_OK;
}

static esp_status commit_release(struct leave *l, const esp_sql *sql, esp_str folder)
{
	esp_status st = ESP_EAGAIN;

	for (int i = 0; st == ESP_EAGAIN && i < RESERVE_TRIES; i++) {
		esp_sql_key keys[2] = { { .kind = ESP_SQL_KEY_ACCOUNT, .id = l->held->account },
			{ .kind = ESP_SQL_KEY_MAILBOX } };

		st = l->mailstore->target(l->mailstore, l->held->account, folder, &l->mailbox);
		keys[1].id = l->mailbox;
		if (st == ESP_OK)
			st = sql->transact(sql, keys, 2, leave_tx, l);
	}
	return st;
}

esp_status held_release(struct accept *a, esp_arena *arena, const struct held *h, esp_str folder)
{
	const esp_sql *sql = quarantine_sql(a);
	esp_blob_file file = { .size = sizeof file };
	struct leave l;
	esp_status st = account_is_there(a, arena, h->account);

	if (st == ESP_OK)
		st = leave_begin(a, h, &l);
	if (st != ESP_OK)
		return st;
	l.event = a->released;
	l.name = "message.released";
	l.why = "released";
	l.mailstore = (const esp_mailstore *)a->core.host->service(a->self, a->mailstore);
	st = sql && l.mailstore ? put_copy(&l, arena, &l.append, &file) : ESP_EUNAVAIL;
	if (st != ESP_OK)
		return st;
	st = commit_release(&l, sql, folder);
	if (st == ESP_OK) {
		a->metric->add(a->copies[COPY_RELEASED], 1);
		tell(&l);
	} else if (st != ESP_EUNKNOWN)
		l.blob->discard(l.blob, l.append.id);
	l.blob->close_file(l.blob, &file);
	return st;
}

/* --- expiry -------------------------------------------------------------------------------------------------- */

esp_nsec quarantine_expire(struct accept *a, esp_arena *arena)
{
	const esp_sql *sql = quarantine_sql(a);
	int64_t before = a->core.loop->wall(NULL) - a->keep / ESP_SEC;
	esp_sql_rows rows = { .nrows = 0 };
	esp_status st =
		sql ? sql->query(sql, 0, arena, "SELECT " HELD_COLUMNS " FROM quarantine WHERE at < $1 ORDER BY at LIMIT 100",
				  (esp_sql_value[]){ ESP_SQL_I(before) }, 1, &rows)
			: ESP_EUNAVAIL;

	for (uint32_t r = 0; st == ESP_OK && r < rows.nrows && !a->draining; r++) {
		struct held h = held_of(&rows, r);

		st = held_drop(a, &h, "expired");
		if (st == ESP_ENOENT)          /* another node was first */
			st = ESP_OK;
		if (st == ESP_OK)
			st = breathe(&a->core);
	}
	return st != ESP_OK ? SWEEP_AGAIN : rows.nrows == 100 ? 0 : SWEEP_EVERY;
}
