/* modules/common: the JSON writer against every byte; who is asked of several addresses; the two lines of a trouble;
 * the end of a long wait; who says what in a SASL exchange. */
#include "tests/support/test.h"

#include "core/base/arena.h"
#include "modules/common/breathe.h"
#include "modules/common/failover.h"
#include "modules/common/json.h"
#include "modules/common/sasl.h"
#include "modules/common/seldom.h"
#include "modules/common/trouble.h"

/* --- json ----------------------------------------------------------------------------------------------------- */

struct sink { char text[4096]; size_t len, cap; };
static esp_status to_sink(void *arg, esp_str piece)
{
	struct sink *s = arg;

	if (piece.len > (s->cap ? s->cap : sizeof s->text - 1) - s->len)
		return ESP_E2BIG;
	memcpy(s->text + s->len, piece.ptr, piece.len);
	s->len += piece.len;
	s->text[s->len] = '\0';
	return ESP_OK;
}

Test(json, every_byte_becomes_a_valid_string)
{
	for (unsigned b = 0; b < 256; b++) {
		static struct sink s;
		s.len = 0;
		char byte = (char)b, want[16];
		struct json j;

		json_begin_sink(&j, to_sink, &s);
		json_str(&j, NULL, (esp_str){ &byte, 1 });
		cr_assert_eq(json_end(&j), ESP_OK);
		if (b == '"' || b == '\\')
			snprintf(want, sizeof want, "\"\\%c\"", (char)b);
		else if (b < 0x20 || b == 0x7f)
			snprintf(want, sizeof want, "\"\\u%04x\"", b);
		else if (b < 0x80)
			snprintf(want, sizeof want, "\"%c\"", (char)b);
		else
			snprintf(want, sizeof want, "\"\\ufffd\"");
		cr_assert_str_eq(s.text, want);
	}
}

static const char *string_of(const char *text, size_t n)
{
	static struct sink s;
	struct json j;

	s.len = 0;
	json_begin_sink(&j, to_sink, &s);
	json_str(&j, NULL, (esp_str){ text, n });
	cr_assert_eq(json_end(&j), ESP_OK);
	return s.text;
}

Test(json, utf8_stays_and_what_only_looks_like_it_does_not)
{
	cr_assert_str_eq(string_of("\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80", 9), "\"\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80\"");
	cr_assert_str_eq(string_of("\xc0\x80", 2), "\"\\ufffd\\ufffd\"");                 /* overlong */
	cr_assert_str_eq(string_of("\xed\xa0\x80", 3), "\"\\ufffd\\ufffd\\ufffd\"");      /* a surrogate */
	cr_assert_str_eq(string_of("\xf4\x90\x80\x80", 4), "\"\\ufffd\\ufffd\\ufffd\\ufffd\"");
	cr_assert_str_eq(string_of("a\xe2\x82", 3), "\"a\\ufffd\\ufffd\"");               /* cut short */
	cr_assert_str_eq(string_of("", 0), "\"\"");
}

Test(json, commas_stand_between_and_nowhere_else)
{
	static struct sink s;
	struct json j;

	json_begin_sink(&j, to_sink, &s);
	json_open(&j, NULL, '{');
	json_int(&j, "least", INT64_MIN);
	json_bool(&j, "yes", 1);
	json_time(&j, "when", 1763799326);
	json_time(&j, "never", 0);
	json_open(&j, "list", '[');
	json_open(&j, NULL, '{');
	json_close(&j, '}');
	json_cstr(&j, NULL, "x");
	json_close(&j, ']');
	json_close(&j, '}');
	cr_assert_eq(json_end(&j), ESP_OK);
	cr_assert_str_eq(s.text, "{\"least\":-9223372036854775808,\"yes\":true,"
	                         "\"when\":\"2025-11-22T08:15:26Z\",\"never\":null,\"list\":[{},\"x\"]}");
}

Test(json, errors_stick_and_depth_is_bounded)
{
	static struct sink s = { .cap = 3 };
	struct json j;

	json_begin_sink(&j, to_sink, &s);
	json_cstr(&j, NULL, "too long for the sink");
	json_int(&j, NULL, 1);
	cr_assert_eq(json_end(&j), ESP_E2BIG);
	cr_assert_leq(s.len, 3);
	s.len = s.cap = 0;
	json_begin_sink(&j, to_sink, &s);
	for (int i = 0; i < 3 * JSON_DEPTH; i++)
		json_open(&j, NULL, '[');
	cr_assert_eq(json_end(&j), ESP_E2BIG);
}

/* --- trouble -------------------------------------------------------------------------------------------------- */

static esp_nsec clock_at;
static esp_nsec clock_now(void) { return clock_at; }
static char said[256];
static int lines;
static int32_t log_all(const esp_module *self, int32_t level)
{
	(void)self;
	return level != 0;
}
static void log_say(
	const esp_module *self, int32_t level, const char *text, const esp_field *f, uint32_t n, uint32_t size)
{
	(void)self;
	(void)size;
	lines++;
	snprintf(said, sizeof said, "%d %s %s=%lld %s=%lld", (int)level, text, f[0].key, (long long)f[0].i,
		n > 1 ? f[1].key : "", n > 1 ? (long long)f[1].i : 0);
}

Test(trouble, has_one_line_when_it_begins_and_one_when_it_is_over)
{
	static const esp_log_api log = { .size = sizeof log, .enabled = log_all, .write = log_say };
	static const esp_loop_api loop = { .size = sizeof loop, .clock = clock_now };
	static const esp_core core = { .log = &log, .loop = &loop };
	static const struct trouble_text text = { "it waits", "it goes on" };
	struct trouble t = { 0 };
	char want[256];

	trouble_note(&t, &core, NULL, &text, ESP_OK);
	trouble_note(&t, &core, NULL, &text, ESP_ECANCELED);
	cr_assert_eq(lines, 0, "nothing happened yet");
	for (int round = 1; round <= 2; round++) {
		for (clock_at = 100; clock_at < 105; clock_at++)
			trouble_note(&t, &core, NULL, &text, ESP_EBUSY);
		cr_assert_eq(lines, 2 * round - 1);
		snprintf(want, sizeof want, "%d it waits status=%d =0", ESP_LOG_WARNING, ESP_EBUSY);
		cr_assert_str_eq(said, want);
		trouble_note(&t, &core, NULL, &text, ESP_ECANCELED);
		trouble_note(&t, &core, NULL, &text, ESP_OK);
		trouble_note(&t, &core, NULL, &text, ESP_OK);
		cr_assert_eq(lines, 2 * round);
		snprintf(want, sizeof want, "%d it goes on failed=5 lasted=5", ESP_LOG_NOTICE);
		cr_assert_str_eq(said, want);
	}
}

/* --- breathe --------------------------------------------------------------------------------------------------- */

static int waits, looks, stop, stop_at;
static esp_status wait_ends;           /* of the wait in which `stop` is set */
static esp_nsec deadline;
static void look(void) { looks++; }
static esp_nsec set_deadline(esp_nsec when)
{
	deadline = when;
	return 0;
}
static esp_status wait_a_while(esp_fcond *c)
{
	(void)c;
	stop = ++waits == stop_at;
	clock_at = stop && wait_ends == ESP_OK ? clock_at + 1 : deadline;
	return stop ? wait_ends : ESP_ETIMEDOUT;
}

static esp_status wait_seconds(int seconds, int stopped_in, esp_status ends)
{
	static const esp_loop_api loop = { .size = sizeof loop, .now = clock_now };
	static const esp_fiber_api fiber = { .size = sizeof fiber, .wait = wait_a_while, .set_deadline = set_deadline };
	static const esp_host host = { .size = sizeof host, .quiesce = look };
	static const esp_core core = { .loop = &loop, .fiber = &fiber, .host = &host };
	esp_fcond c = { 0 };

	waits = looks = stop = 0;
	stop_at = stopped_in;
	wait_ends = ends;
	return breathe_wait(&core, &c, seconds * ESP_SEC, &stop);
}

Test(breathe, a_wait_looks_at_the_configuration_every_second_and_ends_in_time)
{
	clock_at = 5;
	cr_assert_eq(wait_seconds(10, 0, ESP_OK), ESP_ETIMEDOUT);
	cr_assert(waits == 10 && looks == 11 && clock_at == 5 + 10 * ESP_SEC && deadline == 0);
}

Test(breathe, a_wait_ends_when_it_is_stopped)
{
	cr_assert_eq(wait_seconds(10, 3, ESP_OK), ESP_OK);
	cr_assert(waits == 3 && clock_at < 3 * ESP_SEC);
	/* a second had ended, the fiber was about to run: the signal found nobody */
	cr_assert_eq(wait_seconds(10, 3, ESP_ETIMEDOUT), ESP_OK);
	cr_assert_eq(waits, 3);
	cr_assert_eq(wait_seconds(10, 3, ESP_ECANCELED), ESP_ECANCELED);
}

/* --- sasl ----------------------------------------------------------------------------------------------------- */

static void *arena_alloc_it(esp_arena *a, size_t n) { return arena_alloc(a, n); }
static const esp_mem_api mem = { .size = sizeof mem, .alloc = arena_alloc_it };

/* A client that answers each challenge with the next line, and a mechanism that ends with "end". */
static struct {
	const char *const *line;   /* NULL: it has gone */
	int holds;                 /* services are held */
	uint32_t steps;
	char said[512], heard[256];
} peer;

static void give_back(void) { peer.holds = 0; }
static esp_status to_peer(esp_conn *c, const void *data, size_t n)
{
	(void)c;
	cr_assert(!peer.holds, "who reads slowly must not keep the store from being replaced");
	strncat(peer.said, data, n);
	return ESP_OK;
}
static esp_status from_peer(esp_conn *c, esp_str *ret)
{
	(void)c;
	cr_assert(!peer.holds);
	if (!*peer.line)
		return ESP_ECLOSED;
	*ret = (esp_str){ *peer.line, strlen(*peer.line) };
	peer.line++;
	return ESP_OK;
}
static esp_status step(esp_sasl *s, esp_str in, esp_str *out, esp_identity *who)
{
	(void)s;
	(void)who;
	peer.holds = 1;
	peer.steps++;
	strcat(peer.heard, in.ptr ? "<" : "-");
	strncat(peer.heard, in.len ? in.ptr : "", in.len);
	*out = ESP_STR("hi");
	return in.len == 3 && memcmp(in.ptr, "end", 3) == 0 ? ESP_OK : ESP_EAGAIN;
}

static esp_status talk(esp_str initial, esp_status *ret_io, const char *const *line)
{
	static const esp_host host = { .size = sizeof host, .give_back = give_back };
	static const esp_conn_api conn_api = { .size = sizeof conn_api, .write = to_peer, .read_line = from_peer };
	static const esp_auth auth = { .sasl_step = step };
	esp_conn conn = { .api = &conn_api };
	esp_arena *arena = arena_new(&mem, "sasl test", 0);
	struct sasl_talk t = { &host, &auth, &conn, arena, "+ " };
	esp_identity who;
	esp_status st;

	memset(&peer, 0, sizeof peer);
	peer.line = line;
	peer.holds = 1;
	st = sasl_exchange(&t, NULL, initial, &who, ret_io);
	arena_free(arena);
	return st;
}
#define LINES(...) (const char *const[]){ __VA_ARGS__, NULL }

Test(seldom, is_said_at_once_and_then_once_a_minute_with_how_often_it_was)
{
	struct seldom s = { 0 };

	cr_assert_eq(seldom_due(&s, 5 * ESP_SEC), 1u);
	cr_assert_eq(seldom_due(&s, 6 * ESP_SEC), 0u);
	cr_assert_eq(seldom_due(&s, 65 * ESP_SEC - 1), 0u);
	cr_assert_eq(seldom_due(&s, 65 * ESP_SEC), 3u);
	cr_assert_eq(seldom_due(&s, 66 * ESP_SEC), 0u);
}

Test(sasl, says_each_challenge_while_no_service_is_held)
{
	esp_status io;

	cr_assert_eq(talk((esp_str){ NULL, 0 }, &io, LINES("YQ==", "", "ZW5k")), ESP_OK);
	cr_assert_eq(io, ESP_OK);
	cr_assert_str_eq(peer.said, "+ aGk=\r\n+ aGk=\r\n+ aGk=\r\n");
	cr_assert_str_eq(peer.heard, "-<a<<end");
}

Test(sasl, takes_an_initial_response_which_may_be_empty)
{
	esp_status io;

	cr_assert_eq(talk(ESP_STR("ZW5k"), &io, LINES("*")), ESP_OK);
	cr_assert_str_eq(peer.said, "");
	cr_assert_eq(talk(ESP_STR("="), &io, LINES("ZW5k")), ESP_OK);
	cr_assert_str_eq(peer.heard, "<<end");
	cr_assert_eq(talk(ESP_STR("*"), &io, LINES("ZW5k")), ESP_EPROTO);
	cr_assert_eq(peer.steps, 0);
}

Test(sasl, ends_when_it_is_given_up_cannot_be_read_or_takes_too_long)
{
	esp_status io;

	cr_assert_eq(talk((esp_str){ NULL, 0 }, &io, LINES("*")), ESP_ECANCELED);
	cr_assert_eq(talk((esp_str){ NULL, 0 }, &io, LINES("=")), ESP_EPROTO);
	cr_assert_eq(talk((esp_str){ NULL, 0 }, &io, LINES("a", "a")), ESP_EPROTO);
	cr_assert_eq(talk((esp_str){ NULL, 0 }, &io, LINES("", "", "", "", "", "", "", "", "", "ZW5k")), ESP_EPROTO);
	cr_assert_eq(peer.steps, 10);
	cr_assert_eq(io, ESP_OK);
	(void)talk((esp_str){ NULL, 0 }, &io, LINES("YQ=="));
	cr_assert_eq(io, ESP_ECLOSED);
	cr_assert_str_eq(peer.heard, "-<a");
}

/* --- failover --------------------------------------------------------------------------------------------------- */

static const char *order(struct failover *f, esp_nsec now)
{
	static char text[FAILOVER_MOST + 1];
	struct failover_turn turn;
	uint32_t i, n = 0;

	for (failover_begin(&turn, f, now); failover_next(&turn, &i);)
		text[n++] = (char)('0' + i);
	text[n] = '\0';
	return text;
}

Test(failover, who_is_well_is_asked_in_the_order_of_the_list)
{
	static struct failover f = { .n = 3 };

	cr_assert_str_eq(order(&f, 0), "012");
	cr_assert_eq(failover_note(&f, 0, 0, 1), 0, "nothing new");
	cr_assert_str_eq(order(&f, ESP_SEC), "012");
}

Test(failover, who_failed_comes_last_until_his_rest_is_over)
{
	static struct failover f = { .n = 3 };
	esp_nsec now = 10 * ESP_SEC;

	cr_assert_eq(failover_note(&f, 0, now, 0), 1);
	cr_assert(failover_is_down(&f, 0) && !failover_is_down(&f, 1));
	cr_assert_str_eq(order(&f, now), "120");
	cr_assert_eq(failover_note(&f, 1, now + ESP_SEC / 2, 0), 1);
	cr_assert_str_eq(order(&f, now + ESP_SEC / 2), "201", "the one that comes back first");
	cr_assert_str_eq(order(&f, now + FAILOVER_FIRST), "021");
	cr_assert_str_eq(order(&f, now + FAILOVER_FIRST), "210", "one caller tries it");
	cr_assert_eq(failover_note(&f, 0, now + FAILOVER_FIRST, 1), 1);
	cr_assert_str_eq(order(&f, now + FAILOVER_FIRST), "021");
}

Test(failover, the_rest_grows_with_each_try_and_has_an_end)
{
	static struct failover f = { .n = 2 };
	esp_nsec now = ESP_SEC, rest = FAILOVER_FIRST;

	(void)failover_note(&f, 0, now, 0);
	for (int i = 0; i < 12; i++) {
		cr_assert_str_eq(order(&f, now + rest - 1), "10", "try %d", i);
		now += rest;
		cr_assert_str_eq(order(&f, now), "01", "try %d", i);
		cr_assert_eq(failover_note(&f, 0, now, 0), 0, "it was down before");
		rest = rest * 2 < FAILOVER_LAST ? rest * 2 : FAILOVER_LAST;
	}
	cr_assert_eq(rest, FAILOVER_LAST);
}

Test(failover, failures_that_come_together_count_once)
{
	static struct failover f = { .n = 2 };

	for (int i = 0; i < 100; i++)
		cr_assert_eq(failover_note(&f, 0, ESP_SEC, 0), i == 0);
	cr_assert_str_eq(order(&f, ESP_SEC + FAILOVER_FIRST), "01");
}

Test(failover, when_all_are_down_all_are_tried_all_the_same)
{
	static struct failover f = { .n = 2 };

	(void)failover_note(&f, 0, ESP_SEC, 0);
	(void)failover_note(&f, 1, ESP_SEC, 0);
	cr_assert_str_eq(order(&f, ESP_SEC), "01");
}

Test(failover, who_need_not_be_tried_is_not_put_off)
{
	static struct failover f = { .n = 2 };
	esp_nsec now = ESP_SEC;

	(void)failover_note(&f, 1, now, 0);
	for (int i = 0; i < 5; i++)
		cr_assert_str_eq(order(&f, now += FAILOVER_FIRST), "01");
	(void)failover_note(&f, 0, now, 0);
	cr_assert_str_eq(order(&f, now), "10");
}
