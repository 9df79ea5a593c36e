/* core/control/certificates.h - which certificates an operator must hear of now.
 *
 * A certificate is told of once a day while it has less time left than the operator wants to be warned before, and once
 * more when it has ended.  It is known by its file and its end: a reload that loads the same one again is no reason to
 * repeat it.  Knows neither clock nor log.  [control]
 */
#ifndef CORE_CONTROL_CERTIFICATES_H
#define CORE_CONTROL_CERTIFICATES_H

#include <stdbool.h>

#include "core/net/tls.h"

struct certificates_told;

/*! \brief What was told; zeroed at first. */
struct certificates {
	struct tls_store *store;        /* the one looked at last, a reference; NULL: none yet */
	struct certificates_told *told; /* one for each of its certificates */
};

typedef void certificates_tell(void *arg, const struct tls_certificate *one, esp_time now);

/*! \brief Call tell() for each certificate of the store (NULL: there are none) that is due at `now`; `before` in
 *  seconds, 0: only those that have ended.  Cheap enough for every second.  ESP_ENOMEM: a new store could not be taken
 *  in, which the next call tries again. */
ESP_CHECKED int certificates_look(struct certificates *c, struct tls_store *store, esp_time now, esp_time before,
                                  certificates_tell *tell, void *arg);
/*! \brief Forget everything; before the store's owner ends. */
void certificates_forget(struct certificates *c);

/*! \brief The certificate that ends first; false: the store (NULL is fine) has none. */
bool certificates_first(const struct tls_store *store, struct tls_certificate *ret);
/*! \brief Whole days until it ends, rounded down: 0 on the last day, negative when it has ended. */
int64_t certificates_days_left(const struct tls_certificate *one, esp_time now);

#endif
