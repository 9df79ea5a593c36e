/* core/module/crash.c - blames of crashes, written by the dying process, read by its supervisor; see crash.h.
 *
 * crash.log: a line "seconds signal instance point thread pid" for each crash ("-" where nothing is known), then its
 * backtrace in indented lines; signal 0 at "retried": an administrator had the instance tried again.  The writing half
 * runs in a signal handler: no allocation, no stdio, no locks; the name of the file was opened before.
 */
#include "core/module/crash.h"

#include <execinfo.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "core/base/status.h"
#include "core/loop/loop.h"

enum { LOG_MAX = 1 << 20, LINE_MAX_BYTES = 256, FRAMES_MAX = 48, BLAMES_MAX = 32, FRESH_S = 60 };

static int log_fd = -1;

/* ---- the dying process ------------------------------------------------------------------------------------ */

struct text { char bytes[LINE_MAX_BYTES]; size_t len; };

/* A word of the line: never empty, never with a blank. */
static void put(struct text *t, const char *s)
{
	if (!s || !*s)
		s = "-";
	for (; *s && t->len < sizeof t->bytes - 2; s++)
		t->bytes[t->len++] = (char)(*s <= ' ' ? '_' : *s);
	t->bytes[t->len++] = ' ';
}

static void put_number(struct text *t, uint64_t v)
{
	char digits[24];
	size_t i = sizeof digits - 1;

	digits[i] = '\0';
	do {
		digits[--i] = (char)('0' + v % 10);
		v /= 10;
	} while (v);
	put(t, digits + i);
}

/* A whole entry: who crashed where; 0 or -1. */
static int write_entry(int fd, int signal, const char *module, const char *point, const char *thread, int pid)
{
	struct text t = { .len = 0 };
	struct timespec now = { .tv_sec = 0 };

	(void)clock_gettime(CLOCK_REALTIME, &now);
	put_number(&t, (uint64_t)now.tv_sec);
	put_number(&t, (uint64_t)signal);
	put(&t, module);
	put(&t, point);
	put(&t, thread);
	put_number(&t, (uint64_t)pid);
	t.bytes[t.len - 1] = '\n';
	return write(fd, t.bytes, t.len) < 0 ? -1 : 0;
}

static void write_frames(void)
{
	void *frames[FRAMES_MAX];
	int n = backtrace(frames, FRAMES_MAX);

	for (int i = 0; i < n; i++) {
		if (write(log_fd, "  ", 2) < 0)
			return;
		backtrace_symbols_fd(frames + i, 1, log_fd);
	}
}

static void on_crash(const struct loop_crash *c)
{
	const char *point = c->stack_overflow ? "stack-overflow" : c->crumb.point;

	if (log_fd >= 0 && !write_entry(log_fd, c->signum, c->crumb.module, point, c->thread, getpid()))
		write_frames();
}

void crash_forgive(const char *instance)
{
	if (log_fd >= 0 && write_entry(log_fd, 0, instance, "retried", "control", getpid()))
		return;                  /* the next start may leave it out once more: it can be tried again */
}

static char *path_in(const char *dir, const char *name)
{
	char *path = NULL;

	return asprintf(&path, "%s/%s", dir, name) < 0 ? NULL : path;
}

static void rotate(const char *dir, const char *path)
{
	char *old = path_in(dir, "crash.log.1");
	struct stat st;

	if (old && stat(path, &st) == 0 && st.st_size > LOG_MAX)
		(void)rename(path, old);
	free(old);
}

int crash_install(const char *dir, esp_err *err)
{
	char *path;
	int rc;

	loop_install_crash_handlers(on_crash);
	if (!dir)
		return ESP_OK;
	path = path_in(dir, "crash.log");
	if (!path)
		return err_fail(err, ESP_ENOMEM, "no memory");
	rotate(dir, path);
	if (log_fd >= 0)
		close(log_fd);
	log_fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0640);
	rc = log_fd < 0 ? err_fail_errno(err, "%s", path) : ESP_OK;
	free(path);
	return rc;
}

/* ---- the supervisor ---------------------------------------------------------------------------------------- */

static int parse(const char *line, struct crash_blame *b)
{
	long long when;
	int n;

	*b = (struct crash_blame){ .when = 0 };
	n = sscanf(line, "%lld %d %63s %31s %*s %d", &when, &b->signal, b->module, b->point, &b->pid);
	if (n < 4)
		return -1;
	b->when = when;
	if (!strcmp(b->module, "-"))
		b->module[0] = '\0';
	if (!strcmp(b->point, "-"))
		b->point[0] = '\0';
	return 0;
}

static size_t read_lines(const char *dir, bool with_retried, struct crash_blame *out, size_t max)
{
	char *path = path_in(dir, "crash.log"), line[512];
	FILE *f = path ? fopen(path, "re") : NULL;
	size_t n = 0;

	free(path);
	while (max > 0 && f && fgets(line, sizeof line, f)) {
		struct crash_blame b;

		if (*line < '0' || *line > '9' || parse(line, &b) < 0 || (!b.signal && !with_retried))
			continue;
		if (n == max)
			n--;
		memmove(out + 1, out, n * sizeof *out);
		out[0] = b;
		n++;
	}
	if (f)
		(void)fclose(f);
	return n;
}

size_t crash_read(const char *dir, struct crash_blame *out, size_t max)
{
	return read_lines(dir, false, out, max);
}

bool crash_of(const char *dir, int pid, struct crash_blame *ret)
{
	struct crash_blame blames[BLAMES_MAX];
	size_t n = read_lines(dir, false, blames, BLAMES_MAX);

	for (size_t i = 0; i < n; i++)
		if (blames[i].pid == pid && time(NULL) - blames[i].when <= FRESH_S) {
			*ret = blames[i];
			return true;
		}
	return false;
}

void crash_note(const char *dir, int pid, int signal)
{
	struct crash_blame b;
	char *path = crash_of(dir, pid, &b) ? NULL : path_in(dir, "crash.log");
	int fd = path ? open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0640) : -1;

	free(path);
	if (fd < 0)
		return;
	(void)!write_entry(fd, signal, NULL, NULL, "supervisor", pid);   /* full: the log said it */
	close(fd);
}

/* Crashed before it could be asked for its hooks: then not even that is tried again. */
static int before_start(const struct crash_blame *b)
{
	return !strcmp(b->point, "load") || !strcmp(b->point, "check") || !strcmp(b->point, "init");
}

static bool named_before(const struct crash_blame *blames, size_t i)
{
	for (size_t k = 0; k < i; k++)
		if (!strcmp(blames[k].module, blames[i].module))
			return true;
	return false;
}

/* Of the module that blames[i], its newest, names. */
static uint32_t count_blames(const struct crash_blame *blames, size_t n, size_t i, esp_time since)
{
	uint32_t count = 0;

	for (size_t k = i; k < n; k++) {
		if (strcmp(blames[k].module, blames[i].module) != 0)
			continue;
		if (!blames[k].signal)
			break;
		count += blames[k].when >= since;
	}
	return count;
}

size_t crash_left_out(const char *dir, esp_time now, uint32_t times, esp_time window, char (*out)[64], size_t max)
{
	struct crash_blame blames[BLAMES_MAX];
	size_t n = read_lines(dir, true, blames, BLAMES_MAX), found = 0;

	for (size_t i = 0; i < n && found < max; i++) {
		const struct crash_blame *b = &blames[i];

		if (!b->module[0] || named_before(blames, i))
			continue;
		if (count_blames(blames, n, i, now - window) >= times)
			(void)snprintf(out[found++], sizeof *out, "%s%.62s", before_start(b) ? "-" : "", b->module);
	}
	return found;
}
