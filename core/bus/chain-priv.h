/* core/bus/chain-priv.h - a chain's insides, shared by chain-build.c and chain-run.c. */
#ifndef CORE_BUS_CHAIN_PRIV_H
#define CORE_BUS_CHAIN_PRIV_H

#include "core/bus/chain.h"
#include "core/bus/log.h"
#include "core/bus/metric.h"

#define CHAIN_MAGIC 0x43484e31u

struct step { uint32_t first, n; };   /* one hook, or the members of one group */

struct chain {
	uint32_t magic;
	esp_point point;
	const struct point *at;
	uint32_t allowed;             /* verdict_bit()s, CONTINUE included */
	uint32_t n, nsteps;
	struct hook_entry *entries;   /* in order; members of a group stand together */
	struct step *steps;
};

#endif
