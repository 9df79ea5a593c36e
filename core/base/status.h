/* core/base/status.h - names and texts of ESP_E..., the way from errno, and filling an esp_err. */
#ifndef CORE_BASE_STATUS_H
#define CORE_BASE_STATUS_H

#include <esp/abi.h>
#include <stdarg.h>

/*! \brief "ESP_EBUSY"; "ESP_E?" for an unknown number. */
const char *status_name(esp_status st);
/*! \brief "a bounded queue is full: try later". */
const char *status_text(esp_status st);
/*! \brief The ESP_E... that fits an errno; ESP_EIO when none does. */
esp_status status_from_errno(int err);

/*! \brief Fill the reason.  err may be NULL; bounded by err->size, so an older, smaller esp_err is safe. */
void esp_err_set(esp_err *err, const char *fmt, ...) ESP_PRINTF(2, 3);
void esp_err_vset(esp_err *err, const char *fmt, va_list ap) ESP_PRINTF(2, 0);
/*! \brief The same and return st, for `return err_fail(err, ESP_EINVAL, "...")`. */
esp_status err_fail(esp_err *err, esp_status st, const char *fmt, ...) ESP_PRINTF(3, 4);
/*! \brief "<fmt>: strerror(errno)", returns status_from_errno(errno); keeps errno. */
esp_status err_fail_errno(esp_err *err, const char *fmt, ...) ESP_PRINTF(2, 3);
/*! \brief Note why a call without an esp_err is refused, and return st.  The note is this thread's and the last one
 *  counts: when init() of a module fails and says nothing, it is what the administrator reads. */
esp_status err_refuse(esp_status st, const char *fmt, ...) ESP_PRINTF(2, 3);
/*! \brief Takes the note; into err, unless that is NULL or nothing was noted. */
void err_refusal(esp_err *err);
/*! \brief Also says where in a configuration file. */
void esp_err_at(esp_err *err, const char *file, uint32_t line);

#endif
