/* ratelimit.h - parts of filter_ratelimit.
 *
 *   module.c    settings, life cycle
 *   rule.c      rules and allow-lists: how they are written, whom they concern
 *   hook.c      what is counted at which point, and what a client is told
 *   table.c     the counts of this server: a bounded table for all workers and generations
 *   redis.c     the counts of several servers: one script in Redis
 *   report.c    metrics, `esp-cli ratelimit`
 *
 * A count is the "theoretical arrival time" of the generic cell rate algorithm (GCRA, ITU-T I.371): the moment at which
 * everything that was taken is earned again.  docs/decisions/rates-are-one-number.md
 */
#ifndef MODULES_FILTER_RATELIMIT_H
#define MODULES_FILTER_RATELIMIT_H

#include <esp/crypto.h>
#include <esp/dial.h>
#include <esp/hook.h>
#include <esp/host.h>
#include <esp/mail.h>
#include <esp/metric.h>
#include <esp/slot.h>

#include "modules/common/network.h"
#include "modules/common/trouble.h"

#include <pthread.h>
#include <stdatomic.h>

#define RULES_MOST 24u      /* every pair of BYS and OFS once */
#define ALLOW_MOST 1000u
#define KEY_SHOWN  96u      /* of a key in the table, NUL included */
#define WAYS       8u       /* places a key may be at */

/* --- rule.c ------------------------------------------------------------------------------------------------------ */

enum by { BY_IP, BY_NETWORK, BY_SENDER, BY_SENDER_DOMAIN, BY_RECIPIENT, BY_ACCOUNT, BYS };   /* order of `by` */
enum of { OF_CONNECTIONS, OF_MESSAGES, OF_RECIPIENTS, OF_BYTES, OFS };                       /* order of `of` */
enum { MINUTE, HOUR, WINDOWS };

/*! \brief One of something is earned in `period`; who owes more than `credit` waits.  In ns; period 0: no such
 *  limit. */
struct rate { int64_t period, credit; };

struct rule {
	uint32_t by, of;
	struct rate rate[WINDOWS];
	int64_t most;                    /* a larger amount counts as this: nothing is refused for ever */
};

struct rules {
	uint32_t n, nallow_networks, nallow_senders, nallow_accounts, nroles;
	struct rule rule[RULES_MOST];
	uint32_t bits4, bits6;           /* of by = "network" */
	struct network *allow_networks;
	esp_str *allow_senders, *allow_accounts, *roles;
};

/*! \brief [control] Into `ret`, with lists in `arena`; or, both NULL, only looked at. */
esp_status rules_read(const esp_config_api *c, const esp_cfg *cfg, struct rules *ret, esp_arena *arena, esp_err *err);

/*! \brief [any] Can that be counted by that? */
int rule_makes_sense(uint32_t by, uint32_t of);

/*! \brief Who does something.  txn NULL: at CONNECT. */
struct subject { const esp_conn_info *info; const esp_txn *txn; esp_str recipient; };

/*! \brief [any] Is it on one of the lists? */
int rules_allow(const struct rules *r, const struct subject *s);
/*! \brief [any] "ip:connections:192.0.2.1" in `arena`, lower case.  {NULL,0}: the rule does not concern the subject, or
 *  there is no memory (ESP_ENOMEM in *ret). */
esp_str rule_key(const struct rules *r, const struct rule *rule, const struct subject *s, esp_arena *arena,
	esp_status *ret);
/*! \brief [any] "this address" ..., "messages" ... for what a client is told. */
const char *rule_whose(const struct rule *rule);
const char *rule_what(const struct rule *rule);
/*! \brief [any] As in esp.conf: "sender_domain", "bytes". */
const char *by_name(uint32_t by);
const char *of_name(uint32_t of);

/* --- table.c ----------------------------------------------------------------------------------------------------- */

/*! \brief One question: may `amount` (1 .. rule->most) more be taken? */
struct ask { const struct rule *rule; esp_str key; uint64_t hash; int64_t amount; };

struct entry {
	uint64_t hash;                   /* 0: free */
	int64_t until[WINDOWS], period[WINDOWS];   /* monotonic ns; as the rule had it last */
	char text[KEY_SHOWN];
};
/*! \brief One for all workers and generations of an instance: memory of the core (esp.mem/1) that outlives each. */
struct table {
	pthread_mutex_t lock;            /* held for the rows of one question, never over a suspension */
	uint64_t secret[2];
	_Atomic uint64_t forgotten;      /* rows that were still in debt */
	uint32_t n;                      /* entries, a multiple of WAYS */
	struct entry entry[];
};

/*! \brief [any] NULL: no memory. */
struct table *table_new(const esp_mem_api *mem, uint32_t entries, const uint64_t secret[2]);
/*! \brief [any] All asks or none.  -1: taken; else the index of the one that must wait longest, and how long. */
int32_t table_take(struct table *t, const struct ask *ask, uint32_t n, int64_t now, int64_t *ret_wait);
/*! \brief [any] 1: it was there. */
int table_forget(struct table *t, uint64_t hash);
/*! \brief [any] The next row in debt from *at on, copied; 0: none. */
int table_next(struct table *t, uint32_t *at, int64_t now, struct entry *ret);
/*! \brief [any] When all of it is earned again. */
int64_t entry_until(const struct entry *e);
/*! \brief [any] Rows of another table that find room. */
void table_copy(struct table *to, struct table *from, int64_t now);

/* --- redis.c ----------------------------------------------------------------------------------------------------- */

struct redis;
struct redis_settings {
	const char *host, *port;         /* a path has no port; host NULL: no Redis */
	esp_str user, password, prefix;
	int64_t database;
	esp_nsec timeout, rest;
	uint32_t links;
};

/*! \brief [worker, worker_start] NULL: no memory. */
struct redis *redis_new(
	const esp_core *core, esp_module *self, const esp_dial_api *dial, const struct redis_settings *s);
/*! \brief [its worker] ESP_SUSPENDS for `timeout` at most.  As table_take(); *ret_index -1: taken.  Another status than
 *  ESP_OK: not answered, and perhaps taken. */
esp_status redis_take(
	struct redis *r, const struct ask *ask, uint32_t n, int32_t *ret_index, int64_t *ret_wait, esp_err *err);
/*! \brief [its worker] ESP_SUSPENDS.  Forget a key. */
esp_status redis_forget(struct redis *r, esp_str key, int *ret_was, esp_err *err);
/*! \brief [its worker, worker_stop] NULL is fine. */
void redis_free(struct redis *r);

/* What Redis answers, for redis.c and its fuzzer. */
enum { ANSWER_MOST = 4096 };
struct answer { int whole, error, array; long long number[2]; uint32_t n; size_t seen; char text[128]; };
struct redisReader;
/*! \brief [any] A reader that allocates nothing for what comes.  NULL: no memory. */
struct redisReader *answer_reader(struct answer *a);
/*! \brief [any] The next bytes.  ESP_EAGAIN: more is to come; ESP_OK: whole; ESP_EPROTO; ESP_E2BIG. */
esp_status answer_add(struct redisReader *r, struct answer *a, const char *bytes, size_t n);
void answer_begin(struct answer *a);
void answer_reader_free(struct redisReader *r);

/* --- module.c ---------------------------------------------------------------------------------------------------- */

enum policy { POLICY_LOCAL, POLICY_DEFER, POLICY_ACCEPT };        /* order of `on_failure` */

struct ratelimit {
	esp_core core;
	esp_module *self;
	const esp_metric_api *metric;
	const esp_crypto_api *crypto;
	const esp_dial_api *dial;
	const esp_slot_api *slot;
	esp_slot said;                   /* ESP_SLOT_TXN: struct said */
	struct rules rules;
	struct redis_settings redis_settings;
	uint32_t on_failure, entries;
	struct table *table;
	struct redis **redis;            /* by worker */
	esp_metric deferred[BYS][OFS], forgotten, redis_failures, redis_seconds;
	_Atomic uint64_t told_forgotten;
};

/*! \brief Of one transaction: what was counted already. */
struct said { uint64_t recipient; int32_t bytes; };

uint64_t key_hash(const struct ratelimit *r, esp_str key);

/* --- hook.c, report.c -------------------------------------------------------------------------------------------- */

esp_status hooks_add(struct ratelimit *r);
esp_status report_declare(struct ratelimit *r);
void report_take(struct ratelimit *r);

#endif
