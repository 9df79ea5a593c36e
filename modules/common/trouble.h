/* trouble - what is tried again and again fails for a while: one line when that begins, one when it is over. */
#ifndef ESP_COMMON_TROUBLE_H
#define ESP_COMMON_TROUBLE_H

#include <esp/host.h>

/*! \brief Zero-initialise; belongs to who tries. */
struct trouble { esp_nsec since; uint32_t failed; };
/*! \brief The two lines. */
struct trouble_text { const char *begins, *over; };

/*! \brief [any] How a try ended.  The first of several failures is a warning with its status, the success after them a
 *  notice with their number and how long it took.  ESP_ECANCELED says nothing about the matter. */
void trouble_note(
	struct trouble *t, const esp_core *core, esp_module *self, const struct trouble_text *text, esp_status st);

#endif
