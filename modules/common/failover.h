/* failover - several addresses of one service, in the order of esp.conf: who is asked, and who is left alone for a
 *while.
 *
 * For users of esp.httpclient/1 and of esp.dial/1 alike (rspamd, clamd ...).  An address that failed is left alone for
 *a second, then two, up to a minute; when that time is over, one caller tries it and the others go on without it.  When
 * all are down they are tried all the same: to fail is the addresses' business, not this list's.
 *
 *	struct failover_turn turn;
 *	for (failover_begin(&turn, f, now); failover_next(&turn, &i);) {
 *		st = ask(address[i]);
 *		failover_note(f, i, core->loop->clock(), st == ESP_OK);
 *		if (st == ESP_OK)
 *			break;
 *	}
 */
#ifndef ESP_COMMON_FAILOVER_H
#define ESP_COMMON_FAILOVER_H

#include <esp/abi.h>

#include <stdatomic.h>

#define FAILOVER_MOST  16u
#define FAILOVER_FIRST (1 * ESP_SEC)
#define FAILOVER_LAST  (60 * ESP_SEC)

/*! \brief Shared by all workers.  Zero-initialise but for `n`, at most FAILOVER_MOST. */
struct failover {
	uint32_t n;
	struct { _Atomic esp_nsec down_until; atomic_uint failures; atomic_int tried; } at[FAILOVER_MOST];
};

/*! \brief The addresses one request tries. */
struct failover_turn { uint32_t n, next; uint8_t order[FAILOVER_MOST]; };

/*! \brief [any] Those that are well, in their order; behind them the others, who comes back soonest first. */
void failover_begin(struct failover_turn *t, struct failover *f, esp_nsec now);
/*! \brief [any] 0: all have been tried. */
static inline int failover_next(struct failover_turn *t, uint32_t *ret)
{
	if (t->next >= t->n)
		return 0;
	*ret = t->order[t->next++];
	return 1;
}
/*! \brief [any] What came of it.  1: this changed how it is thought of, worth a line in the log. */
int failover_note(struct failover *f, uint32_t i, esp_nsec now, int ok);
/*! \brief [any] Is it left alone now? */
int failover_is_down(struct failover *f, uint32_t i);

#endif
