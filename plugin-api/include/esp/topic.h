/* esp/topic.h - "esp.topic/1": wake-ups between workers.
 *
 * A topic is a 128-bit name (the id of a mailbox, or of an account).  A parked session subscribes its connection and is
 * called with ESP_CONN_TOPIC when somebody publishes; several publications before it runs are one wake-up.  Carries no
 * data: the woken side asks the owner of the truth.  Subscriptions survive a reload of either side.
 */
#ifndef ESP_TOPIC_H
#define ESP_TOPIC_H

#include <esp/abi.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct esp_topic_api {
	uint32_t size;
	/*! [worker of conn] At most 64 topics a connection.  Subscribing twice is once. */
	ESP_CHECKED esp_status (*subscribe)(esp_conn *c, esp_id topic);
	void (*unsubscribe)(esp_conn *c, esp_id topic);
	/*! [any] Wake every connection of every worker that subscribed. */
	void (*publish)(esp_id topic);
	/*! [worker of conn] Was this topic of the connection published since the last question, or since it subscribed?  1
	 *  or 0; tells which of several topics woke it.  Since ABI 1.1. */
	int32_t (*fired)(esp_conn *c, esp_id topic);
} esp_topic_api;

#ifdef __cplusplus
}
#endif
#endif
