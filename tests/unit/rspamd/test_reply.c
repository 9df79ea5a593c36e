/* reply of filter/rspamd: what is read of rspamd's JSON, and that nothing in it is trusted. */
#include "tests/support/test.h"

#include "modules/common/httpjson.h"
#include "modules/filter/rspamd/reply.h"

#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>

static struct json_object *json;
static struct reply reply;
static esp_err err;

static void tear_down(void)
{
	json_object_put(json);
	json = NULL;
}

static esp_status read_text(const char *text)
{
	tear_down();
	err = (esp_err)ESP_ERR_INIT;
	json = httpjson_read((esp_str){ text, strlen(text) });
	return json ? reply_read(json, &reply, &err) : ESP_EPROTO;
}

/* A reply that is right but for these members. */
static esp_status read_with(const char *members)
{
	char text[2048];

	snprintf(text, sizeof text, "{\"action\":\"no action\",\"score\":1.5%s%s}", *members ? "," : "", members);
	return read_text(text);
}

static void expect(esp_str s, const char *want)
{
	cr_expect(esp_str_eq(s, (esp_str){ want, strlen(want) }), "\"%.*s\", not \"%s\"", ESP_FMT(s), want);
}

#define REPLY(name) Test(reply, name, .fini = tear_down)

REPLY(every_part_is_read)
{
	cr_assert_eq(
		read_text("{\"is_skipped\":false,\"score\":6.7,\"required_score\":15,\"action\":\"add header\",\"symbols\":{"
				  "\"A\":{\"name\":\"A\",\"score\":-0.1},\"RULE\":{\"score\":4.0,\"options\":[\"x\"]}},\"messages\":{"
				  "\"smtp_message\":\"go"
				  " away\"},\"subject\":\"*** "
				  "hi\",\"milter\":{\"remove_headers\":{\"X-Spam\":0,\"Y\":[1,-2]},\"add_headers\":{\"X-A\":"
				  "{\"order\":-1,\"value\":\"++\"},\"X-B\":\"b\",\"X-C\":[\"1\",{\"value\":\"2\"}]}}}"),
		ESP_OK);
	cr_assert_eq(reply.action, ACTION_ADD_HEADER);
	cr_assert(!reply.skipped && reply.score == 6.7 && reply.required == 15);
	expect(reply.message, "go away");
	expect(reply.subject, "*** hi");
	cr_assert_eq(reply.nsymbols, 2);
	expect(reply.symbol[0].name, "RULE");
	cr_assert_eq(reply.symbol[1].score, -0.1);
	cr_assert_eq(reply.nadd, 4);
	expect(reply.add[0].name, "X-A");
	expect(reply.add[0].value, "++");
	expect(reply.add[3].name, "X-C");
	expect(reply.add[3].value, "2");
	cr_assert_eq(reply.nremove, 3);
	cr_assert(reply.remove[0].which == 0 && reply.remove[1].which == 1 && reply.remove[2].which == -2);
}

REPLY(every_action_of_rspamd_is_known_and_one_of_its_administrator_is_other)
{
	static const char *const others[] = { "Reject", "reject ", "custom", "no", "add_header", "other" };
	char text[200];

	for (int i = 0; i < ACTIONS; i++) {
		snprintf(text, sizeof text, "{\"score\":0,\"action\":\"%s\"}", action_name((enum action)i));
		cr_expect_eq(read_text(text), ESP_OK);
		cr_expect_eq(reply.action, (enum action)i);
	}
	for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
		snprintf(text, sizeof text, "{\"score\":0,\"action\":\"%s\"}", others[i]);
		cr_expect_eq(read_text(text), ESP_OK, "%s", others[i]);
		cr_expect_eq(reply.action, ACTION_OTHER, "%s", others[i]);
	}
	cr_expect_eq(read_text("{\"score\":0,\"action\":\"\"}"), ESP_EPROTO);
	cr_expect(strstr(err.text, "action"), "%s", err.text);
}

REPLY(the_milter_section_may_take_the_action_back)
{
	static const struct { const char *members; int no_action; enum action on_reject; } list[] = {
		{ "", 0, ACTION_REJECT }, { "\"milter\":{}", 0, ACTION_REJECT }, { "\"no_action\":true", 0, ACTION_REJECT },
		{ "\"milter\":{\"no_action\":true}", 1, ACTION_REJECT },
		{ "\"milter\":{\"no_action\":false}", 0, ACTION_REJECT },
		{ "\"milter\":{\"no_action\":\"true\"}", 0, ACTION_REJECT },
		{ "\"milter\":{\"no_action\":1}", 0, ACTION_REJECT },
		{ "\"milter\":{\"reject\":\"discard\"}", 0, ACTION_DISCARD },
		{ "\"milter\":{\"reject\":\"quarantine\",\"no_action\":true}", 1, ACTION_QUARANTINE },
		{ "\"milter\":{\"reject\":\"reject\"}", 0, ACTION_REJECT },
		{ "\"milter\":{\"reject\":\"\"}", 0, ACTION_REJECT },
		{ "\"milter\":{\"reject\":\"discard \"}", 0, ACTION_REJECT },
		{ "\"milter\":{\"reject\":true}", 0, ACTION_REJECT },
		{ "\"milter\":{\"reject\":[\"discard\"]}", 0, ACTION_REJECT } };

	for (size_t i = 0; i < sizeof list / sizeof list[0]; i++) {
		cr_assert_eq(read_with(list[i].members), ESP_OK);
		cr_expect_eq(reply.no_action, list[i].no_action, "%s", list[i].members);
		cr_expect_eq(reply.on_reject, list[i].on_reject, "%s", list[i].members);
	}
}

REPLY(what_decides_must_be_there_and_be_right)
{
	static const char *const wrong[] = { "[]", "3", "\"reject\"", "null", "{}", "{\"action\":\"reject\"}",
		"{\"score\":1}", "{\"action\":3,\"score\":1}", "{\"action\":[\"reject\"],\"score\":1}",
		"{\"action\":{\"reject\":1},\"score\":1}", "{\"action\":null,\"score\":1}",
		"{\"action\":\"reject\",\"score\":\"15\"}", "{\"action\":\"reject\",\"score\":null}",
		"{\"action\":\"reject\",\"score\":NaN}", "{\"action\":\"reject\",\"score\":Infinity}",
		"{\"action\":\"reject\",\"score\":-Infinity}", "{\"action\":\"reject\",\"score\":1e300}",
		"{\"action\":\"reject\",\"score\":-1000001}", "{\"action\":\"reject\",\"score\":[1]}",
		"{\"action\":\"reject\",\"score\":99999999999999999999999}", "{\"error\":\"no such worker\"}" };

	for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
		cr_expect_eq(read_text(wrong[i]), ESP_EPROTO, "%s", wrong[i]);
}

REPLY(what_adorns_is_left_out_where_it_is_wrong)
{
	static const char *const wrong[] = { "\"symbols\":[]", "\"symbols\":\"A\"", "\"symbols\":{\"A\":1}",
		"\"symbols\":{\"A\":{\"score\":\"x\"}}", "\"symbols\":{\"A\":{}}", "\"symbols\":{\"\":{\"score\":1}}",
		"\"symbols\":{\"A\":{\"score\":NaN}}", "\"messages\":[\"x\"]", "\"messages\":{\"smtp_message\":7}",
		"\"messages\":null", "\"subject\":{}", "\"milter\":[]", "\"milter\":{\"add_headers\":[],\"remove_headers\":[]}",
		"\"milter\":{\"add_headers\":{\"X\":7},\"remove_headers\":{\"X\":\"0\"}}",
		"\"milter\":{\"add_headers\":{\"X\":[[\"a\"]]},\"remove_headers\":{\"X\":[[0]]}}",
		"\"milter\":{\"add_headers\":{\"X\":{\"value\":[]}},\"remove_headers\":{\"X\":1.5}}",
		"\"milter\":{\"add_headers\":{\"X\":{\"order\":1}},\"remove_headers\":{\"X\":10000}}",
		"\"milter\":{\"add_headers\":{\"\":\"a\"},\"remove_headers\":{\"\":0,\"X\":-10000}}",
		"\"required_score\":\"x\"", "\"required_score\":-1", "\"required_score\":1e99", "\"is_skipped\":\"true\"" };

	for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
		cr_assert_eq(read_with(wrong[i]), ESP_OK, "%s", wrong[i]);
		cr_expect(
			reply.nsymbols + reply.nadd + reply.nremove + reply.message.len + reply.subject.len == 0, "%s", wrong[i]);
		cr_expect(reply.required == 0 && !reply.skipped && reply.score == 1.5, "%s", wrong[i]);
	}
}

static void add(char *text, size_t room, const char *fmt, ...) ESP_PRINTF(3, 4);
static void add(char *text, size_t room, const char *fmt, ...)
{
	size_t n = strlen(text);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text + n, room - n, fmt, ap);
	va_end(ap);
}

REPLY(of_too_many_there_are_the_first_and_of_symbols_the_heaviest)
{
	size_t room = 200000;
	char *text = calloc(1, room);

	add(text, room, "{\"action\":\"reject\",\"score\":1,\"symbols\":{");
	for (int i = 0; i < 1000; i++)
		add(text, room, "%s\"S%d\":{\"score\":%d}", i ? "," : "", i, (i * 37) % 1000 - 500);
	add(text, room, "},\"milter\":{\"remove_headers\":{");
	for (int i = 0; i < 300; i++)
		add(text, room, "%s\"R%d\":[0,0,0]", i ? "," : "", i);
	add(text, room, "},\"add_headers\":{");
	for (int i = 0; i < 300; i++)
		add(text, room, "%s\"A%d\":\"v\"", i ? "," : "", i);
	add(text, room, "}}}");
	cr_assert_eq(read_text(text), ESP_OK);
	cr_assert_eq(reply.nsymbols, REPLY_SYMBOLS);
	cr_assert_eq(reply.symbol[0].score, -500);
	cr_assert(reply.symbol[1].score == 499 || reply.symbol[1].score == -499);
	cr_assert(reply.nadd == REPLY_FIELDS && reply.nremove == REPLY_FIELDS);
	free(text);
}

REPLY(long_names_and_values_are_left_out_and_a_long_text_is_cut)
{
	size_t room = 100000;
	char *text = calloc(1, room), *x = malloc(REPLY_VALUE + 2);

	memset(x, 'x', REPLY_VALUE + 1);
	x[REPLY_VALUE + 1] = '\0';
	add(text, room,
		"{\"action\":\"reject\",\"score\":1,\"subject\":\"%s\",\"messages\":{\"smtp_message\":\"%s\"},\"symbols\":{\"%."
		"65s\":"
		"{\"score\":1}},\"milter\":{\"add_headers\":{\"X\":\"%s\",\"%.65s\":\"v\",\"Y\":\"%s\"}}}",
		x, x, x, x, x, x + 1);
	cr_assert_eq(read_text(text), ESP_OK);
	cr_assert_eq(reply.message.len, REPLY_MESSAGE);
	cr_assert(reply.subject.len == 0 && reply.nsymbols == 0 && reply.nadd == 1);
	expect(reply.add[0].name, "Y");
	free(text);
	free(x);
}

/* A reply that ends anywhere is none: rspamd that dies in the middle passes nothing. */
REPLY(cut_at_any_byte_it_decides_nothing)
{
	static const char whole[] = "{\"score\":6.7,\"action\":\"no action\",\"symbols\":{\"A\":{\"score\":1}}}";
	char part[sizeof whole];

	cr_assert_eq(read_text(whole), ESP_OK);
	for (size_t n = 0; n + 1 < sizeof whole; n++) {
		memcpy(part, whole, n);
		part[n] = '\0';
		cr_expect_eq(read_text(part), ESP_EPROTO, "%zu bytes", n);
	}
}
