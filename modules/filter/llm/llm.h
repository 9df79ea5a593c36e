/* filter_llm - what its files share.  See module.c for what the module is. */
#ifndef ESP_FILTER_LLM_H
#define ESP_FILTER_LLM_H

#include "reply.h"

#include <esp/blob.h>
#include <esp/command.h>
#include <esp/crypto.h>
#include <esp/directory.h>
#include <esp/event.h>
#include <esp/eventlog.h>
#include <esp/hook.h>
#include <esp/host.h>
#include <esp/httpclient.h>
#include <esp/mail.h>
#include <esp/mailstore.h>
#include <esp/metric.h>

#include "modules/common/lease.h"
#include "modules/common/seldom.h"
#include "modules/common/trouble.h"

#include <stdatomic.h>
#include <stdio.h>

#define CONCURRENCY_MAX 64u
#define AHEAD_MAX 256u
#define HASH_LEN 32u

enum mode { MODE_AFTER, MODE_WAIT };

/* What esp.conf says.  In the generation's arena; never changes. */
struct settings {
	struct prompt prompt;
	enum mode mode;
	esp_str url, key, profile;
	uint32_t threshold;            /* thousandths */
	uint32_t concurrency;
	size_t text;                   /* bytes of a message that are shown */
	esp_nsec timeout, wait;        /* of a request; of a delivery */
	esp_time max_age, cache_ttl;   /* seconds */
	uint32_t cache;                /* answers that are remembered */
	uint64_t requests, tokens;     /* a day; 0: no limit */
	const esp_str *domain, *except;
	uint32_t ndomains, nexcept;
	uint8_t print[HASH_LEN];       /* of what an answer depends on beside the message */
};

/* What became of a message. */
enum result {
	R_CATEGORISED, R_UNSURE, R_SPAM, R_FILED, R_OFF, R_OLD, R_BUDGET, R_BUSY, R_RESTING, R_WRONG, R_REFUSED, R_FAILED,
	RESULTS
};
/* What became of a request. */
enum request { Q_OK, Q_WRONG, Q_REFUSED, Q_LATER, Q_FAILED, REQUESTS };

/* An answer, remembered; see shared.c for why it is written like this. */
struct slot { _Atomic uint64_t a, b, data; };

/* One for all workers, and for all generations of this instance. */
struct shared {
	atomic_uint running;                   /* requests */
	atomic_uint failures;                  /* in a row */
	_Atomic esp_nsec rest_until;           /* the service is left alone */
	_Atomic int64_t day;                   /* since 1970 */
	atomic_uint_least64_t requests, tokens;        /* of that day, by all servers as far as is known */
	atomic_uint_least64_t new_requests, new_tokens; /* of them, not in the database yet */
	_Atomic int64_t position, end;         /* in the event log: done, newest; for reports */
	atomic_int follows;                    /* the place in the log is known */
	struct seldom spent, wrong, failed;    /* lines of the log */
	/* worker 0, who holds the lease: positions that are done although something before them is not */
	int64_t ahead[AHEAD_MAX];
	uint32_t nahead;
	uint32_t nslots;
	struct slot slot[];
};

struct report {
	const esp_event_api *event;
	const esp_metric_api *metric;
	esp_event_id categorised;
	esp_metric messages[RESULTS], requests[REQUESTS], category[CATEGORIES_MAX];
	esp_metric tokens, cached, moved, behind, seconds;
};

struct llm {
	esp_core core;
	esp_module *self;
	const esp_crypto_api *crypto;
	esp_lane *lane;
	esp_binding http, sql, directory, mailstore, blob, eventlog;
	struct settings settings;
	struct shared *shared;
	struct report report;
	/* worker 0 */
	struct lease lease;
	esp_fcond wake;
	int draining, woken;
	esp_nsec flush_at;
	struct trouble flushing;
	struct job *job;                       /* CONCURRENCY_MAX: after.c */
	uint32_t stuck;                        /* so often the first one failed: */
	int64_t stuck_at;
};

/* --- settings.c --- */
/*! \brief [control] Is it sound?  Also by `esp-server check`.  ESP_ECONFIG. */
esp_status settings_check(const esp_config_api *c, const esp_cfg *cfg, esp_err *err);
ESP_CHECKED esp_status settings_read(struct llm *m, const esp_cfg *cfg, struct settings *ret);
/*! \brief [worker] What holds for this message; `args` NULL: for one that was delivered.  The one place that knows. */
static inline const struct settings *settings_for(const esp_module *self, const esp_message_args *args)
{
	(void)args;
	return &((const struct llm *)self->state)->settings;
}
/*! \brief [worker] ESP_SUSPENDS.  May mail of this account be shown to the service?  ESP_OK, ESP_EACCES, or it cannot
 *  be said now.  ret_login may be NULL. */
ESP_CHECKED esp_status settings_allow(
	struct llm *m, const struct settings *s, esp_arena *arena, esp_id account, esp_str *ret_login);
extern const esp_cfg_item settings_items[];

/* --- shared.c --- */
ESP_CHECKED esp_status shared_take(struct llm *m);      /* [control, start] */
void shared_drop(struct llm *m);
/*! \brief [any] Has this text been answered before?  The key is the hash of settings and text. */
int cache_get(const struct shared *sh, const uint8_t key[HASH_LEN], esp_time now, struct verdict *ret);
void cache_put(struct shared *sh, const uint8_t key[HASH_LEN], esp_time now, esp_time ttl, const struct verdict *v);
/*! \brief [any] One request of today's; 0: they are spent. */
int budget_take(struct shared *sh, const struct settings *s, esp_time now);
void budget_give_back(struct shared *sh);               /* it was never sent */
void budget_tokens(struct shared *sh, uint64_t n);
void budget_day(struct shared *sh, esp_time now);       /* begin a new day when it is one */
int budget_spent(const struct shared *sh, const struct settings *s);
/*! \brief [any] A place among `most` requests at once; 0: none is free. */
int running_enter(struct shared *sh, uint32_t most);
void running_leave(struct shared *sh);
/*! \brief [any] The service failed: leave it alone for `span`, or as long as so many failures ask for (0). */
void rest(struct shared *sh, esp_nsec now, esp_nsec span);

/* --- ask.c --- */
/*! \brief [worker] ESP_SUSPENDS.  What the model says of this text, until `until`.  R_CATEGORISED: *ret is filled;
 *  R_UNSURE: below the threshold, *ret too.  *ret_fault: R_RESTING, R_FAILED: may it be the message's own fault? */
enum result ask(struct llm *m, const struct settings *s, esp_arena *arena, esp_str text, esp_nsec until,
	struct verdict *ret, int *ret_fault);
/*! \brief [worker] ESP_SUSPENDS.  text_prepare() where it may block. */
ESP_CHECKED esp_status ask_prepare(struct llm *m, const struct settings *s, esp_str raw, esp_buf *out);

/* --- wait.c, after.c, ledger.c, report.c --- */
esp_verdict wait_on_message(esp_module *self, const esp_message_args *args, esp_answer *answer);
/*! \brief [control, init] */
ESP_CHECKED esp_status after_prepare(struct llm *m);
/*! \brief [worker 0] The fiber that follows the event log, until told to drain. */
void after_follow(void *arg);
void after_drain(struct llm *m);

extern const esp_sql_migrations ledger_migrations;
/*! \brief [worker 0] ESP_SUSPENDS.  What was used since, into the database, and what all servers used out of it. */
ESP_CHECKED esp_status ledger_budget(struct llm *m, const esp_sql *sql);
/*! \brief [worker 0] ESP_SUSPENDS.  Where the event log was read to; ESP_ENOENT: never. */
ESP_CHECKED esp_status ledger_position(struct llm *m, const esp_sql *sql, esp_arena *arena, int64_t *ret);
/*! \brief [worker 0] ESP_SUSPENDS.  ESP_EBUSY: another server does it now. */
ESP_CHECKED esp_status ledger_move(struct llm *m, const esp_sql *sql, int64_t position);

ESP_CHECKED esp_status report_declare(struct llm *m);
void report_result(struct llm *m, enum result r);
/*! \brief [worker 0] How far the event log was read, and how long it is. */
void report_behind(struct llm *m, int64_t position, int64_t end);
/*! \brief [any] And the event.  folder: where it was moved or is filed; empty: INBOX. */
void report_category(struct llm *m, const struct settings *s, esp_id message, esp_str account, const struct verdict *v,
	esp_str folder);

static inline esp_nsec earlier(esp_nsec a, esp_nsec b) { return a && a < b ? a : b; }

#endif
