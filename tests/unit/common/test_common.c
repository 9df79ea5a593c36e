/* modules/common: the JSON writer against every byte; the two lines of a trouble; the end of a long wait. */
#include "tests/support/test.h"

#include "modules/common/breathe.h"
#include "modules/common/json.h"
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
