/* standing - from a login to its end: may who logged in stay, and the event when it is over.  For every protocol whose
 * sessions outlive their login. */
#ifndef ESP_COMMON_STANDING_H
#define ESP_COMMON_STANDING_H

#include <esp/auth.h>
#include <esp/event.h>
#include <esp/topic.h>

/*! \brief How a session logged in.  Plain data: a handover may copy it. */
struct standing {
	esp_id account, credential;
	int64_t version;
	esp_nsec since;            /* the login */
	esp_nsec checked;          /* when it was last good; 0: could not be asked */
};

/*! \brief The module that asks. */
struct standing_asker {
	const esp_core *core;
	esp_module *self;
	const esp_topic_api *topic;
	esp_binding auth;
	esp_nsec every;            /* ask unasked after so long: other servers may have changed the account */
	const char *protocol;      /* for the event, as login() was told: "imap" */
	const esp_event_api *event;
	esp_event_id logout;
};

/*! \brief [control, init] The rest of the asker is filled: declare user.logout. */
ESP_CHECKED esp_status standing_declare(struct standing_asker *asker);

/*! \brief [worker of conn] From now on the connection is woken (ESP_CONN_TOPIC) when its account changes. */
ESP_CHECKED esp_status standing_begin(
	struct standing *s, esp_conn *conn, const struct standing_asker *asker, const esp_identity *who);
/*! \brief [worker of conn] ESP_SUSPENDS, when something changed or it is time.  ESP_OK, also when that cannot be said
 *  now (the next call asks again); ESP_EACCES: end the session. */
ESP_CHECKED esp_status standing_check(struct standing *s, esp_conn *conn, const struct standing_asker *asker);
/*! \brief [worker of conn] The session of that login ends.  Not for one that goes on in another generation. */
void standing_end(const struct standing *s, const esp_conn *conn, const struct standing_asker *asker, esp_str login);

#endif
