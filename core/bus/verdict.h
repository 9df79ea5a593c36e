/* core/bus/verdict.h - verdicts: which a point allows, what they mean, how two become one.
 *
 * Pure functions and the one table of hook points (docs/hooks.md is generated from it).  Any thread.
 */
#ifndef CORE_BUS_VERDICT_H
#define CORE_BUS_VERDICT_H

#include <esp/hook.h>
#include <esp/mem.h>
#include <stdbool.h>

struct point {
	const char *name;        /* "connect", as in esp.conf and in metrics */
	uint32_t allowed;        /* verdict_bit() of each verdict besides CONTINUE and FAIL */
	const char *args;        /* "esp_connect_args" */
	const char *when;        /* for docs/hooks.md */
	const char *with;        /* what will ask there one day; NULL: it is asked */
};

/*! \brief The table entry, or NULL for a point that does not exist. */
const struct point *point_of(esp_point p);
/*! \brief The point's number by name, or 0. */
esp_point point_by_name(esp_str name);

/*! \brief Place of a verdict in masks and counters: 0 CONTINUE .. 5 REJECT, 6 FAIL; -1: not a verdict. */
static inline int verdict_index(esp_verdict v)
{
	return v == ESP_VERDICT_FAIL ? 6 : v <= ESP_VERDICT_REJECT && v % 10 == 0 ? (int)(v / 10) : -1;
}

static inline uint32_t verdict_bit(esp_verdict v)
{
	int i = verdict_index(v);

	return i < 0 ? 0 : 1u << i;
}

/*! \brief May a hook of this point say so?  CONTINUE always; FAIL is no answer. */
bool verdict_allowed(esp_point p, esp_verdict v);
/*! \brief Does it end the chain (but for MUST_RUN hooks)? */
static inline bool verdict_ends(esp_verdict v)
{
	return v == ESP_VERDICT_REJECT || v == ESP_VERDICT_DEFER || v == ESP_VERDICT_ACCEPT;
}
const char *verdict_name(esp_verdict v);
/*! \brief "continue" .. "reject", or -1 when there is none of that name (FAIL has none to choose). */
int32_t verdict_by_name(esp_str name);

enum { ANSWER_HEADERS_MAX = 64, ANSWER_TAGS_MAX = 256, ANSWER_HEADER_BYTES = 16384, ANSWER_TEXT_MAX = 512 };

/*! \brief NULL, or why an answer cannot be used: too many headers or tags, a header that would break the message. */
const char *answer_fault(const esp_answer *a);
/*! \brief Did the hook leave it as it was given? */
static inline bool answer_empty(const esp_answer *a)
{
	return ((uint64_t)(uint32_t)a->has_score | a->nheaders | a->ntags | a->folder.len | a->text.len | a->reason.len |
	        a->smtp_code | a->enhanced[0] | a->found | a->name.len) == 0;
}
/*! \brief What a peer, a log or a trace will see on one line: a copy of at most ANSWER_TEXT_MAX bytes, control
 *  characters become spaces; nothing of nothing.  ESP_ENOMEM. */
ESP_CHECKED esp_status answer_line(esp_arena *arena, esp_str s, esp_str *ret);
/*! \brief The answer of a hook that could not give one, by its policy: `why` (a constant) for the trace, and what the
 *  peer is told with DEFER and REJECT, which is that we failed, not that it did anything wrong. */
void answer_for_failure(esp_answer *a, esp_verdict policy, const char *why);
/*! \brief Merge the next answer of the chain, in chain order, into the outcome: scores are added, headers and tags
 *  appended, and when `v` is stricter than what stood, code, text and reason are replaced and `by` is named.
 *  The folder is that of the last CONTINUE, as long as nothing stricter stands; of what was found the worst is kept.
 *  Everything is copied into the arena.  ESP_ENOMEM: the outcome is as it was, or lacks the last headers; the caller
 *  must not let it pass. */
ESP_CHECKED esp_status outcome_merge(
	esp_outcome *o, esp_verdict v, const esp_answer *a, const char *by, esp_arena *arena);

#endif
