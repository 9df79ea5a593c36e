/* judge of filter/rspamd: from a reply to a verdict, and header fields that cannot break a message. */
#include "tests/support/test.h"

#include "core/base/arena.h"
#include "core/bus/verdict.h"
#include "modules/filter/rspamd/rspamd.h"

#include <stdio.h>

static const esp_mem_api mem = { .size = sizeof mem, .arena_free = arena_free, .alloc = arena_alloc };
static esp_arena *arena;
static struct settings settings;
static struct reply reply;
static esp_answer answer;

static void set_up(void)
{
	arena = arena_new(&mem, "test", 1 << 20);
	settings = (struct settings){ .add_headers = 1, .reject = 15, .quarantine = 6, .folder = ESP_STR("Junk") };
	reply = (struct reply){ .score = 7.25, .required = 15, .on_reject = ACTION_REJECT };
}
static void tear_down(void) { arena_free(arena); }

static esp_verdict decide(void)
{
	esp_verdict v;

	answer = (esp_answer){ .size = sizeof answer };
	v = judge(&settings, arena, &reply, &answer);
	cr_assert(v == ESP_VERDICT_FAIL || (verdict_allowed(ESP_AT_MESSAGE, v) && !answer_fault(&answer)));
	return v;
}

static int has(const char *header)
{
	for (uint32_t i = 0; i < answer.nheaders; i++)
		if (esp_str_eq(answer.headers[i], (esp_str){ header, strlen(header) }))
			return 1;
	return 0;
}

static esp_str str(const char *s) { return (esp_str){ s, strlen(s) }; }

static void add_field(char *text, size_t room, int i)
{
	size_t n = strlen(text);

	snprintf(text + n, room - n, "X-Spam-%d: x\r\n", i);
}

#define JUDGE(name) Test(judge, name, .init = set_up, .fini = tear_down)

JUDGE(each_action_has_its_verdict)
{
	static const struct { enum action action; esp_verdict v; uint32_t code; int junk, tag; } want[] = {
		{ ACTION_NONE, ESP_VERDICT_CONTINUE, 0, 0, 0 }, { ACTION_GREYLIST, ESP_VERDICT_DEFER, 451, 0, 0 },
		{ ACTION_SOFT_REJECT, ESP_VERDICT_DEFER, 451, 0, 0 }, { ACTION_ADD_HEADER, ESP_VERDICT_CONTINUE, 0, 1, 1 },
		{ ACTION_SUBJECT, ESP_VERDICT_CONTINUE, 0, 1, 1 }, { ACTION_QUARANTINE, ESP_VERDICT_CONTINUE, 0, 1, 1 },
		{ ACTION_DISCARD, ESP_VERDICT_DISCARD, 0, 0, 1 }, { ACTION_REJECT, ESP_VERDICT_REJECT, 554, 0, 1 } };

	for (size_t i = 0; i < sizeof want / sizeof want[0]; i++) {
		reply.action = want[i].action;
		cr_expect_eq(decide(), want[i].v, "%s", action_name(want[i].action));
		cr_expect_eq(answer.smtp_code, want[i].code);
		cr_expect_eq(answer.folder.len != 0, want[i].junk);
		cr_expect_eq(answer.ntags, (uint32_t)want[i].tag);
		cr_expect_eq(answer.found == ESP_FOUND_SPAM, want[i].tag);
		cr_expect(answer.has_score && answer.score == 7.25);
		cr_expect((answer.text.len != 0) == (want[i].code != 0));
	}
	settings.quarantine_means = QUARANTINE_HOLD;
	reply.action = ACTION_ADD_HEADER;
	cr_expect_eq(decide(), ESP_VERDICT_QUARANTINE);
	cr_expect_eq(answer.folder.len, 0);
}

JUDGE(own_thresholds_look_at_the_score_alone)
{
	static const struct { double score; esp_verdict v; int junk; } want[] = { { -3, ESP_VERDICT_CONTINUE, 0 },
		{ 5.99, ESP_VERDICT_CONTINUE, 0 }, { 6, ESP_VERDICT_CONTINUE, 1 }, { 14.99, ESP_VERDICT_CONTINUE, 1 },
		{ 15, ESP_VERDICT_REJECT, 0 }, { 1e6, ESP_VERDICT_REJECT, 0 } };

	settings.by_thresholds = 1;
	for (enum action a = ACTION_NONE; a < ACTIONS; a++)
		for (size_t i = 0; i < sizeof want / sizeof want[0]; i++) {
			reply.action = a;
			reply.score = want[i].score;
			cr_expect_eq(decide(), want[i].v, "%g", want[i].score);
			cr_expect_eq(answer.folder.len != 0, want[i].junk, "%g", want[i].score);
		}
}

JUDGE(an_action_that_nobody_knows_is_no_verdict_unless_the_score_decides)
{
	reply.action = ACTION_OTHER;
	cr_expect_eq(decide(), ESP_VERDICT_FAIL);
	reply.skipped = 1;
	cr_expect_eq(decide(), ESP_VERDICT_FAIL);
	reply.skipped = 0;
	settings.by_thresholds = 1;
	cr_expect_eq(decide(), ESP_VERDICT_CONTINUE);
	cr_expect(has("X-Spam-Flag: YES") && answer.folder.len);
}

JUDGE(the_milter_section_may_take_the_action_back)
{
	reply.no_action = 1;
	for (enum action a = ACTION_NONE; a < ACTIONS; a++) {
		reply.action = a;
		cr_expect_eq(decide(), ESP_VERDICT_CONTINUE, "%s", action_name(a));
		cr_expect(!answer.folder.len && !answer.ntags && !answer.found && has("X-Spam-Flag: NO"), "%s", action_name(a));
	}
	reply.no_action = 0;
	reply.action = ACTION_REJECT;
	reply.on_reject = ACTION_DISCARD;
	cr_expect_eq(decide(), ESP_VERDICT_DISCARD);
	cr_expect_eq(answer.ntags, 1);
	reply.on_reject = ACTION_QUARANTINE;
	cr_expect_eq(decide(), ESP_VERDICT_CONTINUE);
	cr_expect(answer.folder.len && answer.ntags);
	settings.quarantine_means = QUARANTINE_HOLD;
	cr_expect_eq(decide(), ESP_VERDICT_QUARANTINE);
	reply.action = ACTION_SOFT_REJECT;
	cr_expect_eq(decide(), ESP_VERDICT_DEFER, "of reject alone");
	settings.by_thresholds = reply.no_action = 1;
	reply.score = 15;
	cr_expect_eq(decide(), ESP_VERDICT_REJECT, "the score is the administrator's");
}

JUDGE(own_fields_say_what_was_found)
{
	reply.action = ACTION_ADD_HEADER;
	reply.symbol[0].name = ESP_STR("RULE");
	reply.symbol[0].score = 4;
	reply.symbol[1].name = ESP_STR("evil\r\nX: y");
	reply.symbol[2].name = ESP_STR("B");
	reply.symbol[2].score = -0.1;
	reply.nsymbols = 3;
	decide();
	cr_expect(has("X-Spam-Flag: YES") && has("X-Spam-Score: 7.25"));
	cr_expect(has("X-Spam-Status: Yes, score=7.25 required=15.00\r\n\tsymbols=[RULE(4.00), B(-0.10)]"));
	cr_expect(esp_str_eq(answer.reason, ESP_STR("add header, score 7.25 of 15.00: RULE(4.00), B(-0.10)")), "%.*s",
		ESP_FMT(answer.reason));
	settings.add_headers = 0;
	decide();
	cr_expect_eq(answer.nheaders, 0);
}

JUDGE(a_long_list_of_symbols_still_makes_a_field)
{
	static const char name[] = "NAME_OF_A_SYMBOL_THAT_IS_AS_LONG_AS_ONE_MAY_BE_IN_A_REPLY_OF_IT_";

	for (reply.nsymbols = 0; reply.nsymbols < REPLY_SYMBOLS; reply.nsymbols++) {
		reply.symbol[reply.nsymbols].name = (esp_str){ name, REPLY_NAME };
		reply.symbol[reply.nsymbols].score = -1e6;
	}
	reply.score = -1e6;
	cr_assert_eq(decide(), ESP_VERDICT_CONTINUE);
	cr_assert_leq(answer.reason.len, 500);
}

JUDGE(the_milter_section_adds_and_removes_what_can_stand_in_a_header)
{
	static const struct { const char *name, *value, *want; } list[] = {
		{ "X-A", "b", "X-A: b" }, { "X-F", "one;\r\n\ttwo;\n three", "X-F: one;\r\n\ttwo;\r\n three" },
		{ "X-I", "a\r\nEvil: b", "X-I: a Evil: b" }, { "X-J", "a\nEvil: b\r", "X-J: a Evil: b " },
		{ "X-E", "a\r\n \r\n b", "X-E: a  \r\n b" }, { "X-N", "", NULL }, { "X N", "b", NULL }, { "X:", "b", NULL },
		{ "X\r\nEvil", "b", NULL }, { "X-\xc3\xa4", "b", NULL }, { "X-C", "a\x01\x7f" "b", "X-C: a  b" } };
	uint32_t before, usable = 0;

	settings.add_headers = 0;
	decide();
	before = answer.nheaders;
	for (size_t i = 0; i < sizeof list / sizeof list[0]; i++) {
		reply.add[i].name = str(list[i].name);
		reply.add[i].value = str(list[i].value);
		usable += list[i].want != NULL;
	}
	reply.nadd = sizeof list / sizeof list[0];
	cr_assert_eq(decide(), ESP_VERDICT_CONTINUE);
	for (size_t i = 0; i < sizeof list / sizeof list[0]; i++)
		cr_expect(!list[i].want || has(list[i].want), "%s", list[i].name);
	cr_expect_eq(answer.nheaders, before + usable);
	reply.nadd = 0;
	reply.remove[0].name = ESP_STR("X-Gone");
	reply.remove[1].name = ESP_STR("X-Second");
	reply.remove[1].which = 2;
	reply.remove[2].name = ESP_STR("X-Last");
	reply.remove[2].which = -1;
	reply.remove[3].name = ESP_STR("X Y");
	reply.nremove = 4;
	cr_assert_eq(decide(), ESP_VERDICT_CONTINUE);
	cr_expect(has("X-Gone") && has("X-Second 2") && has("X-Last -1"));
	cr_expect_eq(answer.nheaders, before + 3);
}

JUDGE(a_line_that_is_too_long_is_left_out)
{
	static char value[2000];

	memset(value, 'v', sizeof value);
	reply.add[0].name = ESP_STR("X");
	reply.add[0].value = (esp_str){ value, 995 };          /* and "X: " */
	reply.add[1].name = ESP_STR("Y");
	reply.add[1].value = (esp_str){ value, 996 };
	reply.nadd = 2;
	decide();
	for (uint32_t i = 0; i < answer.nheaders; i++)
		cr_expect(answer.headers[i].ptr[0] != 'Y' && answer.headers[i].len <= 998);
}

JUDGE(the_subject_is_rewritten_only_when_asked_for)
{
	reply.action = ACTION_SUBJECT;
	reply.subject = ESP_STR("[spam] gr\xc3\xbc\xc3\x9f");
	decide();
	cr_expect(!has("Subject"));
	settings.rewrite_subject = 1;
	decide();
	cr_expect(has("Subject"));
	reply.subject = ESP_STR("bad \xff");
	cr_expect_eq(decide(), ESP_VERDICT_CONTINUE);
	cr_expect(!has("Subject"), "the old one stays");
}

JUDGE(the_text_for_the_peer_is_rspamds_or_ours)
{
	reply.action = ACTION_REJECT;
	decide();
	cr_expect(esp_str_eq(answer.text, ESP_STR("this looks like spam")));
	reply.message = ESP_STR("Gtube pattern");
	decide();
	cr_expect(esp_str_eq(answer.text, ESP_STR("Gtube pattern")));
	cr_expect_eq(answer.enhanced[0], 5);
	reply.action = ACTION_SOFT_REJECT;
	decide();
	cr_expect_eq(answer.enhanced[0], 4);
}

JUDGE(what_was_skipped_has_no_score)
{
	reply.skipped = 1;
	cr_expect_eq(decide(), ESP_VERDICT_CONTINUE);
	cr_expect(!answer.has_score && !answer.ntags && !answer.nheaders);
	reply.action = ACTION_GREYLIST;
	cr_expect_eq(decide(), ESP_VERDICT_DEFER);
}

JUDGE(what_is_too_large_has_a_policy_of_its_own)
{
	static const struct { enum above above; esp_verdict v;
	} want[] = { { ABOVE_CONTINUE, ESP_VERDICT_CONTINUE }, { ABOVE_DEFER, ESP_VERDICT_DEFER },
		{ ABOVE_REJECT, ESP_VERDICT_REJECT }, { ABOVE_QUARANTINE, ESP_VERDICT_CONTINUE } };

	for (size_t i = 0; i < 4; i++) {
		settings.above = want[i].above;
		answer = (esp_answer){ .size = sizeof answer };
		cr_expect_eq(judge_large(&settings, arena, &answer), want[i].v);
		cr_expect(!answer_fault(&answer) && has("X-Spam-Status: No, not looked at: too large"));
		cr_expect_eq(answer.folder.len != 0, want[i].above == ABOVE_QUARANTINE);
	}
}

static esp_verdict look_for_foreign(const char *header)
{
	answer = (esp_answer){ .size = sizeof answer };
	return judge_foreign(str(header), arena, &answer);
}

JUDGE(what_others_thought_of_it_is_left_out_by_whatever_name)
{
	cr_assert_eq(
		look_for_foreign("Subject: X-Spam: no\r\nX-Spa: m\r\nX-Rspam: x\r\nX-\r\n\tSpam: x\r\n\r\nX-Spam: body\r\n"),
		ESP_VERDICT_CONTINUE);
	cr_expect_eq(answer.nheaders, 0);
	cr_assert_eq(
		look_for_foreign("X-Spam-Details: a\r\nx-SPAM: b\r\nX-Spam_bar : -\r\nX-Rspamd-Queue-Id: c\r\n"
						 "X-Spam-details: d\r\nX-Spam\x01: e\r\nX-Spamd-Result: f\r\n\tg\r\nX-Spam\xc3\xa4: h\r\n\r\n"),
		ESP_VERDICT_CONTINUE);
	cr_expect(!answer_fault(&answer));
	cr_expect(has("X-Spam-Details") && has("x-SPAM") && has("X-Spam_bar") && has("X-Rspamd-Queue-Id") &&
		has("X-Spamd-Result"));
	cr_expect_eq(answer.nheaders, 5, "each once");
}

JUDGE(more_kinds_of_foreign_fields_than_can_be_left_out_are_refused)
{
	static char text[8192];

	for (int i = 0; i < 64; i++)
		add_field(text, sizeof text, i);
	for (int i = 0; i < 64; i++)
		add_field(text, sizeof text, i);
	cr_expect_eq(look_for_foreign(text), ESP_VERDICT_CONTINUE);
	cr_expect(answer.nheaders == 64 && !answer_fault(&answer));
	add_field(text, sizeof text, 64);
	cr_expect_eq(look_for_foreign(text), ESP_VERDICT_REJECT);
	cr_expect(answer.smtp_code == 554 && !answer_fault(&answer));
}

JUDGE(without_memory_it_cannot_decide)
{
	esp_arena *tiny = arena_new(&mem, "tiny", 512);

	reply.action = ACTION_NONE;
	answer = (esp_answer){ .size = sizeof answer };
	cr_expect_eq(judge(&settings, tiny, &reply, &answer), ESP_VERDICT_FAIL);
	arena_free(tiny);
}
