/* core/mail/transaction: what one transaction says, forgets, and groups. */
#include <criterion/criterion.h>

#include "core/base/arena.h"
#include "core/mail/mail.h"

#include <string.h>

static esp_verdict at_mail, at_rcpt, at_message[8];
static int message_runs, pins, slot_ends;
static esp_str rcpt_folder, rcpt_domain, rcpt_recipient;
static bool speaks, finds;
static const esp_str headers[ESP_AT_COUNT] = { [ESP_AT_MAIL] = ESP_STR_INIT("mail"),
	[ESP_AT_RCPT] = ESP_STR_INIT("rcpt"),
	[ESP_AT_DATA] = ESP_STR_INIT("data"),
	[ESP_AT_HEADERS] = ESP_STR_INIT("headers"),
	[ESP_AT_MESSAGE] = ESP_STR_INIT("message") };

static void *pin(void *arg, esp_conn *c) { (void)arg; pins++; return c; }
static void unpin(void *arg, esp_conn *c, void *p) { (void)arg; cr_assert_eq(p, (void *)c); pins--; }
static void slots_end(void *arg, void *object, uint32_t scope)
{
	(void)arg;
	(void)scope;
	cr_assert_not_null(object);
	slot_ends++;
}

static void run(esp_point point, const void *args, esp_arena *arena, struct trace *trace, esp_outcome *ret)
{
	const esp_answer said = { .size = sizeof said, .found = ESP_FOUND_SPAM, .name = ESP_STR("LOTTERY") };

	(void)arena;
	trace_note(trace, &(struct trace_how){ .point = point, .module = "double" }, ESP_VERDICT_CONTINUE,
	           finds ? &said : NULL);
	*ret = (esp_outcome){ .size = sizeof *ret };
	if (point == ESP_AT_MAIL)
		ret->verdict = at_mail;
	ret->by = "double";
	ret->answer.reason = point == ESP_AT_MAIL ? ESP_STR("said at MAIL") : ESP_STR("");
	if (speaks) {              /* each point says its own number */
		ret->answer.headers = &headers[point];
		ret->answer.tags = &headers[point];
		ret->answer.nheaders = ret->answer.ntags = 1;
		ret->answer.has_score = 1;
		ret->answer.score = 1 << point;
	}
	if (point == ESP_AT_RCPT) {
		rcpt_domain = ((const esp_rcpt_args *)args)->domain;
		rcpt_recipient = ((const esp_rcpt_args *)args)->recipient;
		ret->verdict = at_rcpt;
		ret->answer.folder = rcpt_folder;
	}
	if (point == ESP_AT_MESSAGE) {
		const esp_message_args *m = args;
		ret->verdict = at_message[m->group];
		ret->answer.text = m->group ? ESP_STR("second") : ESP_STR("first");
		message_runs++;
	}
}

/* "d2.test" and "e2.test" have equal settings; "d0.test" those of the modules. */
static uint64_t settings(esp_str domain)
{
	return domain.len > 1 && domain.ptr[1] >= '0' && domain.ptr[1] <= '9' ? (uint64_t)(domain.ptr[1] - '0') : 0;
}

static esp_arena *api_new(esp_module *self, const char *label, size_t cap);
static const esp_mem_api mem = {
	.size = sizeof mem, .arena_new = api_new, .arena_free = arena_free, .arena_reset = arena_reset,
	.alloc = arena_alloc, .defer = arena_defer, .used = arena_used,
};
static esp_arena *api_new(esp_module *self, const char *label, size_t cap)
{
	(void)self;
	return arena_new(&mem, label, cap);
}

static esp_conn conn;

static void setup(void)
{
	mail_set_host(
		&(struct mail_host){ .pin = pin, .unpin = unpin, .run = run, .settings = settings, .slots_end = slots_end });
	conn.arena = arena_new(&mem, "conn", 0);
}
static void teardown(void)
{
	arena_free(conn.arena);
	cr_assert_eq(pins, 0);
}

static esp_txn *begin(uint32_t max_rcpt, uint32_t authenticated)
{
	esp_outcome o;
	esp_txn *t = mail_api.begin(NULL, &conn,
		&(esp_txn_params){ .size = sizeof(esp_txn_params), .max_rcpt = max_rcpt, .authenticated = authenticated,
			.login = authenticated ? ESP_STR("someone@D3.Test") : ESP_STR("") });

	cr_assert_not_null(t);
	mail_api.mail(t, ESP_STR("a@example.test"), ESP_STR(""), &o);
	return t;
}

static esp_status rcpt(esp_txn *t, uint8_t account, int number)
{
	char domain[] = "d0.test";
	esp_outcome o;
	esp_rcpt r = { .size = sizeof r, .target = ESP_RCPT_LOCAL, .address = ESP_STR("x@example.test"),
		.domain = { domain, sizeof domain - 1 } };

	domain[1] = (char)('0' + number);

	r.account.b[0] = account;
	return mail_api.rcpt(t, &r, &o);
}

static esp_verdict judge(esp_txn *t, esp_outcome *o)
{
	mail_api.message(t, ESP_STR("Subject: x\r\n\r\n"), o);
	return o->verdict;
}

TestSuite(transaction, .init = setup, .fini = teardown);

Test(transaction, pins_its_snapshot_until_its_end_and_ends_its_slots)
{
	esp_txn *t = begin(0, 0);

	cr_assert_eq(pins, 1);
	mail_api.end(t);
	cr_assert_eq(slot_ends, 2);
	mail_api.end(NULL);
}

Test(transaction, counts_the_same_mailbox_once)
{
	esp_txn *t = begin(0, 0);

	cr_assert_eq(rcpt(t, 1, 0), ESP_OK);
	cr_assert_eq(rcpt(t, 1, 0), ESP_OK);
	cr_assert_eq(rcpt(t, 2, 0), ESP_OK);
	cr_assert_eq(t->nrcpt, 2);
	mail_api.end(t);
}

Test(transaction, takes_recipients_back)
{
	esp_txn *t = begin(3, 0);
	esp_outcome o;

	for (uint8_t i = 1; i <= 3; i++)
		cr_assert_eq(rcpt(t, i, 0), ESP_OK);
	mail_api.keep_rcpt(t, 1);
	cr_assert_eq(rcpt(t, 2, 0), ESP_OK, "there is room again, and he is not there already");
	cr_assert_eq(t->nrcpt, 2);
	judge(t, &o);
	cr_assert_eq(t->groups[0].nrcpt, 2);
	mail_api.end(t);
}

Test(transaction, refuses_recipients_beyond_its_limit)
{
	esp_txn *t = begin(2, 0);

	cr_assert_eq(rcpt(t, 1, 0), ESP_OK);
	cr_assert_eq(rcpt(t, 2, 0), ESP_OK);
	cr_assert_eq(rcpt(t, 3, 0), ESP_EBUSY);
	mail_api.end(t);
}

Test(transaction, keeps_a_rejected_recipient_out_of_the_envelope)
{
	esp_txn *t = begin(0, 0);

	at_rcpt = ESP_VERDICT_REJECT;
	cr_assert_eq(rcpt(t, 1, 0), ESP_OK);
	cr_assert_eq(t->nrcpt, 0);
	mail_api.end(t);
}

Test(transaction, files_into_the_folder_a_hook_names)
{
	esp_txn *t = begin(0, 0);

	rcpt_folder = ESP_STR("Junk");
	cr_assert_eq(rcpt(t, 1, 0), ESP_OK);
	cr_assert_eq(t->rcpt[0]->folder.len, 4);
	mail_api.end(t);
}

Test(transaction, counts_the_same_mailbox_once_wherever_a_hook_files_it)
{
	esp_txn *t = begin(0, 0);

	rcpt_folder = ESP_STR("Junk");
	cr_assert_eq(rcpt(t, 1, 0), ESP_OK);
	cr_assert_eq(rcpt(t, 1, 0), ESP_OK);
	cr_assert_eq(t->nrcpt, 1);
	mail_api.end(t);
}

Test(transaction, takes_the_stricter_verdict_of_two_addresses_of_a_mailbox)
{
	static const esp_verdict said[][3] = {
		{ ESP_VERDICT_CONTINUE, ESP_VERDICT_DISCARD, ESP_VERDICT_DISCARD },
		{ ESP_VERDICT_QUARANTINE, ESP_VERDICT_CONTINUE, ESP_VERDICT_QUARANTINE },
		{ ESP_VERDICT_DISCARD, ESP_VERDICT_QUARANTINE, ESP_VERDICT_DISCARD },
		{ ESP_VERDICT_CONTINUE, ESP_VERDICT_REJECT, ESP_VERDICT_CONTINUE },   /* that address was refused */
	};

	for (unsigned i = 0; i < sizeof said / sizeof said[0]; i++) {
		esp_txn *t = begin(0, 0);

		for (unsigned k = 0; k < 2; k++) {
			at_rcpt = said[i][k];
			cr_assert_eq(rcpt(t, 1, 0), ESP_OK);
		}
		cr_assert_eq(t->nrcpt, 1);
		cr_assert_eq(t->rcpt[0]->verdict, said[i][2], "case %u", i);
		mail_api.end(t);
	}
}

Test(transaction, says_whose_address_a_recipient_is)
{
	esp_rcpt r = { .size = sizeof r, .target = ESP_RCPT_LOCAL, .address = ESP_STR("alias+x@example.test"),
		.recipient = ESP_STR("user@example.test") };
	esp_txn *t = begin(0, 0);
	esp_outcome o;

	cr_assert_eq(mail_api.rcpt(t, &r, &o), ESP_OK);
	cr_assert(esp_str_eq(rcpt_recipient, r.recipient) && esp_str_eq(t->rcpt[0]->recipient, r.recipient));
	r.size = offsetof(esp_rcpt, recipient);              /* as of a module that was built before there was one */
	cr_assert_eq(mail_api.rcpt(t, &r, &o), ESP_OK);
	cr_assert(esp_str_eq(rcpt_recipient, r.address));
	mail_api.end(t);
}

Test(transaction, runs_the_message_chain_once_per_group_of_equal_settings)
{
	esp_txn *t = begin(0, 0);
	esp_outcome o;

	for (uint8_t i = 0; i < 6; i++)
		cr_assert_eq(rcpt(t, i, i % 2), ESP_OK);
	cr_assert_eq(judge(t, &o), ESP_VERDICT_CONTINUE);
	cr_assert_eq(message_runs, 2);
	cr_assert_eq(t->groups[0].nrcpt, 3);
	mail_api.end(t);
}

Test(transaction, judges_a_submission_as_one_group)
{
	esp_txn *t = begin(0, 1);
	esp_outcome o;

	for (uint8_t i = 0; i < 6; i++)
		cr_assert_eq(rcpt(t, i, i), ESP_OK);
	judge(t, &o);
	cr_assert_eq(message_runs, 1);
	cr_assert(esp_str_eq(t->domain, ESP_STR("d3.test")) && esp_str_eq(t->groups[0].domain, t->domain));
	mail_api.end(t);
}

Test(transaction, takes_domains_with_equal_settings_for_one_group)
{
	static const char *const to[] = { "a@d2.test", "b@E2.TEST", "c@nowhere.test", "d@d0.test", "e@d3.test" };
	esp_txn *t = begin(0, 0);
	esp_outcome o;

	for (uint8_t i = 0; i < 5; i++) {
		esp_rcpt r = { .size = sizeof r, .target = ESP_RCPT_LOCAL, .address = { to[i], strlen(to[i]) } };

		r.account.b[0] = (uint8_t)(i + 1);
		cr_assert_eq(mail_api.rcpt(t, &r, &o), ESP_OK);
		cr_assert(esp_str_eq(rcpt_domain, t->rcpt[i]->domain), "the hook at RCPT is told the same");
	}
	cr_assert(esp_str_eq(t->rcpt[1]->domain, ESP_STR("e2.test")), "who names none has that of the address");
	judge(t, &o);
	cr_assert_eq(message_runs, 3);
	cr_assert_eq(t->rcpt[0]->group, t->rcpt[1]->group);
	cr_assert_eq(t->rcpt[2]->group, t->rcpt[3]->group);
	cr_assert(esp_str_eq(t->groups[0].domain, ESP_STR("d2.test")) && t->groups[0].nrcpt == 2);
	mail_api.end(t);
}

Test(transaction, notes_who_was_asked_for_whom_and_what_was_found)
{
	esp_txn *t;
	esp_outcome o;

	finds = true;
	t = begin(0, 0);
	cr_assert_eq(rcpt(t, 1, 1), ESP_OK);
	cr_assert_eq(rcpt(t, 2, 2), ESP_OK);
	judge(t, &o);
	cr_assert_eq(t->trace->ncalls, 5);
	cr_assert_eq(esp_trace_at(t->trace, 0)->point, (esp_point)ESP_AT_MAIL);
	cr_assert(esp_str_eq(esp_trace_at(t->trace, 2)->to, ESP_STR("x@example.test")));
	cr_assert_eq(esp_trace_at(t->trace, 2)->index, 1);
	cr_assert_eq(esp_trace_at(t->trace, 4)->index, 1, "the second group");
	cr_assert(esp_str_eq(esp_trace_at(t->trace, 4)->name, ESP_STR("LOTTERY")));
	cr_assert_eq(t->trace->refused, (esp_verdict)ESP_VERDICT_CONTINUE);
	mail_api.end(t);
	finds = false;
}

Test(transaction, remembers_the_last_refusal)
{
	esp_txn *t = begin(0, 0);
	esp_outcome o;

	at_rcpt = ESP_VERDICT_DEFER;
	cr_assert_eq(rcpt(t, 1, 1), ESP_OK);
	cr_assert_eq(t->trace->refused, (esp_verdict)ESP_VERDICT_DEFER);
	at_rcpt = ESP_VERDICT_CONTINUE;
	cr_assert_eq(rcpt(t, 2, 2), ESP_OK);
	at_message[0] = ESP_VERDICT_REJECT;
	judge(t, &o);
	cr_assert_eq(t->trace->refused, (esp_verdict)ESP_VERDICT_REJECT);
	mail_api.end(t);
}

Test(transaction, defers_all_when_any_group_defers)
{
	esp_txn *t = begin(0, 0);
	esp_outcome o;

	at_message[1] = ESP_VERDICT_DEFER;
	cr_assert_eq(rcpt(t, 1, 0), ESP_OK);
	cr_assert_eq(rcpt(t, 2, 1), ESP_OK);
	cr_assert_eq(judge(t, &o), ESP_VERDICT_DEFER);
	cr_assert_eq(o.answer.text.len, strlen("second"));
	mail_api.end(t);
}

Test(transaction, rejects_only_when_all_recipients_are_rejected)
{
	esp_txn *t = begin(0, 0);
	esp_outcome o;

	at_message[0] = ESP_VERDICT_REJECT;
	cr_assert_eq(rcpt(t, 1, 0), ESP_OK);
	cr_assert_eq(judge(t, &o), ESP_VERDICT_REJECT);
	mail_api.end(t);

	t = begin(0, 0);
	cr_assert_eq(rcpt(t, 1, 0), ESP_OK);
	cr_assert_eq(rcpt(t, 2, 1), ESP_OK);
	cr_assert_eq(judge(t, &o), ESP_VERDICT_CONTINUE);
	cr_assert_eq(t->rcpt[0]->verdict, ESP_VERDICT_REJECT);
	cr_assert_eq(t->rcpt[1]->verdict, ESP_VERDICT_CONTINUE);
	mail_api.end(t);
}

Test(transaction, remembers_a_quarantine_said_at_mail)
{
	esp_txn *t;
	esp_outcome o;

	at_mail = ESP_VERDICT_QUARANTINE;
	t = begin(0, 0);
	cr_assert_eq(t->said->verdict, ESP_VERDICT_QUARANTINE);
	cr_assert_str_eq(t->said->by, "double");
	cr_assert_eq(rcpt(t, 1, 0), ESP_OK);
	judge(t, &o);
	cr_assert_eq(t->rcpt[0]->verdict, ESP_VERDICT_QUARANTINE);
	cr_assert(esp_str_eq(t->groups[0].outcome.answer.reason, ESP_STR("said at MAIL")));
	cr_assert_str_eq(t->groups[0].outcome.by, "double");
	mail_api.end(t);
	at_mail = ESP_VERDICT_CONTINUE;
	t = begin(0, 0);
	cr_assert_eq(rcpt(t, 1, 0), ESP_OK);
	judge(t, &o);
	cr_assert_eq(t->rcpt[0]->verdict, ESP_VERDICT_CONTINUE, "nothing reaches the next message");
	mail_api.end(t);
}

Test(transaction, keeps_what_earlier_points_put_in_front_of_the_message)
{
	static const char *const order[] = { "mail", "data", "headers", "message" };
	const esp_answer *a;
	esp_outcome o;
	esp_txn *t;

	speaks = true;
	t = begin(0, 0);
	cr_assert_eq(rcpt(t, 1, 1), ESP_OK);
	cr_assert_eq(rcpt(t, 2, 2), ESP_OK);
	mail_api.data(t, &o);
	mail_api.headers(t, ESP_STR("Subject: x\r\n\r\n"), &o);
	judge(t, &o);
	cr_assert_eq(t->ngroups, 2);
	for (uint32_t g = 0; g < 2; g++) {
		a = &t->groups[g].outcome.answer;
		cr_assert_eq(a->nheaders, 4, "group %u has %u", g, a->nheaders);
		cr_assert_eq(a->ntags, 4);
		for (uint32_t i = 0; i < 4; i++)
			cr_assert(esp_str_eq(a->headers[i], (esp_str){ order[i], strlen(order[i]) }), "place %u of group %u", i, g);
		cr_assert(a->has_score && (int)a->score ==
			(1 << ESP_AT_MAIL | 1 << ESP_AT_DATA | 1 << ESP_AT_HEADERS | 1 << ESP_AT_MESSAGE));
	}
	mail_api.end(t);
	speaks = false;
}
