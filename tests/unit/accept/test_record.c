/* A trace as text: what is written is read again, whatever filters and peers said, and no more than there is room. */
#include "modules/delivery/accept/record_text.h"
#include "tests/support/test.h"

#include <stdlib.h>

static const char *point_name(esp_point p) { return p == ESP_AT_RCPT ? "rcpt" : "message"; }
static const char *verdict_name(esp_verdict v) { return v == ESP_VERDICT_CONTINUE ? "continue" : "reject"; }
static const esp_hook_api hook = { .size = sizeof hook, .point_name = point_name, .verdict_name = verdict_name };

static esp_rcpt rcpt = { .size = sizeof rcpt, .address = { "a@b.test", 8 }, .verdict = ESP_VERDICT_CONTINUE };
static esp_rcpt *to[64];
static esp_rcpt_group group;
static esp_trace_call calls[256];
static esp_trace trace = { .size = sizeof trace, .call_size = sizeof calls[0], .calls = calls };
static esp_txn txn = { .size = sizeof txn, .nrcpt = 1, .ngroups = 1, .rcpt = to, .groups = &group, .trace = &trace };
static esp_buf buf;

static void set_up(void)
{
	for (size_t i = 0; i < 64; i++)
		to[i] = &rcpt;
	for (size_t i = 0; i < 256; i++)
		calls[i] = (esp_trace_call){ .size = sizeof calls[i], .point = ESP_AT_MESSAGE, .module = "spam" };
	esp_buf_init(&buf, 2 * RECORD_MAX);
}
static void tear_down(void) { esp_buf_free(&buf); }

static uint32_t read_lines(char kind, esp_str f[RECORD_FIELDS], uint32_t which)
{
	esp_str rest = esp_buf_str(&buf), now[RECORD_FIELDS];
	uint32_t n = 0;

	while (record_next(&rest, now))
		if (now[0].len == 1 && now[0].ptr[0] == kind && n++ == which)
			memcpy(f, now, sizeof now);
	return n;
}

#define expect(f, want) cr_assert(esp_str_eq((f), ESP_STR(want)), "got \"%.*s\"", ESP_FMT(f))
#define RECORD(name) Test(record, name, .init = set_up, .fini = tear_down)

RECORD(every_field_comes_back_where_it_was)
{
	esp_str f[RECORD_FIELDS];

	trace.ncalls = 2;
	calls[0] = (esp_trace_call){ .size = sizeof calls[0],
		.point = ESP_AT_RCPT,
		.to = ESP_STR("a@b.test"),
		.module = "grey",
		.verdict = ESP_VERDICT_REJECT,
		.flags = ESP_TRACE_SHADOW | ESP_TRACE_FAILED | ESP_TRACE_LATE,
		.msec = 12,
		.reason = ESP_STR("slow") };
	calls[1] = (esp_trace_call){ .size = sizeof calls[1], .point = ESP_AT_MESSAGE, .index = 3, .module = "spam",
		.flags = ESP_TRACE_SCORE, .score = -7.5, .found = ESP_FOUND_VIRUS, .name = ESP_STR("Eicar"),
		.folder = ESP_STR("Junk") };
	group.outcome = (esp_outcome){ .by = "spam", .answer = { .has_score = 1, .score = 3, .folder = ESP_STR("Junk"),
		.text = ESP_STR("said to the peer") } };
	cr_assert_eq(record_write(&txn, &hook, &buf), ESP_OK);
	cr_assert_eq(read_lines('r', f, 0), 1);
	expect(f[R_TO], "a@b.test");
	expect(f[R_VERDICT], "continue");
	expect(f[R_SCORE], "3");
	expect(f[R_FOLDER], "Junk");
	expect(f[R_BY], "spam");
	expect(f[R_REASON], "said to the peer");
	cr_assert_eq(read_lines('c', f, 0), 2);
	expect(f[C_POINT], "rcpt");
	expect(f[C_GROUP], "");
	expect(f[C_TO], "a@b.test");
	expect(f[C_MODULE], "grey");
	expect(f[C_VERDICT], "reject");
	expect(f[C_MSEC], "12");
	expect(f[C_SCORE], "");
	expect(f[C_REASON], "slow");
	cr_assert(record_flag(f, FLAG_SHADOW) && record_flag(f, FLAG_FAILED) && record_flag(f, FLAG_LATE));
	cr_assert(!record_flag(f, FLAG_STOPPED));
	cr_assert_eq(read_lines('c', f, 1), 2);
	expect(f[C_GROUP], "3");
	expect(f[C_SCORE], "-7.5");
	expect(f[C_FOUND], "virus");
	expect(f[C_NAME], "Eicar");
	expect(f[C_FOLDER], "Junk");
}

RECORD(what_a_filter_says_cannot_forge_a_line_or_a_field)
{
	esp_str f[RECORD_FIELDS];

	trace.ncalls = 1;
	calls[0].reason = ESP_STR("x\ty\nr\tme@b.test\taccept\r\x7f\0 caf\xc3");
	cr_assert_eq(record_write(&txn, &hook, &buf), ESP_OK);
	cr_assert_eq(read_lines('r', f, 0), 1);
	cr_assert_eq(read_lines('c', f, 0), 1);
	expect(f[C_REASON], "x y r me@b.test accept    caf\xef\xbf\xbd");
}

RECORD(a_full_record_counts_what_it_leaves_out_and_keeps_room_for_who_spoke)
{
	static char reason[300];
	esp_str f[RECORD_FIELDS];
	uint32_t kept;

	memset(reason, 'x', sizeof reason);
	txn.nrcpt = 64;
	trace.ncalls = 256;
	trace.dropped = 7;
	for (size_t i = 0; i < 256; i++)
		calls[i].reason = (esp_str){ reason, sizeof reason };
	calls[255].verdict = ESP_VERDICT_REJECT;
	cr_assert_eq(record_write(&txn, &hook, &buf), ESP_OK);
	cr_assert(buf.len <= RECORD_MAX, "%zu bytes", buf.len);
	cr_assert_eq(read_lines('r', f, 0), RECORD_RCPTS);
	kept = read_lines('c', f, 0);
	(void)read_lines('c', f, kept - 1);
	expect(f[C_VERDICT], "reject");
	cr_assert_eq(read_lines('d', f, 0), 1);
	cr_assert_eq((uint32_t)strtoul(f[1].ptr, NULL, 10), 7 + 256 - kept);
}

RECORD(what_rcpt_said_of_one_counts_unless_the_group_is_as_strict)
{
	esp_str f[RECORD_FIELDS];

	trace.ncalls = 1;
	rcpt.verdict = ESP_VERDICT_QUARANTINE;
	rcpt.by = "grey";
	rcpt.reason = ESP_STR("looked at first");
	cr_assert_eq(record_write(&txn, &hook, &buf), ESP_OK);
	group.outcome =
		(esp_outcome){ .verdict = ESP_VERDICT_REJECT, .by = "spam", .answer = { .text = ESP_STR("no spam") } };
	cr_assert_eq(record_write(&txn, &hook, &buf), ESP_OK);
	(void)read_lines('r', f, 0);
	expect(f[R_BY], "grey");
	expect(f[R_REASON], "looked at first");
	(void)read_lines('r', f, 1);
	expect(f[R_BY], "spam");
	expect(f[R_REASON], "no spam");
}

RECORD(of_the_groups_only_a_stricter_verdict_than_the_recipients_own_counts)
{
	esp_str f[RECORD_FIELDS];

	trace.ncalls = 1;
	rcpt.verdict = ESP_VERDICT_REJECT;
	cr_assert_eq(record_write(&txn, &hook, &buf), ESP_OK);
	(void)read_lines('r', f, 0);
	expect(f[R_VERDICT], "reject");
}
