/* esp/config.h - "esp.config/1": reading a validated subtree of esp.conf.
 *
 * The tree was checked against the module's schema before check() is called: a declared key has its type,
 * its bounds and its default, so these readers cannot fail.  Asking for an undeclared key, by the reader of another
 * type, or beyond count() aborts.  The tree and its strings live as long as the generation it configured.
 * [any] throughout (a lane may read it too); nothing suspends or allocates.
 */
#ifndef ESP_CONFIG_H
#define ESP_CONFIG_H

#include <esp/abi.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct esp_config_api {
	uint32_t size;
	int32_t (*boolean)(const esp_cfg *c, const char *key);     /* BOOL: 0 or 1 */
	int64_t (*integer)(const esp_cfg *c, const char *key);     /* INT, SIZE (bytes), TIME (ns), DECIMAL (thousandths) */
	esp_str (*string)(const esp_cfg *c, const char *key);      /* STRING, ENUM; {NULL,0} when unset; NUL behind it */
	int32_t (*choice)(const esp_cfg *c, const char *key);      /* ENUM: index in `choices`, -1 unset */
	int32_t (*is_set)(const esp_cfg *c, const char *key);      /* written by the administrator? */
	uint32_t (*count)(const esp_cfg *c, const char *key);      /* STRINGS LIST MAP */
	esp_str (*string_at)(const esp_cfg *c, const char *key, uint32_t i);      /* STRINGS */
	const esp_cfg *(*group)(const esp_cfg *c, const char *key);               /* GROUP; never NULL */
	const esp_cfg *(*at)(const esp_cfg *c, const char *key, uint32_t i, esp_str *ret_name); /* LIST MAP; in the order of
	                                                            * esp.conf; ret_name may be NULL; empty in a LIST */
	/*! Where a key stands, for messages of check(): fills err->file and err->line and the text; return ESP_ECONFIG
	 *  then. */
	void (*error)(const esp_cfg *c, const char *key, esp_err *err, const char *fmt, ...) ESP_PRINTF(4, 5);
	/*! Bytes of a size in the words of esp.conf ("35 MiB", "4096"), for those who write one elsewhere.  ESP_EINVAL: it
	 *  is none, or beyond 2^63-1.  Since ABI 1.1. */
	ESP_CHECKED esp_status (*parse_size)(esp_str text, int64_t *ret);
	/*! The settings in force for mail of a domain: keys marked ESP_CFG_PER_DOMAIN as the administrator set them for it,
	 *  all others the module's.  `c` is what check(), init() or reconfigure() were given; `domain` as in esp_txn,
	 *  esp_rcpt and esp_rcpt_group (A-labels, lower case).  A domain without settings of its own, or "": c itself.
	 *  A search in a sorted list; the result lives as long as c.  Since ABI 1.1. */
	const esp_cfg *(*of_domain)(const esp_cfg *c, esp_str domain);
} esp_config_api;

#ifdef __cplusplus
}
#endif
#endif
