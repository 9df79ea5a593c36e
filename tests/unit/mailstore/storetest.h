/* storetest.h - what the tests of storage_mailstore share: actors, names, messages, numbers from a seed. */
#ifndef STORETEST_H
#define STORETEST_H

#include "core/base/id.h"
#include "tests/support/sqlhost.h"
#include "tests/support/test.h"

#include <string.h>

static inline esp_str z(const char *s) { return (esp_str){ s, strlen(s) }; }

/* xorshift: the same numbers for the same seed */
struct rnd { uint64_t s; };
static inline uint64_t rnd(struct rnd *r)
{
	r->s ^= r->s << 13;
	r->s ^= r->s >> 7;
	r->s ^= r->s << 17;
	return r->s;
}
static inline uint32_t rnd_below(struct rnd *r, uint32_t n) { return (uint32_t)(rnd(r) >> 11) % n; }
/* The seed of this run: ESP_TEST_SEED, or a fixed one; printed so that a failure can be repeated. */
static inline uint64_t test_seed(uint64_t otherwise)
{
	const char *s = getenv("ESP_TEST_SEED");

	return s ? strtoull(s, NULL, 10) : otherwise;
}

static inline esp_actor actor_new(const char *login)
{
	return (esp_actor){ .account = id_new(), .login = z(login) };
}
static inline esp_id box_id(const esp_actor *who, const char *name)
{
	esp_arena *a = sqlhost_arena();
	esp_mailbox box;

	must_ok(sqlhost->store->find(sqlhost->store, a, who, z(name), &box));
	sqlhost_arena_free(a);
	return box.id;
}
static inline esp_append message_of(const char *text)
{
	esp_append m = { .size = sizeof m, .bytes = strlen(text), .content = z(text) };

	m.id = sqlhost_blob_put(text, strlen(text));
	return m;
}
static inline uint32_t put(const esp_actor *who, esp_id box, const char *text, uint64_t flags)
{
	esp_append m = message_of(text);
	uint32_t uid, validity;
	uint64_t modseq;
	esp_err err = ESP_ERR_INIT;

	m.flags = flags;
	must_ok(sqlhost->store->append(sqlhost->store, who, box, &m, 1, &uid, &validity, &modseq, &err));
	return uid;
}
static inline const esp_view *view_of(const esp_actor *who, esp_id box)
{
	const esp_view *v = NULL;

	must_ok(sqlhost->store->sync(sqlhost->store, who, box, &v));
	return v;
}
static inline esp_uid_set uids(esp_uid_range *r, uint32_t first, uint32_t last)
{
	*r = (esp_uid_range){ first, last };
	return (esp_uid_set){ r, 1 };
}
static inline uint64_t set_flags(
	const esp_actor *who, esp_id box, uint32_t first, uint32_t last, uint32_t op, uint64_t flags)
{
	esp_store_args args = { .size = sizeof args, .op = op, .flags = flags };
	esp_arena *a = sqlhost_arena();
	esp_uid_range r;
	esp_uid_set failed;
	uint64_t modseq;

	must_ok(sqlhost->store->store(sqlhost->store, a, who, box, uids(&r, first, last), &args, &modseq, &failed));
	must(failed.n == 0);
	sqlhost_arena_free(a);
	return modseq;
}

/* Is something of this mailbox in the change log only? */
static inline int unsettled(esp_id box)
{
	esp_arena *a = sqlhost_arena();
	esp_sql_rows rows = sqlhost_rows(a, "SELECT unsettled FROM mailbox WHERE id = $1",
		(esp_sql_value[]){ ESP_SQL_ID(box) }, 1);
	int is = rows.nrows && esp_sql_at(&rows, 0, 0)->i != 0;

	sqlhost_arena_free(a);
	return is;
}
/* Wait until rows have all flags. */
static inline void settled(void)
{
	while (sqlhost_int("SELECT COUNT(*) FROM mailbox WHERE unsettled > 0", NULL, 0) > 0)
		must_ok(fiber_sleep_until(loop_loop_api.clock() + ESP_MSEC));
}
/* The view says what the database says: every row, the counts, and chunks in order.  Rows that wait for their flags
 * are compared when they have them. */
static inline void view_is_true(const esp_view *v)
{
	int late = unsettled(v->mailbox);   /* asked first: rows may settle while they are read */
	esp_arena *a = sqlhost_arena();
	esp_sql_rows rows = sqlhost_rows(a, "SELECT uid, modseq, flags FROM message WHERE mailbox_id = $1 ORDER BY uid",
		(esp_sql_value[]){ ESP_SQL_ID(v->mailbox) }, 1);
	uint32_t n = 0, unseen = 0, deleted = 0;

	must(v->exists == rows.nrows);
	for (uint32_t c = 0; c < v->nchunks; c++) {
		const esp_view_chunk *chunk = v->chunk[c];
		must(chunk->count > 0 && chunk->count <= 512 && v->chunk_start[c] == n);
		for (uint32_t i = 0; i < chunk->count; i++, n++) {
			must(chunk->uid[i] == (uint32_t)esp_sql_at(&rows, n, 0)->i);
			must(late || chunk->modseq[i] == (uint64_t)esp_sql_at(&rows, n, 1)->i);
			must(late || chunk->flags[i] == (uint64_t)esp_sql_at(&rows, n, 2)->i);
			must(chunk->modseq[i] <= v->modseq && chunk->uid[i] < v->uidnext);
			must(esp_view_index(v, chunk->uid[i]) == n);
			unseen += !(chunk->flags[i] & ESP_FLAG_SEEN);
			deleted += !!(chunk->flags[i] & ESP_FLAG_DELETED);
		}
	}
	must(v->chunk_start[v->nchunks] == n && v->unseen == unseen && v->deleted == deleted);
	sqlhost_arena_free(a);
}
/* Counters of mailbox and account rows, references and folders on disk agree with the message rows. */
static inline void store_is_sound(void)
{
	must(sqlhost_int(
			 "SELECT COUNT(*) FROM mailbox b WHERE messages <> (SELECT COUNT(*) FROM message m WHERE m.mailbox_id = "
			 "b.id)"
			 " OR bytes <> (SELECT COALESCE(SUM(bytes), 0) FROM message m WHERE m.mailbox_id = b.id)"
			 " OR unsettled = 0 AND unseen <> (SELECT COUNT(*) FROM message m WHERE m.mailbox_id = b.id AND m.flags & "
			 "1 = 0)"
			 " OR unsettled = 0 AND deleted <> (SELECT COUNT(*) FROM message m WHERE m.mailbox_id = b.id AND m.flags & "
			 "8 <> 0)"
			 " OR recent <> (SELECT COUNT(*) FROM message m WHERE m.mailbox_id = b.id AND m.uid >= b.first_recent)"
			 " OR log_rows <> (SELECT COUNT(*) FROM change_log l WHERE l.mailbox_id = b.id)"
			 " OR uidnext - 1 > uid_mark"
			 " OR uidnext <= (SELECT COALESCE(MAX(uid), 0) FROM message m WHERE m.mailbox_id = b.id)",
			 NULL, 0) == 0);
	must(sqlhost_int(
			 "SELECT COUNT(*) FROM mail_account a WHERE used_bytes <> (SELECT COALESCE(SUM(bytes), 0) FROM mailbox b"
			 " WHERE b.account_id = a.account_id) OR used_messages <> (SELECT COALESCE(SUM(messages), 0) FROM mailbox b"
			 " WHERE b.account_id = a.account_id)",
			 NULL, 0) == 0);
	must(sqlhost_int("SELECT COUNT(*) FROM message_info i WHERE refs"
					 " + COALESCE((SELECT copies FROM message_copies c WHERE c.blob_id = i.blob_id), 0)"
					 " <> (SELECT COUNT(*) FROM message m WHERE m.blob_id = i.blob_id)",
			 NULL, 0) == 0);
	must(sqlhost_int("SELECT COUNT(*) FROM message m WHERE NOT EXISTS (SELECT 1 FROM message_info i WHERE i.blob_id = "
					 "m.blob_id)",
			 NULL, 0) == 0);
	must(
		sqlhost_int("SELECT COUNT(*) FROM message m WHERE EXISTS (SELECT 1 FROM test_removed r WHERE r.id = m.blob_id)",
			NULL, 0) == 0);
	/* links made and taken away, by folder and UID (no folder is renamed where this is asked) */
	must(sqlhost_int("SELECT COUNT(*) FROM (SELECT account, folder, uid, SUM(CASE kind WHEN 1 THEN 1 WHEN 2 THEN -1 "
					 "ELSE 0 END) AS links"
					 " FROM test_job WHERE uid > 0 GROUP BY account, folder, uid) WHERE links NOT IN (0, 1)",
			 NULL, 0) == 0);
	must(sqlhost_int("SELECT (SELECT COUNT(*) FROM message) - (SELECT COALESCE(SUM(CASE kind WHEN 1 THEN 1 WHEN 2 THEN "
					 "-1 ELSE 0 END), 0)"
					 " FROM test_job)",
			 NULL, 0) == 0);
}

#define MESSAGE \
	"From: a@example.test\r\nTo: b@example.test\r\nSubject: hello\r\nDate: Mon, 2 Jan 2006 15:04:05 +0000\r\n" \
	"Message-ID: <1@example.test>\r\n\r\nbody of the message\r\n"

#endif
