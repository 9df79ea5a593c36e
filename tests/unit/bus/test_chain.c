/* Hook chains: order, groups, deadlines, failure policies, and what comes out of many answers. */
#include "core/base/status.h"

#include "bustest.h"

enum { FAKES = 12 };

/* What a made-up hook does, and what was seen of it. */
struct script {
	esp_verdict say;
	const char *text, *folder, *header, *tag;
	uint32_t code;
	double score;
	esp_nsec sleep, spin;
	int calls, canceled;
	esp_nsec deadline;
	const char *crumb;
};

static struct fake fakes[FAKES];
static struct script scripts[FAKES];
static char order[64];
static struct hook_override overrides[FAKES][ESP_AT_COUNT];
static struct chain_member members[FAKES];
static uint32_t nmembers;

static esp_verdict on_hook(esp_module *self, const void *args, esp_answer *a)
{
	struct script *s = fake_of(self)->extra;
	static _Thread_local esp_str header, tag;
	size_t n = strlen(order);

	(void)args;
	order[n] = (char)('a' + (s - scripts));
	order[n + 1] = '\0';
	s->calls++;
	s->deadline = fiber_deadline();
	s->crumb = breadcrumb_here ? breadcrumb_here->point : NULL;
	if (s->sleep && fiber_sleep_until(clock_monotonic() + s->sleep) != ESP_OK) {
		s->canceled = fiber_canceled();
		return ESP_VERDICT_FAIL;
	}
	for (esp_nsec end = clock_monotonic() + s->spin; s->spin && clock_monotonic() < end; )
		;
	if (s->text)
		a->text = (esp_str){ s->text, strlen(s->text) };
	if (s->folder)
		a->folder = (esp_str){ s->folder, strlen(s->folder) };
	if (s->header) {
		header = (esp_str){ s->header, strlen(s->header) };
		a->headers = &header;
		a->nheaders = 1;
	}
	if (s->tag) {
		tag = (esp_str){ s->tag, strlen(s->tag) };
		a->tags = &tag;
		a->ntags = 1;
	}
	a->smtp_code = s->code;
	a->has_score = s->score != 0;
	a->score = s->score;
	return s->say;
}

/* The next instance of the module list, 'a', 'b' ..., with one hook at `p`. */
static struct script *hook(
	esp_point p, int32_t priority, uint32_t group, uint32_t flags, esp_verdict on_fail, esp_nsec timeout)
{
	static const char *const names[FAKES] = { "a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l" };
	uint32_t i = nmembers++;
	const esp_hook h = { .size = sizeof h, .point = p, .priority = priority, .group = group, .timeout = timeout,
	                     .on_fail = on_fail, .flags = flags, .run = { .any = on_hook } };

	fake_init(&fakes[i], names[i]);
	fakes[i].extra = &scripts[i];
	members[i] =
		(struct chain_member){ .module = fake_pub(&fakes[i]), .instance = names[i], .overrides = overrides[i] };
	cr_assert_eq(hooks_add(fake_pub(&fakes[i]), &h), ESP_OK);
	return &scripts[i];
}

static struct script *simple(int32_t priority, esp_verdict say)
{
	struct script *s = hook(ESP_AT_MESSAGE, priority, 0, 0, 0, 0);

	s->say = say;
	return s;
}

static struct chain *build(esp_point p)
{
	esp_err err = ESP_ERR_INIT;
	struct chain *c;

	cr_assert_eq(chain_build(p, members, nmembers, &c, &err), ESP_OK, "%s", err.text);
	return c;
}

static void clear(void)
{
	for (uint32_t i = 0; i < nmembers; i++)
		hooks_forget(fake_pub(&fakes[i]));
	nmembers = 0;
	memset(scripts, 0, sizeof scripts);
	memset(overrides, 0, sizeof overrides);
	order[0] = '\0';
}

/* Run the chain of a point in the calling fiber; its strings live until the arena, which is leaked to the test's
 * end. */
static esp_arena *arena;
static esp_outcome run(esp_point p)
{
	struct chain *c = build(p);
	esp_outcome o;

	order[0] = '\0';
	chain_run(c, NULL, arena, NULL, &o);
	chain_free(c);
	return o;
}

static void in_fiber(void (*body)(void *arg))
{
	const struct log_config quiet = { .target = LOG_TO_FILE, .path = "/dev/null" };
	esp_err err = ESP_ERR_INIT;

	cr_assert_eq(log_open(&quiet, &err), ESP_OK);
	arena = arena_new(&test_mem, "test", 0);
	test_on_worker(body, NULL);
	arena_free(arena);
	clear();
	log_close();
}

#define CHAIN_TEST(suite, name) \
	static void suite##_##name##_body(void *arg); \
	Test(suite, name, .timeout = 60) { in_fiber(suite##_##name##_body); } \
	static void suite##_##name##_body(void *arg __attribute__((unused)))

#define expect_str(s, want) cr_expect(esp_str_eq((s), (esp_str){ (want), strlen(want) }), "got \"%.*s\"", ESP_FMT(s))

static uint64_t count(const char *metric, const char *labels)
{
	esp_metric m;

	cr_assert_eq(metric_declare(ESP_COUNTER, metric, labels, "", NULL, 0, &m), ESP_OK);
	return (uint64_t)metric_value(m);
}

/* --- order ------------------------------------------------------------------------------------------- */

CHAIN_TEST(filter_chain, process)
{
	esp_outcome o;

	simple(500, ESP_VERDICT_CONTINUE);
	simple(500, ESP_VERDICT_CONTINUE);
	o = run(ESP_AT_MESSAGE);
	cr_expect_eq(o.verdict, ESP_VERDICT_CONTINUE);
	cr_expect_null(o.by);
	cr_expect_str_eq(order, "ab");
	scripts[0].say = ESP_VERDICT_REJECT;
	scripts[0].text = "go away";
	o = run(ESP_AT_MESSAGE);
	cr_expect_eq(o.verdict, ESP_VERDICT_REJECT);
	cr_expect_str_eq(o.by, "a");
	expect_str(o.answer.text, "go away");
	cr_expect_str_eq(order, "a");
	cr_expect_eq(run(ESP_AT_CONNECT).verdict, ESP_VERDICT_CONTINUE, "a point without hooks has no opinion");
}

CHAIN_TEST(filter_chain, order)
{
	simple(ESP_PRIO_LATE, 0);
	simple(ESP_PRIO_NORMAL, 0);
	simple(ESP_PRIO_FIRST, 0);
	simple(ESP_PRIO_NORMAL, 0);   /* ties: the order of the module list */
	run(ESP_AT_MESSAGE);
	cr_expect_str_eq(order, "cbda");
	overrides[0][ESP_AT_MESSAGE] = (struct hook_override){ .set = OVERRIDE_PRIORITY, .priority = -1 };
	run(ESP_AT_MESSAGE);
	cr_expect_str_eq(order, "acbd");
}

CHAIN_TEST(filter_chain, error_handling)
{
	esp_outcome o;

	simple(500, ESP_VERDICT_FAIL)->text = "ignored";
	scripts[0].score = 9;
	simple(600, ESP_VERDICT_CONTINUE);
	o = run(ESP_AT_MESSAGE);
	cr_expect_eq(o.verdict, ESP_VERDICT_DEFER, "the default policy");
	cr_expect_str_eq(o.by, "a");
	expect_str(o.answer.text, "a check could not be made, try again later");
	cr_expect_eq(memcmp(o.answer.enhanced, ((uint8_t[4]){ 4, 3 }), 4), 0);
	expect_str(o.answer.reason, "it failed");
	cr_expect(!o.answer.has_score, "a failed hook's answer counts nothing");
	cr_expect_str_eq(order, "a");
	overrides[0][ESP_AT_MESSAGE] = (struct hook_override){ .set = OVERRIDE_ON_FAIL, .on_fail = ESP_VERDICT_CONTINUE };
	cr_expect_eq(run(ESP_AT_MESSAGE).verdict, ESP_VERDICT_CONTINUE);
	cr_expect_str_eq(order, "ab");
	overrides[0][ESP_AT_MESSAGE].on_fail = ESP_VERDICT_REJECT;
	cr_expect_eq(run(ESP_AT_MESSAGE).verdict, ESP_VERDICT_REJECT);
	cr_expect_eq(count("esp_hook_failed_total", "module=\"a\",point=\"message\""), 3);
	cr_expect_eq(count("esp_hook_calls_total", "module=\"a\",point=\"message\",verdict=\"fail\""), 3);
	cr_expect_eq(count("esp_hook_calls_total", "module=\"b\",point=\"message\",verdict=\"continue\""), 1);
}

CHAIN_TEST(chain, members_of_a_group_stand_at_the_place_of_the_first)
{
	struct chain *c;
	uint32_t step = 99;

	hook(ESP_AT_MESSAGE, 300, 7, 0, 0, 0);
	hook(ESP_AT_MESSAGE, 400, 0, 0, 0, 0);
	hook(ESP_AT_MESSAGE, 900, 7, 0, 0, 0);
	hook(ESP_AT_MESSAGE, 500, 7, 0, 0, 0);
	c = build(ESP_AT_MESSAGE);
	cr_assert_eq(chain_length(c), 4);
	cr_expect_str_eq(chain_entry(c, 1, &step)->instance, "d");
	cr_expect_eq(step, 0);
	cr_expect_str_eq(chain_entry(c, 2, &step)->instance, "c");
	cr_expect_str_eq(chain_entry(c, 3, &step)->instance, "b");
	cr_expect_eq(step, 1);
	chain_free(c);
	run(ESP_AT_MESSAGE);
	cr_expect_str_eq(order, "adcb");
}

Test(chain, refuses_hooks_that_break_the_contract)
{
	struct fake f;
	esp_hook good = { .size = sizeof good, .point = ESP_AT_HELO, .run = { .any = on_hook } }, h;

	fake_init(&f, "f");
	h = good; h.point = 0;
	cr_expect_eq(hooks_add(fake_pub(&f), &h), ESP_EINVAL);
	h = good; h.point = ESP_AT_COUNT;
	cr_expect_eq(hooks_add(fake_pub(&f), &h), ESP_EINVAL);
	h = good; h.run.any = NULL;
	cr_expect_eq(hooks_add(fake_pub(&f), &h), ESP_EINVAL);
	h = good; h.on_fail = ESP_VERDICT_QUARANTINE;   /* not at HELO */
	cr_expect_eq(hooks_add(fake_pub(&f), &h), ESP_EINVAL);
	h = good; h.on_fail = ESP_VERDICT_FAIL;
	cr_expect_eq(hooks_add(fake_pub(&f), &h), ESP_EINVAL);
	h = good; h.timeout = -1;
	cr_expect_eq(hooks_add(fake_pub(&f), &h), ESP_EINVAL);
	h = good; h.size = 8;
	cr_expect_eq(hooks_add(fake_pub(&f), &h), ESP_EINVAL);
	cr_expect_eq(hooks_count(fake_pub(&f)), 0);
	cr_expect_eq(hooks_add(fake_pub(&f), &good), ESP_OK);
	cr_expect_eq(hooks_count(fake_pub(&f)), 1);
	hooks_forget(fake_pub(&f));
	cr_expect_eq(hooks_count(fake_pub(&f)), 0);
}

Test(chain, says_that_nobody_asks_at_a_point_yet)
{
	static const esp_point unasked[] = {
		ESP_AT_ROUTE, ESP_AT_ATTEMPT, ESP_AT_DELIVER, ESP_AT_BOUNCE
	};
	esp_err err = ESP_ERR_INIT;
	struct fake f;

	fake_init(&f, "f");
	for (size_t i = 0; i < ARRAY_LEN(unasked); i++) {
		const esp_hook h = { .size = sizeof h, .point = unasked[i], .run = { .any = on_hook } };

		cr_expect_eq(hooks_add(fake_pub(&f), &h), ESP_EUNAVAIL, "%s", point_of(unasked[i])->name);
	}
	cr_expect_eq(hooks_count(fake_pub(&f)), 0);
	err_refusal(&err);
	cr_expect_str_eq(err.text, "no hook is asked at bounce yet: that comes with the queue");
	err.text[0] = '\0';
	err_refusal(&err);
	cr_expect_str_eq(err.text, "", "it is said once");
	hooks_forget(fake_pub(&f));
}

Test(chain, refuses_overrides_that_the_point_does_not_allow)
{
	esp_err err = ESP_ERR_INIT;
	struct chain *c;

	hook(ESP_AT_HELO, 500, 0, 0, 0, 0);
	overrides[0][ESP_AT_HELO] = (struct hook_override){ .set = OVERRIDE_ON_FAIL, .on_fail = ESP_VERDICT_DISCARD };
	cr_expect_eq(chain_build(ESP_AT_HELO, members, nmembers, &c, &err), ESP_ECONFIG);
	cr_expect_str_eq(err.text, "a: on_fail = \"discard\" is not possible at helo");
	cr_expect_eq(chain_build(77, members, nmembers, &c, &err), ESP_EINVAL);
	clear();
}

/* --- failure ----------------------------------------------------------------------------------------- */

/* Every verdict value at every point: allowed ones stand, all others are answered by the policy. */
CHAIN_TEST(chain, checks_the_verdict_mask_of_every_point)
{
	static const char *const letters = "CAQDFR";
	static const char *const allowed[ESP_AT_COUNT] = {
		[ESP_AT_CONNECT] = "AFR",
		[ESP_AT_TLS] = "FR",
		[ESP_AT_HELO] = "AFR",
		[ESP_AT_AUTH] = "AFR",
		[ESP_AT_MAIL] = "AQFR",
		[ESP_AT_RCPT] = "AQDFR",
		[ESP_AT_DATA] = "AFR",
		[ESP_AT_HEADERS] = "AQDFR",
		[ESP_AT_MESSAGE] = "AQDFR",
		[ESP_AT_ROUTE] = "AFR",
		[ESP_AT_ATTEMPT] = "FR",
		[ESP_AT_DELIVER] = "AQDFR",
		[ESP_AT_BOUNCE] = "DFR",
		[ESP_AT_IMAP_COMMAND] = "FR",
		[ESP_AT_HTTP_REQUEST] = "FR",
	};

	for (esp_point p = 1; p < ESP_AT_COUNT; p++) {
		struct script *s = point_of(p)->with ? NULL : hook(p, 500, 0, 0, ESP_VERDICT_DEFER, 0);

		for (esp_verdict v = 0; v < 300; v++) {
			bool known = v % 10 == 0 && v <= 50;
			bool ok = known && (v == 0 || strchr(allowed[p], letters[v / 10]));
			esp_outcome o;

			cr_expect_eq(verdict_allowed(p, v), ok, "point %u verdict %u", p, v);
			if (!s)                  /* nobody asks there yet */
				continue;
			s->say = v;
			o = run(p);
			cr_expect_eq(
				o.verdict, ok ? v : (esp_verdict)ESP_VERDICT_DEFER, "point %u verdict %u gave %u", p, v, o.verdict);
			if (!ok && v != ESP_VERDICT_FAIL)
				expect_str(o.answer.reason, "its verdict is not allowed at this point");
		}
		clear();
	}
}

CHAIN_TEST(chain, a_hook_that_waits_too_long_is_answered_by_its_policy)
{
	struct script *s = hook(ESP_AT_MESSAGE, 500, 0, 0, ESP_VERDICT_REJECT, 30 * ESP_MSEC);
	esp_nsec start = clock_monotonic();
	esp_outcome o;

	s->sleep = 20 * ESP_SEC;
	o = run(ESP_AT_MESSAGE);
	cr_expect_eq(o.verdict, ESP_VERDICT_REJECT);
	expect_str(o.answer.text, "a check could not be made");
	cr_expect_eq(memcmp(o.answer.enhanced, ((uint8_t[4]){ 5, 3 }), 4), 0);
	expect_str(o.answer.reason, "it took longer than its timeout");
	cr_expect_lt(clock_monotonic() - start, 5 * ESP_SEC);
	cr_expect_eq(count("esp_hook_late_total", "module=\"a\",point=\"message\""), 1);
}

CHAIN_TEST(chain, a_hook_that_overstays_without_suspending_is_counted_and_not_believed)
{
	struct script *s = hook(ESP_AT_MESSAGE, 500, 0, 0, 0, 20 * ESP_MSEC);

	s->spin = 60 * ESP_MSEC;
	s->say = ESP_VERDICT_ACCEPT;
	cr_expect_eq(run(ESP_AT_MESSAGE).verdict, ESP_VERDICT_DEFER);
	cr_expect_eq(count("esp_hook_late_total", "module=\"a\",point=\"message\""), 1);
}

CHAIN_TEST(chain, deadlines_nest_inside_that_of_the_caller)
{
	struct script *s = simple(500, 0);
	esp_nsec mine = clock_monotonic() + 5 * ESP_SEC;

	fiber_set_deadline(mine);
	run(ESP_AT_MESSAGE);
	cr_expect_eq(s->deadline, mine, "30 s may not outlast the command's 5 s");
	cr_expect_eq(fiber_deadline(), mine, "restored");
	overrides[0][ESP_AT_MESSAGE] = (struct hook_override){ .set = OVERRIDE_TIMEOUT, .timeout = ESP_SEC };
	run(ESP_AT_MESSAGE);
	cr_expect_lt(s->deadline, mine - 3 * ESP_SEC);
	overrides[0][ESP_AT_MESSAGE].set |= OVERRIDE_GROUP;
	overrides[0][ESP_AT_MESSAGE].group = 1;
	hook(ESP_AT_MESSAGE, 500, 1, 0, 0, 0);
	run(ESP_AT_MESSAGE);
	cr_expect_lt(s->deadline, mine - 3 * ESP_SEC);
	cr_expect_eq(scripts[1].deadline, mine, "a child fiber has its parent's deadline");
	fiber_set_deadline(0);
}

CHAIN_TEST(chain, a_module_left_out_after_crashes_answers_by_policy)
{
	esp_outcome o;

	simple(500, 0);
	members[0].disabled = true;
	o = run(ESP_AT_MESSAGE);
	cr_expect_eq(o.verdict, ESP_VERDICT_DEFER);
	expect_str(o.answer.reason, "the module was left out after crashes");
	cr_expect_str_eq(order, "");
	/* not loaded at all: the administrator's words are all there is */
	members[0].module = NULL;
	cr_expect_eq(run(ESP_AT_MESSAGE).verdict, ESP_VERDICT_CONTINUE);
	overrides[0][ESP_AT_MESSAGE] = (struct hook_override){ .set = OVERRIDE_ON_FAIL, .on_fail = ESP_VERDICT_REJECT };
	cr_expect_eq(run(ESP_AT_MESSAGE).verdict, ESP_VERDICT_REJECT);
}

CHAIN_TEST(chain, a_header_that_would_break_the_message_is_a_failure)
{
	static const char *const bad[] = { "X-A: b\r\nEvil: c", "X-A: b\n c", "no colon", ": empty", "X A: b", "X-A: b\r",
		"", "X-A 0", "X-A -0", "X-A  1", "X-A ", "X-A -", "X-A 1x", "X-A 12345", "X-A\r\n", " 1" };
	static const char *const good[] = { "X-A: b", "X-A:", "X-A: b\r\n c\r\n\td", "X-A", "X-A 1", "X-A -9999" };
	struct script *s = simple(500, 0);
	esp_outcome o;

	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		s->header = bad[i];
		o = run(ESP_AT_MESSAGE);
		cr_expect_eq(o.verdict, ESP_VERDICT_DEFER, "%s", bad[i]);
		cr_expect_eq(o.answer.nheaders, 0);
	}
	for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
		s->header = good[i];
		o = run(ESP_AT_MESSAGE);
		cr_expect_eq(o.verdict, ESP_VERDICT_CONTINUE, "%s", good[i]);
		cr_assert_eq(o.answer.nheaders, 1);
		expect_str(o.answer.headers[0], good[i]);
	}
}

CHAIN_TEST(chain, lack_of_memory_never_lets_a_message_pass)
{
	esp_arena *tiny = arena_new(&test_mem, "tiny", 64);
	char big[400];
	struct chain *c;
	esp_outcome o;

	memset(big, 'x', sizeof big);
	big[sizeof big - 1] = '\0';
	simple(500, ESP_VERDICT_QUARANTINE)->text = big;
	c = build(ESP_AT_MESSAGE);
	chain_run(c, NULL, tiny, NULL, &o);
	cr_expect_eq(o.verdict, ESP_VERDICT_DEFER);
	chain_free(c);
	arena_free(tiny);
}

/* Whatever memory is short for: the group, an answer of it, or what both say together. */
CHAIN_TEST(chain, lack_of_memory_never_lets_a_group_pass)
{
	struct script *s = hook(ESP_AT_MESSAGE, 500, 1, 0, 0, 0);
	struct chain *c;
	esp_outcome o;
	char big[401];

	memset(big, 'x', sizeof big - 1);
	big[sizeof big - 1] = '\0';
	s->say = ESP_VERDICT_QUARANTINE;
	s->text = big;
	hook(ESP_AT_MESSAGE, 500, 1, 0, 0, 0);
	overrides[0][ESP_AT_MESSAGE] =
		(struct hook_override){ .set = OVERRIDE_ON_FAIL, .on_fail = ESP_VERDICT_CONTINUE };
	c = build(ESP_AT_MESSAGE);
	for (size_t cap = 64; cap <= 4096; cap += 64) {
		esp_arena *small = arena_new(&test_mem, "small", cap);

		order[0] = '\0';
		chain_run(c, NULL, small, NULL, &o);
		cr_expect(cap < 4096 ? o.verdict != ESP_VERDICT_CONTINUE : o.verdict == ESP_VERDICT_QUARANTINE,
		          "%zu bytes: %d", cap, (int)o.verdict);
		arena_free(small);
	}
	chain_free(c);
}

CHAIN_TEST(chain, leaves_a_breadcrumb_during_the_call_only)
{
	struct script *s = simple(500, 0);

	run(ESP_AT_MESSAGE);
	cr_assert_not_null(s->crumb);
	cr_expect_str_eq(s->crumb, "message");
	cr_expect_null(breadcrumb_here->module);
}

CHAIN_TEST(chain, a_shadow_hook_is_run_and_counted_but_not_heard)
{
	esp_outcome o;

	simple(500, ESP_VERDICT_REJECT)->score = 5;
	simple(600, 0);
	overrides[0][ESP_AT_MESSAGE] = (struct hook_override){ .set = OVERRIDE_SHADOW, .shadow = true };
	o = run(ESP_AT_MESSAGE);
	cr_expect_eq(o.verdict, ESP_VERDICT_CONTINUE);
	cr_expect(!o.answer.has_score);
	cr_expect_str_eq(order, "ab");
	cr_expect_eq(count("esp_hook_shadow_calls_total", "module=\"a\",point=\"message\",verdict=\"reject\""), 1);
}

/* --- the trace --------------------------------------------------------------------------------------- */

static struct trace trace;
static esp_outcome run_traced(void)
{
	struct chain *c = build(ESP_AT_MESSAGE);
	esp_outcome o;

	order[0] = '\0';
	trace_begin(&trace, arena);
	chain_run(c, NULL, arena, &trace, &o);
	chain_free(c);
	return o;
}

static void expect_call(uint32_t i, const char *module, esp_verdict v, uint32_t flags)
{
	const esp_trace_call *c = &trace.pub.calls[i];

	cr_assert(i < trace.pub.ncalls, "%u calls", trace.pub.ncalls);
	cr_expect_str_eq(c->module, module);
	cr_expect_eq(c->verdict, v, "%s said %u", module, c->verdict);
	cr_expect_eq(c->flags, flags, "%s: flags %u", module, c->flags);
	cr_expect_eq(c->point, ESP_AT_MESSAGE);
}

CHAIN_TEST(chain_process, every_hook_that_was_asked_is_in_the_trace)
{
	simple(100, 0);
	simple(200, 0)->score = 2.5;
	simple(300, ESP_VERDICT_REJECT)->text = "two\r\nlines";
	simple(400, 0);
	run_traced();
	cr_assert_eq(trace.pub.ncalls, 3, "who was not asked is not there");
	expect_call(0, "a", ESP_VERDICT_CONTINUE, 0);
	expect_call(1, "b", ESP_VERDICT_CONTINUE, ESP_TRACE_SCORE);
	cr_expect_float_eq(trace.pub.calls[1].score, 2.5, 1e-9);
	expect_call(2, "c", ESP_VERDICT_REJECT, 0);
	expect_str(trace.pub.calls[2].reason, "two  lines");
}

CHAIN_TEST(chain_process, a_shadow_hook_is_marked_with_what_it_would_have_said)
{
	simple(100, ESP_VERDICT_REJECT)->folder = "Junk";
	overrides[0][ESP_AT_MESSAGE] = (struct hook_override){ .set = OVERRIDE_SHADOW, .shadow = true };
	cr_expect_eq(run_traced().verdict, ESP_VERDICT_CONTINUE);
	expect_call(0, "a", ESP_VERDICT_REJECT, ESP_TRACE_SHADOW);
	expect_str(trace.pub.calls[0].folder, "Junk");
}

CHAIN_TEST(chain_error_handling, the_trace_says_who_failed_and_which_policy_answered)
{
	struct script *late = hook(ESP_AT_MESSAGE, 200, 0, 0, ESP_VERDICT_QUARANTINE, 20 * ESP_MSEC);

	hook(ESP_AT_MESSAGE, 100, 0, 0, ESP_VERDICT_ACCEPT, 0)->say = ESP_VERDICT_FAIL;
	late->sleep = ESP_SEC;
	overrides[1][ESP_AT_MESSAGE] =
		(struct hook_override){ .set = OVERRIDE_ON_FAIL, .on_fail = ESP_VERDICT_CONTINUE };
	run_traced();
	expect_call(0, "b", ESP_VERDICT_CONTINUE, ESP_TRACE_FAILED);
	expect_str(trace.pub.calls[0].reason, "it failed");
	expect_call(1, "a", ESP_VERDICT_QUARANTINE, ESP_TRACE_FAILED | ESP_TRACE_LATE);
	cr_expect(trace.pub.calls[1].msec >= 15 && trace.pub.calls[1].msec < 900, "%u ms", trace.pub.calls[1].msec);
}

CHAIN_TEST(chain_error_handling, who_is_stopped_by_a_reject_beside_it_is_marked)
{
	struct script *slow = hook(ESP_AT_MESSAGE, 100, 7, 0, 0, 0);

	hook(ESP_AT_MESSAGE, 100, 7, 0, 0, 0)->say = ESP_VERDICT_REJECT;
	slow->sleep = 5 * ESP_SEC;
	cr_expect_eq(run_traced().verdict, ESP_VERDICT_REJECT);
	cr_assert_eq(trace.pub.ncalls, 2);
	expect_call(0, "a", ESP_VERDICT_CONTINUE, ESP_TRACE_STOPPED);
	expect_call(1, "b", ESP_VERDICT_REJECT, 0);
}

CHAIN_TEST(chain_order, the_trace_is_bounded_and_keeps_room_for_who_speaks)
{
	struct trace_how how = { .point = ESP_AT_MESSAGE, .module = "m" };
	char text[TRACE_TEXT_MAX + 50];
	const esp_answer said = { .size = sizeof said, .reason = { text, sizeof text } };

	memset(text, 'x', sizeof text);
	trace_begin(&trace, arena);
	for (int i = 0; i < 200; i++)
		trace_note(&trace, &how, ESP_VERDICT_CONTINUE, NULL);
	cr_expect_eq(trace.pub.ncalls, TRACE_SILENT_MAX);
	for (int i = 0; i < 200; i++)
		trace_note(&trace, &how, ESP_VERDICT_DEFER, &said);
	cr_expect_eq(trace.pub.ncalls, TRACE_CALLS_MAX);
	cr_expect_eq(trace.pub.dropped, 400 - TRACE_CALLS_MAX);
	cr_expect(trace.bytes <= TRACE_BYTES_MAX);
	cr_expect_eq(trace.pub.calls[TRACE_SILENT_MAX].reason.len, TRACE_TEXT_MAX);
	cr_expect_eq(trace.pub.calls[TRACE_CALLS_MAX - 1].reason.len, 0, "the texts have had their room");
}

CHAIN_TEST(chain_order, of_what_was_found_the_worst_is_kept)
{
	const esp_answer spam = { .size = sizeof spam, .found = ESP_FOUND_SPAM, .name = ESP_STR("LOTTERY") };
	const esp_answer virus = { .size = sizeof virus, .found = ESP_FOUND_VIRUS, .name = ESP_STR("Eicar") };
	esp_answer odd = { .size = sizeof odd, .found = 77 };
	esp_outcome o = { .size = sizeof o };

	cr_assert_eq(outcome_merge(&o, 0, &virus, "a", arena), ESP_OK);
	cr_assert_eq(outcome_merge(&o, 0, &spam, "b", arena), ESP_OK);
	cr_expect_eq(o.answer.found, ESP_FOUND_VIRUS);
	expect_str(o.answer.name, "Eicar");
	cr_expect_not_null(answer_fault(&odd));
}

/* --- merging ----------------------------------------------------------------------------------------- */

CHAIN_TEST(chain, adds_scores_and_collects_headers_and_tags_in_chain_order)
{
	struct script *a = simple(500, 0), *b = simple(400, ESP_VERDICT_QUARANTINE), *c = simple(600, 0);
	esp_outcome o;

	a->score = 1.5; a->header = "X-A: 1"; a->tag = "ta";
	b->score = -0.5; b->header = "X-B: 1"; b->tag = "tb";
	c->score = 2; c->header = "X-C: 1";
	o = run(ESP_AT_MESSAGE);
	cr_expect_eq(o.verdict, ESP_VERDICT_QUARANTINE);
	cr_expect_str_eq(o.by, "b");
	cr_expect(o.answer.has_score);
	cr_expect_float_eq(o.answer.score, 3.0, 1e-9);
	cr_assert_eq(o.answer.nheaders, 3);
	expect_str(o.answer.headers[0], "X-B: 1");
	expect_str(o.answer.headers[1], "X-A: 1");
	expect_str(o.answer.headers[2], "X-C: 1");
	cr_assert_eq(o.answer.ntags, 2);
	expect_str(o.answer.tags[0], "tb");
	expect_str(o.answer.tags[1], "ta");
}

CHAIN_TEST(chain, the_last_folder_stands_unless_something_stricter_was_said)
{
	struct script *a = simple(500, 0), *b = simple(600, 0), *c = simple(700, 0);

	a->folder = "Junk";
	b->folder = "Lists";
	expect_str(run(ESP_AT_MESSAGE).answer.folder, "Lists");
	c->say = ESP_VERDICT_QUARANTINE;
	c->folder = "Other";
	expect_str(run(ESP_AT_MESSAGE).answer.folder, "");
	c->say = ESP_VERDICT_ACCEPT;
	expect_str(run(ESP_AT_MESSAGE).answer.folder, "");
}

CHAIN_TEST(chain, takes_code_and_text_of_the_deciding_hook_and_only_if_they_fit)
{
	struct script *a = simple(500, ESP_VERDICT_DISCARD), *b = simple(600, ESP_VERDICT_DISCARD);
	esp_outcome o;

	a->text = "first";
	b->text = "second";
	o = run(ESP_AT_MESSAGE);
	cr_expect_str_eq(o.by, "a", "ties: the earlier one");
	expect_str(o.answer.text, "first");
	b->say = ESP_VERDICT_REJECT;
	b->code = 554;
	b->text = "two\r\nlines";
	o = run(ESP_AT_MESSAGE);
	cr_expect_eq(o.answer.smtp_code, 554);
	expect_str(o.answer.text, "two  lines");
	b->code = 250;
	cr_expect_eq(run(ESP_AT_MESSAGE).answer.smtp_code, 0, "a 250 is no rejection");
	b->code = 451;
	b->say = ESP_VERDICT_DEFER;
	cr_expect_eq(run(ESP_AT_MESSAGE).answer.smtp_code, 451);
}

CHAIN_TEST(chain, copies_what_hooks_said)
{
	char text[] = "old text";
	struct script *s = simple(500, ESP_VERDICT_REJECT);
	esp_outcome o;

	s->text = text;
	o = run(ESP_AT_MESSAGE);
	memset(text, '!', sizeof text - 1);
	expect_str(o.answer.text, "old text");
}

/* --- groups ------------------------------------------------------------------------------------------ */

CHAIN_TEST(chain, hooks_of_a_group_wait_side_by_side)
{
	esp_nsec start;
	esp_outcome o;

	for (int i = 0; i < 4; i++) {
		struct script *s = hook(ESP_AT_MESSAGE, 500 - i, 1, 0, 0, 0);

		s->sleep = 200 * ESP_MSEC;
		s->score = 1;
	}
	start = clock_monotonic();
	o = run(ESP_AT_MESSAGE);
	cr_expect_lt(clock_monotonic() - start, 700 * ESP_MSEC);
	cr_expect_float_eq(o.answer.score, 4, 1e-9);
	cr_expect_str_eq(order, "dcba");
}

CHAIN_TEST(chain, answers_of_a_group_are_copied_as_each_hook_returns)
{
	struct script *a = hook(ESP_AT_MESSAGE, 100, 1, 0, 0, 0), *b = hook(ESP_AT_MESSAGE, 200, 1, 0, 0, 0);
	esp_outcome o;

	a->header = "X-A: 1";   /* both hooks return the same array, as a module with one buffer would */
	b->header = "X-B: 1";
	o = run(ESP_AT_MESSAGE);
	cr_assert_eq(o.answer.nheaders, 2);
	expect_str(o.answer.headers[0], "X-A: 1");
	expect_str(o.answer.headers[1], "X-B: 1");
}

CHAIN_TEST(chain, a_rejection_stops_the_others_of_its_group_but_not_those_that_must_run)
{
	struct script *slow = hook(ESP_AT_MESSAGE, 100, 1, 0, 0, 0),
				  *must = hook(ESP_AT_MESSAGE, 200, 1, ESP_HOOK_MUST_RUN, 0, 0),
				  *no = hook(ESP_AT_MESSAGE, 300, 1, 0, 0, 0);
	esp_nsec start = clock_monotonic();
	esp_outcome o;

	slow->sleep = 20 * ESP_SEC;
	must->sleep = 100 * ESP_MSEC;
	must->tag = "scanned";
	no->say = ESP_VERDICT_REJECT;
	no->text = "spam";
	o = run(ESP_AT_MESSAGE);
	cr_expect_lt(clock_monotonic() - start, 10 * ESP_SEC);
	cr_expect(slow->canceled);
	cr_expect_eq(o.verdict, ESP_VERDICT_REJECT);
	cr_expect_str_eq(o.by, "c");
	cr_expect_eq(o.answer.ntags, 1, "must_run was heard");
	cr_expect_eq(count("esp_hook_late_total", "module=\"a\",point=\"message\""), 0);
}

CHAIN_TEST(chain, one_slow_member_times_out_alone)
{
	struct script *slow = hook(ESP_AT_MESSAGE, 100, 1, 0, ESP_VERDICT_DEFER, 40 * ESP_MSEC),
	              *fine = hook(ESP_AT_MESSAGE, 200, 1, 0, 0, 0);
	esp_outcome o;

	slow->sleep = 20 * ESP_SEC;
	fine->say = ESP_VERDICT_QUARANTINE;
	fine->score = 2;
	o = run(ESP_AT_MESSAGE);
	cr_expect_eq(o.verdict, ESP_VERDICT_DEFER);
	cr_expect_str_eq(o.by, "a");
	cr_expect_float_eq(o.answer.score, 2, 1e-9);
	cr_expect_eq(owner_total(&fakes[0].core.owner), 0, "no fiber is left behind");
}

static void on_canceled_run(void *arg)
{
	*(esp_outcome *)arg = run(ESP_AT_MESSAGE);
}

CHAIN_TEST(chain, a_cancel_of_the_session_reaches_the_members)
{
	esp_nsec start = clock_monotonic();
	struct fiber *f;
	esp_outcome o;

	for (int i = 0; i < 3; i++)
		hook(ESP_AT_MESSAGE, 500, 1, 0, 0, 0)->sleep = 20 * ESP_SEC;
	cr_assert_eq(fiber_spawn(NULL, ESP_FIBER_JOINABLE, "session", on_canceled_run, &o, &f), ESP_OK);
	cr_assert_eq(fiber_sleep_until(clock_monotonic() + 30 * ESP_MSEC), ESP_OK);
	fiber_cancel(f);
	fiber_join(f);
	cr_expect_lt(clock_monotonic() - start, 10 * ESP_SEC);
	for (int i = 0; i < 3; i++)
		cr_expect(scripts[i].canceled);
	cr_expect_eq(o.verdict, ESP_VERDICT_DEFER, "who was not heard has not said yes");
}

CHAIN_TEST(chain, groups_work_when_no_fiber_is_left)
{
	uint32_t cap = fiber_cap();

	hook(ESP_AT_MESSAGE, 500, 1, 0, 0, 0);
	hook(ESP_AT_MESSAGE, 500, 1, 0, 0, 0)->say = ESP_VERDICT_DISCARD;
	fiber_set_cap(1);
	cr_expect_eq(run(ESP_AT_MESSAGE).verdict, ESP_VERDICT_DISCARD);
	fiber_set_cap(cap);
	cr_expect_str_eq(order, "ab");
}

/* --- against a model --------------------------------------------------------------------------------- */

/* What a chain must come to, from its steps: who is asked, and which verdict stands. */
struct model_hook { uint32_t group; bool must; esp_verdict say, policy; };

static esp_verdict model(const struct model_hook *h, int n, char *asked)
{
	esp_verdict stands = ESP_VERDICT_CONTINUE;
	bool ended = false;

	for (int i = 0, end; i < n; i = end) {
		esp_verdict group = ESP_VERDICT_CONTINUE;

		for (end = i + 1; end < n && h[i].group && h[end].group == h[i].group; end++)
			;
		for (int j = i; j < end; j++) {
			esp_verdict v = h[j].say == ESP_VERDICT_FAIL || h[j].say % 10 ? h[j].policy : h[j].say;

			if (ended && !h[j].must)
				continue;
			*asked++ = (char)('a' + j);
			group = v > group ? v : group;
		}
		stands = group > stands ? group : stands;
		ended |= group == ESP_VERDICT_ACCEPT || group == ESP_VERDICT_DEFER || group == ESP_VERDICT_REJECT;
	}
	*asked = '\0';
	return stands;
}

static const esp_verdict says[] = { 0, 10, 20, 30, 40, 50, 255, 33 };

static void check_model(const struct model_hook *h, int n)
{
	char asked[FAKES + 1];
	esp_verdict want = model(h, n, asked);
	esp_outcome o;

	clear();
	for (int i = 0; i < n; i++)
		hook(ESP_AT_MESSAGE, i, h[i].group, h[i].must ? ESP_HOOK_MUST_RUN : 0, h[i].policy, 0)->say = h[i].say;
	o = run(ESP_AT_MESSAGE);
	cr_assert_eq(o.verdict, want, "asked %s: got %u, want %u", order, o.verdict, want);
	cr_assert_str_eq(order, asked);
	cr_assert_eq(o.by == NULL, want == ESP_VERDICT_CONTINUE);
}

/* Every pair of verdicts, alone and in a group, with and without MUST_RUN on the second. */
CHAIN_TEST(chain, every_pair_of_verdicts_comes_to_what_the_model_says)
{
	for (size_t a = 0; a < 8; a++)
		for (size_t b = 0; b < 8; b++)
			for (uint32_t g = 0; g < 2; g++)
				for (int must = 0; must < 2; must++) {
					struct model_hook h[] = { { g, false, says[a], 40 }, { g, must, says[b], 50 } };

					check_model(h, 2);
				}
}

static uint32_t pick(uint32_t below)
{
	static uint32_t seed = 20261122;

	seed = seed * 1664525u + 1013904223u;
	return (seed >> 8) % below;
}

CHAIN_TEST(chain, random_chains_come_to_what_the_model_says)
{
	static const esp_verdict policies[] = { 20, 30, 40, 50 };
	for (int round = 0; round < 1500; round++) {
		struct model_hook h[8];
		int n = 1 + (int)(pick(8));
		uint32_t group = 0;

		for (int i = 0; i < n; i++) {
			if (pick(3) == 0)
				group = pick(2) ? 0 : 100 + (uint32_t)i;   /* a new group, or none */
			h[i] = (struct model_hook){ group, pick(4) == 0, pick(2) ? 0 : says[pick(8)], policies[pick(4)] };
		}
		check_model(h, n);
	}
}

/* --- esp.hook/1 -------------------------------------------------------------------------------------- */

static struct chain *current;
static const struct chain *chain_of_snapshot(esp_point p)
{
	return p == ESP_AT_MESSAGE ? current : NULL;
}

CHAIN_TEST(chain, the_interface_runs_the_chain_of_the_current_snapshot)
{
	esp_outcome o = { .size = sizeof o };

	simple(500, ESP_VERDICT_REJECT);
	current = build(ESP_AT_MESSAGE);
	hook_set_source(chain_of_snapshot);
	hook_api.run(ESP_AT_MESSAGE, NULL, arena, &o);
	cr_expect_eq(o.verdict, ESP_VERDICT_REJECT);
	hook_api.run(ESP_AT_HELO, NULL, arena, &o);
	cr_expect_eq(o.verdict, ESP_VERDICT_CONTINUE);
	chain_free(current);
}

Test(chain, documents_every_point_with_its_verdicts)
{
	struct text t = { 0 };

	hook_document(text_sink, &t);
	for (esp_point p = 1; p < ESP_AT_COUNT; p++)
		cr_expect(strstr(t.p, point_of(p)->name));
	cr_expect(strstr(t.p, "| `helo` | EHLO, HELO or LHLO was said | `esp_helo_args` | accept, defer, reject |\n"));
	free(t.p);
}
