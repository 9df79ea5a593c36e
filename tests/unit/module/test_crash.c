/* tests/unit/module/test_crash.c - who is blamed for a crash, and who is left out for it. */
#include "tests/support/test.h"
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "core/base/sanitize.h"
#include "core/module/crash.h"
#include "tests/unit/module/rig.h"

static char dir[] = "/tmp/esp-crash-XXXXXX";

static void make(void) { cr_assert(mkdtemp(dir)); }

static void drop(void)
{
	char command[64];

	(void)snprintf(command, sizeof command, "rm -rf %s", dir);
	cr_assert(system(command) == 0);
}

static void write_log(const char *text)
{
	char path[64];
	FILE *f;

	(void)snprintf(path, sizeof path, "%s/crash.log", dir);
	f = fopen(path, "we");
	cr_assert(f && fputs(text, f) >= 0 && fclose(f) == 0);
}

Test(crash, reads_the_newest_entries_first, .init = make, .fini = drop)
{
	struct crash_blame b[2];

	write_log("100 11 one helo worker-0\n  frame\n200 6 two message worker-1\n  frame 300 11 x y\n300 11 - - "
			  "control\ngarbage\n");
	cr_assert(crash_read(dir, b, 2) == 2);
	cr_expect(b[0].when == 300 && b[0].module[0] == '\0' && b[0].point[0] == '\0');
	cr_expect_str_eq(b[1].module, "two");
	cr_expect_str_eq(b[1].point, "message");
	cr_expect(b[1].signal == 6);
}

Test(crash, leaves_out_who_is_blamed_three_times_within_the_window, .init = make, .fini = drop)
{
	char out[4][64];

	write_log("1000 11 a helo w\n1010 11 b helo w\n1100 11 a helo w\n1200 11 a mail w\n1210 11 b init w\n");
	cr_expect(crash_left_out(dir, 1290, 3, 300, out, 4) == 1);
	cr_expect_str_eq(out[0], "a");
	cr_expect(crash_left_out(dir, 1301, 3, 300, out, 4) == 0, "the first is out of the window");
	cr_expect(crash_left_out(dir, 1290, 2, 300, out, 4) == 2);
	cr_expect_str_eq(out[0], "-b", "b crashed in init, so it must not even be loaded");
}

Test(crash, counts_only_what_came_after_a_new_try, .init = make, .fini = drop)
{
	struct crash_blame b;
	char out[4][64];

	write_log("1000 11 a helo w\n1010 11 a helo w\n1020 11 a helo w\n1030 0 a retried control\n1040 11 b helo w\n");
	cr_expect(crash_left_out(dir, 1050, 3, 300, out, 4) == 0, "it was forgiven");
	cr_expect(crash_left_out(dir, 1050, 1, 300, out, 4) == 1);
	cr_expect_str_eq(out[0], "b");
	write_log("1000 0 a retried control\n1010 11 a helo w\n1020 11 a helo w\n1030 11 a helo w\n");
	cr_expect(crash_left_out(dir, 1050, 3, 300, out, 4) == 1, "it did it again");
	write_log("1000 11 a helo w\n1030 0 a retried control\n");
	cr_expect(crash_read(dir, &b, 1) == 1 && b.when == 1000, "a try is no crash");
}

Test(crash, a_new_try_is_written_where_the_supervisor_reads_it, .init = make, .fini = drop)
{
	char out[4][64];
	esp_err err = ESP_ERR_INIT;

	cr_assert(crash_install(dir, &err) == ESP_OK, "%s", err.text);
	write_log("1 11 a helo w\n2 11 a helo w\n");
	cr_expect(crash_left_out(dir, 3, 2, 300, out, 4) == 1);
	crash_forgive("a");
	cr_expect(crash_left_out(dir, 3, 2, 300, out, 4) == 0);
}

Test(crash, knows_what_a_process_left_and_adds_what_it_could_not, .init = make, .fini = drop)
{
	struct crash_blame b[4];
	char log[128];

	(void)snprintf(log, sizeof log, "%lld 11 a helo w 41\n%lld 6 a helo w 42\n", (long long)time(NULL),
	               (long long)time(NULL) - 61);
	write_log(log);
	cr_expect(crash_of(dir, 41, b) && b->signal == 11 && b->pid == 41);
	cr_expect(!crash_of(dir, 42, b), "that was another process of this number");
	crash_note(dir, 41, 11);
	cr_expect(crash_read(dir, b, 4) == 2, "it left its own entry");
	crash_note(dir, 42, SIGKILL);
	crash_note(dir, 43, SIGKILL);
	cr_expect(crash_read(dir, b, 4) == 4);
	cr_expect(b[0].pid == 43 && b[0].signal == SIGKILL && !b[0].module[0] && !b[0].point[0]);
}

Test(crash, has_nothing_to_say_without_a_log, .init = make, .fini = drop)
{
	struct crash_blame b;

	cr_expect(crash_read(dir, &b, 1) == 0);
}

static void crash(struct rig *r)
{
	cr_assert(crash_install(dir, &r->err) == ESP_OK, "%s", r->err.text);
	rig_module(r, "abi_crash");
	rig_conf(r, "{ name = \"bang\"; file = \"abi_crash\"; }");
	cr_assert(rig_load(r) == ESP_OK, "%s", r->err.text);
	(void)rig_helo(1, NULL);
}

Test(crash, blames_the_module_and_the_point, .init = make, .fini = drop)
{
	struct crash_blame b;
	pid_t child = fork();
	int status;

	if (child == 0) {
		if (!freopen("/dev/null", "w", stderr))
			_exit(0);
		rig_run(crash);
		_exit(0);
	}
	cr_assert(waitpid(child, &status, 0) == child);
	cr_expect(!WIFEXITED(status) || WEXITSTATUS(status) != 0, "the process survived");   /* ASan exits */
	cr_assert(crash_read(dir, &b, 1) == 1, "nothing was written");
	cr_expect_str_eq(b.module, "bang");
	cr_expect_str_eq(b.point, "helo");
	cr_expect(b.signal == SIGSEGV && b.pid == child);
}

#if !SANITIZE_THREAD   /* its own handler runs first, and hangs when several threads are in it */
enum { AT_ONCE = 4, DEATHS = 60 };
static pthread_barrier_t together;

static void *crash_together(void *arg)
{
	volatile uintptr_t nowhere = 16;

	(void)pthread_barrier_wait(&together);
	*(volatile uint32_t *)nowhere = 1;
	return arg;
}

/* Dies of all its threads at once. */
static void die_together(void)
{
	pthread_t threads[AT_ONCE];
	esp_err err = ESP_ERR_INIT;

	if (!freopen("/dev/null", "w", stderr) || crash_install(dir, &err) != ESP_OK)
		_exit(0);
	(void)pthread_barrier_init(&together, NULL, AT_ONCE);
	for (int i = 0; i < AT_ONCE; i++)
		if (pthread_create(&threads[i], NULL, crash_together, NULL) != 0)
			_exit(0);
	(void)pthread_join(threads[0], NULL);
	_exit(0);
}

Test(crash, has_one_entry_however_many_threads_crash_at_once, .init = make, .fini = drop)
{
	static struct crash_blame b[2 * DEATHS];
	int status;

	for (size_t i = 1; i <= DEATHS; i++) {
		pid_t child = fork();

		if (child == 0)
			die_together();
		cr_assert(waitpid(child, &status, 0) == child);
		cr_assert(!WIFEXITED(status) || WEXITSTATUS(status) != 0, "the process survived");   /* ASan exits */
		cr_assert(crash_read(dir, b, 2 * DEATHS) == i, "death %zu left %zd entries", i,
		          (ssize_t)crash_read(dir, b, 2 * DEATHS) - (ssize_t)i + 1);
		cr_expect(b[0].pid == child && b[0].signal == SIGSEGV);
	}
}
#endif

/* ---- left out ---------------------------------------------------------------------------------------------- */

static void left_out(struct rig *r)
{
	static const char *const names[] = { "bang" };

	modules_set_left_out(r->m, names, 1);
	rig_module(r, "abi_crash");
	rig_conf(r, "{ name = \"bang\"; file = \"abi_crash\"; optional = true; }");
	cr_assert(rig_load(r) == ESP_OK, "%s", r->err.text);
	cr_expect_str_eq(rig_state(r, "bang"), "left out");
	cr_expect(rig_helo(0, NULL).verdict == ESP_VERDICT_DEFER, "its failure policy must answer, never silently open");
}
Test(crash, answers_with_the_failure_policy_of_a_module_left_out) { rig_run(left_out); }

static void not_optional(struct rig *r)
{
	static const char *const names[] = { "f" };

	modules_set_left_out(r->m, names, 1);
	rig_variant(r, "abi_filter", "a");
	rig_conf(r, "{ name = \"f\"; file = \"abi_filter\"; config = { code = 551; }; }");
	cr_assert(rig_load(r) == ESP_OK, "%s", r->err.text);
	cr_expect_str_eq(rig_state(r, "f"), "active");
	cr_expect(rig_helo(0, NULL).answer.smtp_code == 551);
}
Test(crash, never_leaves_out_what_is_not_optional) { rig_run(not_optional); }

static void tried_again(struct rig *r)
{
	static const char *const names[] = { "-f" };

	modules_set_left_out(r->m, names, 1);
	rig_variant(r, "abi_filter", "a");
	rig_conf(r, "{ name = \"f\"; file = \"abi_filter\"; optional = true; config = { code = 551; }; }");
	cr_assert(rig_load(r) == ESP_OK, "%s", r->err.text);
	cr_expect(rig_helo(0, NULL).answer.smtp_code == 0);
	cr_assert(modules_reload(r->m, "f", NULL, NULL, &r->err) == ESP_OK, "%s", r->err.text);
	cr_expect_str_eq(rig_state(r, "f"), "active");
	cr_expect(rig_helo(0, NULL).answer.smtp_code == 551);
	cr_assert(rig_reload(r) == ESP_OK, "%s", r->err.text);
	cr_expect_str_eq(rig_state(r, "f"), "active", "the next reload took it away again");
}
Test(crash, tries_again_what_an_administrator_names) { rig_run(tried_again); }

static void fails_again(struct rig *r)
{
	static const char *const names[] = { "f" };

	modules_set_left_out(r->m, names, 1);
	rig_module(r, "abi_fail");
	rig_conf(r, "{ name = \"f\"; file = \"abi_fail\"; optional = true; config = { step = \"start\"; }; }");
	cr_assert(rig_load(r) == ESP_OK, "%s", r->err.text);
	cr_assert(modules_reload(r->m, "f", NULL, NULL, &r->err) != ESP_OK);
	cr_expect_str_eq(rig_state(r, "f"), "left out", "what does not start stays left out");
}
Test(crash, leaves_out_still_what_does_not_start_when_named) { rig_run(fails_again); }

static void not_loaded(struct rig *r)
{
	static const char *const names[] = { "-gone" };

	modules_set_left_out(r->m, names, 1);
	rig_conf(r, "{ name = \"gone\"; file = \"no_such_file\"; optional = true; }");
	cr_assert(rig_load(r) == ESP_OK, "%s", r->err.text);
	cr_expect_str_eq(rig_state(r, "gone"), "not loaded");
}
Test(crash, does_not_load_what_crashed_before_it_could_start) { rig_run(not_loaded); }
