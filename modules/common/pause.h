/* pause - no transaction for a while: what both providers of esp.sql/1 do for esp_sql.pause. */
#ifndef ESP_COMMON_PAUSE_H
#define ESP_COMMON_PAUSE_H

#include <esp/sql.h>

#include <stdatomic.h>

struct pause { atomic_int on, inside; };

/*! \brief [any] At the start of a transaction; 0: not now. */
static inline int pause_enter(struct pause *p)
{
	atomic_fetch_add(&p->inside, 1);
	if (!atomic_load(&p->on))
		return 1;
	atomic_fetch_sub(&p->inside, 1);
	return 0;
}
/*! \brief [any] At its end. */
static inline void pause_leave(struct pause *p) { atomic_fetch_sub(&p->inside, 1); }

/*! \brief [fiber] ESP_SUSPENDS.  On: returns when those that had begun are through. */
static inline esp_status pause_set(const esp_core *core, struct pause *p, int on)
{
	esp_status st = ESP_OK;

	atomic_store(&p->on, on);
	while (st == ESP_OK && on && atomic_load(&p->inside))
		st = core->fiber->sleep_until(core->loop->clock() + ESP_MSEC);
	if (st != ESP_OK)
		atomic_store(&p->on, 0);
	return st;
}

#endif
