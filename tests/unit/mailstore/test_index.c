/* The search index: what comes in, what leaves it, and what is found before it knows. */
#include "core/base/clock.h"
#include "tests/unit/mailstore/storetest.h"

#include <esp/mail/text.h>

#define S sqlhost->store

static const esp_textindex *texts(void) { return sqlhost->texts; }

/* Hits of the index itself: *ret_mark says how far it knows. */
static uint32_t hits(esp_id scope, uint32_t where, const char *field, const char *needle, esp_text_mark *ret_mark)
{
	esp_text_query q = { .size = sizeof q, .where = where, .scope = scope, .field = z(field), .needle = z(needle),
		.first = 1, .last = UINT32_MAX };
	esp_arena *a = sqlhost_arena();
	const esp_text_hit *hit;
	uint32_t n;

	must_ok(texts()->find(texts(), a, &q, ret_mark, &hit, &n));
	for (uint32_t i = 1; i < n; i++)
		must(hit[i - 1].number < hit[i].number);
	sqlhost_arena_free(a);
	return n;
}

static uint32_t search(const esp_actor *who, esp_id box, uint32_t kind, const char *header, const char *text)
{
	esp_search_node n = { .kind = kind, .header = z(header), .text = z(text) };
	const esp_view *v = view_of(who, box);
	esp_arena *a = sqlhost_arena();
	const uint32_t *found;
	uint32_t nfound;

	must_ok(S->search(S, a, who, v, &n, 1, &found, &nfound));
	sqlhost_arena_free(a);
	sqlhost_unref(v);
	return nfound;
}

static void fill(const esp_actor *who, esp_id box, uint32_t n)
{
	char text[300];

	for (uint32_t i = 0; i < n; i++) {
		snprintf(text, sizeof text, "From: a%u@example.test\r\nSubject: =?utf-8?q?=C3=9Cber?= %u\r\n\r\n"
			"Stra\xc3\x9f" "e number%u%s\r\n", i, i, i, i % 3 ? "" : " fizz");
		(void)put(who, box, text, 0);
	}
}

static void expunge(const esp_actor *who, esp_id box, uint32_t first, uint32_t last)
{
	esp_arena *a = sqlhost_arena();
	esp_uid_range r;
	uint64_t modseq;

	set_flags(who, box, first, last, ESP_STORE_ADD, ESP_FLAG_DELETED);
	must_ok(S->expunge(S, a, who, box, uids(&r, first, last), &modseq));
	sqlhost_arena_free(a);
}

/* --- in and out ---------------------------------------------------------------------------------------- */

static void in_and_out(void *arg)
{
	esp_actor who = actor_new("i@example.test");
	esp_id box = box_id(&who, "INBOX");
	esp_text_mark mark;

	(void)arg;
	fill(&who, box, 30);
	sqlhost_indexed();
	must(hits(box, ESP_TEXT_IN_BODY, "", "FIZZ", &mark) == 10);
	must(mark.upto == 30 && mark.epoch);
	must(hits(box, ESP_TEXT_IN_HEADER, "", "FIZZ", &mark) == 0);
	must(hits(box, ESP_TEXT_IN_HEADER, "SUBJECT", "U\xcc\x88" "BER 2", &mark) == 11);     /* folded as ever */
	must(hits(box, ESP_TEXT_IN_HEADER, "FROM", "BER 2", &mark) == 0);
	must(hits(box, ESP_TEXT_IN_HEADER | ESP_TEXT_IN_BODY, "", "A7@EXAMPLE", &mark) == 1);
	must(hits(box, ESP_TEXT_IN_BODY, "", "R7", &mark) == 1);         /* two characters: no trigram, the text is read */
	must(hits(box, ESP_TEXT_IN_BODY, "", "\"FIZZ\"", &mark) == 0);   /* no syntax of an engine comes through */
	must(hits(box, ESP_TEXT_IN_BODY, "", "FIZZ\" OR \"NUM", &mark) == 0);
	must(hits(box, ESP_TEXT_IN_BODY, "", "F_ZZ", &mark) == 0 && hits(box, ESP_TEXT_IN_BODY, "", "NUM%R", &mark) == 0);
	must(hits(box, ESP_TEXT_IN_BODY, "", "FI\\ZZ", &mark) == 0);
	must(hits(box, ESP_TEXT_IN_BODY, "", "FIZZ\\", &mark) == 0);
	must(hits(box, ESP_TEXT_IN_HEADER, "SUBJECT", "FROM", &mark) == 0);
	must(hits(box, ESP_TEXT_IN_HEADER, "OM", "A1", &mark) == 0);
	expunge(&who, box, 1, 12);
	sqlhost_indexed();
	must(hits(box, ESP_TEXT_IN_BODY, "", "FIZZ", &mark) == 6);
	must(hits(box, ESP_TEXT_IN_BODY, "", "R7", &mark) == 0);
	must(mark.upto == 30);
	must(search(&who, box, ESP_SEARCH_BODY, "", "fizz") == 6);
	must(search(&who, box, ESP_SEARCH_HEADER, "subject", "\xc3\xbc" "ber") == 18);
}
Test(index, follows_deliveries_and_expunges) { sqlhost_run(2, in_and_out, NULL); }

/* The index is behind: what it does not know is read, what is gone is not found. */
static void behind(void *arg)
{
	esp_actor who = actor_new("i@example.test");
	esp_id box = box_id(&who, "INBOX");

	(void)arg;
	fill(&who, box, 30);
	sqlhost_indexed();
	fill(&who, box, 30);
	expunge(&who, box, 31, 36);
	expunge(&who, box, 1, 3);
	must(search(&who, box, ESP_SEARCH_BODY, "", "fizz") == 10 - 1 + 10 - 2);
	must(search(&who, box, ESP_SEARCH_TEXT, "", "stra\xc3\x9f" "e") == 60 - 9);
	must(search(&who, box, ESP_SEARCH_HEADER, "from", "a5@") == 1);
}
Test(index, what_it_does_not_know_yet_is_read) { sqlhost_run(2, behind, NULL); }

static void moved(void *arg)
{
	esp_actor who = actor_new("i@example.test"), other = actor_new("o@example.test");
	esp_id box = box_id(&who, "INBOX"), trash = box_id(&who, "Trash");
	esp_arena *a = sqlhost_arena();
	esp_copy_result copied = { .size = sizeof copied };
	esp_err err = ESP_ERR_INIT;
	esp_text_mark mark;
	esp_uid_range r;
	uint64_t modseq;

	(void)arg;
	fill(&who, box, 12);
	fill(&other, box_id(&other, "INBOX"), 12);
	sqlhost_indexed();
	must_ok(S->copy(S, a, &who, box, uids(&r, 1, 6), trash, 1, &copied, &modseq, &err));
	sqlhost_indexed();
	must(hits(box, ESP_TEXT_IN_BODY, "", "FIZZ", &mark) == 2);
	must(hits(trash, ESP_TEXT_IN_BODY, "", "FIZZ", &mark) == 2 && mark.upto == 6);
	must_ok(S->create(S, &who, z("Gone"), z(""), &err));
	box = box_id(&who, "Gone");
	must_ok(S->copy(S, a, &who, trash, uids(&r, 1, 6), box, 0, &copied, &modseq, &err));
	sqlhost_indexed();
	must(hits(box, ESP_TEXT_IN_BODY, "", "FIZZ", &mark) == 2);
	must_ok(S->remove(S, &who, z("Gone"), &err));
	sqlhost_indexed();
	must(hits(box, ESP_TEXT_IN_BODY, "", "FIZZ", &mark) == 0 && mark.epoch == 0);
	must(hits(box_id(&other, "INBOX"), ESP_TEXT_IN_BODY, "", "FIZZ", &mark) == 4);
	sqlhost_arena_free(a);
}
Test(index, goes_with_moved_messages_and_deleted_mailboxes) { sqlhost_run(2, moved, NULL); }

/* --- long and odd texts -------------------------------------------------------------------------------- */

static void long_text(void *arg)
{
	esp_actor who = actor_new("i@example.test");
	esp_id box = box_id(&who, "INBOX");
	size_t size = 3u << 20, at;
	char *text = malloc(size + 400);
	esp_text_mark mark;

	(void)arg;
	fill(&who, box, 10);
	at = (size_t)snprintf(text, 100, "Subject: long\r\n\r\n");
	while (at < size)
		at += (size_t)snprintf(text + at, 100, "line %zu of a long text\r\n", at);
	snprintf(text + at, 100, "needle at the end\r\n");
	(void)put(&who, box, text, 0);
	free(text);
	sqlhost_indexed();
	must(hits(box, ESP_TEXT_IN_BODY, "", "NEEDLE AT THE END", &mark) == 1 && mark.upto == 11);   /* it may hold it */
	must(search(&who, box, ESP_SEARCH_BODY, "", "needle at the end") == 1);
	must(search(&who, box, ESP_SEARCH_BODY, "", "needle at the start") == 0);
	expunge(&who, box, 11, 11);
	sqlhost_indexed();
	must(hits(box, ESP_TEXT_IN_BODY, "", "NEEDLE AT THE END", &mark) == 0);
}
Test(index, texts_that_are_too_long_are_read) { sqlhost_run(2, long_text, NULL); }

/* Two bytes a character: in one of them the index's text ends within one. */
static void long_letters(void *arg)
{
	esp_actor who = actor_new("i@example.test");
	esp_id box = box_id(&who, "INBOX");
	size_t size = 2u << 20;
	char *text = malloc(size + 200);
	esp_text_mark mark;

	(void)arg;
	fill(&who, box, 8);
	for (int odd = 0; odd < 2; odd++) {
		size_t at = (size_t)snprintf(text, 200, "Subject: long\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n%s",
			odd ? "x" : "");
		while (at < size)
			at += (size_t)snprintf(text + at, 100, "\xd0\xb6\xd1\x83\xd0\xba");
		snprintf(text + at, 100, " \xd1\x84\r\n");
		(void)put(&who, box, text, 0);
	}
	free(text);
	sqlhost_indexed();
	must(hits(box, ESP_TEXT_IN_BODY, "", "\xd0\x96\xd0\xa3\xd0\x9a\xd0\x96", &mark) == 2 && mark.upto == 10);
	must(search(&who, box, ESP_SEARCH_BODY, "", "\xd0\xba\xd0\xb6\xd1\x83") == 2);
	must(search(&who, box, ESP_SEARCH_BODY, "", "\xd1\x84") == 2);   /* at the end, which the index has not */
}
Test(index, a_long_text_may_be_cut_within_a_character) { sqlhost_run(2, long_letters, NULL); }

static void odd_bytes(void *arg)
{
	static const char odd[] = "Subject: odd\r\nContent-Type: text/plain\r\nContent-Transfer-Encoding: base64\r\n\r\n"
		"b25lAHR3bwF0aHJlZf/+\r\n";             /* one NUL two SOH three and no UTF-8 */
	esp_actor who = actor_new("i@example.test");
	esp_id box = box_id(&who, "INBOX");

	(void)arg;
	for (int indexed = 0; indexed < 2; indexed++) {
		for (int i = 0; i < 10; i++)
			(void)put(&who, box, odd, 0);
		must(search(&who, box, ESP_SEARCH_BODY, "", "one") == 10u * (1 + (uint32_t)indexed));
		must(search(&who, box, ESP_SEARCH_BODY, "", "two\1three") == 10u * (1 + (uint32_t)indexed));
		must(search(&who, box, ESP_SEARCH_BODY, "", "onetwo") == 0);
		sqlhost_indexed();
	}
	must(search(&who, box, ESP_SEARCH_BODY, "", "three") == 20);
	must(search(&who, box, ESP_SEARCH_HEADER, "subject", "odd\1") == 0);
}
Test(index, odd_bytes_match_with_and_without_it) { sqlhost_run(1, odd_bytes, NULL); }

/* --- the log does not reach back ----------------------------------------------------------------------- */

static void short_log(void *arg)
{
	esp_actor who = actor_new("i@example.test");
	esp_id box = box_id(&who, "INBOX");
	esp_text_mark mark;

	(void)arg;
	fill(&who, box, 20);
	sqlhost_indexed();
	expunge(&who, box, 4, 9);
	for (int i = 0; i < 2100; i++)               /* prunes the change log */
		set_flags(&who, box, 1, 1, i % 2 ? ESP_STORE_REMOVE : ESP_STORE_ADD, ESP_FLAG_FLAGGED);
	sqlhost_indexed();
	must(hits(box, ESP_TEXT_IN_BODY, "", "NUMBER", &mark) == 14);
}
Test(index, finds_what_is_gone_without_the_log) { sqlhost_run(1, short_log, NULL); }

/* --- messages that cannot be read ------------------------------------------------------------------------ */

static uint32_t knows_upto(esp_id box)
{
	esp_text_mark mark;

	must_ok(texts()->mark(texts(), box, &mark));
	return mark.upto;
}
static int known_within(esp_id box, uint32_t upto, esp_nsec span)
{
	for (esp_nsec until = clock_monotonic() + span; knows_upto(box) < upto && clock_monotonic() < until; )
		must_ok(fiber_sleep_until(clock_monotonic() + 10 * ESP_MSEC));
	return knows_upto(box) == upto;
}

static void unreadable(void *arg)
{
	esp_actor who = actor_new("i@example.test"), other = actor_new("o@example.test");
	esp_id bad = box_id(&who, "INBOX"), good = box_id(&other, "INBOX");

	(void)arg;
	atomic_store(&sqlhost->unreadable, "on a bad block");
	fill(&who, bad, 3);
	(void)put(&who, bad, "Subject: bad\r\n\r\non a bad block\r\n", 0);
	fill(&other, good, 10);
	must(known_within(good, 10, 20 * ESP_SEC));
	must(known_within(bad, 3, 20 * ESP_SEC));
	fill(&other, good, 10);                      /* the other is set aside for some seconds: this does not wait */
	must(known_within(good, 20, 4 * ESP_SEC));
	must_ok(fiber_sleep_until(clock_monotonic() + 6 * ESP_SEC));
	must(knows_upto(bad) == 3);
	must(atomic_load(&sqlhost->logged[ESP_LOG_WARNING]) == 1);
	(void)put(&who, bad, "Subject: one more\r\n\r\n", 0);
	atomic_store(&sqlhost->unreadable, NULL);
	must(known_within(bad, 5, 20 * ESP_SEC));
	sqlhost_indexed();
	must(atomic_load(&sqlhost->logged[ESP_LOG_WARNING]) == 1 && atomic_load(&sqlhost->logged[ESP_LOG_NOTICE]) == 1);
}
Test(index, a_message_that_cannot_be_read_holds_up_its_mailbox_only) { sqlhost_run(1, unreadable, NULL); }

/* --- updates ------------------------------------------------------------------------------------------- */

/* A scope that nobody fills and nobody takes for that of a mailbox that is gone. */
static esp_id empty_box(void)
{
	esp_actor who = actor_new("e@example.test");

	return box_id(&who, "INBOX");
}

static void updates(void *arg)
{
	esp_text_doc doc[3] = { { .size = sizeof *doc, .number = 1, .header = z("SUBJECT: A\1"), .body = z("APPLE\1") },
		{ .size = sizeof *doc, .number = 2, .header = z("SUBJECT: B\1"), .body = z("BANANA\1") },
		{ .size = sizeof *doc, .number = 4000000000u, .header = z("SUBJECT: C\1"), .body = z("APPLE CIDER\1") } };
	esp_text_mark all = { 7, 4000000001u, 5 }, mark;
	esp_id scope = empty_box();
	esp_text_update u = { .size = sizeof u, .ndocs = 3, .scope = scope, .after = all, .doc = doc };
	esp_uid_range every = { 1, UINT32_MAX };

	(void)arg;
	must_ok(texts()->update(texts(), &u, 1));
	must(u.status == ESP_OK && hits(scope, ESP_TEXT_IN_BODY, "", "APPLE", &mark) == 2 && mark.upto == all.upto);
	must_ok(texts()->update(texts(), &u, 1));
	must(u.status == ESP_ECONFLICT);              /* somebody else was there */
	u.before = all;
	doc[0].body = z("PEAR\1");
	must_ok(texts()->update(texts(), &u, 1));      /* the same numbers again: replaced */
	must(u.status == ESP_OK && hits(scope, ESP_TEXT_IN_BODY, "", "APPLE", &mark) == 1);
	must(hits(scope, ESP_TEXT_IN_BODY, "", "PEAR", &mark) == 1);
	must(hits(id_new(), ESP_TEXT_IN_BODY, "", "PEAR", &mark) == 0 && mark.upto == 0);
	u = (esp_text_update){ .size = sizeof u, .scope = scope, .before = all, .gone = { &every, 1 } };
	must_ok(texts()->update(texts(), &u, 1));
	must(u.status == ESP_OK && hits(scope, ESP_TEXT_IN_BODY, "", "PEAR", &mark) == 0 && mark.epoch == 0);
}
Test(index, updates_are_whole_and_fenced_by_the_mark) { sqlhost_run(1, updates, NULL); }

/* What leaves is more than one transaction takes. */
#define MANY 6000u
static void many_leave(void *arg)
{
	esp_text_doc *doc = calloc(MANY, sizeof *doc);
	esp_text_mark all = { 7, MANY, 5 }, mark;
	esp_id scope = empty_box();
	esp_text_update u = { .size = sizeof u, .ndocs = MANY, .scope = scope, .after = all, .doc = doc };
	esp_uid_range most = { 1, MANY - 1 };
	uint32_t again = 0;

	(void)arg;
	for (uint32_t i = 0; i < MANY; i++)
		doc[i] = (esp_text_doc){ .size = sizeof *doc, .number = i + 1, .body = z("APPLE\1") };
	must_ok(texts()->update(texts(), &u, 1));
	must(hits(scope, ESP_TEXT_IN_BODY, "", "APPLE", &mark) == MANY);
	u = (esp_text_update){ .size = sizeof u, .scope = scope, .before = all, .after = { 7, MANY, 6 },
		.gone = { &most, 1 } };
	for (;;) {
		must_ok(texts()->update(texts(), &u, 1));
		if (u.status != ESP_EAGAIN)
			break;
		must(hits(scope, ESP_TEXT_IN_BODY, "", "APPLE", &mark) < MANY && mark.modseq == 5);
		again++;
	}
	must(u.status == ESP_OK && again > 0);
	must(hits(scope, ESP_TEXT_IN_BODY, "", "APPLE", &mark) == 1 && mark.modseq == 6);
	free(doc);
}
Test(index, many_texts_leave_in_several_steps) { sqlhost_run(1, many_leave, NULL); }
