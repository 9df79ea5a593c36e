/* core/control/serve.c - `esp-server serve` up to the supervisor's loop: settings, directories, lock, sockets,
 * detaching.
 *
 * Nothing is left behind when it fails.  Detached, standard output and error go to <server.path>/esp-server.log; the
 * caller's process waits until the server is ready, and shows what was written there when it does not become so.
 */
#include "core/control/supervisor.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/config/config.h"
#include "core/control/spawn.h"

static int refuse(const char *reason)
{
	fprintf(stderr, "esp-server: %s\n", reason);
	return 1;
}

/* Settings that the core alone can judge are wrong: let `check` name these errors and those of the modules together. */
static int refuse_config(const struct supervisor_opts *opts, struct config_errors *errs)
{
	struct privilege us = { .uid = geteuid(), .gid = getegid() };
	struct spawn s = { .binary = opts->binary, .config_path = opts->config_path, .privilege = &us, .lock_fd = -1 };

	if (spawn_check(&s) == 0)
		config_errors_print(errs, stderr);
	return refuse("not started");
}

static int prepare(const struct supervisor_opts *opts, struct supervisor_start *ret)
{
	struct config_errors errs = CONFIG_ERRORS_INIT;
	esp_err err = ESP_ERR_INIT;
	char dir[SOCKETS_ADDRESS];
	int code = 0;

	if (settings_load(opts->config_path, &ret->settings, &errs) != ESP_OK)
		code = refuse_config(opts, &errs);
	config_errors_free(&errs);
	if (code)
		return code;
	if (privilege_resolve(ret->settings.user, ret->settings.group, &ret->privilege, &err) != ESP_OK)
		return refuse(err.text);
	snprintf(dir, sizeof(dir), "%s", ret->settings.control);
	*strrchr(dir, '/') = '\0';
	if (settings_make_dir(ret->settings.path, &ret->privilege, &err) != ESP_OK ||
	    (dir[0] && settings_make_dir(dir, &ret->privilege, &err) != ESP_OK))
		return refuse(err.text);
	return 0;
}

static int lock_and_open(struct supervisor_start *start)
{
	esp_err err = ESP_ERR_INIT;
	char reasons[2048];
	int lock = settings_lock(start->settings.path, &start->privilege, &err);

	if (lock < 0)
		return refuse(err.text);
	start->lock_fd = lock;
	start->sockets.owner = &start->privilege;
	sockets_inherit(&start->sockets);
	if (settings_open(&start->settings, &start->sockets, reasons, sizeof(reasons)) == ESP_OK)
		return 0;
	fputs(reasons, stderr);
	sockets_close(&start->sockets);
	close(lock);
	return refuse("not started");
}

static int run(const struct supervisor_opts *opts, struct supervisor_start *start)
{
	int code = lock_and_open(start);

	return code ? code : supervisor_run(opts, start);
}

/* --- detaching ----------------------------------------------------------------------------------------------- */

static int open_log(const struct supervisor_start *start, char *file, size_t cap)
{
	int fd;

	snprintf(file, cap, "%s/esp-server.log", start->settings.path);
	privilege_act_as(&start->privilege);
	fd = open(file, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0640);
	privilege_return();
	return fd;
}

/* The start failed: show its part of the log. */
static void show_log(const char *file, off_t from)
{
	char buf[2048];
	ssize_t n;
	int fd = open(file, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0)
		return;
	while ((n = pread(fd, buf, sizeof(buf), from)) > 0 && write(STDERR_FILENO, buf, (size_t)n) == n)
		from += n;
	close(fd);
}

static int wait_until_ready(int fd, pid_t pid)
{
	char ready = 0;
	ssize_t n;
	int status;

	do
		n = read(fd, &ready, 1);
	while (n < 0 && errno == EINTR);
	if (n == 1 && ready == 'R')
		return 0;
	return waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) ? WEXITSTATUS(status) : 1;
}

static int detach(const struct supervisor_opts *opts, struct supervisor_start *start)
{
	char file[sizeof(start->settings.path) + 32];
	int log = open_log(start, file, sizeof(file)), pipe_fds[2], null, code;
	struct stat st;
	pid_t pid;

	if (log < 0 || fstat(log, &st) || pipe2(pipe_fds, O_CLOEXEC)) {
		fprintf(stderr, "esp-server: cannot open %s: %s\n", file, strerror(errno));
		return 1;
	}
	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		close(pipe_fds[0]);
		setsid();
		null = open("/dev/null", O_RDWR);
		if (null < 0 || dup2(null, 0) < 0 || dup2(log, 1) < 0 || dup2(log, 2) < 0)
			_exit(1);
		if (null > 2)
			close(null);
		close(log);
		start->ready_fd = pipe_fds[1];
		_exit(run(opts, start));
	}
	close(log);
	close(pipe_fds[1]);
	if (pid < 0)
		return refuse(strerror(errno));
	code = wait_until_ready(pipe_fds[0], pid);
	close(pipe_fds[0]);
	if (code)
		show_log(file, st.st_size);
	return code;
}

int serve_run(const struct supervisor_opts *opts)
{
	struct supervisor_start *start = calloc(1, sizeof(*start));
	int code;

	if (!start)
		return refuse("no memory");
	start->ready_fd = -1;
	code = prepare(opts, start);
	if (!code)
		code = opts->foreground ? run(opts, start) : detach(opts, start);
	free(start);
	return code;
}
