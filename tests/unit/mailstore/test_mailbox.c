/* mailboxes: first use, CREATE, DELETE, RENAME, SUBSCRIBE, \Recent */
#include "tests/unit/mailstore/storetest.h"

#define S sqlhost->store

/* --- helpers ----------------------------------------------------------------------------------------- */

static void expect_list(const esp_actor *who, const char *wanted)
{
	esp_arena *a = sqlhost_arena();
	const esp_mailbox *box;
	uint32_t n;
	char got[1024] = "";

	must_ok(S->list(S, a, who, &box, &n));
	for (uint32_t i = 0; i < n; i++) {
		snprintf(got + strlen(got), sizeof got - strlen(got), "%s%.*s%s%s%s", i ? " " : "", ESP_FMT(box[i].name),
		         box[i].attributes & ESP_BOX_NOSELECT ? "!" : "", box[i].attributes & ESP_BOX_HAS_CHILDREN ? "+" : "",
		         box[i].attributes & ESP_BOX_NONEXISTENT ? "?" : "");
	}
	if (strcmp(got, wanted)) {
		fprintf(stderr, "list: %s\nnot:  %s\n", got, wanted);
		abort();
	}
	sqlhost_arena_free(a);
}

static esp_status create(const esp_actor *who, const char *name)
{
	esp_err err = ESP_ERR_INIT;
	esp_status st = S->create(S, who, z(name), z(""), &err);

	must(st == ESP_OK || err.text[0]);
	return st;
}
static esp_status rename_to(const esp_actor *who, const char *from, const char *to)
{
	esp_err err = ESP_ERR_INIT;
	esp_status st = S->rename(S, who, z(from), z(to), &err);

	must(st == ESP_OK || err.text[0]);
	return st;
}
static esp_status delete(const esp_actor *who, const char *name)
{
	esp_err err = ESP_ERR_INIT;
	esp_status st = S->remove(S, who, z(name), &err);

	must(st == ESP_OK || err.text[0]);
	return st;
}
static esp_status find(const esp_actor *who, const char *name, esp_mailbox *ret)
{
	esp_arena *a = sqlhost_arena();
	esp_status st = S->find(S, a, who, z(name), ret);

	sqlhost_arena_free(a);
	return st;
}

#define FIRST "INBOX Archive Drafts Junk Sent Trash"

/* --- tests ------------------------------------------------------------------------------------------- */

static void first_use(void *arg)
{
	esp_actor who = actor_new("a@example.test");
	esp_mailbox sent, junk;

	(void)arg;
	atomic_store(&sqlhost->rerun, 1);   /* what was rolled back is not told */
	expect_list(&who, FIRST);
	must_ok(find(&who, "sent", &sent) == ESP_ENOENT ? ESP_OK : ESP_EEXIST);
	must_ok(find(&who, "Sent", &sent));
	must_ok(find(&who, "Junk", &junk));
	must(sent.uidvalidity != junk.uidvalidity && sent.uidnext == 1);
	must(sent.attributes & ESP_BOX_SUBSCRIBED);
	must(sqlhost_events("mailbox.created") == 6);
	must(sqlhost_int("SELECT COUNT(*) FROM test_job WHERE kind = 4 AND account = 'a@example.test'", NULL, 0) == 6);
}
Test(mailbox, first_use_makes_the_default_mailboxes) { sqlhost_run(2, first_use, NULL); }

static void creating(void *arg)
{
	esp_actor who = actor_new("a@example.test");
	esp_mailbox a, b;
	esp_err err = ESP_ERR_INIT;

	(void)arg;
	must_ok(create(&who, "x/y/z"));
	expect_list(&who, FIRST " x+ x/y+ x/y/z");
	must_be(create(&who, "x/y"), ESP_EEXIST);
	must_be(create(&who, "inbox"), ESP_EEXIST);
	must_be(create(&who, "a//b"), ESP_EINVAL);
	must_ok(create(&who, "x/w/"));
	must_be(S->create(S, &who, z("flagged"), z("\\Flagged"), &err), ESP_EINVAL);
	must_ok(S->create(S, &who, z("spam"), z("\\Junk"), &err));
	must_ok(find(&who, "x", &a));
	must_ok(find(&who, "x/y", &b));
	must(b.uidvalidity > a.uidvalidity);
}
Test(mailbox, create_makes_missing_superiors) { sqlhost_run(1, creating, NULL); }

static void limit(struct sqlhost *h) { h->max_mailboxes = 10; }
static void too_many(void *arg)
{
	esp_actor who = actor_new("a@example.test");
	char name[16];
	int made = 0;

	(void)arg;
	for (int i = 0; i < 20; i++) {
		snprintf(name, sizeof name, "m%d", i);
		made += create(&who, name) == ESP_OK;
	}
	must(made == 4);
	must_be(create(&who, "more"), ESP_E2BIG);
}
Test(mailbox, an_account_has_a_bounded_number_of_them) { sqlhost_run_tuned(1, limit, too_many, NULL); }

static void deleting(void *arg)
{
	esp_actor who = actor_new("a@example.test");
	esp_mailbox before, after;
	esp_id id;
	const esp_view *v;
	uint64_t used, quota;
	uint32_t messages;

	(void)arg;
	must_ok(create(&who, "p/c"));
	id = box_id(&who, "p");
	must_ok(find(&who, "p", &before));
	for (int i = 0; i < 5; i++)
		put(&who, id, MESSAGE, 0);
	must_be(delete(&who, "INBOX"), ESP_EACCES);
	must_be(delete(&who, "none"), ESP_ENOENT);
	must_ok(delete(&who, "p"));
	expect_list(&who, FIRST " p!+ p/c");
	must_be(S->sync(S, &who, id, &v), ESP_ENOENT);
	must_be(delete(&who, "p"), ESP_EACCES);
	must_ok(S->quota(S, who.account, &used, &quota, &messages));
	must(used == 0 && messages == 0);
	must(sqlhost_int("SELECT COUNT(*) FROM message_info", NULL, 0) == 0);
	must(sqlhost_int("SELECT COUNT(*) FROM test_removed", NULL, 0) == 5);
	/* it comes back empty, with another id and a larger UIDVALIDITY */
	must_ok(create(&who, "p"));
	must_ok(find(&who, "p", &after));
	must(after.uidvalidity > before.uidvalidity && !id_eq(after.id, before.id) && after.messages == 0);
	must_ok(delete(&who, "p/c"));
	must_ok(delete(&who, "p"));
	expect_list(&who, FIRST);
}
Test(mailbox, delete_leaves_a_name_while_there_are_children) { sqlhost_run(2, deleting, NULL); }

static void renaming(void *arg)
{
	esp_actor who = actor_new("a@example.test");
	esp_mailbox before, after;
	char deep[128] = "d";

	(void)arg;
	must_ok(create(&who, "a/b/c"));
	must_ok(create(&who, "ab"));
	must_ok(find(&who, "a/b", &before));
	must_ok(rename_to(&who, "a", "q/r"));
	expect_list(&who, FIRST " ab q+ q/r+ q/r/b+ q/r/b/c");
	must_ok(find(&who, "q/r/b", &after));
	must(id_eq(before.id, after.id) && before.uidvalidity == after.uidvalidity);
	must_be(rename_to(&who, "a", "z"), ESP_ENOENT);
	must_be(rename_to(&who, "ab", "q"), ESP_EEXIST);
	must_be(rename_to(&who, "ab", "ab"), ESP_EEXIST);
	must_be(rename_to(&who, "q", "q/sub"), ESP_EINVAL);
	must_be(rename_to(&who, "ab", "inbox"), ESP_EEXIST);
	must_be(rename_to(&who, "ab", "x/../y"), ESP_EINVAL);
	must_be(rename_to(&who, "none", "x"), ESP_ENOENT);
	for (int i = 0; i < 30; i++)
		strcat(deep, "/d");
	must_be(rename_to(&who, "q", deep), ESP_E2BIG);   /* q/r/b/c would lie at depth 34 */
	expect_list(&who, FIRST " ab q+ q/r+ q/r/b+ q/r/b/c");
	must_ok(rename_to(&who, "Sent", "Gesendet"));
	must_ok(find(&who, "Gesendet", &after));
	must(sqlhost_int("SELECT COUNT(*) FROM test_job WHERE kind = 6", NULL, 0) == 4);
	must(sqlhost_events("mailbox.renamed") == 4);
}
Test(mailbox, rename_takes_children_along_and_changes_all_or_nothing) { sqlhost_run(1, renaming, NULL); }

static void renaming_inbox(void *arg)
{
	esp_actor who = actor_new("a@example.test");
	esp_mailbox inbox, old;
	const esp_view *v;

	(void)arg;
	must_ok(create(&who, "INBOX/below"));
	for (int i = 0; i < 3; i++)
		put(&who, box_id(&who, "INBOX"), MESSAGE, i ? ESP_FLAG_SEEN : 0);
	must_ok(find(&who, "INBOX", &inbox));
	must_ok(rename_to(&who, "Inbox", "2026/old"));
	expect_list(&who, "INBOX+ INBOX/below 2026+ 2026/old Archive Drafts Junk Sent Trash");
	must_ok(find(&who, "2026/old", &old));
	must(old.messages == 3 && old.unseen == 1 && !id_eq(old.id, inbox.id));
	must_ok(find(&who, "INBOX", &old));
	must(id_eq(old.id, inbox.id) && old.messages == 0 && old.uidvalidity == inbox.uidvalidity && old.uidnext == 4);
	v = view_of(&who, inbox.id);
	must(v->exists == 0);
	sqlhost_unref(v);
	must_be(rename_to(&who, "INBOX", "Sent"), ESP_EEXIST);
}
Test(mailbox, renaming_inbox_moves_its_messages_and_leaves_it_there) { sqlhost_run(2, renaming_inbox, NULL); }

static void subscribing(void *arg)
{
	esp_actor who = actor_new("a@example.test");
	esp_mailbox box;

	(void)arg;
	must_ok(S->subscribe(S, &who, z("not/there"), 1));
	must_ok(S->subscribe(S, &who, z("not/there"), 1));
	must_ok(S->subscribe(S, &who, z("Junk"), 0));
	expect_list(&who, FIRST " not/there!?");
	must_ok(find(&who, "Junk", &box));
	must(!(box.attributes & ESP_BOX_SUBSCRIBED));
	must_ok(S->subscribe(S, &who, z("not/there"), 0));
	must_ok(S->subscribe(S, &who, z("not/there"), 0));
	expect_list(&who, FIRST);
	must_ok(S->subscribe(S, &who, z("Trash"), 1));
	must_ok(delete(&who, "Trash"));
	expect_list(&who, "INBOX Archive Drafts Junk Sent Trash!?");
}
Test(mailbox, subscriptions_outlive_the_mailbox) { sqlhost_run(1, subscribing, NULL); }

static void recent(void *arg)
{
	esp_actor who = actor_new("a@example.test");
	esp_id inbox = box_id(&who, "INBOX");
	esp_mailbox box;
	const esp_view *v;
	uint32_t first = 0;

	(void)arg;
	put(&who, inbox, MESSAGE, 0);
	put(&who, inbox, MESSAGE, 0);
	must_ok(find(&who, "INBOX", &box));
	must(box.recent == 2);
	must_ok(S->claim_recent(S, &who, inbox, &first));
	must(first == 1);
	must_ok(S->claim_recent(S, &who, inbox, &first));
	must(first == 3);
	v = view_of(&who, inbox);
	must(v->first_recent == 3 && v->exists == 2);
	sqlhost_unref(v);
	put(&who, inbox, MESSAGE, 0);
	must_ok(find(&who, "INBOX", &box));
	must(box.recent == 1);
}
Test(mailbox, recent_is_given_to_one_session_only) { sqlhost_run(2, recent, NULL); }

static void no_uid_left(void *arg)
{
	esp_actor who = actor_new("a@example.test");
	esp_id inbox = box_id(&who, "INBOX");
	esp_append m = message_of(MESSAGE);
	esp_err err = ESP_ERR_INIT;
	uint32_t uid, validity;
	uint64_t modseq;
	esp_arena *a = sqlhost_arena();

	(void)arg;
	must_ok(db_exec(sqlhost->writer, a, "UPDATE mailbox SET uidnext = 4294967294 WHERE id = $1",
		(esp_sql_value[]){ ESP_SQL_ID(inbox) }, 1, NULL));
	must_ok(S->append(S, &who, inbox, &m, 1, &uid, &validity, &modseq, &err));
	must(uid == 4294967294u);
	must_be(S->append(S, &who, inbox, &m, 1, &uid, &validity, &modseq, &err), ESP_E2BIG);
	must(sqlhost_int("SELECT COUNT(*) FROM message", NULL, 0) == 1);
	must(sqlhost_int("SELECT used_messages FROM mail_account", NULL, 0) == 1);
	sqlhost_arena_free(a);
}
Test(mailbox, refuses_mail_when_its_uids_are_used_up) { sqlhost_run(1, no_uid_left, NULL); }

static void with_directory(struct sqlhost *h)
{
	h->with_directory = 1;
	h->directory_quota = 1000;
	h->account_ttl = ESP_MSEC;
}
static void asks_directory(void *arg)
{
	esp_id account = id_new(), box;
	uint64_t used, quota;
	uint32_t messages;

	(void)arg;
	must_ok(S->target(S, account, z(""), &box));
	must(sqlhost_int("SELECT COUNT(*) FROM mail_account WHERE address = 'someone@example.test'", NULL, 0) == 1);
	must_ok(S->quota(S, account, &used, &quota, &messages));
	must(quota == 1000);
	sqlhost->directory_quota = 5000;
	must_ok(fiber_sleep_until(loop_loop_api.clock() + 5 * ESP_MSEC));
	must_ok(S->quota(S, account, &used, &quota, &messages));
	must(quota == 5000);
}
Test(mailbox, the_directory_gives_address_and_quota) { sqlhost_run_tuned(1, with_directory, asks_directory, NULL); }
