/* tests/unit/control/test_supervisor.c - when another server process is started, without whom, and who is told what.
 *
 * Server processes are doubles: server_double.c says what their words do.
 */
#include "core/control/supervisor.h"

#include "tests/support/test.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "core/control/restart.h"
#include "core/control/spawn.h"
#include "core/module/crash.h"

static char dir[64], heard[8192];

static void in_dir(char path[128], const char *name) { snprintf(path, 128, "%s/%s", dir, name); }

static void setup(void)
{
	strcpy(dir, "/tmp/esp-supervisor-XXXXXX");
	cr_assert_not_null(mkdtemp(dir));
}

static void teardown(void)
{
	static const char *const names[] = { "todo", "starts", "heard", "crash.log", "said" };
	char path[128];

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		in_dir(path, names[i]);
		unlink(path);
	}
	rmdir(dir);
}

static void put(const char *name, const char *text)
{
	char path[128];
	FILE *f;

	in_dir(path, name);
	f = fopen(path, "we");
	cr_assert(f && fputs(text, f) >= 0 && fclose(f) == 0);
}

static size_t get(const char *name, char *ret, size_t cap)
{
	char path[128];
	ssize_t n;
	int fd;

	in_dir(path, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = read(fd, ret, cap - 1);
	close(fd);
	ret[n > 0 ? n : 0] = '\0';
	return strlen(ret);
}

/* --- restart ------------------------------------------------------------------------------------------------- */

Test(supervisor, waits_twice_as_long_after_each_crash_up_to_half_a_minute)
{
	static const int64_t waits[] = { 100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 30000, 30000 };
	struct restart r = { .at = 0 };

	cr_assert_not(restart_is_due(&r, 1 << 30), "nothing has ended");
	for (size_t i = 0; i < sizeof(waits) / sizeof(waits[0]); i++) {
		int64_t now = 1000000 * (int64_t)(i + 1);

		cr_assert_eq(restart_later(&r, now, 0), waits[i], "crash %zu", i + 1);
		cr_assert_not(restart_is_due(&r, now + waits[i] - 1));
		cr_assert(restart_is_due(&r, now + waits[i]));
	}
}

Test(supervisor, begins_the_waits_anew_after_a_minute_of_service)
{
	struct restart r = { .at = 0 };

	cr_assert_eq(restart_later(&r, 1, 0), 100);
	cr_assert_eq(restart_later(&r, 1, 59999), 200);
	cr_assert_eq(restart_later(&r, 1, 60000), 100);
	cr_assert_eq(restart_later(&r, 1, 0), 200);
}

Test(supervisor, leaves_out_who_was_blamed_three_times_within_five_minutes, .init = setup, .fini = teardown)
{
	static struct spawn s;

	restart_leave_out(&s, dir, 1000);
	cr_assert_eq(s.nleft_out, 0, "there is no crash.log");
	put("crash.log", "1000 11 spam helo w\n1001 11 other helo w\n1100 11 spam helo w\n");
	restart_leave_out(&s, dir, 1100);
	cr_assert_eq(s.nleft_out, 0, "twice");
	put("crash.log", "1000 11 spam helo w\n1001 11 other helo w\n1100 11 spam helo w\n1300 11 spam mail w\n");
	restart_leave_out(&s, dir, 1300);
	cr_assert_eq(s.nleft_out, 1);
	cr_assert_str_eq(s.left_out[0], "spam");
	restart_leave_out(&s, dir, 1301);
	cr_assert_eq(s.nleft_out, 0, "the first is five minutes ago");
}

/* How process 7 ended, with that crash.log of now, or of `ago` seconds ago. */
static const char *ending(int status, const char *in_dir, int ago, const char *entry)
{
	static char how[256];
	char log[128];

	snprintf(log, sizeof(log), "%lld 11 old helo w 6\n%lld %s\n", (long long)time(NULL), (long long)time(NULL) - ago,
		entry);
	put("crash.log", log);
	return spawn_ending(7, status, in_dir, how, sizeof(how));
}

Test(supervisor, says_how_a_server_process_ended_and_who_is_to_blame, .init = setup, .fini = teardown)
{
	const char *nobody = "was killed by signal 11 (Segmentation fault)";
	char how[256];
	const int exited = 3 << 8, killed = SIGSEGV;

	cr_assert_str_eq(spawn_ending(7, exited, dir, how, sizeof(how)), "ended with exit code 3");
	cr_assert_str_eq(spawn_ending(7, killed, dir, how, sizeof(how)), nobody);
	cr_assert_str_eq(ending(killed, dir, 1, "11 spam message w 7"),
		"was killed by signal 11 (Segmentation fault) in module \"spam\" at message");
	cr_assert_str_eq(ending(killed, NULL, 0, "11 spam message w 7"), nobody);
	cr_assert_str_eq(ending(killed, dir, 61, "11 spam message w 7"), nobody, "a process of that number long ago");
	cr_assert_str_eq(ending(killed, dir, 0, "11 spam message w 8"), nobody, "that was another process");
	cr_assert_str_eq(ending(killed, dir, 0, "11 - - control 7"), nobody, "nobody is to blame");
}

/* --- a supervisor with doubles ------------------------------------------------------------------------------- */

static struct supervisor_start start;

/* Run one until it ends: its exit code.  Then `heard` is what its server processes heard. */
static int supervise(const char *todo)
{
	char config[128], said[128];
	struct supervisor_opts opts = { .config_path = config, .binary = spawn_own_binary(), .foreground = true };
	int code, fd, ours = dup(STDERR_FILENO);

	in_dir(config, "esp.conf");                /* there is none: its settings stay as they are */
	in_dir(said, "said");
	put("todo", todo);
	snprintf(start.settings.path, sizeof(start.settings.path), "%s", dir);
	start.privilege = (struct privilege){ .uid = geteuid(), .gid = getegid() };
	start.lock_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	start.ready_fd = -1;
	fflush(NULL);
	fd = open(said, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	cr_assert_geq(dup2(fd, STDERR_FILENO), 0);
	close(fd);
	code = supervisor_run(&opts, &start);
	cr_assert_geq(dup2(ours, STDERR_FILENO), 0);
	close(ours);
	get("heard", heard, sizeof(heard));
	return code;
}

/* When that line was written, perhaps with more behind it, in ms; it must be there. */
static int64_t heard_at(int number, const char *what)
{
	size_t length = strlen(what);

	for (const char *p = heard; *p; p += strcspn(p, "\n") + 1) {
		long long at;
		int n, text = 0;

		if (sscanf(p, "%d %lld %n", &n, &at, &text) == 2 && text && n == number &&
		    strncmp(p + text, what, length) == 0 && strchr("\n ", p[(size_t)text + length]))
			return at;
	}
	cr_assert_fail("\"%d %s\" is not in: %s", number, what, heard);
	return 0;
}

static size_t starts(void)
{
	char text[64];

	return get("starts", text, sizeof(text));
}

#define DOUBLES .init = setup, .fini = teardown, .timeout = 30

Test(supervisor, starts_another_one_after_a_crash_and_at_last_without_the_module, DOUBLES)
{
	cr_assert_eq(supervise("ready crash:spam\n"
	                       "ready crash:spam\n"
	                       "crash:spam\n"
	                       "ready stop? wait\n"), 0);
	cr_assert_eq(starts(), 4u);
	cr_assert_geq(heard_at(2, "start") - heard_at(1, "start"), 100);
	cr_assert_geq(heard_at(3, "start") - heard_at(2, "start"), 200);
	cr_assert_geq(heard_at(4, "start --leave-out spam") - heard_at(3, "start"), 400);
	heard_at(4, "stop");
	heard_at(4, "end");
}

Test(supervisor, tells_the_next_one_how_often_when_and_why_it_was_needed, DOUBLES)
{
	char text[256];
	int64_t began = time(NULL);
	bool told = false;

	cr_assert_eq(supervise("ready crash:spam\nready exit:3\nready stop? wait\n"), 0);
	for (int64_t at = began; at <= time(NULL) && !told; at++) {
		snprintf(text, sizeof(text), "start --restarts 2 --restarted %lld --restart-reason ended with exit code 3\n",
			(long long)at);
		told = strstr(heard, text) != NULL;
	}
	cr_assert(told, "%s", heard);
	cr_assert_not_null(
		strstr(heard, "--restart-reason was killed by signal 9 (Killed) in module \"spam\" at helo"), "%s", heard);
}

Test(supervisor, notes_in_crash_log_who_died_without_a_word, DOUBLES)
{
	struct crash_blame b[3];

	cr_assert_eq(supervise("ready crash:spam\nready kill\nready stop? wait\n"), 0);
	cr_assert_eq(crash_read(dir, b, 3), 2u, "one entry for each");
	cr_assert_eq(b[0].signal, SIGKILL);
	cr_assert_str_eq(b[0].module, "");
	cr_assert_str_eq(b[1].module, "spam");
}

/* Does every line that the supervisor said begin like that? */
static void every_line_begins(const char *head)
{
	char said[2048], *line, *rest;

	get("said", said, sizeof(said));
	cr_assert_not_null(strstr(said, "starting another one in 0.1 s"), "%s", said);
	for (line = strtok_r(said, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
		char *form = line;

		for (char *p = line; *p; p++)
			*p = *p >= '0' && *p <= '9' ? '9' : *p;
		cr_assert_eq(strncmp(form, head, strlen(head)), 0, "%s", line);
	}
}

Test(supervisor, says_when_it_says_something, DOUBLES)
{
	cr_assert_eq(supervise("ready exit:3\nready stop? wait\n"), 0);
	every_line_begins("9999-99-99T99:99:99.999Z ");
}

Test(supervisor, says_it_in_the_format_of_the_log, DOUBLES)
{
	start.settings.log_json = true;
	cr_assert_eq(supervise("ready exit:3\nready stop? wait\n"), 0);
	every_line_begins("{\"time\":\"9999-99-99T99:99:99.999Z\",\"level\":\"");
}

Test(supervisor, does_not_try_again_when_the_first_one_refuses_to_start, DOUBLES)
{
	cr_assert_eq(supervise("exit:3\nready stop? wait\n"), 1);
	cr_assert_eq(starts(), 1u);
}

Test(supervisor, tries_again_when_the_first_one_crashes_before_it_is_ready, DOUBLES)
{
	cr_assert_eq(supervise("crash:spam\nready stop? wait\n"), 0);
	cr_assert_eq(starts(), 2u);
}

Test(supervisor, takes_any_end_for_a_crash_once_it_had_served, DOUBLES)
{
	cr_assert_eq(supervise("ready exit:0\nready exit:3\nready stop? wait\n"), 0);
	cr_assert_eq(starts(), 3u);
}

Test(supervisor, passes_a_hangup_on, DOUBLES)
{
	cr_assert_eq(supervise("ready hangup wait stop? wait\n"), 0);
	heard_at(1, "reload");
	heard_at(1, "stop");
}

Test(supervisor, lets_the_old_one_go_when_the_new_one_is_ready, DOUBLES)
{
	cr_assert_eq(supervise("ready upgrade? wait\nready stop? wait\n"), 0);
	cr_assert_eq(starts(), 2u);
	heard_at(1, "upgraded");
	cr_assert_leq(heard_at(2, "start"), heard_at(1, "end"));
}

Test(supervisor, keeps_the_old_one_when_the_new_one_does_not_start, DOUBLES)
{
	cr_assert_eq(supervise("ready upgrade? wait stop? wait\nexit:3\n"), 0);
	cr_assert_eq(starts(), 2u);
	heard_at(1, "upgrade failed");
	heard_at(1, "stop");
}

Test(supervisor, kills_one_that_cannot_be_understood_or_reached, DOUBLES)
{
	cr_assert_eq(supervise("ready babble hang\nready silence hang\nready stop? wait\n"), 0);
	cr_assert_eq(starts(), 3u);
}

Test(supervisor, kills_one_that_does_not_stop_in_time, DOUBLES)
{
	char said[1024];

	cr_assert_eq(supervise("ready stop? hang\n"), SUPERVISOR_UNORDERLY);
	cr_assert_eq(starts(), 1u);
	get("said", said, sizeof(said));
	cr_assert_not_null(strstr(said, "did not stop in time: killing it"), "%s", said);
}

Test(supervisor, tells_by_its_exit_code_and_by_name_who_crashed_while_it_stopped, DOUBLES)
{
	char said[1024];

	cr_assert_eq(supervise("ready stop? wait crash:spam\n"), SUPERVISOR_UNORDERLY);
	cr_assert_eq(starts(), 1u, "it was asked to end");
	get("said", said, sizeof(said));
	cr_assert_not_null(strstr(said, "was killed by signal 9 (Killed) in module \"spam\" at helo"), "%s", said);
}
