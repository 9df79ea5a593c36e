/* core/bus/chain.h - hook chains: who is asked at a point, in which order, and what comes out ("esp.hook/1").
 *
 * hooks_*: what each generation added, on the control thread.  A chain is built from those for one point of one
 * snapshot and is immutable from then on; the pinned snapshot keeps its generations alive.  chain_run() runs in a
 * fiber of a worker.  The hooks of a group run in child fibers that are joined before it returns, so a late answer
 * cannot exist.
 */
#ifndef CORE_BUS_CHAIN_H
#define CORE_BUS_CHAIN_H

#include "core/bus/trace.h"
#include "core/bus/verdict.h"
#include <esp/metric.h>

enum { HOOK_TIMEOUT_DEFAULT_S = 30, CHAIN_GROUP_MAX = 16, CHAIN_HOOKS_MAX = 256, HOOK_SAMPLE = 64 };

/*! \brief One hook of one instance, as a chain holds it. */
struct hook_entry {
	esp_module *module;        /* NULL: left out after crashes; its failure policy answers */
	const char *instance;      /* name in esp.conf; lives as long as the generation, or the chain's copy */
	uint32_t position;         /* in the module list */
	bool shadow;               /* run and counted, but what it says does not matter */
	esp_hook hook;             /* with the administrator's overrides applied */
	esp_metric calls[7];       /* by verdict_index() */
	esp_metric seconds, late, failed;
};

/*! \brief What the administrator wrote for one instance at one point. */
enum {
	OVERRIDE_PRIORITY = 1u << 0, OVERRIDE_GROUP = 1u << 1, OVERRIDE_TIMEOUT = 1u << 2, OVERRIDE_ON_FAIL = 1u << 3,
	OVERRIDE_MUST_RUN = 1u << 4, OVERRIDE_SHADOW = 1u << 5
};
struct hook_override {
	uint32_t set;              /* OVERRIDE_... */
	int32_t priority;
	uint32_t group;
	esp_nsec timeout;
	esp_verdict on_fail;       /* here CONTINUE is allowed: it is the administrator's choice */
	bool must_run, shadow;
};

/*! \brief One instance of a snapshot, in module-list order. */
struct chain_member {
	esp_module *module;                        /* hooks_of() it are used */
	const char *instance;
	bool disabled; /* left out: its hooks (those it added before, or `kept`) answer by policy */
	const struct hook_override *overrides;     /* NULL, or ESP_AT_COUNT of them, by point */
};

struct chain;

/*! \brief [control] Remember a hook of a generation.  ESP_EINVAL: unknown point, no function, policy its point
 *  forbids (or CONTINUE: only the administrator may choose that), negative timeout.  ESP_EUNAVAIL, and a
 *  line in the log: nobody asks at this point yet. */
ESP_CHECKED esp_status hooks_add(esp_module *self, const esp_hook *h);
/*! \brief [control] The generation is gone, or failed to start. */
void hooks_forget(const esp_module *self);
/*! \brief [control] How many hooks did it add? */
uint32_t hooks_count(const esp_module *self);

/*! \brief [control] The chain of one point.  ESP_ECONFIG with the reason: an override its point does not allow, more
 *  than CHAIN_GROUP_MAX hooks in a group, more than CHAIN_HOOKS_MAX in all. */
ESP_CHECKED esp_status chain_build(esp_point p, const struct chain_member *members, uint32_t n, struct chain **ret,
                                   esp_err *err);
void chain_free(struct chain *c);

/*! \brief [worker, in a fiber] ESP_SUSPENDS.  Ask everybody.  The outcome is never FAIL; its strings are in `arena`.
 *  `trace`: who was asked is noted there; NULL: nowhere. */
void chain_run(const struct chain *c, const void *args, esp_arena *arena, struct trace *trace, esp_outcome *ret);

/*! \brief The order in force, for `esp-cli hooks`: entries by place, and where a step (one hook or one group) ends. */
uint32_t chain_length(const struct chain *c);
const struct hook_entry *chain_entry(const struct chain *c, uint32_t i, uint32_t *ret_step);

/*! \brief How esp.hook/1 run() finds the chain of the running fiber's snapshot; set once by core/module. */
void hook_set_source(const struct chain *(*chain_now)(esp_point p));
/*! \brief esp.hook/1 run() with a trace: what core/mail is lent. */
void hook_run(esp_point point, const void *args, esp_arena *arena, struct trace *trace, esp_outcome *ret);
/*! \brief docs/hooks.md: every point with its arguments and allowed verdicts. */
void hook_document(void (*sink)(void *arg, esp_str piece), void *arg);

extern const esp_hook_api hook_api;

#endif
