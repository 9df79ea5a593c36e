/* sasl - the rounds of a SASL exchange (RFC 4422) around a connection: base64 both ways.  For every protocol that sends
 * challenges and answers as lines. */
#ifndef ESP_COMMON_SASL_H
#define ESP_COMMON_SASL_H

#include <esp/auth.h>

/*! \brief Who talks with whom. */
struct sasl_talk {
	const esp_host *host;
	const esp_auth *auth;
	esp_conn *conn;
	esp_arena *arena;          /* answers live here until it is freed */
	const char *prompt;        /* in front of a challenge: "334 ", "+ " */
};

/*! \brief [worker of conn] ESP_SUSPENDS, and gives back every service before it does.  `initial`: the initial response
 *  as it was sent ("=": an empty one), ptr NULL when there was none.  ESP_OK: *who is authenticated.  ESP_ECANCELED:
 *  "*".  ESP_EPROTO: not base64, or too many rounds.  Else a status of sasl_step().  *ret_io: the
 *  connection's; not ESP_OK: the status means nothing. */
ESP_CHECKED esp_status sasl_exchange(
	const struct sasl_talk *t, esp_sasl *sasl, esp_str initial, esp_identity *who, esp_status *ret_io);

#endif
