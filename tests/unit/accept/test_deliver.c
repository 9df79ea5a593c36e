/* deliver() of delivery/accept: what is stored for whom, in which order, and what is taken back when a step fails.
 *
 * The services are doubles that write down what they are asked, a word a call; the tests read that.
 */
#include "modules/delivery/accept/accept.h"
#include "tests/support/test.h"

#include "core/base/arena.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum { SQL = 1, BLOB, MAILSTORE, EVENTLOG };
#define MAILBOX 0x80           /* last byte: INBOX of account n is 0x80 + n */

static char said[4096];
static int no_log;             /* no event log is configured */
static int blobs, fail_blob;   /* which commit fails, from 1; 0: none */
static int transacts, behind;  /* so many transactions lack UIDs */
static esp_status commit_status;
static char prefix[4][256], stored[4][256], described[4][256];
static esp_sql_key keys[16];
static uint32_t nkeys;
static esp_arena *arena;

static void note(const char *fmt, ...) ESP_PRINTF(1, 2);
static void note(const char *fmt, ...)
{
	size_t at = strlen(said);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(said + at, sizeof said - at, fmt, ap);
	va_end(ap);
	strncat(said, "; ", sizeof said - strlen(said) - 1);
}

static esp_id id_of(uint8_t n)
{
	esp_id id = { { 0 } };

	id.b[15] = n;
	return id;
}

/* --- blobs ---------------------------------------------------------------------------------------------- */

static esp_status blob_put(const esp_blob *b, esp_id id, esp_str text, esp_str content, uint64_t *ret_size)
{
	(void)b;
	note("blob %d", id.b[15]);
	snprintf(prefix[blobs], sizeof prefix[0], "%.*s", ESP_FMT(text));
	snprintf(stored[blobs], sizeof stored[0], "%.*s", ESP_FMT(content));
	if (++blobs == fail_blob)
		return ESP_ENOSPC;
	*ret_size = text.len + content.len;
	return ESP_OK;
}
static void blob_discard(const esp_blob *b, esp_id id)
{
	(void)b;
	note("discard %d", id.b[15]);
}
static void blob_kick(const esp_blob *b)
{
	(void)b;
	note("kick");
}
static const esp_blob blob = { .put = blob_put, .discard = blob_discard, .kick = blob_kick };

/* --- mailboxes ------------------------------------------------------------------------------------------ */

static esp_status ms_find(
	const esp_mailstore *s, esp_arena *a, const esp_actor *actor, esp_str name, esp_mailbox *ret)
{
	(void)s; (void)a; (void)actor; (void)ret;
	note("find %.*s", ESP_FMT(name));
	return esp_str_eq(name, ESP_STR("Lists")) ? ESP_OK : ESP_ENOENT;
}
static esp_status ms_target(const esp_mailstore *s, esp_id account, esp_str folder, esp_id *ret)
{
	(void)s;
	note("target %d %.*s", account.b[15], (int)(folder.len ? folder.len : 5), folder.len ? folder.ptr : "INBOX");
	*ret = id_of((uint8_t)(MAILBOX + account.b[15]));
	return ESP_OK;
}
static esp_status ms_prepare(const esp_mailstore *s, esp_arena *a, esp_append *m)
{
	(void)s; (void)a;
	note("prepare %d", m->id.b[15]);
	snprintf(described[blobs], sizeof described[0], "%.*s", ESP_FMT(m->content));
	return ESP_OK;
}
static esp_status ms_deliver(const esp_mailstore *s, esp_tx *tx, esp_id account, esp_id mailbox, const esp_append *m,
	uint32_t *ret_uid, uint64_t *ret_modseq)
{
	(void)s; (void)tx;
	if (behind > 0) {
		behind--;
		return ESP_EAGAIN;
	}
	cr_assert_eq(mailbox.b[15], MAILBOX + account.b[15]);
	note("deliver %d to %d", m->id.b[15], account.b[15]);
	*ret_uid = 1;
	*ret_modseq = 7;
	return ESP_OK;
}
static void ms_delivered(const esp_mailstore *s, esp_id mailbox, uint64_t modseq)
{
	(void)s;
	cr_assert_eq(modseq, 7);
	note("hint %d", mailbox.b[15] - MAILBOX);
}
static const esp_mailstore mailstore = { .find = ms_find, .target = ms_target, .prepare = ms_prepare,
	.deliver = ms_deliver, .delivered = ms_delivered };

/* --- the transaction ------------------------------------------------------------------------------------ */

static esp_status tx_exec(esp_tx *tx, const char *stmt, const esp_sql_value *args, uint32_t n, esp_sql_rows *ret)
{
	(void)tx; (void)ret;
	if (strstr(stmt, "INTO trace")) {
		cr_assert_eq(n, 6);
		note("trace %d %.*s", args[0].s.ptr[15], ESP_FMT(args[1].s));
		return ESP_OK;
	}
	cr_assert(strstr(stmt, "INTO quarantine") != NULL && n == 10, "%s", stmt);
	cr_assert_eq(args[9].s.ptr[15], 10, "the id of the message, which is that of its trace");
	note("quarantine %d for %d: %.*s", args[2].s.ptr[15], args[1].s.ptr[15], ESP_FMT(args[7].s));
	return ESP_OK;
}
static esp_status transact(
	const esp_sql *s, const esp_sql_key *k, uint32_t n, esp_status (*fn)(esp_tx *tx, void *arg), void *arg)
{
	esp_tx tx = { .exec = tx_exec, .arena = arena };
	esp_status st;

	(void)s;
	transacts++;
	nkeys = n;
	if (n)
		memcpy(keys, k, n * sizeof *k);
	note("begin");
	st = fn(&tx, arg);
	if (st == ESP_OK)
		st = commit_status;
	note(st == ESP_OK ? "commit" : "rollback");
	return st;
}
static const esp_sql sql = { .transact = transact };

static esp_status log_append(const esp_eventlog *l, esp_tx *tx, const char *name, esp_id account, const esp_field *f,
	uint32_t n, uint32_t size)
{
	(void)l; (void)tx;
	note("event %s %d", name, account.b[15]);
	for (uint32_t i = 0; i < n; i++) {
		const esp_field *one = (const esp_field *)(const void *)((const char *)f + (size_t)i * size);
		if (strcmp(one->key, "tags") == 0 && one->s.len)
			note("called %.*s", ESP_FMT(one->s));
	}
	return ESP_OK;
}
static void log_committed(const esp_eventlog *l)
{
	(void)l;
	note("numbered");
}
static const esp_eventlog eventlog = { .append = log_append, .committed = log_committed };

/* --- the host ------------------------------------------------------------------------------------------- */

static const esp_service *service(esp_module *self, esp_binding b)
{
	(void)self;
	switch (b.v) {
	case SQL: return &sql.service;
	case BLOB: return &blob.service;
	case MAILSTORE: return &mailstore.service;
	default: return no_log ? NULL : &eventlog.service;
	}
}
static esp_id new_id(void)
{
	static uint8_t last = 10;

	return id_of(++last);
}
static esp_time wall(int64_t *ret)
{
	(void)ret;
	return 1;
}
static int32_t wanted(esp_event_id id)
{
	(void)id;
	return 0;
}
static const esp_host host = { .size = sizeof host, .service = service };
static const esp_loop_api loop = { .size = sizeof loop, .wall = wall };
static const esp_event_api event = { .size = sizeof event, .wanted = wanted };
static const esp_crypto_api crypto = { .size = sizeof crypto, .new_id = new_id };
static const esp_mem_api mem = { .size = sizeof mem, .alloc = arena_alloc };
static void *no_slot(const void *object, esp_slot s)
{
	(void)object; (void)s;
	return NULL;
}
static const char *point_name(esp_point p) { return p == ESP_AT_MESSAGE ? "message" : "other"; }
static const char *verdict_name(esp_verdict v) { return v ? "other" : "continue"; }
static const esp_slot_api slots = { .size = sizeof slots, .get = no_slot };
static const esp_hook_api hook_names = {
	.size = sizeof hook_names, .point_name = point_name, .verdict_name = verdict_name
};
static void count(esp_metric m, int64_t n) { (void)m; (void)n; }
static const esp_metric_api metrics = { .size = sizeof metrics, .add = count };
static struct accept accept = { .slots = &slots, .metric = &metrics,
	.hook = &hook_names,
	.trace_keep = ESP_SEC,
	.crypto = &crypto,
	.event = &event,
	.sql = { SQL },
	.blob = { BLOB },
	.mailstore = { MAILSTORE },
	.eventlog = { EVENTLOG } };

/* --- a transaction of SMTP ------------------------------------------------------------------------------ */

static esp_message letter = { .size = sizeof letter };
static esp_rcpt rcpt[4];
static esp_rcpt *to[4] = { &rcpt[0], &rcpt[1], &rcpt[2], &rcpt[3] };
static esp_rcpt_group group[2];
static esp_txn txn;
static const esp_trace_call calls[] = { { .size = sizeof calls[0], .point = ESP_AT_MESSAGE, .module = "spam",
	.found = ESP_FOUND_SPAM, .name = { "LOTTERY", 7 } } };
static esp_trace trace;
static esp_err err;

static void set_up(void)
{
	accept.core.host = &host;
	accept.core.loop = &loop;
	arena = arena_new(&mem, "test", 1 << 20);
	letter.id = id_of(10);
	letter.content = ESP_STR("Subject: x\r\n\r\n");
	err = (esp_err)ESP_ERR_INIT;
	for (uint8_t i = 0; i < 4; i++)
		rcpt[i] = (esp_rcpt){ .size = sizeof rcpt[i], .target = ESP_RCPT_LOCAL, .address = ESP_STR("a@b"),
			.account = id_of((uint8_t)(i + 1)), .verdict = ESP_VERDICT_CONTINUE };
	txn = (esp_txn){ .size = sizeof txn, .arena = arena, .message = &letter, .from = ESP_STR("x@y"), .nrcpt = 1,
		.ngroups = 1, .rcpt = to, .groups = group, .trace = &trace };
	trace = (esp_trace){ .size = sizeof trace, .call_size = sizeof calls[0], .calls = calls };
}
static void tear_down(void) { arena_free(arena); }
static esp_status go(void)
{
	return deliver(&accept.table, &txn, ESP_STR("Subject: x\r\n\r\nx"), ESP_STR("Received: r\r\n"), &err);
}

#define DELIVERY(name) Test(deliver, name, .init = set_up, .fini = tear_down)

DELIVERY(the_blob_is_there_before_the_transaction_and_hints_come_after_it)
{
	cr_assert_eq(go(), ESP_OK);
	cr_assert_str_eq(said, "target 1 INBOX; prepare 10; blob 10; begin; deliver 10 to 1; event message.received 1; "
		"commit; hint 1; kick; numbered; ");
	cr_assert_str_eq(prefix[0], "Return-Path: <x@y>\r\nReceived: r\r\n");
}

DELIVERY(the_event_says_what_the_hooks_called_the_message)
{
	static char long_one[995];
	esp_str tags[] = { ESP_STR("odd"), ESP_STR("spam"), { long_one, sizeof long_one }, ESP_STR("x") };

	memset(long_one, 'y', sizeof long_one);
	group[0].outcome.answer.tags = tags;
	group[0].outcome.answer.ntags = 4;
	cr_assert_eq(go(), ESP_OK);
	cr_assert(strstr(said, "event message.received 1; called odd spam; "), "%s", said);
}

DELIVERY(without_an_event_log_mail_is_stored_all_the_same)
{
	no_log = 1;
	cr_assert_eq(go(), ESP_OK);
	cr_assert(!strstr(said, "event") && !strstr(said, "numbered") && strstr(said, "commit"));
}

DELIVERY(one_blob_and_one_transaction_serve_all_recipients_in_the_order_of_locks)
{
	static const uint8_t order[] = { 1, 2, 3, MAILBOX + 1, MAILBOX + 2, MAILBOX + 3 };

	txn.nrcpt = 3;
	rcpt[0].account = id_of(3);
	rcpt[2].account = id_of(1);
	cr_assert_eq(go(), ESP_OK);
	cr_assert_eq(blobs, 1);
	cr_assert_eq(transacts, 1);
	cr_assert_eq(nkeys, 6);
	for (uint32_t i = 0; i < 6; i++) {
		cr_assert_eq(keys[i].kind, i < 3 ? ESP_SQL_KEY_ACCOUNT : ESP_SQL_KEY_MAILBOX);
		cr_assert_eq(keys[i].id.b[15], order[i]);
	}
	cr_assert(strstr(said, "deliver 10 to 1; event message.received 1; deliver 10 to 2;"), "%s", said);
}

DELIVERY(groups_with_other_headers_get_copies_of_their_own)
{
	static const esp_str spam[] = { { "X-Spam: yes", 11 } };

	txn.nrcpt = 3;
	txn.ngroups = 2;
	rcpt[1].group = 1;
	group[1].outcome.answer = (esp_answer){ .headers = spam, .nheaders = 1, .folder = ESP_STR("Junk") };
	cr_assert_eq(go(), ESP_OK);
	cr_assert_eq(blobs, 2);
	cr_assert_str_eq(prefix[0], "Return-Path: <x@y>\r\nReceived: r\r\n");
	cr_assert_str_eq(prefix[1], "Return-Path: <x@y>\r\nX-Spam: yes\r\nReceived: r\r\n");
	cr_assert(strstr(said, "target 2 Junk"), "%s", said);
	cr_assert(strstr(said, "deliver 10 to 1;") && strstr(said, "deliver 11 to 2;") && strstr(said, "deliver 10 to 3;"));
}

#define LETTER \
	"x-spam: a\r\nSubject: x\r\nX-Spam: b,\r\n X-Spam: folded\r\nX-Spam-Too: c\r\nX-SPAM : d\r\n\r\nX-Spam: body"

static const char *stored_without(const esp_str *order, uint32_t n)
{
	letter.content = ESP_STR(LETTER);
	group[0].outcome.answer = (esp_answer){ .headers = order, .nheaders = n };
	blobs = 0;
	cr_assert_eq(deliver(&accept.table, &txn, letter.content, ESP_STR("Received: r\r\n"), &err), ESP_OK);
	cr_assert_str_eq(stored[0], described[0]);
	return stored[0];
}

DELIVERY(fields_that_a_hook_leaves_out_are_not_in_what_is_stored)
{
	static const esp_str all[] = { ESP_STR_INIT("X-Spam"), ESP_STR_INIT("X-Spam: yes"), ESP_STR_INIT("Nothing") },
		second[] = { ESP_STR_INIT("X-SPAM 2") }, last[] = { ESP_STR_INIT("x-spam -1"), ESP_STR_INIT("x-spam -3") },
		none[] = { ESP_STR_INIT("X-Spam 4"), ESP_STR_INIT("X-Spam -4"), ESP_STR_INIT("X") };

	cr_assert_str_eq(stored_without(all, 3), "Subject: x\r\nX-Spam-Too: c\r\n\r\nX-Spam: body");
	cr_assert_str_eq(prefix[0], "Return-Path: <x@y>\r\nX-Spam: yes\r\nReceived: r\r\n");
	cr_assert_str_eq(
		stored_without(second, 1), "x-spam: a\r\nSubject: x\r\nX-Spam-Too: c\r\nX-SPAM : d\r\n\r\nX-Spam: body");
	cr_assert_str_eq(stored_without(last, 2),
		"Subject: x\r\nX-Spam: b,\r\n X-Spam: folded\r\nX-Spam-Too: c\r\n\r\nX-Spam: body");
	cr_assert_str_eq(stored_without(none, 3), LETTER);
	cr_assert_str_eq(prefix[0], "Return-Path: <x@y>\r\nReceived: r\r\n");
}

DELIVERY(groups_that_leave_out_other_fields_get_copies_of_their_own)
{
	static const esp_str order[] = { ESP_STR_INIT("X-Spam 1"), ESP_STR_INIT("X-Spam 2") };

	letter.content = ESP_STR("X-Spam: a\r\nX-Spam: b\r\n\r\nx");
	txn.nrcpt = 3;
	txn.ngroups = 2;
	rcpt[1].group = 1;
	group[0].outcome.answer = (esp_answer){ .headers = order, .nheaders = 1 };
	group[1].outcome.answer = (esp_answer){ .headers = order + 1, .nheaders = 1 };
	cr_assert_eq(deliver(&accept.table, &txn, letter.content, ESP_STR("Received: r\r\n"), &err), ESP_OK);
	cr_assert_eq(blobs, 2);
	cr_assert_str_eq(stored[0], "X-Spam: b\r\n\r\nx");
	cr_assert_str_eq(stored[1], "X-Spam: a\r\n\r\nx");
}

DELIVERY(who_discards_gets_nothing_and_nothing_is_stored_when_all_do)
{
	txn.nrcpt = 2;
	rcpt[0].verdict = ESP_VERDICT_DISCARD;
	cr_assert_eq(go(), ESP_OK);
	cr_assert(!strstr(said, "to 1;") && strstr(said, "deliver 10 to 2;"), "%s", said);
	said[0] = '\0';
	rcpt[1].verdict = ESP_VERDICT_DISCARD;
	cr_assert_eq(go(), ESP_OK);
	cr_assert_str_eq(said, "");
}

DELIVERY(what_hooks_said_is_stored_in_the_transaction_of_the_message)
{
	trace.ncalls = 1;
	cr_assert_eq(go(), ESP_OK);
	cr_assert(
		strstr(said, "begin; deliver 10 to 1; event message.received 1; trace 10 delivered; event spam.detected 0; "
					 "commit;"),
		"%s", said);
	said[0] = '\0';
	txn.nrcpt = 2;
	rcpt[1].verdict = ESP_VERDICT_REJECT;
	cr_assert_eq(go(), ESP_OK);
	cr_assert(strstr(said, "trace 10 mixed;"), "%s", said);
	said[0] = '\0';
	rcpt[0].verdict = ESP_VERDICT_QUARANTINE;
	cr_assert_eq(go(), ESP_OK);
	cr_assert(strstr(said, "trace 10 quarantined;"), "%s", said);
	said[0] = '\0';
	rcpt[0].verdict = rcpt[1].verdict = ESP_VERDICT_DISCARD;
	cr_assert_eq(go(), ESP_OK);
	cr_assert(strstr(said, "begin; trace 10 discarded; event spam.detected 0; commit;"), "%s", said);
	accept.trace_keep = 0;
	said[0] = '\0';
	cr_assert_eq(go(), ESP_OK);
	cr_assert_str_eq(said, "");
	accept.trace_keep = ESP_SEC;
}

DELIVERY(words_that_are_no_utf8_are_stored_as_utf8)
{
	rcpt[0].verdict = ESP_VERDICT_QUARANTINE;
	group[0].outcome.answer.reason = ESP_STR("caf\xc3");
	cr_assert_eq(go(), ESP_OK);
	cr_assert(strstr(said, "for 1: caf\xef\xbf\xbd;"), "%s", said);
}

DELIVERY(quarantined_copies_share_no_blob_with_mailboxes)
{
	txn.nrcpt = 3;
	rcpt[1].verdict = ESP_VERDICT_QUARANTINE;
	rcpt[2].verdict = ESP_VERDICT_REJECT;      /* of several recipients: the reply is 250, this one is not bounced */
	group[0].outcome.answer.reason = ESP_STR("looks bad");
	cr_assert_eq(go(), ESP_OK);
	cr_assert_eq(blobs, 2);
	cr_assert(strstr(said, "deliver 10 to 1;") && strstr(said, "quarantine 11 for 2: looks bad;") &&
		strstr(said, "quarantine 11 for 3: looks bad;"), "%s", said);
	cr_assert(strstr(said, "event message.quarantined 2;") && !strstr(said, "hint 2") && !strstr(said, "target 2"));
}

DELIVERY(a_subaddress_names_a_folder_only_where_there_is_one)
{
	txn.nrcpt = 2;
	rcpt[0].folder = ESP_STR("Lists");
	rcpt[1].folder = ESP_STR("Nonsense");
	cr_assert_eq(go(), ESP_OK);
	cr_assert(
		strstr(said, "find Lists; target 1 Lists;") && strstr(said, "find Nonsense; target 2 INBOX;"), "%s", said);
}

DELIVERY(a_copy_that_cannot_be_written_takes_the_others_back)
{
	static const esp_str spam[] = { { "X-Spam: yes", 11 } };

	txn.nrcpt = txn.ngroups = 2;
	rcpt[1].group = 1;
	group[1].outcome.answer = (esp_answer){ .headers = spam, .nheaders = 1 };
	fail_blob = 2;
	cr_assert_eq(go(), ESP_ENOSPC);
	cr_assert_eq(transacts, 0);
	cr_assert(strstr(said, "discard 10;") && !strstr(said, "discard 11;"), "%s", said);
	cr_assert(strstr(err.text, "store the message"), "%s", err.text);
}

DELIVERY(a_transaction_that_failed_takes_the_blob_back_and_tells_nobody)
{
	commit_status = ESP_EBUSY;
	cr_assert_eq(go(), ESP_EBUSY);
	cr_assert(strstr(said, "rollback; discard 10;") && !strstr(said, "hint") && !strstr(said, "kick"), "%s", said);
	cr_assert(strstr(err.text, "commit"), "%s", err.text);
}

DELIVERY(a_commit_that_may_have_happened_keeps_its_blob)
{
	commit_status = ESP_EUNKNOWN;
	cr_assert_eq(go(), ESP_EUNKNOWN);
	cr_assert(!strstr(said, "discard"), "%s", said);
}

DELIVERY(uids_that_are_not_reserved_yet_are_asked_for_and_it_is_tried_again)
{
	behind = 2;
	cr_assert_eq(go(), ESP_OK);
	cr_assert_eq(transacts, 3);
	cr_assert(
		strstr(said, "begin; rollback; target 1 INBOX; begin; rollback; target 1 INBOX; begin; deliver"), "%s", said);
	behind = 1000;
	said[0] = '\0';
	cr_assert_eq(go(), ESP_EAGAIN);            /* not for ever */
	cr_assert_lt(transacts, 50);
	cr_assert(strstr(said, "discard"), "%s", said);
}

DELIVERY(a_recipient_elsewhere_is_refused_while_there_is_no_queue)
{
	rcpt[0].target = ESP_RCPT_REMOTE;
	cr_assert_eq(go(), ESP_EINVAL);
	cr_assert_str_eq(said, "");
}
