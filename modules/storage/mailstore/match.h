/* match - does a message's text hold a string?  Substring under i;unicode-casemap, on decoded text (RFC 3501 6.4.4).
 *
 * Needles are folded once; a message is decoded piece by piece, so a large part needs a window only.  Suspends on
 * nothing: the caller yields between messages.
 */
#ifndef ESP_STORAGE_MAILSTORE_MATCH_H
#define ESP_STORAGE_MAILSTORE_MATCH_H

#include "store.h"

/*! \brief The needle under the casemap, in arena memory. */
ESP_CHECKED esp_status match_fold(esp_arena *a, esp_str text, esp_str *ret);
/*! \brief Is there a field of that name whose value holds the (folded) needle?  An empty needle asks for the field. */
ESP_CHECKED esp_status match_header(esp_str content, esp_str name, esp_str needle, int *ret);
/*! \brief Does the body's text hold it; with `header` set also the header? */
ESP_CHECKED esp_status match_text(esp_str content, esp_str needle, int header, int *ret);

#endif
