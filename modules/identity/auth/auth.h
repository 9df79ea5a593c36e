/* auth - what the files of identity/auth share. */
#ifndef ESP_IDENTITY_AUTH_H
#define ESP_IDENTITY_AUTH_H

#include <esp/auth.h>
#include <esp/command.h>
#include <esp/crypto.h>
#include <esp/directory.h>
#include <esp/eventlog.h>
#include <esp/metric.h>
#include <esp/sql.h>
#include <esp/hook.h>
#include <esp/topic.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "modules/common/seldom.h"

#define AUTH_PASSWORD_MAX 1024u  /* longer ones are refused before any work */
#define AUTH_PHC_MAX      256u   /* "$argon2id$v=19$m=...": an encoded hash */

struct shared;

struct auth {
	esp_auth table;            /* first: services are found by it */
	esp_core core;
	esp_module *self;
	const esp_crypto_api *crypto;
	const esp_event_api *event;
	const esp_metric_api *metric;
	const esp_hook_api *hook;
	const esp_topic_api *topic;
	esp_binding sql, directory, eventlog;
	esp_lane *hash_lane;
	uint32_t memory_kib, passes;   /* argon2id */
	int plaintext_ok;          /* passwords without TLS, for tests on loopback */
	char dummy[AUTH_PHC_MAX];  /* hash of nothing anybody knows: the work for an unknown user */
	struct shared *shared;     /* from start() to stop() */
	esp_nsec cache_time;
	esp_event_id login, failed;
	esp_metric ok, refused, cached, unknown;
	struct seldom unchecked;   /* logins that nobody could say yes or no to */
};

static inline const esp_sql *auth_sql(struct auth *a)
{
	return (const esp_sql *)a->core.host->service(a->self, a->sql);
}

/* hash.c: argon2id.  [lane] or [worker] as said. */
/*! \brief [worker] ESP_SUSPENDS (hash lane).  Does the password fit the PHC string?  ESP_OK, ESP_EACCES, ESP_EBUSY. */
ESP_CHECKED esp_status hash_verify(struct auth *a, const char *phc, esp_str password);
/*! \brief [worker, control] ESP_SUSPENDS (hash lane).  A PHC string for a new password. */
ESP_CHECKED esp_status hash_make(struct auth *a, esp_str password, char out[AUTH_PHC_MAX]);
/*! \brief A well-formed PHC string of today's parameters that no password fits; costs nothing to make. */
void hash_of_nobody(struct auth *a, char out[AUTH_PHC_MAX]);
/*! \brief Made with weaker parameters than today's? */
int hash_is_weak(const struct auth *a, const char *phc);

/* cache.c: verified logins, by a keyed digest.  [any] */
#define CACHE_SETS 8192u
#define CACHE_WAYS 4u
struct cache_entry { uint8_t digest[32]; esp_nsec until; };
struct cache { pthread_mutex_t lock; struct cache_entry e[CACHE_SETS][CACHE_WAYS]; };
/*! \brief As limits_init(): a large table, whose memory comes zeroed and is not touched before it is needed. */
void cache_init(struct cache *zeroed);
void cache_end(struct cache *c);
/*! \brief Keyed digest over account, credential version, and password. */
void cache_digest(const esp_crypto_api *crypto, const uint8_t key[32], esp_id account, int64_t version,
	esp_str password, uint8_t out[32]);
int cache_has(struct cache *c, const uint8_t digest[32], esp_nsec now);
void cache_put(struct cache *c, const uint8_t digest[32], esp_nsec until);

/* limits.c: failures by address and account.  [any] */
#define LIMITS_SETS 4096u
#define LIMITS_WAYS 4u
#define LIMITS_LEVELS 3            /* an address, its network, its wide network */
#define LIMITS_ENTRIES (LIMITS_LEVELS + 2) /* and the pair, and the account */
struct limit {                     /* of an address, a pair or an account; what it does not need stays 0 */
	uint64_t hash, wrong;          /* wrong: digest of a pair's last wrong password */
	esp_nsec last, since, day, worked;
	uint32_t failures, in_day, in_flight;
};
struct limits {
	pthread_mutex_t lock;
	uint64_t secret;
	struct limit address[LIMITS_SETS][LIMITS_WAYS], pair[LIMITS_SETS][LIMITS_WAYS], account[LIMITS_SETS][LIMITS_WAYS];
};
/*! \brief One attempt, from limits_begin() to limits_end(). */
struct attempt { uint64_t hash[LIMITS_ENTRIES]; };
enum attempt_outcome { ATTEMPT_FAILED, ATTEMPT_WORKED, ATTEMPT_UNKNOWN };
void limits_init(struct limits *zeroed, uint64_t secret);
void limits_end_all(struct limits *l);
/*! \brief May this address try this account now?  0: yes, it is in flight until limits_end().  Above: ask again after
 *  so long (ns).  -1: refuse. */
esp_nsec limits_begin(struct limits *l, esp_str peer, esp_str user, esp_nsec now, struct attempt *ret);
/*! \brief Once for every attempt that began.  password: a digest that tells equal ones, 0: none. */
void limits_end(
	struct limits *l, const struct attempt *t, enum attempt_outcome outcome, uint64_t password, esp_nsec now);

/*! \brief An address as 16 bytes (IPv4 mapped).  0: it is none. */
int limits_address(esp_str peer, uint8_t ret[16]);
/*! \brief Forget the failures of the address and its networks (`peer` is not empty), else of the account.  The most
 *  that any of them counted that day. */
uint32_t limits_forgive(struct limits *l, esp_str peer, esp_str user, esp_nsec now);

/* shared.c: what all workers and generations share.  [control] */
struct shared {
	_Atomic uint32_t users;        /* generations */
	uint8_t key[32];               /* of digests; never leaves the process */
	struct limits limits;
	struct cache cache;
};
ESP_CHECKED esp_status shared_take(struct auth *a);
void shared_drop(struct auth *a);

/*! \brief Has the caller room for what an identity was in ABI 1.0? */
static inline int identity_fits(const esp_identity *who) { return who->size >= offsetof(esp_identity, credential); }
/*! \brief And what recheck() is asked with, since ABI 1.1? */
static inline int identity_is_whole(const esp_identity *who)
{
	return who->size >= offsetof(esp_identity, version) + sizeof who->version;
}

/* login.c */
ESP_CHECKED esp_status login(const esp_auth *a, esp_conn *c, const char *protocol, esp_arena *arena, esp_str user,
	esp_str password, esp_identity *ret);
ESP_CHECKED esp_status login_recheck(const esp_auth *a, esp_arena *arena, const esp_identity *who);
/*! \brief Passwords may travel here: TLS is on, or the administrator allowed plaintext and the peer is trusted. */
int login_allowed(const struct auth *a, const esp_conn *c);

/* sasl.c */
esp_str sasl_mechanisms(const esp_auth *a, const esp_conn *c, esp_arena *arena);
ESP_CHECKED esp_status sasl_begin(
	const esp_auth *a, esp_conn *c, const char *protocol, esp_arena *arena, esp_str mechanism, esp_sasl **ret);
ESP_CHECKED esp_status sasl_step(esp_sasl *s, esp_str in, esp_str *out, esp_identity *who);
void sasl_end(esp_sasl *s);

/* credential.c */
extern const esp_sql_migrations auth_migrations;
/*! \brief ESP_SUSPENDS.  The account's password hash and version; ESP_ENOENT: none set. */
ESP_CHECKED esp_status credential_get(
	struct auth *a, esp_arena *arena, esp_id account, char phc[AUTH_PHC_MAX], int64_t *ret_version);
/*! \brief ESP_SUSPENDS.  A new password: sessions that logged in with the old one are told to end. */
ESP_CHECKED esp_status credential_set(struct auth *a, esp_id account, esp_str address, esp_str password, esp_err *err);
/*! \brief ESP_SUSPENDS.  The same password with a stronger hash. */
ESP_CHECKED esp_status credential_rehash(struct auth *a, esp_id account, esp_str password);
/* app_password.c */
extern const esp_command app_password_add, app_password_list, app_password_remove;
/*! \brief [worker] ESP_SUSPENDS.  Is it an app password of this account?  ESP_ENOENT: none; ESP_EACCES: not for this
 *  protocol, or ended. */
ESP_CHECKED esp_status app_password_check(
	struct auth *a, esp_arena *arena, esp_id account, const char *protocol, esp_str password, esp_id *ret);
/*! \brief [worker] ESP_SUSPENDS.  Is it still good?  ESP_OK or ESP_EACCES. */
ESP_CHECKED esp_status app_password_recheck(struct auth *a, esp_arena *arena, esp_id account, esp_id id);
/* forgive.c */
extern const esp_command login_forgive;

extern const esp_command *const auth_commands[];   /* ends with NULL */

#endif
