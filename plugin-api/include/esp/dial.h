/* esp/dial.h - "esp.dial/1": connections to other servers, for fibers that read and write in order.
 *
 * One fiber at a time uses a connection.  Every wait ends at the fiber's deadline (ESP_ETIMEDOUT) or with its cancel.
 */
#ifndef ESP_DIAL_H
#define ESP_DIAL_H

#include <esp/abi.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct esp_dial esp_dial;

enum { /* secure() */
	ESP_DIAL_UNVERIFIED = 1u << 0  /* take any certificate: no protection from somebody in between */
};

typedef struct esp_dial_api {
	uint32_t size;
	/*! [worker, control] ESP_SUSPENDS.  Connect to the first address of `host` that answers.  A `host` that begins with
	 *  "/" is the path of a Unix socket, and `port` is not looked at.  ESP_ENOENT: no such host, or a path of more than
	 *  107 bytes; ESP_EUNAVAIL: none answers; the reason is in *err. */
	ESP_CHECKED esp_status (*open)(const char *host, const char *port, esp_dial **ret, esp_err *err);
	/*! [worker, control] ESP_SUSPENDS.  TLS from here on (1.2 or later).  The certificate must be of `host` and signed
	 * by an authority of the system, or of the PEM file `ca` (NULL: none).  ESP_ETLS and the reason. */
	ESP_CHECKED esp_status (*secure)(esp_dial *d, const char *host, uint32_t flags, const char *ca, esp_err *err);
	/*! [worker, control] ESP_SUSPENDS.  At least one byte, at most `cap`.  ESP_ECLOSED: the peer ended. */
	ESP_CHECKED esp_status (*read)(esp_dial *d, void *buf, size_t cap, size_t *ret);
	/*! [worker, control] ESP_SUSPENDS.  All bytes. */
	ESP_CHECKED esp_status (*write)(esp_dial *d, const void *data, size_t n);
	/*! [worker, control] Its end, at once.  NULL is fine. */
	void (*close)(esp_dial *d);
} esp_dial_api;

#ifdef __cplusplus
}
#endif
#endif
