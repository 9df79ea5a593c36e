/* esp/trust.h - "esp.trust/1": is the certificate of a TLS server good?
 *
 * For modules whose library brings TLS of its own (libcurl): the authorities are read once and not for every
 * connection, which takes tens of milliseconds on the loop.  Whoever has no such library uses esp.dial/1.
 * Since ABI 1.1.
 */
#ifndef ESP_TRUST_H
#define ESP_TRUST_H

#include <esp/abi.h>

#ifdef __cplusplus
extern "C" {
#endif

/*! \brief Authorities; never changed, so any number of threads may use it. */
typedef struct esp_trust esp_trust;

typedef struct esp_trust_api {
	uint32_t size;
	/*! [lane] Read the authorities of a PEM file; blocks.  ESP_ENOENT: it cannot be read; ESP_ECONFIG: there are none
	 *  in it; ESP_ENOMEM. */
	ESP_CHECKED esp_status (*open)(const char *ca, esp_trust **ret, esp_err *err);
	/*! [any] `session`: the gnutls_session_t of a finished handshake, of the libgnutls that is in this process.
	 *  ESP_OK: its peer has shown a certificate for a TLS server of the name (or address) `host` that is valid now and
	 *  signed by one of the authorities.  ESP_ETLS and the reason: send nothing, close. */
	ESP_CHECKED esp_status (*verify)(const esp_trust *t, void *session, const char *host, esp_err *err);
	/*! [any] NULL is fine. */
	void (*close)(esp_trust *t);
} esp_trust_api;

#ifdef __cplusplus
}
#endif
#endif
