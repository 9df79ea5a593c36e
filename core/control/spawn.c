/* core/control/spawn.c - starting a server process; see spawn.h.
 *
 * The supervisor has one thread, so the child may call anything between fork and exec.  It dies with its parent
 * (PR_SET_PDEATHSIG): a server that nobody supervises would hold ports and locks.
 */
#include "core/control/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/control/link.h"
#include "core/control/privilege.h"
#include "core/module/crash.h"

enum { EXIT_NOT_STARTED = 70 };

const char *spawn_own_binary(void)
{
	static char path[4096];
	ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);

	if (n < 0)
		return "/proc/self/exe";
	path[n] = '\0';
	return path;
}

_Noreturn static void child_fail(const char *step)
{
	dprintf(STDERR_FILENO, "esp-server: cannot start the server process: %s: %s%s\n", step, strerror(errno),
		errno == EACCES ? "; server.user must be able to reach and run it" : "");
	_exit(EXIT_NOT_STARTED);
}

/* In the child, whatever it becomes. */
static void child_prepare(const struct spawn *s, pid_t parent)
{
	const char *step = "";
	sigset_t none;
	char *const keep = getenv("NOTIFY_SOCKET");

	setsid();                    /* the terminal's ^C is for the supervisor, which stops us in order */
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	for (int sig = 1; sig < NSIG; sig++)
		signal(sig, SIG_DFL);
	if (keep)
		unsetenv("NOTIFY_SOCKET");
	privilege_raise_nofile();
	if (privilege_drop(s->privilege, &step) != ESP_OK)
		child_fail(step);
	/* after the ids changed: changing them clears it */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) || getppid() != parent)
		child_fail("the supervisor is gone");
}

int spawn_server(const struct spawn *s, pid_t *ret_pid, int *ret_link)
{
	const char *argv[16 + 2 * SPAWN_LEFT_OUT];
	char link_text[16], lock_text[16], count[16], last[24];
	pid_t parent = getpid();
	int pair[2], n = 0;

	if (link_pair(pair) != ESP_OK)
		return ESP_EIO;
	snprintf(link_text, sizeof(link_text), "%d", pair[1]);
	snprintf(lock_text, sizeof(lock_text), "%d", s->lock_fd);
	argv[n++] = s->binary;
	argv[n++] = "server-process";
	argv[n++] = "--config";
	argv[n++] = s->config_path;
	argv[n++] = "--link";
	argv[n++] = link_text;
	argv[n++] = "--lock";
	argv[n++] = lock_text;
	for (size_t i = 0; i < s->nleft_out; i++) {
		argv[n++] = "--leave-out";
		argv[n++] = s->left_out[i];
	}
	if (s->restarts.count) {
		snprintf(count, sizeof(count), "%u", s->restarts.count);
		snprintf(last, sizeof(last), "%lld", (long long)s->restarts.last);
		argv[n++] = "--restarts";
		argv[n++] = count;
		argv[n++] = "--restarted";
		argv[n++] = last;
		argv[n++] = "--restart-reason";
		argv[n++] = s->restarts.why;
	}
	argv[n] = NULL;
	*ret_pid = fork();
	if (*ret_pid == 0) {
		child_prepare(s, parent);
		fcntl(pair[1], F_SETFD, 0);
		fcntl(s->lock_fd, F_SETFD, 0);
		execv(s->binary, (char *const *)(uintptr_t)argv);
		child_fail(s->binary);
	}
	close(pair[1]);
	*ret_link = pair[0];
	if (*ret_pid > 0)
		return ESP_OK;
	close(pair[0]);
	return ESP_EIO;
}

int spawn_check(const struct spawn *s)
{
	pid_t parent = getpid(), pid;
	int status;

	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		child_prepare(s, parent);
		execl(s->binary, s->binary, "check", "--config", s->config_path, (char *)NULL);
		child_fail(s->binary);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return 1;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

const char *spawn_ending(pid_t pid, int status, const char *dir, char *buf, size_t cap)
{
	struct crash_blame blame;
	int n;

	if (WIFEXITED(status))           /* a sanitizer turns a signal into an exit code */
		n = snprintf(buf, cap, "ended with exit code %d", WEXITSTATUS(status));
	else
		n = snprintf(buf, cap, "was killed by signal %d (%s)", WTERMSIG(status), strsignal(WTERMSIG(status)));
	if (dir && n > 0 && (size_t)n < cap && crash_of(dir, (int)pid, &blame) && blame.module[0])
		snprintf(buf + n, cap - (size_t)n, " in module \"%s\" at %s", blame.module, blame.point);
	return buf;
}
