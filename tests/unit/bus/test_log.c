/* The log: formats, levels, targets, limits, and the way through the observer. */
#include "bustest.h"
#include "core/bus/log-sink.h"

#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static char dir[] = "/tmp/esp-log-XXXXXX";
static char path[64], moved[64];

static void setup(void)
{
	cr_assert(mkdtemp(dir));
	snprintf(path, sizeof path, "%s/log", dir);
	snprintf(moved, sizeof moved, "%s/log.1", dir);
}

static void teardown(void)
{
	log_close();
	unlink(path);
	unlink(moved);
	rmdir(dir);
}

static void open_file(bool json, int32_t level, const struct log_level *levels, uint32_t n)
{
	const struct log_config c = { .json = json, .target = LOG_TO_FILE, .path = path, .level = level, .levels = levels,
	                              .nlevels = n };
	esp_err err = ESP_ERR_INIT;

	cr_assert_eq(log_open(&c, &err), ESP_OK, "%s", err.text);
}

#define LOG_TEST(name) Test(log, name, .init = setup, .fini = teardown, .timeout = 60)

LOG_TEST(writes_one_json_object_per_line)
{
	esp_id id = { { 1, 2, 3 } };
	char *text, *end;

	open_file(true, 0, NULL, 0);
	log_line(ESP_LOG_INFO, "core/net", "listening", ESP_FSTR("address", ESP_STR("127.0.0.1")), ESP_FINT("port", 25),
		ESP_FNSEC("took", 1500000), ESP_FBOOL("tls", 5), ESP_FID("id", id), ESP_FSTR("msg", ESP_STR("a\nb\xff\"")));
	log_line(ESP_LOG_ERROR, "core/net", "bare");
	text = file_read(path);
	end = strchr(text, '\n');
	cr_assert(end);
	cr_expect(json_object_ok(text, (size_t)(end - text)), "%s", text);
	cr_expect(
		strstr(text,
			",\"level\":\"info\",\"module\":\"core/net\",\"msg\":\"listening\",\"address\":\"127.0.0.1\",\"port\":25,"
			"\"took\":0.001500,\"tls\":true,\"id\":\"01020300-0000-0000-0000-000000000000\","
			"\"field.msg\":\"a\\nb\xef\xbf\xbd\\\"\"}\n"),
		"%s", text);
	cr_expect(strstr(text, "\"level\":\"error\",\"module\":\"core/net\",\"msg\":\"bare\"}\n"), "%s", text);
	cr_expect_eq(count_of(text, "\n"), 2);
	free(text);
}

LOG_TEST(json_is_valid_for_every_byte_in_every_place)
{
	char *text;
	size_t lines = 0;

	open_file(true, 0, NULL, 0);
	for (int c = 1; c < 256; c++) {
		char key[3] = { 'k', (char)c, 0 }, value[2] = { (char)c, (char)c };

		log_line(ESP_LOG_INFO, key, key, { .key = key, .type = ESP_F_STR, .s = { value, 2 } },
			{ .key = key, .type = 99 }, ESP_FINT("c", c));
	}
	text = file_read(path);
	for (char *p = text, *end; (end = strchr(p, '\n')) != NULL; p = end + 1, lines++)
		cr_expect(json_object_ok(p, (size_t)(end - p)), "%.*s", (int)(end - p), p);
	cr_expect_eq(lines, 255);
	free(text);
}

LOG_TEST(text_lines_start_with_time_and_level)
{
	char *text;
	int year, ms;

	open_file(false, 0, NULL, 0);
	log_line(
		ESP_LOG_WARNING, "smtp", "peer\nspoke first", ESP_FSTR("peer", ESP_STR("a b\n2026 forged")), ESP_FINT("n", -1));
	text = file_read(path);
	cr_expect_eq(sscanf(text, "%d-%*d-%*dT%*d:%*d:%*d.%dZ", &year, &ms), 2);
	cr_expect(strstr(text, "Z warning smtp: peer spoke first peer=\"a b\\n2026 forged\" n=-1\n"), "%s", text);
	cr_expect_eq(count_of(text, "\n"), 1);
	free(text);
}

LOG_TEST(a_line_that_is_too_long_is_cut_at_a_field_and_stays_valid)
{
	esp_field fields[20];
	static char big[5000];
	char *text;

	memset(big, 1, sizeof big);   /* each byte becomes six */
	for (size_t i = 0; i < 20; i++)
		fields[i] = ESP_FSTR("k", ((esp_str){ big, sizeof big }));
	open_file(true, 0, NULL, 0);
	log_write(ESP_LOG_INFO, "m", "long", fields, 20);
	text = file_read(path);
	cr_expect(json_object_ok(text, strlen(text) - 1));
	cr_expect(strstr(text, ",\"cut\":true}\n"));
	cr_expect_leq(strlen(text), 8193);
	free(text);
}

LOG_TEST(levels_are_per_module)
{
	const struct log_level levels[] = { { "smtp", ESP_LOG_DEBUG }, { "imap", ESP_LOG_ERROR } };
	esp_module smtp = { .name = "smtp" }, imap = { .name = "imap" };
	char *text;

	open_file(false, ESP_LOG_NOTICE, levels, 2);
	cr_expect(log_api.enabled(&smtp, ESP_LOG_DEBUG));
	cr_expect(!log_api.enabled(&imap, ESP_LOG_WARNING));
	cr_expect(log_enabled(ESP_LOG_NOTICE, "core/net"));
	cr_expect(!log_enabled(ESP_LOG_INFO, "core/net"));
	log_line(ESP_LOG_DEBUG, "smtp", "yes");
	log_line(ESP_LOG_WARNING, "imap", "no");
	log_write(ESP_LOG_INFO, "core/net", "no", NULL, 0);
	log_api.write(&smtp, ESP_LOG_INFO, "yes", NULL, 0, sizeof(esp_field));
	text = file_read(path);
	cr_expect_eq(count_of(text, "yes"), 2);
	cr_expect_eq(count_of(text, "no\n"), 0);
	free(text);
}

LOG_TEST(reads_fields_of_another_size)
{
	struct { esp_field f; char later[24]; } wide[2] = { { ESP_FINT("a", 1), "x" }, { ESP_FINT("b", 2), "y" } };
	char *text;

	open_file(false, 0, NULL, 0);
	log_write_sized(ESP_LOG_INFO, "m", "wide", &wide[0].f, 2, sizeof wide[0]);
	text = file_read(path);
	cr_expect(strstr(text, "m: wide a=1 b=2\n"), "%s", text);
	free(text);
}

LOG_TEST(limits_identical_lines_and_says_how_many)
{
	struct log_summary s;
	struct log_sink *sink = calloc(1, sizeof *sink);
	struct log_record *line = calloc(1, sizeof *line + 32);
	int admitted = 0;

	*line = (struct log_record){ .level = 6, .len = 9, .stamp = 4 };
	memcpy(line->bytes, "0000same", 9);
	for (int i = 0; i < 250; i++) {
		line->bytes[0] = (char)('a' + i % 26);   /* another time, the same line */
		admitted += log_sink_admit(sink, line, 1000, &s);
		cr_expect_eq(s.count, 0);
	}
	cr_expect_eq(admitted, LOG_SAME_PER_MINUTE);
	cr_expect(!log_sink_expire(sink, 1059, &s));
	cr_expect(log_sink_admit(sink, line, 1060, &s));
	cr_expect_eq(s.count, 150);
	cr_expect_str_eq(s.text, "same");
	for (int i = 0; i < 101; i++)
		(void)log_sink_admit(sink, line, 1061, &s);
	cr_expect(log_sink_expire(sink, 1200, &s));
	cr_expect_eq(s.count, 2);
	cr_expect(!log_sink_expire(sink, 1200, &s));
	free(sink);
	free(line);
}

LOG_TEST(the_summary_is_a_line_of_the_log)
{
	char *text;

	open_file(true, 0, NULL, 0);
	for (int i = 0; i < 130; i++)
		log_line(ESP_LOG_INFO, "smtp", "flood");
	log_close();
	text = file_read(path);
	cr_expect_eq(count_of(text, "\"msg\":\"flood\""), 100);
	cr_expect(strstr(text, "\"msg\":\"identical lines were left out\""), "%s", text + strlen(text) - 300);
	cr_expect(strstr(text, "\"count\":30}"));
	free(text);
}

LOG_TEST(reopens_its_file_after_rotation)
{
	esp_err err = ESP_ERR_INIT;
	char *text;
	struct stat st;

	open_file(false, 0, NULL, 0);
	log_line(ESP_LOG_INFO, "m", "before");
	cr_assert_eq(rename(path, moved), 0);
	log_line(ESP_LOG_INFO, "m", "between");
	cr_assert_eq(log_reopen(&err), ESP_OK);
	log_line(ESP_LOG_INFO, "m", "after");
	text = file_read(moved);
	cr_expect(strstr(text, "before\n") && strstr(text, "between\n") && !strstr(text, "after\n"));
	free(text);
	text = file_read(path);
	cr_expect(strstr(text, "after\n") && !strstr(text, "between\n"));
	free(text);
	cr_assert_eq(stat(path, &st), 0);
	cr_expect_eq(st.st_mode & 0007, 0, "others may read the log");
}

LOG_TEST(keeps_its_target_when_a_new_one_cannot_be_opened)
{
	const struct log_config bad = { .target = LOG_TO_FILE, .path = "/nowhere/at/all" },
							none = { .target = LOG_TO_FILE },
							good = { .target = LOG_TO_FILE, .path = moved };
	esp_err err = ESP_ERR_INIT;
	char *text;

	open_file(false, 0, NULL, 0);
	cr_expect_eq(log_open(&bad, &err), ESP_EIO);
	cr_expect(strstr(err.text, "/nowhere/at/all"));
	cr_expect_eq(log_open(&none, &err), ESP_EIO);
	cr_expect_eq(log_check(&bad, &err), ESP_EIO);
	cr_expect_eq(log_check(&good, &err), ESP_OK);
	log_line(ESP_LOG_INFO, "m", "still here");
	text = file_read(path);
	cr_expect(strstr(text, "still here"));
	free(text);
}

LOG_TEST(speaks_to_the_journal_socket)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	struct log_config c = { .target = LOG_TO_JOURNAL, .path = path };
	int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
	esp_err err = ESP_ERR_INIT;
	char buf[1024] = "";

	strcpy(addr.sun_path, path);
	cr_expect_eq(log_open(&c, &err), ESP_EIO);   /* nobody there yet */
	cr_assert_eq(bind(fd, (struct sockaddr *)&addr, sizeof addr), 0);
	cr_assert_eq(log_open(&c, &err), ESP_OK, "%s", err.text);
	log_line(ESP_LOG_WARNING, "smtp", "hello", ESP_FINT("n", 1));
	cr_assert_gt(recv(fd, buf, sizeof buf - 1, MSG_DONTWAIT), 0);
	cr_expect_str_eq(buf, "PRIORITY=4\nSYSLOG_IDENTIFIER=esp-server\nMESSAGE=warning smtp: hello n=1\n");
	close(fd);
}

enum { WRITERS = 3, LINES = 2000 };

static void *write_lines(void *arg)
{
	for (int i = 0; i < LINES; i++)
		log_line(ESP_LOG_INFO, "thread", "line", ESP_FINT("who", (int64_t)(intptr_t)arg), ESP_FINT("i", i));
	return NULL;
}

static void through_the_observer(void *arg)
{
	pthread_t threads[WRITERS];

	(void)arg;
	cr_assert_eq(log_attach(loop_observer()), ESP_OK);
	for (intptr_t i = 0; i < WRITERS; i++)
		cr_assert_eq(pthread_create(&threads[i], NULL, write_lines, (void *)i), 0);
	for (int i = 0; i < WRITERS; i++)
		pthread_join(threads[i], NULL);
	log_detach();
	log_line(ESP_LOG_INFO, "thread", "written directly");
}

LOG_TEST(queued_lines_of_all_threads_arrive_whole_and_in_order)
{
	int last[WRITERS] = { -1, -1, -1 }, n = 0;
	char *text;

	open_file(false, 0, NULL, 0);
	test_in_fiber(1, through_the_observer, NULL);
	log_close();
	text = file_read(path);
	for (char *save, *p = strtok_r(text, "\n", &save); p; p = strtok_r(NULL, "\n", &save)) {
		int who, i;

		if (!strstr(p, "thread: line"))
			continue;
		cr_assert_eq(sscanf(strstr(p, "who="), "who=%d i=%d", &who, &i), 2);
		cr_assert_gt(i, last[who]);
		last[who] = i;
		n++;
	}
	cr_expect_eq(n, WRITERS * LINES);   /* the queue holds more than that */
	free(text);
	text = file_read(path);
	cr_expect(strstr(text, "thread: written directly\n"));
	free(text);
}

static void flood(void *arg)
{
	int *stop = arg;

	(void)stop;
	/* the observer never runs: this very thread holds the control loop, and the observer is the control loop here */
	cr_assert_eq(log_attach(loop_control()), ESP_OK);
	for (int i = 0; i < 20000; i++)
		log_line(ESP_LOG_INFO, "m", "flood", ESP_FINT("i", i));
	log_tick();
	log_detach();
}

LOG_TEST(drops_and_counts_what_its_queue_cannot_hold)
{
	struct text t = { 0 };
	char *text;

	open_file(false, 0, NULL, 0);
	test_in_fiber(1, flood, NULL);
	text = file_read(path);
	cr_expect_eq(count_of(text, "m: flood"), 16384);
	cr_expect(strstr(text, "core/bus: log lines were dropped count=3616\n"), "%.300s", text);
	free(text);
	metric_render(text_sink, &t);
	cr_expect(strstr(t.p, "esp_log_dropped_lines_total 3616\n"), "%s", t.p);
	free(t.p);
}

static esp_verdict on_spin(esp_module *self, const void *args, esp_answer *answer)
{
	(void)self;
	(void)args;
	(void)answer;
	for (esp_nsec end = clock_monotonic() + 200 * ESP_MSEC; clock_monotonic() < end; )
		;
	return ESP_VERDICT_CONTINUE;
}

static _Atomic bool spun;

static void on_worker(void *arg)
{
	esp_outcome o;

	chain_run(arg, NULL, NULL, NULL, &o);
	atomic_store(&spun, true);
}

static void stall(void *arg)
{
	static struct fake f;
	const esp_hook h = { .size = sizeof h, .point = ESP_AT_HELO, .run = { .any = on_spin } };
	const struct chain_member m = { .module = fake_pub(&f), .instance = "spinner" };
	struct chain *c;

	(void)arg;
	fake_init(&f, "spinner");
	cr_assert_eq(hooks_add(fake_pub(&f), &h), ESP_OK);
	cr_assert_eq(chain_build(ESP_AT_HELO, &m, 1, &c, NULL), ESP_OK);
	cr_assert_eq(bus_start(loop_observer()), ESP_OK);
	cr_assert_eq(worker_post_fiber(loop_worker(0), NULL, "session", on_worker, c), ESP_OK);
	while (!atomic_load(&spun))
		cr_assert_eq(fiber_sleep_until(clock_monotonic() + 5 * ESP_MSEC), ESP_OK);
	cr_assert_eq(fiber_sleep_until(clock_monotonic() + 50 * ESP_MSEC), ESP_OK);
	bus_stop(clock_monotonic() + ESP_SEC);
	chain_free(c);
	hooks_forget(fake_pub(&f));
}

LOG_TEST(names_a_hook_that_blocks_its_worker)
{
	struct text t = { 0 };
	char *text;

	open_file(false, 0, NULL, 0);
	test_in_fiber(1, stall, NULL);
	bus_free();
	text = file_read(path);
	cr_expect(strstr(text, "warning core/loop: a worker does not move worker=worker-0 busy="), "%s", text);
	cr_expect(strstr(text, "by=spinner point=helo fiber=session\n"), "%s", text);
	cr_expect(strstr(text, "notice core/loop: a worker moves again"), "%s", text);
	free(text);
	metric_render(text_sink, &t);
	cr_expect(strstr(t.p, "esp_loop_stalls_total{module=\"spinner\",point=\"helo\"}"), "%s", t.p);
	free(t.p);
}

/* Each reload of the server opens the log again. */
LOG_TEST(keeps_nothing_when_it_is_opened_again_unchanged)
{
	const struct log_level levels[] = { { "core/net", ESP_LOG_DEBUG } };
	size_t before;

	open_file(true, 0, levels, 1);
	before = mallinfo2().uordblks;
	for (int i = 0; i < 1000; i++)
		open_file(true, 0, levels, 1);
	cr_assert_lt(mallinfo2().uordblks, before + 16384);
	cr_assert(log_enabled_for(ESP_LOG_DEBUG, "core/net"));
	open_file(true, 0, NULL, 0);
	cr_assert_not(log_enabled_for(ESP_LOG_DEBUG, "core/net"), "new levels are taken");
}
