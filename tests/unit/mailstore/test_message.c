/* messages: APPEND, STORE, EXPUNGE, COPY, MOVE, quota, FETCH, and what a stranger sees */
#include "tests/unit/mailstore/storetest.h"

#define S sqlhost->store

static void append_many(const esp_actor *who, esp_id box, uint32_t n)
{
	esp_append *m = calloc(500, sizeof *m);
	esp_arena *a = sqlhost_arena();
	esp_err err = ESP_ERR_INIT;
	uint32_t uid, validity;
	uint64_t modseq;

	m[0] = message_of(MESSAGE);
	must_ok(S->prepare(S, a, &m[0]));
	for (uint32_t i = 1; i < 500; i++)
		m[i] = m[0];
	for (; n; n -= n < 500 ? n : 500)
		must_ok(S->append(S, who, box, m, n < 500 ? n : 500, &uid, &validity, &modseq, &err));
	sqlhost_arena_free(a);
	free(m);
}

/* --- batches ----------------------------------------------------------------------------------------- */

static void batches(void *arg)
{
	esp_actor who = actor_new("a@example.test");
	esp_id inbox = box_id(&who, "INBOX"), trash = box_id(&who, "Trash");
	esp_arena *a = sqlhost_arena();
	esp_err err = ESP_ERR_INIT;
	esp_copy_result result;
	esp_uid_range r;
	const esp_view *v;
	uint64_t modseq;

	(void)arg;
	append_many(&who, inbox, 9001);
	must(set_flags(&who, inbox, 1, UINT32_MAX, ESP_STORE_ADD, ESP_FLAG_FLAGGED) > 0);
	v = view_of(&who, inbox);
	view_is_true(v);
	must(v->exists == 9001 && v->chunk[0]->flags[0] == ESP_FLAG_FLAGGED);
	sqlhost_unref(v);
	must_ok(S->copy(S, a, &who, inbox, uids(&r, 1, UINT32_MAX), trash, 1, &result, &modseq, &err));
	must(result.n == 9001);
	for (uint32_t i = 0; i < result.n; i++)
		must(result.from[i] == i + 1 && result.to[i] == i + 1);
	v = view_of(&who, inbox);
	must(v->exists == 0);
	sqlhost_unref(v);
	v = view_of(&who, trash);
	view_is_true(v);
	must(v->exists == 9001);
	sqlhost_unref(v);
	must_ok(S->copy(S, a, &who, trash, uids(&r, 1, UINT32_MAX), trash, 1, &result, &modseq, &err));
	must(result.n == 9001 && result.to[0] == 9002 && result.to[9000] == 18002);
	set_flags(&who, trash, 9003, 18001, ESP_STORE_REPLACE, ESP_FLAG_DELETED);
	must_ok(S->expunge(S, a, &who, trash, (esp_uid_set){ NULL, 0 }, &modseq));
	v = view_of(&who, trash);
	view_is_true(v);
	must(v->exists == 2);
	sqlhost_unref(v);
	store_is_sound();
	sqlhost_arena_free(a);
}
Test(message, long_sets_are_changed_in_batches) { sqlhost_run(2, batches, NULL); }

/* --- UNCHANGEDSINCE ---------------------------------------------------------------------------------- */

static void unchangedsince(void *arg)
{
	esp_actor who = actor_new("a@example.test");
	esp_id inbox = box_id(&who, "INBOX");
	esp_store_args args = { .size = sizeof args, .op = ESP_STORE_ADD, .flags = ESP_FLAG_SEEN, .has_unchangedsince = 1 };
	esp_arena *a = sqlhost_arena();
	esp_uid_range r;
	esp_uid_set failed;
	uint64_t modseq;
	const esp_view *v;

	(void)arg;
	for (int i = 0; i < 4; i++)
		put(&who, inbox, MESSAGE, 0);
	v = view_of(&who, inbox);
	args.unchangedsince = v->modseq;
	sqlhost_unref(v);
	set_flags(&who, inbox, 2, 3, ESP_STORE_ADD, ESP_FLAG_FLAGGED);
	must_ok(S->store(S, a, &who, inbox, uids(&r, 1, 4), &args, &modseq, &failed));
	must(failed.n == 1 && failed.range[0].first == 2 && failed.range[0].last == 3);
	v = view_of(&who, inbox);
	view_is_true(v);
	must(v->chunk[0]->flags[0] & ESP_FLAG_SEEN && !(v->chunk[0]->flags[1] & ESP_FLAG_SEEN) &&
		 v->chunk[0]->flags[3] & ESP_FLAG_SEEN);
	must(v->modseq == modseq);
	sqlhost_unref(v);
	/* 0: whatever has a modseq fails (RFC 7162 3.1.3) */
	args.unchangedsince = 0;
	must_ok(S->store(S, a, &who, inbox, uids(&r, 1, 4), &args, &modseq, &failed));
	must(failed.n == 1 && failed.range[0].first == 1 && failed.range[0].last == 4 && modseq == 0);
	sqlhost_arena_free(a);
}
Test(message, unchangedsince_is_decided_message_by_message) { sqlhost_run(2, unchangedsince, NULL); }

/* --- quota ------------------------------------------------------------------------------------------- */

struct racer { esp_actor who; esp_id inbox; atomic_uint stored, refused, left; esp_ticket ticket; };

static void race(void *arg)
{
	struct racer *r = arg;
	esp_append m = message_of(MESSAGE);
	esp_err err = ESP_ERR_INIT;
	uint32_t uid, validity;
	uint64_t modseq;
	esp_status st;

	m.bytes = 1000;
	st = S->append(S, &r->who, r->inbox, &m, 1, &uid, &validity, &modseq, &err);
	must(st == ESP_OK || st == ESP_EQUOTA);
	atomic_fetch_add(st == ESP_OK ? &r->stored : &r->refused, 1);
	if (atomic_fetch_sub(&r->left, 1) == 1)
		fiber_wake(r->ticket);
}

static void quota(void *arg)
{
	struct racer r = { .who = actor_new("a@example.test"), .left = 64 };
	uint64_t used, limit;
	uint32_t messages;
	esp_arena *a = sqlhost_arena();
	esp_err err = ESP_ERR_INIT;
	esp_copy_result result;
	esp_uid_range range;
	uint64_t modseq;

	(void)arg;
	r.inbox = box_id(&r.who, "INBOX");
	must_ok(S->set_quota(S, r.who.account, 20500));
	r.ticket = fiber_ticket();
	for (uint32_t i = 0; i < 64; i++)
		must_ok(worker_post_fiber(loop_worker(i % sqlhost->workers), NULL, "race", race, &r));
	must_ok(fiber_suspend());
	must(atomic_load(&r.stored) == 20 && atomic_load(&r.refused) == 44);
	must_ok(S->quota(S, r.who.account, &used, &limit, &messages));
	must(used == 20000 && limit == 20500 && messages == 20);
	must(sqlhost_events("user.quota_warning") == 1);
	must_be(S->copy(S, a, &r.who, r.inbox, uids(&range, 1, 1), r.inbox, 0, &result, &modseq, &err), ESP_EQUOTA);
	must(err.text[0]);
	must_ok(S->copy(S, a, &r.who, r.inbox, uids(&range, 1, 1), r.inbox, 1, &result, &modseq, &err));
	store_is_sound();
	sqlhost_arena_free(a);
}
Test(message, sixty_four_parallel_appends_never_overshoot_the_quota) { sqlhost_run(2, quota, NULL); }

/* --- a stranger -------------------------------------------------------------------------------------- */

/* What every call answers about this mailbox. */
static void ask_all(const esp_actor *who, esp_id box, esp_id other, esp_status got[12])
{
	esp_arena *a = sqlhost_arena();
	esp_append m = message_of(MESSAGE);
	esp_store_args args = { .size = sizeof args, .op = ESP_STORE_ADD, .flags = ESP_FLAG_SEEN };
	esp_err err = ESP_ERR_INIT;
	const esp_message_row *row;
	const esp_view *v = NULL;
	esp_copy_result result;
	esp_uid_set failed;
	esp_uid_range r;
	uint32_t n, next, uid, validity;
	uint64_t modseq;

	got[0] = S->sync(S, who, box, &v);
	got[1] = S->sync_to(S, who, box, 1, &v);
	got[2] = S->claim_recent(S, who, box, &n);
	got[3] = S->fetch(S, a, who, box, uids(&r, 1, UINT32_MAX), ESP_FETCH_SIZE, &row, &n, &next);
	got[4] = S->fetch(S, a, who, box, uids(&r, 1, 1), ESP_FETCH_ENVELOPE, &row, &n, &next);
	got[5] = S->append(S, who, box, &m, 1, &uid, &validity, &modseq, &err);
	got[6] = S->store(S, a, who, box, uids(&r, 1, 1), &args, &modseq, &failed);
	got[7] = S->copy(S, a, who, box, uids(&r, 1, 1), other, 0, &result, &modseq, &err);
	got[8] = S->copy(S, a, who, other, uids(&r, 1, 1), box, 0, &result, &modseq, &err);
	got[9] = S->copy(S, a, who, box, uids(&r, 1, 1), other, 1, &result, &modseq, &err);
	got[10] = S->copy(S, a, who, other, uids(&r, 1, 1), box, 1, &result, &modseq, &err);
	got[11] = S->expunge(S, a, who, box, (esp_uid_set){ NULL, 0 }, &modseq);
	must(v == NULL);
	sqlhost_arena_free(a);
}

static void stranger(void *arg)
{
	esp_actor owner = actor_new("a@example.test"), other = actor_new("b@example.test");
	esp_search_node all = { .kind = ESP_SEARCH_ALL };
	esp_id theirs = box_id(&owner, "INBOX"), own = box_id(&other, "INBOX");
	esp_status missing[12], foreign[12];
	esp_arena *a = sqlhost_arena();
	const uint32_t *found;
	const esp_view *v;
	uint32_t n;
	uint64_t before;

	(void)arg;
	put(&owner, theirs, MESSAGE, ESP_FLAG_DELETED);
	put(&other, own, MESSAGE, 0);
	before =
		(uint64_t)sqlhost_int("SELECT modseq FROM mailbox WHERE id = $1", (esp_sql_value[]){ ESP_SQL_ID(theirs) }, 1);
	ask_all(&other, id_new(), own, missing);
	ask_all(&other, theirs, own, foreign);
	for (int i = 0; i < 12; i++)
		must(missing[i] == ESP_ENOENT && foreign[i] == ESP_ENOENT);
	must((uint64_t)sqlhost_int(
			 "SELECT modseq FROM mailbox WHERE id = $1", (esp_sql_value[]){ ESP_SQL_ID(theirs) }, 1) == before);
	v = view_of(&owner, theirs);
	must(v->exists == 1);
	must_be(S->search(S, a, &other, v, &all, 1, &found, &n), ESP_ENOENT);
	sqlhost_unref(v);
	must_be(S->remove(S, &other, z("nowhere"), &(esp_err)ESP_ERR_INIT), ESP_ENOENT);
	store_is_sound();
	sqlhost_arena_free(a);
}
Test(message, a_strangers_mailbox_answers_like_one_that_is_not_there) { sqlhost_run(2, stranger, NULL); }

/* --- FETCH ------------------------------------------------------------------------------------------- */

static void fetching(void *arg)
{
	esp_actor who = actor_new("a@example.test");
	esp_id inbox = box_id(&who, "INBOX");
	esp_arena *a = sqlhost_arena();
	const esp_message_row *row;
	esp_uid_range r, odd[400];
	esp_uid_set set = { odd, 0 };
	uint32_t n, next, total = 0, from = 1;

	(void)arg;
	append_many(&who, inbox, 1200);
	must_ok(S->fetch(S, a, &who, inbox, uids(&r, 7, 7), ESP_FETCH_ENVELOPE | ESP_FETCH_BODYSTRUCTURE | ESP_FETCH_BODY |
		ESP_FETCH_INDEX | ESP_FETCH_PREVIEW, &row, &n, &next));
	must(n == 1 && next == 0 && row[0].uid == 7 && row[0].bytes == strlen(MESSAGE));
	must(row[0].header_len == strlen(MESSAGE) - strlen("body of the message\r\n"));
	must(memmem(row[0].envelope.ptr, row[0].envelope.len, "hello", 5) != NULL && row[0].envelope.ptr[0] == '(');
	must(memmem(row[0].bodystructure.ptr, row[0].bodystructure.len, "plain", 5) != NULL);
	must(row[0].body.len && row[0].bodystructure.len > row[0].body.len);
	must(row[0].preview.len >= 19 && !memcmp(row[0].preview.ptr, "body of the message", 19));
	while (from) {
		must_ok(S->fetch(S, a, &who, inbox, uids(&r, from, UINT32_MAX), ESP_FETCH_SIZE, &row, &n, &next));
		must(n <= 500);
		for (uint32_t i = 0; i < n; i++)
			must(row[i].uid == ++total && row[i].envelope.len == 0 && row[i].internal_date > 0);
		from = next;
	}
	must(total == 1200);
	/* a sparse set: every UID once, whatever the number of calls */
	for (uint32_t uid = 1; uid <= 1200; uid += 40)
		odd[set.n++] = (esp_uid_range){ uid, uid };
	for (from = 1, total = 0; from; from = next) {
		while (set.n && set.range[0].last < from) {
			set.range++;
			set.n--;
		}
		must_ok(S->fetch(S, a, &who, inbox, set, ESP_FETCH_SIZE, &row, &n, &next));
		for (uint32_t i = 0; i < n; i++)
			must(row[i].uid == 1 + 40 * total++);
	}
	must(total == 30);
	must_be(S->fetch(S, a, &who, inbox, (esp_uid_set){ &(esp_uid_range){ 0, 1 }, 1 }, 0, &row, &n, &next), ESP_EINVAL);
	sqlhost_arena_free(a);
}
Test(message, fetch_pages_through_any_set) { sqlhost_run(2, fetching, NULL); }

/* --- threads ----------------------------------------------------------------------------------------- */

static void threads(void *arg)
{
	esp_actor who = actor_new("a@example.test");
	esp_id inbox = box_id(&who, "INBOX");
	esp_arena *a = sqlhost_arena();
	const esp_message_row *row;
	esp_uid_range r;
	uint32_t n, next;

	(void)arg;
	put(&who, inbox, "Message-ID: <root@x>\r\nSubject: s\r\n\r\n1\r\n", 0);
	put(&who, inbox, "Message-ID: <a@x>\r\nIn-Reply-To: <root@x>\r\n\r\n2\r\n", 0);
	put(&who, inbox, "Message-ID: <b@x>\r\nReferences: <root@x>\r\n <a@x>\r\nIn-Reply-To: <a@x>\r\n\r\n3\r\n", 0);
	put(&who, inbox, "Message-ID: <else@x>\r\n\r\n4\r\n", 0);
	put(&who, inbox, "\r\nno header at all\r\n", 0);
	put(&who, inbox, "\r\nno header at all\r\n", 0);
	must_ok(S->fetch(S, a, &who, inbox, uids(&r, 1, 9), ESP_FETCH_INDEX, &row, &n, &next));
	must(n == 6 && id_eq(row[0].thread, row[1].thread) && id_eq(row[0].thread, row[2].thread));
	must(!id_eq(row[0].thread, row[3].thread) && !id_eq(row[4].thread, row[5].thread));
	sqlhost_arena_free(a);
}
Test(message, replies_share_the_thread_of_their_root) { sqlhost_run(1, threads, NULL); }

/* --- one delivery, few statements -------------------------------------------------------------------- */

struct delivery { esp_id account, box; esp_append m; uint32_t uid; uint64_t modseq; };
static esp_status deliver_tx(esp_tx *tx, void *arg)
{
	struct delivery *d = arg;

	return S->deliver(S, tx, d->account, d->box, &d->m, &d->uid, &d->modseq);
}
static void few_statements(void *arg)
{
	esp_actor who = actor_new("a@example.test");
	struct delivery d = { .account = who.account, .m = message_of(MESSAGE) };
	esp_sql_key key[] = { { .kind = ESP_SQL_KEY_ACCOUNT, .id = who.account } };
	esp_arena *a = sqlhost_arena();
	unsigned before;

	(void)arg;
	must_ok(S->target(S, who.account, z("Lists/esp"), &d.box));
	must(id_eq(d.box, box_id(&who, "Lists/esp")));
	must_ok(S->target(S, who.account, z("bad//name"), &d.box));
	must(id_eq(d.box, box_id(&who, "INBOX")));
	must_ok(S->prepare(S, a, &d.m));
	before = atomic_load(&sqlhost->statements);
	must_ok(sqlhost->sql.transact(&sqlhost->sql, key, 1, deliver_tx, &d));
	must(atomic_load(&sqlhost->statements) - before <= 5);   /* ours; the folder job is the sixth */
	must(d.uid == 1);
	/* deliveries are not refused for quota: RCPT decided */
	must_ok(S->set_quota(S, who.account, 10));
	must_ok(sqlhost->sql.transact(&sqlhost->sql, key, 1, deliver_tx, &d));
	must(d.uid == 2);
	store_is_sound();
	sqlhost_arena_free(a);
}
Test(message, a_delivery_takes_few_statements_and_no_quota) { sqlhost_run(1, few_statements, NULL); }

/* --- UIDs are reserved in the folder's file -------------------------------------------------------- */

static void reserved(void *arg)
{
	esp_actor who = actor_new("a@example.test");
	struct delivery d = { .account = who.account, .m = message_of(MESSAGE) };
	esp_sql_key key[] = { { .kind = ESP_SQL_KEY_ACCOUNT, .id = who.account } };
	esp_arena *a = sqlhost_arena();
	esp_id inbox = box_id(&who, "INBOX"), trash = box_id(&who, "Trash");
	esp_err err = ESP_ERR_INIT;
	uint32_t uid, validity;
	uint64_t modseq;
	const esp_view *v;

	(void)arg;
	must_ok(S->prepare(S, a, &d.m));
	d.box = inbox;
	must_be(sqlhost->sql.transact(&sqlhost->sql, key, 1, deliver_tx, &d), ESP_EAGAIN);
	v = view_of(&who, inbox);
	must(atomic_load(&sqlhost->marks) == 0 && v->exists == 0);
	sqlhost_unref(v);
	/* in time, and not more often than in steps */
	for (uint32_t i = 1; i <= 3100; i++) {
		must_ok(S->target(S, who.account, z("INBOX"), &d.box));
		must_ok(sqlhost->sql.transact(&sqlhost->sql, key, 1, deliver_tx, &d));
		must(d.uid == i);
	}
	must(atomic_load(&sqlhost->marks) >= 3 && atomic_load(&sqlhost->marks) <= 4);
	append_many(&who, trash, 2600);
	must(atomic_load(&sqlhost->marks) <= 8);
	/* no room for the file: nothing is given */
	atomic_store(&sqlhost->marks_fail, 1);
	while (sqlhost_int("SELECT uid_mark - uidnext FROM mailbox WHERE id = $1",
		(esp_sql_value[]){ ESP_SQL_ID(trash) }, 1) > 400)
		append_many(&who, trash, 1);
	must_be(S->target(S, who.account, z("Trash"), &d.box), ESP_ENOSPC);
	while (S->append(S, &who, trash, &d.m, 1, &uid, &validity, &modseq, &err) == ESP_OK)
		must(uid < 5000);
	must_be(S->append(S, &who, trash, &d.m, 1, &uid, &validity, &modseq, &err), ESP_ENOSPC);
	atomic_store(&sqlhost->marks_fail, 0);
	must_ok(S->append(S, &who, trash, &d.m, 1, &uid, &validity, &modseq, &err));
	store_is_sound();
	sqlhost_arena_free(a);
}
Test(message, uids_are_reserved_in_steps_before_they_are_given) { sqlhost_run(2, reserved, NULL); }

static void too_many_keywords(void *arg)
{
	esp_actor who = actor_new("a@example.test");
	esp_id inbox = box_id(&who, "INBOX");
	char name[50][8];
	esp_str names[50];
	esp_store_args args = { .size = sizeof args, .op = ESP_STORE_ADD, .keywords = names };
	esp_arena *a = sqlhost_arena();
	esp_uid_range r;
	esp_uid_set failed;
	const esp_view *v;
	uint64_t modseq;

	(void)arg;
	put(&who, inbox, MESSAGE, 0);
	for (int i = 0; i < 50; i++)
		names[i] = (esp_str){ name[i], (size_t)snprintf(name[i], sizeof name[i], "k%d", i) };
	args.nkeywords = 49;
	must_be(S->store(S, a, &who, inbox, uids(&r, 1, 1), &args, &modseq, &failed), ESP_E2BIG);
	args.nkeywords = 48;
	must_ok(S->store(S, a, &who, inbox, uids(&r, 1, 1), &args, &modseq, &failed));
	v = view_of(&who, inbox);
	must(v->keywords->count == 48 && v->chunk[0]->flags[0] == ~UINT64_C(0xffff));
	sqlhost_unref(v);
	names[0] = z("new");
	args.nkeywords = 1;
	must_be(S->store(S, a, &who, inbox, uids(&r, 1, 1), &args, &modseq, &failed), ESP_E2BIG);
	names[0] = z("not an atom");
	must_be(S->store(S, a, &who, inbox, uids(&r, 1, 1), &args, &modseq, &failed), ESP_EINVAL);
	sqlhost_arena_free(a);
}
Test(message, a_mailbox_has_48_keywords) { sqlhost_run(1, too_many_keywords, NULL); }

/* --- keywords of a whole mailbox --------------------------------------------------------------------- */

static uint64_t store_keyword(const esp_actor *who, esp_id box, uint32_t first, uint32_t last, uint32_t op)
{
	esp_str name = z("$Bench");
	esp_store_args args = { .size = sizeof args, .op = op, .keywords = &name, .nkeywords = 1 };
	esp_arena *a = sqlhost_arena();
	esp_uid_range r;
	esp_uid_set failed;
	uint64_t modseq;

	must_ok(S->store(S, a, who, box, uids(&r, first, last), &args, &modseq, &failed));
	must(failed.n == 0);
	sqlhost_arena_free(a);
	return modseq;
}

static void whole_mailbox(void *arg)
{
	esp_actor who = actor_new("a@example.test");
	esp_id box = box_id(&who, "INBOX");
	uint32_t statements;
	const esp_view *v;

	(void)arg;
	for (int i = 0; i < 1200; i++)
		put(&who, box, MESSAGE, i % 3 ? ESP_FLAG_SEEN : 0);
	statements = atomic_load(&sqlhost->statements);
	must(store_keyword(&who, box, 1, UINT32_MAX, ESP_STORE_ADD) > 0);
	must(atomic_load(&sqlhost->statements) - statements <= 12);       /* no row was looked at */
	must(store_keyword(&who, box, 1, UINT32_MAX, ESP_STORE_ADD) == 0);
	must(store_keyword(&who, box, 100, 200, ESP_STORE_REMOVE) > 0);
	must(store_keyword(&who, box, 150, 250, ESP_STORE_REMOVE) > 0);   /* half of them */
	must(store_keyword(&who, box, 5000, 6000, ESP_STORE_REMOVE) == 0);
	v = view_of(&who, box);
	view_is_true(v);
	for (uint32_t i = 0; i < v->exists; i++) {
		uint32_t place;
		const esp_view_chunk *c = esp_view_at(v, i, &place);
		must(!(c->flags[place] & ESP_FLAG_KEYWORD(0)) == (i + 1 >= 100 && i + 1 <= 250));
	}
	sqlhost_unref(v);
	store_is_sound();
}
Test(message, keywords_of_a_whole_mailbox_change_at_once) { sqlhost_run(2, whole_mailbox, NULL); }
