/* core/module/trial.c - both ends of the trial of a module; see trial.h.
 *
 * They share a SOCK_SEQPACKET pair: a request is "file NUL path NUL", the answer is the reason, empty when all went
 * well. Thread: a pool lane, which may block; the process on the other side has one thread.
 */
#include "core/module/trial.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/base/status.h"
#include "core/module/image.h"

/* so few requests and answers wait in the sockets that neither side ever waits for the other to read */
enum { REQUEST_MAX = 2048, GRACE_S = 5, WAITING_MAX = 64 };

extern char **environ;

/* ---- the server's side --------------------------------------------------------------------------------------- */

static int spawn(struct trial *t, int other)
{
	char limit[16];
	char *const argv[] = { (char *)(uintptr_t)t->binary, (char *)(uintptr_t)"try-modules", limit, NULL };
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	sigset_t none, all;
	int failed;

	(void)snprintf(limit, sizeof limit, "%u", t->limit_s ? t->limit_s : (unsigned)TRIAL_LIMIT_S);
	sigemptyset(&none);
	sigfillset(&all);
	posix_spawn_file_actions_init(&actions);
	posix_spawnattr_init(&attr);
	posix_spawn_file_actions_adddup2(&actions, other, STDIN_FILENO);
	/* what a library prints while it dies would stand in front of the reason */
	posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
	posix_spawn_file_actions_adddup2(&actions, STDOUT_FILENO, STDERR_FILENO);
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawnattr_setsigdefault(&attr, &all);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
	failed = posix_spawn(&t->pid, t->binary, &actions, &attr, argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	posix_spawnattr_destroy(&attr);
	return failed;
}

static int start(struct trial *t, esp_err *err)
{
	/* its own alarm ends it first; this is for one whose constructor took that away */
	struct timeval patience = { .tv_sec = (t->limit_s ? t->limit_s : (unsigned)TRIAL_LIMIT_S) + GRACE_S };
	int pair[2], failed;

	if (t->pid)
		return ESP_OK;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return err_fail_errno(err, "no socket for the trial of a module");
	(void)setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
	failed = spawn(t, pair[1]);
	close(pair[1]);
	if (failed) {
		close(pair[0]);
		t->pid = 0;
		return err_fail(err, ESP_EIO, "cannot start %s for the trial of a module: %s", t->binary, strerror(failed));
	}
	t->fd = pair[0];
	t->passed = t->waiting = 0;
	t->round++;
	return ESP_OK;
}

void trial_begin(struct trial *t)
{
	esp_err unsaid = ESP_ERR_INIT;

	(void)start(t, &unsaid);
}

/* Its wait status. */
static int finish(struct trial *t)
{
	int status = 0;

	close(t->fd);
	while (waitpid(t->pid, &status, 0) < 0 && errno == EINTR)
		;
	t->pid = 0;
	t->waiting = 0;
	return status;
}

void trial_end(struct trial *t)
{
	if (!t->pid)
		return;
	(void)kill(t->pid, SIGKILL);     /* it waits for us, or hangs in a module's destructor */
	(void)finish(t);
}

static int say_end(struct trial *t, const char *file, bool late, esp_err *err)
{
	int status;

	if (late)
		(void)kill(t->pid, SIGKILL);
	status = finish(t);
	if (late || (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM))
		return err_fail(
			err, ESP_EABI, "%s: loading it does not end: a constructor waits, or the file is damaged", file);
	if (WIFSIGNALED(status))
		return err_fail(err, ESP_EABI, "%s: crashes when it is loaded, with signal %d (%s): the file is damaged, or a "
		                "constructor is wrong", file, WTERMSIG(status), strsignal(WTERMSIG(status)));
	return err_fail(err, ESP_EABI, "%s: ends the process that loads it, with exit code %d: the file is damaged, or a "
	                "constructor is wrong", file, WEXITSTATUS(status));
}

static bool request(const struct trial *t, const char *path, const char *file)
{
	char text[REQUEST_MAX];
	int n = snprintf(text, sizeof text, "%s%c%s", file, '\0', path) + 1;

	if (n > (int)sizeof text) {
		errno = ENAMETOOLONG;
		return false;
	}
	return send(t->fd, text, (size_t)n, MSG_NOSIGNAL) == n;
}

uint32_t trial_ask(struct trial *t, const char *path, const char *file)
{
	esp_err unsaid = ESP_ERR_INIT;

	if (!t->binary || t->waiting == WAITING_MAX || start(t, &unsaid) < 0 || !request(t, path, file))
		return 0;
	t->waiting++;
	return t->round;
}

/* ESP_OK: it answered; `*ret_alone`: it died, and it had loaded no other module before.  That it died with requests
 * unread is said once (ECONNRESET), in front of the answers it gave before. */
static int hear(struct trial *t, const char *file, char *answer, size_t cap, bool *ret_alone, esp_err *err)
{
	ssize_t got;

	while ((got = recv(t->fd, answer, cap - 1, 0)) < 0 && (errno == EINTR || errno == ECONNRESET))
		;
	if (got > 0) {
		answer[got - 1] = '\0';
		t->passed++;
		t->waiting--;
		return ESP_OK;
	}
	*ret_alone = t->passed == 0;
	return say_end(t, file, got < 0 && errno == EAGAIN, err);
}

/* What it still has to answer is asked again by those whose it is. */
static int ask(struct trial *t, const char *path, const char *file, esp_err *err)
{
	int rc;

	if (t->waiting)
		trial_end(t);
	rc = start(t, err);
	if (rc < 0)
		return rc;
	if (!request(t, path, file) && errno != EPIPE && errno != ECONNRESET)
		return err_fail(err, ESP_EIO, "%s: its trial cannot be asked for: %s", file, strerror(errno));
	t->waiting++;
	return ESP_OK;
}

/* A crash among several may be the work of one that came before: it counts when the module is alone. */
int trial_run(struct trial *t, uint32_t asked, const char *path, const char *file, esp_err *err)
{
	char answer[sizeof err->text];
	bool alone = true, is_asked = t->pid && asked == t->round;
	int rc = t->binary && !is_asked ? ask(t, path, file, err) : ESP_OK;

	if (rc < 0 || !t->binary)
		return rc;
	rc = hear(t, file, answer, sizeof answer, &alone, err);
	if (rc < 0 && !alone && (rc = ask(t, path, file, err)) == ESP_OK)
		rc = hear(t, file, answer, sizeof answer, &alone, err);
	if (rc < 0)
		return rc;
	return answer[0] ? err_fail(err, ESP_EABI, "%s", answer) : ESP_OK;
}

/* ---- the other side -------------------------------------------------------------------------------------------- */

/* Stays mapped in our memory only as long as image_try() holds it; what is left behind ends with us. */
int trial_main(const char *seconds)
{
	const struct rlimit no_core = { 0, 0 };
	long limit = strtol(seconds, NULL, 10);
	char request[REQUEST_MAX];
	ssize_t n;

	if (limit <= 0)
		return 2;
	(void)setrlimit(RLIMIT_CORE, &no_core);
	while ((n = recv(STDIN_FILENO, request, sizeof request - 1, 0)) > 0) {
		esp_err err = ESP_ERR_INIT;
		const char *path = memchr(request, '\0', (size_t)n);
		int rc;

		request[n] = '\0';
		if (!path || ++path >= request + n)
			return 2;
		(void)alarm((unsigned)limit);
		rc = image_try(path, request, &err);
		(void)alarm(0);
		if (rc == ESP_OK)
			err.text[0] = '\0';
		else if (!err.text[0])
			esp_err_set(&err, "%s: %s", request, status_text(rc));
		if (send(STDIN_FILENO, err.text, strlen(err.text) + 1, MSG_NOSIGNAL) < 0)
			break;
	}
	_exit(0);        /* no destructor of a library that a module brought has the last word */
}
