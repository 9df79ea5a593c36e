/* The event bus: declarations, subscriptions, delivery on the observer, and what a reload does to them. */
#include "bustest.h"
#include "core/bus/event-priv.h"

#include <pthread.h>
#include <unistd.h>

static const esp_event_field fields[] = {
	{ .key = "from", .type = ESP_F_STR, .help = "envelope sender" },
	{ .key = "size", .type = ESP_F_INT, .help = "bytes" },
	{ .key = "took", .type = ESP_F_NSEC, .help = "time" },
};

static esp_event_id declare(const char *name)
{
	esp_event_id id = { 0 };

	cr_assert_eq(event_declare(name, "Something happened.", fields, 3, sizeof fields[0], &id), ESP_OK);
	return id;
}

/* What a subscriber saw. */
struct seen {
	struct fake fake;
	_Atomic int events, batches, running;
	_Atomic int64_t last, sum;
	char names[256], from[128], source[64];
	uint32_t nfields;
	esp_nsec delay;          /* sleep in each batch */
	_Atomic bool stuck;      /* stay in the batch while set */
	_Atomic bool ordered;
	_Atomic bool canceled;
};

static void on_events(esp_module *self, const esp_event *const *events, uint32_t n)
{
	struct seen *s = fake_of(self)->extra;

	atomic_store(&s->running, 1);
	for (uint32_t i = 0; i < n; i++) {
		const esp_event *e = events[i];

		if (strlen(s->names) + strlen(e->name) + 2 < sizeof s->names)
			strcat(strcat(s->names, e->name), " ");
		snprintf(s->source, sizeof s->source, "%s", e->source);
		s->nfields = e->nfields;
		for (uint32_t f = 0; f < e->nfields; f++) {
			if (strcmp(e->fields[f].key, "from") == 0)
				snprintf(s->from, sizeof s->from, "%.*s", ESP_FMT(e->fields[f].s));
			if (strcmp(e->fields[f].key, "size") == 0) {
				if (e->fields[f].i <= atomic_load(&s->last))
					atomic_store(&s->ordered, false);
				atomic_store(&s->last, e->fields[f].i);
				atomic_fetch_add(&s->sum, e->fields[f].i);
			}
		}
	}
	while (atomic_load(&s->stuck))
		if (fiber_sleep_until(clock_monotonic() + ESP_MSEC) != ESP_OK) {
			atomic_store(&s->canceled, true);
			break;
		}
	if (s->delay && fiber_sleep_until(clock_monotonic() + s->delay) != ESP_OK)
		atomic_store(&s->canceled, true);
	atomic_fetch_add(&s->events, (int)n);
	atomic_fetch_add(&s->batches, 1);
	atomic_store(&s->running, 0);
}

static void seen_init(struct seen *s, const char *name)
{
	memset(s, 0, sizeof *s);
	fake_init(&s->fake, name);
	s->fake.extra = s;
	atomic_store(&s->ordered, true);
}

static esp_status subscribe(struct seen *s, const char *pattern, uint32_t depth, uint32_t overflow)
{
	const esp_subscription sub = { .size = sizeof sub, .pattern = pattern, .depth = depth, .overflow = overflow,
	                               .on_events = on_events };

	return event_subscribe(fake_pub(&s->fake), &sub);
}

static void activate(struct seen *s)
{
	esp_module *m = fake_pub(&s->fake);

	event_switch(NULL, 0, &m, 1);
}

static void publish(esp_event_id id, int64_t size)
{
	const esp_field f[] = { ESP_FSTR("from", ESP_STR("a@example.test")), ESP_FINT("size", size) };

	event_publish("smtp", id, f, 2, sizeof f[0]);
}

static bool wait_events(struct seen *s, int n)
{
	for (int i = 0; i < 5000 && atomic_load(&s->events) < n; i++)
		if (fiber_sleep_until(clock_monotonic() + ESP_MSEC) != ESP_OK)
			break;
	return atomic_load(&s->events) >= n;
}

static void in_fiber(void (*body)(void *arg))
{
	const struct log_config quiet = { .target = LOG_TO_FILE, .path = "/dev/null" };
	esp_err err = ESP_ERR_INIT;

	cr_assert_eq(log_open(&quiet, &err), ESP_OK);
	test_in_fiber(2, body, NULL);
	bus_free();
}

#define EVENT_TEST(suite, name) \
	static void suite##_##name##_body(void *arg); \
	Test(suite, name, .timeout = 60) { in_fiber(suite##_##name##_body); } \
	static void suite##_##name##_body(void *arg __attribute__((unused)))

#define start_bus() cr_assert_eq(bus_start(loop_observer()), ESP_OK)
#define stop_bus() bus_stop(clock_monotonic() + 5 * ESP_SEC)

/* --- publish and subscribe --------------------------------------------------------------------------- */

EVENT_TEST(event_bus, publish)
{
	esp_event_id id = declare("message.received");
	static struct seen s;

	seen_init(&s, "audit");
	start_bus();
	publish(id, 1);   /* nobody listens: nothing happens */
	cr_assert_eq(subscribe(&s, "message.received", 0, 0), ESP_OK);
	activate(&s);
	publish(id, 4096);
	cr_assert(wait_events(&s, 1));
	cr_expect_str_eq(s.names, "message.received ");
	cr_expect_str_eq(s.source, "smtp");
	cr_expect_str_eq(s.from, "a@example.test");
	cr_expect_eq(s.last, 4096);
	stop_bus();
}

EVENT_TEST(event_bus, subscribe)
{
	esp_event_id id = declare("message.received"), other = declare("user.login");
	static struct seen s;

	seen_init(&s, "audit");
	start_bus();
	cr_expect(!event_wanted(id));
	cr_assert_eq(subscribe(&s, "message.received", 0, 0), ESP_OK);
	cr_expect(!event_wanted(id), "nothing before its generation is active");
	activate(&s);
	cr_expect(event_wanted(id));
	cr_expect(!event_wanted(other));
	cr_expect(!event_wanted((esp_event_id){ 0 }) && !event_wanted((esp_event_id){ 5000 }));
	event_forget(fake_pub(&s.fake), clock_monotonic() + ESP_SEC);
	cr_expect(!event_wanted(id));
	publish(id, 1);
	stop_bus();
	cr_expect_eq(s.events, 0);
	cr_expect_eq(owner_total(&s.fake.core.owner), 0);
}

EVENT_TEST(event_bus, wildcard)
{
	static struct seen all, prefix;
	esp_event_id a = declare("message.received"), b;

	seen_init(&all, "all");
	seen_init(&prefix, "prefix");
	start_bus();
	cr_assert_eq(subscribe(&all, "*", 0, 0), ESP_OK);
	cr_assert_eq(subscribe(&prefix, "message.*", 0, 0), ESP_OK);
	activate(&all);
	activate(&prefix);
	b = declare("user.login");   /* declared after the subscription */
	publish(a, 1);
	publish(b, 2);
	publish(declare("message.stored"), 3);
	publish(declare("messages"), 4);
	cr_assert(wait_events(&all, 4));
	cr_assert(wait_events(&prefix, 2));
	stop_bus();
	cr_expect_str_eq(all.names, "message.received user.login message.stored messages ");
	cr_expect_str_eq(prefix.names, "message.received message.stored ");
}

/* --- declaring --------------------------------------------------------------------------------------- */

Test(event, same_name_is_the_same_id_and_another_schema_is_refused)
{
	static const esp_event_field other[] = { { .key = "from", .type = ESP_F_INT, .help = "" } };
	esp_event_id a = declare("message.received"), b = declare("user.login"), c = { 0 };

	cr_expect_eq(declare("message.received").v, a.v);
	cr_expect_neq(a.v, b.v);
	cr_expect_eq(event_declare("message.received", "", other, 1, sizeof other[0], &c), ESP_ECONFLICT);
	cr_expect_eq(event_declare("message.received", "", fields, 2, sizeof fields[0], &c), ESP_ECONFLICT);
	event_free();
}

Test(event, refuses_names_fields_and_patterns_that_are_malformed)
{
	static const char *const bad[] = { "", "Message", "a..b", ".a", "a.", "a b", "*", "a.*", "1a", NULL };
	static const char *const bad_patterns[] = { "", "a*", "*.a", "a.*.b", "a.", "**", NULL };
	static const esp_event_field twice[] = { { .key = "a", .type = 1 }, { .key = "a", .type = 1 } },
								 type[] = { { .key = "a", .type = 9 } };
	esp_event_id id;
	static struct seen s;

	seen_init(&s, "x");
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		cr_expect_eq(event_declare(bad[i], "", NULL, 0, 0, &id), ESP_EINVAL, "%s", bad[i]);
	cr_expect_eq(event_declare("a", "", twice, 2, sizeof twice[0], &id), ESP_EINVAL);
	cr_expect_eq(event_declare("a", "", type, 1, sizeof type[0], &id), ESP_EINVAL);
	for (size_t i = 0; i < sizeof bad_patterns / sizeof bad_patterns[0]; i++)
		cr_expect_eq(subscribe(&s, bad_patterns[i], 0, 0), ESP_EINVAL, "%s", bad_patterns[i]);
	cr_expect_eq(subscribe(&s, "a", 0, 7), ESP_EINVAL);
}

Test(event, is_full_at_its_limits)
{
	static struct seen s;
	char name[32];
	esp_event_id id;

	seen_init(&s, "x");
	for (int i = 0; i < EVENT_MAX; i++) {
		snprintf(name, sizeof name, "a.n%d", i);
		cr_assert_eq(event_declare(name, "", NULL, 0, 0, &id), ESP_OK);
	}
	cr_expect_eq(event_declare("one.more", "", NULL, 0, 0, &id), ESP_EBUSY);
	for (int i = 0; i < EVENT_SUBSCRIBERS_MAX; i++)
		cr_assert_eq(subscribe(&s, "*", 4, 0), ESP_OK);
	cr_expect_eq(subscribe(&s, "*", 4, 0), ESP_EBUSY);
	event_free();
}

Test(event, documents_every_declared_event)
{
	struct text t = { 0 };

	declare("user.login");
	declare("message.received");
	event_document(text_sink, &t);
	cr_expect(strstr(t.p, "\n## message.received\n\nSomething happened.\n\n| field | type | meaning |\n|---|---|---|\n"
	                      "| `from` | string | envelope sender |\n| `size` | integer | bytes |\n"
	                      "| `took` | duration | time |\n\n## user.login\n"), "%s", t.p);
	free(t.p);
	event_free();
}

/* --- what is published ------------------------------------------------------------------------------- */

EVENT_TEST(event, copies_fields_and_leaves_out_what_was_not_declared)
{
	esp_event_id id = declare("message.received");
	static struct seen s;
	static char big[100000];
	char from[] = "a@b";
	esp_field f[] = { ESP_FSTR("from", ((esp_str){ from, 3 })), ESP_FINT("surprise", 1),
		ESP_FSTR("size", ESP_STR("x")) };

	seen_init(&s, "audit");
	cr_assert_eq(subscribe(&s, "*", 0, 0), ESP_OK);
	activate(&s);
	event_publish("smtp", id, f, 3, sizeof f[0]);
	memset(from, '!', 3);
	start_bus();   /* what waited is delivered now */
	cr_assert(wait_events(&s, 1));
	cr_expect_str_eq(s.from, "a@b");
	cr_expect_eq(s.nfields, 1);
	memset(big, 'x', sizeof big);
	f[0].s = (esp_str){ big, sizeof big };
	event_publish(NULL, id, f, 1, sizeof f[0]);
	cr_assert(wait_events(&s, 2));
	cr_expect_str_eq(s.source, "core");
	cr_expect_eq(strlen(s.from), sizeof s.from - 1);
	stop_bus();
}

enum { PER_WORKER = 3000 };
static _Atomic int publishers;

static void on_publish_many(void *arg)
{
	esp_event_id id = { (uint32_t)(uintptr_t)arg };

	for (int i = 1; i <= PER_WORKER; i++)
		publish(id, i);
	atomic_fetch_add(&publishers, 1);
}

EVENT_TEST(event, all_workers_publish_and_nothing_is_lost)
{
	esp_event_id id = declare("message.received");
	static struct seen s;

	seen_init(&s, "audit");
	start_bus();
	cr_assert_eq(subscribe(&s, "message.*", 0, 0), ESP_OK);
	activate(&s);
	for (uint32_t i = 0; i < 2; i++)
		cr_assert_eq(
			worker_post_fiber(loop_worker(i), NULL, "publisher", on_publish_many, (void *)(uintptr_t)id.v), ESP_OK);
	cr_assert(wait_events(&s, 2 * PER_WORKER));
	stop_bus();
	cr_expect_eq(s.sum, 2 * (int64_t)PER_WORKER * (PER_WORKER + 1) / 2);
	cr_expect_geq(s.batches, 2 * PER_WORKER / EVENT_BATCH_MAX);
}

EVENT_TEST(event, order_of_one_publisher_is_kept)
{
	esp_event_id id = declare("message.received");
	static struct seen s;

	seen_init(&s, "audit");
	start_bus();
	cr_assert_eq(subscribe(&s, "*", 0, 0), ESP_OK);
	activate(&s);
	cr_assert_eq(
		worker_post_fiber(loop_worker(0), NULL, "publisher", on_publish_many, (void *)(uintptr_t)id.v), ESP_OK);
	cr_assert(wait_events(&s, PER_WORKER));
	stop_bus();
	cr_expect(s.ordered);
}

static int64_t dropped(const char *subscriber)
{
	char labels[64];
	esp_metric m;

	snprintf(labels, sizeof labels, "subscriber=\"%s\"", subscriber);
	cr_assert_eq(metric_declare(ESP_COUNTER, "esp_event_dropped_total", labels, "", NULL, 0, &m), ESP_OK);
	return metric_value(m);
}

EVENT_TEST(event, a_full_queue_drops_the_newest_or_the_oldest_and_counts)
{
	esp_event_id id = declare("message.received");
	static struct seen newest, oldest;

	seen_init(&newest, "newest");
	seen_init(&oldest, "oldest");
	cr_assert_eq(subscribe(&newest, "*", 8, ESP_DROP_NEWEST), ESP_OK);
	cr_assert_eq(subscribe(&oldest, "*", 8, ESP_DROP_OLDEST), ESP_OK);
	activate(&newest);
	activate(&oldest);
	for (int i = 1; i <= 20; i++)
		publish(id, i);
	start_bus();
	cr_assert(wait_events(&newest, 8));
	cr_assert(wait_events(&oldest, 8));
	stop_bus();
	cr_expect_eq(newest.last, 8);
	cr_expect_eq(oldest.last, 20);
	cr_expect_eq(oldest.events, 8);
	cr_expect_eq(dropped("newest"), 12);
	cr_expect_eq(dropped("oldest"), 12);
}

EVENT_TEST(event, a_slow_subscriber_delays_nobody)
{
	esp_event_id id = declare("message.received");
	static struct seen slow, fast;

	seen_init(&slow, "slow");
	seen_init(&fast, "fast");
	atomic_store(&slow.stuck, true);
	start_bus();
	cr_assert_eq(subscribe(&slow, "*", 16, 0), ESP_OK);
	cr_assert_eq(subscribe(&fast, "*", 0, 0), ESP_OK);
	activate(&slow);
	activate(&fast);
	for (int i = 1; i <= 1000; i++)
		publish(id, i);
	cr_expect(wait_events(&fast, 1000));
	cr_expect_eq(slow.events, 0);
	atomic_store(&slow.stuck, false);
	cr_expect(wait_events(&slow, 16));
	stop_bus();
	cr_expect_eq(slow.events + dropped("slow"), 1000);
}

/* --- generations ------------------------------------------------------------------------------------- */

EVENT_TEST(event, a_reload_gives_each_fact_to_one_generation)
{
	esp_event_id id = declare("message.received");
	static struct seen old, next;
	esp_module *out, *in;

	seen_init(&old, "audit");
	seen_init(&next, "audit");
	out = fake_pub(&old.fake);
	in = fake_pub(&next.fake);
	start_bus();
	cr_assert_eq(subscribe(&old, "*", 0, 0), ESP_OK);
	activate(&old);
	cr_assert_eq(
		worker_post_fiber(loop_worker(0), NULL, "publisher", on_publish_many, (void *)(uintptr_t)id.v), ESP_OK);
	for (int i = 0; i < 20; i++) {
		cr_assert_eq(subscribe(&next, "*", 0, 0), ESP_OK);
		event_switch(&out, 1, &in, 1);
		event_forget(out, clock_monotonic() + 5 * ESP_SEC);
		cr_expect_eq(owner_total(&((struct module_core *)(void *)out)->owner), 0, "its code may be unmapped now");
		cr_assert_eq(subscribe(&old, "*", 0, 0), ESP_OK);
		event_switch(&in, 1, &out, 1);
		event_forget(in, clock_monotonic() + 5 * ESP_SEC);
	}
	cr_assert(wait_events(&old, PER_WORKER - next.events));
	stop_bus();
	cr_expect_eq(old.events + next.events, PER_WORKER);
}

/* A publisher that was interrupted between reading who is interested and queueing. */
static void publish_late(esp_event_id id)
{
	uint32_t wrong;
	struct event_block *b = event_block_new(event_type_of(id), id.v, "late", NULL, 0, sizeof(esp_field), &wrong);

	cr_assert_not_null(b);
	event_queue(b, 1);   /* the first subscriber */
}

EVENT_TEST(event, a_late_publisher_never_reaches_who_has_gone_or_came_instead)
{
	esp_event_id id = declare("message.received"), other = declare("user.login");
	static struct seen gone, next;

	seen_init(&gone, "gone");
	seen_init(&next, "next");
	start_bus();
	cr_assert_eq(subscribe(&gone, "message.*", 0, 0), ESP_OK);
	activate(&gone);
	event_forget(fake_pub(&gone.fake), clock_monotonic() + ESP_SEC);
	publish_late(id);
	cr_assert_eq(fiber_sleep_until(clock_monotonic() + 20 * ESP_MSEC), ESP_OK);
	cr_assert_eq(subscribe(&next, "user.*", 0, 0), ESP_OK);   /* takes the same place */
	activate(&next);
	publish_late(id);
	publish_late(other);
	cr_assert(wait_events(&next, 1));
	stop_bus();
	cr_expect_eq(gone.events, 0);
	cr_expect_str_eq(next.names, "user.login ");
}

EVENT_TEST(event, forgetting_waits_for_a_running_batch_and_drops_the_rest_at_the_deadline)
{
	esp_event_id id = declare("message.received");
	static struct seen s;

	seen_init(&s, "slow");
	atomic_store(&s.stuck, true);
	start_bus();
	cr_assert_eq(subscribe(&s, "*", 1024, 0), ESP_OK);
	activate(&s);
	for (int i = 1; i <= 600; i++)
		publish(id, i);
	while (!atomic_load(&s.running))
		cr_assert_eq(fiber_sleep_until(clock_monotonic() + ESP_MSEC), ESP_OK);
	event_forget(fake_pub(&s.fake), clock_monotonic() + 50 * ESP_MSEC);
	cr_expect_eq(s.running, 0);
	cr_expect(s.canceled, "the batch was told to end");
	cr_expect_leq(s.events, EVENT_BATCH_MAX);
	cr_expect_geq(s.events, 1);
	stop_bus();
}

EVENT_TEST(event, stopping_the_bus_delivers_what_is_queued)
{
	esp_event_id id = declare("message.received");
	static struct seen s;

	seen_init(&s, "audit");
	s.delay = 5 * ESP_MSEC;
	start_bus();
	cr_assert_eq(subscribe(&s, "*", 0, 0), ESP_OK);
	activate(&s);
	for (int i = 1; i <= 2000; i++)
		publish(id, i);
	stop_bus();
	cr_expect_eq(s.events, 2000);
	publish(id, 1);
	cr_expect(!event_wanted(id));
}

/* --- log lines --------------------------------------------------------------------------------------- */

static void log_body(void *arg)
{
	esp_event_id id = declare("message.received"), other = declare("queue.stuck");

	(void)arg;
	start_bus();
	cr_assert_eq(event_log("message.*"), ESP_OK);
	publish(id, 77);
	publish(other, 78);
	stop_bus();
}

Test(event, selected_events_become_log_lines, .timeout = 60)
{
	char path[] = "/tmp/esp-event-XXXXXX", *text;
	int fd = mkstemp(path);
	const struct log_config c = { .target = LOG_TO_FILE, .path = path };
	esp_err err = ESP_ERR_INIT;

	cr_assert(fd >= 0);
	close(fd);
	cr_assert_eq(log_open(&c, &err), ESP_OK);
	test_in_fiber(1, log_body, NULL);
	bus_free();
	text = file_read(path);
	unlink(path);
	cr_expect(strstr(text, "info smtp: message.received from=a@example.test size=77\n"), "%s", text);
	cr_expect_eq(count_of(text, "queue.stuck"), 0);
	free(text);
}
