/* smtp - what the files of protocol/smtp share. */
#ifndef ESP_PROTOCOL_SMTP_H
#define ESP_PROTOCOL_SMTP_H

#include <esp/accept.h>
#include <esp/attention.h>
#include <esp/directory.h>
#include <esp/event.h>
#include <esp/hook.h>
#include <esp/mail.h>
#include <esp/metric.h>
#include <esp/mail/smtp.h>

#include <stdatomic.h>

#include "modules/common/intake.h"
#include "modules/common/standing.h"

/* Mail that this server could not take, since it last took all for a while; any thread. */
struct deferrals { _Atomic esp_nsec last; atomic_uint times; _Atomic(const char *) why; };

/*! \brief Why a client was told no (reply.c): the label of esp_smtp_refusals_total. */
enum refusal {
	REFUSAL_SYNTAX, REFUSAL_NO_SUCH_USER, REFUSAL_DISABLED, REFUSAL_RELAY, REFUSAL_OVER_QUOTA, REFUSAL_SIZE,
	REFUSAL_CONTENT, REFUSAL_AUTH, REFUSAL_LIMIT, REFUSAL_FILTER, REFUSAL_TEMPORARY, REFUSALS
};

struct smtp {
	esp_core core;
	esp_module *self;
	const esp_listen_api *listen;
	const esp_hook_api *hook;
	const esp_mail_api *mail;
	const esp_metric_api *metric;
	esp_binding accept, directory, auth;
	esp_str hostname;
	uint64_t max_size;
	struct intake intake;
	uint32_t max_rcpt, max_rcpt_unauth, max_hops;
	uint32_t soft_errors, hard_errors;
	esp_nsec idle, login_time;
	int bare_newline_ok;
	esp_metric accepted, rejected, deferred, discarded, refusals[REFUSALS];
	struct deferrals deferrals;
	const esp_event_api *event;
	const esp_topic_api *topic;
	struct standing_asker asker;
	esp_event_id refused[2];   /* message.deferred, message.rejected */
};

enum smtp_role { SMTP_MX = 1, SMTP_SUBMISSION };

#define SESSION_MAGIC 0x50544d53u
#define SMTP_NAME_MAX 256u

/* One client.  Everything about the message under way is in `txn`; reset() is their only end. */
struct session {
	uint32_t magic;
	enum smtp_role role;
	struct smtp *smtp;
	esp_conn *conn;
	esp_txn *txn;
	uint32_t errors, commands;
	uint32_t idle_talk;        /* commands that bring no mail, since the last message */
	esp_str said_from, said_to;   /* what MAIL or RCPT under way named; for the event when it is refused */
	uint32_t rcpts;            /* RCPT commands of this transaction */
	uint64_t declared;         /* SIZE of MAIL; 0: not said */
	uint8_t extended, greeted, quit;
	uint16_t helo_len;
	struct standing standing;  /* of the user of the connection, if it has one */
	char helo[SMTP_NAME_MAX];
};

static inline esp_str session_helo(const struct session *s) { return (esp_str){ s->helo, s->helo_len }; }
/*! \brief Who logged in, or empty. */
static inline esp_str session_user(const struct session *s) { return s->conn->api->info(s->conn)->user; }
static inline int session_logged_in(const struct session *s) { return session_user(s).len > 0; }

/* session.c */
extern const esp_protocol smtp_protocol;
/*! \brief May it stay?  Says 421 when not: its account is gone, its password was changed. */
ESP_CHECKED esp_status session_recheck(struct session *s);
/*! \brief Answer a line that can be none (ESP_E2BIG, ESP_EPROTO) and count it; the core ends one that is far too long.
 *  Anything but ESP_OK: the session ends. */
ESP_CHECKED esp_status session_bad_line(struct session *s, esp_status st);
/*! \brief From now on it is this identity's.  Refused, it is nobody's. */
ESP_CHECKED esp_status session_login(struct session *s, const esp_identity *who);
/*! \brief It is nobody's any more.  Harmless when it was nobody's. */
ESP_CHECKED esp_status session_logout(struct session *s);
/*! \brief Ask the hooks of CONNECT or TLS.  ESP_ECLOSED: they refused, and the client was told (554, 421). */
ESP_CHECKED esp_status session_admit(struct session *s, esp_point point);
/*! \brief Give the transaction up, whatever state it is in. */
void session_reset(struct session *s);

/* reply.c: the one writer of replies.  All may suspend; a negative status means the connection is gone. */
ESP_CHECKED esp_status reply(struct session *s, uint32_t code, const char *enhanced, const char *text);
ESP_CHECKED esp_status reply_str(struct session *s, uint32_t code, const char *enhanced, esp_str text);
/*! \brief A reply that counts as the client's mistake: slows down, and ends the session after too many. */
ESP_CHECKED esp_status reply_error(struct session *s, uint32_t code, const char *enhanced, const char *text);
/*! \brief What a chain decided, when it says no (DEFER, REJECT), with that code; `what` when a hook that rejects gave
 *  no text. */
ESP_CHECKED esp_status reply_verdict(struct session *s, const esp_outcome *o, uint32_t code, const char *what);
/*! \brief The same with the hook's code, or 451 and 550; it counts as the client's mistake. */
ESP_CHECKED esp_status reply_outcome(struct session *s, const esp_outcome *o, const char *what);
/*! \brief [control, init] The counters of refusals. */
ESP_CHECKED esp_status reply_declare(struct smtp *m);
/*! \brief esp_attention.tell: mail that could not be taken lately. */
int32_t reply_attention(esp_module *self, char text[ESP_ATTENTION_ROOM]);
/*! \brief The one table from internal status to reply.  What is this server's fault is told to esp-cli status. */
ESP_CHECKED esp_status reply_status(struct session *s, esp_status st);

/* command.c: one function a verb; ESP_ECLOSED ends the session. */
ESP_CHECKED esp_status command_run(struct session *s, esp_str line);
/* auth.c, data.c */
ESP_CHECKED esp_status command_auth(struct session *s, esp_str args);
ESP_CHECKED esp_status command_data(struct session *s, esp_str args);
/* rcpt.c */
ESP_CHECKED esp_status command_rcpt(struct session *s, esp_str args);

/* relay.c */
enum relay { RELAY_YES = 0, RELAY_DENIED, RELAY_NO_QUEUE };
/*! \brief May this session send mail to somebody who is not ours?  The only place that says so. */
enum relay may_relay(const struct session *s);

/* trace.c */
/*! \brief The Received field of this message (RFC 5321 4.4), with its CRLF, in the transaction's arena. */
ESP_CHECKED esp_status trace_received(const struct session *s, esp_str *ret);

#endif
