/* core/control/server-listen.c - listeners, certificates and log follow the configuration; the rehearsal of a reload.
 *
 * Called by core/module around a reload, in the reloading fiber of the control thread: rehearse -> prepare -> publish,
 * or abort after prepare.  Sockets are opened by the supervisor, since this process may not.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/base/status.h"
#include "core/base/str.h"
#include "core/bus/event.h"
#include "core/bus/log.h"
#include "core/config/config.h"
#include "core/control/server-priv.h"
#include "core/loop/pool.h"
#include "core/net/net.h"

#define WHO "core/control"
enum { REHEARSE_LIMIT_S = 60 };

extern char **environ;

/* --- log, certificates --------------------------------------------------------------------------------------- */

static struct log_config log_wanted(const struct config *c, int32_t level)
{
	const esp_cfg *log = cfg_group(cfg_group(config_root(c), "server"), "log");
	struct log_config lc = {
		.json = cfg_choice(log, "format") == 1,
		.path = cfg_string(log, "file").ptr,
		.level = level ? level : log_level_of(cfg_string(log, "level").ptr)
	};
	static const enum log_target targets[] = { LOG_TO_STDERR, LOG_TO_STDOUT, LOG_TO_FILE, LOG_TO_JOURNAL };

	lc.target = targets[cfg_choice(log, "target")];
	return lc;
}

int server_log_open(const struct config *c, int32_t level, esp_err *err)
{
	struct log_config lc = log_wanted(c, level);

	return log_open(&lc, err);
}

int server_log_events(const struct config *c, esp_err *err)
{
	const esp_cfg *log = cfg_group(cfg_group(config_root(c), "server"), "log");

	for (uint32_t i = 0; i < cfg_count(log, "events"); i++) {
		esp_str pattern = cfg_string_at(log, "events", i);

		if (event_log(pattern.ptr) != ESP_OK)
			return err_fail(err, ESP_EINVAL, "server.log.events: \"%.*s\" cannot be subscribed", ESP_FMT(pattern));
	}
	return ESP_OK;
}

static int certificates_set(struct server *s, const struct config *c, esp_err *err)
{
	const esp_cfg *tls = cfg_group(config_root(c), "tls");
	uint32_t n = cfg_count(tls, "certificates");
	struct tls_files *files;
	int status;

	files = calloc(n, sizeof(*files));
	if (n && !files)
		return ESP_ENOMEM;
	for (uint32_t i = 0; i < n; i++) {
		const esp_cfg *one = cfg_at(tls, "certificates", i, NULL);

		files[i] = (struct tls_files){ cfg_string(one, "cert").ptr, cfg_string(one, "key").ptr };
	}
	status = net_set_certificates(s->net, files, n, err);
	free(files);
	return status;
}

/* --- listeners ----------------------------------------------------------------------------------------------- */

static int proxy_nets(const esp_cfg *l, struct ip_nets *ret, esp_err *err)
{
	for (uint32_t i = 0; i < cfg_count(l, "proxy_from"); i++) {
		esp_str text = cfg_string_at(l, "proxy_from", i);
		struct ip_net net;

		if (ip_net_parse(text, &net) != ESP_OK || ip_nets_add(ret, &net) != ESP_OK) {
			cfg_error(l, "proxy_from", err, "\"%.*s\" is no network; \"10.0.0.0/8\" is", ESP_FMT(text));
			return ESP_ECONFIG;
		}
	}
	return ESP_OK;
}

static void specs_free(struct listen_spec *specs, size_t n, bool close_fds)
{
	for (size_t i = 0; i < n; i++) {
		if (close_fds && specs[i].fd >= 0)
			close(specs[i].fd);
		ip_nets_free(&specs[i].proxy);
	}
	free(specs);
}

/* The listeners of a configuration with the supervisor's sockets. */
static int specs_make(struct server *s, const struct config *c, struct listen_spec **ret, size_t *ret_n, esp_err *err)
{
	const esp_cfg *root = config_root(c);
	size_t n = cfg_count(root, "listeners");
	struct listen_spec *specs = calloc(n ? n : 1, sizeof(*specs));
	int status = specs ? ESP_OK : ESP_ENOMEM;

	for (uint32_t i = 0; i < n && !status; i++) {
		esp_str name;
		const esp_cfg *l = cfg_at(root, "listeners", i, &name);

		specs[i] = (struct listen_spec){
			.name = name.ptr, .role = cfg_string(l, "role").len ? cfg_string(l, "role").ptr : NULL,
			.address = cfg_string(l, "address").ptr, .tls = (uint32_t)cfg_choice(l, "tls"),
			.trust_loopback = cfg_boolean(l, "trust_loopback"), .fd = -1
		};
		status = proxy_nets(l, &specs[i].proxy, err);
	}
	for (size_t i = 0; i < n && !status; i++) {
		specs[i].fd = server_sockets_take(s, specs[i].address);
		if (specs[i].fd < 0)
			status = err_fail(err, ESP_EUNAVAIL, "the supervisor sent no socket for %s", specs[i].address);
	}
	if (status) {
		if (specs)
			specs_free(specs, n, true);
		return status;
	}
	*ret = specs;
	*ret_n = n;
	return ESP_OK;
}

int server_listen_first(struct server *s, const struct config *c, esp_err *err)
{
	struct listen_spec *specs;
	size_t n;
	int status = certificates_set(s, c, err);

	if (!status)
		status = specs_make(s, c, &specs, &n, err);
	if (status)
		return status;
	status = net_listen(s->net, specs, n, err);
	specs_free(specs, n, status != ESP_OK);
	return status;
}

/* --- around a reload ----------------------------------------------------------------------------------------- */

int server_on_prepare(void *arg, const struct config *next, esp_err *err)
{
	struct server *s = arg;
	struct log_config log = log_wanted(next, 0);
	struct listen_spec *specs = NULL;
	size_t n = 0;
	int status;

	if (s->starting)                  /* the first load: the sockets came with the start */
		return s->state == HEALTH_STOPPING ? err_fail(err, ESP_ECANCELED, "the server is stopping") : ESP_OK;
	status = log_check(&log, err);
	if (!status)
		status = server_link_open(s, err);
	if (status)
		return status;
	status = specs_make(s, next, &specs, &n, err);
	if (!status) {
		status = net_listen_prepare(s->net, specs, n, &s->plan, err);
		specs_free(specs, n, status != ESP_OK);
	}
	if (!status) {
		status = certificates_set(s, next, err);
		if (status)
			net_listen_abort(s->net, s->plan);
	}
	server_sockets_close(s);
	if (status) {
		s->plan = NULL;
		server_link_say(s, LINK_ABORT, s->open.serial);
	}
	return status;
}

void server_on_publish(void *arg, const struct config *next)
{
	struct server *s = arg;
	esp_err err = ESP_ERR_INIT;

	if (s->starting)
		return;
	net_listen_commit(s->net, s->plan);
	s->plan = NULL;
	server_link_say(s, LINK_COMMIT, s->open.serial);
	if (server_log_open(next, 0, &err) != ESP_OK)
		log_line(ESP_LOG_ERROR, WHO, "the log stays where it was", log_cstr("reason", err.text));
}

/* --- rehearsal ----------------------------------------------------------------------------------------------- */

/* Gathers what the child prints until it closes its end; suspends. */
static int rehearse_read(int fd, char *text, size_t cap)
{
	size_t used = 0;
	char waste[512];

	for (;;) {
		bool full = used + 1 >= cap;
		ssize_t n = read(fd, full ? waste : text + used, full ? sizeof(waste) : cap - 1 - used);

		if (n == 0)
			break;
		if (n > 0 && !full)
			used += (size_t)n;
		if (n < 0 && errno == EAGAIN) {
			int status = fiber_wait_fd(fd, ESP_READ, NULL);

			if (status)
				return status;
		} else if (n < 0 && errno != EINTR) {
			break;
		}
	}
	while (used && (text[used - 1] == '\n' || text[used - 1] == ' '))
		used--;
	text[used] = '\0';
	return ESP_OK;
}

static int rehearse_spawn(const struct server *s, const char *config_path, int out, pid_t *ret)
{
	char *const argv[] = { (char *)(uintptr_t)s->binary, (char *)(uintptr_t)"check", (char *)(uintptr_t)"--config",
	                       (char *)(uintptr_t)config_path, NULL };
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	sigset_t none;
	int failed;

	sigemptyset(&none);
	posix_spawn_file_actions_init(&actions);
	posix_spawnattr_init(&attr);
	posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
	posix_spawn_file_actions_adddup2(&actions, out, STDERR_FILENO);
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK);
	failed = posix_spawn(ret, s->binary, &actions, &attr, argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	posix_spawnattr_destroy(&attr);
	return failed ? status_from_errno(failed) : ESP_OK;
}

/* Ends with the child: killed when the wait was cut short. */
static int rehearse_wait(pid_t pid, int wait_status, const char *text, esp_err *err)
{
	int fd = pidfd_open(pid, 0), code = 0;
	const char *crash, *panic;

	if (wait_status)
		kill(pid, SIGKILL);
	fiber_shield(1);
	if (fd >= 0 && fiber_wait_fd(fd, ESP_READ, NULL) != ESP_OK)
		kill(pid, SIGKILL);
	fiber_shield(0);
	if (fd >= 0)
		close(fd);
	/* fiber-ok: the child has ended, or was killed */
	while (waitpid(pid, &code, 0) < 0 && errno == EINTR)
		;
	if (wait_status)
		return err_fail(err, wait_status, "the rehearsal did not end in time%s%.300s", *text ? ": " : "", text);
	panic = strstr(text, "PANIC ");              /* a contract that the module broke */
	crash = strstr(text, "CRASH ");              /* its handler names module and point; a sanitizer exits then */
	if (crash)
		return err_fail(err, ESP_ECONFIG, "the rehearsal crashed: %.*s%s%.*s", (int)strcspn(crash, "\n"), crash,
		                panic ? "; " : "", panic ? (int)strcspn(panic, "\n") : 0, panic ? panic : "");
	if (WIFSIGNALED(code))
		return err_fail(err, ESP_ECONFIG, "the rehearsal was killed by signal %d (%s)", WTERMSIG(code),
		                strsignal(WTERMSIG(code)));
	return WEXITSTATUS(code) ? ESP_ECONFIG : ESP_OK;
}

int server_on_rehearse(void *arg, const char *config_path, esp_err *err)
{
	struct server *s = arg;
	char text[sizeof(err->text)] = "";
	int fds[2], status;
	esp_nsec was;
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC | O_NONBLOCK))
		return err_fail_errno(err, "no pipe for the rehearsal");
	fcntl(fds[1], F_SETFL, 0);     /* the child's end blocks, as programs expect */
	status = rehearse_spawn(s, config_path, fds[1], &pid);
	close(fds[1]);
	if (status) {
		close(fds[0]);
		return err_fail(err, status, "cannot start %s for the rehearsal", s->binary);
	}
	was = fiber_set_deadline(clock_earlier(fiber_deadline(), clock_monotonic() + REHEARSE_LIMIT_S * ESP_SEC));
	status = rehearse_read(fds[0], text, sizeof(text));
	fiber_set_deadline(was);
	close(fds[0]);
	status = rehearse_wait(pid, status, text, err);
	if (status == ESP_ECONFIG && !err->text[0])
		esp_err_set(err, "%s", text[0] ? text : "the rehearsal was refused");
	return status;
}
