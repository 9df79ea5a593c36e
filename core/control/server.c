/* core/control/server.c - the server process: start, run, orderly stop.
 *
 * Start:  link -> configuration -> log -> loops (workers, observer) -> network -> [fiber] modules, snapshot 1 ->
 *         certificates, listeners -> control socket -> READY to the supervisor.
 * Stop:   control socket closes -> sessions are told (421, BYE) -> modules drain and stop -> events -> loops -> log.
 *
 * All of it on the control thread; what may suspend runs in fibers of it.
 */
#include "core/control/server.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "config.h"
#include "core/base/clock.h"
#include "core/base/memory.h"
#include "core/base/status.h"
#include "core/bus/bus.h"
#include "core/config/config.h"
#include "core/control/control.h"
#include "core/control/ending.h"
#include "core/control/server-priv.h"
#include "core/loop/loop.h"
#include "core/module/crash.h"
#include "core/module/modules.h"

#define WHO "core/control"
enum { FIRST_SOCKETS_S = 10, STUCK_S = 10 };

extern char **environ;

/* signal handlers and the stall callback have no argument of ours */
static struct server *server_self;

const struct config *server_config(const struct server *s)
{
	const struct config *c = s->modules ? modules_config(s->modules) : NULL;

	return c ? c : s->config;
}

/* --- stalls -------------------------------------------------------------------------------------------------- */

static void on_stall(const struct loop_stall *st)
{
	if (st->worker)
		server_self->stuck_since[st->worker->number] = st->over ? 0 : clock_monotonic() - st->nsec;
	bus_on_stall(st);
}

bool server_worker_stuck(const struct server *s, uint32_t number)
{
	esp_nsec since = number < WORKER_MAX + 2 ? s->stuck_since[number] : 0;

	return since && clock_monotonic() - since > STUCK_S * ESP_SEC;
}

/* --- reload -------------------------------------------------------------------------------------------------- */

int server_reload(struct server *s, const char *only, struct plan **ret_plan, struct config_errors *errs, esp_err *err)
{
	struct config_errors own = CONFIG_ERRORS_INIT;
	int status;

	if (s->state != HEALTH_SERVING)
		return err_fail(err, ESP_EUNAVAIL, "the server is %s", health_state_name(s->state));
	status = modules_reload(s->modules, only, ret_plan, errs ? errs : &own, err);
	s->last_reload = clock_wall(NULL);
	s->reloads++;
	s->last_reload_error[0] = '\0';
	if (status) {
		const char *what = modules_down(s->modules, NULL, NULL) ? "reload refused, and a module is down"
			: "reload refused, nothing was changed";
		esp_err log_err = ESP_ERR_INIT;

		s->reloads_failed++;
		if (log_reopen(&log_err) != ESP_OK)   /* logrotate asked, whatever else is wrong */
			log_line(ESP_LOG_ERROR, WHO, "the log file cannot be opened anew", log_cstr("reason", log_err.text));
		snprintf(s->last_reload_error, sizeof(s->last_reload_error), "%s",
		         err->text[0] ? err->text : status_text(status));
		if (err->file[0])
			log_line(ESP_LOG_ERROR, WHO, what, log_cstr("reason", s->last_reload_error), log_cstr("file", err->file),
			         ESP_FINT("line", err->line));
		else
			log_line(ESP_LOG_ERROR, WHO, what, log_cstr("reason", s->last_reload_error));
	} else {
		log_line(ESP_LOG_NOTICE, WHO, "reloaded", log_cstr("instance", only ? only : "all"));
		server_certificates_look(s);
	}
	server_link_say(s, LINK_RELOADED, status != ESP_OK);
	config_errors_free(&own);
	return status;
}

/* --- stop ---------------------------------------------------------------------------------------------------- */

static void wait_for_connections(struct server *s)
{
	while (s->net && net_count(s->net) && clock_monotonic() < s->stop_deadline)
		if (fiber_sleep_until(clock_monotonic() + 5 * ESP_MSEC) != ESP_OK)
			return;
}

/* Commands that run now (the `upgrade` that brought us here) may finish their answer. */
static void wait_for_peers(struct server *s)
{
	esp_nsec end = clock_earlier(clock_monotonic() + 2 * ESP_SEC, s->stop_deadline);

	while (s->control && control_peers(s->control) && clock_monotonic() < end)
		if (fiber_sleep_until(clock_monotonic() + 5 * ESP_MSEC) != ESP_OK)
			return;
	if (s->control)
		control_cut(s->control);
}

static void stop_fiber(void *arg)
{
	struct server *s = arg;

	fiber_shield(1);
	if (s->net)                     /* NULL: the start did not come so far */
		server_facts_stopped(s);
	if (s->control)
		control_close(s->control);
	if (s->net)
		net_drain(s->net, s->stop_deadline);
	wait_for_connections(s);
	wait_for_peers(s);
	if (s->modules && modules_drain(s->modules, s->stop_deadline,
	                                s->stop_deadline + ENDING_MODULES_MS * ESP_MSEC) != ESP_OK)
		log_line(ESP_LOG_WARNING, WHO, "not everything ended in time");
	watch_stop(&s->link_watch);
	server_traffic_stop(s);
	log_line(ESP_LOG_NOTICE, WHO, "stopped");
	bus_stop(s->stop_deadline);
	fiber_shield(0);
	loop_quit();
}

static void stop_begin(struct server *s)
{
	if (fiber_spawn(NULL, FIBER_RESERVED, "stop", stop_fiber, s, NULL) != ESP_OK)
		loop_quit();
}

void server_stop(struct server *s)
{
	const esp_cfg *server;

	if (s->state == HEALTH_STOPPING)
		return;
	s->state = HEALTH_STOPPING;
	health_publish(s);
	server = cfg_group(config_root(server_config(s)), "server");
	s->stop_deadline = clock_monotonic() + cfg_integer(server, "shutdown_timeout");
	log_line(ESP_LOG_NOTICE, WHO, "stopping", ESP_FINT("connections", s->net ? net_count(s->net) : 0));
	if (!s->starting)
		stop_begin(s);
}

static void on_terminate(int signum)
{
	(void)signum;
	server_stop(server_self);
}

/* --- start --------------------------------------------------------------------------------------------------- */

static void start_failed(struct server *s, struct config_errors *errs, const esp_err *err)
{
	/* for the terminal of whoever started us, whatever the log's target is */
	if (errs->errors)
		config_errors_print(errs, stderr);
	else
		fprintf(stderr, "esp-server: %s\n", err->text);
	log_line(ESP_LOG_ERROR, WHO, "not started", log_cstr("reason", err->text));
	s->exit_code = 1;
	server_stop(s);
}

static int start_modules(struct server *s, struct config_errors *errs, esp_err *err)
{
	struct modules_opts opts = { .config_path = s->config_path,
		.trial = s->trial,
		.left_out = s->left_out,
		.nleft_out = s->nleft_out,
		.arg = s,
		.rehearse = server_on_rehearse,
		.on_prepare = server_on_prepare,
		.on_publish = server_on_publish };
	struct config *c = config_ref(s->config);
	int status = modules_new(&opts, &s->modules);

	if (status) {
		config_unref(c);
		return err_fail(err, status, "no memory");
	}
	status = server_net_start(s, err);
	if (status) {
		config_unref(c);
		return status;
	}
	status = server_log_events(c, err);
	if (!status)
		status = modules_load(s->modules, c, errs, err);
	else
		config_unref(c);
	return status ? status : server_listen_first(s, s->config, err);
}

static int start_control(struct server *s, esp_err *err)
{
	const esp_cfg *server = cfg_group(config_root(server_config(s)), "server");
	int fd = server_sockets_take(s, cfg_string(server, "control").ptr);

	return fd < 0 ? err_fail(err, ESP_EUNAVAIL, "the supervisor sent no control socket")
	              : control_start(s, fd, &s->control);
}

static void start_done(struct server *s)
{
	s->state = HEALTH_SERVING;
	health_publish(s);
	server_facts_started(s);
	server_link_say(s, LINK_READY, 0);
	log_line(ESP_LOG_NOTICE, WHO, "serving", log_cstr("version", PACKAGE_VERSION), ESP_FINT("workers", loop_workers()),
	         ESP_FNSEC("start", clock_monotonic() - s->started));
	server_certificates_look(s);
}

/* A stop that was asked for meanwhile follows when nothing is half-made any more. */
static void start_fiber(void *arg)
{
	struct server *s = arg;
	struct config_errors errs = CONFIG_ERRORS_INIT;
	esp_err err = ESP_ERR_INIT;
	int status = s->state == HEALTH_STOPPING ? ESP_ECANCELED : start_modules(s, &errs, &err);

	if (!status && s->state != HEALTH_STOPPING)
		status = start_control(s, &err);
	server_sockets_close(s);
	if (s->state != HEALTH_STOPPING && status)
		start_failed(s, &errs, &err);
	else if (s->state != HEALTH_STOPPING)
		start_done(s);
	config_unref(s->config);
	s->config = NULL;
	config_errors_free(&errs);
	s->starting = false;
	if (s->state == HEALTH_STOPPING)
		stop_begin(s);
}

/* Everything that needs no running loop.  Errors are printed. */
static int prepare(struct server *s)
{
	struct config_errors errs = CONFIG_ERRORS_INIT;
	esp_err err = ESP_ERR_INIT;
	const esp_cfg *server;
	struct loop_config lc = { .grace = ENDING_LOOPS_MS * ESP_MSEC };
	int status = config_load(s->config_path, (const char *const *)environ, &s->config, &errs);

	if (status) {
		config_errors_print(&errs, stderr);
		goto out;
	}
	server = cfg_group(config_root(s->config), "server");
	lc.workers = (uint32_t)cfg_integer(server, "workers");
	status = server_log_open(s->config, 0, &err);
	if (!status)
		status = crash_install(cfg_string(server, "path").ptr, &err);
	if (!status)
		status = loop_init(&lc, &err);
	if (!status)
		memory_settle(loop_workers() + 2);
	if (!status)
		status = server_link_first(s, FIRST_SOCKETS_S * ESP_SEC);
	if (status)
		fprintf(stderr, "esp-server: %s\n", err.text[0] ? err.text : status_text(status));
out:
	config_errors_free(&errs);
	return status;
}

static int run(struct server *s)
{
	esp_err err = ESP_ERR_INIT;
	int status = loop_start(&err);

	if (!status)
		status = bus_start(loop_observer());
	if (!status)
		status = loop_on_signal(SIGTERM, on_terminate);
	if (!status)
		status = worker_post_fiber(loop_control(), NULL, "start", start_fiber, s);
	if (status) {
		fprintf(stderr, "esp-server: %s\n", err.text[0] ? err.text : status_text(status));
		return 1;
	}
	s->starting = true;
	loop_on_stall(on_stall);
	server_link_watch(s);
	loop_run();
	return s->exit_code;
}

/* After the loops ended. */
static void finish(struct server *s)
{
	control_free(s->control);
	modules_free(s->modules);
	net_free(s->net);
	bus_free();
	config_unref(s->config);
	server_sockets_close(s);
	loop_free();
}

static int parse(struct server *s, int argc, char **argv)
{
	for (int i = 0; i + 1 < argc; i += 2) {
		if (strcmp(argv[i], "--config") == 0)
			s->config_path = argv[i + 1];
		else if (strcmp(argv[i], "--link") == 0)
			s->link = (int)strtol(argv[i + 1], NULL, 10);
		else if (strcmp(argv[i], "--lock") == 0)
			s->lock = (int)strtol(argv[i + 1], NULL, 10);
		else if (strcmp(argv[i], "--leave-out") == 0 && s->nleft_out < SERVER_LEFT_OUT)
			s->left_out[s->nleft_out++] = argv[i + 1];
		else if (strcmp(argv[i], "--restarts") == 0)
			s->restarts = (uint32_t)strtoul(argv[i + 1], NULL, 10);
		else if (strcmp(argv[i], "--restarted") == 0)
			s->restarted = strtoll(argv[i + 1], NULL, 10);
		else if (strcmp(argv[i], "--restart-reason") == 0)
			s->restart_reason = argv[i + 1];
		else
			return ESP_EINVAL;
	}
	/* our own children (the rehearsal) get neither */
	if (!s->config_path || fcntl(s->link, F_SETFD, FD_CLOEXEC) || fcntl(s->lock, F_SETFD, FD_CLOEXEC))
		return ESP_EINVAL;
	return ESP_OK;
}

int server_main(int argc, char **argv, const char *binary)
{
	struct server *s = calloc(1, sizeof(*s));
	int code = 1;

	if (!s)
		return 1;
	MAGIC_SET(s, SERVER_MAGIC);
	server_self = s;
	s->binary = binary;
	s->link = s->lock = -1;
	s->started = clock_monotonic();
	s->started_wall = clock_wall(NULL);
	if (parse(s, argc, argv) != ESP_OK) {
		fprintf(stderr, "esp-server: server-process is started by \"esp-server serve\", not by hand\n");
		free(s);
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	s->trial.binary = binary;
	trial_begin(&s->trial);
	if (prepare(s) == ESP_OK) {
		code = run(s);
		finish(s);
	}
	free(s);
	return code;
}
