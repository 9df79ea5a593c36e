/* esp/attention.h - "esp.attention/1": what an operator should look at, asked by `esp-cli status`.
 *
 * Contributed by a module that knows of trouble which nobody else sees: a list of things to do, not of events.
 * Since ABI 1.1.
 */
#ifndef ESP_ATTENTION_H
#define ESP_ATTENTION_H

#include <esp/host.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { ESP_ATTENTION_ROOM = 320 }; /* bytes of a line, with its NUL */

/*! \brief Static or in host->arena(self). */
typedef struct esp_attention {
	uint32_t size;
	/*! [control] Must not suspend; may read only what other threads change by atomics.  One line for the administrator,
	 *  what is wrong and what to do, NUL-terminated into text.  0: nothing is. */
	int32_t (*tell)(esp_module *self, char text[ESP_ATTENTION_ROOM]);
} esp_attention;

#ifdef __cplusplus
}
#endif
#endif
