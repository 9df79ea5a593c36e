/* core/bus/metric-priv.h - the registry's insides, shared by metric.c and metric-render.c. */
#ifndef CORE_BUS_METRIC_PRIV_H
#define CORE_BUS_METRIC_PRIV_H

#include "core/bus/metric.h"

struct metric_family {
	char *name, *help;
	uint32_t type;
	bool nanoseconds;                     /* a counter of them, shown in seconds */
	struct metric_series *first, *last;   /* in order of declaration */
	struct metric_family *next;           /* sorted by name */
};

struct metric_series {
	struct metric_family *family;
	char *labels;
	uint32_t cell;                /* first cell; histogram: nbounds + 1 buckets, then the sum (bits of a double) */
	uint32_t nbounds;
	double *bounds;
	_Atomic int64_t gauge;
	struct metric_series *next;   /* of the family */
};

/*! \brief Locks the registry against declarations and gives its families. */
struct metric_family *metric_lock(void);
void metric_unlock(void);
/*! \brief Under the lock: a cell summed over all threads; as integers or as doubles. */
uint64_t metric_sum(uint32_t cell);
double metric_sum_double(uint32_t cell);

#endif
