/* seldom - what may happen at any rate, and is worth a line a minute. */
#ifndef ESP_COMMON_SELDOM_H
#define ESP_COMMON_SELDOM_H

#include <esp/host.h>

#include <stdatomic.h>

/*! \brief Zero-initialise; for all threads that see it happen. */
struct seldom { _Atomic esp_nsec next; atomic_uint times; };

/*! \brief [any] It happened.  0: say nothing; else how often since it was last said, this time counted: say it now. */
static inline uint32_t seldom_due(struct seldom *s, esp_nsec now)
{
	esp_nsec next = atomic_load(&s->next);

	atomic_fetch_add(&s->times, 1);
	if (now < next || !atomic_compare_exchange_strong(&s->next, &next, now + 60 * ESP_SEC))
		return 0;
	return atomic_exchange(&s->times, 0);
}

#endif
