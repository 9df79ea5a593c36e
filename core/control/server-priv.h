/* core/control/server-priv.h - the server process, as the files of core/control share it.
 *
 * One struct server per process; everything in it belongs to the control thread.
 */
#ifndef CORE_CONTROL_SERVER_PRIV_H
#define CORE_CONTROL_SERVER_PRIV_H

#include <stdbool.h>

#include <esp/abi.h>
#include <esp/fiber.h>

#include "core/base/list.h"
#include "core/control/certificates.h"
#include "core/control/health.h"
#include <esp/event.h>
#include <esp/metric.h>

#include "core/control/link.h"
#include "core/control/sockets.h"
#include "core/loop/fiber.h"
#include "core/loop/timer.h"
#include "core/loop/worker.h"
#include "core/module/trial.h"
#include "core/net/net.h"

struct config;
struct modules;
struct listen_plan;
struct control;
struct traffic;

#define SERVER_MAGIC 0x53525652u
enum { SERVER_LEFT_OUT = 32 };

/*! \brief Sockets the supervisor sent: addresses and descriptors. */
struct server_sockets {
	size_t n;
	char address[SOCKETS_MAX][SOCKETS_ADDRESS];
	int fd[SOCKETS_MAX];            /* -1: taken over by somebody */
};

/*! \brief A fiber that waits for an answer of the supervisor. */
struct server_wait {
	bool waiting, done;
	uint32_t serial;
	int status;
	esp_ticket ticket;
	char text[512];
};

struct server {
	uint32_t magic;
	const char *config_path, *binary;
	struct trial trial;             /* of the modules of the first load; theirs from start_modules() on */
	int link, lock;
	const char *left_out[SERVER_LEFT_OUT];
	size_t nleft_out;
	uint32_t restarts;              /* by this supervisor, after the process ended by itself */
	esp_time restarted;             /* when it ended last; 0: never */
	const char *restart_reason;     /* how: "was killed by ..." */

	enum health_state state;
	bool starting;                  /* start_fiber has not ended; a stop waits for it */
	esp_time started_wall;
	esp_nsec started;
	uint64_t reloads, reloads_failed;
	esp_time last_reload;
	char last_reload_error[384];

	struct config *config;          /* until modules_load() takes it */
	struct modules *modules;
	struct net *net;
	struct traffic *traffic;
	struct certificates certificates;
	struct control *control;
	_Atomic esp_nsec stuck_since[WORKER_MAX + 2]; /* by worker number; 0: it moves */
	struct watch link_watch;
	struct server_sockets sockets;
	struct server_wait open, upgrade;
	struct listen_plan *plan;       /* between on_prepare and on_publish */
	uint32_t serial;
	esp_nsec stop_deadline;
	int exit_code;
	esp_event_id fact_started, fact_stopped, fact_expiring;
	esp_metric certificate_ends;
	struct link_msg msg;            /* large: not on a stack */
};

/*! \brief The configuration in force. */
const struct config *server_config(const struct server *s);
/*! \brief [fiber] ESP_SUSPENDS.  Reload everything, or one instance; counts and remembers the outcome. */
struct plan;
struct config_errors;
ESP_CHECKED int server_reload(struct server *s, const char *only, struct plan **ret_plan, struct config_errors *errs,
                              esp_err *err);
/*! \brief Ask the supervisor for an orderly stop of everything (without one: stop ourselves). */
void server_ask_stop(struct server *s);
/*! \brief [fiber] ESP_SUSPENDS.  Core upgrade; returns when the new process is ready or failed (reason in *err). */
ESP_CHECKED int server_upgrade(struct server *s, esp_err *err);
/*! \brief Begin the orderly stop of this process. */
void server_stop(struct server *s);

/*! \brief The log as that configuration says; level 0: its level, else this one instead. */
ESP_CHECKED int server_log_open(const struct config *c, int32_t level, esp_err *err);
/*! \brief Write the events that server.log.events names as log lines; once, before the modules declare theirs. */
ESP_CHECKED int server_log_events(const struct config *c, esp_err *err);
/*! \brief Has this worker not moved for 10 s? */
bool server_worker_stuck(const struct server *s, uint32_t number);

/* server-net.c */
/*! \brief Make s->net and offer the core interfaces; after modules_new, before modules_load. */
ESP_CHECKED int server_net_start(struct server *s, esp_err *err);
/* server-facts.c: the events server.started and server.stopped */
ESP_CHECKED int server_facts_declare(struct server *s);
void server_facts_started(const struct server *s);
void server_facts_stopped(const struct server *s);
/* server-process.c */
/*! \brief Memory, descriptors, threads and time of this process, measured when the metrics are read. */
void server_process_export(void);
/* server-traffic.c */
/*! \brief From now on, once a second: metrics of s->net, a word when clients must be sent away, a look at the
 *  certificates, and a sign of life. */
ESP_CHECKED int server_traffic_start(struct server *s);
/*! \brief Before s->net is freed.  Harmless twice. */
void server_traffic_stop(struct server *s);
/* server-certificates.c: certificates that end soon or have ended */
ESP_CHECKED int server_certificates_declare(struct server *s);
/*! \brief Log line and event for those that are due; nothing happens until the server serves. */
void server_certificates_look(struct server *s);
/*! \brief What to do now, as a sentence; false: nothing. */
bool server_certificates_advice(const struct server *s, char *text, size_t cap);

/* server-link.c */
/*! \brief Start to watch the link; the first sockets must have come (server_link_first). */
void server_link_watch(struct server *s);
/*! \brief [before the loop] Wait for the first LINK_SOCKETS.  ESP_ECLOSED, ESP_ETIMEDOUT. */
ESP_CHECKED int server_link_first(struct server *s, esp_nsec limit);
/*! \brief [fiber] ESP_SUSPENDS.  OPEN: the supervisor opens what the file on disk adds and sends all sockets. */
ESP_CHECKED int server_link_open(struct server *s, esp_err *err);
void server_link_say(struct server *s, uint32_t type, uint32_t serial);
/*! \brief Descriptor for that address, now the caller's; -1 when the supervisor sent none. */
int server_sockets_take(struct server *s, const char *address);
void server_sockets_close(struct server *s);

/* server-listen.c: callbacks of core/module, and the listeners */
ESP_CHECKED int server_listen_first(struct server *s, const struct config *c, esp_err *err);
int server_on_rehearse(void *arg, const char *config_path, esp_err *err);
int server_on_prepare(void *arg, const struct config *next, esp_err *err);
void server_on_publish(void *arg, const struct config *next);

#endif
