/* esp/auth.h - "esp.auth/1": who is it?  SASL exchanges and passwords; one identity comes out.
 *
 * The same text and the same work for an unknown user and a wrong password.  Limits per address and account are
 * inside; a delay is a suspension, a refusal ESP_EBUSY.
 */
#ifndef ESP_AUTH_H
#define ESP_AUTH_H

#include <esp/conn.h>
#include <esp/host.h>

#ifdef __cplusplus
extern "C" {
#endif

/*! \brief Who authenticated. */
typedef struct esp_identity {
	uint32_t size;
	uint32_t reserved;
	esp_id account;
	esp_str login;
	esp_str mechanism;
	esp_id credential;          /* the app password; all zero: the account's own.  Since ABI 1.1 */
	int64_t version;            /* of the account's own password.  Since ABI 1.1 */
} esp_identity;

/*! \brief A module that calls login() or sasl_begin() contributes the name it calls its protocol by there, a string:
 *  contribute(self, ESP_AUTH_PROTOCOL, "imap").  App passwords may be limited to these.  Since ABI 1.1. */
#define ESP_AUTH_PROTOCOL "esp.auth.protocol/1"

typedef struct esp_sasl esp_sasl;   /* one exchange; lives in the arena it was begun with */

/*! \brief The service "esp.auth/1". */
typedef struct esp_auth esp_auth;
struct esp_auth {
	esp_service service;
	/*! [worker] Mechanisms to announce on this connection now, by preference, separated by blanks; empty when
	 *  none may be used (no TLS).  Lives in arena. */
	esp_str (*mechanisms)(const esp_auth *a, const esp_conn *c, esp_arena *arena);
	/*! [worker] ESP_SUSPENDS.  Name and password (IMAP LOGIN).  ESP_OK fills *ret (strings in arena); ESP_EACCES: no;
	 *  ESP_EBUSY: too many tries or the hash queue is full, try later; ESP_EUNAVAIL: cannot say now; ESP_EINVAL:
	 *  ret->size is too small.  `protocol` is its name for the log and events: "imap", "smtp". */
	ESP_CHECKED esp_status (*login)(const esp_auth *a, esp_conn *c, const char *protocol, esp_arena *arena,
	                                esp_str user, esp_str password, esp_identity *ret);
	/*! [worker] Begin a SASL exchange.  It lives within one call of session(), and `protocol` is borrowed that long:
	 *  wait with read_line(), never park before sasl_end().  ESP_ENOENT: no such mechanism; ESP_EACCES: not without
	 *  TLS. */
	ESP_CHECKED esp_status (*sasl_begin)(const esp_auth *a, esp_conn *c, const char *protocol, esp_arena *arena,
	                                     esp_str mechanism, esp_sasl **ret);
	/*! [worker] ESP_SUSPENDS.  Feed the client's (decoded) answer; the first call without an initial response passes
	 *  {NULL,0}; one that is empty has a pointer.  ESP_EAGAIN: send *out as challenge; ESP_OK: *who is filled;
	 *  ESP_EPROTO: malformed; others as login(). */
	ESP_CHECKED esp_status (*sasl_step)(esp_sasl *s, esp_str in, esp_str *out, esp_identity *who);
	/*! [worker] End the exchange, also one given up (client said "*", read_line() failed). */
	void (*sasl_end)(esp_sasl *s);
	/*! [worker] ESP_SUSPENDS.  Is it still so?  ESP_EACCES: the account is gone or switched off, its password was
	 *  changed, or the app password taken away: end the session.  Other errors: cannot say now.  The account's id is a
	 *  topic (esp/topic.h) that is published when one of these happens on this server; a session asks then, and once a
	 *  minute for what other servers did.  Uses account, credential and version of *who.  Since minor 1. */
	ESP_CHECKED esp_status (*recheck)(const esp_auth *a, esp_arena *arena, const esp_identity *who);
};

#ifdef __cplusplus
}
#endif
#endif
